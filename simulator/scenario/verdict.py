"""The verdict: G1 to G6 and the expectations of the file, a line each with its figures. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.bounds import quantile
from simulator.results import Broken, Check, ClassResult, Distribution
from simulator.scenario.aftermath import Aftermath, judged
from simulator.scenario.figures import bytes_, number, seconds_, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from simulator.facts import Finding
    from simulator.results import Truth
    from simulator.scenario.model import ClassBounds, Expect

HEALTHY = 2.0
"""G6: seconds within which 99 of 100 items reach a healthy class beside a sick one."""

MEMORY = 160 * 2**20
MEMORY_DEVICE = 48 * 2**10
MEMORY_ITEM = 6 * 2**10
"""G5: bytes that one server process may take: of itself, for each device, and for each item that it accepted.

A device's window of 64 items, its two positions and its four frames in flight are less than half of that; the rest is
what allocators hold back. A server that kept what devices did not read would pass it within a minute."""

DAY = 86_400.0
_WORST = 3
_GUARANTEES = ("G1", "G2", "G3", "G4", "G5", "G6")


NOTHING = Distribution()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run brought to light.

    Attributes:
        asked: Whether the server could be asked what each device should show.
        devices: How many there are.
        judged: How many of them the judge looked at.
        frames: Frames that devices received.
        converged: Seconds until each device showed its feed, of those that did.
        diverged: Devices that were looked at and never did.
        away: What the devices do that were not looked at in the end, by word: asleep, dark, off.
        findings: What contradicts the promises, without what stands here as a figure.
        sent: Items sent.
        acknowledged: Items that the server acknowledged.
        repeated: Packets that publishers sent again after a lost connection.
        echoes: Items that were sent again at rest, and how many of them were new to the server.
        drops: What the server did not carry out, by reason.
        peak: Memory of the server, bytes; 0: unknown.
        processes: How many processes took it together.
        foreign: Frames that reached a device that they were not for.
        oversize: Frames that were longer than the device's budget.
        sick: Classes that something was wrong with: slow readers, crashes, faults.
        near: Classes without a link of their own, so that the server alone decides how long an item takes.
        struck: Whether the server itself was ended or everybody was cut off.
        urgent: Seconds from publisher to device, of urgent items.
        puback: Seconds until PUBACK.
        poison: Items that the server keeps out of a feed without the device having dismissed them.
        truth: What windows were worth to people.
        batteries: Devices with a battery.
        aftermath: What trouble did, and how long until it was over.
    """

    asked: bool
    devices: int
    judged: int
    frames: int
    converged: Sequence[float] = ()
    diverged: int = 0
    away: Mapping[str, int] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    sent: int = 0
    acknowledged: int = 0
    repeated: int = 0
    echoes: tuple[int, int] | None = None
    drops: Mapping[str, int] = field(default_factory=dict)
    peak: int = 0
    processes: int = 1
    foreign: int = 0
    oversize: int = 0
    sick: frozenset[str] = frozenset()
    near: frozenset[str] = frozenset()
    struck: bool = False
    urgent: Distribution = NOTHING
    puback: Distribution = NOTHING
    poison: int = 0
    truth: Truth | None = None
    batteries: int = 0
    aftermath: Aftermath = field(default_factory=Aftermath)

    def found(self, promise: str) -> int:
        """How often a promise was broken, as far as the judge says."""
        return sum(finding.promise == promise for finding in self.findings)

    @property
    def memory_bound(self) -> int:
        """G5 for all processes of the server together."""
        shared = MEMORY_DEVICE * self.devices + MEMORY_ITEM * self.acknowledged
        return self.processes * (MEMORY + shared)


NOT_ASKED = "not looked at: this server cannot be asked what each device should show"


def guarantees(facts: Facts, classes: Sequence[ClassResult]) -> list[Check]:
    """G1 to G6, and what else the judge looks at, a line each."""
    checks = [
        _g1(facts),
        _g2(facts),
        _g3(facts),
        _g4(facts),
        _g5(facts),
        _g6(facts, classes),
    ]
    others = Counter(f.promise for f in facts.findings if f.promise not in _GUARANTEES)
    wire = f"{number(facts.frames)} frames, {facts.oversize} longer than the budget of their device"
    checks.append(Check("wire", wire, ok=not (facts.oversize or others["wire"])))
    checks += [
        Check(name, f"{others[name]} findings, see below", ok=False)
        for name in sorted(others.keys() - {"wire"})
    ]
    return checks


