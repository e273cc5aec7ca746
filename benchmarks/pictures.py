"""The figures of docs/ranking.md.

`python -m benchmarks.pictures [--kuairand FILE] [--out docs]`

Calibration and learning curve come from the KuaiRand log (Gao et al., CIKM 2022, arXiv 2208.08696; CC
BY-SA 4.0), which is not shipped: docs/ranking.md says where it is. Without its path these two stay as
they are. Exposure against merit and the drift episode come from simulated people, whose true
interests are known.
"""

from __future__ import annotations

import csv
import gzip
import math
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feedgen.evaluate import curves, event_ranker, plots, progressive
from feedgen.evaluate.baselines import Newest, Popularity
from feedgen.evaluate.bootstrap import RESAMPLES, Draws
from tests.world.episodes import CHANGE, fairness
from tests.world.episodes import drift as episode
from tests.world.measures import SEEDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from feedgen.evaluate.events import Event
    from tests.world.episodes import Series

    Floats = NDArray[np.float64]

_CARD = "#ffffff", "#14181d"
"""Ground, on a light and on a dark screen."""
_FONT = "font-family:system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif!important"
_FAIR = 0.8, 1.25
RUNGS = ("live", "snapshot", "popularity", "newest")


# ---- The log


def kuairand(path: Path, outcome: str = "long_view") -> list[tuple[Event, int]]:
    """Return the liked rows of a KuaiRand table as impressions, as docs/ranking.md converts them."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["label"] == "1"]
    rows.sort(key=lambda row: int(row["time_ms"]))
    return [(_impression(row), int(row[outcome])) for row in rows]


def _impression(row: dict[str, str]) -> Event:
    t = int(row["time_ms"]) / 1000
    at = datetime.fromtimestamp(t, UTC)
    duration = int(2 * math.log2(1 + int(row["duration_ms"]) / 1000))
    return {
        "t": t,
        "device": row["user_id"],
        "item": row["video_id"],
        "list": f"{row['user_id']}/{at:%Y-%m-%d}",
        "device_fields": {},
        "item_fields": {"duration": str(duration)},
        "context": {"hour": str(at.hour), "weekday": str(at.weekday()), "part": str(at.hour // 6)},
    }


def from_the_log(path: Path) -> dict[str, str]:
    """Return the pictures of a log, by name."""
    rankers = {"learned": event_ranker(), "popularity": Popularity(), "newest": Newest()}
    run = progressive.run(kuairand(path), rankers)
    judged = slice(run.judged, None)
    draws = Draws.of(run.device[judged], RESAMPLES, 0)
    bins = curves.calibration(run.y[judged], run.predictions["learned"][judged], draws)
    return {
        "calibration": plots.calibration(run, bins, "learned"),
        "learning": plots.learning(run, list(rankers)),
    }


# ---- Simulated people


def exposure(found: Series) -> str:
    """Draw shares of exposure against shares of merit, without and with a correction.

    Args:
        found: several of `tests.world.episodes.fairness`, one after the other.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        merit, plain, balanced = (
            100 * found[name] for name in ("merit", "exposure_uncorrected", "exposure_corrected")
        )
        high = 1.08 * max(float(each.max()) for each in (merit, plain, balanced))
        ends = np.array([0.0, high])
        axes.fill_between(
            *(ends, _FAIR[0] * ends, _FAIR[1] * ends),
            color=plots.INK,
            alpha=0.07,
            linewidth=0,
        )
        axes.plot(ends, ends, color=plots.INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.vlines(merit, plain, balanced, color=plots.FAINT, linewidth=1.6)
        axes.plot(merit, plain, "o", color=plots.SERIES[2], label="ranked by value alone")
        axes.plot(merit, balanced, "o", color=plots.SERIES[0], label="balanced")
        axes.set(
            *(),
            xlabel="share of merit, %",
            ylabel="share of impressions, %",
            xlim=(0, high),
            ylim=(0, high),
        )
        axes.legend(loc="upper left")

    return picture("exposure", (6.2, 4.8), draw)


def drift(made: Sequence[Series]) -> str:
    """Draw what was missed before, in and after a change, and which rung served, over some worlds.

    Args:
        made: each by `tests.world.episodes.drift`.
    """
    hours = made[0]["hours"]
    rungs = np.stack([each["rung"] for each in made])
    colours = (plots.SERIES[0], plots.SERIES[4], plots.SERIES[1], plots.SERIES[2])

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(5, 3))
        for colour, name, label in (
            (plots.SERIES[1], "popularity", "popularity alone"),
            (plots.SERIES[0], "missed", "as the ladder serves"),
        ):
            missed = _smooth(np.mean([each[name] for each in made], axis=0))
            upper.plot(hours, 100 * missed, color=colour, label=label)
        upper.set(ylabel="possible opens missed, %")
        figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        shares = [100 * np.mean(rungs == place, axis=0) for place in range(len(RUNGS))]
        lower.stackplot(hours, shares, labels=RUNGS, colors=colours, step="post", alpha=0.85)
        lower.set(xlabel="hours", ylabel="worlds served by, %", ylim=(0, 100))
        lower.set_xlim(hours[0], hours[-1])
        for axes in (upper, lower):
            axes.axvline(hours[CHANGE], color=plots.INK, linewidth=1.2, linestyle=(0, (4, 3)))
        used = [place for place, share in enumerate(shares) if share.any()]
        handles, labels = lower.get_legend_handles_labels()
        figure.legend(
            [handles[place] for place in used],
            [labels[place] for place in used],
            loc="outside lower center",
            ncols=len(used),
        )

    return picture("drift", (6.2, 5.2), draw)


