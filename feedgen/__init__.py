"""The feed engine: which items stand in which device's window, in which order.

`items` decodes what publishers send, `catalog` decides what an item is (new, update, retraction,
redelivery). `engine` is the one object that others hold; behind it `state` is what its jobs share:
`channels`, `live` and `audience` find the rows that follow an item, `attributes` those that it is meant
for, `item_columns`, `shelf` and `windows` are items, rows and ranked windows as arrays. `jobs` is the work
to do, `offers`, `collapse` and `rebuild` do it a chunk at a time, `ranking` gives values and keys. `store`
keeps items and devices on disk.

The core decides on plain values, synchronously: time and seeds are arguments. Only `store` does I/O.

May import: the standard library, msgpack and numpy (`redis` in `store` alone). Imports nothing of
`broker`, `devices` or `simulator`; never asyncio outside `store`.
"""
