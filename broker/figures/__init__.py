"""What operators see: every measured figure once, and the `$SYS` tree made of them.

`catalog` says what there is, `reading` looks at a server, by `numbers` and what those ask of the `ranking`, of
its `surroundings` and of the `process`; `tree` makes `$SYS` topics of what it saw, and `publishing` sends those.
What takes time goes into a `histogram`: `timing` notes it on the path of a push, and `timed_rows` counts what was
noted, many at once; `lag` is that of the event loop, and `load` averages over minutes, as Mosquitto does.
Prometheus, the live page and others read the same `Reading`, by the same names.

It may import numpy, and of `broker`, `feedgen` and `devices` what it looks at.
"""
