"""The lane: MQTT connections of devices and publishers.

`listener` opens the port, `connection` is one client's connection, `session` what MQTT keeps for a
client between connections, `rules` who may do what, and `handover` the way of every other client to
amqtt, behind the same port.

May import: `devices`, `broker.counters`, `broker.config`. It knows the service only through the few
methods of `connection.Feed`.
"""
