"""Rest: nothing is published, everything is connected that can be, and every window is compared with the server's."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devices.frames import payload_capacity
from simulator.facts import DeviceAtRest, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

    from simulator.checker import Checker
    from simulator.facts import Window
    from simulator.faults.server import DeviceState
    from simulator.fleet import Fleet
    from simulator.scenario.host import Host
    from simulator.scenario.posting import Desk

_LOOK_AGAIN = 0.05
_ASKED_AT_ONCE = 250
_SHOWN = 5
"""Devices that did not converge and are shown as evidence; the others are counted."""
_ECHOES = 20
_ECHO_MARGIN = 10.0
"""Seconds that an item has left at least when it is said again: one that ends meanwhile would be accepted anew."""


@dataclass(slots=True)
class Settled:
    """What came of the rest.

    Attributes:
        seconds: Device to the seconds from `rested` (or its own last request, if that was later) to the last change of
            its window before it showed what the server says: not to the moment when we looked.
        left: Devices that never did.
        findings: What contradicts the promises.
        echoes: Items that were sent again, and how many of them the server took for new; None: not tried.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    echoes: tuple[int, int] | None = None


class Settling:
    """Waits for rest, and has it judged.

    Args:
        host: Asked what each device should show.
        fleet: Asked what each device shows.
        desk: Says things again.
        checker: Who judges.
        sample: The devices that it judges.
    """

    def __init__(
        self, host: Host, fleet: Fleet, desk: Desk, checker: Checker, sample: Sequence[str]
    ) -> None:
        self._host = host
        self._fleet = fleet
        self._desk = desk
        self._checker = checker
        self._sample = sample

    async def converge(self, devices: Sequence[str], rested: float, patience: float) -> Settled:
        """Waits until each of these devices has shown its feed at one moment from now on.

        At one moment for each, not one for all: items expire and rankings learn, so that windows go on changing.

        Args:
            devices: Who is connected.
            rested: When the last thing was said or done (`time.perf_counter`).
            patience: Seconds that it may take.

        Raises:
            ServerFault: The server does not answer.
        """
        began = time.monotonic()
        found = Settled(left=[*devices])
        while found.left and time.monotonic() - began < patience:
            left: list[str] = []
            for asked in _parts(found.left):
                feeds = await self._host.windows(asked)
                for name in asked:
                    if feeds.get(name) == self._shown(name):
                        found.seconds[name] = self._fleet.settled_after(name, rested)
                    else:
                        left.append(name)
            found.left = left
            if left:
                await asyncio.sleep(_LOOK_AGAIN)
        return found

    async def judge(self, settled: Settled, patience: float) -> None:
        """Adds what contradicts the promises, once the server had time to put it right.

        Raises:
            ServerFault: The server does not answer.
        """
        until = time.monotonic() + patience
        names = [name for name in self._sample if name in settled.seconds]
        while True:
            looked, now = await self._look(names)
            found = self._checker.judge(looked, now, await self._host.barred())
            if not found or time.monotonic() > until:
                break
            await asyncio.sleep(_LOOK_AGAIN)
        settled.findings += found
        if settled.left:
            looked, _ = await self._look(settled.left[:_SHOWN])
            findings = self._checker.diverged(looked)
            settled.findings += findings
            more = len(settled.left) - len(findings)
            if more > 0:
                sentence = f"{more} more devices did not show their feed within the time"
                settled.findings.append(Finding("G2", sentence))

    async def repeat(self, rng: Random, patience: float) -> tuple[int, int]:
        """Publishes what was acknowledged once more (G4): how many, and how many of them were new to the server.

        Raises:
            ServerFault: The server does not answer.
        """
        current = self._checker.current(time.time(), _ECHO_MARGIN)
        items = [item for content in current if (item := self._desk.item(content)) is not None]
        echoes = rng.sample(items, min(_ECHOES, len(items)))
        before = (await self._host.counts()).accepted
        self._desk.repeat(echoes)
        await self._desk.acknowledge(patience)
        return len(echoes), (await self._host.counts()).accepted - before

    def _shown(self, name: str) -> Window:
        return tuple((item.n, item.payload) for item in self._fleet.devices[name].window)

    async def _look(self, names: Sequence[str]) -> tuple[list[DeviceAtRest], float]:
        states = await self._host.states(names)
        found = []
        for asked in _parts(names):
            feeds = await self._host.windows(asked)
            found += [
                _at_rest(name, self._shown(name), states.get(name), feeds.get(name))
                for name in asked
            ]
        return found, time.time()


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _ASKED_AT_ONCE):
        yield names[start : start + _ASKED_AT_ONCE]


def _at_rest(
    name: str, shown: Window, state: DeviceState | None, feed: Window | None
) -> DeviceAtRest:
    if state is None:
        return DeviceAtRest(name, 0, 0, (), {}, shown, None)
    capacity = payload_capacity(state.budget, name)
    evidence = (f"server: {dict(state.details)}",)
    return DeviceAtRest(
        name, state.k, capacity, state.follow, state.attributes, shown, feed, evidence
    )
