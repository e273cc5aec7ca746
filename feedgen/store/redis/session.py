"""What the parts of a Redis store share: one run of one node."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, TypeVar

from feedgen.store.base import StoreError
from feedgen.store.redis.keys import Keys
from feedgen.store.redis.link import Command, ReplyError
from feedgen.store.redis.pipelines import Call, Pipelines
from feedgen.store.redis.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Callable

    from feedgen.store.redis.address import Address
    from feedgen.store.redis.settings import RedisSettings
    from feedgen.store.shared import Changes

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Session:
    """From `open` or `join` to `close`.

    Attributes:
        node: Its name, "" where the store is opened alone.
        run: The node and what tells this run of it from another.
        alive: The nodes that are alive, this one included, as last heard.
        is_open: False from the beginning of `close`.
    """

    def __init__(
        self,
        address: Address,
        settings: RedisSettings,
        node: str,
        changes: Changes | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.address = address
        self.settings = settings
        self.node = node
        self.changes = changes
        self.clock = clock
        self.run = f"{node}.{secrets.token_hex(6)}"
        self.keys = Keys(settings)
        self.topology = Topology(address, settings)
        self.pipelines = Pipelines(self.topology, address, settings)
        self.alive: frozenset[str] = frozenset()
        self.is_open = True
        self._names = 0

    def name(self) -> str:
        """A name for one call, by which a repetition of it is known."""
        self._names += 1
        return f"{self.run}.{self._names:x}"

    def tell(self, word: Callable[[Changes], None]) -> None:
        """Tell this node something; an error there must not keep it from hearing what comes next."""
        try:
            if self.changes is not None:
                word(self.changes)
        except Exception:  # noqa: BLE001 - whatever it is
            _log.exception("What another node did was not taken in.")

    def draw_key(self) -> bytes:
        """Random bytes for the key of a new store."""
        return secrets.token_bytes(32)

    def ask(
        self,
        slot: int,
        command: Command | Callable[[], Command],
        parse: Callable[[Any], _T],
        *,
        writes: bool = True,
        size: int = 200,
    ) -> asyncio.Future[_T]:
        """Have a command succeed; the future is given what `parse` makes of the answer.

        A command that depends on when it is sent is made then, and anew if it is sent again.

        Raises:
            StoreError: The store is not open.
        """
        if not self.is_open:
            raise StoreError("The store is not open.")
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

        def settle(reply: Any) -> None:
            answer(future, reply, parse)

        made = command if callable(command) else lambda: command
        self.pipelines.add(Call(slot, made, settle, writes, size))
        return future


def answer(future: asyncio.Future[_T], reply: Any, parse: Callable[[Any], _T]) -> None:
    """Give a future the answer, or the error."""
    if future.done():
        return
    if isinstance(reply, StoreError):
        future.set_exception(reply)
    elif isinstance(reply, ReplyError):
        future.set_exception(StoreError(f"Redis refused a command ({reply}): this is a defect."))
    else:
        future.set_result(parse(reply))


def nothing(_: Any) -> None:
    """Parse an answer that says nothing."""


def forget(future: asyncio.Future[Any]) -> None:
    """Nobody waits for it: should it fail, `fault` has said why."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
