"""Progressive validation: predict a batch, then learn it, in the order of time.

Every event is predicted before its label is known, by a ranker that has learned what came before: the whole log is
both test and training (Blum, Kalai and Langford, COLT 1999), as in service.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from feedgen.evaluate.ranker import Floats, Labels, Ranker, TermRanker, Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from feedgen.evaluate.bootstrap import Codes
    from feedgen.evaluate.events import Event

Batch: TypeAlias = int | Literal["day"]
"""Events that are predicted together: so many, or those of one UTC day."""

DAY = 86_400.0
REKEY = 1 / 12
"""What an item's term must move, in log value, before the server ranks the item anew: its `rekey`."""
NEW = 20
"""A device is new until so many of its events were seen."""
SLEEPY = DAY
"""A device that was not heard of for longer, seconds, is sleepy."""


class BadRanker(ValueError):  # noqa: N818 - named for what it is
    """A ranker gave something else than a probability for each event."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A log and what was predicted of it, as columns [events].

    Attributes:
        t: Unix seconds.
        y: labels.
        device: number of the device, in order of appearance.
        list: number of the list, likewise.
        batch: number of the batch in which it was predicted.
        propensity: NaN where the log has none.
        seen: events of the same device before.
        asleep: seconds since the device's last event; infinite for its first.
        kind: number of the device's class in `kinds`; -1 if it has none.
        kinds: the classes (`device_fields.class`).
        predictions: by the ranker's name, probabilities.
        judged: index of the first event that is judged; those before are the warm-up.
    """

    t: Floats
    y: Labels
    device: Codes
    list: Codes
    batch: Codes
    propensity: Floats
    seen: Codes
    asleep: Floats
    kind: Codes
    kinds: tuple[str, ...]
    predictions: Mapping[str, Floats]
    judged: int

    def __len__(self) -> int:
        return len(self.t)


class Labelled(NamedTuple):
    """An event with what came of it."""

    event: Event
    y: int


