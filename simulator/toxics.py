"""Toxics: what a bad network does to one direction of one connection, as pure functions of time.

Names and attributes are those of Toxiproxy (https://github.com/Shopify/toxiproxy#toxics), so that who knows one knows
the other. A `Stream` is told what went in and when, and says what comes out and when; it has no socket, no clock and no
randomness of its own. `proxy` moves the bytes.

What a toxic does to data that it does not destroy: it delays it and cuts it into pieces. It never reorders it and
never changes it, as TCP would not either.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

StreamName = Literal["upstream", "downstream"]

_MS = 1_000
_US = 1_000_000
_KB = 1_000
_SLICE = 0.1
"""Seconds of a bandwidth that pass as one piece at most, so that a large chunk does not arrive at once."""


class Ending(Enum):
    """How a direction ends.

    Attributes:
        EOF: The sender has closed its half; the other half may go on.
        CLOSE: Both halves are closed, what was sent before arrives.
        RESET: The connection is reset (TCP RST); what is under way is lost.
    """

    EOF = "eof"
    CLOSE = "close"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that pass a point at a time, in seconds of the caller's clock."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The end of a direction; nothing follows."""

    at: float
    how: Ending = Ending.EOF


Event: TypeAlias = Chunk | End


class Stage(Protocol):
    """A toxic at work on one stream: events in, events out, in order.

    Attributes:
        deadline: When the stage ends the stream of itself; infinity = never.
        ending: How it does that.
        spoils: Whether bytes were lost here, so that the connection cannot go on without this stage.
    """

    deadline: float
    ending: Ending
    spoils: bool

    def feed(self, event: Event) -> Iterator[Event]:
        """What comes of an event."""


class Toxic(Protocol):
    """What may be added to a proxy; each connection makes a stage of it."""

    def begin(self, rng: Random, now: float) -> Stage:
        """The toxic at work on a stream from `now` on."""


class _Stage:
    """A stage that passes everything on, to be overridden."""

    def __init__(self) -> None:
        self.deadline = inf
        self.ending = Ending.CLOSE
        self.spoils = False

    def feed(self, event: Event) -> Iterator[Event]:
        if isinstance(event, Chunk):
            yield from self.chunk(event)
        else:
            yield self.end(event)

    def chunk(self, chunk: Chunk) -> Iterator[Event]:
        yield chunk

    def end(self, end: End) -> End:
        return end


@dataclass(frozen=True, slots=True)
class Latency:
    """Delays all data by `latency` ± `jitter` milliseconds."""

    latency: int
    jitter: int = 0

    def begin(self, rng: Random, now: float) -> Stage:
        """See `Toxic.begin`."""
        del now
        return _LatencyStage(self, rng)


