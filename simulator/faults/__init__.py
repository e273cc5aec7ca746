"""The fault suite: seeded rounds of trouble against a real server, each followed by rest and judgement.

`plan` draws what goes wrong in a round; `link` is a connection that can be cut, left open or not read; `devices` and
`publishers` are the clients that live through it, `intruder` those that mean harm; `server` says what the suite needs of
a server process; `trouble` carries a fault out; `rounds` runs everything and asks `simulator.checker`; `report` draws it.
"""
