"""Clients let in at a pace: all devices of a fleet that come back at once must not stop the feeds.

A token bucket, whose rate is found out by measuring: a little more at each look while clients wait and
the loop is in time, a third less while it is late (additive increase, multiplicative decrease; Chiu and
Jain, 1989). What a client costs need not be known for that, and it differs much: a password check, a
snapshot, TLS. Those for whom there is no token wait unread, first come first served.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from broker.config_overload import OverloadSettings

T = TypeVar("T")

_BURST = 0.05
"""Seconds of the present rate that can be let in at once."""
_LEAST_BURST = 16
_SLOWER, _FASTER = 0.67, 0.1
_SLOWEST = 20.0
_FASTEST = 20_000.0
"""Clients a second: bounds of the rate."""


class Pace(Generic[T]):
    """Decides who is let in when.

    Args:
        settings: Of overload control.
        now: The time, on any clock that does not go back; likewise below.

    Attributes:
        rate: Clients let in a second.
        refused: Clients that were told to come back later.
        waited: Clients that had to wait.
    """

    __slots__ = ("_at", "_settings", "_tokens", "_waiting", "rate", "refused", "waited")

    def __init__(self, settings: OverloadSettings, now: float) -> None:
        self.rate = settings.connect_rate
        self.refused = self.waited = 0
        self._settings = settings
        self._tokens = self._burst
        self._at = now
        # Since when each waits. Who gave up must leave at once: where the first in the line are always
        # gone, all tokens are spent on them, and nobody comes in.
        self._waiting: OrderedDict[T, float] = OrderedDict()

    def adopt(self, settings: OverloadSettings) -> None:
        """Goes by other settings from now on; who waits already goes on waiting."""
        if settings.connect_rate != self._settings.connect_rate:
            self.rate = settings.connect_rate
        self._settings = settings

    @property
    def waiting(self) -> int:
        """Clients that wait."""
        return len(self._waiting)

    @property
    def _burst(self) -> float:
        return max(self.rate * _BURST, _LEAST_BURST)

    def admit(self, now: float) -> bool:
        """Whether a client that comes now is let in at once."""
        if self._waiting or not self._settings.enabled:
            return not self._settings.enabled
        return self._spend(now)

    def wait(self, client: T, now: float) -> bool:
        """A client that was not let in waits; False if too many do."""
        if len(self._waiting) >= self._settings.connect_queue:
            self.refused += 1
            return False
        self._waiting[client] = now
        self.waited += 1
        return True

    def leave(self, client: T) -> None:
        """A client waits no more, if it did: it has gone."""
        self._waiting.pop(client, None)

    def due(self, now: float) -> tuple[list[T], list[T]]:
        """Those who are let in now, and those who have waited for too long."""
        late: list[T] = []
        for client, since in self._waiting.items():
            if now - since <= self._settings.connect_wait:
                break
            late.append(client)
        for client in late:
            del self._waiting[client]
        self.refused += len(late)
        admitted: list[T] = []
        while self._waiting and self._spend(now):
            admitted.append(self._waiting.popitem(last=False)[0])
        return admitted, late

    def observe(self, *, late: bool) -> None:
        """One look at the server, ten a second: whether it is late."""
        if late:
            self.rate = max(self.rate * _SLOWER, _SLOWEST)
        elif self._waiting:
            self.rate = min(self.rate + _FASTER * self._settings.connect_rate, _FASTEST)
        else:
            # Back towards what was set: the next storm may cost more than this one did.
            self.rate += _FASTER * (self._settings.connect_rate - self.rate)

    def _spend(self, now: float) -> bool:
        self._tokens = min(self._tokens + (now - self._at) * self.rate, self._burst)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