def _g1(facts: Facts) -> Check:
    text = f"{number(facts.acknowledged)} of {number(facts.sent)} items acknowledged"
    if not facts.asked:
        ok = None if facts.acknowledged == facts.sent else False
        return Check("G1", f"{text}; what became of them was {NOT_ASKED}", ok)
    lost = facts.found("G1")
    text += (
        f"; {lost} times one was not offered, on {number(facts.judged)} devices that were judged"
    )
    return Check("G1", text, ok=not lost and facts.acknowledged == facts.sent)


def _g2(facts: Facts) -> Check:
    if not facts.asked:
        return Check("G2", NOT_ASKED, None)
    looked = len(facts.converged) + facts.diverged
    away = ", ".join(f"{number(many)} {word}" for word, many in facts.away.items() if many)
    text = f"{number(len(facts.converged))} of {number(looked)} devices show their feed"
    if facts.converged:
        worst = max(facts.converged)
        text += f", p99 {seconds_(quantile(facts.converged, 0.99))}, the last {seconds_(worst)} after the end"
    text += f"; not there: {away}" if away else ""
    return Check("G2", text, ok=not facts.diverged if looked else None)


def _g3(facts: Facts) -> Check:
    if not facts.asked:
        return Check("G3", NOT_ASKED, None)
    reasons = ", ".join(
        f"{number(many)} {reason}" for reason, many in [*facts.drops.items()][:_WORST]
    )
    text = f"{facts.found('G3')} items lost on {number(facts.judged)} judged devices"
    return Check(
        "G3", f"{text}; dropped with a reason: {reasons or 'nothing'}", not facts.found("G3")
    )


def _g4(facts: Facts) -> Check:
    text = f"{number(facts.repeated)} packets of publishers came twice after lost connections"
    if facts.echoes is None:
        return Check("G4", text, ok=not facts.found("G4"))
    sent, new = facts.echoes
    text += f"; {sent} items were sent again at rest, {new} of them were taken as new"
    return Check("G4", text, ok=not (new or facts.found("G4")))


def _g5(facts: Facts) -> Check:
    if not facts.peak:
        return Check("G5", "not looked at: the memory of this server is not ours to see", None)
    text = f"{bytes_(facts.peak)} at most, {bytes_(facts.memory_bound)} allowed for so many devices and items"
    return Check("G5", text, ok=facts.peak <= facts.memory_bound and not facts.found("G5"))


def _g6(facts: Facts, classes: Sequence[ClassResult]) -> Check:
    text = f"{facts.foreign} frames reached a device that they were not for"
    ok = not (facts.foreign or facts.found("G6"))
    healthy = [one for one in classes if one.name in facts.near - facts.sick and one.latency.count]
    if not facts.sick or facts.struck or not healthy:
        return Check("G6", text, ok)
    slowest = max(healthy, key=lambda one: one.latency.quantile(0.99) or 0.0)
    p99 = slowest.latency.quantile(0.99) or 0.0
    text += f"; p99 of the healthy class {slowest.name} is {seconds_(p99)} beside {', '.join(sorted(facts.sick))}"
    return Check("G6", f"{text}, at most {HEALTHY:g} s", ok and p99 <= HEALTHY)


