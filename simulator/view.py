"""How the demo looks: one moment of it as a picture of at most 100 by 30 characters, and the summary at the end.

Pure: values in, rich renderables out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from simulator.sources import HIGH, LOW, NORMAL, URGENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from devices.frames import FeedItem
    from simulator.fleet import DeviceSpec
    from simulator.tally import Tally

WIDTH, HEIGHT = 100, 30
"""The largest picture."""

_ROWS = 6  # items of a window that the picture has room for
_WINDOWS = _ROWS + 2
_STATS = 7
_STATS_SHARES = (33, 38, 29)

_MARKS = {URGENT: "▲", HIGH: "●", NORMAL: "●", LOW: "·"}
_STYLES = {URGENT: "bold red", HIGH: "yellow", NORMAL: "green", LOW: "bright_black"}
_NAMES = {URGENT: "urgent", HIGH: "high", NORMAL: "normal", LOW: "low"}
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Shown:
    """A device in the picture.

    Attributes:
        spec: Who it is.
        window: What it holds, best first.
        fresh: Numbers of the items that have just come.
    """

    spec: DeviceSpec
    window: Sequence[FeedItem]
    fresh: frozenset[int]


@dataclass(frozen=True, slots=True)
class Scene:
    """One moment of the demo.

    Attributes:
        elapsed: Seconds since the start.
        seconds: Seconds that the demo takes.
        doing: What goes on, in a sentence.
        stream_time: The time in the stream, Unix seconds.
        devices: How many there are.
        published: Items sent by now, by priority.
        waiting: Items sent but not acknowledged.
        total: Items of the whole stream.
        items_rate: Items per second.
        frames_rates: Frames per second, oldest first; the last is now.
        tally: The fleet's counters.
        shown: Some of the devices.
    """

    elapsed: float
    seconds: float
    doing: str
    stream_time: float
    devices: int
    published: Mapping[int, int]
    waiting: int
    total: int
    items_rate: float
    frames_rates: Sequence[float]
    tally: Tally
    shown: Sequence[Shown]


def picture(scene: Scene, width: int = WIDTH, height: int = HEIGHT) -> RenderableType:
    """The live view for a terminal of this size; a small one has room for fewer windows."""
    width = min(width, WIDTH)
    parts = [
        _header(scene, width),
        _row(
            (_items_panel(scene), _frames_panel(scene), _latency_panel(scene)), width, _STATS_SHARES
        ),
    ]
    room = height - 1 - 4 - _STATS - 1  # the cursor, the header, the figures, what is being done
    for place in range(0, len(scene.shown), 2):
        if room < _WINDOWS:
            break
        room -= _WINDOWS
        panels = [_window_panel(shown) for shown in scene.shown[place : place + 2]]
        parts.append(_row(panels, width, (1,) * len(panels)))
    return Group(*parts, Text(f" {scene.doing}", style="bright_black"))


def line(scene: Scene) -> str:
    """The same moment in one line, for logs."""
    tally = scene.tally
    return (
        f"{scene.elapsed:4.0f} s  {count(sum(scene.published.values()))} items in, "
        f"{count(tally.frames)} frames out ({count(tally.snapshots)} snapshots, "
        f"{count(tally.deltas)} deltas), {_mean_delta(tally)} a delta, "
        f"p50 {_duration(tally, 0.5)}, p99 {_duration(tally, 0.99)}"
    )


def count(number: int) -> str:
    """A number with its thousands apart."""
    return f"{number:,}".replace(",", " ")


def _header(scene: Scene, width: int) -> RenderableType:
    clock = datetime.fromtimestamp(scene.stream_time, UTC).strftime("%a %d %b %Y  %H:%M UTC")
    title = Text.assemble(
        ("fleetfeed", "bold cyan"), f"  {count(scene.devices)} devices, each with a feed of its own"
    )
    bar = ProgressBar(
        total=scene.seconds,
        completed=min(scene.elapsed, scene.seconds),
        complete_style="cyan",
        finished_style="cyan",
    )
    left = Text(f"{max(scene.seconds - scene.elapsed, 0):.0f} s left", style="bright_black")
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(title, Text(clock, style="bold"))
    grid.add_row(bar, left)
    return Panel(grid, border_style="cyan", width=width)


def _items_panel(scene: Scene) -> Panel:
    kinds = Text()
    for priority in (URGENT, HIGH, NORMAL, LOW):
        kinds.append(f"{_MARKS[priority]} ", style=_STYLES[priority])
        kinds.append(f"{count(scene.published.get(priority, 0)):>5} {_NAMES[priority]:<6}")
        kinds.append("\n" if priority == HIGH else " " if priority in {URGENT, NORMAL} else "")
    waiting = f"{scene.waiting} not acknowledged yet" if scene.waiting else "all acknowledged"
    return _stats_panel(
        "items in",
        _headline(count(sum(scene.published.values())), f"of {count(scene.total)}"),
        Text(f"{scene.items_rate:.0f} a second"),
        kinds,
        Text(waiting, style="bright_black"),
    )


def _frames_panel(scene: Scene) -> Panel:
    tally = scene.tally
    whole = "" if tally.whole_window is None else f", a window {tally.whole_window:.0f} B"
    rate = scene.frames_rates[-1] if scene.frames_rates else 0.0
    ops = Text.assemble(
        ("put ", "green"), count(tally.puts),
        ("  remove ", "red"), count(tally.removes),
        ("  move ", "magenta"), count(tally.moves),
    )  # fmt: skip
    return _stats_panel(
        "frames out",
        _headline(count(tally.frames), f"{count(round(rate))} a second"),
        Text(f"{count(tally.snapshots)} snapshots, {count(tally.deltas)} deltas"),
        ops,
        Text(f"a delta {_mean_delta(tally)}{whole}"),
        Text(_sparkline(scene.frames_rates, 28), style="cyan"),
    )


def _latency_panel(scene: Scene) -> Panel:
    tally = scene.tally
    return _stats_panel(
        "publish → device",
        _headline(_duration(tally, 0.5), "half are faster"),
        _headline(_duration(tally, 0.99), "99 of 100"),
        Text(f"{count(tally.latency.count)} arrivals timed"),
        Text(
            f"{count(tally.acknowledged)} frames at QoS 1\n{count(tally.feedback)} reactions sent",
            style="bright_black",
        ),
    )


def _window_panel(shown: Shown) -> Panel:
    spec = shown.spec
    follows = " ".join(spec.follow) if spec.follow is not None else "#"
    rows = [_item(rank, item, shown.fresh) for rank, item in enumerate(shown.window[:_ROWS], 1)]
    more = len(shown.window) - _ROWS
    where = f"k {spec.k}, {count(spec.budget)} B" + (f", {more} more" if more > 0 else "")
    return Panel(
        Group(*rows) if rows else Text("nothing yet", style="bright_black"),
        title=Text.assemble((spec.device, "bold"), "  follows ", (follows, "cyan")),
        title_align="left",
        subtitle=Text(where, style="bright_black"),
        subtitle_align="right",
        border_style="bright_black",
        height=_WINDOWS,
    )


def _item(rank: int, item: FeedItem, fresh: frozenset[int]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{rank} ", style="bright_black")
    text.append(f"{_MARKS[item.priority]} ", style=_STYLES[item.priority])
    text.append(_printable(item.payload), style="bold bright_white" if item.n in fresh else "")
    return text


def _printable(payload: str | bytes) -> str:
    """A payload without what would command the terminal."""
    text = payload if isinstance(payload, str) else payload.decode(errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _stats_panel(title: str, *lines: Text) -> Panel:
    for text in lines:
        text.no_wrap, text.overflow = True, "ellipsis"
    return Panel(
        Group(*lines), title=title, title_align="left", border_style="bright_black", height=_STATS
    )


def _headline(figure: str, of: str) -> Text:
    return Text.assemble((figure, "bold bright_white"), (f"  {of}", "bright_black"))


def _row(panels: Sequence[RenderableType], width: int, shares: Sequence[int]) -> Table:
    """Panels side by side, as wide as their shares of `width`."""
    edges = [width * part // sum(shares) for part in accumulate(shares, initial=0)]
    grid = Table.grid(expand=False)
    for left, right in pairwise(edges):
        grid.add_column(width=right - left)
    grid.add_row(*panels)
    return grid


def _sparkline(values: Sequence[float], width: int) -> str:
    last = values[-width:]
    top = max(last, default=0.0)
    if top <= 0:
        return ""
    return "".join(_BARS[round(value / top * (len(_BARS) - 1))] for value in last)


def _mean_delta(tally: Tally) -> str:
    return f"{tally.delta_bytes / tally.deltas:.0f} B" if tally.deltas else "-"


def _duration(tally: Tally, q: float) -> str:
    seconds = tally.latency.quantile(q)
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1_000:.1f} ms"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a whole demo came to.

    Attributes:
        seconds: How long it took.
        devices: How many there were.
        items: Items published.
        acknowledged: Those that the server acknowledged.
        unequal: Devices whose window is not the server's: what they hold and what they should.
        items_held: Items in all windows together.
        tally: The fleet's counters.
    """

    seconds: float
    devices: int
    items: int
    acknowledged: int
    unequal: Mapping[str, tuple[Sequence[object], Sequence[object]]]
    items_held: int
    tally: Tally

    @property
    def faults(self) -> list[str]:
        """What the server got wrong, a sentence each; empty = every promise was kept."""
        tally = self.tally
        found = []
        if self.unequal:
            found.append(f"{len(self.unequal)} of {self.devices} windows differ from the server's")
        if not self.items_held:
            found.append("no device holds anything, so the comparison says nothing")
        if self.acknowledged < self.items:
            found.append(f"{self.items - self.acknowledged} items were never acknowledged")
        if tally.foreign:
            found.append(f"{tally.foreign} frames reached a device that they were not for")
        if tally.oversize:
            found.append(f"{tally.oversize} frames were longer than the device's budget")
        return found

    def as_json(self) -> dict[str, object]:
        """The outcome as one JSON object."""
        tally = self.tally
        return {
            "ok": not self.faults,
            "faults": self.faults,
            "seconds": round(self.seconds, 1),
            "devices": self.devices,
            "windows_equal": self.devices - len(self.unequal),
            "items": self.items,
            "items_acknowledged": self.acknowledged,
            "frames": tally.frames,
            "snapshots": tally.snapshots,
            "deltas": tally.deltas,
            "puts": tally.puts,
            "removes": tally.removes,
            "moves": tally.moves,
            "bytes": tally.bytes,
            "bytes_per_delta": round(tally.delta_bytes / tally.deltas, 1) if tally.deltas else None,
            "bytes_per_whole_window": tally.whole_window and round(tally.whole_window, 1),
            "latency_ms": {
                name: seconds and round(seconds * 1_000, 2)
                for name, seconds in (
                    ("p50", tally.latency.quantile(0.5)),
                    ("p99", tally.latency.quantile(0.99)),
                )
            },
            "arrivals_timed": tally.latency.count,
            "feedback_events": tally.feedback,
            "connections_lost": tally.losses,
            "frames_ignored": dict(tally.ignored),
        }


