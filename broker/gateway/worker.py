"""One of several gateways that share a store: which devices are its own, and how they come and go.

Devices belong to workers by rendezvous hashing. Whoever ingests gives a device's words to its worker, which
claims the device before it takes the first. When the workers change, a device is handed over: its worker lets
go of it, with its position, and tells the next one. Of a worker that died the others claim what it held;
nothing is known of what it sent, so those devices begin a new epoch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from typing import TYPE_CHECKING, TypeAlias

import msgpack

from broker.cluster.node import Node
from broker.gateway.residence import GatewayResidence
from broker.gateway.spread import Spread
from devices.profile import BadProfile, Profile, valid_device_id
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import Any

    from broker.config import ClusterSettings
    from broker.gateway.gateway_service import GatewayService
    from broker.gateway.presence import Presence
    from devices.registry import Registry
    from feedgen.store.shared import SharedStore

    Word: TypeAlias = tuple[bytes | None, Callable[[], None]]

logger = logging.getLogger(__name__)

_AT_ONCE = 200
"""Devices that are handed over or looked at before the loop gets its turn."""
_PAGE = 1_000
_TRIES = 3
"""How often a device is claimed before what it said is dropped."""
_BETWEEN = 0.5
"""Seconds."""
_REMEMBERED = 15.0
"""Seconds that a word passed on is remembered: for longer than it takes until a worker that reads nothing any
more counts as dead."""
_MOST_REMEMBERED = 100_000
"""Words; when there are more, the oldest is forgotten, and counted."""


class Worker(Node):
    """A gateway as a node; arguments as of `Node`."""

    def __init__(
        self, name: str, store: SharedStore, registry: Registry, settings: ClusterSettings
    ) -> None:
        super().__init__(name, store, registry, settings)
        self.spread = Spread(frozenset({name}))
        self._registry = registry
        self._presence: Presence | None = None
        self._arriving: dict[str, list[Word]] = {}
        self._posting: defaultdict[str, list[tuple[bytes, Callable[[], None]]]] = defaultdict(list)
        self._passed: deque[tuple[float, str, str, bytes]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = False
        self._loop = asyncio.get_running_loop()

    def serve(self, service: GatewayService, presence: Presence) -> None:
        """Who serves the devices; what was heard since `join` has its turn now."""
        self._service, self._presence = service, presence
        presence.begins, presence.ends = self.directory.use, self.directory.leave
        self.directory.resident = GatewayResidence(service, presence)
        early, self._early = self._early, []
        for each in early:
            each()

    # ---- What devices say

    def up(self, device: str, payload: bytes, done: Callable[[], None]) -> None:
        """An up message of any device; `done` is called when it is carried out, or durably passed on."""
        if not valid_device_id(device):
            self._carry_out(device, (payload, done))
        elif (worker := self.spread.worker(device)) == self.name:
            self._take(device, (payload, done))
        else:
            self._post(worker, device, payload, done)

    def _take(self, device: str, word: Word) -> None:
        """An up message of a device of our own; those of one device stay in order."""
        if device in self._arriving:
            self._arriving[device].append(word)
        elif self.directory.holds(device):
            self._carry_out(device, word)
        else:
            self._arriving[device] = [word]
            self._go(self._arrive(device))

    async def _arrive(self, device: str) -> None:
        """Claims a device, then carries out what it said meanwhile.

        What cannot be carried out is dropped, and acknowledged: PUBACKs are in order, so a device that
        cannot be claimed, as its profile cannot be read, would hold up all others for ever.
        """
        for number in range(_TRIES):
            if number:
                await asyncio.sleep(_BETWEEN)
            self.directory.use(device)
            try:
                await self.directory.look_up((device,))
                if self._registry.enroll(device) is not None:
                    await self.directory.claim(device)
            except StoreError as error:
                logger.info("%s cannot be claimed: %s", device, error)
                continue
            finally:
                self._loop.call_soon(self.directory.leave, device)  # after it has come, if it has
            for word in self._arriving.pop(device):
                self._carry_out(device, word)
            return
        words = self._arriving.pop(device)
        if self._leaving:
            return  # nothing is acknowledged: the broker keeps it
        assert self._service is not None
        self._service.counters.dropped["unclaimed_device"] += len(words)
        for _, done in words:
            done()

    def _carry_out(self, device: str, word: Word) -> None:
        assert self._presence is not None
        payload, done = word
        if payload is None:
            self._presence.restore(device)
            done()
        else:
            self._presence.up(device, payload, done)

    def _post(
        self, worker: str, device: str, payload: bytes | None, done: Callable[[], None]
    ) -> None:
        """Passes a word on to another worker, with all that this turn of the loop brings for it."""
        if not self._posting:
            self._loop.call_soon(self._post_all)
        self._posting[worker].append((msgpack.packb((device, payload)), done))
        if payload is not None:
            self._remember(worker, device, payload)

    def _remember(self, worker: str, device: str, payload: bytes) -> None:
        """What a worker was given last it may not carry out, as it may be dead."""
        passed, now = self._passed, self._loop.time()
        passed.append((now, worker, device, payload))
        while passed[0][0] < now - _REMEMBERED:
            passed.popleft()
        if len(passed) > _MOST_REMEMBERED:
            passed.popleft()
            if self._service is not None:
                self._service.counters.dropped["word_not_remembered"] += 1

    def _pass_on_again(self, gone: frozenset[str]) -> None:
        """Gives what workers that are gone were given last to those who follow them, in order.

        The broker has its acknowledgement, so nobody else would say it again. What was carried out already
        changes nothing when it is repeated.
        """
        passed, self._passed = self._passed, deque()
        for at, worker, device, payload in passed:
            if worker not in gone:
                self._passed.append((at, worker, device, payload))
        for _, worker, device, payload in passed:
            if worker in gone:
                self.up(device, payload, _nothing)

    def _post_all(self) -> None:
        posting, self._posting = self._posting, defaultdict(list)
        for worker, words in posting.items():
            future = self._store.post(worker, [body for body, _ in words])

            def durable(
                future: asyncio.Future[None],
                words: Sequence[tuple[Any, Callable[[], None]]] = words,
            ) -> None:
                if not future.cancelled() and future.exception() is None:
                    for _, done in words:
                        done()

            future.add_done_callback(durable)

    # ---- Changes: what other nodes did

    def posted(self, bodies: Sequence[bytes]) -> None:
        """Words of devices, passed on by who ingests, or devices handed over."""
        for body in bodies:
            device, payload = msgpack.unpackb(body)
            self._take(device, (payload, _nothing))

    def members(self, nodes: frozenset[str]) -> None:
        """Another set of workers is alive: devices move."""
        gone = self.alive - nodes
        super().members(nodes)
        self.spread.change(nodes | {self.name})
        self._go(self._hand_over())
        if gone and not self._leaving:
            self._pass_on_again(gone)
        for name in gone:
            self._go(self._inherit(name))

    async def _hand_over(self) -> None:
        """Lets go of the devices that belong to others now, and tells those."""
        presence = self._presence
        if presence is None:
            return
        for number, device in enumerate(presence.devices()):
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
            worker = self.spread.worker(device)
            if worker != self.name:
                presence.release(device)
                self._post(worker, device, None, _nothing)

    async def _inherit(self, name: str) -> None:
        """Claims our part of what a worker held that is gone."""
        self._claim_ours(await self._store.held_by(name))

    async def look_around(self) -> None:
        """Claims our devices that are connected to the broker and held by nobody who is alive.

        All workers may have been gone, or word of a hand-over have been lost.
        """
        after, ids = "", await self._store.devices("", _PAGE)
        while ids:
            ours = [device for device in ids if self.spread.worker(device) == self.name]
            found = await self._store.fetch(ours)
            self._claim_ours(
                device
                for device, each in found.items()
                if each.holder not in self.alive and _is_there(device, each.blob)
            )
            await asyncio.sleep(0)
            after = ids[-1]
            ids = await self._store.devices(after, _PAGE)

    def _claim_ours(self, devices: Iterable[str]) -> None:
        for device in devices:
            if self.spread.worker(device) == self.name:
                self._take(device, (None, _nothing))

    # ---- The end

    async def stop(self) -> None:
        """Hands all devices over to the workers that stay."""
        assert self._presence is not None
        self._leaving = True
        for task in self._tasks:
            task.cancel()
        others = self.alive - {self.name}
        if others:
            self.spread.change(others)
            await self._hand_over()
        for device in self._presence.devices():
            self._presence.release(device)
        await asyncio.sleep(0)  # what nobody uses is let go in the next turn
        await asyncio.sleep(0)
        await super().stop()

    def _go(self, step: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await step
            except StoreError as error:
                logger.info("%s", error)

        task = self._loop.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_there(device: str, blob: bytes | None) -> bool:
    """Whether a stored device is connected to the broker, as far as was known."""
    if blob is None:
        return False
    try:
        return Profile.unpack(device, blob).subscribed is not None
    except BadProfile:
        return False


def _nothing() -> None:
    """Nobody waits for it."""
