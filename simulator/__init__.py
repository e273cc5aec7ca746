"""Fleets of virtual devices, publishers of real streams, and the demo.

An independent witness of the server: it knows the server only through its port and shares nothing
with it but `devices`. `streams` holds real data, `sources` turns such data into items and `publishers`
says when each is due; `connection` is an MQTT client, `fleet` many devices, `tally` what they count;
`demo` brings all together and `view` draws it.

May import: the standard library, `devices`, rich. Imports nothing of `broker` or `feedgen`.
"""
