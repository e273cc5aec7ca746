"""How a run looks while it goes on: a live picture on a terminal, a line every few seconds elsewhere. Pure but for `show`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from simulator.load import LEVELS
from simulator.scenario.figures import number, seconds_, things
from simulator.view import WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, RenderableType

    from simulator.results import Check, Result, Span
    from simulator.scenario.samples import Moving

LINES = 5.0
"""Seconds between two lines where there is no terminal."""

_BAR = 94
_EVIDENCE = 6
_MARKS = {True: ("✓", "bold green"), False: ("✗", "bold red"), None: ("?", "yellow")}


@dataclass(frozen=True, slots=True)
class Scene:
    """A run at one moment.

    Attributes:
        scenario: Its name.
        server: What it runs against.
        devices: How many there are.
        phases: Of the run.
        seconds: Of all phases.
        doing: What goes on beside the phases, in a few words; "" in a phase.
        faults: What is at work.
        moving: The last sample; None before the first.
    """

    scenario: str
    server: str
    devices: int
    phases: Sequence[Span]
    seconds: float
    doing: str
    faults: Sequence[str]
    moving: Moving | None


Show: TypeAlias = "Callable[[Scene], None]"


@contextlib.contextmanager
def screen(console: Console) -> Iterator[Show]:
    """What shows the scenes of a run on this console."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield lambda scene: live.update(picture(scene, console.width), refresh=True)
        return
    due, last = 0.0, ""

    def show(scene: Scene) -> None:
        nonlocal due, last
        at = scene.moving.at if scene.moving else 0.0
        if scene.moving is None and not scene.doing:
            return
        doing = scene.doing or _phase(scene, at)
        if at >= due or doing != last:
            due, last = at + LINES, doing
            console.out(line(scene), highlight=False)

    yield show


def line(scene: Scene) -> str:
    """A moment in one line."""
    moving = scene.moving
    if moving is None:
        return f"   0 s  {scene.doing}"
    words = [
        f"{moving.at:4.0f} s  {scene.doing or _phase(scene, moving.at)}: {_devices(moving)}",
        f"{number(moving.items)} items",
        f"{number(round(moving.frames_rate))} frames/s",
        f"p99 {seconds_(moving.p99)}",
        *_load(moving),
    ]
    return ", ".join([*words, *scene.faults])


def picture(scene: Scene, width: int) -> RenderableType:
    """A moment on a terminal of this width."""
    width = min(width, WIDTH)
    moving = scene.moving
    at = moving.at if moving else 0.0
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    title = Text.assemble(
        (f"fleetfeed simulate {scene.scenario}", "bold cyan"), f"  {scene.server}"
    )
    grid.add_row(
        title, Text(f"{min(at, scene.seconds):.0f} of {scene.seconds:.0f} s", style="bold")
    )
    parts: list[RenderableType] = [grid, _bar(scene, at, min(width - 4, _BAR)), Text()]
    if moving is not None:
        parts.append(_figures(scene, moving))
    style = "red" if scene.faults else "cyan"
    now = scene.doing or _phase(scene, at)
    faults = Text("  ".join(f"⚡ {title}" for title in scene.faults), style="bold red")
    return Group(
        Panel(Group(*parts), border_style=style, width=width),
        Text.assemble(" ", (now, "bold"), "  ", faults, no_wrap=True, overflow="ellipsis"),
    )


def _bar(scene: Scene, at: float, width: int) -> Text:
    """The phases, as long as they take, by name; what is over is filled."""
    text = Text(no_wrap=True)
    for place, span in enumerate(scene.phases):
        cells = max(round((span.end - span.start) / scene.seconds * width), 1)
        label = f" {span.name} "[:cells].ljust(cells)
        done = min(max((at - span.start) / (span.end - span.start), 0.0), 1.0)
        filled = round(done * cells)
        shade = "on cyan" if place % 2 == 0 else "on dark_cyan"
        text.append(label[:filled], style=f"black {shade}")
        text.append(label[filled:], style="on grey23" if place % 2 == 0 else "on grey30")
    return text


def _figures(scene: Scene, moving: Moving) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bright_black", justify="right", no_wrap=True)
    table.add_column()
    table.add_row("devices", f"{_devices(moving)} of {number(scene.devices)}")
    table.add_row("items", f"{number(moving.items)} published")
    table.add_row("frames", f"{number(round(moving.frames_rate))} a second")
    table.add_row("publish → device", f"p99 {seconds_(moving.p99)}")
    for said in _load(moving):
        table.add_row("overload", said)
    return table


def _load(moving: Moving) -> list[str]:
    """What the server gives up now, if it gives up anything."""
    load = moving.load
    if load is None or load.easy:
        return []
    held = [f"{things(count, what)} held" for what, count in load.held.items() if count]
    return [", ".join((f"level {load.level}: {LEVELS[load.level].name}", *held))]


def _devices(moving: Moving) -> str:
    states = (("asleep", moving.asleep), ("dark", moving.dark), ("off", moving.off))
    words = [f"{number(many)} {word}" for word, many in states if many]
    return " + ".join([f"{number(moving.connected)} connected", *words])


def _phase(scene: Scene, at: float) -> str:
    names = [span.name for span in scene.phases if span.start <= at]
    return names[-1] if names else ""


def summary(result: Result) -> RenderableType:
    """The verdict, line by line, and the evidence."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for check in result.checks:
        mark, style = _MARKS[check.ok]
        table.add_row(Text(mark, style=style), check.name, Text(check.text))
    parts: list[RenderableType] = [table, Text()]
    parts += [Text.assemble(("! ", "yellow"), note) for note in result.notes]
    parts += [Text()] * bool(result.notes)
    parts.append(_verdict(result))
    panel = Panel(
        Group(*parts),
        title=f"{result.scenario}: {number(result.devices)} devices, {result.seconds:.0f} s, seed {result.seed}",
        title_align="left",
        border_style="green" if result.ok and result.complete else "red",
        padding=(1, 2),
        width=WIDTH,
    )
    evidence = []
    for one in result.broken:
        text = Text.assemble(("\n✗ ", "bold red"), (f"{one.promise}: {one.sentence}\n", "bold"))
        for fact in one.evidence[:_EVIDENCE]:
            text.append(f"    {fact}\n", style="bright_black")
        evidence.append(text)
    return Group(panel, *evidence)


def _verdict(result: Result) -> Text:
    wrong: list[Check] = [check for check in result.checks if check.ok is False]
    if not result.complete:
        return Text.assemble(
            ("✗ ", "bold red"), ("it did not come to its end, and proves nothing", "bold")
        )
    if wrong or result.broken:
        names = ", ".join(dict.fromkeys(check.name for check in wrong)) or "see below"
        return Text.assemble(("✗ ", "bold red"), (f"not kept: {names}", "bold"))
    unknown = sum(check.ok is None for check in result.checks)
    more = f"; {unknown} could not be looked at" if unknown else ""
    return Text.assemble(("✓ ", "bold green"), (f"every promise was kept{more}", "bold"))
