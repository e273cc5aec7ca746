"""The demo: a fleet of devices with different interests, a week of real items in a minute, and a proof at the end.

Everything goes over MQTT to a server that the demo knows only by its port, and by what `ServerHandle.window` answers: the
server's own idea of what each device shows, which every device must hold in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from rich.live import Live
from rich.text import Text

from simulator import view
from simulator.connection import Publisher
from simulator.fleet import DeviceSpec, Fleet, FleetError
from simulator.publishers import Publication, Schedule, week
from simulator.sources import HIGH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from rich.console import Console

    from simulator.fleet import Device

Window: TypeAlias = "list[tuple[int, str | bytes]]"

_FRAME = 0.25
"""Seconds between two pictures."""
_FRESH = 1.0
"""Seconds for which a new item stands out."""
_RATE = 40.0
"""Items per second that a demo shorter than a minute publishes at most: it leaves out small earthquakes."""
_IN_FLIGHT = 256
_PICTURED = 4
_QUIET = 0.5
_ASKED_AT_ONCE = 250
_PATIENCE = 10.0
"""Seconds that windows may take to become equal after the last item."""


@dataclass(frozen=True, slots=True)
class ServerHandle:
    """A running server.

    Attributes:
        host: Where its MQTT port is.
        port: Where its MQTT port is.
        window: The server's own idea of the visible windows of some devices: (n, payload), best first.
    """

    host: str
    port: int
    window: Callable[[Sequence[str]], Awaitable[dict[str, Window]]]


@dataclass(frozen=True, slots=True)
class _Role:
    """A kind of device; of a hundred, `share` are of this kind."""

    name: str
    share: int
    follow: tuple[str, ...]
    k: int
    budget: int


# The first four are in the picture. Budgets from that of a small microcontroller to that of a wall display.
_ROLES = (
    _Role("wall", 8, ("#",), k=16, budget=1_024),
    _Role("la", 20, ("quakes/ci",), k=6, budget=256),
    _Role("alaska", 12, ("quakes/ak", "alerts/+/us-ak"), k=6, budget=256),
    _Role("siren", 15, ("alerts/+/+",), k=4, budget=128),
    _Role("bay", 15, ("quakes/nc", "quakes/nn"), k=5, budget=192),
    _Role("atlas", 10, ("quakes/#",), k=8, budget=512),
    _Role("island", 10, ("quakes/hv", "quakes/pr"), k=3, budget=160),
    _Role("newsroom", 5, ("alerts/#", "quakes/us"), k=32, budget=2_048),
    _Role("button", 5, ("quakes/+",), k=1, budget=112),
)


def fleet_of(devices: int) -> list[DeviceSpec]:
    """Device specs: one of each role first, then by their shares."""
    made: Counter[_Role] = Counter()
    specs = []
    for _ in range(devices):
        # The role that lacks most; in the beginning each in its turn, so that a small fleet has all.
        role = min(_ROLES, key=lambda one: made[one] and (made[one] + 1) / one.share)
        made[role] += 1
        specs.append(DeviceSpec(f"{role.name}-{made[role]:03}", role.follow, role.k, role.budget))
    return specs


async def run_demo(
    *,
    seconds: float,
    devices: int = 200,
    seed: int = 1,
    json_output: bool,
    server: ServerHandle,
    console: Console,
) -> int:
    """Runs the demo against `server`.

    Args:
        seconds: How long it takes; the last items are published a few seconds before.
        devices: How many there are.
        seed: Of what people do and when devices reconnect.
        json_output: Print nothing but one JSON object, to standard output, at the end.
        server: The server.
        console: Where to print otherwise: a live picture on a terminal, a line now and then elsewhere.

    Returns:
        0 if in the end every device held exactly the window that the server says, else 1.
    """
    demo = _Demo(server, fleet_of(devices), seconds, seed)
    screen = contextlib.nullcontext(_ignore) if json_output else _screen(console, seconds)
    try:
        outcome = await demo.run(screen)
    except (FleetError, OSError) as error:
        if json_output:
            _write_json({"ok": False, "faults": [str(error)]})
        else:
            console.print(Text.assemble(("✗ ", "bold red"), f"the demo cannot go on: {error}"))
        return 1
    if json_output:
        _write_json(outcome.as_json())
    else:
        console.print(view.summary(outcome))
    return 1 if outcome.faults else 0


def _write_json(result: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(result) + "\n")


Show: TypeAlias = "Callable[[view.Scene], None]"


def _ignore(_scene: view.Scene) -> None:
    """Shows nothing."""


@contextlib.contextmanager
def _screen(console: Console, seconds: float) -> Iterator[Show]:
    """What shows the scenes of a run: a live picture on a terminal, else about ten lines."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield lambda scene: live.update(view.picture(scene, *console.size), refresh=True)
        return
    due = 0.0

    def show(scene: view.Scene) -> None:
        nonlocal due
        if scene.elapsed >= due:
            due += seconds / 10
            console.out(view.line(scene), highlight=False)

    yield show


