"""Fleets of virtual devices, publishers of real streams, and the demo.

An independent witness of the server: it knows the server only through its port and shares nothing
with it but `devices`.

May import: the standard library, `devices`, rich. Imports nothing of `broker` or `feedgen`.
"""
