"""One node's hold on a `SharedMemory`."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from feedgen.store.base import (
    Dismiss,
    DropDevice,
    DropItems,
    Loaded,
    Op,
    PutDevice,
    PutItem,
    StoreError,
    call_if_durable,
)
from feedgen.store.shared import OutOfNumbers, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from feedgen.items import Record
    from feedgen.store.memory_shared import SharedMemory
    from feedgen.store.shared import Answer, Changes, Claim, Found, Late

    Word = Callable[[Changes], None]

MAX_WORDS = 10_000
"""Words about devices that wait for a node; beyond them it is told that it `missed` some."""

_T = TypeVar("_T")


class MemoryNode:
    """One node's hold on the world; see `SharedStore`.

    What it is asked happens in a later turn of the loop, as with a store on the network.
    """

    def __init__(self, world: SharedMemory) -> None:
        self.name = ""
        self._world = world
        self._changes: Changes | None = None
        self._is_open = False
        self._away_since: float | None = None
        self._steps: deque[Callable[[], None]] = deque()
        self._pending: set[asyncio.Future[Any]] = set()
        self._words: deque[tuple[Word, bool]] = deque()
        self._has_missed = False
        self._numbers: deque[int] = deque()
        self._feedback_waiting = 0
        self._errors = 0

    # ---- For tests

    @property
    def away(self) -> bool:
        """Whether this node is cut off; settable."""
        return self._away_since is not None

    @away.setter
    def away(self, away: bool) -> None:
        if away == self.away:
            return
        loop = asyncio.get_running_loop()
        # It counted as dead: others may have claimed what it holds.
        self._has_missed |= not self.alive
        self._away_since = self._world.clock() if away else None
        self._errors += away
        loop.call_soon(self._turn)
        # When its lease has ended; the clock of the world may be another than the loop's.
        loop.call_later(self._world.lease if away else 0.0, self._world.tell_members)

    def kill(self) -> None:
        """End as a process that dies: nothing more happens here, and it holds what it held."""
        self._is_open = False
        self._steps.clear()
        self._words.clear()
        self._world.nodes.pop(self.name, None)
        self._world.tell_members()

    @property
    def alive(self) -> bool:
        """Whether the others count it as alive."""
        since = self._away_since
        return since is None or self._world.clock() < since + self._world.lease

    # ---- Store

    @property
    def up(self) -> bool:
        """Whether the store can be reached."""
        return not self.away

    @property
    def fault(self) -> str | None:
        """Why not, None while `up`."""
        return "The store was cut off by a test." if self.away else None

    @property
    def pending(self) -> int:
        """Futures that have not resolved yet."""
        return len(self._pending)

    @property
    def errors(self) -> int:
        """How often it was cut off."""
        return self._errors

    def open(self) -> Loaded:
        """Open it alone; see `Store.open`.

        Raises:
            StoreError: It is in use.
        """
        world = self._world
        if self._is_open or world.nodes:
            raise StoreError("This memory store is open already; close it first.")
        self._is_open, clean = True, world.clean
        world.clean = False
        for device in world.devices.values():
            device.dismissed &= world.records.keys()
        return self._loaded(
            records=list(world.records.values()),
            devices=sorted(
                (d, kept.blob) for d, kept in world.devices.items() if kept.blob is not None
            ),
            dismissed=sorted((d, n) for d, kept in world.devices.items() for n in kept.dismissed),
            clean=clean,
        )

    def submit(
        self,
        ops: Sequence[Op],
        *,
        first: bool = False,  # noqa: ARG002 (nothing ever waits here)
        then: Callable[[], None] | None = None,
    ) -> asyncio.Future[None]:
        """See `Store.submit`."""

        def step() -> None:
            for op in ops:
                self._apply(op)

        future = self._ask(step)
        if then is not None:
            future.add_done_callback(partial(call_if_durable, then))
        return future

    async def close(self, clean: bool) -> None:
        """See `Store.close`.

        Raises:
            StoreError: It is away, and something was pending.
        """
        if not self._is_open:
            return
        last = self.submit(())
        self._is_open = False
        if self.away:
            lost = StoreError("The store was closed while it was away.")
            for future in list(self._pending):
                if not future.done():
                    future.set_exception(lost)
        try:
            await last
        finally:
            self._steps.clear()
            self._words.clear()
            self._world.nodes.pop(self.name, None)
            self._world.tell_members()
        self._world.clean = clean

    # ---- SharedStore

    @property
    def numbers_left(self) -> int:
        """Item numbers that can be taken without asking the store."""
        return len(self._numbers)

    async def join(self, node: str, changes: Changes) -> Loaded:
        """See `SharedStore.join`.

        Raises:
            StoreError: It is open, or a node of this name is alive, or the store is away.
        """
        world = self._world
        if self._is_open:
            raise StoreError("This store is open already; close it first.")
        if self.away:
            raise StoreError("The store cannot be reached.")
        if node in world.alive():
            raise StoreError(
                f"A node named {node} uses this store already: give this one another name."
            )
        await asyncio.sleep(0)
        self.name, self._changes, self._is_open = node, changes, True
        world.nodes[node] = self
        self._refill()
        world.tell_members()
        for body in world.posted.pop(node, ()):
            self._hear_posted(body)
        now = world.clock()
        return self._loaded(
            [r for r in world.records.values() if r.expires > now], [], [], clean=True
        )

    def number(self) -> int:
        """See `SharedStore.number`.

        Raises:
            OutOfNumbers: None is left, and the store is away.
        """
        if len(self._numbers) <= self._world.block // 2 and not self.away:
            self._refill()
        if not self._numbers:
            raise OutOfNumbers
        return self._numbers.popleft()

    def put_item(self, record: Record, over: Record | None) -> asyncio.Future[Record | None]:
        """See `SharedStore.put_item`."""
        return self._ask(lambda: self._world.put_item(record, over, by=self))

    def fetch(self, devices: Sequence[str]) -> asyncio.Future[dict[str, Found]]:
        """See `SharedStore.fetch`."""
        return self._ask(lambda: {device: self._world.find(device) for device in devices})

    def claim(
        self, device: str, wait: float = 0.0, waited: float = 0.0
    ) -> asyncio.Future[Claim | Late]:
        """See `SharedStore.claim`."""
        future: asyncio.Future[Claim | Late] = asyncio.get_running_loop().create_future()
        since = monotonic() - waited
        self._queue(lambda: self._world.claim(self, future, device, wait, since), future)
        return future

    def still_held(self, device: str, token: int) -> asyncio.Future[float | None]:
        """See `SharedStore.still_held`."""
        return self._ask(lambda: self._world.still_held(device, token))

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

        def step() -> Answer:
            answer = self._world.put_device(device, blob, version, token, release)
            if isinstance(answer, Written) and (token is None or notice):
                self._world.say(lambda changes: changes.changed(device, notice), by=self)
            return answer

        return self._ask(step)

    def devices(self, after: str, limit: int) -> asyncio.Future[list[str]]:
        """See `SharedStore.devices`."""
        return self._ask(lambda: self._world.profiles(after)[:limit])

    def held_by(self, node: str) -> asyncio.Future[list[str]]:
        """See `SharedStore.held_by`."""
        return self._ask(lambda: self._world.held_by(node))

    def tell(self, kind: str, body: bytes) -> None:
        """See `SharedStore.tell`."""
        name = self.name
        self._ask(lambda: self._world.say(lambda changes: changes.told(kind, body, name), by=self))

    def post(self, node: str, bodies: Sequence[bytes]) -> asyncio.Future[None]:
        """See `SharedStore.post`."""

        def step() -> None:
            there = self._world.nodes.get(node)
            for body in bodies:
                if there is None:
                    self._world.posted[node].append(body)
                else:
                    there._hear_posted(body)  # noqa: SLF001 - the same class

        return self._ask(step)

    def lease(self, name: str, seconds: float) -> asyncio.Future[int | None]:
        """See `SharedStore.lease`."""
        return self._ask(lambda: self._world.take_lease(name, self, seconds))

    def feedback(self, body: bytes) -> None:
        """See `SharedStore.feedback`."""
        self._ask(lambda: self._world.add_feedback(body))

    def read_feedback(self, count: int) -> asyncio.Future[list[bytes]]:
        """See `SharedStore.read_feedback`."""

        def step() -> list[bytes]:
            waiting = self._world.feedback
            bodies = [waiting.popleft() for _ in range(min(count, len(waiting)))]
            self._feedback_waiting = len(waiting)
            return bodies

        return self._ask(step)

    @property
    def feedback_waiting(self) -> int:
        """See `SharedStore.feedback_waiting`."""
        return self._feedback_waiting

    @property
    def feedback_dropped(self) -> int:
        """See `SharedStore.feedback_dropped`."""
        return self._world.feedback_dropped

    def publish(self, name: str, blob: bytes, token: int) -> asyncio.Future[bool]:
        """See `SharedStore.publish`."""
        return self._ask(lambda: self._world.publish(name, blob, token))

    def latest(self, name: str, above: int) -> asyncio.Future[tuple[int, bytes] | None]:
        """See `SharedStore.latest`."""

        def step() -> tuple[int, bytes] | None:
            number, blob, _ = self._world.published.get(name, (0, b"", 0))
            return (number, blob) if number > above else None

        return self._ask(step)

    # ---- Turns of the loop

    def hear(self, word: Word, is_kept: bool = False) -> None:
        """Be told something in a later turn of the loop, or when this node is back."""
        self._words.append((word, is_kept))
        if len(self._words) > MAX_WORDS and not is_kept:
            self._words = deque((word, kept) for word, kept in self._words if kept)
            self._has_missed = True
        asyncio.get_running_loop().call_soon(self._turn)

    def _hear_posted(self, body: bytes) -> None:
        self.hear(lambda changes: changes.posted((body,)), is_kept=True)

    def _ask(self, step: Callable[[], _T]) -> asyncio.Future[_T]:
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

        def settle() -> None:
            result = step()
            if not future.done():
                future.set_result(result)

        self._queue(settle, future)
        return future

    def _queue(self, step: Callable[[], None], future: asyncio.Future[_T]) -> None:
        if not self._is_open:
            raise StoreError("The store is not open.")
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        self._steps.append(step)
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Do all that was asked and hear all that was said, unless this node is cut off."""
        while self._steps and not self.away:
            self._steps.popleft()()
        while self._words and not self.away and self._changes is not None:
            self._words.popleft()[0](self._changes)
        if self._has_missed and not self.away and self._changes is not None:
            self._has_missed = False
            self._changes.missed()

    def _refill(self) -> None:
        first = self._world.next_n
        self._world.next_n = first + self._world.block
        self._numbers.extend(range(first, self._world.next_n))

    def _loaded(
        self,
        records: list[Record],
        devices: list[tuple[str, bytes]],
        dismissed: list[tuple[str, int]],
        clean: bool,
    ) -> Loaded:
        records.sort(key=lambda record: record.n)
        return Loaded(records, devices, dismissed, self._world.next_n, clean, self._world.key)

    def _apply(self, op: Op) -> None:
        """An op of `Store`: it asks nobody and fences nobody."""
        world = self._world
        match op:
            case PutItem(record):
                world.keep(record)
            case DropItems(ns):
                for n in ns:
                    world.records.pop(n, None)
                    for kept in world.devices.values():
                        kept.dismissed.discard(n)
            case PutDevice(device, blob):
                world.devices[device].version, world.devices[device].blob = world.serial(), blob
            case DropDevice(device):
                world.devices.pop(device, None)
            case Dismiss(device, n):
                world.devices[device].dismissed.add(n)
