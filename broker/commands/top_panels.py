"""What stands in the panels of `fleetfeed top`: a line for each figure, if the server tells it.

Pure. The most important panels come first: a small terminal has no room for the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from broker.commands.top_state import LEVELS, RUNGS, Tone, level_tone
from broker.commands.top_text import (
    DIM,
    brief,
    duration,
    exact,
    milliseconds,
    per_second,
    short_time,
    size,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.commands.top_rounds import Rounds

LINES = 6
"""Lines of a panel."""

_RATE = 7
"""Characters of the column of rates."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a line says of a figure.

    Attributes:
        value: What it is.
        rate: How fast it grows, for what does.
    """

    value: Text
    rate: Text | None = None


if TYPE_CHECKING:
    Show = Callable[[Rounds], Cell | None]


@dataclass(frozen=True, slots=True)
class Panel:
    """Some figures that belong together.

    Attributes:
        title: What they are about.
        lines: Label and what is shown behind it; None: the server does not tell it.
        usual: Whether every server of ours has it.
    """

    title: str
    lines: tuple[tuple[str, Show], ...]
    usual: bool = True

    def body(self, rounds: Rounds) -> Table | None:
        """The lines that there are; None if there is none."""
        told = [(label, cell) for label, show in self.lines if (cell := show(rounds))]
        if not told:
            return None
        grid = Table.grid(expand=True, padding=(0, 0, 0, 1))
        grid.add_column(no_wrap=True, style=DIM)
        grid.add_column(no_wrap=True, justify="right", ratio=1)
        if any(cell.rate is not None for _, cell in told):
            grid.add_column(no_wrap=True, justify="right", min_width=_RATE)
        for label, cell in told:
            grid.add_row(*(label, cell.value, cell.rate or "")[: len(grid.columns)])
        return grid


@dataclass(frozen=True, slots=True)
class Latencies:
    """Quantiles in milliseconds, side by side."""

    title: str
    rows: tuple[tuple[str, str], ...]
    usual: bool = True

    def body(self, rounds: Rounds) -> Table | None:
        """A row for each, a column for each quantile; None if none is told."""
        names = ("p50", "p95", "p99")
        found = [
            (label, [rounds.number(f"feed/latency/{path}/{each}_ms") for each in names])
            for label, path in self.rows
        ]
        if not any(value is not None for _, values in found for value in values):
            return None
        grid = Table.grid(expand=True, padding=(0, 0, 0, 1))
        grid.add_column(no_wrap=True, style=DIM, ratio=1)
        for _ in names:
            grid.add_column(no_wrap=True, justify="right", min_width=4)
        grid.add_row("", *(Text(each, DIM) for each in names))
        for label, values in found:
            grid.add_row(label, *("" if v is None else _number(v, milliseconds) for v in values))
        return grid


def _number(value: float, form: Callable[[float], str], tone: str = "") -> Text:
    """A number; none stands back."""
    return Text(form(value), tone if value else DIM)


# ---- Kinds of lines


def _gauge(*names: str, form: Callable[[float], str] = exact, worry: Tone | None = None) -> Show:
    """The first of these that is told; with `worry`, in that colour unless it is 0."""

    def show(rounds: Rounds) -> Cell | None:
        for name in names:
            if (value := rounds.number(name)) is not None:
                return Cell(_number(value, form, worry or ""))
        return None

    return show


def _counter(*names: str, worry: Tone | None = None) -> Show:
    """What it is, and how fast it grows; with `worry`, in that colour while it does."""

    def show(rounds: Rounds) -> Cell | None:
        for name in names:
            if (value := rounds.number(name)) is not None:
                rate = rounds.rate(name) or 0.0
                tone = (worry or "") if rate > 0 else ""
                return Cell(
                    _number(value, brief, tone), Text(per_second(rate) if rate else "", tone)
                )
        return None

    return show


def _most_memory(rounds: Rounds) -> Cell | None:
    most = rounds.number("heap/maximum")
    if most is None or rounds.tells("feed/up"):  # beside a gateway it is the broker's
        return None
    return Cell(_number(most, size))


def _cpu(rounds: Rounds) -> Cell | None:
    name = "feed/process/cpu_seconds"
    if (value := rounds.number(name)) is None:
        return None
    if (rate := rounds.rate(name)) is None:  # of its life: there is one round alone
        rate = value / max(rounds.uptime or 0.0, 1.0)
    return Cell(Text(f"{100 * rate:.0f} %"))


def _store(rounds: Rounds) -> Cell | None:
    if (up := rounds.number("feed/store/up")) is None:
        return None
    return Cell(Text("up") if up else Text("down", Tone.BAD))


def _level(rounds: Rounds) -> Cell | None:
    if (level := rounds.number("feed/overload/level")) is None:
        return None
    return Cell(Text(f"{level:.0f} of {len(LEVELS) - 1}", level_tone(level) if level else DIM))


def _rung(rounds: Rounds) -> Cell | None:
    rung = rounds.number("feed/ranking/rung")
    if rung is None or rung >= len(RUNGS):
        return None
    return Cell(Text(RUNGS[int(rung)]))


def _us(number: float) -> str:
    return short_time(number / 1000)


# ---- Panels

PANELS: tuple[Panel | Latencies, ...] = (
    Panel("devices", (
        ("known", _gauge("feed/devices/total")),
        ("connected", _gauge("feed/devices/connected")),
        ("subscribed", _gauge("feed/devices/subscribed")),
        ("silent", _gauge("feed/devices/silent")),
        ("stalled", _gauge("feed/devices/stalled", worry=Tone.CARE)),
        ("over budget", _gauge("feed/devices/waiting")),
    )),
    Panel("items and frames", (
        ("items in", _counter("feed/items/received")),
        ("live", _gauge("feed/items/stored", form=brief)),
        ("frames", _counter("feed/frames/sent")),
        ("in flight", _gauge("feed/frames/inflight", form=brief)),
        ("resent", _counter("feed/frames/resent")),
        ("bytes", _counter("feed/bytes/sent")),
    )),
    Latencies("latency in ms", (
        ("to frame", "push"),
        ("to ack", "ack"),
        ("device", "device"),
        ("commit", "commit"),
        ("loop", "loop"),
    )),
    Panel("overload", (
        ("level", _level),
        ("for", _gauge("feed/overload/seconds", form=duration)),
        ("loop lag", _gauge("feed/overload/loop_lag_ms", form=short_time)),
        ("oldest item", _gauge("feed/overload/oldest_item_ms", form=short_time)),
        ("held items", _gauge("feed/overload/held/items", worry=Tone.CARE)),
        ("put off", _gauge("feed/overload/held/connects", worry=Tone.CARE)),
    )),
    Panel("lost or refused", (
        ("items", _counter("feed/items/rejected", worry=Tone.CARE)),
        ("frames", _counter("feed/frames/dropped", worry=Tone.CARE)),
        ("too large", _counter("feed/frames/oversize", worry=Tone.CARE)),
        ("messages", _counter("feed/queue/evicted", "publish/messages/dropped", worry=Tone.CARE)),
        ("clients", _counter("feed/overload/refused/connects", worry=Tone.CARE)),
        ("errors", _counter("feed/errors/total", worry=Tone.BAD)),
    )),
    Panel("server", (
        ("memory", _gauge("feed/process/rss_bytes", "heap/current", form=size)),
        ("at most", _most_memory),
        ("CPU", _cpu),
        ("open files", _gauge("feed/process/open_files")),
        ("store", _store),
        ("to store", _gauge("feed/store/pending")),
    )),
    Panel("clients", (
        ("connected", _gauge("clients/connected")),
        ("away", _gauge("clients/disconnected")),
        ("most", _gauge("clients/maximum")),
        ("subscriptions", _gauge("subscriptions/count")),
        ("expired", _gauge("clients/expired")),
    )),
    Panel("MQTT packets", (
        ("in", _counter("messages/received")),
        ("out", _counter("messages/sent")),
        ("bytes in", _counter("bytes/received")),
        ("bytes out", _counter("bytes/sent")),
        ("retained", _gauge("retained messages/count", form=brief)),
    )),
    Panel("ranking", (
        ("by", _rung),
        ("version", _gauge("feed/ranking/version")),
        ("feedback", _gauge("feed/ranking/feedback", form=brief)),
        ("fell", _gauge("feed/ranking/fell")),
        ("alarms", _gauge("feed/ranking/alarms", worry=Tone.CARE)),
        ("engine p95", _gauge("feed/rank/p95_us", form=_us)),
    ), usual=False),
    Panel("nodes", (
        ("members", _gauge("feed/cluster/members")),
        ("held here", _gauge("feed/cluster/held")),
        ("claimed", _counter("feed/cluster/claimed")),
        ("unclean", _counter("feed/cluster/unclean")),
        ("released", _counter("feed/cluster/released")),
        ("lost", _counter("feed/cluster/lost", worry=Tone.CARE)),
    ), usual=False),
    Panel("to the broker", (
        ("unacked", _gauge("feed/uplink/unacknowledged")),
        ("waiting", _gauge("feed/uplink/bytes", form=size)),
        ("paused", _gauge("feed/uplink/items_paused", worry=Tone.CARE)),
    ), usual=False),
)  # fmt: skip
"""All panels, the most important first."""
