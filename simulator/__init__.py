"""Fleets of virtual devices, publishers of real streams, the demo, and the fault suite.

An independent witness of the server: it knows the server only through its port and shares nothing
with it but `devices`. `streams` holds real data, `sources` turns such data into items and `publishers`
says when each is due; `people` read what they are shown and have true `interests`, which `drift`; what
there is for them to read are `offerings`, and all chance is in `draws`. `connection` is an MQTT client, `fleet` many devices, `tally` what they count;
`demo` brings all together and `view` draws it. `proxy` spoils connections with `toxics`; `checker` holds a
history of `facts` against the promises of the protocol, memory against `bounds`; `faults` is the suite that
uses all of these.

May import: the standard library, `devices`, msgpack, numpy, rich. Imports nothing of `broker` or `feedgen`.
"""
