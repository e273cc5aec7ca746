"""A scenario on a clock: when each phase and each fault begins and ends, and how fast publishers are when.

Pure. Times are seconds from the start of the run.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from simulator.results import Span
from simulator.scenario.model import EVERYBODY, TO_SERVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simulator.scenario.model import Fault, Phase, Scenario

FIRST_RAMP = 10.0
"""Seconds over which a fleet connects at first, if the scenario does not say."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """A fault at its time, everything in it stretched as the run is. Two are never the same.

    Attributes:
        at: When it begins.
        end: When it ends; those who come back then do so over `over` seconds.
        over: Seconds.
        fault: What it is.
    """

    at: float
    end: float
    over: float
    fault: Fault

    @property
    def title(self) -> str:
        """What happens to whom, for people."""
        fault = self.fault
        if fault.do in TO_SERVER:
            node = "the server" if fault.node is None else f"node {fault.node}"
            return f"{fault.do} {node}"
        if fault.do in {"burst", "poison"}:
            return f"{fault.do} of {fault.count} on {fault.channel}"
        share = "" if fault.share == 1 else f"{fault.share:.0%} of "
        who = "all" if EVERYBODY in fault.names else ", ".join(fault.names)
        if fault.do == "spike":
            return f"spike of {who}, {fault.factor:g} times"
        return f"{fault.do}: {share}{who}"


@dataclass(frozen=True, slots=True)
class Ramp:
    """Devices that are away come back from `at` on, over so many seconds."""

    at: float
    over: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """See the module.

    Attributes:
        phases: In order, without gaps.
        ramps: When devices are brought; the first is the start of the fleet.
        moments: Faults in the order of their beginning.
        seconds: Of the whole run, the rest at the end not counted.
        stretch: So many times as long as in the file it takes.
        busy: Phases in which somebody publishes more than usual.
        before: Name of the last phase before the first fault and the first busy phase; None if there is none.
    """

    phases: tuple[Span, ...]
    ramps: tuple[Ramp, ...]
    moments: tuple[Moment, ...]
    seconds: float
    stretch: float
    busy: tuple[Span, ...] = ()
    before: str | None = None

    def phase(self, at: float) -> Span:
        """The phase at a time; the last one from its end on."""
        place = bisect_right([each.start for each in self.phases], at) - 1
        return self.phases[max(place, 0)]


def timeline(scenario: Scenario, seconds: float | None = None) -> Timeline:
    """Puts a scenario on the clock.

    Args:
        scenario: Valid.
        seconds: What all phases shall take together; None: what the file says.
    """
    written = sum(phase.seconds for phase in scenario.phases)
    total = seconds or scenario.scenario.seconds or written
    stretch = total / written
    ends = [*accumulate(phase.seconds * stretch for phase in scenario.phases)]
    starts = [0.0, *ends[:-1]]
    phases = tuple(
        Span(phase.name, start, end)
        for phase, start, end in zip(scenario.phases, starts, ends, strict=True)
    )
    begins = {span.name: span.start for span in phases}
    moments = sorted(
        (_moment(fault, begins, stretch) for fault in scenario.faults), key=lambda moment: moment.at
    )
    busy = tuple(
        span
        for span, phase in zip(phases, scenario.phases, strict=True)
        if any(factor > 1 for factor in phase.rates.values())
    )
    first = min([span.start for span in busy] + [moment.at for moment in moments], default=0.0)
    calm = [span.name for span in phases if span.end <= first]
    return Timeline(
        phases,
        tuple(_ramps(scenario.phases, starts, stretch)),
        tuple(moments),
        total,
        stretch,
        busy,
        calm[-1] if calm else None,
    )


def _moment(fault: Fault, begins: dict[str, float], stretch: float) -> Moment:
    at = (begins[fault.phase] if fault.phase else 0.0) + fault.at * stretch
    return Moment(at, at + fault.seconds * stretch, fault.over * stretch, fault)


def _ramps(phases: Sequence[Phase], starts: Sequence[float], stretch: float) -> Iterable[Ramp]:
    for place, (phase, start) in enumerate(zip(phases, starts, strict=True)):
        ramp = phase.ramp
        if ramp is None and place == 0:
            ramp = min(FIRST_RAMP, phase.seconds)
        if ramp is not None:
            yield Ramp(start, ramp * stretch)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a publisher is when, and so when each of its items is due.

    An item has a nominal time: when it would be due if the factor were always 1. Nominal time runs as fast as the
    factor says, so that phases and spikes need no knowledge of what is published.

    Attributes:
        starts: When each factor begins to hold; the first is 0.
        factors: As many.
        nominal: Nominal time at each start.
    """

    starts: tuple[float, ...]
    factors: tuple[float, ...]
    nominal: tuple[float, ...]

    def passed(self, at: float) -> float:
        """Nominal time at a time of the run."""
        place = bisect_right(self.starts, at) - 1
        return self.nominal[place] + (at - self.starts[place]) * self.factors[place]

    def due(self, nominal: float) -> float:
        """When something of this nominal time is due; infinity if never."""
        place = bisect_right(self.nominal, nominal) - 1
        if not self.factors[place]:  # silent to the end
            return float("inf")
        return self.starts[place] + (nominal - self.nominal[place]) / self.factors[place]


def pace(scenario: Scenario, line: Timeline, publisher: str) -> Pace:
    """How fast a publisher is: the rates of the phases, times the spikes that concern it."""
    spikes = [
        moment
        for moment in line.moments
        if moment.fault.do == "spike" and {publisher, EVERYBODY} & {*moment.fault.names}
    ]
    edges = {0.0, *(span.start for span in line.phases)}
    edges |= {edge for spike in spikes for edge in (spike.at, spike.end)}
    starts = tuple(sorted(edge for edge in edges if edge <= line.seconds))
    rates = {phase.name: phase.rates.get(publisher, 1.0) for phase in scenario.phases}
    factors = []
    for start in starts:
        factor = rates[line.phase(start).name]
        for spike in spikes:
            if spike.at <= start < spike.end:
                factor *= spike.fault.factor
        factors.append(factor)
    steps = (
        (later - start) * factor
        for start, later, factor in zip(starts, starts[1:], factors, strict=False)
    )
    return Pace(starts, tuple(factors), tuple(accumulate(steps, initial=0.0)))
