"""Pictures of how long things take: a panel or a row for each class, in one run or in two.

Classes are never colours of one picture: twelve lines on each other tell nobody anything. Colours set two runs apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log10
from typing import TYPE_CHECKING

from simulator.report import words
from simulator.report.axes import PANELS, class_axis, seconds_axis
from simulator.report.figures import reached
from simulator.report.theme import FAINT, INK, NARROW, WIDE, label, pens, svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simulator.report.theme import Pen
    from simulator.results import Distribution

QUANTILES = (0.5, 0.9, 0.99)
_SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
_GHOST = 30
"""Points of a curve in the background."""
_INSTANT = 1e-3
"""Seconds: what is shorter is drawn as this long. A logarithm knows no nothing, and no network is faster."""


@dataclass(frozen=True, slots=True)
class Row:
    """One class in a picture.

    Attributes:
        name: Of the class.
        many: Its values, of each run.
    """

    name: str
    many: tuple[Distribution, ...]


def latency(said: str, rows: Sequence[Row]) -> str:
    """Draw the share of all values that came within each time, a panel for each class that has any."""
    rows = [row for row in rows if any(one.count for one in row.many)][:PANELS]
    low, high = _span(rows)
    low /= len(rows[0].many)  # figures of a second run stand on the left, too
    columns = _columns(len(rows))
    height = ceil(len(rows) / columns) * (2.35 if columns > 1 else 3.0) + 0.45
    top = max(_nines(reached(one)[1][-1]) for row in rows for one in row.many if one.count)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(
            *(ceil(len(rows) / columns), columns), sharex=True, sharey=True, squeeze=False
        )
        for place, axes in enumerate(grid.flat):
            if place >= len(rows):
                axes.set_axis_off()
                continue
            if len(rows[place].many) == 1:
                for other in rows[:place] + rows[place + 1 :]:
                    _ghost(axes, other.many[0])
            _panel(axes, rows[place], (low, high))
            # An axis that has none below it shows its ticks itself.
            axes.tick_params(labelbottom=place + columns >= len(rows))
        ticks = [share for share in _SHARES if _nines(share) <= top + 0.3]
        first = grid[0, 0]
        first.set_xscale("log")
        first.set_xlim(low, high)
        first.set_ylim(0, top + 0.25)
        first.set_yticks(
            [_nines(share) for share in ticks], [f"{100 * share:g} %" for share in ticks]
        )
        seconds_axis(first, low, high, crowded=columns > 2)
        figure.supylabel("share that took no longer", fontsize=10.5)

    return svg(said, (WIDE if columns > 1 else NARROW, height), draw)


def ranges(said: str, measures: Sequence[tuple[str, Sequence[Row]]]) -> str:
    """Draw the half, 90 % and 99 % of each class as a row of marks, a panel for each measure that has values."""
    measures = [(title, rows) for title, rows in measures if any(_measured(row) for row in rows)]
    names = [row.name for row in measures[0][1] if any(_of(rows, row.name) for _, rows in measures)]
    names = names[:PANELS]
    runs = len(measures[0][1][0].many)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, len(measures), sharey=True, squeeze=False)
        for axes, (title, rows) in zip(grid[0], measures, strict=True):
            axes.set_title(title)
            kept = [row for row in rows if row.name in names]
            low, high = _room_for_marks(kept, 0.24 if len(measures) > 2 else 0.17)
            axes.set_xscale("log")
            for i, pen in enumerate(pens(runs)):
                offset = 0.0 if runs == 1 else (i - 0.5) * 0.42
                for y, row in enumerate(kept):
                    _marks(axes, row.many[i], y + offset, pen)
            axes.set_xlim(low, high)
            seconds_axis(axes, low, high, crowded=len(measures) > 2)
        class_axis(grid[0, 0], names)

    width = WIDE if len(measures) > 1 else NARROW
    return svg(said, (width, 0.95 + (0.36 if runs == 1 else 0.62) * max(len(names), 2)), draw)


def _panel(axes: Axes, row: Row, limits: tuple[float, float]) -> None:
    """Draw one class: its curve of each run, and where half, 90 % and 99 % are."""
    axes.set_title(label(row.name))
    places = [[one.quantile(q) for one in row.many] for q in QUANTILES]
    for i, (one, pen) in enumerate(zip(row.many, pens(len(row.many)), strict=True)):
        _curve(axes, one, pen)
        for q, found in zip(QUANTILES, places, strict=True):
            value = found[i]
            if value is None or one.count * (1 - q) < 1:
                continue  # of 50 values none is the 99th of 100
            others = [other for j, other in enumerate(found) if j != i and other is not None]
            # The curve rises to the right: below right of a point there is room. So there is above left of the
            # faster run's.
            left = (
                _far(value, limits)
                if not others
                else value < others[0] or (value == others[0] and i == 0)
            )
            axes.plot([max(value, _INSTANT)], [_nines(q)], "o", color=pen.colour, markersize=4.5)
            axes.annotate(
                *(words.seconds(value), (max(value, _INSTANT), _nines(q))),
                xytext=(-5, 2) if left else (5, -2),
                textcoords="offset points",
                ha="right" if left else "left",
                va="bottom" if left else "top",
                color=pen.colour,
                fontsize=9.5,
                annotation_clip=False,
            )


def _curve(axes: Axes, many: Distribution, pen: Pen) -> None:
    """Draw a distribution function."""
    values, shares = reached(many)
    if not values:
        return
    x = [max(value, _INSTANT) for value in values]
    y = [_nines(share) for share in shares]
    axes.plot(
        *([x[0], *x], [0.0, *y]),
        drawstyle="steps-post",
        color=pen.colour,
        linewidth=pen.width,
        linestyle=pen.dashes,
    )


def _ghost(axes: Axes, many: Distribution) -> None:
    """Draw what is there to compare with, in few points: there are many of these."""
    values, shares = reached(many)
    every = ceil(len(values) / _GHOST)
    x = [max(value, _INSTANT) for value in (*values[:-1:every], values[-1])]
    axes.plot(
        x, [_nines(share) for share in (*shares[:-1:every], shares[-1])], color=FAINT, linewidth=1.0
    )


def _marks(axes: Axes, many: Distribution, y: float, pen: Pen) -> None:
    """Draw half (a dot), 90 % (a ring) and 99 % (a bar) of one class and run."""
    found = [value for q in QUANTILES if (value := many.quantile(q)) is not None]
    if not found:
        return
    half, most, nearly = (max(value, _INSTANT) for value in found)
    axes.plot([half, nearly], [y, y], color=pen.colour, linewidth=1.6)
    axes.plot([half], [y], "o", color=pen.colour, markersize=6)
    axes.plot([most], [y], "o", color=pen.colour, markersize=5, fillstyle="none")
    axes.plot([nearly], [y], "|", color=pen.colour, markersize=11, markeredgewidth=2)
    for value, x, ha, gap in ((found[0], half, "right", -7), (found[-1], nearly, "left", 6)):
        axes.annotate(
            *(words.seconds(value), (x, y)),
            xytext=(gap, 0),
            textcoords="offset points",
            ha=ha,
            va="center",
            fontsize=9.5,
            color=INK,
        )


def _span(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the ends of a logarithmic axis for all values, but for the fastest thousandth."""
    many = [one for row in rows for one in row.many if one.count]
    low = min(one.quantile(0.001) or _INSTANT for one in many)
    high = max(one.largest for one in many)
    low = max(min(low, high), _INSTANT)
    # A picture of times that hardly differ is no picture of one point.
    return low / 1.25, max(high, low * 4) * 1.25


def _room_for_marks(rows: Sequence[Row], share: float) -> tuple[float, float]:
    """Return the ends of a logarithmic axis that leaves a share of itself free for figures on either side."""
    many = [one for row in rows for one in row.many if one.count]
    low = max(min(one.quantile(QUANTILES[0]) or 0.0 for one in many), _INSTANT)
    high = max(one.quantile(QUANTILES[-1]) or 0.0 for one in many)
    middle, ratio = (low * max(high, low)) ** 0.5, max(high / low, 3.0)
    half = ratio ** (0.5 / (1 - 2 * share))
    return middle / half, middle * half


def _far(value: float, limits: tuple[float, float]) -> bool:
    low, high = limits
    return log10(max(value, _INSTANT) / low) > 0.72 * log10(high / low)


def _nines(share: float) -> float:
    """Return the place of a share on an axis where 90 %, 99 % and 99.9 % are equally far apart."""
    return -log10(1 - share)


def _columns(panels: int) -> int:
    return panels if panels <= 4 else 3 if panels in (5, 6, 9) else 4


def _measured(row: Row) -> bool:
    return any(one.count for one in row.many)


def _of(rows: Sequence[Row], name: str) -> bool:
    return any(_measured(row) for row in rows if row.name == name)