def _smooth(values: Floats) -> Floats:
    """Return the means of each value and those before it, up to an hour's."""
    return np.array([values[max(0, at - 5) : at + 1].mean() for at in range(len(values))])


def from_people() -> dict[str, str]:
    """Return the pictures of simulated people, by name."""
    made = [fairness(seed) for seed in SEEDS[:3]]
    every = {name: np.concatenate([each[name] for each in made]) for name in made[0]}
    return {
        "exposure": exposure(every),
        "drift": drift([episode(seed) for seed in SEEDS]),
    }


# ---- Files


def picture(name: str, size: tuple[float, float], draw: object) -> str:
    """Return what `draw` makes of a figure, in the style of the evaluation's pictures."""
    return plots._svg(name, size, draw)  # noqa: SLF001 - one style for all pictures


def alone(svg: str) -> str:
    """Return a picture as a file of its own: on a ground, in its light colours, or in its dark ones.

    Not by CSS variables, as in a page: viewers that do not know them would draw all in black.
    """
    light = (*plots.SERIES, plots.INK, plots.FAINT)
    dark = (*plots.SERIES_DARK, plots.INK_DARK, plots.FAINT_DARK)
    for colour in light:
        before, _, after = svg.partition(f", {colour})")
        while after:
            svg = before[: before.rindex("var(")] + colour + after
            before, _, after = svg.partition(f", {colour})")
    rules = "".join(
        f'[style*="{what}: {one}"]{{{what}:{other}!important}}'
        for one, other in zip(light, dark, strict=True)
        for what in ("fill", "stroke")
    )
    style = (
        f"<style>#card{{fill:{_CARD[0]}}}text{{{_FONT}}}@media (prefers-color-scheme:dark)"
        f"{{#card{{fill:{_CARD[1]}}}text{{fill:{plots.INK_DARK}!important}}{rules}}}</style>"
        '<rect id="card" width="100%" height="100%" rx="6"/>'
    )
    head, _, rest = svg.partition(">")
    return f"{head}>{style}{rest}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kuairand", type=Path, help="the log's table, tab-separated, plain or gzip"
    )
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args(arguments)
    pictures = from_people()
    if options.kuairand is not None:
        pictures |= from_the_log(options.kuairand)
    for name, svg in pictures.items():
        path = options.out / f"ranking-{name}.svg"
        path.write_text(alone(svg), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