def summary(outcome: Outcome) -> RenderableType:
    """The table at the end, the verdict, and what to try next."""
    tally = outcome.tally
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bright_black", justify="right")
    table.add_column()
    acknowledged = (
        "all acknowledged"
        if outcome.acknowledged == outcome.items
        else f"{count(outcome.acknowledged)} acknowledged"
    )
    whole = tally.whole_window
    table.add_row("items in", f"{count(outcome.items)}, {acknowledged}")
    table.add_row(
        "frames out",
        f"{count(tally.frames)}: {count(tally.snapshots)} snapshots, {count(tally.deltas)} deltas",
    )
    table.add_row(
        "changes",
        f"{count(tally.puts)} put, {count(tally.removes)} remove, {count(tally.moves)} move",
    )
    table.add_row(
        "on the wire",
        f"{_mean_delta(tally)} a delta"
        + ("" if whole is None else f", where the whole window would take {whole:.0f} B"),
    )
    table.add_row(
        "publish → device",
        f"p50 {_duration(tally, 0.5)}, p99 {_duration(tally, 0.99)} "
        f"over {count(tally.latency.count)} arrivals",
    )
    ignored = ", ".join(f"{number} {word}" for word, number in sorted(tally.ignored.items()))
    table.add_row(
        "trouble",
        f"{tally.losses} connections lost, {sum(tally.ignored.values())} frames ignored"
        + (f" ({ignored})" if ignored else ""),
    )
    return Group(
        Panel(
            Group(table, Text(), _verdict(outcome)),
            title=f"{count(outcome.devices)} devices, {outcome.seconds:.0f} s",
            title_align="left",
            border_style="red" if outcome.faults else "green",
            padding=(1, 2),
            width=WIDTH,
        ),
        _next_steps(),
    )