class _LatencyStage(_Stage):
    def __init__(self, toxic: Latency, rng: Random) -> None:
        super().__init__()
        self._toxic = toxic
        self._rng = rng

    def chunk(self, chunk: Chunk) -> Iterator[Event]:
        yield Chunk(chunk.at + self._delay(), chunk.data)

    def end(self, end: End) -> End:
        return End(end.at + self._delay(), end.how)

    def _delay(self) -> float:
        jitter = self._rng.uniform(-self._toxic.jitter, self._toxic.jitter)
        return max(0.0, self._toxic.latency + jitter) / _MS


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Lets at most `rate` kilobytes pass in a second."""

    rate: int

    def begin(self, rng: Random, now: float) -> Stage:
        """See `Toxic.begin`."""
        del rng
        return _BandwidthStage(self, now)


class _BandwidthStage(_Stage):
    def __init__(self, toxic: Bandwidth, now: float) -> None:
        super().__init__()
        self._rate = max(toxic.rate * _KB, 1)
        self._free = now

    def chunk(self, chunk: Chunk) -> Iterator[Event]:
        size = max(int(self._rate * _SLICE), 1)
        for start in range(0, len(chunk.data), size):
            piece = chunk.data[start : start + size]
            self._free = max(self._free, chunk.at) + len(piece) / self._rate
            yield Chunk(self._free, piece)


@dataclass(frozen=True, slots=True)
class SlowClose:
    """Delays the end of the stream by `delay` milliseconds."""

    delay: int

    def begin(self, rng: Random, now: float) -> Stage:
        """See `Toxic.begin`."""
        del rng, now
        return _SlowCloseStage(self)


class _SlowCloseStage(_Stage):
    def __init__(self, toxic: SlowClose) -> None:
        super().__init__()
        self._delay = toxic.delay / _MS

    def end(self, end: End) -> End:
        return End(end.at + self._delay, end.how)


@dataclass(frozen=True, slots=True)
class Timeout:
    """Lets nothing pass and closes the connection after `timeout` milliseconds; with 0 not before it is taken away."""

    timeout: int

    def begin(self, rng: Random, now: float) -> Stage:
        """See `Toxic.begin`."""
        del rng
        return _TimeoutStage(self, now)


class _TimeoutStage(_Stage):
    def __init__(self, toxic: Timeout, now: float) -> None:
        super().__init__()
        self.spoils = True
        if toxic.timeout:
            self.deadline = now + toxic.timeout / _MS

    def chunk(self, chunk: Chunk) -> Iterator[Event]:
        del chunk
        yield from ()


@dataclass(frozen=True, slots=True)
class ResetPeer:
    """Resets the connection `timeout` milliseconds after the first data, which is lost."""

    timeout: int

    def begin(self, rng: Random, now: float) -> Stage:
        """See `Toxic.begin`."""
        del rng, now
        return _ResetPeerStage(self)


class _ResetPeerStage(_Stage):
    def __init__(self, toxic: ResetPeer) -> None:
        super().__init__()
        self.ending = Ending.RESET
        self._timeout = toxic.timeout / _MS

    def chunk(self, chunk: Chunk) -> Iterator[Event]:
        self.spoils = True
        self.deadline = min(self.deadline, chunk.at + self._timeout)
        yield from ()


@dataclass(frozen=True, slots=True)
class Slicer:
    """Cuts data into pieces of `average_size` ± `size_variation` bytes, `delay` microseconds apart."""

    average_size: int
    size_variation: int = 0
    delay: int = 0

    def begin(self, rng: Random, now: float) -> Stage:
        """See `Toxic.begin`."""
        del now
        return _SlicerStage(self, rng)


class _SlicerStage(_Stage):
    def __init__(self, toxic: Slicer, rng: Random) -> None:
        super().__init__()
        self._toxic = toxic
        self._rng = rng

    def chunk(self, chunk: Chunk) -> Iterator[Event]:
        toxic, at, start = self._toxic, chunk.at, 0
        while start < len(chunk.data):
            variation = self._rng.randint(-toxic.size_variation, toxic.size_variation)
            size = max(toxic.average_size + variation, 1)
            yield Chunk(at, chunk.data[start : start + size])
            start += size
            at += toxic.delay / _US


@dataclass(frozen=True, slots=True)
class LimitData:
    """Closes the connection once `bytes` bytes have passed; what is beyond is lost."""

    bytes: int

    def begin(self, rng: Random, now: float) -> Stage:
        """See `Toxic.begin`."""
        del rng, now
        return _LimitDataStage(self)


class _LimitDataStage(_Stage):
    def __init__(self, toxic: LimitData) -> None:
        super().__init__()
        self._left = toxic.bytes

    def chunk(self, chunk: Chunk) -> Iterator[Event]:
        passed = chunk.data[: self._left]
        self._left -= len(passed)
        if passed:
            yield Chunk(chunk.at, passed)
        if self._left <= 0:
            yield End(chunk.at, Ending.CLOSE)


class Stream:
    """One direction of one connection: what went in, and what comes out when.

    Args:
        toxics: In the order in which data meets them.
        rng: What they draw from.
        now: Seconds of the caller's clock, as every `now` and `at` here.

    Attributes:
        buffered: Bytes that went in and did not come out; its bound is the caller's business.
    """

    __slots__ = ("_ended", "_last", "_queue", "_rng", "_stages", "buffered")

    def __init__(self, toxics: Sequence[Toxic], rng: Random, now: float) -> None:
        self._rng = rng
        self._stages: dict[int, tuple[Toxic, Stage]] = {}
        self._queue: deque[Event] = deque()
        self._last = now
        self._ended = False
        self.buffered = 0
        self.change(toxics, now)

    def change(self, toxics: Sequence[Toxic], now: float) -> None:
        """These and no others from `now` on; the ones that stay go on as they were.

        When one is taken away, what was held back passes at once. Where that one has lost bytes, the connection ends
        instead: what follows would make no sense to the receiver.
        """
        kept = {id(toxic) for toxic in toxics}
        gone = [stage for key, (_, stage) in self._stages.items() if key not in kept]
        # By identity, and the toxic is held beside its stage: two equal toxics are two.
        self._stages = {
            id(toxic): self._stages.get(id(toxic)) or (toxic, toxic.begin(self._rng, now))
            for toxic in toxics
        }
        if any(stage.spoils for stage in gone):
            self._put(End(now, Ending.CLOSE))
        if gone:
            self._queue = deque(_at(event, min(event.at, now)) for event in self._queue)
            self._last = now

    def feed(self, data: bytes, now: float) -> None:
        """Bytes arrive from the sender."""
        self._pass(Chunk(now, data))

    def end(self, now: float, how: Ending = Ending.EOF) -> None:
        """The sender is done. A reset overtakes what is under way."""
        if how is Ending.RESET:
            self._drop_all(now)
            self._put(End(now, how))
        else:
            self._pass(End(now, how))

    @property
    def due(self) -> float:
        """When the next event comes out; infinity if nothing is under way."""
        deadline = min((stage.deadline for _, stage in self._stages.values()), default=inf)
        return min(self._queue[0].at if self._queue else inf, inf if self._ended else deadline)

    def take(self, now: float) -> list[Event]:
        """What has come out by `now`, in order; after an `End` nothing more ever does."""
        for _, stage in self._stages.values():
            if stage.deadline <= now and not self._ended:
                self._drop_all(now)
                self._put(End(now, stage.ending))
        taken: list[Event] = []
        while self._queue and self._queue[0].at <= now:
            event = self._queue.popleft()
            if isinstance(event, Chunk):
                self.buffered -= len(event.data)
            taken.append(event)
        return taken

    def _pass(self, event: Event) -> None:
        events = [event]
        for _, stage in self._stages.values():
            events = [out for one in events for out in stage.feed(one)]
        for out in events:
            self._put(out)

    def _put(self, event: Event) -> None:
        if self._ended:
            return
        # Jitter may name an earlier time than that of the bytes before: TCP keeps their order.
        self._last = max(self._last, event.at)
        self._queue.append(_at(event, self._last))
        if isinstance(event, Chunk):
            self.buffered += len(event.data)
        else:
            self._ended = True

    def _drop_all(self, now: float) -> None:
        self._queue.clear()
        self._last = now
        self.buffered = 0
        self._ended = False  # an end that waited here is dropped too; another follows at once


def _at(event: Event, at: float) -> Event:
    return Chunk(at, event.data) if isinstance(event, Chunk) else End(at, event.how)
