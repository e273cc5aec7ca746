"""Commands on their way to the servers: group commit, and again until they have succeeded.

Each server has a queue, and one pipeline under way. What arrives meanwhile travels together in the next
one, so that throughput grows with load. Whatever fails for a reason that can pass is repeated, in
order, where the slot then is; so every command must be one that does no harm twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from feedgen.store.base import StoreError
from feedgen.store.redis.address import named
from feedgen.store.redis.faults import PASSING, explain
from feedgen.store.redis.link import LinkLost, NoAnswer, ReplyError, connect, first_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from feedgen.store.redis.address import Address, Server
    from feedgen.store.redis.link import Command, Link
    from feedgen.store.redis.settings import RedisSettings
    from feedgen.store.redis.topology import Topology

MAX_BATCH = 1024
"""Commands of one pipeline: bounds how long the first answer waits for the last command."""
MAX_BYTES = 4 << 20
"""Bytes of one pipeline, about, unless one command alone has more."""
FIRST_RETRY = 0.02
LAST_RETRY = 2.0
REFRESH = 0.1
"""Seconds between two looks at where the masters are, at least."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Call:
    """A command that is to succeed once.

    Attributes:
        slot: the hash slot of its keys.
        encode: gives the command when it is sent for the first time; it must not change afterwards.
        settle: is given the answer, or an error that will not pass or the store's end.
        writes: whether replicas are to have it first, where they are waited for.
        size: bytes of the command, about.
    """

    slot: int
    encode: Callable[[], Command]
    settle: Callable[[Any], None]
    writes: bool = True
    size: int = 200
    command: Command | None = None
    asking: Server | None = None


@dataclass(slots=True, eq=False)
class _Queue:
    server: Server
    waiting: deque[Call] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    fault: str | None = None
    attempts: int = 0