def _verdict(outcome: Outcome) -> RenderableType:
    if not outcome.faults:
        return Text.assemble(
            ("✓ ", "bold green"),
            (f"all {count(outcome.devices)} windows equal the server's", "bold"),
            f"  {count(outcome.items_held)} items held",
        )
    lines = [Text.assemble(("✗ ", "bold red"), fault) for fault in outcome.faults]
    for device, (ours, theirs) in [*outcome.unequal.items()][:3]:
        lines.append(Text(f"  {device} holds   {_numbers(ours)}", style="bright_black"))
        lines.append(Text(f"  {device} should  {_numbers(theirs)}", style="bright_black"))
    return Group(*lines)


def _numbers(window: Sequence[object]) -> str:
    return " ".join(str(entry[0]) for entry in window if isinstance(entry, tuple)) or "nothing"


def _next_steps() -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(style="bright_black")
    for command, meaning in _NEXT_STEPS:
        grid.add_row(f" {command}", meaning)
    return Group(Text(" Try next", style="bold"), grid)


_NEXT_STEPS = (
    ("fleetfeed serve --open", "a server of your own, on 127.0.0.1:1883"),
    ("fleetfeed watch kitchen", "a device and what it shows, live"),
    ("fleetfeed publish news 'Soup is ready'", "an item for every device that follows it"),
)
