"""Says that the server lives for as long as its loop turns and its store answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.run.notify import ALIVE

if TYPE_CHECKING:
    from broker.run.notify import Notify
    from feedgen.store.base import Store

_BEATS = 3
"""Words in the time after which a silent server is killed: one that is late, or lost, does no harm."""


class Watchdog:
    """Asks the store for a sign every beat, and passes it on.

    The sign is an empty submission, which comes back behind all that was submitted before. A store that
    says why it cannot write (a full disk, a Redis that is away) has answered, too: the server goes on
    serving what it has, and to kill it would cure nothing. A store that says nothing hangs, and a loop that
    stands still does not get here; then the word stays out, and the service manager starts the server anew.

    Args:
        notify: Who is told.
        store: An open store.
        seconds: After so long without a word the process is killed.
    """

    def __init__(self, notify: Notify, store: Store, seconds: float) -> None:
        self._notify = notify
        self._store = store
        self._beat = seconds / _BEATS
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, with a first word at once."""
        self._on_beat()

    def stop(self) -> None:
        """Say no more. Call it before the store is closed."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_beat(self) -> None:
        self._timer = self._loop.call_later(self._beat, self._on_beat)
        answered = self._asked is None or self._asked.done()
        if answered or self._store.fault is not None:
            self._notify(ALIVE)
        if answered:
            self._asked = self._store.submit(())
            self._asked.add_done_callback(_heard)


def _heard(asked: asyncio.Future[None]) -> None:
    """An answer that says no is one; the loop would report it as never looked at."""
    if not asked.cancelled():
        asked.exception()
