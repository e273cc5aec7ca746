"""One direction of one connection over a link: what went in and when, what comes out when.

Pure: no socket, no clock, and chance is drawn from a seed by counting. It tells when bytes come out with the nouns of
`simulator.toxics`, and is no `toxics.Stream`: the attributes of those toxics are whole milliseconds and kilobytes per
second, too coarse for the 3.25 kB/s of NB-IoT, and a stream with its stages weighs 3 KB, too much where ten thousand
devices have two each and all but a few are empty.

What TCP does on such a link is in it too, as far as a receiver can see it: order is kept, a lost segment holds up all
that follow until it is sent again, and a connection on which nothing gets through for long enough is given up.
"""

from __future__ import annotations

from collections import deque
from math import inf, log
from typing import TYPE_CHECKING, Final, NamedTuple

from simulator.toxics import Chunk, End, Ending

if TYPE_CHECKING:
    from simulator.links.profiles import Profile
    from simulator.toxics import Event

HEADER: Final = 40
"""Bytes of IPv4 and TCP before the payload of a segment. Without TCP options: small stacks send no time stamps (lwIP's
LWIP_TCP_TIMESTAMPS is 0)."""

MSS: Final = 1_318
"""Bytes of payload in a segment at most: 3GPP advises a link MTU of 1 358 (TS 23.060, annex C)."""

TRIES: Final = 12
"""How often a segment is sent again before the connection is given up: lwIP's TCP_MAXRTX."""

_LONGEST_RTO: Final = 60.0
"""Seconds; RFC 6298, 2.5 asks for no less."""

_MOST_JITTER: Final = 8.0
"""Times its mean: a bound on what one segment may wait."""

_GOLDEN: Final = 0x9E3779B97F4A7C15
_64: Final = 0xFFFFFFFFFFFFFFFF


class Again(NamedTuple):
    """What was sent more than once: segments, and their bytes with headers."""

    segments: int
    size: int


NOTHING_AGAIN = Again(0, 0)


def uniform(seed: int, n: int) -> float:
    """The `n`th number in [0, 1) of a seed: SplitMix64 (Steele et al., OOPSLA 2014), as in `simulator.draws`.

    A link needs single numbers, for which numpy is slow, and `random.Random` weighs 2.5 KB.
    """
    z = (seed + (n + 1) * _GOLDEN) & _64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _64
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53


class Link:
    """One direction of a connection.

    Times are seconds of the caller's clock and do not go back.

    Args:
        profile: Of the link.
        upwards: Whether it leads away from the device.
        seed: Of all chance here: the same seed and the same calls give the same times.

    Attributes:
        buffered: Bytes that went in and did not come out; its bound is the caller's business.
    """

    __slots__ = ("_drawn", "_ended", "_free", "_hole", "_profile", "_queue", "_rate", "_resumes", "_seed", "_upwards", "buffered")  # fmt: skip

    def __init__(self, profile: Profile, *, upwards: bool, seed: int) -> None:
        self._upwards = upwards
        self._seed = seed
        self._drawn = 0
        self._queue: deque[Event] | None = None  # an empty deque weighs 760 bytes
        self._free = -inf  # when the last byte that went in is through
        self._hole = -inf  # until when nothing passes
        self._resumes = -inf  # when TCP tries again for the first time after that
        self._ended = False
        self.buffered = 0
        self.change(profile)

    @property
    def due(self) -> float:
        """When the next event comes out; infinity if nothing is under way."""
        return self._queue[0].at if self._queue else inf

    def change(self, profile: Profile) -> None:
        """Another profile for what goes in from now on."""
        self._profile = profile
        self._rate = (profile.up if self._upwards else profile.down) / 8

    def feed(self, data: bytes, now: float) -> Again:
        """Bytes go in.

        Returns:
            What TCP has to send again for them to arrive.
        """
        if len(data) <= MSS:  # as nearly always; `data` itself comes out again
            return self._pass(data, now)
        passed = [self._pass(data[at : at + MSS], now) for at in range(0, len(data), MSS)]
        return Again(sum(each.segments for each in passed), sum(each.size for each in passed))

    def end(self, now: float, how: Ending = Ending.EOF) -> Again:
        """The sender is done; the end comes after the bytes."""
        if self._ended:
            return NOTHING_AGAIN
        at, tries = self._through(HEADER, now)
        self._put(End(at, how) if tries <= TRIES else End(at, Ending.RESET))
        return Again(tries, tries * HEADER)

    def take(self, now: float) -> Event | None:
        """The next of what has come out by `now`, in order; after an `End` nothing more ever does."""
        queue = self._queue
        if not queue or queue[0].at > now:
            return None
        event = queue.popleft()
        if isinstance(event, Chunk):
            self.buffered -= len(event.data)
        if not queue:
            self._queue = None
        return event

    def hole(self, now: float, until: float) -> Again:
        """No coverage from `now` to `until`: nothing passes, what is under way is lost and TCP sends it again."""
        if until <= max(now, self._hole):
            return NOTHING_AGAIN
        self._hole, self._resumes, self._free = until, -inf, now
        waiting, self._queue = self._queue, None
        self.buffered, self._ended = 0, False
        again = [
            self._pass(event.data, now) if isinstance(event, Chunk) else self.end(now, event.how)
            for event in waiting or ()
        ]
        return Again(sum(each.segments for each in again), sum(each.size for each in again))

    def _pass(self, data: bytes, now: float) -> Again:
        if self._ended:
            return NOTHING_AGAIN
        size = len(data) + HEADER
        at, tries = self._through(size, now)
        if tries <= TRIES:
            self._put(Chunk(at, data))
        else:
            self._put(End(at, Ending.RESET))
        return Again(tries, tries * size)

    def _put(self, event: Event) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(event)
        if isinstance(event, Chunk):
            self.buffered += len(event.data)
        else:
            self._ended = True

    def _through(self, size: int, now: float) -> tuple[float, int]:
        """When a segment is through, and how often it is sent again for that; over `TRIES`: when it is given up.

        Bandwidth comes last, so that not even what jitter or a loss held back comes out faster than that.
        """
        profile = self._profile
        takes = size / self._rate
        at = max(self._free, now + profile.latency + self._jitter())
        tries = 0
        # What goes up is on the air when it leaves, what comes down when it arrives.
        if (now if self._upwards else at) < self._hole:
            resumes, tries = self._resumption(now)
            at = max(at, resumes)
        pause = 0.0
        while profile.loss and tries <= TRIES and self._draw() < profile.loss:
            pause = min(2 * pause, _LONGEST_RTO) if pause else profile.rto
            at += takes + pause
            tries += 1
        self._free = at + takes
        return self._free, tries

    def _resumption(self, now: float) -> tuple[float, int]:
        """When TCP, which doubles its pauses, sends again for the first time after the hole; how many times it did.

        Only the first segment that meets the hole is sent into it: the others wait behind it.
        """
        if self._resumes >= self._hole:
            return self._resumes, 0
        at, pause, tries = now, self._profile.rto, 0
        while at < self._hole and tries <= TRIES:
            at += pause
            pause = min(2 * pause, _LONGEST_RTO)
            tries += 1
        if tries <= TRIES:
            self._resumes = at
        return at, tries

    def _jitter(self) -> float:
        mean = self._profile.jitter
        return min(-log(1.0 - self._draw()), _MOST_JITTER) * mean if mean else 0.0

    def _draw(self) -> float:
        self._drawn += 1
        return uniform(self._seed, self._drawn)
