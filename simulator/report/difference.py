"""What sets two runs apart, and what of it is more than chance. Pure.

Two runs cannot say how much a third would differ, so the noise is estimated from within each, and assumed:

- Values of one item on many devices, and of one device for many items, are no independent witnesses. A distribution
  counts as `n` independent values, n the smallest of: values, devices, and, for the time from publisher to window,
  items. The interval of a quantile is the one between order statistics (Conover 1999, section 3.2).
- A total over the devices of a class varies as the sum of as many independent devices whose standard deviation is
  their mean; a count of events, as Poisson's does, if that is more.
- A mean over time varies as the means of its eighths do (batch means; Law 2015, section 9.5.3).

Intervals of two runs become one of their ratio by MOVER (Zou and Donner 2008) on logarithms. Over all rows together
they hold with 95 % (Bonferroni), and no difference below `FLOOR`, or `BUSY`, is called one, whatever the counts say.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import exp, inf, isfinite, log, nan, sqrt
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING

from simulator.report import words
from simulator.report.figures import per_day

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from simulator.results import ClassResult, Distribution, Result

FLOOR = 0.05
"""The least relative difference that counts: the width of a bucket."""
BUSY = 0.25
"""The same for times and for the processor: what another program on the machine does to a run (the same scenario and
seed twice, once beside a test suite: half of all items after 33 ms, then after 40 ms)."""
LEVEL = 0.95
_BATCHES = 8
_CPU = "server: processor cores busy, mean"
_QUANTILES = (("half", 0.5), ("99 %", 0.99))
# Counts that are better low; of others it depends on what was wanted.
_FAULTS = (
    "losses",
    "resent",
    "crashes",
    "exhausted",
    "hellos",
    "stale",
    "oversize",
    "foreign",
    "gap",
    "impossible",
    "bad",
    "ignored",
    "lost",
    "refused",
    "rejected",
)


class Judgement(Enum):
    """What a difference means."""

    BETTER = "better"
    WORSE = "worse"
    DIFFERENT = "different"
    SAME = "within noise"
    UNKNOWN = "only one run"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of one run with its interval; NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of two runs.

    Attributes:
        where: The class, or "" for the whole run.
        what: The figure.
        a, b: Of the first and the second run.
        ratio: b / a with its interval, for all rows together.
        lower: Whether less is better; None: neither is.
        judgement: What that means for b.
        unit: Writes a value.
    """

    where: str
    what: str
    a: Estimate
    b: Estimate
    ratio: Estimate
    lower: bool | None
    judgement: Judgement
    unit: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure of a run before its interval is known: `at(z)` gives it at z standard deviations."""

    where: str
    what: str
    lower: bool | None
    unit: Callable[[float], str]
    at: Callable[[float], Estimate]

    @property
    def timed(self) -> bool:
        """Whether it depends on what else the machine did."""
        return self.unit is words.seconds or self.what == _CPU


def differences(a: Result, b: Result) -> list[Difference]:
    """Return every figure that either run has, in the order of the pages."""
    first = {(each.where, each.what): each for each in _figures(a)}
    second = {(each.where, each.what): each for each in _figures(b)}
    both = first.keys() & second.keys()
    z = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / max(len(both), 1))
    found = []
    for key in dict.fromkeys([*first, *second]):
        known = first.get(key) or second[key]
        left, right = (each[key].at(z) if key in each else _NONE for each in (first, second))
        ratio = _ratio(left, right)
        judgement = _judge(ratio, known) if key in both else Judgement.UNKNOWN
        found.append(
            Difference(
                known.where, known.what, left, right, ratio, known.lower, judgement, known.unit
            )
        )
    return found


def unlike(a: Result, b: Result) -> list[str]:
    """Return in what the two runs were not the same run, as sentences."""
    pairs = (
        ("scenario", a.scenario, b.scenario),
        ("seed", str(a.seed), str(b.seed)),
        ("devices", words.count(a.devices), words.count(b.devices)),
        ("server", a.server, b.server),
        ("version", a.version, b.version),
        ("machine", a.machine, b.machine),
    )
    said = [f"{name}: {one} against {other}" for name, one, other in pairs if one != other]
    ours, theirs = ({each.name for each in run.classes} for run in (a, b))
    said += [f"class {name} is in A alone" for name in sorted(ours - theirs)]
    said += [f"class {name} is in B alone" for name in sorted(theirs - ours)]
    if abs(a.seconds - b.seconds) > 0.1 * max(a.seconds, b.seconds):
        said.append(f"length: {words.seconds(a.seconds)} against {words.seconds(b.seconds)}")
    return said


def _figures(run: Result) -> Iterator[_Figure]:
    """Yield the figures of a run."""
    published = max(run.items.values(), default=0)
    for each in run.classes:
        yield from _of_class(each, published)
    if run.truth is not None:
        for name, values in (
            ("windows as shown", run.truth.shown),
            ("newest first", run.truth.newest),
        ):
            share = [_over(value, best) for value, best in zip(values, run.truth.best, strict=True)]
            if any(map(isfinite, share)):
                lower = False if name == "windows as shown" else None
                yield _Figure(
                    "", f"{name}, share of the best possible", lower, words.share, _batches(share)
                )
    for series, what, unit in (
        ("server CPU", _CPU, words.number),
        ("server memory", "server: memory, mean", words.size),
    ):
        for one in run.series:
            if one.name == series and any(map(isfinite, one.values)):
                yield _Figure("", what, True, unit, _batches(one.values))
    for name, n in run.drops.items():
        yield _Figure("", f"dropped: {name}", True, words.count, _events(n, run.devices))


def _of_class(each: ClassResult, items: int) -> Iterator[_Figure]:
    measures = (
        ("publisher to window", each.latency, items or each.devices),
        ("convergence", each.convergence, each.devices),
        ("wake-up", each.wake_up, each.devices),
        ("age of the newest item", each.freshness, each.devices),
    )
    for name, many, witnesses in measures:
        n = min(many.count, each.devices, witnesses)
        if n:
            for word, q in _QUANTILES:
                yield _Figure(each.name, f"{name}, {word}", True, words.seconds, _order(many, q, n))
    day = per_day(each)
    for what, value, unit in (
        ("bytes down a device and day", day.down, words.size),
        ("bytes up a device and day", day.up, words.size),
        ("energy a device and day", day.joules, words.energy),
    ):
        if value > 0:
            yield _Figure(each.name, what, True, unit, _total(value, each.devices))
    for name, n in each.counts.items():
        lower = True if any(word in name for word in _FAULTS) else None
        yield _Figure(
            each.name, name.replace("_", " "), lower, words.count, _events(n, each.devices)
        )


def _order(many: Distribution, q: float, n: int) -> Callable[[float], Estimate]:
    """Return a quantile with the interval between order statistics of n independent values."""

    def at(z: float) -> Estimate:
        wide = z * sqrt(q * (1 - q) / n)
        # Beyond the outermost of n values nothing is known: the interval is open there.
        low = _edge(many, q - wide) if q - wide > 1 / n else 0.0
        high = many.quantile(q + wide) if q + wide < 1 - 1 / n else None
        value = many.quantile(q)
        assert value is not None  # there are values: n is not 0
        return Estimate(value, min(low, value), inf if high is None else max(high, value))

    return at


def _edge(many: Distribution, q: float) -> float:
    """Return the lower end of the bucket in which a quantile is."""
    value = many.quantile(q) or 0.0
    return max((bound for bound in many.bounds if bound < value), default=0.0)


def _total(value: float, devices: int) -> Callable[[float], Estimate]:
    """Return a mean over devices, each of which varies by as much as the mean."""
    return lambda z: _spread(value, z / sqrt(devices) if devices else inf)


def _events(n: int, devices: int) -> Callable[[float], Estimate]:
    """Return a count, of which the standard deviation is that of Poisson's or of a sum over devices."""

    def at(z: float) -> Estimate:
        if not n:
            # No event in a run: as many as that are credible, at this level (the rule of three, made exact).
            return Estimate(0.0, 0.0, -log(NormalDist().cdf(-z)))
        return _spread(float(n), z * max(1 / sqrt(n), 1 / sqrt(devices) if devices else inf))

    return at


