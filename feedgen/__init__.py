"""The feed engine: which items stand in which device's window, in which order.

`items` decodes what publishers send, `catalog` decides what an item is (new, update, retraction,
redelivery). `engine` is the one object that others hold; behind it `state` is what its jobs share:
`channels`, `live` and `audience` find the rows that follow an item, `attributes` those that it is meant
for, `item_columns`, `shelf` and `windows` are items, rows and ranked windows as arrays. `jobs` is the work
to do, `offers`, `collapse`, `rebuild` and `refresh` do it a chunk at a time. `ranking` gives values and
keys, `personal` brings what it thinks of a device and an item into windows, `decision_notes` keeps what
was decided until it is written down, `placement` says where a key comes from. `evaluate` judges rankings
on logs. `store` keeps items, devices, decisions and what was learned on disk.

The core decides on plain values, synchronously: time and seeds are arguments. Only `store` does I/O.

May import: the standard library, msgpack and numpy; `redis` in `store` alone, matplotlib in
`evaluate` alone. Imports nothing of `broker`, `devices` or `simulator`; never asyncio outside `store`.
"""
