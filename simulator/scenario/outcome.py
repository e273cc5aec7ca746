"""From what a run saw to its result: one value that is written, drawn and compared."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from simulator.facts import Finding
from simulator.results import ClassResult, Distribution, Result, Span, Stage
from simulator.scenario import verdict
from simulator.scenario.aftermath import aftermath, notes
from simulator.scenario.model import EVERYBODY, TO_DEVICES, TO_SERVER
from simulator.scenario.settling import Settled
from simulator.scenario.tables import profile
from simulator.tally import Histogram, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from simulator.checker import Checker
    from simulator.fleet import Fleet, Usage
    from simulator.scenario.acts import Acts
    from simulator.scenario.aftermath import Aftermath
    from simulator.scenario.crowd import Crowd
    from simulator.scenario.gauges import Gauges
    from simulator.scenario.host import Host
    from simulator.scenario.model import Scenario
    from simulator.scenario.posting import Desk
    from simulator.scenario.samples import Sampler
    from simulator.scenario.sight import Sight
    from simulator.scenario.tables import DeviceClass
    from simulator.scenario.timeline import Timeline
    from simulator.scenario.verdict import Facts

_BEHIND = 1.0
"""Seconds behind its schedule from which a publisher is worth a note."""
_CROWDED = 1.75
"""Processes that want a processor, for each that there is, from which others must be there: a run has two busy ones."""
_BUSY = 0.85
"""Share of the fleet's own core from which its latencies are to be doubted."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is told beside the scenario.

    Attributes:
        devices: How many.
        seed: Of everything drawn.
        seconds: Of all phases together; None: as in the file.
        version: Of fleetfeed.
        command: The command line that does the same again.
        machine: Where it runs.
        notes: What a reader must know from the beginning.
        patience: Seconds until everything must have come to rest.
    """

    devices: int
    seed: int
    seconds: float | None = None
    version: str = ""
    command: str = ""
    machine: str = ""
    notes: Sequence[str] = ()
    patience: float = 30.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is made of, once its server is there.

    Attributes:
        fleet: All devices.
        desk: All publishers.
        acts: All faults.
        sampler: Who looks at it over time.
        gauges: What the server says of itself.
        sight: Who sees every frame.
        checker: Who judges.
        crowd: The people, if there are any.
        judged: The devices that are judged.
    """

    fleet: Fleet
    desk: Desk
    acts: Acts
    sampler: Sampler
    gauges: Gauges
    sight: Sight
    checker: Checker
    crowd: Crowd | None
    judged: Sequence[str]


@dataclass(slots=True)
class Ending:
    """How a run ended.

    Attributes:
        complete: Whether it came to its end.
        seconds: How long it took, without the start of the server.
        busiest: The largest share of a core that the simulator itself took during the phases.
        usage: What devices of each class had used when the phases were over: the rest, in which nobody sleeps, is no
            part of anybody's day.
        exhausted: How many of each class had an empty battery by then.
        settled: What the comparison of windows came to.
        barred: Device and number of items that the server keeps out of feeds.
        findings: What contradicts the promises beside that.
        notes: What a reader must know.
    """

    complete: bool = False
    seconds: float = 0.0
    busiest: float = 0.0
    usage: Mapping[str, Usage] = field(default_factory=dict)
    exhausted: Mapping[str, int] = field(default_factory=dict)
    settled: Settled = field(default_factory=Settled)
    barred: frozenset[tuple[str, int]] = frozenset()
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def result(
    scenario: Scenario,
    options: Options,
    host: Host,
    line: Timeline,
    members: Mapping[str, Sequence[str]],
    parts: Parts | None,
    ending: Ending,
    started: float,
) -> Result:
    """The result of a run: whole, interrupted, or one whose server never came up (then `parts` is None)."""
    head = scenario.scenario
    devices = sum(map(len, members.values()))
    ending.findings += [
        Finding("server", "the server's log has a fault", tuple(text.splitlines()))
        for text in host.complaints()
    ]
    whole = Result(
        scenario=head.name,
        about=" ".join(head.about.split()),
        seed=options.seed,
        started=started,
        seconds=ending.seconds,
        devices=devices,
        server=host.words,
        version=options.version,
        phases=line.phases,
        broken=verdict.broken(ending.findings),
        notes=tuple(ending.notes),
        command=options.command,
        machine=options.machine,
        complete=ending.complete,
    )
    return (
        whole if parts is None else _measured(whole, scenario, host, line, members, parts, ending)
    )


