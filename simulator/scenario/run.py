"""A run: a server, a fleet, publishers and faults on one timeline; then rest, judgement, and the result."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from simulator.checker import Checker
from simulator.facts import Finding, ServerClock
from simulator.faults.publishers import FaultyPublisher
from simulator.faults.server import ServerFault
from simulator.fleet import Fleet, FleetError, State
from simulator.scenario.acts import Acts
from simulator.scenario.background import background, leaves
from simulator.scenario.balancer import Balancer
from simulator.scenario.classes import sample, specs
from simulator.scenario.crowd import crowd
from simulator.scenario.gauges import Gauges
from simulator.scenario.model import TO_SERVER
from simulator.scenario.offers import POISON, Offer, offers
from simulator.scenario.outcome import Ending, Parts, result
from simulator.scenario.posting import GIVE_UP, Desk, Posting
from simulator.scenario.samples import Moving, Sampler
from simulator.scenario.screen import Scene
from simulator.scenario.settling import Settling
from simulator.scenario.sight import Sight
from simulator.scenario.timeline import Pace, pace, timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.fleet import DeviceSpec
    from simulator.results import Result
    from simulator.scenario.host import Host
    from simulator.scenario.model import Scenario
    from simulator.scenario.outcome import Options
    from simulator.scenario.screen import Show
    from simulator.scenario.tables import Publisher

JUDGED = 200
"""Devices whose every frame goes to the judge, at most."""

_GREETING = 90.0
"""Seconds more than the run itself that the fleet may take to be subscribed: it is the rest that insists on it."""
_NAMED = 5
"""Devices that are named where many are meant."""
_ROUSED = 200
"""Devices per second that are connected for the rest: enough for a server, and for links."""
_QUIET = 2.0
_SLOW = 60.0
"""Seconds of patience more where links or readers are slow."""


class Run:
    """One run of a scenario; made for one use.

    Args:
        scenario: Valid.
        host: The server, not started.
        options: How large, how long.
        show: Called with the state of things again and again.

    Raises:
        TooFew: There are fewer devices than the classes ask for.
        SourceError: The stream of a publisher cannot be read.
    """

    def __init__(self, scenario: Scenario, host: Host, options: Options, show: Show) -> None:
        self._scenario = scenario
        self._host = host
        self._options = options
        self._line = timeline(scenario, options.seconds)
        self._specs = [
            replace(spec, credentials=host.access.login(spec.device))
            for spec in specs(scenario, options.devices, options.seed)
        ]
        self._members: dict[str, list[str]] = {one.name: [] for one in scenario.classes}
        for spec in self._specs:
            self._members[spec.kind].append(spec.device)
        self._judged = sample(self._members, JUDGED)
        self._fragile = [
            name for one in scenario.classes if one.fragile for name in self._members[one.name]
        ]
        self._offers = {
            one.name: offers(one, options.seed, self._pace(one).passed(self._line.seconds))
            for one in scenario.publishers
        }
        self._clock = ServerClock()
        self._checker = Checker(self._clock)
        self._crowd = crowd(self._specs, options.seed)
        self._show = show
        self._doing = ""
        self._moving: Moving | None = None
        self._parts: Parts | None = None
        self._ending = Ending(notes=[*options.notes, *self._left_out()])

    def _pace(self, publisher: Publisher) -> Pace:
        return pace(self._scenario, self._line, publisher.name)

    def _left_out(self) -> Iterator[str]:
        """What cannot happen here: a server that is not ours is not ended."""
        for fault in self._scenario.faults:
            if fault.do in TO_SERVER and not self._host.processes:
                yield f"{fault.do} at {fault.at:g} s was left out: {self._host.words} is not ours to end."

    async def run(self) -> Result:
        """Everything, from the start of the server to its end.

        One that is cancelled ends what it started, and its result says that it is not complete.
        """
        began, started = time.monotonic(), time.time()
        async with AsyncExitStack() as opened:
            try:
                parts = self._parts = await self._open(opened)
                began, started = time.monotonic(), time.time()
                await self._go(parts, began)
                self._ending.complete = True
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
                note = "It was interrupted: this is what had been measured by then."
                self._ending.notes.append(note)
            except ServerFault as fault:
                self._fault(fault)
            except ExceptionGroup as faults:
                ours, others = faults.split((ServerFault, FleetError))
                if others is not None:
                    raise
                for each in leaves(ours):
                    self._fault(each)
            self._ending.seconds = time.monotonic() - began
            self._say("ending what was started")
            return result(
                self._scenario,
                self._options,
                self._host,
                self._line,
                self._members,
                self._parts,
                self._ending,
                started,
            )

    def _fault(self, fault: BaseException) -> None:
        self._ending.findings.append(Finding("server", str(fault)))

    def _say(self, doing: str) -> None:
        self._doing = doing
        self._tell()

    def _moved(self, moving: Moving) -> None:
        self._moving = moving
        self._tell()

    def _tell(self) -> None:
        self._show(
            Scene(
                self._scenario.scenario.name,
                self._host.words,
                len(self._specs),
                self._line.phases,
                self._line.seconds,
                self._doing,
                [*self._parts.acts.working] if self._parts else [],
                self._moving,
            )
        )

    # ---- Start

    async def _open(self, opened: AsyncExitStack) -> Parts:
        self._say(f"starting {self._host.words}")
        opened.push_async_callback(self._host.close)
        await self._host.start()
        address = self._host.addresses[0]
        if len(self._host.addresses) > 1:
            balancer = await opened.enter_async_context(Balancer(self._host.addresses))
            address = balancer.address
        head = self._scenario.scenario
        sight = Sight(self._checker, self._judged)
        fleet = Fleet(
            self._specs,
            host=address[0],
            port=address[1],
            seed=self._options.seed,
            outside=self._host.outside,
            audience=self._crowd,
            observer=sight,
            speed=head.speed,
            tls=self._host.access.tls,
            feedback=head.feedback,
            at_once=head.at_once,
        )
        opened.push_async_callback(fleet.stop)
        sight.there = lambda: {name for name in self._judged if fleet.devices[name].subscribed}
        sight.dialled = lambda name: fleet.devices[name].timing.dialled
        desk = self._desk(address, fleet, sight)
        opened.callback(desk.close)
        if not await desk.connect():
            raise ServerFault(f"publishers cannot connect to {address[0]}:{address[1]}")
        acts = Acts(
            self._line,
            fleet,
            desk,
            self._host,
            self._clock,
            self._members,
            self._options.seed,
        )
        gauges = Gauges(self._host.addresses, outside=self._host.outside, access=self._host.access)
        sampler = Sampler(
            fleet,
            desk,
            self._host,
            gauges,
            sight,
            self._crowd,
            time.monotonic(),
            self._line.seconds,
            self._moved,
        )
        return Parts(
            fleet, desk, acts, sampler, gauges, sight, self._checker, self._crowd, self._judged
        )

    def _desk(self, address: tuple[str, int], fleet: Fleet, sight: Sight) -> Desk:
        def publisher(name: str) -> FaultyPublisher:
            rng = Random(f"{self._options.seed}/{name}/packets")  # noqa: S311 - no secret
            return FaultyPublisher(name, rng, self._checker, lambda: address, self._host.access)

        def said(offer: Offer) -> None:
            self._said(offer, fleet, sight)

        postings = [
            Posting(publisher(one.name), self._offers[one.name], self._pace(one), said, one.late)
            for one in self._scenario.publishers
        ]
        always = Pace((0.0,), (1.0,), (0.0,))
        return Desk(postings, Posting(publisher("control-room"), iter(()), always, said))

    def _said(self, offer: Offer, fleet: Fleet, sight: Sight) -> None:
        """Everybody hears of an item before it goes out, as its frame may be there before we are."""
        content = offer.item.content
        if content.retract:
            return
        texts = [content.payload, *([content.brief] if content.brief else [])]
        fleet.published(*texts)
        sight.published(content)
        if content.payload.startswith(POISON) and self._fragile:
            fleet.poisonous(*texts, names=self._fragile)
        if offer.number is not None and self._crowd is not None:
            self._crowd.publish(
                offer.number,
                *texts,
                at=fleet.elapsed,
                channel=content.key.channel,
                ttl=content.ttl * fleet.speed,
            )

    # ---- The phases

    async def _go(self, parts: Parts, began: float) -> None:
        self._say("")
        parts.sight.phase = lambda: self._line.phase(time.monotonic() - began).name
        async with background(parts.sampler.run(), parts.desk.stay(), parts.gauges.stay()):
            async with asyncio.TaskGroup() as tasks:
                starting = tasks.create_task(self._start(parts.fleet))
                tasks.create_task(parts.desk.run(began, self._line.seconds))
                tasks.create_task(parts.acts.run(began))
                await asyncio.sleep(self._line.seconds)
                starting.cancel()  # who sleeps by turns is never ready all at once; the rest asks again
            self._ending.busiest = parts.sampler.busiest
            self._ending.usage = parts.fleet.usage()
            self._ending.exhausted = {
                kind: tally.exhausted for kind, tally in parts.fleet.tallies.items()
            }
            await self._rest(parts)
            await parts.sampler.look()

    async def _start(self, fleet: Fleet) -> None:
        await fleet.start(self._line.seconds + _GREETING, over=self._line.ramps[0].over)
        await fleet.deserted()

    # ---- Rest

    async def _rest(self, parts: Parts) -> None:
        """Everybody who can is connected, nothing is said any more, and all is compared."""
        patience = self._options.patience + (_SLOW if self._is_slow else 0.0)
        self._say("rest: what is under way arrives")
        parts.fleet.feedback = 0.0
        if self._crowd is not None:
            self._crowd.leave()
        left = await parts.desk.acknowledge(patience)
        if left:
            sentence = f"{left} items got no acknowledgement within {patience:g} s of the end"
            self._ending.findings.append(Finding("G1", sentence))
        if parts.desk.gave_up:
            sentence = f"the server took no items for {GIVE_UP:g} s, and the rest was not published"
            self._ending.findings.append(Finding("server", sentence))
        idle = {State.ASLEEP, State.OFF}
        away = sum(device.state in idle for device in parts.fleet.devices.values())
        await parts.fleet.rouse(over=away / _ROUSED)
        await self._connected(parts.fleet, patience)
        if self._host.asked:
            await self._compare(parts, patience)
        else:
            await _quiet(parts.fleet, patience)

    async def _connected(self, fleet: Fleet, patience: float) -> None:
        """Waits for everybody, but not for ever for whom a bad link keeps away.

        Raises:
            FleetError: The server refuses somebody for good.
        """
        try:
            await fleet.ready(patience)
        except FleetError as error:
            states = [device.state for device in fleet.devices.values()]
            if State.REFUSED in states:
                raise
            stuck = [
                device.client_id
                for device in fleet.devices.values()
                if device.state is State.UP and not device.ready and _is_near(device.spec)
            ]
            if stuck:
                self._ending.findings.append(Finding("G2", str(error), tuple(stuck[:_NAMED])))

    async def _compare(self, parts: Parts, patience: float) -> None:
        self._say("rest: every window is compared with the server's")
        settling = Settling(self._host, parts.fleet, parts.desk, self._checker, self._judged)
        there = parts.fleet.expected_awake()
        everybody = parts.fleet.devices
        devices = [name for name in everybody if name in there and everybody[name].ready]
        settled = self._ending.settled = await settling.converge(
            devices, max(parts.desk.last, parts.acts.last), patience
        )
        self._say("rest: the judge looks at all that was acknowledged")
        await settling.judge(settled, patience)
        rng = Random(f"{self._options.seed}/echo")  # noqa: S311 - no secret
        settled.echoes = await settling.repeat(rng, patience)
        self._ending.barred = frozenset(await self._host.barred())
        await parts.sampler.ask()

    @property
    def _is_slow(self) -> bool:
        return any(one.stall or one.link != "none" for one in self._scenario.classes)


async def _quiet(fleet: Fleet, patience: float) -> None:
    """Until no frame came for a while."""
    until = time.monotonic() + patience
    while fleet.quiet_for() < _QUIET and time.monotonic() < until:  # noqa: ASYNC110 - silence is no event
        await asyncio.sleep(_QUIET / 4)


def _is_near(spec: DeviceSpec) -> bool:
    """Whether nothing but the server decides on its connection."""
    return spec.link is None or spec.link.straight
