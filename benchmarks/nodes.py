"""CPU per push of one, two and three nodes on one Redis, against a single process and against processes apart.

`python benchmarks/nodes.py [--json] [--quick] [--devices 1800] [--rounds 5] [--items 40]`

All sides have the same number of devices in all, spread evenly over their nodes, and the same items, each
once the last arrived. The publisher is at the first node: the others hear of an item by Redis, each ranks
it for its own devices, and each device receives its own frame. CPU is that of all nodes together;
Redis' own stands beside it, with every write on disk before it is answered (`appendfsync always`).

All servers share one core, which nodes on machines of their own would not: they work at the same moment and
push each other out of its caches. As many processes on SQLite with as many devices each, which know nothing
of each other and are told the same items at the same time, show what that costs.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import servers
from contenders import PAYLOAD, WINDOW
from cost_redis import redis
from fleet import Fleet, Round
from harness import (
    Report,
    Series,
    Verdict,
    Worker,
    cores,
    cpu_seconds,
    idents,
    idle_share,
    parser,
    prepare,
    progress,
    quiesce,
)

#: The numbers of nodes that are compared; devices must divide by all of them.
NODES = (1, 2, 3)
#: What a push may cost at most, over the single process.
BUDGET = 1.3


class SpreadFleet(Fleet):
    """Devices of several nodes, turn and turn about; the publisher is at the first.

    Args:
        ports: the nodes', on 127.0.0.1.
        idents: as of a `Fleet`.
        qos: as of a `Fleet`.
    """

    def __init__(self, *, ports: Sequence[int], idents: Sequence[str], qos: int) -> None:
        super().__init__(port=ports[0], idents=idents, qos=qos)
        self._ports = {ident: ports[at % len(ports)] for at, ident in enumerate(idents)}

    def port_of(self, ident: str) -> int:
        """Return the port of the device's node."""
        return self._ports.get(ident, self._port)


@dataclass(slots=True)
class Side:
    """One number of nodes, with its devices.

    Attributes:
        name: as it stands in the table.
        nodes: the server processes.
        store: Redis; None where the store is SQLite, within the process.
        fleets: devices and their publisher; several are told what to do at the same time.
        devices: how many in all.
        qos: of what is pushed.
        idle: share of a core that all nodes take while nothing happens; not subtracted.
        spent: CPU seconds per push of all nodes, by round.
        stored: CPU seconds per push of Redis, by round.
        pushes: frames that arrived in all rounds.
    """

    name: str
    nodes: Sequence[servers.Server]
    store: servers.Server | None
    fleets: Sequence[Worker]
    devices: int
    qos: int
    idle: float = 0.0
    spent: Series = field(default_factory=Series)
    stored: Series = field(default_factory=Series)
    pushes: int = 0

    def measure(self, items: int) -> None:
        """Take one round.

        Raises:
            AssertionError: a device received another number of frames than it had to.
        """
        before, stored = self._cpu()
        rounds = self.publish(items)
        after, stores = self._cpu()
        expected = items * self.devices
        arrived = sum(each.deliveries for each in rounds)
        assert arrived == expected, f"{self.name}: {arrived} instead of {expected}"
        assert {items} == {n for each in rounds for n in (each.fewest, each.most)}, self.name
        self.spent.add((after - before) / expected)
        self.stored.add((stores - stored) / expected)
        self.pushes += expected

    def publish(self, count: int) -> list[Round]:
        """Publish items to all devices, each once the last arrived."""
        each = self.devices // len(self.fleets)
        for fleet in self.fleets:
            fleet.begin("items", count=count, size=PAYLOAD, priority=self.qos, each=each)
        return [fleet.finish() for fleet in self.fleets]

    def _cpu(self) -> tuple[float, float]:
        """Return CPU seconds of all nodes and of Redis, once none has anything left to do."""
        pids = [node.pid for node in self.nodes]
        for pid in pids:
            quiesce(pid)
        store = 0.0 if self.store is None else cpu_seconds(self.store.pid)
        return sum(map(cpu_seconds, pids)), store