def _measured(
    whole: Result,
    scenario: Scenario,
    host: Host,
    line: Timeline,
    members: Mapping[str, Sequence[str]],
    parts: Parts,
    ending: Ending,
) -> Result:
    classes = tuple(_class(one, members[one.name], parts, ending) for one in scenario.classes)
    at, series = parts.sampler.series()
    faults = _faults(parts.acts, whole.seconds)
    urgent = {
        span.name: parts.sight.urgent[span.name].distribution()
        for span in line.phases
        if span.name in parts.sight.urgent
    }
    trouble = [*faults, *line.busy]
    came = aftermath(trouble, line.before, urgent, at, series, parts.gauges.refused)
    facts = _facts(scenario, host, whole.devices, parts, ending, came)
    checks = verdict.guarantees(facts, classes)
    checks += verdict.expectations(scenario.expect, facts, classes, _all(classes))
    return replace(
        whole,
        faults=faults,
        classes=classes,
        at=at,
        series=series,
        items=_items(facts, parts.desk.left_out),
        drops=dict(facts.drops),
        truth=facts.truth,
        stages=tuple(Stage(name, times) for name, times in urgent.items()),
        checks=tuple(checks),
        broken=verdict.broken(facts.findings),
        notes=(*ending.notes, *_notes(facts, parts, ending), *notes(scenario.expect, came)),
    )


def _facts(
    scenario: Scenario,
    host: Host,
    devices: int,
    parts: Parts,
    ending: Ending,
    came: Aftermath,
) -> Facts:
    tally, sample = parts.fleet.tally, parts.fleet.sample()
    settled = ending.settled
    away = {"asleep": sample.asleep, "dark": sample.dark, "off": sample.off}
    looked = len(settled.seconds) + len(settled.left)
    if host.asked and ending.complete:
        away["out of reach"] = devices - looked - sum(away.values())
    return verdict.Facts(
        asked=host.asked and ending.complete,
        devices=devices,
        judged=sum(name in settled.seconds for name in parts.judged),
        frames=tally.messages_down,
        converged=[*settled.seconds.values()],
        diverged=len(settled.left),
        away=away,
        findings=[*ending.findings, *settled.findings, *parts.checker.take()],
        sent=parts.desk.sent,
        acknowledged=parts.desk.acknowledged,
        repeated=parts.desk.repeated,
        echoes=settled.echoes,
        drops=parts.sampler.drops,
        peak=parts.sampler.peak,
        processes=max(len(host.processes), 1),
        foreign=tally.foreign,
        oversize=tally.oversize,
        sick=_sick(scenario),
        near=frozenset(one.name for one in scenario.classes if profile(one.link).straight),
        struck=any(
            each.do in TO_SERVER
            or (each.do in TO_DEVICES and EVERYBODY in each.names and each.share == 1)
            for each in scenario.faults
        ),
        urgent=parts.sight.all_urgent().distribution(),
        puback=parts.desk.acknowledgements.distribution(),
        poison=parts.checker.poisoned(ending.barred),
        truth=None if parts.crowd is None else parts.crowd.truth(),
        batteries=sum(each.spec.messages is not None for each in parts.fleet.devices.values()),
        aftermath=came,
    )


def _sick(scenario: Scenario) -> frozenset[str]:
    """Classes that something is wrong with, while others are well."""
    named = {name for fault in scenario.faults for name in fault.names}
    return frozenset(
        one.name for one in scenario.classes if one.stall or one.fragile or one.name in named
    )


