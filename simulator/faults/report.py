"""What the fault suite shows: a live picture, lines for logs, and the table at the end. Pure: values in, rich out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from simulator.bounds import quantile
from simulator.faults.availability import Absences
from simulator.faults.plan import MEANING, Kind
from simulator.view import WIDTH, count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from simulator.facts import Finding
    from simulator.faults.plan import Plan
    from simulator.faults.season import Round

_EVIDENCE = 60
"""Lines of evidence shown for a finding; JSON has all."""


@dataclass(slots=True)
class Outcome:
    """What all rounds came to, so far.

    Attributes:
        seed: Of the first round; that of round i (from 0) is `seed` + i.
        rounds: How many there shall be.
        devices: In each, the healthy ones included.
        missing: Kinds of fault that cannot be had here, and why.
        options: What was asked for beside rounds and seed.
        done: Rounds by now.
        faults: Faults by kind.
        acknowledged: Items that the server acknowledged.
        repeated: Packets that publishers sent again.
        poisoned: Items that were set aside as poison to a device.
        frames: PUBLISHes that devices received.
        resent: Those with DUP.
        hellos: Hellos that devices sent.
        connects: Connections that devices made.
        settled: Seconds to convergence, one for each device and round.
        latencies: Seconds from publisher to the healthy device.
        peak: The highest memory of any server process, bytes.
        growth: Bytes that a round left behind, the most of any data directory.
        seconds: Since the start.
        findings: With the seed of the round; None where no single round is to blame.
        absences: What each kind of fault cost healthy clients.
    """

    seed: int
    rounds: int
    devices: int
    missing: Mapping[Kind, str]
    options: str = ""
    done: int = 0
    faults: Counter[Kind] = field(default_factory=Counter)
    acknowledged: int = 0
    repeated: int = 0
    poisoned: int = 0
    frames: int = 0
    resent: int = 0
    hellos: int = 0
    connects: int = 0
    settled: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    peak: int = 0
    growth: float = 0.0
    seconds: float = 0.0
    findings: list[tuple[int | None, Finding]] = field(default_factory=list)
    absences: Absences = field(default_factory=Absences)

    def add(self, result: Round) -> None:
        """One round more."""
        self.done += 1
        self.faults.update(result.plan.kinds)
        self.settled += result.settled
        self.latencies += result.latencies
        if result.memory is not None:
            self.peak = max(self.peak, result.memory.peak)
        self.findings += [(result.plan.seed, finding) for finding in result.findings]
        self.absences.add(result.plan.kinds[0].value, result.absence)

    @property
    def lost(self) -> int:
        """Acknowledged items that some device should have and has not."""
        return sum(finding.promise in {"G1", "G3"} for _, finding in self.findings)

    @property
    def diverged(self) -> int:
        """Devices that did not show their feed at rest."""
        return sum(finding.promise == "G2" for _, finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether every promise was kept, in as many rounds as were asked for."""
        return not self.findings and self.done == self.rounds

    def as_json(self) -> dict[str, object]:
        """The outcome as one JSON object."""
        return {
            "ok": self.ok,
            "seed": self.seed,
            "rounds": self.done,
            "devices": self.devices,
            "faults": {kind.value: number for kind, number in sorted(self.faults.items())},
            "left_out": {kind.value: why for kind, why in self.missing.items()},
            "items_acknowledged": self.acknowledged,
            "items_lost": self.lost,
            "items_poison": self.poisoned,
            "devices_converged": len(self.settled),
            "devices_diverged": self.diverged,
            "convergence_s": _rounded(self.settled),
            "healthy_latency_s": _rounded(self.latencies),
            "memory_peak_mib": round(self.peak / 2**20, 1),
            "memory_growth_kib_per_round": round(self.growth / 1024, 1),
            "frames": self.frames,
            "frames_resent": self.resent,
            "hellos": self.hellos,
            "connects": self.connects,
            "packets_repeated": self.repeated,
            "absences": self.absences.table(),
            "seconds": round(self.seconds, 1),
            "findings": [
                {
                    "seed": seed,
                    "promise": finding.promise,
                    "sentence": finding.sentence,
                    "evidence": list(finding.evidence),
                }
                for seed, finding in self.findings
            ],
        }


def line(outcome: Outcome, last: Round) -> str:
    """One round in one line, for logs."""
    kinds = "+".join(last.plan.kinds)
    worst = max(last.settled, default=0.0)
    verdict = f"{len(last.findings)} findings" if last.findings else "ok"
    return (
        f"{outcome.done:4}/{outcome.rounds} seed {last.plan.seed} {kinds:28} "
        f"{last.seconds:4.1f} s, converged in {worst:.2f} s, {verdict}"
    )


def picture(outcome: Outcome, doing: Plan | None) -> RenderableType:
    """The suite at this moment."""
    now = "starting a server" if doing is None else _doing(doing)
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(
        Text.assemble(("fleetfeed faults", "bold cyan"), f"  {outcome.devices} devices"),
        Text(f"round {outcome.done + 1} of {outcome.rounds}", style="bold"),
    )
    grid.add_row(
        ProgressBar(total=outcome.rounds, completed=outcome.done, complete_style="cyan"),
        Text(f"{outcome.seconds:.0f} s", style="bright_black"),
    )
    style = "red" if outcome.findings else "cyan"
    return Group(
        Panel(grid, border_style=style, width=WIDTH),
        Panel(_figures(outcome), border_style="bright_black", width=WIDTH),
        Text(f" {now}", style="bright_black"),
    )


