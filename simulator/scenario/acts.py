"""Faults at work: what each does to servers, devices and publishers, when it begins and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from random import Random
from typing import TYPE_CHECKING

from simulator.results import Span
from simulator.scenario.classes import chosen
from simulator.scenario.model import EVERYBODY, FEEDBACK, TO_SERVER
from simulator.scenario.offers import burst
from simulator.scenario.tables import profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from simulator.facts import ServerClock
    from simulator.fleet import Fleet
    from simulator.scenario.host import Host
    from simulator.scenario.posting import Desk
    from simulator.scenario.timeline import Moment, Ramp, Timeline

AWAY = frozenset({"outage", "sleep", "power-loss", "storm"})
"""What takes devices away, to be brought back later."""


class Acts:
    """Carries out a timeline.

    Args:
        line: What happens when.
        fleet: To whom.
        desk: Who publishes.
        host: The server.
        clock: Told when a server was started anew.
        members: Devices by class.
        seed: Of who is chosen.

    Attributes:
        working: Titles of the faults at work, with the time when they began.
        spans: Those that are over, as they really were.
        last: When the last one ended (`time.perf_counter`).
    """

    def __init__(
        self,
        line: Timeline,
        fleet: Fleet,
        desk: Desk,
        host: Host,
        clock: ServerClock,
        members: Mapping[str, Sequence[str]],
        seed: int,
    ) -> None:
        self.working: dict[str, float] = {}
        self.spans: list[Span] = []
        self.last = 0.0
        self._line = line
        self._fleet = fleet
        self._desk = desk
        self._host = host
        self._clock = clock
        self._members = members
        self._rng = Random(f"{seed}/faults")  # noqa: S311 - no secret
        self._bursts = 0
        self._restarting = asyncio.Lock()

    async def run(self, began: float) -> None:
        """All faults and all ramps but the first, at their times after `began` (monotonic); returns after the last.

        Raises:
            ServerFault: A server did not end or start as it should.
        """
        # Drawn before anything happens, so that who is concerned does not depend on what is faster today.
        concerned = {moment: self._concerned(moment) for moment in self._line.moments}
        async with asyncio.TaskGroup() as tasks:
            for moment, devices in concerned.items():
                tasks.create_task(self._at(began, moment, devices))
            for ramp in self._line.ramps[1:]:
                tasks.create_task(self._ramp(began, ramp))

    def _concerned(self, moment: Moment) -> list[str]:
        fault = moment.fault
        if fault.do in TO_SERVER or fault.do in {"spike", "burst", "poison"}:
            return []
        return chosen(fault.names, fault.share, self._members, self._rng)

    async def _ramp(self, began: float, ramp: Ramp) -> None:
        await _until(began + ramp.at)
        everybody = [name for names in self._members.values() for name in names]
        await self._fleet.bring(everybody, ramp.over)

    async def _at(self, began: float, moment: Moment, devices: Sequence[str]) -> None:
        await _until(began + moment.at)
        if moment.fault.do in TO_SERVER:
            await self._strike(began, moment)
        else:
            with self._at_work(began, moment.title):
                await self._do(began, moment, devices)

    async def _do(self, began: float, moment: Moment, devices: Sequence[str]) -> None:
        fault, lasts = moment.fault, moment.end - moment.at
        if fault.do in AWAY:
            await self._fleet.drop(
                devices, clean=fault.do == "sleep", lose_flash=fault.do == "power-loss"
            )
            if fault.do != "storm":
                await _until(began + moment.end)
            await self._fleet.bring(devices, moment.over)
        elif fault.do == "reset":
            self._fleet.reset(devices)
        elif fault.do == "hole":
            self._fleet.hole(devices, lasts)
            await _until(began + moment.end)
        elif fault.do == "stall":
            self._fleet.stall(devices, lasts)
            await _until(began + moment.end)
        elif fault.do == "relink":
            assert fault.link is not None
            self._fleet.relink(devices, profile(fault.link))
            await _until(began + moment.end)
        elif fault.do == "spike":  # of publishers the paces know
            with self._feedback(fault.factor if {FEEDBACK, EVERYBODY} & {*fault.names} else 1.0):
                await _until(began + moment.end)
        else:
            items = burst(fault, self._bursts)
            self._bursts += fault.count
            await self._desk.say(items)

    @contextlib.contextmanager
    def _feedback(self, factor: float) -> Iterator[None]:
        """Devices say so many times as much."""
        self._fleet.feedback *= factor
        try:
            yield
        finally:
            self._fleet.feedback /= factor

    @contextlib.contextmanager
    def _at_work(self, began: float, title: str) -> Iterator[None]:
        """Notes a fault, from now to the end."""
        start = self.working[title] = time.monotonic() - began
        try:
            yield
        finally:
            self.working.pop(title, None)
            self.spans.append(Span(title, start, time.monotonic() - began))
            self.last = time.perf_counter()

    async def _strike(self, began: float, moment: Moment) -> None:
        """Ends the server, or each node in turn, and starts it again."""
        fault = moment.fault
        processes = [*enumerate(self._host.processes, start=1)]
        if fault.node is not None:
            processes = processes[fault.node - 1 : fault.node]
        for number, process in processes:
            one = "the server" if len(self._host.processes) == 1 else f"node {number}"
            # Two faults of one server are one after the other.
            async with self._restarting:
                with self._at_work(began, f"{fault.do} {one}"):
                    await (process.kill() if fault.do == "kill" else process.stop())
                    if fault.do != "restart":
                        await asyncio.sleep(moment.end - moment.at)
                    self._clock.restart(time.time())
                    await process.start()


async def _until(moment: float) -> None:
    await asyncio.sleep(max(moment - time.monotonic(), 0.0))
