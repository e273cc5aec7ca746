"""Axes and labels that several pictures have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.report import words
from simulator.report.theme import label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

PANELS = 24
"""Classes in one picture; the tables have all."""
_TICKS = (1e-3, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 604_800.0)
_BETWEEN = (3e-3, 0.03, 0.3, 3.0, 30.0, 180.0, 1800.0, 10_800.0, 43_200.0, 259_200.0)


def class_axis(axes: Axes, names: Sequence[str]) -> None:
    """Make the y axis one of names, the first on top."""
    axes.set_yticks(range(len(names)), [label(name, 26) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    for each in axes.figure.axes:
        each.grid(visible=False, axis="y")
        each.tick_params(axis="y", length=0)
        each.spines["left"].set_visible(False)


def seconds_axis(axes: Axes, low: float, high: float, *, crowded: bool) -> None:
    """Give a logarithmic x axis the ticks that people count time in."""
    from matplotlib.ticker import NullLocator  # noqa: PLC0415 - only where it draws

    ticks = [tick for tick in _TICKS if low <= tick <= high]
    if len(ticks) < 3:
        ticks = [tick for tick in sorted((*_TICKS, *_BETWEEN)) if low <= tick <= high]
    if len(ticks) > (5 if crowded else 9):
        ticks = ticks[len(ticks) % 2 :: 2]
    axes.set_xticks(ticks, [words.seconds(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def figures(axes: Axes, places: Any, ends: Any, texts: Sequence[str]) -> None:
    """Write a figure behind each bar."""
    for place, end, text in zip(places, ends, texts, strict=True):
        axes.annotate(
            *(text, (float(end), float(place))),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
        )


def room(axes: Axes, times: float) -> None:
    """Leave room for figures behind the longest bar."""
    high = max((patch.get_x() + patch.get_width() for patch in axes.patches), default=1.0)  # type: ignore[attr-defined]
    axes.set_xlim(0, (high or 1.0) * times)


def end_labels(axes: Axes, ends: Sequence[tuple[float, str, str]], apart: float) -> None:
    """Write names right of where lines end.

    Args:
        axes: with its final limits.
        ends: last value, name and colour of each line.
        apart: share of the axis that a name takes.
    """
    low, high = axes.get_ylim()
    place = low - high
    for value, name, colour in sorted(ends):
        place = max(value, place + apart * (high - low))
        axes.annotate(
            *(label(name), (1.0, place)),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,
        )
