"""Pictures of an evaluation as SVG, drawn by matplotlib, which is imported only where it draws.

Colours are written as CSS variables with the light theme's colour behind them: in a page the picture
follows the reader's theme, and elsewhere it is a light one.
"""

from __future__ import annotations

import warnings
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from feedgen.evaluate import curves
from feedgen.evaluate.progressive import DAY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from feedgen.evaluate.curves import Bin, Cohort
    from feedgen.evaluate.progressive import Run

SERIES = ("#2563eb", "#c2570c", "#64748b", "#a21caf", "#0f8a6d")
"""Of the rankers, in their order, on a light ground."""
SERIES_DARK = ("#7aa7ff", "#f2994a", "#9aa8bc", "#e07df0", "#3fc9a5")
"""The same on a dark one."""
INK, FAINT = "#1f2731", "#d5dae1"
INK_DARK, FAINT_DARK = "#e4e9f0", "#39424e"
"""Text and axes; grid."""

_VARIABLES = {colour: f"--series-{i}" for i, colour in enumerate(SERIES)} | {
    INK: "--ink",
    FAINT: "--faint",
}
_LONG = 3 * DAY
"""A longer log is counted in days, a shorter one in hours."""
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: searchable, and in the page's own font
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


def stylesheet() -> str:
    """Return the CSS that gives the pictures their colours in both themes."""
    light = _rules((*SERIES, INK, FAINT), (*SERIES, INK, FAINT))
    dark = _rules((*SERIES, INK, FAINT), (*SERIES_DARK, INK_DARK, FAINT_DARK))
    return (
        f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "svg text{font-family:inherit!important}"
    )


def calibration(run: Run, bins: Sequence[Bin], name: str) -> str:
    """Draw how often what was predicted came true, and how often which p was predicted."""
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415 - only where it draws

    def draw(figure: Figure) -> None:
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        p = np.array([each.p for each in bins])
        rate = np.array([each.rate.value for each in bins])
        ends = np.array([[each.rate.low, each.rate.high] for each in bins])
        ends = np.where(np.isfinite(ends), ends, rate[:, None])
        high = min(1.0, 1.08 * max(float(ends.max()), float(p.max())))
        top.plot(
            [0, high], [0, high], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label="exact"
        )
        whiskers = np.abs(ends - rate[:, None]).T
        top.errorbar(
            *(p, rate, whiskers),
            fmt="o-",
            markersize=4.5,
            elinewidth=1.2,
            color=SERIES[0],
            label=f"{_safe(name)}, {len(bins)} bins of equal size",
        )
        top.set(ylabel="opened", xlim=(0, high), ylim=(0, high))
        top.legend(loc="upper left")
        judged = run.predictions[name][run.judged :]
        below.hist(judged, bins=np.linspace(0, high, 50).tolist(), color=SERIES[0], alpha=0.75)
        below.set(xlabel="predicted probability", ylabel="events")
        for axes in (top, below):
            axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        top.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))

    return _svg("calibration", (6.2, 5.2), draw)


