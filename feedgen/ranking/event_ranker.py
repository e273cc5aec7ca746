"""The learned ranker for impressions that come as events of a log.

An event is a map as `fleetfeed evaluate` reads it from a line: `device`, `item`, `t` in seconds, and the
maps `device_fields`, `item_fields` and `context`, string to string; `num`, a list of floats, may be
left out. Everything else in it is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from feedgen.ranking.features import MAX_FIELDS, Column, Encoded, Impressions, encode
from feedgen.ranking.model import LogisticModel, ModelSettings
from feedgen.ranking.tokens import token

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

Event = Mapping[str, Any]

MAX_NUMBERS = 64
"""Numbers of an event that are used."""

_MAPS = ("device_fields", "item_fields", "context")


def impressions(events: Sequence[Event]) -> Impressions:
    """Return events as columns; a field that an event lacks is absent there.

    Of each map the first `MAX_FIELDS` names in order of the alphabet are used, of `num` the first
    `MAX_NUMBERS`. Events that between them have more names in maps of a kind than fit are for
    `alike` to tell apart.
    """
    return Impressions(
        (Column("device", _tokens("device", (e["device"] for e in events), len(events))),),
        (Column("item", _tokens("item", (e["item"] for e in events), len(events))),),
        _columns("device_fields", "device.", events),
        _columns("item_fields", "item.", events),
        _columns("context", "context.", events),
        _numbers(events),
    )


def alike(events: Sequence[Event]) -> Iterator[slice]:
    """Yield runs of events that have at most `MAX_FIELDS` names in their maps of each kind.

    Which fields an event has must not depend on which others it is learned with.
    """
    names: dict[str, set[str]] = {kind: set() for kind in _MAPS}
    for kind, known in names.items():
        known.update(*(_fields(event, kind) for event in events))
    if all(len(known) <= MAX_FIELDS for known in names.values()):
        yield slice(0, len(events))
        return
    start = 0
    for at, event in enumerate(events):
        more = {kind: names[kind] | set(_fields(event, kind)) for kind in _MAPS}
        if at == start or any(len(known) > MAX_FIELDS for known in more.values()):
            if at > start:
                yield slice(start, at)
            start, more = at, {kind: set(_fields(event, kind)) for kind in _MAPS}
        names = more
    yield slice(start, len(events))


def _numbers(events: Sequence[Event]) -> Floats:
    lists = [(event.get("num") or ())[:MAX_NUMBERS] for event in events]
    num = np.full((len(events), max(map(len, lists), default=0)), np.nan)
    if num.size:
        for row, values in enumerate(lists):
            num[row, : len(values)] = values
    return num


def _tokens(name: str, values: Any, count: int) -> NDArray[np.uint64]:
    return np.fromiter((0 if v is None else token(name, v) for v in values), np.uint64, count)


def _columns(key: str, prefix: str, events: Sequence[Event]) -> tuple[Column, ...]:
    maps = [_fields(event, key) for event in events]
    names = sorted({name for each in maps for name in each})
    return tuple(
        Column(prefix + n, _tokens(prefix + n, (each.get(n) for each in maps), len(maps)))
        for n in names
    )


def _fields(event: Event, kind: str) -> Mapping[str, str]:
    fields: Mapping[str, str] = event.get(kind) or {}
    if len(fields) > MAX_FIELDS:
        return {name: fields[name] for name in sorted(fields)[:MAX_FIELDS]}
    return fields


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
        return np.concatenate([self.model.predict(part) for _, part in self._encode(events)])

    def learn(self, events: Sequence[Event], labels: ArrayLike) -> None:
        """Learn the outcomes of events, in their order.

        Args:
            events: as for `predict`; they need not have been predicted before.
            labels: 0 or 1 for each.

        Raises:
            ValueError: events and labels differ in number, or a label is neither 0 nor 1.
        """
        outcomes = np.asarray(labels, np.float64)
        if outcomes.shape != (len(events),):
            raise ValueError(f"{len(events)} events have {outcomes.size} labels")
        if not np.isin(outcomes, (0, 1)).all():
            raise ValueError("labels are 0 or 1")
        if not len(events):
            return
        times = np.fromiter((event.get("t", 0.0) for event in events), np.float64, len(events))
        for run, part in self._encode(events):
            self.model.learn(part, outcomes[run], now=times[run])

    def predict_with_terms(self, events: Sequence[Event]) -> tuple[Floats, Floats]:
        """Return logits in two parts: the rest, and what the item's own evidence adds.

        The probability of an event is `probability(rest + term)`.
        """
        if not events:
            return np.empty(0), np.empty(0)
        encoded = [part for _, part in self._encode(events)]
        term = np.concatenate([self.model.item_term(part) for part in encoded])
        return np.concatenate([self.model.logits(part) for part in encoded]) - term, term

    def probability(self, logits: Floats) -> Floats:
        """Return the probabilities of logits."""
        return self.model.probability(logits)

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes; `feedgen.store.state_file` keeps it."""
        return self.model.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: it is of a model with other settings; begin anew.
        """
        self.model.restore(state)

    def _encode(self, events: Sequence[Event]) -> Iterator[tuple[slice, Encoded]]:
        for run in alike(events):
            yield run, encode(impressions(events[run]), self.model.settings.bits)


def event_ranker(settings: ModelSettings | None = None) -> EventRanker:
    """Return a ranker that has learned nothing yet."""
    return EventRanker(settings)