def summary(outcome: Outcome) -> RenderableType:
    """The table at the end, the verdict, and the evidence."""
    parts: list[RenderableType] = [_figures(outcome), Text()]
    if any(one.failovers for found in outcome.absences.of.values() for one in found):
        parts += [_absences(outcome), Text()]
    parts += [
        Text.assemble(("! ", "yellow"), f"{kind.value} was left out: {why}")
        for kind, why in outcome.missing.items()
    ]
    parts.append(_verdict(outcome))
    panel = Panel(
        Group(*parts),
        title=f"{outcome.done} rounds, {outcome.devices} devices, {outcome.seconds:.0f} s",
        title_align="left",
        border_style="green" if outcome.ok else "red",
        padding=(1, 2),
        width=WIDTH,
    )
    return Group(panel, *(_finding(outcome, seed, one) for seed, one in outcome.findings))


def _figures(outcome: Outcome) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bright_black", justify="right", no_wrap=True)
    table.add_column()
    table.add_row("rounds", f"{outcome.done} of {outcome.rounds}, from seed {outcome.seed}")
    faults = ", ".join(
        f"{outcome.faults[kind]} {kind.value}" for kind in Kind if outcome.faults[kind]
    )
    table.add_row("faults", f"{sum(outcome.faults.values())}: {faults or 'none yet'}")
    table.add_row(
        "items",
        f"{count(outcome.acknowledged)} acknowledged, {outcome.lost} lost, "
        f"{outcome.poisoned} set aside as poison; {count(outcome.repeated)} packets sent again by publishers",
    )
    converged = "all" if not outcome.diverged else f"all but {outcome.diverged}"
    table.add_row(
        "windows",
        f"{count(len(outcome.settled))} compared, {converged} equal the server's, "
        f"p99 in {_seconds(outcome.settled, 0.99)}, the last in {_seconds(outcome.settled, 1.0)}",
    )
    table.add_row(
        "healthy device",
        f"p99 {_seconds(outcome.latencies, 0.99)} from publisher, "
        f"{count(len(outcome.latencies))} items beside sick neighbours",
    )
    table.add_row(
        "memory",
        f"{outcome.peak / 2**20:.0f} MiB at most, {outcome.growth / 1024:+.0f} KiB a round",
    )
    table.add_row(
        "frames",
        f"{count(outcome.frames)}, {count(outcome.resent)} of them again with DUP; "
        f"{count(outcome.hellos)} hellos, {count(outcome.connects)} connections",
    )
    return table


def _absences(outcome: Outcome) -> Table:
    """What healthy clients went without, by kind of fault."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black", title_justify="left")
    table.add_column("seconds without", no_wrap=True)
    for name in ("rounds", "p50 feed", "p99 feed", "any item", "acknowledgement", "connection"):
        table.add_column(name, justify="right")
    for kind, figures in outcome.absences.table().items():
        shown = ["-" if value is None else f"{value:g}" for value in figures.values()]
        table.add_row(kind, shown[0], *shown[2:])
    return table


def _verdict(outcome: Outcome) -> Text:
    if outcome.ok:
        return Text.assemble(("✓ ", "bold green"), ("every promise was kept", "bold"))
    if not outcome.findings:
        return Text.assemble(("✗ ", "bold red"), f"ended after {outcome.done} rounds")
    broken = Counter(finding.promise for _, finding in outcome.findings)
    words = ", ".join(f"{promise} {number} times" for promise, number in sorted(broken.items()))
    return Text.assemble(("✗ ", "bold red"), (f"broken: {words}", "bold"))


def _finding(outcome: Outcome, seed: int | None, finding: Finding) -> Text:
    text = Text.assemble(("\n✗ ", "bold red"), (f"{finding.promise}: {finding.sentence}\n", "bold"))
    for fact in finding.evidence[:_EVIDENCE]:
        text.append(f"    {fact}\n", style="bright_black")
    if seed is not None:
        rounds = seed - outcome.seed + 1
        text.append(
            f"  the same faults: fleetfeed faults {outcome.options}--seed {seed} --rounds 1; "
            f"with all before: --seed {outcome.seed} --rounds {rounds}\n",
            style="cyan",
        )
    return text


def _doing(plan: Plan) -> str:
    return f"seed {plan.seed}: " + "; ".join(MEANING[kind] for kind in plan.kinds)


def _seconds(values: list[float], q: float) -> str:
    value = quantile(values, q)
    if value is None:
        return "-"
    return f"{value:.1f} s" if value >= 1 else f"{value * 1_000:.0f} ms"


def _rounded(values: list[float]) -> dict[str, float | None]:
    found = {name: quantile(values, q) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
    return {name: None if value is None else round(value, 3) for name, value in found.items()}
