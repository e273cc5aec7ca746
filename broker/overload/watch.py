"""Takes the looks at the server, ten a second, and tells others what follows from them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from broker.overload.delays import Delays

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from broker.overload.overload import Overload, Verdict
    from broker.overload.senders import Source
    from feedgen.engine import Engine
    from feedgen.store.base import Store

logger = logging.getLogger(__name__)

_EVERY = 0.1
_GIVEN = 100_000
"""Items given to the engine whose end is watched; of more, the first ones are."""


class Reader(Protocol):
    """What the watch needs of whoever reads from the clients, where anybody does."""

    @property
    def bytes_waiting(self) -> int:
        """Bytes that clients do not read."""

    def read_again(self, sources: Sequence[Source]) -> None:
        """These publishers and devices are read again."""


class Service(Protocol):
    """What the watch needs of the service."""

    def load_changed(self, verdict: Verdict) -> None:
        """Another level begins."""

    @property
    def items_at_store(self) -> int:
        """Items that wait for the store."""

    @property
    def oldest_change(self) -> float:
        """Seconds that changes of windows have waited to be sent, for longer than they are to."""


class Watch:
    """Measures how late the server is.

    Args:
        overload: Decides.
        service: Carries out.
        engine: Its jobs are counted.
        store: Its delay is measured.

    Attributes:
        reader: Who reads from the clients; while there is none, nobody can be stopped from sending.
    """

    def __init__(self, overload: Overload, service: Service, engine: Engine, store: Store) -> None:
        self._overload = overload
        self._service = service
        self._engine = engine
        self._store = store
        self.reader: Reader | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._given: deque[tuple[float, int]] = deque()
        self._asked: float | None = None  # when the store was asked for a sign of life

    def start(self) -> None:
        """Begins."""
        self._schedule()

    def stop(self) -> None:
        """Ends."""
        if self._timer is not None:
            self._timer.cancel()

    def gave(self, ns: Iterable[int], now: float) -> None:
        """These items were given to the engine."""
        if len(self._given) < _GIVEN:
            self._given.extend((now, n) for n in ns)

    def _schedule(self) -> None:
        self._due = self._loop.time() + _EVERY
        self._timer = self._loop.call_later(_EVERY, self._look)

    def _look(self) -> None:
        lag = max(self._loop.time() - self._due, 0.0)
        self._schedule()
        now = monotonic()
        verdict = self._overload.observe(self._delays(lag, now), now)
        if verdict.changed:
            logger.log(
                logging.WARNING if verdict.level > verdict.before else logging.INFO,
                "overload level %d, %s: the loop was %.0f ms late, the oldest item %.2f s old, %.2f s "
                "since it was stored, %d jobs",
                verdict.level,
                verdict.level.name.lower().replace("_", " "),
                lag * 1000,
                self._overload.delays.oldest_item,
                self._overload.delays.oldest_stored,
                self._overload.delays.engine_jobs,
            )
            self._service.load_changed(verdict)
        if verdict.again and self.reader is not None:
            self.reader.read_again(verdict.again)

    def _delays(self, lag: float, now: float) -> Delays:
        admission = self._overload.admission
        unread = 0 if self.reader is None else self.reader.bytes_waiting
        since = admission.oldest()
        waited = max(
            self._in_engine(now),
            self._service.oldest_change,
            0.0 if since is None else now - since,
        )
        return Delays(
            loop_lag=lag,
            oldest_item=max(waited, self._at_store(now)),
            bytes_waiting=admission.bytes_waiting + unread,
            engine_jobs=self._engine.size.jobs + admission.overflow,
            oldest_stored=waited,
        )

    def _in_engine(self, now: float) -> float:
        """How long the oldest item that the engine still works on has been there."""
        given, offering = self._given, self._engine.offering
        while given and not offering(given[0][1]):
            given.popleft()
        return now - given[0][0] if given else 0.0

    def _at_store(self, now: float) -> float:
        """How long the store takes, as far as it is there and has anything to do."""
        if not self._store.up:
            return 0.0
        if self._asked is None and self._service.items_at_store:
            self._asked = now
            self._store.submit(()).add_done_callback(self._answered)
        return 0.0 if self._asked is None else now - self._asked

    def _answered(self, future: asyncio.Future[None]) -> None:
        self._asked = None
        if not future.cancelled():
            future.exception()  # happens when the store closes; nobody is to be told
