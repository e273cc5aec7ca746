"""Fleets of virtual devices and what happens to them: scenarios, the check of a device, the demo, the fault suite.

An independent witness of the server: it knows the server only through its port and shares nothing with it but
`devices`. `streams` holds real data, `sources` turns such data into items and `publishers` says when each is due;
`people` read what they are shown and have true `interests`, which `drift`; what there is for them to read are
`offerings`, and all chance is in `draws`. `connection` is an MQTT client, `access` how it comes in to a server that
is closed, `fleet` many devices on `links`, `audience` the people in front of them, `tally` what they count; `demo`
brings them together for a minute and `view` draws it. `scenario` reads a file of what is to happen, lets it happen
and judges it; `scenarios` come along; `results` are what came of it, `load` is what a server says of its own, and
`report` draws these. `device_check` plays the server to one real device. `proxy` spoils connections with `toxics`;
`checker` holds a history of `facts` against the promises of the protocol, memory against `bounds`; `faults` is the
suite that uses all of these.

May import: the standard library, `devices`, msgpack, numpy, rich; `report` also matplotlib, `scenario` pydantic.
Imports nothing of `broker` or `feedgen`.
"""
