"""One node's hold on a Redis that all nodes share; see `shared.SharedStore` for the contract."""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from feedgen.store.base import Loaded, Op, StoreError, call_if_durable
from feedgen.store.redis import scripts
from feedgen.store.redis.address import parse
from feedgen.store.redis.alone import Ops, begin, mark, open_alone
from feedgen.store.redis.checks import check
from feedgen.store.redis.devices import Devices
from feedgen.store.redis.faults import explain
from feedgen.store.redis.items import Items, Numbers
from feedgen.store.redis.link import ReplyError
from feedgen.store.redis.members import Members
from feedgen.store.redis.session import Session
from feedgen.store.redis.settings import RedisSettings
from feedgen.store.redis.tails import Inbox, ItemStream, Tail, WordStream, load, tails
from feedgen.store.redis.turns import Turns
from feedgen.store.redis.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from feedgen.items import Record
    from feedgen.store.shared import Answer, Changes, Claim, Found, Late

_T = TypeVar("_T")
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class RedisStore:
    """Everything in one Redis server or Redis Cluster, under one prefix.

    What is written in one turn of the loop travels as one pipeline for each server. A resolved future
    means that Redis has answered, and `wait_replicas` replicas have confirmed; `durability` says in
    words what that is worth with the settings of that Redis. A submission of several ops is carried out
    op by op: a process that dies meanwhile may leave the first of them.

    Args:
        url: where Redis is, see `address`.
        settings: the same on all nodes, but for timeouts.
        clock: Unix seconds, by which items are over.
    """

    def __init__(
        self,
        url: str,
        settings: RedisSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._address = parse(url)
        self._settings = settings or RedisSettings()
        self._clock = clock
        self._is_open = False
        self._durability = ""
        self._errors = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._begin(Session(self._address, self._settings, "", None, clock))

    def __repr__(self) -> str:
        return f"RedisStore({str(self._address)!r})"

    def _begin(self, session: Session) -> None:
        self._session = session
        self._turns = Turns()
        self._words = Words(session)
        self._items = Items(session, self._turns)
        self._numbers = Numbers(session)
        self._devices = Devices(session, self._words)
        self._members = Members(session, self._numbers)
        self._ops = Ops(session, self._items, self._devices)
        self._feedback_waiting = 0
        self._feedback_dropped = 0

    # ---- Store

    @property
    def up(self) -> bool:
        """Whether the last attempt at every server succeeded."""
        return self.fault is None

    @property
    def fault(self) -> str | None:
        """Why not, as a sentence for an operator; None while `up`."""
        return self._session.pipelines.fault

    @property
    def pending(self) -> int:
        """Submissions and items that have not resolved."""
        return len(self._turns)

    @property
    def errors(self) -> int:
        """Failed attempts since `open` or `join`."""
        return self._session.pipelines.errors

    def durability(self) -> str:
        """What can be lost with the settings of this Redis, as a sentence; "" before it was opened."""
        return self._durability

    def open(self) -> Loaded:
        """Open it alone, and read everything; see `Store.open`.

        Raises:
            StoreError: It cannot be used, or nodes use it.
        """
        if self._is_open:
            raise StoreError(f"{self._address} is open already in this process.")
        session = Session(self._address, self._settings, "", None, self._clock)
        loaded, self._durability = _in_a_thread(open_alone(session))
        self._begin(Session(self._address, self._settings, "", None, self._clock))
        self._session.topology.adopt(session.topology)
        self._ops.load(loaded)
        self._is_open = True
        return loaded

    def submit(
        self,
        ops: Sequence[Op],
        *,
        first: bool = False,  # noqa: ARG002 (each op is on its way at once)
        then: Callable[[], None] | None = None,
    ) -> asyncio.Future[None]:
        """Queue `ops`; see `Store.submit`.

        Raises:
            StoreError: The store is not open.
        """
        self._check_open()
        asked = [future for op in ops for future in self._ops.apply(op)]
        turn = self._turns.take(len(asked))
        for each in asked:
            each.add_done_callback(lambda done: self._turns.done(turn, done.exception()))
        if then is not None:
            turn.future.add_done_callback(partial(call_if_durable, then))
        return turn.future

    async def close(self, clean: bool) -> None:
        """Carry out what is pending and let go; see `Store.close`.

        Raises:
            StoreError: What was pending could not be written.
        """
        if not self._is_open:
            return
        self._is_open = False
        session = self._session
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._devices.stop()
        await asyncio.sleep(0)  # what was said in this turn is sent in the next
        try:
            await session.pipelines.drain()
            if (lost := session.pipelines.lost) is not None:
                raise lost
            await (self._members.leave() if session.node else mark(session, clean))
        finally:
            session.is_open = False
            await session.pipelines.close()

    # ---- SharedStore

    @property
    def numbers_left(self) -> int:
        """Item numbers that can be taken without asking the store."""
        return len(self._numbers)

    async def join(self, node: str, changes: Changes) -> Loaded:
        """See `SharedStore.join`.

        Raises:
            StoreError: It cannot be used; the message says why and what to do.
        """
        if self._is_open:
            raise StoreError(f"{self._address} is open already in this process.")
        if not _NAME.fullmatch(node):
            raise StoreError(
                "A node's name is 1 to 64 letters, digits and any of _ . : - in ASCII."
            )
        session = Session(self._address, self._settings, node, changes, self._clock)
        self._begin(session)
        try:
            self._durability = await check(session.topology, self._address, self._settings)
            key, _ = await begin(session)
            await self._members.enter()
            await self._numbers.refill()
            items = [ItemStream(session, keys, self._numbers.seen) for keys in session.keys.items]
            words = WordStream(session, self._words.stream, self._words.count)
            records = await load(session, items, words)
        except (OSError, ReplyError) as error:
            await self._abandon()
            raise StoreError(
                explain(error, session.topology.server_of(session.keys.slot))
            ) from error
        except BaseException:
            await self._abandon()
            raise
        self._is_open = True
        self._start(tails(session, items, [words, Inbox(session, self._words.inbox)]))
        next_n = max([self._numbers.highest, *(record.n for record in records)]) + 1
        return Loaded(records, [], [], next_n, clean=True, key=key)

    def number(self) -> int:
        """See `SharedStore.number`.

        Raises:
            OutOfNumbers: None is left.
        """
        return self._numbers.take()

    def put_item(self, record: Record, over: Record | None) -> asyncio.Future[Record | None]:
        """See `SharedStore.put_item`."""
        self._check_open()
        return self._items.put(record, over)

    def fetch(self, devices: Sequence[str]) -> asyncio.Future[dict[str, Found]]:
        """See `SharedStore.fetch`."""
        self._check_open()
        return self._devices.fetch(devices)

    def claim(
        self, device: str, wait: float = 0.0, waited: float = 0.0
    ) -> asyncio.Future[Claim | Late]:
        """See `SharedStore.claim`."""
        self._check_open()
        return self._devices.claim(device, wait, waited)

    def still_held(self, device: str, token: int) -> asyncio.Future[float | None]:
        """See `SharedStore.still_held`."""
        self._check_open()
        return self._devices.still_held(device, token)

    def put_device(
        self,
        device: str,
        blob: bytes | None,
        *,
        version: int,
        token: int | None,
        release: bool = False,
        notice: str = "",
    ) -> asyncio.Future[Answer]:
        """See `SharedStore.put_device`."""
        self._check_open()
        return self._devices.put(
            device, blob, version=version, token=token, release=release, notice=notice
        )

    def devices(self, after: str, limit: int) -> asyncio.Future[list[str]]:
        """See `SharedStore.devices`."""
        self._check_open()
        return self._devices.all(after, limit)

    def held_by(self, node: str) -> asyncio.Future[list[str]]:
        """See `SharedStore.held_by`."""
        self._check_open()
        return self._devices.held_by(node)

    def tell(self, kind: str, body: bytes) -> None:
        """See `SharedStore.tell`."""
        self._check_open()
        self._words.tell(kind, body)

    def post(self, node: str, bodies: Sequence[bytes]) -> asyncio.Future[None]:
        """See `SharedStore.post`."""
        self._check_open()
        return self._words.post(node, bodies)

    def lease(self, name: str, seconds: float) -> asyncio.Future[int | None]:
        """See `SharedStore.lease`."""
        self._check_open()
        key = f"{self._session.keys.once}lease:{name}"
        command = scripts.LEASE.call([key], self._session.run, round(seconds * 1000))
        return self._session.ask(self._session.keys.slot, command, _same)

    def feedback(self, body: bytes) -> None:
        """See `SharedStore.feedback`."""
        self._check_open()
        self._words.feedback(body)

    def read_feedback(self, count: int) -> asyncio.Future[list[bytes]]:
        """See `SharedStore.read_feedback`."""
        self._check_open()
        base = f"{self._session.keys.once}feedback"
        keys = [base, f"{base}:given", f"{base}:reader", f"{base}:lost"]
        command = scripts.READ_FEEDBACK.call(keys, self._session.name(), count)
        return self._session.ask(self._session.keys.slot, command, self._fed_back)

    @property
    def feedback_waiting(self) -> int:
        """See `SharedStore.feedback_waiting`."""
        return self._feedback_waiting

    @property
    def feedback_dropped(self) -> int:
        """See `SharedStore.feedback_dropped`."""
        return self._feedback_dropped + self._words.dropped

    @property
    def untold(self) -> int:
        """What was to be told and was not, as too much waited while the store was away."""
        return self._words.untold

    def publish(self, name: str, blob: bytes, token: int) -> asyncio.Future[bool]:
        """See `SharedStore.publish`. One value, of at most 512 MB, the most that Redis takes."""
        self._check_open()
        command = scripts.PUBLISH.call([self._published(name)], token, self._session.name(), blob)
        return self._session.ask(self._session.keys.slot, command, bool, size=len(blob))

    def latest(self, name: str, above: int) -> asyncio.Future[tuple[int, bytes] | None]:
        """See `SharedStore.latest`."""
        self._check_open()
        command = scripts.LATEST.call([self._published(name)], above)
        slot = self._session.keys.slot
        return self._session.ask(slot, command, lambda reply: reply and tuple(reply), writes=False)

    # ---- Inside

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreError("The store is not open.")

    def _start(self, tails: Sequence[Tail]) -> None:
        work: list[Coroutine[Any, Any, None]] = [tail.follow() for tail in tails]
        work.append(self._members.stay())
        self._tasks = [asyncio.create_task(each) for each in work]

    async def _abandon(self) -> None:
        """Undo half a `join`."""
        self._session.is_open = False
        await self._session.pipelines.close()

    def _published(self, name: str) -> str:
        return f"{self._session.keys.once}published:{name}"

    def _fed_back(self, reply: list[Any]) -> list[bytes]:
        bodies, self._feedback_waiting, self._feedback_dropped = reply
        return list(bodies)


def _same(reply: Any) -> Any:
    return reply


def _in_a_thread(work: Coroutine[Any, Any, _T]) -> _T:
    """Run it to its end on a loop of its own, also where the caller's is running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
