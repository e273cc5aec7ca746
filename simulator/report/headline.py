"""The figures that a reader wants first. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from simulator.report import words
from simulator.report.figures import DAY, merged, of_best

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.results import Result


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure.

    Attributes:
        name: What it is.
        value: With its unit.
        more: What to know with it; may be "".
    """

    name: str
    value: str
    more: str


def headline(run: Result) -> Iterator[Fact]:
    """Yield the figures that were measured."""
    classes = len(run.classes)
    yield Fact("devices", words.count(run.devices), f"in {classes} classes" if classes > 1 else "")
    if run.items:
        (name, n), *rest = run.items.items()
        more = ", ".join(f"{words.count(number)} {what}" for what, number in rest[:3])
        yield Fact(f"items {name}", words.count(n), more)
    delay = merged(each.latency for each in run.classes)
    if delay.count:
        most = f"99 %: {words.seconds(delay.quantile(0.99))}"
        yield Fact("an item is there in", words.seconds(delay.quantile(0.5)), most)
    settling = merged(each.convergence for each in run.classes)
    if settling.count:
        most = f"99 %; all: {words.seconds(settling.largest)}"
        yield Fact("right windows after", words.seconds(settling.quantile(0.99)), most)
    watched = sum(each.device_seconds for each in run.classes)
    total = sum(each.down + each.up for each in run.classes)
    if watched > 0 and total:
        size = words.size(total / watched * DAY)
        yield Fact("bytes/device/day", size, "down and up, as the run went on")
    if run.drops:
        number = words.count(sum(run.drops.values()))
        yield Fact("dropped", number, f"for {reasons(len(run.drops))}")
    if run.truth is not None and isfinite(shown := of_best(run.truth.shown, run.truth)):
        newest = words.share(of_best(run.truth.newest, run.truth))
        yield Fact("of the best possible", words.share(shown), f"newest first: {newest}")


def reasons(n: int) -> str:
    """Return a number of reasons in words."""
    return "one reason" if n == 1 else f"{n} reasons"