def _class(one: DeviceClass, devices: Sequence[str], parts: Parts, ending: Ending) -> ClassResult:
    tally = parts.fleet.tallies.get(one.name, Tally())
    usage = (ending.usage or parts.fleet.usage()).get(one.name)
    settled = Histogram()
    for name in devices:
        if name in ending.settled.seconds:
            settled.add(ending.settled.seconds[name])
    return ClassResult(
        one.name,
        devices=len(devices),
        link=profile(one.link).name,
        latency=tally.latency.distribution(),
        convergence=settled.distribution(),
        freshness=tally.freshness.distribution(),
        wake_up=tally.wake_up.distribution(),
        down=usage.down if usage else 0,
        up=usage.up if usage else 0,
        packets_down=usage.packets_down if usage else 0,
        packets_up=usage.packets_up if usage else 0,
        messages_down=tally.messages_down,
        messages_up=tally.messages_up,
        joules=usage.joules if usage else 0.0,
        device_seconds=usage.device_seconds if usage else 0.0,
        exhausted=ending.exhausted.get(one.name, tally.exhausted),
        counts=dict(tally.counts()),
    )


def _all(classes: Iterable[ClassResult]) -> ClassResult:
    """All classes as one, for expectations of the whole fleet."""
    found = ClassResult("all", 0, "")
    for one in classes:
        summed = {
            each.name: _sum(getattr(found, each.name), getattr(one, each.name))
            for each in fields(ClassResult)
            if each.name not in {"name", "link", "counts"}
        }
        found = ClassResult(name="all", link="", **summed)  # type: ignore[arg-type]
    return found


def _sum(one: float | Distribution, other: float | Distribution) -> float | Distribution:
    if not isinstance(one, Distribution) or not isinstance(other, Distribution):
        return one + other  # type: ignore[operator]
    counts: dict[float, int] = {}
    for each in (one, other):
        for bound, count in zip(each.bounds, each.counts, strict=True):
            counts[bound] = counts.get(bound, 0) + count
    bounds = tuple(sorted(counts))
    return Distribution(
        bounds,
        tuple(counts[bound] for bound in bounds),
        one.count + other.count,
        one.total + other.total,
        max(one.largest, other.largest),
    )


def _faults(acts: Acts, seconds: float) -> tuple[Span, ...]:
    """Faults as they really were, in the order of their beginning."""
    going_on = [Span(title, start, seconds) for title, start in acts.working.items()]
    return tuple(sorted([*acts.spans, *going_on], key=lambda span: span.start))


def _items(facts: Facts, left_out: int) -> dict[str, int]:
    found = {
        "published": facts.sent,
        "acknowledged": facts.acknowledged,
        "sent again": facts.repeated,
        "lost": facts.found("G1") + facts.found("G3"),
    }
    return found | {"left out by late publishers": left_out} if left_out else found


def _notes(facts: Facts, parts: Parts, ending: Ending) -> list[str]:
    found = []
    if facts.asked and len(parts.judged) < facts.devices:
        found.append(
            f"G1, G3 and G4 were judged on {len(parts.judged)} devices, drawn evenly from each class; "
            "G2 and G6 on all."
        )
    shown = any(device.window for device in parts.fleet.devices.values())
    if facts.acknowledged and not shown:
        found.append(
            "No device shows anything, though items were acknowledged. Servers acknowledge and drop what a user has no "
            "right to publish: see that publishers have it."
        )
    if parts.desk.behind > _BEHIND:
        found.append(
            f"Publishers had to wait up to {parts.desk.behind:.1f} s for a connection, or for room in flight."
        )
    if ending.busiest > _BUSY:
        found.append(
            f"The simulator itself used up to {ending.busiest:.0%} of a core: then its own queue is in the latencies. "
            "Fewer devices or items give truer ones."
        )
    if parts.sampler.crowded > _CROWDED:
        found.append(
            f"Up to {parts.sampler.crowded:.1f} processes at a time wanted each processor of this machine, more than "
            "are of this run: waiting for them is in every latency, and server and simulator got less done."
        )
    if parts.crowd is not None and parts.crowd.lost:
        found.append(f"{parts.crowd.lost} things that people would have done found no room.")
    return found
