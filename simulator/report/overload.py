"""What a server under too much gave up and when, and what urgent items felt of it. Each returns HTML, "" without any."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from simulator.load import LEVELS, Stretch, recovered_after, stretches
from simulator.report import markup, words
from simulator.report.distributions import QUANTILES, Row, ranges
from simulator.report.headline import Fact
from simulator.report.timeline import HELD, LEVEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from simulator.results import Result

_STRETCHES = 30
"""Of the table; the picture has all."""


def facts(run: Result) -> Iterator[Fact]:
    """Yield the figures that a reader wants first, as far as they are known."""
    slowest = max(run.stages, key=lambda each: each.urgent.quantile(0.99) or 0.0, default=None)
    if slowest is not None and slowest.urgent.count:
        value = words.seconds(slowest.urgent.quantile(0.99))
        yield Fact("urgent items, 99 %", value, f"at worst, in '{slowest.name}'")
    highest = _highest(run)
    if highest is not None:
        yield Fact(
            "overload, at most", LEVELS[highest].name, f"level {highest}{_again(run, highest)}"
        )


def section(run: Result) -> str:
    """Return what the server gave up, stretch by stretch, and how long urgent items took in each phase."""
    parts = [_urgent(run), _given_up(run)]
    return markup.heading("Under load") + "".join(parts) if any(parts) else ""


def _urgent(run: Result) -> str:
    rows = [Row(each.name, (each.urgent,)) for each in run.stages if each.urgent.count]
    if not rows:
        return ""
    slowest = max(rows, key=lambda row: row.many[0].quantile(0.99) or 0.0)
    title = f"99 % of urgent items were in their windows within {words.seconds(slowest.many[0].quantile(0.99))}"
    title += f" in the slowest phase, {slowest.name}" if len(rows) > 1 else ""
    caption = (
        "Time from publishing an urgent item to the windows of the judged devices that were connected then, by the "
        "phase in which it was published. Dot: half of all values are no longer. Ring: 90 %. Bar: 99 %."
    )
    said = "; ".join(
        f"{row.name}: 99 % {words.seconds(row.many[0].quantile(0.99))}" for row in rows
    )
    lines = [
        markup.cells(
            row.name,
            words.count(row.many[0].count),
            *(words.seconds(row.many[0].quantile(q)) for q in QUANTILES),
            words.seconds(row.many[0].largest),
        )
        for row in rows
    ]
    table = markup.table(("published in", "arrivals", "p50", "p90", "p99", "most"), lines)
    drawn = markup.figure(title, caption, ranges(f"{title}. {said}", [("urgent items", rows)]))
    return markup.pair((drawn, table))


def _given_up(run: Result) -> str:
    highest = _highest(run)
    if highest is None:
        return ""
    found = stretches(run.at, _values(run, LEVEL))
    if not highest:
        held = _held(run, Stretch(0, run.at[0], run.at[-1]))
        waited = "" if held == words.NOTHING else f" Waiting, at most: {held}."
        return markup.text(f"The level of overload was 0 all the time, as the server said.{waited}")
    busy = sum(each.end - each.start for each in found if each.level)
    said = (
        f"The server gave something up for {words.seconds(busy)} of {words.seconds(run.seconds)}, to level {highest} "
        f"of {len(LEVELS) - 1}{_again(run, highest)}. Each level also gives up what those before it do."
    )
    rows = [_row(run, each) for each in found[:_STRETCHES]]
    head = ("level", "", "gave up", "from", "lasted", "most held")
    more = len(found) - _STRETCHES
    rest = (
        markup.text(f"… and {more} changes more, which the picture above has.", "faint")
        if more > 0
        else ""
    )
    return markup.text(said) + markup.table(head, rows, names=(1,), prose=(2,)) + rest


def _row(run: Result, found: Stretch) -> list[str]:
    level = LEVELS[min(found.level, len(LEVELS) - 1)]  # of a later version there may be more
    return markup.cells(
        str(found.level),
        level.name,
        level.gives_up,
        words.clock(found.start),
        words.seconds(found.end - found.start),
        _held(run, found),
    )


def _held(run: Result, found: Stretch) -> str:
    """What waited in a stretch, at most."""
    said = []
    for name in HELD:
        within = [
            value
            for at, value in zip(run.at, _values(run, name), strict=False)
            if found.start <= at <= found.end and isfinite(value)
        ]
        if any(within):
            most, what = max(within), name.removesuffix(" held")
            said.append(f"{words.count(most)} {what.removesuffix('s') if most == 1 else what}")
    return ", ".join(said) or words.NOTHING


def _again(run: Result, highest: int) -> str:
    """When it was at level 0 again, as the end of a sentence; "" where nothing went wrong, or nothing was given up."""
    if not highest or not run.faults:
        return ""
    over = max(span.end for span in run.faults)
    given_up = [
        sum(each) for each in zip(*(_values(run, name) for name in (LEVEL, *HELD)), strict=False)
    ]
    after = recovered_after(run.at, given_up, over)
    return (
        f"; normal again {words.seconds(after)} after the last fault"
        if after is not None
        else "; not normal again"
    )


def _highest(run: Result) -> int | None:
    known = [int(value) for value in _values(run, LEVEL) if isfinite(value)]
    return min(max(known), len(LEVELS) - 1) if known else None


def _values(run: Result, name: str) -> Sequence[float]:
    return next((series.values for series in run.series if series.name == name), ())