def roc(run: Run, names: Sequence[str]) -> str:
    """Draw the ROC curves of the rankers."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(
            [0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label="by chance"
        )
        y = run.y[run.judged :]
        for name, colour, width in _lines(names):
            others, opened = curves.roc(y, run.predictions[name][run.judged :])
            axes.plot(others, opened, color=colour, linewidth=width, label=_safe(name))
        axes.set(
            *(),
            xlabel="share of events not opened that are above the threshold",
            ylabel="share of opened events above it",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        axes.legend(loc="lower right")

    return _svg("roc", (6.2, 5.2), draw)


def learning(run: Run, names: Sequence[str]) -> str:
    """Draw normalised entropy and AUC as the log goes on, the warm-up shaded."""
    # Days since the start, and not dates: a log's clock may begin anywhere.
    hours = run.t[-1] - run.t[0] < _LONG
    unit = 3600.0 if hours else DAY

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for name, colour, width in _lines(names):
            found = curves.course(run, name)
            when = (found.t - run.t[0]) / unit
            how = {"color": colour, "linewidth": width, "label": _safe(name)}
            upper.plot(when, found.ne, **how)
            lower.plot(when, found.auc, **how)
        for axes in (upper, lower):
            axes.axvspan(
                0, (run.t[run.judged] - run.t[0]) / unit, color=INK, alpha=0.06, linewidth=0
            )
        upper.axhline(1, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        bottom, top = upper.get_ylim()
        upper.set(ylabel="NE (lower is better)", ylim=(bottom, min(top, 1.3)))
        lower.set(ylabel="AUC", xlabel=f"{'hours' if hours else 'days'} since the first event")
        handles, labels = upper.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4))

    return _svg("learning", (6.2, 5.2), draw)


def cohorts(found: Sequence[Cohort], names: Sequence[str]) -> str:
    """Draw AUC and the entropy explained (1 - NE) per cohort."""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(found), dtype=np.float64)
        _bars(left, found, names, "auc")
        _bars(right, found, names, "ne")
        labels = [f"{_safe(each.name)}\n{each.events:,} events".replace(",", " ") for each in found]
        left.set_yticks(places, labels)
        left.invert_yaxis()
        left.set(xlabel="AUC")
        right.set(xlabel="entropy explained, 1 - NE")
        for axes in (left, right):
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
        handles, texts = left.get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside upper center", ncols=min(len(texts), 4))

    return _svg("cohorts", (12.6, 1.3 + 0.62 * max(len(found), 1)), draw)


def _bars(axes: Axes, found: Sequence[Cohort], names: Sequence[str], metric: str) -> None:
    """Draw a bar per cohort and ranker, from what chance would give."""
    start = 0.5 if metric == "auc" else 0.0
    height = 0.8 / len(names)
    for i, (name, colour, _) in enumerate(_lines(names)):
        at = np.arange(len(found)) + (i - (len(names) - 1) / 2) * height
        each = [cohort.metrics[name][metric] for cohort in found]
        ends = np.array([[one.value, one.low, one.high] for one in each]).reshape(-1, 3)
        if metric == "ne":
            ends = 1 - ends[:, [0, 2, 1]]
        value = ends[:, 0]
        spread = np.nan_to_num(np.abs(ends[:, 1:] - value[:, None])).T
        axes.barh(
            *(at, value - start, height * 0.86),
            left=start,
            xerr=spread,
            color=colour,
            label=_safe(name),
            error_kw={"ecolor": INK, "elinewidth": 0.9},
        )
    axes.axvline(start, color=INK, linewidth=0.9)


def _lines(names: Sequence[str]) -> list[tuple[str, str, float]]:
    """Return names with their colours and line widths; the first stands out."""
    drawn = zip(names, SERIES, strict=False)
    return [(name, colour, 2.2 if i == 0 else 1.5) for i, (name, colour) in enumerate(drawn)]


def _svg(name: str, size: tuple[float, float], draw: Any) -> str:
    """Return what `draw` makes of a figure, as an SVG element to stand in a page."""
    from matplotlib import rc_context  # noqa: PLC0415 - only where it draws
    from matplotlib.figure import Figure  # noqa: PLC0415 - likewise

    text = StringIO()
    # The ids that matplotlib makes up follow the salt: the same input gives the same file.
    with rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts draw the text
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable}, {colour})")
    return svg


def _safe(text: str) -> str:
    """Return text that neither matplotlib takes for a formula nor XML for an error."""
    readable = "".join(c if c.isprintable() else "?" for c in text)
    return (readable if len(readable) <= 40 else readable[:39] + "…").replace("$", r"\$")


def _rules(light: Sequence[str], values: Sequence[str]) -> str:
    return "".join(
        f"{_VARIABLES[colour]}:{value};" for colour, value in zip(light, values, strict=True)
    )
