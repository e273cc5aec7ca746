"""What operators see: every measured figure once, and the `$SYS` tree made of them.

`catalog` says what there is, `reading` looks at a server, `tree` makes `$SYS` topics of what it saw, and
`publishing` sends those. Prometheus, the live page and others read the same `Reading`, by the same names.
"""
