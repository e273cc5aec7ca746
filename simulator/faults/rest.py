"""Rest: everyone connects, everything is acknowledged, and every window is compared with what it must be."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from devices.frames import payload_capacity
from simulator.checker import unchanged
from simulator.facts import DeviceAtRest, Finding
from simulator.faults import behaviour

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from simulator.checker import Checker
    from simulator.facts import Window
    from simulator.faults.devices import FaultyDevice
    from simulator.faults.publishers import FaultyPublisher
    from simulator.faults.server import DeviceState, UnderTest

PATIENCE = 15.0
"""Seconds until everything must have come to rest."""

_LOOK_AGAIN = 0.05
_RECONNECT_SHARE = 0.4
_ECHOES = 12
_REPETITIONS = 5
_ECHO_MARGIN = 6.0
"""Seconds that an item has left at least when it is repeated: one that ends meanwhile would be accepted anew."""

_ENDING = 2.0
"""Seconds around its end in which an item may be shown or not."""

_STABLE = 0.5
"""Seconds without a change after which nothing more is expected to change."""


class Rest:
    """Brings everything to rest and has it judged.

    Args:
        server: Running; no fault is at work on it any more.
        checker: Who judges.
        devices: Those that fail.
        healthy: Those that do not.
        publishers: All of them.
        rng: Which devices connect anew although they need not.
    """

    def __init__(
        self,
        server: UnderTest,
        checker: Checker,
        devices: Sequence[FaultyDevice],
        healthy: Sequence[FaultyDevice],
        publishers: Sequence[FaultyPublisher],
        rng: Random,
    ) -> None:
        self._server = server
        self._checker = checker
        self._sick = devices
        self._devices = [*devices, *healthy]
        self._publishers = publishers
        self._rng = rng

    async def settle(self) -> tuple[tuple[float, ...], list[Finding]]:
        """Waits until every window is what it must be, for `PATIENCE` at most.

        Returns:
            For each device the seconds that it took, and what is wrong in the end.

        Raises:
            ServerFault: The server does not answer.
        """
        until = time.monotonic() + PATIENCE
        for device in self._sick:
            if device.needs_connection or self._rng.random() < _RECONNECT_SHARE:
                device.connect_soon()
        findings = await self._acknowledge_everything(until)
        rested = time.time()
        settled: dict[str, float] = {}
        while not findings:
            for device in self._devices:
                if device.needs_connection and not device.connected:
                    device.connect_soon()
            looked, now = await self._look()
            for device, seen in zip(self._devices, looked, strict=True):
                if seen.shown == seen.feed:
                    # Noted when it is first so: later on items end, and windows change again.
                    settled.setdefault(device.name, device.settled_after(rested))
            wrong = self._checker.diverged(looked)
            wrong += self._checker.judge(looked, now, await self._server.barred())
            if not wrong:
                wrong = await self._server.misplaced({seen.device: seen.feed for seen in looked})
            if not wrong:
                self._checker.settle(looked, now)
                break
            if time.monotonic() > until:
                findings = wrong
            await asyncio.sleep(_LOOK_AGAIN)
        return tuple(settled.values()), findings

    async def repeat(self, rng: Random) -> list[Finding]:
        """Everybody repeats what was acknowledged or said: no feed may change but by time (G4).

        Raises:
            ServerFault: The server does not answer.
        """
        # On connections of now: an old one may be dead without knowing, and what it says be heard only when it is repeated.
        await asyncio.gather(*(device.connect() for device in self._sick))
        for device in self._sick:
            behaviour.say_all(device, self._checker, rng)
        # What was lost on its way, or spoke of an item that was not there yet, is heard for the first time only
        # now, and may change any feed. So it goes on until nothing is new to the server.
        for _ in range(_REPETITIONS):
            findings, new = await self._repeat_once(rng)
            if not (new or findings):
                return []
            if not new:
                # What changed may have been on its way between nodes: not so a second time.
                return (await self._repeat_once(rng))[0]
        sentence = (
            f"what was said {_REPETITIONS} times is still new to the server, {new} times at last"
        )
        return [Finding("G4", sentence), *findings]

    async def _repeat_once(self, rng: Random) -> tuple[list[Finding], int]:
        """What is wrong, and how much was new to the server."""
        before, now = await self._stable()
        known = await self._server.heard()
        current = self._checker.current(now, _ECHO_MARGIN)
        for content in rng.sample(current, min(_ECHOES, len(current))):
            self._publishers[0].repeat(content)
        for device in self._sick:
            device.say_again()
        findings = await self._acknowledge_everything(time.monotonic() + PATIENCE)
        after, later = await self._stable()
        margin = max(_ECHO_MARGIN, later - now + _ENDING)
        findings += unchanged(before, after, lambda n: self._checker.may_end(n, now, margin))
        return findings, await self._server.heard() - known

    async def _acknowledge_everything(self, until: float) -> list[Finding]:
        """Until no publisher waits; a publisher that reconnects sends again what is not acknowledged."""
        while waiting := [one for one in self._publishers if one.in_flight or not one.connected]:
            for publisher in waiting:
                if not publisher.connected:
                    await publisher.connect()
            if time.monotonic() > until:
                return [
                    Finding("G1", f"{one.name} got no acknowledgement for {one.in_flight} packets")
                    for one in waiting
                ]
            await asyncio.sleep(_LOOK_AGAIN)
        return []

    async def _stable(self) -> tuple[list[DeviceAtRest], float]:
        """What devices and server show once both stopped to change; at most for `PATIENCE`."""
        until = time.monotonic() + PATIENCE
        await asyncio.sleep(_LOOK_AGAIN)
        looked, since = await self._look(), time.monotonic()
        # Not after two looks: on a busy machine what was said last may not have been heard yet.
        while time.monotonic() < min(until, since + _STABLE):
            await asyncio.sleep(_LOOK_AGAIN)
            before, looked = looked, await self._look()
            if before[0] != looked[0]:
                since = time.monotonic()
        return looked

    async def _look(self) -> tuple[list[DeviceAtRest], float]:
        """What every device shows, and what it should show."""
        names = [device.name for device in self._devices]
        states = await self._server.states(names)
        windows = await self._server.windows(names)
        found = [
            _at_rest(device, states.get(device.name), windows.get(device.name))
            for device in self._devices
        ]
        return found, time.time()


def _at_rest(device: FaultyDevice, state: DeviceState | None, feed: Window | None) -> DeviceAtRest:
    if state is None:
        return DeviceAtRest(device.name, 0, 0, (), {}, device.shown, None, (*device.log,))
    capacity = payload_capacity(state.budget, device.name)
    return DeviceAtRest(
        device.name, state.k, capacity, state.follow, state.attributes, device.shown, feed,
        (f"server: {dict(state.details)}", *device.log),
    )  # fmt: skip
