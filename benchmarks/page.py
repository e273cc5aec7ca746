"""What being looked at costs the server: a scrape by Prometheus every five seconds, and one live page that is open.

`python benchmarks/page.py [--json] [--quick] [--devices 10000] [--rounds 5]`

One server without the port for operators, then one with it, each with as many devices, connected, with full windows and
nothing to do; so all that differs is the looking. On the second, rounds in which nobody looks alternate with rounds in
which `/metrics` is asked for every five seconds and a viewer reads `/events`. While nobody looks the second
server keeps the history of the charts, once a second.
"""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace

import servers
from fleet import Fleet
from harness import (
    Report,
    Series,
    Verdict,
    Worker,
    cores,
    cpu_seconds,
    idents,
    parser,
    prepare,
    progress,
)

#: Highest share of a core that scraping and one page may take (DESIGN.md, operation).
BUDGET = 0.02
#: Items in every window.
ITEMS = 8
#: Seconds between two scrapes.
SCRAPE = 5.0


class Watcher:
    """Looks at one server, as Prometheus and a browser do. Public coroutines are its commands.

    Args:
        port: Of its HTTP, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []
        self._octets = {"scrape": 0, "page": 0}

    async def watch(self) -> None:
        """Begins to look."""
        self._tasks = [asyncio.create_task(each) for each in (self._scrape(), self._page())]

    async def stop(self) -> dict[str, int]:
        """Ends it; returns the bytes that were read since the start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return dict(self._octets)

    async def _scrape(self) -> None:
        while True:
            reader, writer = await self._ask("/metrics")
            self._octets["scrape"] += len(await reader.read(-1))
            writer.close()
            await asyncio.sleep(SCRAPE)

    async def _page(self) -> None:
        reader, writer = await self._ask("/events", connection="keep-alive")
        try:
            while data := await reader.read(65_536):
                self._octets["page"] += len(data)
        finally:
            writer.close()

    async def _ask(
        self, path: str, connection: str = "close"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {connection}\r\n\r\n"
        writer.write(head.encode())
        return reader, writer


def share(pid: int, seconds: float) -> float:
    """The share of a core that a process takes in the next seconds."""
    spent, began = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pid) - spent) / (time.monotonic() - began)


def connect(fleet: Worker, devices: int) -> None:
    """Connects all and fills their windows."""
    connected = fleet.call("connect")
    assert connected == devices, f"{connected} of {devices} devices are connected"
    fleet.call("items", count=ITEMS, size=60, priority=1, each=devices)
    fleet.call("settle")
    time.sleep(2.0)


def without_port(devices: int, seconds: float, rounds: int) -> Series:
    """The same fleet where nobody can look."""
    found = Series()
    with (
        servers.fleetfeed("--http", "off") as server,
        Worker(cores()[1], Fleet, port=server.port, idents=idents(devices), qos=1) as fleet,
    ):
        connect(fleet, devices)
        for _ in range(rounds):
            found.add(share(server.pid, seconds))
    return found


def with_port(devices: int, seconds: float, rounds: int) -> tuple[Series, Series, dict[str, int]]:
    """While nobody looks, while somebody does, and what the latter read."""
    quiet, watched, octets = Series(), Series(), {"scrape": 0, "page": 0}
    http = servers.free_port()
    with (
        servers.fleetfeed("--http", f"127.0.0.1:{http}") as server,
        Worker(cores()[1], Fleet, port=server.port, idents=idents(devices), qos=1) as fleet,
        Worker(cores()[1], Watcher, port=http) as watcher,
    ):
        connect(fleet, devices)
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            quiet.add(share(server.pid, seconds))
            watcher.call("watch")
            time.sleep(0.5)
            watched.add(share(server.pid, seconds))
            octets = watcher.call("stop")
    assert all(octets.values()), f"nothing was read: {octets}"
    return quiet, watched, octets


def main() -> None:
    """Run and print."""
    prepare()
    options_parser = parser("What a scrape every five seconds and one page that is open cost")
    options_parser.add_argument("--devices", type=int)
    options: Namespace = options_parser.parse_args()
    devices = options.devices or (300 if options.quick else 10_000)
    rounds = options.rounds or (2 if options.quick else 5)
    seconds = 5.0 if options.quick else 2 * SCRAPE
    report = Report("page", {"devices": devices, "rounds": rounds, "seconds": seconds})
    progress(f"{devices} devices, no port for operators")
    off = without_port(devices, seconds, rounds)
    progress(f"{devices} devices, with that port")
    quiet, watched, octets = with_port(devices, seconds, rounds)
    for name, series in (
        ("no port", off),
        ("nobody looks", quiet),
        ("scraped and watched", watched),
    ):
        spread = series.spread(100)
        report.row(server=name, **{f"cpu_percent_{key}": each for key, each in spread.items()})
    report.verdicts.append(
        Verdict("share of a core, watched over not looking", watched.median - quiet.median, BUDGET)
    )
    report.verdicts.append(
        Verdict("the same over a server without the port", watched.median - off.median, BUDGET)
    )
    read = rounds * seconds
    report.notes.append(
        f"read per second: {octets['scrape'] / read / 1e3:.1f} kB by the scrapes, {octets['page'] / read / 1e3:.1f} kB by the page"
    )
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
