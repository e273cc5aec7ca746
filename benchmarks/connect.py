"""CPU and memory per device of connecting, subscribing and receiving the first snapshot.

`python benchmarks/connect.py [--json] [--quick] [--tls] [--devices 2000] [--large 10000] [--rounds 3]`

Every round starts a fresh server. Ours has eight items in the feed; a device is done when it holds
all eight, which is checked by replaying its frames. With short payloads they fit one frame of the
default budget, with long ones they take several. *again*: the same devices come back. Mosquitto has
nothing to send, so its row is the floor of connecting alone. Memory is the growth of the resident
set over that of the started server; it holds no kernel memory of sockets, for either server.
"""

from __future__ import annotations

from argparse import Namespace
from contextlib import ExitStack
from dataclasses import dataclass, field

import servers
from fleet import Fleet
from harness import Report, Series, Verdict, Worker, cores, idents, parser, prepare, progress

#: Items in the feed before anybody connects: as many as a window holds.
ITEMS = 8
#: Payload bytes with which all of them fit one frame of 256 bytes, and with which they do not.
SHORT, LONG = 20, 100
#: Highest CPU milliseconds and kilobytes per device (DESIGN.md, Budgets).
CPU_BUDGET, MEMORY_BUDGET = 0.3, 12.0


@dataclass(slots=True)
class Case:
    """One row of the table; CPU in seconds, memory in bytes, both per device."""

    name: str
    devices: int
    frames: float = 0.0
    cpu: Series = field(default_factory=Series)
    memory: Series = field(default_factory=Series)


def connect_ours(first: Case, again: Case | None, size: int, tls: bool) -> None:
    """Measure one round of ours: fresh devices, and the same ones once more."""
    devices = first.devices
    with ExitStack() as stack:
        server = stack.enter_context(servers.fleetfeed(tls=tls))
        settings = {"port": server.port, "idents": idents(devices), "qos": 1, "keep": True}
        settings["tls"] = tls
        fleet = stack.enter_context(Worker(cores()[1], Fleet, **settings))
        fleet.call("items", count=ITEMS, size=size, priority=1, each=0)
        before = server.cpu()
        resident = server.resident()
        for case in (first, again) if again else (first,):
            already = fleet.call("settle")
            fleet.call("connect")
            frames = fleet.call("settle") - already
            after = server.cpu()
            held = fleet.call("held")
            assert held == (ITEMS, ITEMS), f"devices hold {held} items instead of {ITEMS}"
            case.frames = frames / devices
            case.cpu.add((after - before) / devices)
            case.memory.add((server.resident() - resident) / devices)
            fleet.call("disconnect")
            before = server.cpu()


def connect_mosquitto(case: Case, tls: bool) -> None:
    """Measure one round of Mosquitto."""
    with ExitStack() as stack:
        server = stack.enter_context(servers.mosquitto(tls=tls))
        settings = {"port": server.port, "idents": idents(case.devices), "qos": 1, "tls": tls}
        fleet = stack.enter_context(Worker(cores()[1], Fleet, **settings))
        before, resident = server.cpu(), server.resident()
        fleet.call("connect")
        case.cpu.add((server.cpu() - before) / case.devices)
        case.memory.add((server.resident() - resident) / case.devices)


def measure(options: Namespace, report: Report) -> list[Case]:
    """Run all rounds; returns the cases, ours with one-frame snapshots first and large last."""
    peer = servers.find_mosquitto() is not None
    if not peer:
        report.notes.append("mosquitto is not installed: the peer is skipped")
    short = Case("fleetfeed, snapshot in one frame", options.devices)
    short_again = Case("fleetfeed, the same devices again", options.devices)
    long = Case("fleetfeed, snapshot in several frames", options.devices)
    other = Case("mosquitto, no snapshot", options.devices)
    large = Case("fleetfeed, snapshot in one frame", options.large)
    other_large = Case("mosquitto, no snapshot", options.large)
    for at in range(options.rounds):
        progress(f"round {at + 1} of {options.rounds}, {options.devices} devices")
        connect_ours(short, short_again, SHORT, options.tls)
        connect_ours(long, None, LONG, options.tls)
        if peer:
            connect_mosquitto(other, options.tls)
    progress(f"one round of {options.large} devices")
    connect_ours(large, None, SHORT, options.tls)
    if peer:
        connect_mosquitto(other_large, options.tls)
    cases = [short, short_again, long, other, large, other_large]
    return [case for case in cases if case.cpu.values]


def main() -> None:
    """Run and print."""
    prepare()
    options_parser = parser("CPU and memory per device of connecting")
    options_parser.add_argument("--devices", type=int)
    options_parser.add_argument("--large", type=int, help="devices of the last round")
    options_parser.add_argument("--tls", action="store_true", help="both servers encrypt")
    options = options_parser.parse_args()
    options.devices = options.devices or (300 if options.quick else 2000)
    options.large = options.large or (2000 if options.quick else 10_000)
    options.rounds = options.rounds or (1 if options.quick else 3)
    report = Report(
        "connect", {"devices": options.devices, "large": options.large, "rounds": options.rounds}
    )
    cases = measure(options, report)
    for case in cases:
        report.row(
            case=case.name,
            devices=case.devices,
            frames=case.frames,
            **{f"ms_{name}": value for name, value in case.cpu.spread(1e3).items()},
            kb=round(case.memory.median / 1024, 2),
        )
    ours = [case for case in cases if case.name == cases[0].name and not options.tls]
    for case in ours:
        what = f"ms of CPU per device, {case.devices} devices, first snapshot included"
        report.verdicts.append(Verdict(what, case.cpu.median * 1e3, CPU_BUDGET))
    for case in ours[-1:]:
        what = f"KB per connected device, {case.devices} devices, feed state included"
        report.verdicts.append(Verdict(what, case.memory.median / 1024, MEMORY_BUDGET))
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
