"""Items: numbers, records put over one another, and what a node reads when it joins."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgpack

from feedgen.catalog import EARLIER
from feedgen.items import pack_record, unpack_record
from feedgen.store.base import StoreError
from feedgen.store.redis import scripts
from feedgen.store.redis.pipelines import Call
from feedgen.store.redis.session import forget
from feedgen.store.redis.turns import Turn, Turns
from feedgen.store.shared import OutOfNumbers

if TYPE_CHECKING:
    from feedgen.items import Record
    from feedgen.store.redis.keys import ItemKeys
    from feedgen.store.redis.link import Command
    from feedgen.store.redis.session import Session

GRACE = 60
"""Seconds that a record is kept beyond its time: clocks differ, and a tail may be late."""
LEAP = 1 << 20
"""Numbers left out where Redis may have lost data: more than nodes are given meanwhile."""
KEPT = 3600
"""Seconds that a block is remembered for whom it was given to, should the answer be lost."""
_ANYTHING = "*"


def token(record: Record) -> str:
    """What tells one accepted state of an id from every other, in all releases.

    Not a hash of the packed record, as two releases may pack the same record differently.
    """
    state = (
        record.n,
        record.version,
        record.published_ms,
        record.expires,
        record.digest,
        record.item.rev,
        record.publisher,
    )
    return blake2b(msgpack.packb(state), digest_size=8).hexdigest()


def pack_value(run: str, record: Record) -> bytes:
    """A record as it is kept: with the run of the node that wrote it."""
    packed: bytes = run.encode() + b"\0" + pack_record(record)
    return packed


def unpack_value(value: bytes) -> tuple[bytes, Record]:
    """Who wrote it, and the record.

    Raises:
        BadRecord: A newer release wrote it, or it is damaged.
    """
    run, _, packed = value.partition(b"\0")
    return run, unpack_record(packed)


@dataclass(slots=True, eq=False)
class _Put:
    """A record on its way, and all who offered it or one that it was made from."""

    keys: ItemKeys
    digest: str
    over: str
    record: Record
    value: bytes
    turns: list[Turn]


class Items:
    """Puts of one node."""

    def __init__(self, session: Session, turns: Turns) -> None:
        self._session = session
        self._turns = turns
        self._unsent: dict[tuple[str, str], _Put] = {}

    def put(self, record: Record, over: Record | None) -> asyncio.Future[Any]:
        """See `SharedStore.put_item`."""
        turn = self._turns.take(1)
        unsent = self._unsent.get((record.item.channel, record.item.id))
        if unsent is None or over is None or over != unsent.record:
            self._send(record, "" if over is None else token(over), turn)
        elif value := self._packed(record, turn):
            # Only the last of a chain travels: nobody would ever see those before it.
            unsent.record, unsent.value = record, value
            unsent.turns.append(turn)
        return turn.future

    def put_always(self, record: Record) -> asyncio.Future[Any]:
        """See `base.PutItem`: over whatever is there."""
        turn = self._turns.free()
        self._send(record, _ANYTHING, turn)
        return turn.future

    def _send(self, record: Record, over: str, turn: Turn) -> None:
        if not (value := self._packed(record, turn)):
            return
        key = record.item.channel, record.item.id
        keys, digest = self._session.keys.item(*key)
        put = self._unsent[key] = _Put(keys, digest, over, record, value, [turn])
        self._session.pipelines.add(
            Call(
                keys.slot,
                lambda: self._encode(key, put),
                lambda reply: self._answered(put, reply),
                size=len(value) + 300,
            )
        )

    def _packed(self, record: Record, turn: Turn) -> bytes:
        """The value to keep; b"", and an error for who waits, if there is none."""
        try:
            return pack_value(self._session.run, record)
        except Exception as error:  # noqa: BLE001 - one caller's mistake must not stop the others
            wrong = StoreError(f"An item cannot be encoded for the store: {error!r}")
            asyncio.get_running_loop().call_soon(self._turns.done, turn, wrong)
            return b""

    def _encode(self, key: tuple[str, str], put: _Put) -> Command:
        if self._unsent.get(key) is put:
            del self._unsent[key]
        record, keys = put.record, put.keys
        return scripts.PUT_ITEM.call(
            [keys.pointer(put.digest), keys.record(record.n), keys.live, keys.stream, keys.count],
            round(self._session.clock()),
            put.over,
            token(record),
            record.n,
            record.expires,
            GRACE,
            put.value,
            self._session.run,
            self._session.settings.stream_length,
            EARLIER,
        )

    def _answered(self, put: _Put, reply: Any) -> None:
        result: Any = reply
        if isinstance(reply, bytes):
            try:
                _, result = unpack_value(reply)
            except ValueError as error:
                result = StoreError(f"An item of the store cannot be read ({error}).")
        elif isinstance(reply, Exception) and not isinstance(reply, StoreError):
            result = StoreError(f"Redis refused an item ({reply}): this is a defect.")
        for turn in put.turns:
            self._turns.done(turn, result)


class Numbers:
    """Item numbers of one node, taken in blocks and ahead of need."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._numbers: deque[int] = deque()
        self._is_asking = False
        self._highest = 0

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def highest(self) -> int:
        """The highest number that this node has heard of or may give."""
        return self._highest

    def seen(self, n: int) -> None:
        """No number up to this one may be given again, even if Redis has lost data."""
        self._highest = max(self._highest, n)

    def take(self) -> int:
        """The next one.

        Raises:
            OutOfNumbers: None is left.
        """
        self.top_up()
        if not self._numbers:
            raise OutOfNumbers
        return self._numbers.popleft()

    def top_up(self) -> None:
        """Ask for a block, unless there is enough or one is on its way."""
        if self._is_asking or not self._session.is_open:
            return
        if len(self._numbers) <= self._session.settings.number_block // 2:
            forget(self.refill())

    def refill(self) -> asyncio.Future[None]:
        """Ask for a block."""
        block = self._session.settings.number_block
        self._is_asking = True

        def parse(last: int) -> None:
            # Already here: who takes all in this turn must be able to ask again.
            self._is_asking = False
            self.seen(last + block)
            self._numbers.extend(range(last + 1, last + block + 1))

        session, base = self._session, f"{self._session.keys.once}number"
        command = scripts.TAKE_NUMBERS.call(
            [base, f"{base}:server", f"{base}:given:{session.run}"],
            self._highest,
            block,
            LEAP,
            session.name(),
            KEPT,
        )
        future = session.ask(session.keys.slot, command, parse)
        future.add_done_callback(self._answered)
        return future

    def _answered(self, future: asyncio.Future[None]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._is_asking = False
