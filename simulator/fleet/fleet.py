"""Many devices against one server, on one clock."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, NoReturn, Self

from simulator.connection import Refused
from simulator.fleet.device import Device
from simulator.fleet.dialling import Dialler
from simulator.fleet.figures import Sampler, usage
from simulator.fleet.outside import ACK_EVERY, OwedAcks
from simulator.fleet.schedule import ramp
from simulator.fleet.spec import DeviceSpec, FleetError, State
from simulator.links.clockwork import Clockwork
from simulator.links.linked import Linked
from simulator.tally import Arrivals, Tally

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence

    from simulator.audience import Audience
    from simulator.fleet.witness import Observer, Sample, Usage
    from simulator.links.profiles import Profile

_AT_ONCE = 64
AT_ONCE_LINKED = 1_024
"""Connections being made at a time. Those through links are mostly waiting for their link."""
_SLICES = 20
"""Parts of a second in which a part of the devices has its tick, so that the work of a second is spread over it."""
_CLOSING = 5.0
"""Seconds that connections may take to end in order."""


class Fleet:
    """Virtual devices against one server.

    Args:
        specs: The devices.
        host: Where the server listens.
        port: Where the server listens.
        seed: Of reconnect times, of links and of what people do.
        feedback: Reactions of people per device and second, where there is no audience.
        outside: The feed works beside a broker such as Mosquitto.
        prefix: What stands before all topics.
        audience: People who look at devices.
        observer: Told of every frame.
        speed: How many simulated seconds pass in a real one, for sleep, people and energy; links are real.
        tls: What connections are encrypted with.
        at_once: Connections through links being made at a time.

    Attributes:
        devices: By id.
        tallies: What is counted, by class.
        arrivals: When each text was published.
        last_frame: When the last frame applied (`time.perf_counter`).
        sleepless: Nobody goes to sleep.
        viewers: Devices by the person in front of them.
        poison: Texts of items that crash devices, each with the ids of those; None: all.
    """

    def __init__(
        self,
        specs: Iterable[DeviceSpec],
        *,
        host: str,
        port: int,
        seed: int = 1,
        feedback: float = 0.0,
        outside: bool = False,
        prefix: str = "",
        audience: Audience | None = None,
        observer: Observer | None = None,
        speed: float = 1.0,
        tls: ssl.SSLContext | None = None,
        at_once: int = AT_ONCE_LINKED,
    ) -> None:
        listed = [*specs]
        self.outside = outside
        self.prefix = prefix
        self.observer = observer
        self.speed = speed
        self.feedback = feedback
        self.tallies = {spec.kind: Tally() for spec in listed}
        self.arrivals = Arrivals()
        self.last_frame = time.perf_counter()
        self.sleepless = False
        self.poison: dict[str | bytes, frozenset[str] | None] = {}
        self.rng = random.Random(seed)  # noqa: S311 - repeatable behaviour, no secrets
        self.owed = OwedAcks()
        self.devices = {
            spec.device: Device(spec, self, seed * 1_000_003 + place)
            for place, spec in enumerate(listed)
        }
        self._audience = audience
        self.viewers = {
            device.spec.person: device
            for device in self.devices.values()
            if device.spec.person is not None
        }
        self._address = host, port
        self._tls = tls
        self._links = Clockwork(speed)
        self._straight = Dialler(_AT_ONCE, self._connect)
        self._linked = Dialler(at_once, self._connect)
        self._clock: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._fault: Exception | None = None
        self._final: str | None = None
        self._stopping = False
        self._coming: set[str] = set()  # who will begin on a ramp
        self._started = 0.0
        self._sampler = Sampler(self.devices.values(), self.tallies)

    # ---- From start to stop

    async def start(
        self, within: float = 30.0, *, over: float = 0.0, names: Iterable[str] | None = None
    ) -> None:
        """Connects devices; returns when each is subscribed and the server knows what it follows.

        Devices that sleep at first are not waited for.

        Args:
            within: Seconds that this may take once the last device has begun.
            over: Seconds over which first connects are spread, with jitter.
            names: Which devices; None: all. The others are off until they are brought.

        Raises:
            FleetError: Some are not after that time, or the server refuses them for good.
        """
        self._started = time.monotonic()
        self._clock = asyncio.create_task(self._run())
        chosen = [*self.devices.values()] if names is None else self._named(names)
        self._spread(chosen, over, Device.begin)
        await self.ready(within + over)

    async def ready(self, within: float) -> None:
        """Waits until all devices that are up, or on a ramp, are subscribed, and the server knows what they follow.

        Raises:
            FleetError: Some are not after `within` seconds, or the server refuses them for good.
        """
        try:
            async with asyncio.timeout(within):
                await self._all_ready()
        except TimeoutError:
            missing = sum(not self._settled(device) for device in self.devices.values())
            raise FleetError(
                f"{missing} of {len(self.devices)} devices are not subscribed after {within:.0f} s"
                + (f" ({self._fault})" if self._fault else "")
            ) from None

    async def deserted(self) -> NoReturn:
        """Waits until the server has refused every device for good, as when all are revoked.

        Raises:
            FleetError: It has: nobody will ever be there again.
        """
        while any(device.state is not State.REFUSED for device in self.devices.values()):
            await self._wait()
        raise FleetError(f"the server refuses all {len(self.devices)} devices, {self._final} first")

    async def stop(self) -> None:
        """Disconnects all devices.

        Raises:
            Exception: What an observer or the audience raised on the fleet's clock, which ended it.
        """
        self._stopping = True
        errors = await self._end_clock()
        await self._straight.stop()
        await self._linked.stop()
        for device in self.devices.values():
            device.leave()
        await self._ended([*self.devices.values()])
        self._links.stop()  # what is still under way on links would keep sockets open
        await asyncio.sleep(0)
        for error in errors:
            raise error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    # ---- What may happen to devices

    async def bring(self, names: Iterable[str], over: float = 0.0) -> None:
        """Switches devices on, spread over `over` seconds with jitter; returns when the last has begun to connect.

        Those that sleep by their schedule go on sleeping.
        """
        self._spread(self._named(names), over, Device.bring)
        await asyncio.sleep(over)

    async def drop(self, names: Iterable[str], *, clean: bool, lose_flash: bool = False) -> None:
        """Takes devices away until they are brought again; returns when their connections have ended.

        Args:
            names: Which devices.
            clean: With DISCONNECT; otherwise as by a loss of power.
            lose_flash: They forget their windows and positions.
        """
        devices = self._named(names)
        for device in devices:
            self._coming.discard(device.client_id)
            device.drop(clean=clean, lose_flash=lose_flash)
        await self._ended(devices)

    async def rouse(self, over: float = 0.0) -> None:
        """Wakes all that sleep, brings all that are off, and lets nobody sleep from now on."""
        self.sleepless = True
        idle = {State.ASLEEP, State.OFF}
        idle_ones = [device for device in self.devices.values() if device.state in idle]
        self._spread(idle_ones, over, Device.rouse)
        await asyncio.sleep(over)

    def stall(self, names: Iterable[str], seconds: float) -> None:
        """Devices read nothing for so long."""
        for device in self._named(names):
            device.stall(seconds)

    def reset(self, names: Iterable[str]) -> None:
        """Devices and server lose their connections at once; devices come back."""
        for device in self._named(names):
            if device.link is not None:
                device.link.reset()
            else:
                device.abort(ConnectionError(f"{device.client_id}: connection reset"))

    def hole(self, names: Iterable[str], seconds: float) -> None:
        """Devices have no coverage for so long: nothing passes, and nobody is told.

        Raises:
            FleetError: One of them has no link.
        """
        for device in self._named(names):
            self._link_of(device).hole(seconds)

    def relink(self, names: Iterable[str], profile: Profile) -> None:
        """Devices come into another network: bytes travel as there from now on, on open connections too.

        Raises:
            FleetError: One of them has no link.
        """
        for device in self._named(names):
            self._link_of(device).relink(profile)

    def poisonous(self, *texts: str | bytes, names: Iterable[str] | None = None) -> None:
        """From now on, a frame with an item of such a text crashes these devices (None: all) before they confirm it."""
        whom = None if names is None else frozenset(names)
        self.poison |= dict.fromkeys(texts, whom)

    def published(self, *texts: str | bytes) -> None:
        """Tells the fleet that an item with these texts goes out now, so that its way is timed."""
        self.arrivals.publish(*texts, now=time.perf_counter())

    # ---- What may be seen

    @property
    def tally(self) -> Tally:
        """What all devices counted together, at this moment."""
        return Tally.of_all(self.tallies.values())

    @property
    def subscribed(self) -> int:
        """Devices that are connected and subscribed now."""
        return sum(device.subscribed for device in self.devices.values())

    @property
    def elapsed(self) -> float:
        """Simulated seconds since the start; 0 before it."""
        return (time.monotonic() - self._started) * self.speed if self._started else 0.0

    def windows(self) -> dict[str, list[tuple[int, str | bytes]]]:
        """What each device holds: (n, payload), best first."""
        return {
            name: [(item.n, item.payload) for item in device.window]
            for name, device in self.devices.items()
        }

    def expected_awake(self) -> set[str]:
        """Who should have its window now, or soon: not asleep, off, dark or in a hole, and not one that does not read."""
        return {name for name, device in self.devices.items() if device.expected}

    def settled_after(self, name: str, rest: float) -> float:
        """Seconds from a device's last request, or from `rest` if that was later, to its last change.

        Args:
            name: The device.
            rest: When the last thing was said that could change a window (`time.perf_counter`).
        """
        device = self.devices[name]
        return max(0.0, device.changed - max(device.asked, rest))

    def quiet_for(self) -> float:
        """Seconds since the last frame."""
        return time.perf_counter() - self.last_frame

    def usage(self) -> dict[str, Usage]:
        """What devices used so far, by class."""
        return usage(self.devices.values(), self.tallies, self.elapsed)

    def sample(self) -> Sample:
        """The fleet now; ages of newest items are counted in `tallies`."""
        return self._sampler.sample(self.elapsed / self.speed)

    # ---- What devices call

    def dial(self, device: Device) -> None:
        """A device wants a connection."""
        if not self._stopping:
            (self._straight if device.spec.link is None else self._linked).dial(device)

    def changed(self) -> None:
        """A device is a step further on its way to being ready, or away."""
        self._changed.set()

    def refused(self, sentence: str) -> None:
        """A device may never do what it has to."""
        self._final = self._final or sentence
        self._changed.set()

    def lost(self, device: Device, why: Exception) -> None:
        """A connection ended: the device tries again after its backoff, unless it wanted the end."""
        self._changed.set()
        if self._stopping or device.state is not State.UP:
            return
        self._fault = why
        device.tally.losses += 1
        if isinstance(why, Refused) and why.final:
            device.state = State.REFUSED
            self.refused(str(why))
            return
        asyncio.get_running_loop().call_later(device.backoff(self.rng), self._again, device)

    def poisons(self, device: str, text: str | bytes) -> bool:
        """Whether an item crashes a device."""
        if text not in self.poison:
            return False
        whom = self.poison[text]
        return whom is None or device in whom

    # ---- Inside

    async def _end_clock(self) -> list[Exception]:
        if self._clock is None:
            return []
        self._clock.cancel()
        ended = await asyncio.gather(self._clock, return_exceptions=True)
        return [error for error in ended if isinstance(error, Exception)]

    def _again(self, device: Device) -> None:
        if device.state is State.UP:
            self.dial(device)

    def _spread(
        self, devices: Sequence[Device], over: float, begin: Callable[[Device], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        for device, delay in zip(devices, ramp(len(devices), over, self.rng), strict=True):
            if delay:
                self._coming.add(device.client_id)
                loop.call_later(delay, self._begin, device, begin)
            else:
                begin(device)

    def _begin(self, device: Device, begin: Callable[[Device], None]) -> None:
        if device.client_id in self._coming and not self._stopping:
            self._coming.discard(device.client_id)
            begin(device)
            self._changed.set()

    def _named(self, names: Iterable[str]) -> list[Device]:
        """Devices by id.

        Raises:
            FleetError: There is no such device.
        """
        try:
            return [self.devices[name] for name in names]
        except KeyError as error:
            raise FleetError(f"there is no device {error}") from None

    def _settled(self, device: Device) -> bool:
        """Whether nobody has to wait for it."""
        there = device.ready or device.state is not State.UP
        return there and device.client_id not in self._coming

    async def _all_ready(self) -> None:
        waiting = [*self.devices.values()]
        while True:
            if self._final is not None:
                raise FleetError(f"the server refuses {self._final}")
            # Asked from the end, and shortened there: of thousands that come one by one none is asked again and again.
            while waiting and self._settled(waiting[-1]):
                waiting.pop()
            if not waiting:
                waiting = [device for device in self.devices.values() if not self._settled(device)]
                if not waiting:
                    return
            await self._wait()

    async def _ended(self, devices: Sequence[Device]) -> None:
        """Waits until these devices have no connection, and ends in the end what does not end by itself."""
        open_ = [device for device in devices if device.open]
        try:
            async with asyncio.timeout(_CLOSING):
                while open_ := [device for device in open_ if device.open]:
                    await self._wait()
        except TimeoutError:
            for device in open_:
                device.abort(ConnectionError(f"{device.client_id}: it could not say goodbye"))

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _connect(self, device: Device) -> None:
        if self._stopping or device.state is not State.UP:
            return
        route = None if device.spec.link is None else self._link_of(device)
        device.timing.dial(time.perf_counter())
        await device.open_connection(*self._address, tls=self._tls, route=route)

    def _link_of(self, device: Device) -> Linked:
        if device.spec.link is None:
            raise FleetError(
                f"{device.client_id} has no link; give it a profile, of which `none` is one"
            )
        if device.link is None:
            device.link = Linked(device.spec.link, device.seed, self._links)
        return device.link

    async def _run(self) -> None:
        """The clock: of each second every device has its turn in one slice."""
        everyone = [*self.devices.values()]
        slices = [everyone[first::_SLICES] for first in range(_SLICES)]
        loop = asyncio.get_running_loop()
        turn, acks_at = 0, 0.0
        while True:
            now = loop.time()
            for device in slices[turn % _SLICES]:
                if device.due <= now:
                    device.tick(now)
                if self.feedback and self.rng.random() < self.feedback:
                    device.react(self.rng)
            if now >= acks_at:
                acks_at = now + ACK_EVERY
                self.owed.settle()
            if self._audience is not None and turn % _SLICES == 0:
                self._audience.tick(self.elapsed, self.speed, self.viewers)
            turn += 1
            # A turn that came late is not made up for: the next ones keep their distance.
            await asyncio.sleep(1.0 / _SLICES)