def _batches(values: Sequence[float]) -> Callable[[float], Estimate]:
    """Return the mean over time, its interval from the means of stretches of it."""
    known = [value for value in values if isfinite(value)]
    value = fmean(known)
    size = len(known) // _BATCHES
    means = [fmean(known[i * size : (i + 1) * size]) for i in range(_BATCHES)] if size else []

    def at(z: float) -> Estimate:
        if not means:
            return Estimate(value, 0.0, inf)
        wide = _student(z, _BATCHES - 1) * stdev(means) / sqrt(_BATCHES)
        return Estimate(value, max(value - wide, 0.0), value + wide)

    return at


def _student(z: float, freedom: int) -> float:
    """Return the quantile of Student's t at the level of a normal one (Abramowitz and Stegun, 26.7.5)."""
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / freedom + g2 / freedom**2 + g3 / freedom**3


def _spread(value: float, relative: float) -> Estimate:
    """Return a value with an interval that is symmetric on a logarithmic scale."""
    factor = exp(min(relative, 50.0))
    return Estimate(value, value / factor, value * factor)


def _ratio(a: Estimate, b: Estimate) -> Estimate:
    """Return b / a with its interval: MOVER on logarithms."""
    if a.value == b.value == 0:
        return Estimate(1.0, 0.0, inf)
    if not (isfinite(a.value) and isfinite(b.value)):
        return _NONE
    if a.value == 0 or b.value == 0:
        # Logarithms end at 0: a bound by the outermost values is all that is left.
        return Estimate(_over(b.value, a.value), _over(b.low, a.high), _over(b.high, a.low))
    log_ratio = log(b.value / a.value)
    below = sqrt(log(b.value / b.low) ** 2 + log(a.high / a.value) ** 2) if b.low > 0 else inf
    above = sqrt(log(b.high / b.value) ** 2 + log(a.value / a.low) ** 2) if a.low > 0 else inf
    return Estimate(
        exp(log_ratio), exp(log_ratio - below), exp(log_ratio + above) if above < inf else inf
    )


def _judge(ratio: Estimate, found: _Figure) -> Judgement:
    floor = BUSY if found.timed else FLOOR
    near = abs(log(ratio.value)) < log(1 + floor) if 0 < ratio.value < inf else False
    if near or not isfinite(ratio.low) or ratio.low <= 1 <= ratio.high:
        return Judgement.SAME
    if found.lower is None:
        return Judgement.DIFFERENT
    return Judgement.BETTER if (ratio.value < 1) == found.lower else Judgement.WORSE


def _over(value: float, by: float) -> float:
    """Return a quotient of values that are not negative; NaN where it could be anything."""
    if by == 0:
        return inf if value > 0 else nan
    return value / by


_NONE = Estimate(nan, nan, nan)
