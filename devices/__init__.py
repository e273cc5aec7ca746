"""The device feed protocol: what travels between server and device, without a socket.

`packets` turns MQTT 3.1.1 packets into bytes and back, `frames` does so for feed frames and up
messages, `slots` and `difference` compare windows, `replica` is the device's half of the protocol and
`ledger` the server's half. `registry` knows who the devices are. `client` is the Python client library,
the only module here that opens connections (through paho-mqtt).

May import: the standard library, msgpack, numpy, and paho-mqtt in `client` alone. Imports nothing of
`broker`, `feedgen` or `simulator`.
"""
