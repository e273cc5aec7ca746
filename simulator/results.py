"""What came of a simulation: plain values, written as JSON and read back; the report draws nothing else.

Durations are seconds, sizes bytes as a modem counts them, energy joules. Times within a run are seconds from
its start. Everything that a run measured stands here; nothing is computed from the scenario alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FORM = 1
"""Of the JSON; a reader refuses another."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Many values of one kind, in buckets.

    Attributes:
        bounds: Upper bounds of the buckets, rising.
        counts: How many values each holds.
        count: How many there are.
        total: Their sum.
        largest: The largest; 0 without any.
    """

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    count: int = 0
    total: float = 0.0
    largest: float = 0.0

    @property
    def mean(self) -> float | None:
        """Their mean; None without any."""
        return self.total / self.count if self.count else None

    def quantile(self, q: float) -> float | None:
        """The value that a share `q` of all does not exceed, to the width of a bucket; None without any."""
        left = q * self.count
        for bound, count in zip(self.bounds, self.counts, strict=True):
            left -= count
            if left <= 0 and self.count:
                return min(bound, self.largest)
        return self.largest if self.count else None


@dataclass(frozen=True, slots=True)
class Span:
    """A phase of a run, or the time that a fault was at work.

    Attributes:
        name: Of the phase; of the fault, what it did and to whom.
        start, end: Seconds from the start of the run.
    """

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class ClassResult:
    """What one class of devices saw.

    Attributes:
        name: Of the class.
        devices: How many there are.
        link: Name of its link profile.
        latency: Seconds from publishing an item to the frame that put it into a window.
        convergence: Seconds from the moment when everything was said until a device had its window; one value per
            device and rest.
        freshness: Seconds since publication of the newest item in a window, sampled over time.
        wake_up: Seconds from a connection's start to the first window that was right for it.
        down, up: Bytes over the air, all devices.
        packets_down, packets_up: TCP segments over the air, all devices.
        messages_down, messages_up: MQTT PUBLISH packets.
        joules: Energy of the radio, all devices.
        device_seconds: Simulated seconds times devices: what `down`, `up`, `joules` are to be divided by.
        exhausted: Devices whose battery of messages was used up.
        counts: Connects, losses, hellos, snapshots, deltas, puts, removes, moves, stale frames and the like.
    """

    name: str
    devices: int
    link: str
    latency: Distribution = Distribution()
    convergence: Distribution = Distribution()
    freshness: Distribution = Distribution()
    wake_up: Distribution = Distribution()
    down: int = 0
    up: int = 0
    packets_down: int = 0
    packets_up: int = 0
    messages_down: int = 0
    messages_up: int = 0
    joules: float = 0.0
    device_seconds: float = 0.0
    exhausted: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Truth:
    """How good the windows were for the people in front of them, by the true model of these people.

    Attributes:
        at: Seconds from the start of the run, of each sample.
        shown: Expected openings per window as it was shown, mean over devices, at these times.
        best: The same for the best window that anybody who knew the people could have made.
        newest: The same for the newest items first.
        shows, opens, dismissals: What people did.
    """

    at: tuple[float, ...] = ()
    shown: tuple[float, ...] = ()
    best: tuple[float, ...] = ()
    newest: tuple[float, ...] = ()
    shows: int = 0
    opens: int = 0
    dismissals: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """A phase, for those who were not to feel what went wrong in it.

    Attributes:
        name: Of the phase.
        urgent: Seconds from publishing an urgent item in it to the windows of those who were connected.
    """

    name: str
    urgent: Distribution = Distribution()


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise or an expectation that was not kept.

    Attributes:
        promise: G1 to G6, "wire", "server", or the name of an expectation of the scenario.
        sentence: What happened.
        evidence: Lines that show it.
    """

    promise: str
    sentence: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict.

    Attributes:
        name: "G1" to "G6", or an expectation of the scenario.
        text: What was looked at, with its figures.
        ok: Whether it held; None: could not be looked at (`text` says why).
    """

    name: str
    text: str
    ok: bool | None


@dataclass(frozen=True, slots=True)
class Series:
    """One thing over time, for the charts; `at` of all series of a run is the same.

    Attributes:
        name: What it is: "connected", "connects/s", "frames/s", "items/s", "bytes down/s", "bytes up/s", "server CPU"
            (cores busy), "server memory" (bytes), "urgent p50" and "urgent p99" (seconds, of urgent items that arrived
            since the sample before); of what the server says of itself "overload level" (see `simulator.load`),
            "loop lag" and "oldest item" (seconds), "items held", "clients held", "publishers held". Others are drawn
            below these.
        values: One per time; NaN where it is not known.
    """

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """A whole run.

    Attributes:
        scenario: Its name.
        about: What it is to show, in a sentence or two.
        seed: Of everything drawn.
        started: Unix seconds.
        seconds: How long it took.
        devices: How many there were.
        server: What it ran against, in words.
        version: Of fleetfeed.
        phases, faults: What happened when.
        classes: What devices saw, by class.
        at: Times of the samples in `series`.
        series: Over time.
        items: Items published, acknowledged, lost, by name.
        drops: What the server did not carry out, by reason; empty where it cannot be asked.
        truth: How good the windows were; None without people.
        stages: How long urgent items took, by phase; phases without any are left out.
        checks: The verdict, line by line.
        broken: What contradicts the promises; the run failed if there is any, or a check that is False.
        notes: What a reader must know: what could not be measured or reached, and why.
        command: The command line that does the same again; "" if there is none.
        machine: Where it ran, in words: processor, cores, system.
        complete: Whether it came to its end; a run that was interrupted proves nothing.
    """

    scenario: str
    about: str
    seed: int
    started: float
    seconds: float
    devices: int
    server: str
    version: str
    phases: tuple[Span, ...] = ()
    faults: tuple[Span, ...] = ()
    classes: tuple[ClassResult, ...] = ()
    at: tuple[float, ...] = ()
    series: tuple[Series, ...] = ()
    items: Mapping[str, int] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    truth: Truth | None = None
    stages: tuple[Stage, ...] = ()
    checks: tuple[Check, ...] = ()
    broken: tuple[Broken, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""
    machine: str = ""
    complete: bool = True

    @property
    def ok(self) -> bool:
        """Whether everything held that could be looked at."""
        return not self.broken and not any(check.ok is False for check in self.checks)
