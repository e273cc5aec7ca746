"""Memory and CPU of the simulator's own fleet: devices that are connected, subscribed, and have nothing to do.

`python benchmarks/idle_fleet.py [--json] [--quick] [--devices 10000] [--seconds 30]`

The fleet is a process of its own against a server in another. One round connects devices straight to their sockets,
one through links that are counted but do nothing, one through links of LTE-M; each holds a window of eight items. Memory
is the resident set of the fleet's process, CPU its share of a core while nothing is published: pings, answers to them,
and the clock. It holds no kernel memory of sockets.
"""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from dataclasses import dataclass

import servers
from harness import (
    Report,
    Verdict,
    Worker,
    cores,
    cpu_seconds,
    parser,
    prepare,
    progress,
    resident_bytes,
)

from simulator.connection import Publisher
from simulator.fleet import DeviceSpec, Fleet
from simulator.links.profiles import PROFILES, custom

#: Megabytes that ten thousand idle devices may take.
BUDGET_MB = 400.0
#: Items in every window.
ITEMS = 8


class Idle:
    """A fleet in a worker process; public coroutines are its commands.

    Args:
        port: Of the server on 127.0.0.1.
        devices: How many.
        link: Name of the profile of their links; None: straight to the socket.
    """

    def __init__(self, port: int, devices: int, link: str | None) -> None:
        # Nothing happens to an idle fleet: no resets, no holes.
        profile = link and custom(PROFILES[link], reset_per_hour=0.0, hole_per_hour=0.0)
        specs = [DeviceSpec(f"{link}{at:05d}", link=profile or None) for at in range(devices)]
        self._port = port
        self._fleet = Fleet(specs, host="127.0.0.1", port=port)

    async def connect(self) -> float:
        """Connects all and fills their windows; returns the seconds until all were subscribed."""
        began = time.monotonic()
        await self._fleet.start(within=120.0)
        seconds = time.monotonic() - began
        publisher = Publisher()
        await publisher.open_connection("127.0.0.1", self._port)
        for number in range(ITEMS):
            await publisher.publish("bench", {"payload": f"item {number}"})
        publisher.close()
        async with asyncio.timeout(120.0):
            while not all(  # noqa: ASYNC110 - what is waited for has no event
                len(window) == ITEMS for window in self._fleet.windows().values()
            ):
                await asyncio.sleep(0.2)
        return seconds

    def connected(self) -> int:
        """How many are subscribed."""
        return self._fleet.subscribed

    async def leave(self) -> None:
        """Ends all connections."""
        await self._fleet.stop()


@dataclass(frozen=True, slots=True)
class Found:
    """What one round found: megabytes, shares of a core, seconds."""

    before: float
    after: float
    cpu: float
    connecting: float


def measure(devices: int, link: str | None, seconds: float) -> Found:
    """Run one round."""
    settings = {"devices": devices, "link": link}
    with (
        servers.fleetfeed() as server,
        Worker(cores()[1], Idle, port=server.port, **settings) as fleet,
    ):
        fleet.call("connected")
        before = resident_bytes(fleet.pid)
        connecting = fleet.call("connect")
        time.sleep(2.0)
        spent, began = cpu_seconds(fleet.pid), time.monotonic()
        time.sleep(seconds)
        cpu = (cpu_seconds(fleet.pid) - spent) / (time.monotonic() - began)
        connected = fleet.call("connected")
        assert connected == devices, f"{connected} of {devices} devices are connected in the end"
        found = Found(before / 1e6, resident_bytes(fleet.pid) / 1e6, cpu, connecting)
        fleet.call("leave")
        return found


def main() -> None:
    """Run and print."""
    prepare()
    options_parser = parser("Memory and CPU of an idle fleet of the simulator")
    options_parser.add_argument("--devices", type=int)
    options_parser.add_argument(
        "--seconds", type=float, help="of idleness, in which CPU is measured"
    )
    options: Namespace = options_parser.parse_args()
    devices = options.devices or (500 if options.quick else 10_000)
    seconds = options.seconds or (2.0 if options.quick else 40.0)
    report = Report("idle fleet", {"devices": devices, "seconds": seconds})
    for link in (None, "none", "ltem-m1"):
        progress(f"{devices} devices, link {link or 'of no kind'}")
        found = measure(devices, link, seconds)
        report.row(
            link=link or "straight",
            process_mb=round(found.after, 1),
            kb_each=round((found.after - found.before) * 1e3 / devices, 2),
            cpu_percent=round(100 * found.cpu, 2),
            connect_s=round(found.connecting, 1),
        )
        if devices >= 10_000:
            what = f"MB of {devices} idle devices, link {link or 'straight'}"
            report.verdicts.append(Verdict(what, found.after, BUDGET_MB, at_least=False))
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
