"""The feed engine: which items stand in which device's window, in which order.

`items` decodes what publishers send, `catalog` decides what an item is (new, update, retraction,
redelivery), `channels` matches channels to follow filters, `audience` finds the rows that may show an
item, `windows` keeps the ranked windows as arrays, `ranking` gives values, and `engine` is the one
object that others hold. `store` keeps items and devices on disk.

The core decides on plain values, synchronously: time and seeds are arguments. Only `store` does I/O.

May import: the standard library, msgpack and numpy (`redis` in `store` alone). Imports nothing of
`broker`, `devices` or `simulator`; never asyncio outside `store`.
"""
