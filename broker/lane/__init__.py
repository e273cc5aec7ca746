"""The lane: every MQTT connection.

`listener` opens the ports and keeps the sessions, `connection` is one client's connection, `session` what
MQTT keeps for a client between connections. Topics that are not the feed's go through `exchange`, with
`retained` messages and an `outbox` for each session.

May import: `devices`, `feedgen.channels`, `broker.access`, `broker.config`, `broker.counters`. It knows the
service only through the few methods of `connection.Feed` and `listener.Host`.
"""