def apart(stack: ExitStack, processes: int, devices: int, qos: int) -> Side:
    """Start processes on SQLite that know nothing of each other."""
    name = "1 process" if processes == 1 else f"{processes} processes apart"
    progress(f"QoS {qos}: {name}")
    each = devices // processes
    nodes = [stack.enter_context(servers.fleetfeed()) for _ in range(processes)]
    fleets = [_fleet(stack, [node], each, qos) for node in nodes]
    return _warm(Side(name, nodes, None, fleets, devices, qos))


def together(stack: ExitStack, count: int, devices: int, qos: int) -> Side:
    """Start nodes on a Redis of their own."""
    name = "1 node" if count == 1 else f"{count} nodes"
    progress(f"QoS {qos}: {name}")
    store = stack.enter_context(redis())
    option = ("--store", f"redis://127.0.0.1:{store.port}")
    nodes = [stack.enter_context(servers.fleetfeed(*option)) for _ in range(count)]
    return _warm(Side(name, nodes, store, [_fleet(stack, nodes, devices, qos)], devices, qos))


def _fleet(stack: ExitStack, nodes: Sequence[servers.Server], devices: int, qos: int) -> Worker:
    settings = {"ports": [node.port for node in nodes], "idents": idents(devices), "qos": qos}
    fleet = stack.enter_context(Worker(cores()[1], SpreadFleet, **settings))
    fleet.call("connect")
    fleet.call("settle")
    return fleet


def _warm(side: Side) -> Side:
    """Fill all windows, and look what the servers do while nothing happens."""
    side.publish(WINDOW)
    side.idle = sum(idle_share(node.pid) for node in side.nodes)
    return side


def compare(report: Report, qos: int, options: Namespace) -> None:
    """Alternate rounds of all sides at one QoS and report them."""
    with ExitStack() as stack:
        separate = [apart(stack, count, options.devices, qos) for count in NODES]
        shared = [together(stack, count, options.devices, qos) for count in NODES]
        sides = (*separate, *shared)
        for side in sides:
            side.publish(
                options.items
            )  # code and sockets are warm in a server that has run for long
        for at in range(options.rounds):
            progress(f"QoS {qos}: round {at + 1} of {options.rounds}")
            for side in sides:
                side.measure(options.items)
    single = separate[0]
    for side in sides:
        report.row(**_cells(side, single), qos=qos)
    for count, side, like in zip(NODES, shared, separate, strict=True):
        what = f"QoS {qos}: CPU per push of {count} over"
        report.verdicts.append(Verdict(f"{what} the single process'", _ratio(side, single), BUDGET))
        if count > 1:
            ratio = _ratio(side, like)
            report.verdicts.append(Verdict(f"{what} as many processes'", ratio, BUDGET))


def _ratio(side: Side, other: Side) -> float:
    """Return the median of the ratios of rounds: those of one round were taken within seconds."""
    ratios = Series()
    for mine, theirs in zip(side.spent.values, other.spent.values, strict=True):
        ratios.add(mine / theirs)
    return ratios.median


def _cells(side: Side, single: Side) -> dict[str, Any]:
    redis_us = None if side.store is None else round(side.stored.median * 1e6, 3)
    return {
        "side": side.name,
        "pushes": side.pushes,
        **{f"µs_{name}": value for name, value in side.spent.spread(1e6).items()},
        "redis_µs": redis_us,
        "times_single": round(_ratio(side, single), 3),
        "idle_percent": round(100 * side.idle, 2),
    }


def main() -> None:
    """Run both QoS."""
    prepare()
    options_parser = parser("CPU per push of several nodes, against a single process")
    options_parser.add_argument("--devices", type=int, help="in all; made a multiple of 6")
    options_parser.add_argument("--items", type=int, help="items per round")
    options = options_parser.parse_args()
    options.devices = options.devices or (600 if options.quick else 1800)
    options.devices = -(-options.devices // 6) * 6
    options.items = options.items or (10 if options.quick else 40)
    options.rounds = options.rounds or (2 if options.quick else 5)
    report = Report(
        "nodes", {"devices": options.devices, "items": options.items, "rounds": options.rounds}
    )
    for qos in (0, 1):
        compare(report, qos, options)
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
