"""The link of a device: connections over it, what they cost, and trouble at random or on command."""

from __future__ import annotations

import asyncio
import errno
from math import inf, log
from typing import TYPE_CHECKING, Final

from simulator.links.channel import Channel
from simulator.links.link import uniform
from simulator.links.modem import Modem

if TYPE_CHECKING:
    import ssl as tls

    from simulator.links.clockwork import Clockwork
    from simulator.links.modem import Meter
    from simulator.links.profiles import Profile

_HOUR: Final = 3_600.0
_64: Final = 0xFFFFFFFFFFFFFFFF


class Linked:
    """The link of one device, over its whole life; it has one connection at a time.

    Args:
        profile: Of the link.
        seed: Of all chance.
        clock: Shared by the links of a process.

    Attributes:
        profile: At the moment.
        modem: Counts bytes, and knows when the radio was busy.
        clock: As given.
        no_coverage_until: When a coverage hole ends, or has ended (of that clock).
    """

    __slots__ = ("_channel", "_connections", "_drawn", "_seed", "alarm", "clock", "modem", "no_coverage_until", "profile")  # fmt: skip

    def __init__(self, profile: Profile, seed: int, clock: Clockwork) -> None:
        self.profile = profile
        self.alarm = inf
        self._seed = (seed * 0xD1342543DE82EF95 + 1) & _64  # neighbouring seeds shall not meet
        self.clock = clock
        self.modem = Modem(profile, clock.time(), clock.speed)
        self._channel: Channel | None = None
        self._connections = 0
        self._drawn = 0
        self.no_coverage_until = -inf
        self._expect_trouble()

    @property
    def meter(self) -> Meter:
        """What the modem has counted up to now."""
        return self.modem.read(self.clock.time())

    @property
    def covered(self) -> bool:
        """Whether there is coverage."""
        return self.clock.time() >= self.no_coverage_until

    def joules(self, elapsed: float, duty: float = 1.0) -> float:
        """What the radio has taken, an estimate.

        Args:
            elapsed: Seconds that the device has lived, in its time.
            duty: Share of these for which its schedule lets it be awake.
        """
        return self.modem.joules(self.clock.time(), elapsed, duty)

    async def connect(
        self,
        protocol: asyncio.Protocol,
        host: str,
        port: int,
        ssl: tls.SSLContext | None = None,
    ) -> None:
        """Connects, as `loop.create_connection(lambda: protocol, host, port, ssl=ssl)` would over this link.

        There is no limit of time but TCP's: whoever wants one sets it.

        Raises:
            OSError: The server cannot be reached, or (`TimeoutError`) the link lets nothing through.
        """
        assert self._channel is None, "a device has one connection at a time"
        now = self.clock.time()
        self._connections += 1
        channel = self._channel = Channel(self, protocol, self._seed ^ self._connections << 1)
        if not self.profile.straight or now < self.no_coverage_until:
            channel.interpose(now)
        try:
            if wait := self.modem.opens(now):
                await asyncio.sleep(wait)
            await channel.open(host, port, ssl)
        except BaseException:
            channel.give_up()
            raise

    def hole(self, seconds: float) -> None:
        """No coverage for so long; then TCP goes on, unless it gave up, or one end did."""
        now = self.clock.time()
        self.no_coverage_until = max(self.no_coverage_until, now + seconds)
        if self._channel is not None:
            self._channel.interpose(now)

    def reset(self) -> None:
        """Both ends of the connection see it reset, at once."""
        if self._channel is not None:
            self._channel.reset(ConnectionResetError(errno.ECONNRESET, "the link reset the connection"))  # fmt: skip

    def relink(self, profile: Profile) -> None:
        """Another profile from now on, for an open connection too; what is under way arrives as it would have."""
        now = self.clock.time()
        self.profile = profile
        self.modem.change(profile, now)
        if self._channel is not None:
            self._channel.change(profile, now)
        self._expect_trouble()

    def left(self, channel: Channel) -> None:
        """See `channel.Device`."""
        if self._channel is channel:
            self._channel = None

    def wake(self, now: float) -> None:
        """See `Sleeper`: a reset or a hole, if there is a connection to concern."""
        del now
        profile = self.profile
        both = profile.reset_per_hour + profile.hole_per_hour
        if self._channel is not None and both:
            if self._draw() * both < profile.reset_per_hour:
                self.reset()
            else:
                self.hole(profile.hole_seconds * (0.5 + self._draw()))
        self._expect_trouble()

    def drop(self) -> None:
        """See `Sleeper`: no more trouble."""

    def _expect_trouble(self) -> None:
        """Asks for the next reset or hole: a Poisson process, so what has been so far says nothing of it."""
        rate = (self.profile.reset_per_hour + self.profile.hole_per_hour) / _HOUR
        if rate:
            self.clock.ask(self, self.clock.time() - log(1 - self._draw()) / rate)

    def _draw(self) -> float:
        self._drawn += 1
        return uniform(self._seed, self._drawn)