class _Demo:
    """One run: the stream, the fleet, and what is needed to draw them."""

    def __init__(
        self, server: ServerHandle, specs: Sequence[DeviceSpec], seconds: float, seed: int
    ) -> None:
        self._server = server
        self._seconds = seconds
        publishing = seconds - min(5.0, 0.2 * seconds)
        self._schedule = Schedule.over(thinned(week(), int(publishing * _RATE)), publishing)
        self._fleet = Fleet(specs, host=server.host, port=server.port, seed=seed, feedback=0.02)
        self._publisher = Publisher("demo-publisher")
        self._in_picture = [self._fleet.devices[spec.device] for spec in specs[:_PICTURED]]
        self._first_seen: dict[str, dict[int, float]] = {}
        self._published: Counter[int] = Counter()
        self._acknowledged = 0
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self._doing = ""
        self._start = 0.0
        self._marks: deque[_Mark] = deque(maxlen=4)
        self._rates: deque[float] = deque(maxlen=60)

    async def run(self, screen: AbstractContextManager[Show]) -> view.Outcome:
        """Connects, publishes, waits until quiet, compares.

        Raises:
            FleetError: The devices cannot connect.
            OSError: The publisher cannot, or loses its connection; or the server does not answer about its windows.
        """
        async with self._fleet:
            await self._fleet.start(within=30.0 + len(self._fleet.devices) / 50)
            await self._publisher.open_connection(self._server.host, self._server.port)
            self._start = time.monotonic()
            with screen as show:
                drawing = asyncio.create_task(self._draw(show))
                try:
                    # The time is up when it is up, also where a server has stopped to acknowledge.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._seconds):
                            await self._publish()
                    await self._settle()
                    return await self._compare()
                finally:
                    self._publisher.close()
                    drawing.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await drawing

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    async def _publish(self) -> None:
        began = f"{datetime.fromtimestamp(self._schedule.start, UTC):%d %B %Y}"
        self._doing = (
            f"a real week from {began}, {view.count(round(self._schedule.speed))} times as fast"
        )
        for due in self._schedule:
            await asyncio.sleep(due.offset - self._elapsed)
            await self._room.acquire()
            self._fleet.published(due.item["payload"], due.item["brief"])
            self._publisher.publish(due.channel, due.item).add_done_callback(self._confirmed)
            self._published[due.item["priority"]] += 1

    def _confirmed(self, acknowledged: asyncio.Future[None]) -> None:
        self._room.release()
        # An exception is the lost connection, which the next publish or the verdict tells of.
        self._acknowledged += not acknowledged.cancelled() and acknowledged.exception() is None

    async def _settle(self) -> None:
        """Until everything is acknowledged and no frame came for a while, or time is up."""
        self._fleet.feedback = 0.0
        self._doing = "nothing new is published; the last frames arrive"
        while self._elapsed < self._seconds:
            if self._publisher.in_flight == 0 and self._fleet.quiet_for() > _QUIET:
                return
            await asyncio.sleep(_FRAME)

    async def _compare(self) -> view.Outcome:
        """Compares all windows until they are equal at one moment, or patience ends.

        Items expire all the time, so a window may be changing while the server answers: hence more than one try.
        """
        self._doing = "comparing every window with the server's"
        deadline = self._elapsed + _PATIENCE
        try:
            unequal = await self._differences()
            while unequal and self._elapsed < deadline:
                await asyncio.sleep(_FRAME)
                unequal = await self._differences()
        except TimeoutError:
            raise TimeoutError("the server does not say what its windows are") from None
        return view.Outcome(
            seconds=self._elapsed,
            devices=len(self._fleet.devices),
            items=self._published.total(),
            acknowledged=self._acknowledged,
            unequal=unequal,
            items_held=sum(len(window) for window in self._fleet.windows().values()),
            tally=self._fleet.tally,
        )

    async def _differences(self) -> dict[str, tuple[Window, Window]]:
        names = [*self._fleet.devices]
        unequal = {}
        for start in range(0, len(names), _ASKED_AT_ONCE):
            asked = names[start : start + _ASKED_AT_ONCE]
            async with asyncio.timeout(_PATIENCE):
                answer = await self._server.window(asked)
            held = self._fleet.windows()
            for name in asked:
                window = [(n, payload) for n, payload in answer.get(name, [])]
                if window != held[name]:
                    unequal[name] = (held[name], window)
        return unequal

    async def _draw(self, show: Show) -> None:
        while True:
            show(self._scene())
            await asyncio.sleep(_FRAME)

    def _scene(self) -> view.Scene:
        now, tally = self._elapsed, self._fleet.tally
        mark = _Mark(now, self._published.total(), tally.frames)
        before = self._marks[0] if self._marks else mark  # up to four pictures ago: a second
        self._marks.append(mark)
        passed = max(now - before.at, _FRAME)
        self._rates.append((mark.frames - before.frames) / passed)
        return view.Scene(
            elapsed=now,
            seconds=self._seconds,
            doing=self._doing,
            stream_time=self._schedule.stream_time(min(now, self._schedule.seconds)),
            devices=len(self._fleet.devices),
            published=self._published,
            waiting=self._publisher.in_flight,
            total=len(self._schedule),
            items_rate=(mark.items - before.items) / passed,
            frames_rates=[*self._rates],
            tally=tally,
            shown=[self._shown(device, now) for device in self._in_picture],
        )

    def _shown(self, device: Device, now: float) -> view.Shown:
        seen = self._first_seen.setdefault(device.client_id, {})
        numbers = [item.n for item in device.window]
        for n in numbers:
            seen.setdefault(n, now)
        fresh = frozenset(n for n in numbers if now - seen[n] < _FRESH)
        return view.Shown(device.spec, device.window, fresh)


class _Mark(NamedTuple):
    """Counters at one moment, to take rates from."""

    at: float
    items: int
    frames: int


def thinned(publications: Sequence[Publication], limit: int) -> list[Publication]:
    """At most about `limit` publications: all that are urgent or high, and an even choice of the rest."""
    rest = sum(publication.item["priority"] < HIGH for publication in publications)
    keep = max(limit - (len(publications) - rest), 0) / max(rest, 1)
    chosen, owed = [], 0.0
    for publication in publications:
        if publication.item["priority"] < HIGH:
            owed += keep
            if owed < 1:
                continue
            owed = min(owed - 1, 1.0)
        chosen.append(publication)
    return chosen
