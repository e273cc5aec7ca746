"""What a witness of a server knows: who sent what and when, what was acknowledged, what each device shows.

Values only. `checker` draws conclusions from them.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from math import ceil, inf
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Window: TypeAlias = "tuple[tuple[int, str | bytes], ...]"
"""(n, payload), best first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was not kept.

    Attributes:
        promise: `G1` … `G6` of the protocol's guarantees; `feed` where a window shows what it must not, `wire` where
            bytes break the protocol, `server` where the process itself went wrong.
        sentence: What is wrong, and with whom.
        evidence: The facts that prove it, a line each.
    """

    promise: str
    sentence: str
    evidence: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join((f"{self.promise}: {self.sentence}", *self.evidence))


class Key(NamedTuple):
    """What a publisher calls an item."""

    channel: str
    id: str


@dataclass(frozen=True, slots=True)
class Content:
    """One content of an item, as it was published. Its texts occur in no other content.

    Attributes:
        key: Whose content it is.
        payload: What is shown; "" for a retraction.
        brief: The shorter payload, if it has one.
        priority: 0 to 3.
        ttl: Seconds.
        collapse: The collapse key, if any.
        where: Attribute to allowed values.
        retract: Whether it removes the item.
    """

    key: Key
    payload: str
    brief: str | None = None
    priority: int = 1
    ttl: int = 86_400
    collapse: str | None = None
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    retract: bool = False

    def __str__(self) -> str:
        words = [f"{self.key.id} on {self.key.channel}"]
        words += (
            ["retracted"] if self.retract else [f"{self.payload[:16]!r} of {len(self.payload)}"]
        )
        words += [] if self.brief is None else [f"brief {self.brief!r}"]
        words += [f"priority {self.priority}, ttl {self.ttl}"]
        words += [f"collapse {self.collapse}"] if self.collapse else []
        words += [f"where {dict(self.where)}"] if self.where else []
        return ", ".join(words)

    def concerns(self, attributes: Mapping[str, object]) -> bool:
        """Whether a device with these attributes may see it."""
        return all(attributes.get(name) in values for name, values in self.where.items())

    def shown_in(self, capacity: int) -> str | None:
        """What a device with room for so many bytes of payload shows; None if nothing fits."""
        for text in (self.payload, self.brief):
            if text is not None and len(text.encode()) <= capacity:
                return text
        return None


@dataclass(frozen=True, slots=True)
class DeviceAtRest:
    """One device when nothing changes any more.

    Attributes:
        device: Its id.
        k: The window length that the server knows.
        capacity: Bytes of payload that always fit the frame budget that the server knows.
        follow: The filters that the server knows.
        attributes: The attributes that the server knows.
        shown: What the device shows.
        feed: What the server says that it should show; None if the server does not know it.
        evidence: What else is known of it, for people.
    """

    device: str
    k: int
    capacity: int
    follow: tuple[str, ...]
    attributes: Mapping[str, object]
    shown: Window
    feed: Window | None
    evidence: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Span:
    """A time that is known up to an interval."""

    low: float
    high: float


class ServerClock:
    """What the server's wall clock said, as far as a witness can know it.

    The wall is stepped while the server runs, and the server notices a moment later; a clock that goes back it holds
    still until it ends (it never runs backwards within a process).

    Args:
        lag: Seconds that the server takes at most to notice a step.
    """

    def __init__(self, lag: float = 2.0) -> None:
        self._lag = lag
        self._offset = 0.0
        self._pieces = [_Piece(-inf, 0.0, 0.0, -inf, -inf)]

    def step(self, offset: float, at: float) -> None:
        """From `at` (true Unix seconds) on the wall is `offset` seconds ahead of the truth."""
        present, reached = self._pieces[self._index(at)], self._at(at)
        low, high = min(present.offset_low, offset), max(present.offset_high, offset)
        self._add(_Piece(at, low, high, reached.low, reached.high))
        seen = at + self._lag
        self._add(_Piece(seen, offset, offset, reached.low, self._at(seen).high))
        self._offset = offset

    def restart(self, at: float) -> None:
        """A new process looks at the wall, and remembers nothing."""
        self._add(_Piece(at, self._offset, self._offset, -inf, -inf))

    def span(self, since: float, until: float | None = None) -> Span:
        """Everything that the clock may have said between two true times; at one, if there is no second."""
        until = since if until is None else max(since, until)
        first, last = self._index(since), self._index(until)
        lows = [self._pieces[first].low(since)]
        lows += [piece.low(piece.start) for piece in self._pieces[first + 1 : last + 1]]
        ends = [piece.start for piece in self._pieces[first + 1 : last + 1]] + [until]
        highs = [piece.high(end) for piece, end in zip(self._pieces[first:], ends, strict=False)]
        return Span(min(lows), max(highs))

    def _at(self, time: float) -> Span:
        piece = self._pieces[self._index(time)]
        return Span(piece.low(time), piece.high(time))

    def _index(self, time: float) -> int:
        return bisect_right(self._pieces, time, key=lambda piece: piece.start) - 1

    def _add(self, piece: _Piece) -> None:
        self._pieces = [kept for kept in self._pieces if kept.start < piece.start]
        self._pieces.append(piece)


class _Piece(NamedTuple):
    """From `start` on, the wall's offset is between two values, and the clock never below a floor."""

    start: float
    offset_low: float
    offset_high: float
    floor_low: float
    floor_high: float

    def low(self, time: float) -> float:
        return max(time + self.offset_low, self.floor_low)

    def high(self, time: float) -> float:
        return max(time + self.offset_high, self.floor_high)


