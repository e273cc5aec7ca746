"""A simulation that backs `fleetfeed plan`: items to a million devices over n nodes, from measured unit costs.

`python benchmarks/fanout.py [--json] [--quick] [--check] [--out docs/scale-fanout.svg]`

*One item* goes to all devices. A node reads it and commits it; the other nodes hear of it through Redis; each
takes its own devices in steps of some thousand: it ranks and compares them all, writes their frames one by one,
and then reads what came in meanwhile, at QoS 1 the acknowledgements. *A stream* brings items at random moments, each to a share of
the devices; what must wait, waits in line on each node, and items that have waited are taken together.
Times are publish to frame written, queues of the network left out. `--check` holds one point against a
real server.
"""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import servers
from contenders import PAYLOAD, WINDOW
from harness import Report, Verdict, Worker, cores, idents, parser, prepare, progress
from latency import TimedFleet
from numpy.typing import NDArray

from broker.plan_costs import Costs, load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

ROOT = Path(__file__).parents[1]
NODES = (1, 2, 4, 8, 16, 32)
#: Devices of one step of a node with the learned ranking (broker/service.py): a slice of 8 ms ends with a step.
STEP = 4096
#: Connections of one node by default; fewer nodes are shown, but would need a larger setting.
CONNECTIONS = 50_000
#: Of the standard normal distribution: 99 % of it lie below.
Z99 = 2.326
#: How far the simulated median and 99th percentile may be from the real ones.
TOLERANCE = 2.0


@dataclass(frozen=True, slots=True)
class Delay:
    """A waiting time that is log-normal, given by its median and its 99th percentile, in seconds."""

    p50: float
    p99: float

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """Return as many samples."""
        sigma = math.log(max(self.p99 / self.p50, 1.0)) / Z99
        return self.p50 * np.exp(sigma * rng.standard_normal(count))


