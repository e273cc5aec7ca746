"""Who sends how much, and who is not read for it: over a budget, or at level 5.

Nothing is ever dropped here. Who is not read is slowed down by TCP, and what it sends later counts later.

At level 5 all may send together what the server can take, as found out by trying: less and less while it
is late, more and more while it is not. That is divided so that who sends little is not touched (max-min
fairness, Bertsekas and Gallager, Data Networks, 6.5.2): one cap for all, of which the modest ones use up
only a part. Urgent items do not count, so who sends nothing else is read at every level.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

from broker.overload.hourly import Hourly, depth

if TYPE_CHECKING:
    from collections.abc import Iterable

Source = tuple[str, str]
"""Who sends: the user name, or where nobody has proven one "" and the client id."""

MOST = 10_000
"""Publishers that are told apart; those longest unheard are forgotten, with what they spent."""

_MEMORY = 1.0
"""Seconds over which a rate is taken."""
_LESS, _MORE = 0.9, 1.03
"""By how much the rate of all together changes from look to look."""
_HARDLY = 0.5
"""Items a second that are none: what is left of a single one after a moment."""
_FIRST = 0.5
"""Share of the present rate that is let through when level 5 begins."""
_LEAST = 10.0
"""Items a second of all together that are always let through."""
_BACK = 0.01
"""Share of the bytes that can be spent at once which must be back for a publisher to be read again."""
_AGAIN = 0.5
"""Share of the cap below which a publisher is read again: a read brings many items at once."""


@dataclass(slots=True)
class _Sender:
    rate: float  # items a second, as of `at`
    at: float
    items: Hourly
    octets: Hourly
    stopped: str | None = None

    def rate_at(self, now: float) -> float:
        return self.rate * exp(-(now - self.at) / _MEMORY)


class Senders:
    """All who send something: publishers their items, or devices what they say.

    Args:
        items: Messages that each may send in an hour; 0 = any number.
        octets: Bytes of their payloads, likewise.

    Attributes:
        cap: Items a second that each may send; None below level 5.
        stops: How often publishers were stopped, by reason: `budget`, `overload`.
    """

    __slots__ = ("_budgets", "_forgotten", "_senders", "_stopped", "_target", "cap", "stops")

    def __init__(self, items: float, octets: float) -> None:
        self.cap: float | None = None
        self.stops = {"budget": 0, "overload": 0}
        self._budgets = items, octets
        self._senders: dict[Source, _Sender] = {}  # by the time when they were last heard
        self._stopped: dict[Source, None] = {}
        self._forgotten: list[Source] = []  # who was not read, and is not known any more
        self._target = 0.0

    def adopt(self, items: float, octets: float, now: float) -> None:
        """Other budgets hold from now on; who has spent a share of the old one has spent it of the new one."""
        self._budgets = items, octets
        for sender in self._senders.values():
            sender.items.change(items, now)
            sender.octets.change(octets, now)

    def took(self, source: Source, size: int, now: float, *, urgent: bool = False) -> bool:
        """An item was taken from a publisher.

        Returns: whether to read on; if not, `look` says when.
        """
        sender = self._senders.pop(source, None) or self._begin(now)
        self._senders[source] = sender
        sender.rate = sender.rate_at(now) + (0.0 if urgent else 1 / _MEMORY)
        sender.at = now
        sender.items.spend(1, now)
        sender.octets.spend(size, now)
        if sender.stopped is None:
            sender.stopped = self._fault(sender, now)
            if sender.stopped is not None:
                self.stops[sender.stopped] += 1
                self._stopped[source] = None
        return sender.stopped is None

    def _begin(self, now: float) -> _Sender:
        if len(self._senders) >= MOST:
            oldest = next(iter(self._senders))
            del self._senders[oldest]
            if oldest in self._stopped:
                del self._stopped[oldest]
                self._forgotten.append(oldest)
        items, octets = self._budgets
        return _Sender(0.0, now, Hourly.full(items, now), Hourly.full(octets, now))

    def _fault(self, sender: _Sender, now: float, *, again: bool = False) -> str | None:
        """Why a publisher is not read; to be read again, it must be well below what stops it."""
        item, octets = (1.0, _BACK * depth(sender.octets.limit)) if again else (0.0, 0.0)
        if not (sender.items.open(now, item) and sender.octets.open(now, octets)):
            return "budget"
        share = _AGAIN if again else 1.0
        if self.cap is not None and sender.rate_at(now) > self.cap * share:
            return "overload"
        return None

    def urgent_alone(self, source: Source) -> bool:
        """Whether a publisher that was just heard sends nothing but urgent items, as of late."""
        sender = self._senders.get(source)
        return sender is not None and sender.rate < _HARDLY

    def reads(self, source: Source) -> bool:
        """Whether a publisher is read."""
        return source not in self._stopped

    def look(self, now: float, *, choke: bool, late: bool) -> list[Source]:
        """Finds the cap of the next moment, and who is read again.

        Args:
            now: The time.
            choke: Level 5.
            late: The server is late at this moment.
        """
        self._adjust(now, choke=choke, late=late)
        again = [
            source
            for source in self._stopped
            if self._fault(self._senders[source], now, again=True) is None
        ]
        forgotten, self._forgotten = self._forgotten, []
        for source in again:
            del self._stopped[source]
            self._senders[source].stopped = None
        return again + forgotten

    def _adjust(self, now: float, *, choke: bool, late: bool) -> None:
        if not choke:
            self.cap = None
            return
        rates = [sender.rate_at(now) for sender in self._senders.values()]
        if self.cap is None:
            self._target = _FIRST * sum(rates)
        else:
            self._target *= _LESS if late else _MORE
        self._target = max(self._target, _LEAST)
        self.cap = fair_cap(rates, self._target)

    def stopped(self, reason: str) -> list[str]:
        """Names of those who are not read for this reason."""
        return [
            user or client
            for user, client in self._stopped
            if self._reason((user, client)) == reason
        ]

    def _reason(self, source: Source) -> str | None:
        return self._senders[source].stopped


def fair_cap(rates: Iterable[float], total: float) -> float:
    """The cap c for which the sum of min(rate, c) is `total`; the highest rate if all fit."""
    left = total
    ascending = sorted(rates)
    for at, rate in enumerate(ascending):
        others = len(ascending) - at
        if rate * others >= left:
            return left / others
        left -= rate
    return max(ascending, default=0.0) + left
