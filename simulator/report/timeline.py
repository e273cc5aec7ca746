"""What happened: phases and faults as a strip on top, and below it, over the same time, what was counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, isfinite
from typing import TYPE_CHECKING, Literal

from simulator.load import LEVELS
from simulator.report import words
from simulator.report.axes import end_labels
from simulator.report.theme import BLUE, DASHED, DOTTED, GREY, INK, ORANGE, WIDE, label, pens, svg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simulator.report.theme import Pen
    from simulator.results import Result, Series, Span

LEVEL = "overload level"
"""The series of what a server says of itself that tells what it gives up; see `simulator.load`."""
HELD = ("items held", "clients held", "publishers held")
"""Series of what waits in a server."""
PANELS = 14
"""Charts below each other; the JSON has all series."""
FAULTS = 40
"""Faults that are drawn; the list beside the picture has more."""
_POINTS = 800
"""Of a line; more are not seen."""
_COLOURS, _DASHES = (BLUE, ORANGE, GREY), ("-", DASHED, DOTTED)
_LANES = 6
_LETTER = 0.085
"""Inches of a letter, in the mean; text of a picture cannot be measured before it is drawn."""


@dataclass(frozen=True, slots=True)
class _Chart:
    """Series that belong together.

    Attributes:
        title: Above the chart.
        names: Of the series, the most important first.
        unit: Writes a value.
        steps: Names of the values from 0 on, where there are no others.
        sparse: A sample without a value means that nothing happened, and is no gap.
    """

    title: str
    names: tuple[str, ...]
    unit: Callable[[float], str]
    steps: tuple[str, ...] = ()
    sparse: bool = False


_CHARTS = (
    _Chart("devices connected", ("connected", "asleep", "dark"), words.count),
    _Chart("connections made per second", ("connects/s",), words.number),
    _Chart("items published per second", ("items/s",), words.number),
    _Chart("frames received per second", ("frames/s",), words.number),
    _Chart(
        "urgent items, from publisher to window",
        ("urgent p99", "urgent p50"),
        words.seconds,
        sparse=True,
    ),
    _Chart("level of overload", (LEVEL,), words.number, tuple(level.name for level in LEVELS)),
    _Chart("how late the server is", ("oldest item", "loop lag"), words.seconds),
    _Chart("what the server holds", HELD, words.count),
    _Chart("bytes over the air per second", ("bytes down/s", "bytes up/s"), words.size),
    _Chart("processor cores that the server keeps busy", ("server CPU",), words.number),
    _Chart("memory of the server", ("server memory",), words.size),
)


def timeline(said: str, runs: Sequence[Result]) -> str:
    """Draw one run, or two on each other; of two, phases and faults are those of the second."""
    charts = _charts(runs)[:PANELS]
    last = runs[-1]
    end = max(_end(run) for run in runs)
    lanes = _lanes(last.faults[:FAULTS], end)
    colour = ORANGE if len(runs) == 1 else GREY  # of two runs, orange is the first
    strip = 0.34 * (bool(last.phases) + (max(lanes) + 1 if lanes else 0))

    def draw(figure: Figure) -> None:
        heights = [*([strip] if strip else []), *[1.0] * len(charts)]
        axes = list(
            figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[
                :, 0
            ]
        )
        axes[0].set_xlim(0, end)
        if strip:
            _strip(axes[0], last, lanes, end, colour)
        for place, (chart, each) in enumerate(zip(charts, axes[bool(strip) :], strict=True)):
            _shade(each, last, colour)
            _chart(each, chart, runs)
            # An axis that others share is not labelled unless it is the lowest.
            each.tick_params(labelbottom=place == len(charts) - 1)
        axes[-1].xaxis.set_major_formatter(lambda value, _: words.clock(value))
        axes[-1].set_xlabel("time in the run, minutes:seconds")

    return svg(said, (WIDE, 0.7 + strip + 1.3 * len(charts)), draw)


def thinned(at: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the lowest and the highest value of each short stretch of time: no peak is lost, and no gap."""
    every = 2 * ceil(len(at) / _POINTS)
    if every <= 2:
        return list(at), list(values)
    kept: list[int] = []
    for start in range(0, len(at), every):
        stretch = range(start, min(start + every, len(at)))
        known = [i for i in stretch if isfinite(values[i])]
        if known:
            kept += sorted({min(known, key=values.__getitem__), max(known, key=values.__getitem__)})
        else:
            kept.append(start)
    return [at[i] for i in kept], [values[i] for i in kept]


def drawable(run: Result) -> bool:
    """Whether there is anything to draw of a run."""
    return bool(run.at) and any(isfinite(value) for each in run.series for value in each.values)


def _charts(runs: Sequence[Result]) -> list[_Chart]:
    """Return the charts that have values, and one for each series that none of ours is for.

    Of what is held and never was there is nothing to see.
    """
    known = {name for chart in _CHARTS for name in chart.names}
    found = dict.fromkeys(series.name for run in runs for series in run.series if _shows(series))
    others = [_Chart(name, (name,), words.number) for name in found if name not in known]
    return [chart for chart in (*_CHARTS, *others) if any(name in found for name in chart.names)]


def _end(run: Result) -> float:
    spans = (*run.phases, *run.faults)
    return max([1.0, run.seconds, *run.at[-1:], *(span.end for span in spans)])


