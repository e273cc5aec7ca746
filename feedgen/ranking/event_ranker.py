"""The learned ranker for impressions that come as events of a log.

An event is a map as `fleetfeed evaluate` reads it from a line: `device`, `item`, `t` in seconds, and the
maps `device_fields`, `item_fields` and `context`, string to string; `num`, a list of floats, may be
left out. Everything else in it is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from feedgen.ranking.features import MAX_FIELDS, Column, Encoded, Impressions, encode
from feedgen.ranking.model import LogisticModel, ModelSettings
from feedgen.ranking.tokens import token

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

Event = Mapping[str, Any]


def impressions(events: Sequence[Event]) -> Impressions:
    """Return events as columns; a field that an event lacks is absent there.

    Of each map the first `MAX_FIELDS` names in order of the alphabet are used.
    """
    longest = max((len(event.get("num") or ()) for event in events), default=0)
    num = np.full((len(events), longest), np.nan)
    if longest:
        for row, event in enumerate(events):
            values = event.get("num") or ()
            num[row, : len(values)] = values
    return Impressions(
        Column("device", _tokens("device", (event["device"] for event in events), len(events))),
        Column("item", _tokens("item", (event["item"] for event in events), len(events))),
        _columns("device_fields", "device.", events),
        _columns("item_fields", "item.", events),
        _columns("context", "context.", events),
        num,
    )


def _tokens(name: str, values: Any, count: int) -> NDArray[np.uint64]:
    return np.fromiter((0 if v is None else token(name, v) for v in values), np.uint64, count)


def _columns(key: str, prefix: str, events: Sequence[Event]) -> tuple[Column, ...]:
    maps = [event.get(key) or {} for event in events]
    names = sorted({name for each in maps for name in each})[:MAX_FIELDS]
    return tuple(
        Column(prefix + n, _tokens(prefix + n, (each.get(n) for each in maps), len(maps)))
        for n in names
    )


class EventRanker:
    """Predicts events and learns their outcomes.

    Args:
        settings: of the model.
    """

    def __init__(self, settings: ModelSettings | None = None) -> None:
        self.model = LogisticModel(settings or ModelSettings())

    def predict(self, events: Sequence[Event]) -> Floats:
        """Return the probability of y = 1 for each event; learns nothing."""
        if not events:
            return np.empty(0)
        return self.model.predict(self._encode(events))

    def learn(self, events: Sequence[Event], labels: ArrayLike) -> None:
        """Learn the outcomes of events, in their order.

        Args:
            events: as for `predict`; they need not have been predicted before.
            labels: 0 or 1 for each.

        Raises:
            ValueError: events and labels differ in number.
        """
        outcomes = np.asarray(labels, np.float64)
        if outcomes.shape != (len(events),):
            raise ValueError(f"{len(events)} events have {outcomes.size} labels")
        if len(events):
            now = max(float(event.get("t", 0.0)) for event in events)
            self.model.learn(self._encode(events), outcomes, now=now)

    def predict_with_terms(self, events: Sequence[Event]) -> tuple[Floats, Floats]:
        """Return logits in two parts: the rest, and what the item's own evidence adds.

        The probability of an event is `probability(rest + term)`.
        """
        encoded = self._encode(events)
        term = self.model.item_term(encoded)
        return self.model.logits(encoded) - term, term

    def probability(self, logits: Floats) -> Floats:
        """Return the probabilities of logits."""
        return self.model.probability(logits)

    def _encode(self, events: Sequence[Event]) -> Encoded:
        return encode(impressions(events), self.model.settings.bits)


def event_ranker(settings: ModelSettings | None = None) -> EventRanker:
    """Return a ranker that has learned nothing yet."""
    return EventRanker(settings)
