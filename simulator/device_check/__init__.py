"""`fleetfeed check-device`: our side plays the server and the network, and a device or client shows what it does.

The reverse of everything else here: the device is real, and each packet of the server is scripted. `cases` is the
table of what is tried; its functions stand in `mqtt_cases`, `frame_cases`, `reconnect_cases` and `outside_cases`. A
case works on a `bench`, which brings the device to a known position and keeps a replica beside it. Below that, `host`
lets the device in, over TLS through the port of `encryption`, a `line` is one connection, `greeting` what it says
first, and `device` starts and kills what is checked. `backoff` judges pauses, `exchange` makes packets readable,
`run` goes through the cases, and `view`, `junit` and `report` show what came of them.
"""
