"""Bytes and segments of one device as its modem counts them, and what they keep its radio busy with.

An MQTT packet of 60 bytes is 100 bytes on the air, and then somebody acknowledges it. Counted are: headers of IPv4 and
TCP for each segment, the handshake and the end of each connection, acknowledgements that no data took along,
segments that were sent again, and TLS if there is any. Segments lost on the way down are counted too, although the
modem did not hear them: the operator's bill has them, and so has the air.

Pure: events and their times in, counts out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from simulator.links.energy import Activity
from simulator.links.link import HEADER, MSS

if TYPE_CHECKING:
    from simulator.links.link import Again
    from simulator.links.profiles import Profile

SYN: Final = 4
"""Bytes that SYN has beyond a header: the option MSS (RFC 9293, 3.7.1)."""

TLS_HELLO: Final = 517
"""Bytes of a ClientHello of OpenSSL 3."""

TLS_FINISHED: Final = 80
"""Bytes of the client's Finished, and with it ChangeCipherSpec."""

TLS_FLIGHT: Final = 1_940
"""Bytes from the server: ServerHello to Finished with a certificate and an intermediate one of P-256, and two tickets.
Measured with OpenSSL 3 and TLS 1.3; two RSA certificates make it 2 918."""

TLS_RECORD: Final = 22
"""Bytes more for each record: header 5, type 1, tag of AEAD 16 (RFC 8446, 5.1 and 5.2; measured too)."""

_DEVICE_DELAY: Final = 0.25
"""Seconds for which a small stack holds back an acknowledgement, hoping for data to take it along: lwIP's
TCP_TMR_INTERVAL. RFC 9293, 3.8.6.3 allows 0.5."""

_SERVER_DELAY: Final = 0.04
"""Seconds for which Linux does."""


@dataclass(slots=True)
class Meter:
    """Over the air, headers and all.

    Attributes:
        down, up: Bytes.
        packets_down, packets_up: TCP segments.
    """

    down: int = 0
    up: int = 0
    packets_down: int = 0
    packets_up: int = 0


