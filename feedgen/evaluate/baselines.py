"""What a learned ranking must beat: newest first, popularity with decay, and the rate alone.

All are rankers as `ranker.Ranker` says and give honest probabilities, learned from the same labels
at the same time, so that log-loss compares them too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log, log1p
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedgen.evaluate.events import Event
    from feedgen.evaluate.ranker import Floats, Labels

_HOUR = 3600.0
_DAY = 24 * _HOUR


@dataclass(slots=True)
class Prior:
    """The rate of all events so far: knows nothing of device or item.

    Attributes:
        shown: events, with one opened and one not opened to start with (Laplace's rule).
        opened: those that were opened.
    """

    shown: float = 2.0
    opened: float = 1.0

    @property
    def rate(self) -> float:
        """Share of events that were opened."""
        return self.opened / self.shown

    def predict(self, events: Sequence[Event]) -> Floats:
        """Return the rate [events]."""
        return np.full(len(events), self.rate)

    def learn(self, events: Sequence[Event], labels: Labels) -> None:
        """Count events and those opened."""
        self.shown += len(events)
        self.opened += float(np.sum(labels))


@dataclass(slots=True)
class Popularity:
    """An item's own recent rate, smoothed towards the rate of all; nothing personal.

        p = (opened + prior * rate) / (shown + prior),  prior = strength / min(rate, 1 - rate)

    The prior counts for as many events as have `strength` of the rarer label: a fixed number would
    trust the first opening too much where openings are rare. `opened` and `shown` of the item halve
    every `half_life`, counted from its last event (as in Cormode et al., ICDE 2009), so two numbers
    and a time per item are enough.

    Attributes:
        half_life: seconds.
        strength: events of the rarer label that the rate of all counts for.
    """

    half_life: float = 7 * _DAY
    strength: float = 2.0
    _prior: Prior = field(default_factory=Prior)
    _items: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """Item: shown and opened as of the time t that stands third."""

    def predict(self, events: Sequence[Event]) -> Floats:
        """Return the items' smoothed rates [events]."""
        rate = self._prior.rate
        prior = self.strength / min(rate, 1 - rate)
        p = np.empty(len(events))
        for i, event in enumerate(events):
            shown, opened = self._counts(event["item"], event["t"])
            p[i] = (opened + prior * rate) / (shown + prior)
        return p

    def learn(self, events: Sequence[Event], labels: Labels) -> None:
        """Count each event for its item."""
        self._prior.learn(events, labels)
        for event, label in zip(events, labels.tolist(), strict=True):
            shown, opened = self._counts(event["item"], event["t"])
            self._items[event["item"]] = (shown + 1, opened + label, event["t"])

    def _counts(self, item: str, now: float) -> tuple[float, float]:
        shown, opened, t = self._items.get(item, (0.0, 0.0, now))
        kept = 0.5 ** (max(now - t, 0.0) / self.half_life)
        return shown * kept, opened * kept


@dataclass(slots=True)
class Newest:
    """Newest first: ranks by the age of an item, counted from its first appearance in the log.

        p = sigmoid(a + b * log(1 + age / 1 hour)),  b <= -0.001

    a and b are learned online (per-coordinate steps, Duchi et al., JMLR 2011). The bound on b keeps
    the order newest first also where people prefer what is older: the baseline is the order, and
    only its probabilities are learned.

    Attributes:
        step: of learning.
    """

    step: float = 0.1
    _a: float = 0.0
    _b: float = -0.001
    _squares: tuple[float, float] = (1.0, 1.0)
    _prior: Prior = field(default_factory=Prior)
    _first: dict[str, float] = field(default_factory=dict)
    """Item: when it was first shown."""

    def predict(self, events: Sequence[Event]) -> Floats:
        """Return probabilities [events] that fall with the items' ages."""
        logit = self._offset + self._b * self._ages(events)
        return np.asarray(1 / (1 + np.exp(-logit)))

    def witness(self, events: Sequence[Event]) -> None:
        """Note when items first appeared, which a feed knows long before any label."""
        for event in events:
            self._first.setdefault(event["item"], event["t"])

    def learn(self, events: Sequence[Event], labels: Labels) -> None:
        """Take a step for each event."""
        self.witness(events)
        self._prior.learn(events, labels)
        for age, label in zip(self._ages(events).tolist(), labels.tolist(), strict=True):
            error = label - 1 / (1 + exp(-self._offset - self._b * age))
            one, other = self._squares
            self._squares = one, other = one + error**2, other + (error * age) ** 2
            self._a += self.step * error / one**0.5
            self._b = min(self._b + self.step * error * age / other**0.5, -0.001)

    @property
    def _offset(self) -> float:
        """`_a` is learned as a difference from the rate, so that rare opens need no long way."""
        rate = self._prior.rate
        return self._a + log(rate / (1 - rate))

    def _ages(self, events: Sequence[Event]) -> Floats:
        """Return log(1 + hours) [events]; an item not seen before is as old as in these events."""
        first = self._first
        here: dict[str, float] = {}
        ages = np.empty(len(events))
        for i, event in enumerate(events):
            item, t = event["item"], event["t"]
            since = first.get(item)
            if since is None:
                since = here.setdefault(item, t)
            ages[i] = log1p(max(t - since, 0.0) / _HOUR)
        return ages
