"""The feed beside an outside broker: the same engine, ledger and service, without a port of its own.

Devices and publishers are connected to a broker that exists already. The gateway is a client of it:
`uplink` is a connection to it, `inlet` and `packet_window` what it consists of without I/O, `presence` says
which devices are there, `sending` puts frames on the way, `gateway` puts it all together.
"""