class Fanout:
    """Nodes that share a fleet evenly.

    Args:
        costs: Measured.
        qos: Of frames.
        nodes: How many; 1 has a store of its own.
        seed: Of everything drawn.
    """

    def __init__(self, costs: Costs, qos: int, nodes: int, seed: int = 0) -> None:
        self.nodes = nodes
        self._costs = costs
        self._qos = qos
        self._rng = np.random.default_rng(seed)
        store = "" if nodes == 1 else "redis_"
        self._commit = Delay(costs[f"{store}commit_p50"], costs[f"{store}commit_p99"])
        self._tail = Delay(costs["redis_tail_p50"], costs["redis_tail_p99"]) if store else None

    def arrivals(self, items: int) -> Floats:
        """Return when each node has each item, in seconds after its publication, nodes by items.

        The node that reads an item is a random one. Another has it once Redis has told it, which is
        measured from the write to there.
        """
        shape = (self.nodes, items)
        commit = np.broadcast_to(self._commit.draw(self._rng, items), shape).copy()
        if self._tail is None:
            return commit
        told = self._tail.draw(self._rng, self.nodes * items).reshape(shape)
        reader = self._rng.integers(self.nodes, size=items)
        told[reader, np.arange(items)] = commit[reader, np.arange(items)]
        return told

    def pushes(self, audience: int) -> tuple[Floats, float]:
        """Return when each frame of an item is written, in seconds after its work began, and its end.

        In each step all frames are made first. Writing one takes what a bare `send()` takes, and at QoS 1
        what a push costs more than at QoS 0 is its acknowledgement, read after the step.
        """
        fixed, whole = self._costs.item(self._qos, 0), self._costs.item(self._qos, audience)
        if not audience:
            return np.empty(0), whole
        each = (whole - fixed) / audience
        bare = (self._costs.item(0, audience) - self._costs.item(0, 0)) / audience
        send, until_read = self._costs["send"], min(each, bare)
        steps, place = np.divmod(np.arange(audience), STEP)
        rows = np.minimum(STEP, audience - steps * STEP)
        made = steps * STEP * each + rows * max(until_read - send, 0.0)
        return fixed + made + (place + 1) * send, whole

    def one_item(self, devices: int) -> Floats:
        """Return the latencies of one item to all devices, in seconds."""
        after, _ = self.pushes(devices // self.nodes)
        return (self.arrivals(1) + after).ravel()

    def stream(self, rate: float, audience: int, seconds: float) -> Floats:
        """Return the latencies of items that come `rate` a second, by chance, to `audience` devices each."""
        items = max(int(self._rng.poisson(rate * seconds)), 1)
        published = np.sort(self._rng.uniform(0, seconds, items))
        here = audience // self.nodes
        after, whole = self.pushes(here)
        together = min(self._costs.item_in_a_flood(here), whole)
        found = []
        for delays in self.arrivals(items):
            free = 0.0
            for at in np.argsort(published + delays):
                ready = published[at] + delays[at]
                # Who has waited is taken together with others, which is cheaper.
                scale = together / whole if free > ready else 1.0
                begun = max(free, ready)
                found.append(begun - published[at] + scale * after)
                free = begun + scale * whole
        return np.concatenate(found)


def at(latencies: Floats) -> dict[str, float]:
    """Return the quantiles of a table, in milliseconds."""
    p1, p50, p99 = np.quantile(latencies, (0.01, 0.5, 0.99)) * 1e3
    return {"p1_ms": float(p1), "p50_ms": float(p50), "p99_ms": float(p99)}


# ---- Against a real server


class CheckedFleet(TimedFleet):
    """A fleet that hands out the ages of what it received."""

    def ages(self) -> list[float]:
        """Return the ages in seconds since the last call."""
        taken, self._ages = self._ages, []
        return taken


def measure(devices: int, items: int) -> Floats:
    """Return the latencies of items at QoS 0 to all devices of a real server, one after the other."""
    with ExitStack() as stack:
        server = stack.enter_context(servers.fleetfeed())
        settings: dict[str, Any] = {"port": server.port, "idents": idents(devices), "qos": 0}
        fleet = stack.enter_context(Worker(cores()[1], CheckedFleet, **settings))
        progress(f"a real server: connecting {devices} devices")
        fleet.call("connect")
        publish = {"size": PAYLOAD, "priority": 0, "each": devices}
        fleet.call("items", count=WINDOW, **publish)
        fleet.call("ages")
        fleet.call("items", count=items, **publish)
        return np.array(fleet.call("ages"))


def check(report: Report, costs: Costs, devices: int, items: int) -> None:
    """Hold the simulation of one node against a real one."""
    simulated = at(np.concatenate([Fanout(costs, 0, 1, s).one_item(devices) for s in range(items)]))
    real = at(measure(devices, items))
    for name, found in (("simulated", simulated), ("real server", real)):
        report.row(case=f"{name}, 1 node, {devices} devices, QoS 0", **found)
    for name in ("p50_ms", "p99_ms"):
        ratio = max(simulated[name] / real[name], real[name] / simulated[name])
        report.verdicts.append(
            Verdict(f"{name}: simulated against real, as a factor", ratio, TOLERANCE)
        )


# ---- Picture

Curves = dict[str, tuple[list[float], list[float]]]


def draw(one: Curves, streams: Curves, devices: int, audience: int) -> str:
    """Return the picture: one item by the number of nodes, streams by their rate."""
    # The style of all pictures is beside simulated people, whom scripts do not see otherwise.
    sys.path.insert(0, str(ROOT))
    from benchmarks.pictures import alone, picture  # noqa: PLC0415 - see above
    from feedgen.evaluate import plots  # noqa: PLC0415 - matplotlib is slow to import

    def fill(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, curves in ((left, one), (right, streams)):
            for (name, (x, y)), colour in zip(curves.items(), plots.SERIES, strict=False):
                axes.plot(x, y, "o-", markersize=4, color=colour, label=name)
            axes.set(xscale="log", yscale="log")
            axes.legend(loc="upper right" if axes is left else "upper left")
        left.axvspan(0.8, devices / CONNECTIONS, color=plots.INK, alpha=0.05, linewidth=0)
        many, each = (f"{number:,}".replace(",", " ") for number in (devices, audience))
        left.set(
            *(),
            title=f"one item to {many} devices",
            xlabel=f"nodes (shaded: more than {CONNECTIONS // 1000} 000 devices each)",
            ylabel="publish to frame, ms",
            xticks=NODES,
            xticklabels=[str(n) for n in NODES],
            xlim=(0.8, 1.25 * max(NODES)),
        )
        left.minorticks_off()
        right.set(title="a stream, 99 %", xlabel=f"items a second, each to {each} devices")

    return alone(picture("fanout", (8.6, 4.2), fill))


def simulate(options: Namespace, report: Report, costs: Costs) -> tuple[Curves, Curves]:
    """Run all nodes and rates; returns the curves of the picture."""
    shown = {"99 %": "p99_ms", "median": "p50_ms", "1 %": "p1_ms"}
    one: Curves = {name: ([], []) for name in shown}
    for n in NODES:
        progress(f"one item, {n} nodes")
        found = at(Fanout(costs, 1, n).one_item(options.devices))
        report.row(case=f"one item to {options.devices} devices", nodes=n, **found)
        for name, key in shown.items():
            one[name][0].append(n)
            one[name][1].append(found[key])
    streams: Curves = {}
    for n in (1, 4, 16, 32):
        progress(f"streams, {n} nodes")
        busy = costs.item(1, options.audience // n)
        x: list[float] = []
        y: list[float] = []
        for share in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95):
            rate = share / busy
            latencies = Fanout(costs, 1, n).stream(rate, options.audience, options.items / rate)
            found = at(latencies)
            report.row(
                case=f"stream to {options.audience}, {share:.0%} busy", nodes=n, rate=rate, **found
            )
            x.append(rate)
            y.append(found["p99_ms"])
        streams["1 node" if n == 1 else f"{n} nodes"] = (x, y)
    return one, streams


def main() -> None:
    """Simulate, check, draw and print."""
    prepare()
    options_parser = parser("Fan-out of items to a million devices, simulated")
    options_parser.add_argument("--devices", type=int, help="connected, over all nodes")
    options_parser.add_argument(
        "--audience", type=int, default=10_000, help="of an item of a stream"
    )
    options_parser.add_argument("--check", action="store_true", help="against a real server")
    options_parser.add_argument("--out", type=Path, help="write the picture there")
    options = options_parser.parse_args()
    options.devices = options.devices or (10_000 if options.quick else 1_000_000)
    options.items = 50 if options.quick else 1000
    report = Report("fanout", {"devices": options.devices, "audience": options.audience})
    costs = load()
    one, streams = simulate(options, report, costs)
    if options.check:
        check(report, costs, 400 if options.quick else 4000, 10)
    if options.out:
        options.out.write_text(
            draw(one, streams, options.devices, options.audience), encoding="utf-8"
        )
        report.notes.append(f"drawn into {options.out}")
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
