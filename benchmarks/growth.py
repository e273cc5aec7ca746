"""How CPU per push grows from 1 000 to 10 000 devices, against a bare send loop in the same run.

`python benchmarks/growth.py [--json] [--quick] [--small 1000] [--large 10000] [--rounds 5]`

The kernel's own sockets get colder with their number, so that even a loop that only sends grows.
What the broker adds to that growth is its own doing: a scan over all devices, an index that
outgrows a cache. Both fleets receive the same number of deliveries per round, so the small one gets
ten times the items; what an item costs once (its commit above all) is in both figures, spread over
fewer devices in the small one.
"""

from __future__ import annotations

from argparse import Namespace
from contextlib import ExitStack

from contenders import Contender, bare, ours
from harness import Report, Verdict, parser, prepare, progress

#: Highest growth of ours over the growth of the bare loop (DESIGN.md, Budgets).
BUDGET = 1.1


def compare(report: Report, qos: int, options: Namespace) -> None:
    """Alternate rounds of both servers at both sizes and report the growth of each."""
    sizes = (options.small, options.large)
    items = {devices: max(options.deliveries // devices, 1) for devices in sizes}
    found: dict[tuple[str, int], Contender] = {}
    with ExitStack() as stack:
        for devices in sizes:
            progress(f"QoS {qos}: connecting {devices} devices")
            sides = (stack, devices, items[devices], qos)
            found["ours", devices] = ours(*sides)
            found["bare", devices] = bare(*sides)
        packet = 0
        for at in range(options.rounds):
            progress(f"QoS {qos}: round {at + 1} of {options.rounds}")
            for (_, devices), contender in found.items():
                packet = contender.measure(packet, devices * items[devices])
    for (_, devices), contender in found.items():
        report.row(**contender.cells(), qos=qos, devices=devices)
    growth = {
        side: found[side, options.large].spent.median / found[side, options.small].spent.median
        for side in ("ours", "bare")
    }
    report.notes.append(
        f"QoS {qos}: growth of ours {growth['ours']:.3f}, of the bare loop {growth['bare']:.3f}"
    )
    what = f"QoS {qos}: growth over that of the bare loop, {options.small} to {options.large}"
    report.verdicts.append(Verdict(what, growth["ours"] / growth["bare"], BUDGET))


def main() -> None:
    """Run and print."""
    prepare()
    options_parser = parser("Growth of CPU per push with the number of devices")
    options_parser.add_argument("--small", type=int)
    options_parser.add_argument("--large", type=int)
    options_parser.add_argument("--deliveries", type=int, help="deliveries per round")
    options = options_parser.parse_args()
    options.small = options.small or (200 if options.quick else 1000)
    options.large = options.large or (2000 if options.quick else 10_000)
    options.deliveries = options.deliveries or (10_000 if options.quick else 60_000)
    options.rounds = options.rounds or (2 if options.quick else 5)
    report = Report(
        "growth", {"small": options.small, "large": options.large, "rounds": options.rounds}
    )
    for qos in (0, 1):
        compare(report, qos, options)
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
