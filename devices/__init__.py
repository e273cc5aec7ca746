"""The device feed protocol: what travels between server and device, and both halves of it.

On the wire: `packets` turns MQTT 3.1.1 packets into bytes and back (its nouns in `mqtt_types`, its two
directions in `mqtt_encode` and `mqtt_decode`), `frames` and `up_messages` do so for the feed's own
messages on the primitives of `wire`. `slots` names contents, `difference` compares windows.

The halves: `replica` is the device's; `ledger` the server's, with its storage in `ledger_rows`, what is
unacknowledged in `inflight`, single frames planned in `frame_plan` and many laid out at once in
`frame_matrix`. Neither does I/O.

Who: `profile` is one device, `registry` all of them and the rules for what they may change, `topics` which
filters can grant anything at all.

The Python client: `client`, the only module here that opens connections, with `feedback` (batches),
`window_file` (what survives a restart), `refusals` (what a server's no means) and `pauses` (when to try
again).

Firmware, which nothing here imports: `c99` and `micropython`, each with its README.

May import: the standard library, msgpack, numpy, and paho-mqtt in `client` alone. Imports nothing of
`broker`, `feedgen` or `simulator`.
"""