class Pipelines:
    """All queues of a store.

    Attributes:
        errors: Failed attempts.
        pending: Calls that are not settled.
        lost: Why some calls were given up at the end; None if none were.
    """

    def __init__(self, topology: Topology, address: Address, settings: RedisSettings) -> None:
        self.errors = 0
        self.pending = 0
        self.lost: StoreError | None = None
        self._topology = topology
        self._address = address
        self._settings = settings
        self._queues: dict[Server, _Queue] = {}
        self._closing = False
        self._idle = asyncio.Event()

    @property
    def fault(self) -> str | None:
        """Why the last attempt at one of the servers failed; None if none did."""
        return next((queue.fault for queue in self._queues.values() if queue.fault), None)

    def add(self, call: Call) -> None:
        """Queue a call; it travels with all that are added in this turn of the loop."""
        self.pending += 1
        self._queue(call.asking or self._topology.server_of(call.slot)).append(call)

    async def drain(self) -> None:
        """Settle everything: what one last attempt does not achieve fails with `StoreError`."""
        self._closing = True
        while self.pending:
            self._idle.clear()
            await self._idle.wait()

    async def close(self) -> None:
        """Let go of all servers; `drain` comes first."""
        tasks = [queue.task for queue in self._queues.values() if queue.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._queues.clear()

    def _queue(self, server: Server) -> deque[Call]:
        queue = self._queues.get(server)
        if queue is None:
            queue = self._queues[server] = _Queue(server)
        if queue.task is None or queue.task.done():
            queue.task = asyncio.create_task(self._work(queue), name=f"redis {named(server)}")
        queue.wake.set()
        return queue.waiting

    # ---- One server's task

    async def _work(self, queue: _Queue) -> None:
        link: Link | None = None
        try:
            while True:
                while not queue.waiting:
                    queue.wake.clear()
                    await queue.wake.wait()
                batch = _take(queue.waiting)
                is_old = link is not None and not link.is_lost
                try:
                    if link is None or not is_old:
                        link = await self._connect(queue.server)
                    again, error = await self._run(link, batch)
                except (OSError, ReplyError) as lost:
                    again, error = batch, lost
                if error is None:
                    queue.fault, queue.attempts = None, 0
                    continue
                if link is not None and not _redirects(error):
                    # Also for NOSCRIPT: scripts are loaded on a new connection.
                    await link.aclose()
                    link = None
                await self._retry(queue, again, error, is_old=is_old)
        finally:
            if link is not None:
                await link.aclose()

    async def _connect(self, server: Server) -> Link:
        link = await connect(server, self._address, self._settings)
        try:
            await link.load_scripts(self._settings.timeout)
        except BaseException:
            await link.aclose()
            raise
        return link

    async def _run(self, link: Link, batch: list[Call]) -> tuple[list[Call], Exception | None]:
        """Send a batch, settle what is done, and return what is to be repeated, and why."""
        commands: list[Command] = []
        places = []
        for call in batch:
            if call.command is None:
                call.command = call.encode()
            if call.asking is not None:
                commands.append(("ASKING",))
            places.append(len(commands))
            commands.append(call.command)
        replies = await link.run(commands, self._settings.timeout)
        if self._settings.wait_replicas and any(call.writes for call in batch):
            await self._wait(link)
        again: list[Call] = []
        failed_slots: set[int] = set()
        error: ReplyError | None = None
        for call, place in zip(batch, places, strict=True):
            reply = replies[place]
            passing = isinstance(reply, ReplyError) and reply.word in PASSING
            if passing:
                error = error or reply
                failed_slots.add(call.slot)
                self._follow(call, reply, link.server)
            # What came after a failure on the same keys was decided without it: once more, both.
            if passing or call.slot in failed_slots:
                again.append(call)
            else:
                self._settle(call, reply)
        return again, error

    async def _wait(self, link: Link) -> None:
        """Have enough replicas confirm all that was written on a connection.

        Raises:
            ReplyError: They did not, or this server is no master any more.
        """
        wanted, wait = self._settings.wait_replicas, self._settings.wait_timeout
        command = ("WAIT", wanted, round(wait * 1000))
        replies = await link.run([command], self._settings.timeout + wait)
        first_error(replies)
        if replies[0] < wanted:
            raise ReplyError(f"NOREPLICAS {replies[0]} of {wanted} replicas have confirmed")

    def _follow(self, call: Call, reply: ReplyError, asked: Server) -> None:
        """Go where a redirection points: without a host, to another port of who was asked."""
        call.asking = None
        if reply.word in ("MOVED", "ASK"):
            _, slot, where = str(reply).split()[:3]
            host, _, port = where.rpartition(":")
            server = host or asked[0], int(port)
            if reply.word == "MOVED":
                self._topology.learn(int(slot), server)
            else:
                call.asking = server

    async def _retry(
        self, queue: _Queue, again: list[Call], error: Exception, *, is_old: bool
    ) -> None:
        """Wait, look where the servers are, and queue again, there.

        That the server has closed a connection is only found when it is used again: where that `is_old`,
        the first thing to do is to connect.
        """
        self.errors += 1
        ended = is_old and isinstance(error, LinkLost) and not isinstance(error, NoAnswer)
        at_once = queue.attempts < 3 and (ended or _redirects(error) or _is(error, "NOSCRIPT"))
        if not at_once:
            queue.fault = explain(error, queue.server)
        if self._closing and not at_once:
            self.lost = StoreError(queue.fault or str(error))
            calls = [*again, *queue.waiting]
            queue.waiting.clear()
            for call in calls:
                self._settle(call, self.lost)
            return
        queue.waiting.extendleft(reversed(again))
        if not at_once:
            await self._pause(queue)
        queue.attempts += 1
        with contextlib.suppress(OSError, ReplyError):  # then we go on asking where we asked
            await self._topology.refresh(REFRESH)
        self._sort(queue)

    async def _pause(self, queue: _Queue) -> None:
        delay = min(LAST_RETRY, FIRST_RETRY * 2 ** min(queue.attempts, 16))
        # Jitter, so that the nodes of a fleet do not come back in step.
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    def _sort(self, queue: _Queue) -> None:
        """Move the calls of a queue to the servers that have their slots now, in order."""
        calls = list(queue.waiting)
        queue.waiting.clear()
        elsewhere = False
        for call in calls:
            server = call.asking or self._topology.server_of(call.slot)
            elsewhere |= server != queue.server
            self._queue(server).append(call)
        if elsewhere and not queue.waiting:
            queue.fault = None  # nobody asks here any more

    def _settle(self, call: Call, reply: Any) -> None:
        self.pending -= 1
        try:
            call.settle(reply)
        except Exception:  # noqa: BLE001 - one caller's mistake must not stop the others
            _log.exception("The answer of Redis to %.40r was not taken in.", call.command)
        if not self.pending:
            self._idle.set()


def _take(waiting: deque[Call]) -> list[Call]:
    """The next batch, off the queue."""
    batch: list[Call] = []
    size = 0
    while waiting and len(batch) < MAX_BATCH and (not batch or size + waiting[0].size <= MAX_BYTES):
        size += waiting[0].size
        batch.append(waiting.popleft())
    return batch


def _is(error: Exception, *words: str) -> bool:
    return isinstance(error, ReplyError) and error.word in words


def _redirects(error: Exception) -> bool:
    return _is(error, "MOVED", "ASK")