class Modem:
    """Counts over the whole life of a device, connection after connection.

    Times are seconds of the caller's clock, as in `Activity`.

    Args:
        profile: Of the link.
        now: When the life begins.
        speed: How many times as fast as that clock the device's schedule runs.

    """

    __slots__ = ("_ack_down", "_ack_up", "_activity", "_banked", "_meter", "_profile", "_since", "_speed", "_tls")  # fmt: skip

    def __init__(self, profile: Profile, now: float, speed: float = 1.0) -> None:
        self._meter = Meter()
        self._profile = profile
        self._activity = Activity(until=now)
        self._since = now
        self._banked = (0.0, 0.0)  # joules and seconds under other radios
        self._speed = speed
        self._tls = False
        self._ack_up = inf  # when an acknowledgement that is owed will be sent by itself
        self._ack_down = inf

    def opens(self, at: float) -> float:
        """The device wants a connection.

        Returns:
            Seconds until its radio can send; they are counted as listening.
        """
        activity, profile = self._activity, self._profile
        if not activity.opens(at, profile.radio, self._speed):
            return 0.0
        activity.receives(at, profile.attach_seconds, profile.radio)
        return profile.attach_seconds

    def handshake(self, at: float, *, tls: bool) -> None:
        """SYN, SYN and ACK, ACK; and the handshake of TLS 1.3."""
        self._tls = tls
        self._up(at, SYN, 1)
        self._down(at, SYN, 1)
        self._up(at, 0, 1)
        if tls:
            self._up(at, TLS_HELLO, 1)
            self._down(at, TLS_FLIGHT, _segments(TLS_FLIGHT))
            self._up(at, TLS_FINISHED, 1)

    def refused(self, at: float) -> None:
        """SYN was answered by RST."""
        self._up(at, SYN, 1)
        self._down(at, 0, 1)
        self._activity.closes()

    def unanswered(self) -> None:
        """Nobody answered SYN, or the device stopped waiting."""
        self._activity.closes()

    def sent(self, at: float, size: int) -> None:
        """The device has sent so many bytes of payload; an acknowledgement that it owed goes with them."""
        self._settle(at)
        self._ack_up = inf
        size += TLS_RECORD * self._tls
        self._up(at, size, _segments(size))
        for _ in range(_at_once(size)):
            self._down(at, 0, 1)
        # The answer cannot be here before a round trip; if data comes by then, it has the acknowledgement.
        self._ack_down = min(self._ack_down, at + self._profile.round_trip + _SERVER_DELAY)

    def received(self, at: float, size: int) -> None:
        """So many bytes of payload have arrived, and with them what the server had to acknowledge."""
        self._settle(at)
        self._ack_down = inf
        size += TLS_RECORD * self._tls
        self._down(at, size, _segments(size))
        for _ in range(_at_once(size)):
            self._up(at, 0, 1)
        self._ack_up = min(self._ack_up, at + _DEVICE_DELAY)

    def again(self, at: float, more: Again, *, upwards: bool) -> None:
        """Segments were sent once more."""
        if more.segments:
            self._settle(at)
            (self._up if upwards else self._down)(
                at, more.size - more.segments * HEADER, more.segments
            )

    def closed(self, at: float, *, reset: bool = False, by_device: bool = False) -> None:
        """The connection has ended: FIN, FIN and ACK, ACK; or RST."""
        self._settle(at)
        self._ack_up = self._ack_down = inf
        if not reset:
            self._up(at, 0, 2 if by_device else 1)
            self._down(at, 0, 1 if by_device else 2)
        elif by_device:
            self._up(at, 0, 1)
        else:
            self._down(at, 0, 1)
        self._activity.closes()

    def change(self, profile: Profile, now: float) -> None:
        """Another link, and perhaps another radio, from now on."""
        elapsed = (now - self._since) * self._speed
        self._banked = (self.joules(now, elapsed), elapsed)
        activity = self._activity.settled(now, self._profile.radio, self._speed)
        # A tail that has begun begins anew: it is another network.
        self._activity = Activity(until=activity.until, open=activity.open, off=activity.off)
        self._profile = profile

    def read(self, now: float) -> Meter:
        """What was counted up to now."""
        self._settle(now)
        return self._meter

    def joules(self, now: float, elapsed: float, duty: float = 1.0) -> float:
        """Energy of the radio up to now: an estimate, see `energy`.

        Args:
            now: Seconds of the caller's clock.
            elapsed: Seconds that the device has lived, in its own time.
            duty: Share of these for which its schedule lets it be awake.
        """
        self._settle(now)
        joules, seconds = self._banked
        radio = self._profile.radio
        activity = self._activity.settled(now, radio, self._speed)
        lived = elapsed - seconds
        return joules + activity.joules(radio, lived, inf if duty >= 1 else duty * lived)

    def _settle(self, now: float) -> None:
        """Sends the acknowledgements that no data has taken along in time."""
        if self._ack_up <= now:
            self._up(self._ack_up, 0, 1)
            self._ack_up = inf
        if self._ack_down <= now:
            self._down(self._ack_down, 0, 1)
            self._ack_down = inf

    def _up(self, at: float, payload: int, segments: int) -> None:
        size = payload + segments * HEADER
        self._meter.up += size
        self._meter.packets_up += segments
        self._activity.transmits(at, size * 8 / self._profile.up, self._profile.radio)

    def _down(self, at: float, payload: int, segments: int) -> None:
        size = payload + segments * HEADER
        self._meter.down += size
        self._meter.packets_down += segments
        self._activity.receives(at, size * 8 / self._profile.down, self._profile.radio)


def _segments(size: int) -> int:
    return max(1, -(-size // MSS))


def _at_once(size: int) -> int:
    """Acknowledgements that do not wait: one for every second full segment (RFC 5681, 4.2)."""
    return size // MSS // 2