def expectations(
    expect: Expect, facts: Facts, classes: Sequence[ClassResult], whole: ClassResult
) -> list[Check]:
    """What the file expects, a line each.

    Args:
        expect: As in the file.
        facts: Of the run.
        classes: Of the run.
        whole: All classes as one.
    """
    checks = [*_bounds(expect, whole, "")]
    for one in classes:
        if one.name in expect.classes:
            checks += _bounds(expect.classes[one.name], one, f"{one.name}: ")
    if expect.urgent_p99 is not None:
        p99 = facts.urgent.quantile(0.99)
        checks.append(
            _at_most("urgent_p99", p99, expect.urgent_p99, f"{number(facts.urgent.count)} arrivals")
        )
    if expect.acknowledged_within is not None:
        p99 = facts.puback.quantile(0.99)
        checks.append(_at_most("acknowledged_within", p99, expect.acknowledged_within, "p99"))
    if expect.converged_within is not None:
        worst = max(facts.converged, default=None)
        checks.append(
            _at_most("converged_within", worst, expect.converged_within, "the last device")
        )
    checks += judged(expect, facts.aftermath)
    checks += _further(expect, facts, whole)
    return checks


def _further(expect: Expect, facts: Facts, whole: ClassResult) -> Iterator[Check]:
    if expect.exhausted is not None:
        part = whole.exhausted / max(facts.batteries, 1)
        text = f"{share(part)} of {number(facts.batteries)} batteries are used up, at most {share(expect.exhausted)}"
        yield Check("exhausted", text, part <= expect.exhausted)
    if expect.poison_at_least is not None:
        text = f"{facts.poison} times an item was set aside as poison, at least {expect.poison_at_least}"
        known = facts.asked
        yield Check(
            "poison_at_least",
            text if known else NOT_ASKED,
            facts.poison >= expect.poison_at_least if known else None,
        )
    if expect.better_than_newest:
        yield _better(facts.truth)


def _better(truth: Truth | None) -> Check:
    """Of the last third of the samples: before that the ranking has nothing to go by."""
    if truth is None or not truth.shown:
        return Check("better_than_newest", "not looked at: there were no samples", None)
    last = len(truth.shown) // 3 or 1
    shown, newest, best = (
        sum(values[-last:]) / last for values in (truth.shown, truth.newest, truth.best)
    )
    text = (
        f"a window is worth {shown:.2f} openings in the last third of the run, "
        f"newest first {newest:.2f}, the best possible {best:.2f}"
    )
    return Check("better_than_newest", text, shown > newest)


def _bounds(bounds: ClassBounds, one: ClassResult, prefix: str) -> Iterator[Check]:
    arrivals = f"{number(one.latency.count)} arrivals"
    for name, bound, value, of in (
        ("p50_latency", bounds.p50_latency, one.latency.quantile(0.5), arrivals),
        ("p99_latency", bounds.p99_latency, one.latency.quantile(0.99), arrivals),
        (
            "wake_up_p99",
            bounds.wake_up_p99,
            one.wake_up.quantile(0.99),
            f"{number(one.wake_up.count)} wakings",
        ),
    ):
        if bound is not None:
            yield _at_most(prefix + name, value, bound, of)
    days = one.device_seconds / DAY
    if bounds.joules_per_day is not None and days:
        value = one.joules / days
        text = f"{value:.0f} J per device and day, at most {bounds.joules_per_day:g} J"
        yield Check(prefix + "joules_per_day", text, value <= bounds.joules_per_day)
    if bounds.bytes_per_day is not None and days:
        value = (one.down + one.up) / days
        text = f"{number(round(value))} bytes per device and day, at most {bounds.bytes_per_day:g}"
        yield Check(prefix + "bytes_per_day", text, value <= bounds.bytes_per_day)


def _at_most(name: str, value: float | None, bound: float, of: str) -> Check:
    if value is None:
        return Check(name, f"not looked at: nothing was measured ({of})", None)
    return Check(name, f"{seconds_(value)} ({of}), at most {bound:g} s", value <= bound)


def broken(findings: Sequence[Finding], most: int = 12) -> tuple[Broken, ...]:
    """Findings as the report shows them: of each promise the first ones, and how many more there are."""
    seen = Counter[str]()
    shown = []
    for one in findings:
        seen[one.promise] += 1
        if seen[one.promise] <= most:
            shown.append(Broken(one.promise, one.sentence, tuple(one.evidence)))
    more = ((promise, many - most) for promise, many in seen.items() if many > most)
    shown += [
        Broken(promise, f"and {number(many)} further findings like it") for promise, many in more
    ]
    return tuple(shown)