def _chart(axes: Axes, chart: _Chart, runs: Sequence[Result]) -> None:
    """Draw one thing of each run; what is counted with it (up with down) in lines of another kind."""
    highest = 0.0
    ends: dict[str, tuple[float, str]] = {}
    several = len({series.name for run in runs for series in _named(run, chart.names)}) > 1
    for run, pen in zip(runs, pens(len(runs)), strict=True):
        for series in _named(run, chart.names):
            kind = chart.names.index(series.name)
            colour = _COLOURS[kind] if len(runs) == 1 else pen.colour
            at, values = run.at, series.values
            if chart.sparse:
                at, values = _known(at, values)
            _line(
                axes,
                chart,
                at,
                values,
                replace(pen, colour=colour, dashes=_DASHES[kind] if several else pen.dashes),
            )
            if len(runs) == 1 and not kind:
                _fill(axes, chart, at, values, colour)
            known = [value for value in values if isfinite(value)]
            highest = max([highest, *known])
            if known and (several or chart.names is HELD):
                ends[_short(series.name)] = (known[-1], colour if len(runs) == 1 else INK)
    title = chart.title.replace(" connected", "") if several else chart.title
    axes.set_title(label(title, 60), fontsize=10)
    _scale(axes, chart, highest)
    end_labels(axes, [(value, name, colour) for name, (value, colour) in ends.items()], 0.17)


def _line(
    axes: Axes, chart: _Chart, at: Sequence[float], values: Sequence[float], pen: Pen
) -> None:
    style = "steps-post" if chart.steps else "default"
    drawn = thinned(at, values)
    axes.plot(*drawn, color=pen.colour, linewidth=pen.width, linestyle=pen.dashes, drawstyle=style)


def _fill(
    axes: Axes, chart: _Chart, at: Sequence[float], values: Sequence[float], colour: str
) -> None:
    step: Literal["post"] | None = "post" if chart.steps else None
    axes.fill_between(*thinned(at, values), step=step, color=colour, alpha=0.1, linewidth=0)


def _scale(axes: Axes, chart: _Chart, highest: float) -> None:
    """Give the y axis its limits and ticks."""
    if chart.steps:
        axes.set_ylim(0, len(chart.steps) - 0.7)
        axes.set_yticks(range(len(chart.steps)), chart.steps, fontsize=8)
        return
    axes.set_ylim(0, highest * 1.12 or 1.0)
    axes.yaxis.set_major_formatter(lambda value, _: chart.unit(value))
    axes.locator_params(axis="y", nbins=4)


def _known(
    at: Sequence[float], values: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The samples that have a value."""
    known = [i for i, value in enumerate(values) if isfinite(value)]
    return tuple(at[i] for i in known), tuple(values[i] for i in known)


def _shows(series: Series) -> bool:
    """Whether there is anything to see of it."""
    return any(isfinite(value) and (value or series.name not in HELD) for value in series.values)


def _short(name: str) -> str:
    """What sets a series apart from the others of its chart."""
    for common in ("bytes ", "urgent "):
        name = name.removeprefix(common)
    for common in ("/s", " held"):
        name = name.removesuffix(common)
    return name


def _named(run: Result, names: tuple[str, ...]) -> list[Series]:
    """The series of these names in which there is anything to see."""
    return [
        series for name in names for series in run.series if series.name == name and _shows(series)
    ]


def _strip(axes: Axes, run: Result, lanes: Sequence[int], end: float, colour: str) -> None:
    """Draw phases as a row of boxes and faults as bars below, named where there is room."""
    axes.grid(visible=False)
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(labelbottom=False, length=0)
    inch = end / (WIDE - 1.2)
    for i, span in enumerate(run.phases):
        axes.barh(
            0, span.end - span.start, 0.78, span.start, color=INK, alpha=0.07 + 0.07 * (i % 2)
        )
        room = int((span.end - span.start) / inch / _LETTER)
        if room >= 3:
            middle = (span.start + span.end) / 2
            axes.text(middle, 0, label(span.name, room), ha="center", va="center", fontsize=9.5)
    above = bool(run.phases)
    for span, lane in zip(run.faults[:FAULTS], lanes, strict=True):
        y = above + lane
        width = max(span.end - span.start, 0.05 * inch)
        axes.barh(y, width, 0.5, span.start, color=colour)
        text = label(span.name)
        if span.start + width + len(text) * _LETTER * inch < end:
            axes.text(span.start + width + 0.06 * inch, y, text, va="center", fontsize=9.5)
        else:
            axes.text(span.start - 0.06 * inch, y, text, va="center", ha="right", fontsize=9.5)
    axes.set_ylim(above + (max(lanes) + 1 if lanes else 0) - 0.5, -0.5)


def _shade(axes: Axes, run: Result, colour: str) -> None:
    """Mark when faults were at work, and where phases begin."""
    for span in run.phases[1:]:
        axes.axvline(span.start, color=INK, alpha=0.25, linewidth=0.8)
    for span in run.faults[:FAULTS]:
        axes.axvspan(span.start, span.end, color=colour, alpha=0.13, linewidth=0)
        axes.axvline(span.start, color=colour, alpha=0.7, linewidth=0.9)


def _lanes(faults: Sequence[Span], end: float) -> list[int]:
    """Return a row for each fault such that neither bars nor their names lie on each other, as far as rows go."""
    letter = end / (WIDE - 1.2) * _LETTER
    free: list[float] = []
    found = []
    for span in faults:
        text = min(len(span.name), 32) * letter
        fits = span.end + text < end
        start, stop = (span.start, span.end + text) if fits else (span.start - text, span.end)
        lane = next((i for i, until in enumerate(free) if until <= start), len(free))
        if lane == len(free):
            free.append(0.0)
        lane = min(lane, _LANES - 1)
        free[lane] = max(free[lane], stop + letter)
        found.append(lane)
    return found