def run(
    labelled: Iterable[tuple[Event, int]],
    rankers: Mapping[str, Ranker],
    *,
    batch: Batch = 50,
    delay: float = 0.0,
    warm_up: float = 0.2,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Run:
    """Predict and learn a log.

    Args:
        labelled: events with labels, in time order.
        rankers: by name; all see the same.
        batch: what is predicted together.
        delay: seconds after which a label is known. What is predicted at t has learned the events up
            to t - delay, at the granularity of batches.
        warm_up: share of events, from the start, that are learned but not judged.
        on_batch: told after each batch how many events are done.

    Raises:
        BadRanker: a ranker's predictions are no probabilities.
    """
    columns = _Columns(list(rankers))
    waiting: deque[Labelled] = deque()
    for events in _batches(labelled, batch):
        known = _due(waiting, events[0].event["t"] - delay)
        _learn(rankers, known)
        shown = [each.event for each in events]
        for name, ranker in rankers.items():
            columns.predictions[name].append(predictions(name, ranker, shown))
            if isinstance(ranker, Witness):
                ranker.witness(shown)
        columns.add(events)
        waiting.extend(events)
        on_batch(len(columns.t))
    return columns.run(warm_up)


def predictions(name: str, ranker: Ranker, events: Sequence[Event]) -> Floats:
    """Return a ranker's probabilities [events], checked.

    Raises:
        BadRanker: they are none.
    """
    p = np.asarray(ranker.predict(events), np.float64)
    if p.shape != (len(events),):
        raise BadRanker(
            f"{name} predicted an array of shape {p.shape} for {len(events)} events: "
            "predict must return one probability for each"
        )
    if not np.all((p >= 0) & (p <= 1)):  # also false for NaN
        wrong = p[~((p >= 0) & (p <= 1))][0]
        raise BadRanker(f"{name} predicted {wrong}: predict must return probabilities from 0 to 1")
    return p


class Held:
    """A ranker whose items keep the term of an earlier time, as in a feed that keys items once.

    Predicts with the term that each item had when it first appeared, until the fresh one differs by
    more than `threshold`; then that is held. Learning is left to whom `inner` belongs: several of
    these may stand on the same ranker.

    Args:
        inner: gives rest and term.
        threshold: in log value; infinite: an item's first term is kept for ever.
    """

    __slots__ = ("_held", "_inner", "_threshold")

    def __init__(self, inner: TermRanker, threshold: float = inf) -> None:
        self._inner = inner
        self._threshold = threshold
        self._held: dict[str, float] = {}

    def predict(self, events: Sequence[Event]) -> Floats:
        """Return probabilities [events] with held terms; a new item's is held from now on."""
        rest, term = self._inner.predict_with_terms(events)
        held = np.empty(len(events))
        for i, (event, fresh) in enumerate(zip(events, term.tolist(), strict=True)):
            item = event["item"]
            kept = self._held.get(item)
            if kept is None or abs(fresh - kept) > self._threshold:
                kept = self._held[item] = fresh
            held[i] = kept
        return self._inner.probability(rest + held)

    def learn(self, events: Sequence[Event], labels: Labels) -> None:
        """Do nothing: `inner` learns by itself."""


def _batches(labelled: Iterable[tuple[Event, int]], batch: Batch) -> Iterator[list[Labelled]]:
    """Yield events in groups, none empty."""
    group: list[Labelled] = []
    for event, y in labelled:
        if group and _ends(group, event, batch):
            yield group
            group = []
        group.append(Labelled(event, y))
    if group:
        yield group


def _ends(group: list[Labelled], event: Event, batch: Batch) -> bool:
    if batch == "day":
        return event["t"] // DAY != group[0].event["t"] // DAY
    return len(group) >= batch


def _due(waiting: deque[Labelled], until: float) -> list[Labelled]:
    known: list[Labelled] = []
    while waiting and waiting[0].event["t"] <= until:
        known.append(waiting.popleft())
    return known


def _learn(rankers: Mapping[str, Ranker], known: list[Labelled]) -> None:
    if known:
        events = [each.event for each in known]
        labels = np.array([each.y for each in known], np.int8)
        for ranker in rankers.values():
            ranker.learn(events, labels)


@dataclass(slots=True)
class _Device:
    """What is remembered of a device while a log is read."""

    number: int
    seen: int = 0
    last: float = -inf


@dataclass(slots=True)
class _Columns:
    """The columns of a `Run` while they grow."""

    names: list[str]
    t: list[float] = field(default_factory=list)
    y: list[int] = field(default_factory=list)
    device: list[int] = field(default_factory=list)
    list_: list[int] = field(default_factory=list)
    batch: list[int] = field(default_factory=list)
    propensity: list[float] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    asleep: list[float] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    predictions: dict[str, list[Floats]] = field(init=False)
    _devices: dict[str, _Device] = field(default_factory=dict)
    _lists: dict[str, int] = field(default_factory=dict)
    _kinds: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.predictions = {name: [] for name in self.names}

    def add(self, events: Sequence[Labelled]) -> None:
        number = self.batch[-1] + 1 if self.batch else 0
        self.batch += [number] * len(events)
        for event, y in events:
            t = event["t"]
            device = self._devices.setdefault(event["device"], _Device(len(self._devices)))
            self.t.append(t)
            self.y.append(y)
            self.device.append(device.number)
            self.list_.append(self._lists.setdefault(event["list"], len(self._lists)))
            self.propensity.append(event.get("propensity", np.nan))
            self.seen.append(device.seen)
            self.asleep.append(t - device.last)
            self.kind.append(self._kind(event))
            device.seen += 1
            device.last = t

    def _kind(self, event: Event) -> int:
        name = event["device_fields"].get("class")
        return -1 if name is None else self._kinds.setdefault(name, len(self._kinds))

    def run(self, warm_up: float) -> Run:
        return Run(
            t=np.array(self.t),
            y=np.array(self.y, np.int8),
            device=np.array(self.device, np.int32),
            list=np.array(self.list_, np.int32),
            batch=np.array(self.batch, np.int32),
            propensity=np.array(self.propensity, np.float64),
            seen=np.array(self.seen, np.int32),
            asleep=np.array(self.asleep),
            kind=np.array(self.kind, np.int32),
            kinds=tuple(self._kinds),
            predictions={
                name: np.concatenate(parts) if parts else np.zeros(0)
                for name, parts in self.predictions.items()
            },
            judged=int(warm_up * len(self.t)),
        )