@dataclass(slots=True)
class Publication:
    """A content on its way.

    Attributes:
        content: What was sent.
        sent: When for the first time, true Unix seconds.
        acknowledged: When the server said that it has it; None if it never did.
        sender: Who sent it. What one sender sends is accepted in the order of sending.
    """

    content: Content
    sent: float
    acknowledged: float | None = None
    sender: str = ""

    def __str__(self) -> str:
        known = (
            "never" if self.acknowledged is None else f"after {self.acknowledged - self.sent:.3f} s"
        )
        return f"{self.content}; sent at {self.sent % 1000:.3f}, acknowledged {known}"

    def expires(self, clock: ServerClock, now: float) -> Span:
        """When it ends on the server's clock, if the server has it (PROTOCOL: ttl counts from acceptance)."""
        accepted = clock.span(self.sent, now if self.acknowledged is None else self.acknowledged)
        return Span(ceil(accepted.low) + self.content.ttl, ceil(accepted.high) + self.content.ttl)

    def surely_lives(self, clock: ServerClock, now: float, margin: float = 0.0) -> bool:
        """Whether it is not over and will not be for `margin` seconds, if the server has it.

        What was over once is gone, also if the clock went back since.
        """
        return self.expires(clock, now).low > clock.span(self.sent, now).high + margin


@dataclass(slots=True)
class History:
    """Everything that was published under one key, in the order of sending."""

    publications: list[Publication] = field(default_factory=list)

    @property
    def possible(self) -> list[Publication]:
        """Those of which one is the present content.

        An acknowledged one supersedes what its own sender sent before it, and what was acknowledged before
        it was sent. Of two that were under way at once nobody knows which came first. Before the
        first acknowledgement the server may also have none of them.
        """
        found, senders, latest = [], set[str](), -inf
        for one in reversed(self.publications):
            over = one.sender in senders or (
                one.acknowledged is not None and one.acknowledged <= latest
            )
            if not over:
                found.append(one)
            if one.acknowledged is not None:
                senders.add(one.sender)
                latest = max(latest, one.sent)
        return found[::-1]

    @property
    def certain(self) -> Publication | None:
        """The present content, where there is no doubt about it."""
        possible = self.possible
        return possible[0] if len(possible) == 1 and possible[0].acknowledged is not None else None
