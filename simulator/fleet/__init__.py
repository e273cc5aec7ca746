"""Many virtual devices in one process, each with its own MQTT connection and its own window.

A device here is what a firmware would be: it connects, says hello, subscribes, applies frames, acknowledges, says hello
again where it sees a gap, sleeps by its schedule, and comes back after a lost connection. One asyncio protocol object and
one replica, nothing more: ten thousand fit into a small process.

`spec` says who a device is and `schedule` when it sleeps. The device itself is made in layers, each a client that can
do more: `reading` takes its time, `power` sleeps and runs out of battery, `speaking` sends what people do, `device` is the
firmware with its window. `outside` is what differs beside an outside broker, `timing` how long items took.

`fleet` runs all devices on one clock; `dialling` makes their connections, `figures` adds them up, and `witness` is what
others are told of them.
"""

from __future__ import annotations

from simulator.fleet.device import Device
from simulator.fleet.fleet import Fleet
from simulator.fleet.schedule import Sleep
from simulator.fleet.spec import DeviceSpec, FleetError, State
from simulator.fleet.witness import Observer, Sample, Usage

__all__ = [
    "Device",
    "DeviceSpec",
    "Fleet",
    "FleetError",
    "Observer",
    "Sample",
    "Sleep",
    "State",
    "Usage",
]
