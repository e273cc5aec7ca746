"""The device's half of the protocol: what a device holds, and what a frame does to it.

`Replica` is a state machine without I/O or clock: bytes of a frame in, one word out that says what
became of it. `HelloPacer` says when a device may ask again. The Python client, the simulator's
fleets and the checker share both; the MicroPython and C clients follow the same rules.
"""

from __future__ import annotations

from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Self

from devices.frames import (
    Ack,
    BadFrame,
    Delta,
    FeedItem,
    Hello,
    HelloOptions,
    Put,
    Remove,
    Snapshot,
    decode_frame,
    encode_up,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from devices.frames import Op


class Received(StrEnum):
    """What became of a frame. After GAP and IMPOSSIBLE the device has to send a hello.

    Attributes:
        APPLIED: the window is now that of the frame's (epoch, seq).
        STALE: older than what is held, or a duplicate; nothing changed.
        GAP: a delta that starts elsewhere; nothing changed.
        IMPOSSIBLE: an op does not fit the window held, so it is not what the server takes it for. The
            items stay to be shown; the position is given up.
        UNKNOWN: a frame type of a later protocol; nothing changed.
        BAD: no frame; nothing changed.
    """

    APPLIED = "applied"
    STALE = "stale"
    GAP = "gap"
    IMPOSSIBLE = "impossible"
    UNKNOWN = "unknown"
    BAD = "bad"


class Replica:
    """One device's window and its position (`epoch`, `seq`) in the feed.

    Attributes:
        epoch, seq: the position; epoch 0 = none, the next snapshot is taken whatever it is.
        k: window length, at first the one asked for, then that of the last snapshot.
        window: the items held, best first, at most `k`. A device may hide an expired one.

    Args:
        k: window length to ask for.
        budget, max_qos, agent, clock: what a hello says besides, see `HelloOptions`.
        epoch, seq, items: a position that was held before, with its items.
    """

    __slots__ = ("_options", "epoch", "k", "seq", "window")

    def __init__(
        self,
        k: int = 8,
        budget: int = 256,
        max_qos: int = 1,
        agent: str = "",
        clock: bool = False,
        epoch: int = 0,
        seq: int = 0,
        items: Iterable[FeedItem] = (),
    ) -> None:
        self._options = HelloOptions(k, budget, max_qos, agent or None, None, clock)
        self.k = k
        self.epoch = epoch
        self.seq = seq
        self.window = tuple(items)

    def __repr__(self) -> str:
        numbers = " ".join(str(item.n) for item in self.window)
        return f"<Replica {self.epoch}.{self.seq} k={self.k} [{numbers}]>"

    @property
    def position(self) -> tuple[int, int]:
        """(`epoch`, `seq`)."""
        return self.epoch, self.seq

    def receive(self, data: bytes) -> Received:
        """Take one frame; never raises, whatever the bytes."""
        try:
            frame = decode_frame(data)
        except BadFrame:
            return Received.BAD
        if frame is None:
            return Received.UNKNOWN
        if isinstance(frame, Snapshot):
            return self._replace(frame)
        return self._change(frame)

    def hello(self, c: int | None = None) -> bytes:
        """The up message that asks to be brought from this position to the present.

        Args:
            c: a number drawn for this connection, if the device will also say bye.
        """
        asked = self._options
        options = HelloOptions(asked.k, asked.budget, asked.max_qos, asked.agent, c, asked.clock)
        return encode_up(Hello(self.epoch, self.seq, options))

    def ack(self) -> bytes:
        """The up message that says that everything up to this position is applied."""
        return encode_up(Ack(self.epoch, self.seq))

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after a restart, as plain values."""
        asked = self._options
        return {
            "asked": [asked.k, asked.budget, asked.max_qos, asked.agent or "", asked.clock],
            "epoch": self.epoch,
            "seq": self.seq,
            "k": self.k,
            "items": [[item.n, item.expires, item.priority, item.payload] for item in self.window],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The replica whose `state()` this is."""
        k, budget, max_qos, agent, clock = state["asked"]
        items = [FeedItem(*fields) for fields in state["items"]]
        replica = cls(k, budget, max_qos, agent, clock, state["epoch"], state["seq"], items)
        replica.k = state["k"]
        return replica

    def _replace(self, snapshot: Snapshot) -> Received:
        if (snapshot.epoch, snapshot.seq) <= (self.epoch, self.seq):
            return Received.STALE
        self.epoch, self.seq, self.k = snapshot.epoch, snapshot.seq, snapshot.k
        self.window = snapshot.items
        return Received.APPLIED

    def _change(self, delta: Delta) -> Received:
        # A delta that applies here is never stale: its seq is above its start, see decode_frame.
        if (delta.epoch, delta.seq) <= (self.epoch, self.seq):
            return Received.STALE
        if (delta.epoch, delta.start) != (self.epoch, self.seq):
            return Received.GAP
        try:
            window = apply_ops(self.window, delta.ops, self.k)
        except IndexError:
            self.epoch = self.seq = 0
            return Received.IMPOSSIBLE
        self.seq = delta.seq
        self.window = window
        return Received.APPLIED


def apply_ops(window: Iterable[FeedItem], ops: Iterable[Op], k: int) -> tuple[FeedItem, ...]:
    """What a window of length `k` is after `ops`, in order.

    Raises:
        IndexError: an op is impossible: it removes or moves at a rank that the window does not have.
    """
    items = list(window)
    for op in ops:
        if isinstance(op, Put):
            items = [item for item in items if item.n != op.item.n]
            items.insert(op.rank, op.item)
            del items[k:]
        elif isinstance(op, Remove):
            del items[op.rank]
        else:
            item = items.pop(op.source)
            if op.target > len(items):
                raise IndexError(f"a move to rank {op.target} of {len(items) + 1} items")
            items.insert(op.target, item)
    return tuple(items)


class HelloPacer:
    """When a device that sees a gap may ask again.

    After a hello it asks no more until a frame applies or 30 s pass, then 60 s, and so on up to an
    hour: the server may be busy answering a whole fleet, and every further hello makes that worse. Up
    to half as long again is added at random, so that devices that lost the same frame do not ask in step.

    Args:
        seed: of the jitter; different for each device.
    """

    FIRST: ClassVar[float] = 30.0
    LONGEST: ClassVar[float] = 3600.0

    __slots__ = ("_pause", "_random", "_until")

    def __init__(self, seed: int | str) -> None:
        self._random = Random(seed)  # noqa: S311 (spreads load, keeps no secret)
        self._pause = self.FIRST
        self._until = float("-inf")

    @property
    def until(self) -> float:
        """No hello before this time, in seconds of the caller's clock; minus infinity = at once."""
        return self._until

    def wants(self, now: float) -> bool:
        """Whether a device that has a reason for a hello may send it at `now`."""
        return now >= self._until

    def sent(self, now: float) -> None:
        """A hello was sent at `now`."""
        self._until = now + self._pause * self._random.uniform(1.0, 1.5)
        self._pause = min(2 * self._pause, self.LONGEST)

    def applied(self) -> None:
        """A frame applied: the server is answering."""
        self._pause = self.FIRST
        self._until = float("-inf")
