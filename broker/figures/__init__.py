"""What operators see: every measured figure once, and the `$SYS` tree made of them.

`catalog` says what there is, `reading` looks at a server, by `numbers` and what those ask of the `ranking` and
of its `surroundings`; `tree` makes `$SYS` topics of what it saw, and `publishing` sends those. Prometheus, the live page and others read the same `Reading`, by the same names.
"""
