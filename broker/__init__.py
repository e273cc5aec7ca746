"""The server: connections, the one data path from PUBLISH to frame, operations, the command line.

`access` says who may come in and what each may do, `lane` speaks MQTT to them. `service` is the one data
path; it leans on `roster` (the devices that have a row), `positions` (subscriptions, hellos, epochs),
`sending` (frames to sockets, PUBACKs back), `acceptance` (items to the store) and `profiles` (what changed,
likewise). `cluster` makes a server one of several that share a store, `gateway` puts the service beside an
outside broker, and `outside` writes what such a broker has to know. `plan` says how many machines a fleet
takes.

`overload` says what is given up when more comes than can be taken. `figures` is what operators see, `receipts`
what became of an item, `web` shows both over HTTP, and `run` is what it takes to run a server for real. `server` puts all of it together, `plugin` loads it into amqtt, `amqtt_seam` is the one file that
knows amqtt's inside, `control` answers the command line of a running server, `config` is the one validated
model of all settings, and `cli` is the composition root: it alone may import every package, lazily.

May import: `feedgen`, `devices`, numpy, amqtt, uvloop, pydantic, typer and rich; in `access`, argon2 and
PyJWT; in `cluster`, `gateway` and `web` msgpack; in `web` also Starlette, uvicorn and prometheus-client, which
are an extra; in `run` cryptography; in `commands`, which are the command line's, also paho-mqtt,
msgpack and `simulator`.
"""
