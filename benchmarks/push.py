"""CPU per delivery of the push path, against Mosquitto in the same run.

`python benchmarks/push.py [--json] [--quick] [--tls] [--devices 2000] [--rounds 4] [--items 60]`

Ours: one item is published; the feed of every device is recomputed and each receives its own delta
frame. Mosquitto: a publisher writes as many PUBLISH packets, equally long, one to each device's own
topic. Both have to read what was published and, at QoS 1, every acknowledgement. Windows are full
before the first round, so that every item pushes out another. `send()` loop: the floor in Python.
With `--tls` both encrypt; there is no loop to compare with then, and no budget.
"""

from __future__ import annotations

from argparse import Namespace
from contextlib import ExitStack

import servers
from contenders import bare, ours, peers
from harness import Report, Verdict, parser, prepare, progress

#: Lowest ratio of deliveries per broker-CPU-second, by QoS (DESIGN.md, Budgets).
BUDGET = {0: 1.6, 1: 2.5}


def compare(report: Report, qos: int, options: Namespace) -> None:
    """Alternate rounds of all contenders at one QoS and report them."""
    expected = options.devices * options.items
    with ExitStack() as stack:
        progress(f"QoS {qos}: connecting {options.devices} devices to each server")
        sides = (stack, options.devices, options.items, qos)
        first = ours(*sides, options.tls)
        others = peers(*sides, options.tls) if servers.find_mosquitto() else []
        if not options.tls:
            others.append(bare(*sides))
        for at in range(options.rounds):
            progress(f"QoS {qos}: round {at + 1} of {options.rounds}")
            size = first.measure(0, expected)
            for other in others:
                other.measure(size, expected)
    for contender in (first, *others):
        times = contender.spent.median / first.spent.median
        report.row(**contender.cells(), qos=qos, times_ours=round(times, 2))
    report.notes.append(f"QoS {qos}: fleetfeed idles at {first.idle:.1%} of a core")
    if len(others) > 1 and options.tls:
        ratio = others[0].spent.median / first.spent.median
        report.notes.append(f"QoS {qos}: {ratio:.2f} times Mosquitto's deliveries per CPU second")
    elif len(others) > 1:
        ratio = others[0].spent.median / first.spent.median
        what = f"QoS {qos}: deliveries per broker-CPU-second over Mosquitto's"
        report.verdicts.append(Verdict(what, ratio, BUDGET[qos], at_least=True))


def main() -> None:
    """Run and print."""
    prepare()
    options_parser = parser("CPU per delivery, against Mosquitto in the same run")
    options_parser.add_argument("--devices", type=int)
    options_parser.add_argument("--items", type=int, help="items per round")
    options_parser.add_argument("--tls", action="store_true", help="both servers encrypt")
    options = options_parser.parse_args()
    options.devices = options.devices or (1000 if options.quick else 2000)
    options.items = options.items or (20 if options.quick else 60)
    options.rounds = options.rounds or (2 if options.quick else 4)
    report = Report(
        "push", {"devices": options.devices, "items": options.items, "rounds": options.rounds}
    )
    if not servers.find_mosquitto():
        report.notes.append("mosquitto is not installed: the peer is skipped")
    for qos in (0, 1):
        compare(report, qos, options)
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
