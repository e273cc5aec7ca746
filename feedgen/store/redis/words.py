"""What nodes say to one another, and the feedback of all: once each, and in order.

All that a node says goes through one script, a batch at a time, with a number that tells a repetition.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import msgpack

from feedgen.store.base import StoreError
from feedgen.store.redis import scripts
from feedgen.store.redis.pipelines import Call
from feedgen.store.redis.session import answer, nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedgen.store.redis.session import Session
    from feedgen.store.shared import Changes

MAX_BATCH = 512
MAX_BYTES = 1 << 20
"""Bytes of one batch, about."""
MAX_WAITING = 50_000
"""Words that may be lost, and feedback, that wait while the store is away; the newest are not kept."""
KEPT = 3600
"""Seconds that words for a node are kept that is not there."""
_FEEDBACK, _ALL = 3, 5


class Kind(IntEnum):
    """What is said."""

    TOLD = 0
    CHANGED = 1
    TAKEN = 2
    POSTED = 3


@dataclass(frozen=True, slots=True)
class _Word:
    """Something to say: the key, what its stream keeps, and the future of who waits for it."""

    key: str
    body: bytes
    future: asyncio.Future[None] | None = None


class Words:
    """What one node says.

    Attributes:
        dropped: Feedback that was not taken, as too much waited.
        untold: Words to all that were not said for the same reason.
    """

    def __init__(self, session: Session) -> None:
        self.dropped = 0
        self.untold = 0
        self._session = session
        base = session.keys.once
        self.stream = f"{base}words"
        self.count = f"{base}count"
        self.inbox = self.inbox_of(session.node)
        self._feedback = f"{base}feedback"
        self._waiting: deque[_Word] = deque()
        self._calls = 0
        self._is_sending = False

    def inbox_of(self, node: str) -> str:
        """The stream to one node."""
        return f"{self._session.keys.once}to:{node}"

    def tell(self, kind: str, body: bytes) -> None:
        """See `SharedStore.tell`."""
        if len(self._waiting) < MAX_WAITING:
            self._say(self.stream, (Kind.TOLD, kind, body))
        else:
            self.untold += 1

    def changed(self, device: str, notice: str) -> None:
        """Tell all nodes that a profile has changed."""
        self._say(self.stream, (Kind.CHANGED, device, notice))

    def taken(self, device: str, node: str) -> None:
        """Tell a node that a device was taken from it, or is asked for."""
        self._say(self.inbox_of(node), (Kind.TAKEN, device))

    def post(self, node: str, bodies: Sequence[bytes]) -> asyncio.Future[None]:
        """See `SharedStore.post`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._say(self.inbox_of(node), (Kind.POSTED, list(bodies)), future)
        return future

    def feedback(self, body: bytes) -> None:
        """See `SharedStore.feedback`."""
        if len(self._waiting) < MAX_WAITING:
            self._add(_Word(self._feedback, body))
        else:
            self.dropped += 1

    def _say(
        self, key: str, word: Sequence[Any], future: asyncio.Future[None] | None = None
    ) -> None:
        self._add(_Word(key, msgpack.packb((self._session.run, *word)), future))

    def _add(self, word: _Word) -> None:
        if not self._session.is_open:
            raise StoreError("The store is not open.")
        self._waiting.append(word)
        if not self._is_sending:
            self._is_sending = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        """Say what waits, a batch of it; the rest when that is done."""
        batch: list[_Word] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH and size < MAX_BYTES:
            batch.append(self._waiting.popleft())
            size += len(batch[-1].body)
        self._is_sending = bool(batch)
        if not batch:
            return
        self._calls += 1
        settings, base = self._session.settings, self._session.keys.once
        keys = [
            f"{base}said:{self._session.run}",
            self.count,
            self._feedback,
            f"{self._feedback}:lost",
        ]
        keys.append(self.stream)
        keys.extend({word.key: None for word in batch if word.key not in keys})
        places = {key: index for index, key in enumerate(keys, start=1)}
        arguments: list[bytes | int] = []
        for word in batch:
            arguments += (places[word.key], settings.word_length, word.body)
        command = scripts.SAY.call(keys, self._calls, KEPT, settings.feedback_length, *arguments)
        self._session.pipelines.add(
            Call(
                self._session.keys.slot,
                lambda: command,
                lambda reply: self._said(batch, reply),
                size=size,
            )
        )

    def _said(self, batch: list[_Word], reply: Any) -> None:
        for word in batch:
            if word.future is not None:
                answer(word.future, reply, nothing)
        if isinstance(reply, StoreError):  # the store is closed, and was away
            batch, self._waiting = list(self._waiting), deque()
            if batch:
                self._said(batch, reply)
        self._send()


def hear(body: bytes, session: Session) -> list[bytes]:
    """Tell this node what another one said; returns what was posted, for the caller to hand on."""
    by, kind, *rest = msgpack.unpackb(body)
    if kind == Kind.POSTED:
        bodies: list[bytes] = rest[0]
        return bodies
    if by != session.run:
        session.tell(lambda changes: _hand_on(changes, by, kind, rest))
    return []


def _hand_on(changes: Changes, by: str, kind: int, rest: list[Any]) -> None:
    match kind:
        case Kind.TOLD:
            changes.told(rest[0], rest[1], by.rpartition(".")[0])
        case Kind.CHANGED:
            changes.changed(rest[0], rest[1])
        case Kind.TAKEN:
            changes.taken(rest[0])
