"""Pictures of sums and of people, of one run or of two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.report import words
from simulator.report.axes import PANELS, class_axis, end_labels, figures, room
from simulator.report.theme import BLUE, DASHED, DOTTED, GREY, NARROW, ORANGE, WIDE, pens, svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from simulator.report.figures import Day
    from simulator.results import Truth


def per_day(said: str, names: Sequence[str], days: Sequence[tuple[Day, ...]]) -> str:
    """Draw bytes a device and day down and up, and beside them the energy if any was measured."""
    names, days = names[:PANELS], days[:PANELS]
    runs = len(days[0])
    energy = any(one.joules > 0 for each in days for one in each)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, 1 + energy, sharey=True, squeeze=False)[0]
        height = 0.62 / runs
        for i in range(runs):
            places = np.arange(len(names)) + (i - (runs - 1) / 2) * (height + 0.05)
            mine = [each[i] for each in days]
            faded = 1.0 if i == runs - 1 else 0.55
            down, up = (
                np.nan_to_num([getattr(day, way) for day in mine]) for way in ("down", "up")
            )
            grid[0].barh(places, down, height, color=BLUE, alpha=faded)
            grid[0].barh(places, up, height, left=down, color=ORANGE, alpha=faded)
            texts = [f"{words.size(day.bytes)}" for day in mine]
            figures(grid[0], places, down + up, texts)
            if energy:
                joules = np.nan_to_num([day.joules for day in mine])
                grid[1].barh(places, joules, height, color=GREY, alpha=faded)
                texts = [_lasting(day) for day in mine]
                figures(grid[1], places, joules, texts)
        grid[0].set(title="bytes per device and day: blue down, orange up")
        grid[0].xaxis.set_major_formatter(lambda value, _: words.size(value))
        room(grid[0], 1.24)
        if energy:
            grid[1].set(title="energy of the radio per device and day")
            grid[1].xaxis.set_major_formatter(lambda value, _: words.energy(value))
            room(grid[1], 1.55)
        class_axis(grid[0], names)
        for axes in grid:
            axes.locator_params(axis="x", nbins=5)

    return svg(
        said,
        (WIDE if energy else NARROW, 0.95 + (0.36 + 0.26 * (runs - 1)) * max(len(names), 2)),
        draw,
    )


def bars(said: str, reasons: Sequence[tuple[str, tuple[float, ...]]]) -> str:
    """Draw a bar for each named number, of each run."""
    runs = len(reasons[0][1])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        height = 0.62 / runs
        for i, pen in enumerate(pens(runs)):
            places = np.arange(len(reasons)) + (i - (runs - 1) / 2) * (height + 0.05)
            values = np.array([each[i] for _, each in reasons], dtype=np.float64)
            axes.barh(places, values, height, color=pen.colour)
            figures(axes, places, values, [words.count(value) for value in values])
        axes.xaxis.set_major_formatter(lambda value, _: words.count(value))
        axes.locator_params(axis="x", nbins=5, integer=True)
        room(axes, 1.2)
        class_axis(axes, [name for name, _ in reasons])

    return svg(said, (NARROW, 0.8 + 0.36 * max(len(reasons), 2)), draw)


def truth(said: str, runs: Sequence[Truth]) -> str:
    """Draw how many openings windows were good for over time, between the newest first and the best there is."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        ends: list[tuple[float, str, str]] = []
        for i, (run, pen) in enumerate(zip(runs, pens(len(runs)), strict=True)):
            which = "" if len(runs) == 1 else " AB"[1 + i] + ": "
            lines = (
                ("best possible", run.best, GREY if len(runs) == 1 else pen.colour, DOTTED),
                ("as shown", run.shown, pen.colour, "-"),
                ("newest first", run.newest, ORANGE if len(runs) == 1 else pen.colour, DASHED),
            )
            for name, values, colour, dashes in lines:
                width = 2.1 if name == "as shown" else 1.4
                axes.plot(run.at, values, color=colour, linestyle=dashes, linewidth=width)
                known = [value for value in values if np.isfinite(value)]
                if known:
                    ends.append((known[-1], which + name, colour))
        last = max([1.0, *(run.at[-1] for run in runs if run.at)])
        axes.set(ylabel="expected openings per window", ylim=(0, None), xlim=(0, last))
        axes.xaxis.set_major_formatter(lambda value, _: words.clock(value))
        axes.set_xlabel("time in the run, minutes:seconds")
        end_labels(axes, ends, 0.075)

    return svg(said, (WIDE, 3.4), draw)


def _lasting(day: Day) -> str:
    if not day.joules > 0:
        return words.NOTHING
    return f"{words.energy(day.joules)}, {words.seconds(day.battery_days * 86_400)} on a battery"
