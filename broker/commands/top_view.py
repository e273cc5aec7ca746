"""How `fleetfeed top` looks: one moment of a server as a picture for 80 by 24 characters and more.

Pure: rounds in, rich renderables out. What a server does not tell is left out, and named at the bottom.
The colours of states (green, yellow, red) are for states alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from broker.commands.top_panels import LINES, PANELS
from broker.commands.top_rounds import FEED
from broker.commands.top_state import LEVELS, RUNGS, Tone, concerns, level_tone
from broker.commands.top_text import ACCENT, DIM, bars, brief, duration, per_second, short_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from broker.commands.top_rounds import Rounds
    from broker.commands.top_state import Scene

    _Titled = tuple[str, Table]

WIDTH, HEIGHT = 80, 24
"""The terminal that everybody has."""

_PANEL_WIDTH = 26
_PANEL_HEIGHT = LINES + 2
_HEADER, _FOOTER, _FRAME = 2, 1, 2
_LEAST_CHARTS = 3
_TALLEST = 8
"""Lines of a chart."""
_LABEL, _VALUE, _PEAK = 11, 8, 14
_NARROW = 60
"""Characters below which charts go without their peaks."""


def picture(scene: Scene, width: int = WIDTH, height: int = HEIGHT) -> RenderableType:
    """One moment for a terminal of this size; a small one leaves out what matters least."""
    rounds = scene.rounds
    if not len(rounds):
        return Group(_title(scene), Text(), Text(scene.advice or "waiting for its figures", DIM))
    charts = [chart for chart in _CHARTS if rounds.tells(*chart.names)]
    room = height - _HEADER - _FOOTER - (_FRAME + min(len(charts), _LEAST_CHARTS))
    told = _told(rounds)
    rows = _rows_of(told, _per_row(len(told), width, room // _PANEL_HEIGHT))
    shown, spare = _fitting(rows, max(room, 0))
    hidden = [title for row in rows[len(shown) :] for title, _ in row]
    return Group(
        _title(scene),
        _state(scene),
        *_charts(charts, rounds, width, spare),
        *(_row(row, len(rows[0]), width) for row in shown),
        _footer(scene, hidden),
    )


def page(scene: Scene, width: int = WIDTH) -> RenderableType:
    """All that is told at one moment, for paper or a file: without charts, which need time."""
    told = _told(scene.rounds)
    rows = _rows_of(told, _per_row(len(told), width, len(told)))
    panels = (_row(row, len(rows[0]), width) for row in rows)
    return Group(_title(scene), _state(scene), *panels, _footer(scene, []))


def _told(rounds: Rounds) -> list[_Titled]:
    """The panels that have something to say: title and lines."""
    return [(each.title, body) for each in PANELS if (body := each.body(rounds)) is not None]


# ---- Above and below


def _title(scene: Scene) -> RenderableType:
    rounds = scene.rounds
    version = rounds.version
    name = version if " " in version else f"fleetfeed {version}".rstrip()
    left = Text.assemble((name.replace(" version ", " "), f"bold {ACCENT}"), f"  {scene.where}")
    if scene.gateway:
        left.append(f"  gateway {scene.gateway}")
    if rounds.uptime is not None:
        left.append(f"  up {duration(rounds.uptime)}", DIM)
    return _sides(left, Text(_age(scene), Tone.BAD if scene.late else DIM))


def _age(scene: Scene) -> str:
    """When the figures were told; how old retained ones are nobody says."""
    if scene.age is None:
        return ""
    if not scene.rounds.dated and not scene.late:
        return "told some time ago"
    return f"told {duration(scene.age)} ago"


def _state(scene: Scene) -> RenderableType:
    found = concerns(scene)
    text = Text(no_wrap=True, overflow="ellipsis")
    if not found:
        text.append("● ", Tone.WELL)
        text.append(_in_order(scene.rounds))
    for place, (tone, words) in enumerate(found):
        text.append("  " if place else "", DIM)
        text.append(f"▲ {words}", tone)
    return text


def _in_order(rounds: Rounds) -> str:
    """What is told of a server that has no trouble."""
    words = []
    if rounds.number("feed/overload/level") is not None:
        words.append("no overload")
    if rounds.number("feed/store/up") is not None:
        words.append("store up")
    rung = rounds.number("feed/ranking/rung")
    if rung is not None and rung < len(RUNGS):
        words.append(f"ranked by {RUNGS[int(rung)]}")
    if not any(name.startswith(FEED) for name in rounds.numbers):
        words.append("it runs, and tells nothing of a feed")
    return ", ".join(words) or "it runs"


def _footer(scene: Scene, hidden: Sequence[str]) -> RenderableType:
    rounds = scene.rounds
    words = []
    if missing := [each.title for each in PANELS if each.usual and each.body(rounds) is None]:
        words.append(f"not told: {', '.join(missing)}")
    if hidden:
        words.append(f"no room for: {', '.join(hidden)}")
    if scene.others:
        words.append(f"other gateways (--gateway): {', '.join(scene.others)}")
    text = Text("  ".join(words), DIM, no_wrap=True, overflow="ellipsis")
    return _sides(text, Text("Ctrl-C ends", DIM))


def _sides(left: Text, right: Text) -> Table:
    left.no_wrap, left.overflow = True, "ellipsis"
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(left, right)
    return grid


# ---- Charts


@dataclass(frozen=True, slots=True)
class _Chart:
    """A figure over time.

    Attributes:
        label: What it shows.
        names: The figure; the first that is told.
        grows: Whether what is shown is its growth.
        form: How its number is written.
        top: What reaches the top of the chart; None = its largest number.
        style: The colour of a number.
    """

    label: str
    names: tuple[str, ...]
    grows: bool = False
    form: Callable[[float], str] = brief
    top: float | None = None
    style: Callable[[float], str] | None = None

    def series(self, rounds: Rounds, last: int) -> Sequence[float | None]:
        name = next(name for name in self.names if rounds.tells(name))
        return rounds.rates(name, last) if self.grows else rounds.values(name, last)


def _level(number: float) -> str:
    return f"{number:.0f}"


_CHARTS = (
    _Chart("frames out", ("feed/frames/sent", "messages/sent"), grows=True, form=per_second),
    _Chart("ack p95", ("feed/latency/ack/p95_ms",), form=short_time),
    _Chart(
        "overload", ("feed/overload/level",), form=_level, top=len(LEVELS) - 1, style=level_tone
    ),
    _Chart("items in", ("feed/items/received", "messages/received"), grows=True, form=per_second),
    _Chart("loop p99", ("feed/latency/loop/p99_ms",), form=short_time),
)
"""The most important first; a small terminal has no room for the last."""

_GROWTH = (0, 1, 3, 0, 1, 0, 1, 3, 4, 3, 4, *(0, 1, 3, 4) * 4)
"""Which chart gets the next line that is free; the first for a chart brings it in."""


def _charts(
    charts: Sequence[_Chart], rounds: Rounds, width: int, spare: int
) -> list[RenderableType]:
    if not charts:
        return []
    inner = width - 4
    peak = _PEAK if width >= _NARROW else 0
    columns = max(inner - _LABEL - _VALUE - peak, 8)
    grid = Table.grid(padding=0)
    grid.add_column(width=_LABEL, no_wrap=True, style=DIM)
    grid.add_column(width=columns, no_wrap=True)
    grid.add_column(width=_VALUE, no_wrap=True, justify="right")
    if peak:
        grid.add_column(width=peak, no_wrap=True, justify="right", style=DIM)
    for chart, lines in zip(charts, _heights(len(charts), spare), strict=True):
        if lines:
            _add(grid, chart, chart.series(rounds, columns), columns, lines)
    return [
        Panel(
            grid,
            title=_over(rounds, columns),
            title_align="left",
            border_style=DIM,
            padding=(0, 1),
        )
    ]


def _heights(charts: int, spare: int) -> list[int]:
    """Lines of each chart."""
    heights = [1] * min(charts, _LEAST_CHARTS) + [0] * (charts - _LEAST_CHARTS)
    for which in _GROWTH:
        if spare and which < charts and heights[which] < _TALLEST:
            heights[which] += 1
            spare -= 1
    return heights


def _add(
    grid: Table, chart: _Chart, series: Sequence[float | None], columns: int, lines: int
) -> None:
    known = [value for value in series if value is not None]
    now = chart.form(known[-1]) if known else ""
    peak = f"peak {chart.form(max(known))}" if known else ""
    drawn = bars(series, columns, lines, top=chart.top, style=chart.style)
    for place, line in enumerate(drawn):
        last = place == lines - 1
        cells = (chart.label, line, Text(now, "bold"), peak) if last else ("", line)
        grid.add_row(*cells[: len(grid.columns)])


def _over(rounds: Rounds, columns: int) -> Text:
    """What the columns of the charts are."""
    interval = rounds.interval
    if interval is None:
        return Text("waiting for the next figures", DIM)
    seen = min(len(rounds), columns) * interval
    return Text(f"last {duration(seen)}, a column each {interval:.0f} s", DIM)


# ---- Panels


def _per_row(panels: int, width: int, rows: int) -> int:
    """Panels side by side: as many as there is room for, or as few as make rows of one length."""
    most = max(width // _PANEL_WIDTH, 1)
    needed = max(-(-panels // most), 1)
    return most if needed > rows else max(-(-panels // needed), 1)


def _rows_of(panels: list[_Titled], per_row: int) -> list[list[_Titled]]:
    return [panels[first : first + per_row] for first in range(0, len(panels), per_row)]


def _fitting(rows: list[list[_Titled]], room: int) -> tuple[list[list[_Titled]], int]:
    """The first rows, as many as there is room for, and the lines that are left."""
    shown = []
    for row in rows:
        if (lines := _lines(row)) > room:
            break
        shown.append(row)
        room -= lines
    return shown, room


def _lines(row: Sequence[_Titled]) -> int:
    """How tall a row of panels is: as its tallest."""
    return max(body.row_count for _, body in row) + _FRAME


def _row(panels: Sequence[_Titled], per_row: int, width: int) -> Table:
    """Panels side by side, as wide as the terminal."""
    grid = Table.grid(padding=0)
    edges = [width * place // per_row for place in range(per_row + 1)]
    for left, right in pairwise(edges):
        grid.add_column(width=right - left)
    grid.add_row(*(_panel(title, body, _lines(panels)) for title, body in panels))
    return grid


def _panel(title: str, body: Table, height: int) -> Panel:
    return Panel(
        body,
        title=Text(title, "bold"),
        title_align="left",
        border_style=DIM,
        height=height,
        padding=(0, 1),
    )
