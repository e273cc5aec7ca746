"""Why an item has its rank for a device: what each feature adds, by name.

The parts are those that serving adds up, feature by feature; without the smallest, they sum to the
logit that served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from feedgen.ranking.features import POSITION, features
from feedgen.ranking.scorer import MAX_TAGS, SHOWN_FIRST, moments
from feedgen.ranking.tokens import token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedgen.items import Record
    from feedgen.ranking.serving import Serving

_AVERAGE = "average of all"
_TOLD = 0.005
"""Logits below which a part changes no probability that anybody would see."""
_WEEKDAYS = (
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """One item before one device.

    Attributes:
        n: the item.
        probability: that it is opened, as served; None where no model serves.
        term: ticks of its key that are the same for every device, the correction included.
        correction: ticks that balance exposure.
        personal: ticks that are this device's, without exploration.
        explored: standard deviation of what exploration may add, in ticks; 0 if nothing.
        held_out: whether the device stays on newest first.
        parts: names and what they add to the logit of opening, the largest first.
    """

    n: int
    probability: float | None
    term: int
    correction: int
    personal: int
    explored: int
    held_out: bool
    parts: tuple[tuple[str, float], ...]


def explain(
    serving: Serving, shelf: int, row: int, records: Sequence[Record], now: float
) -> list[Explanation]:
    """Explain what some items are worth to the device in a row."""
    return [_explain(serving, shelf, row, record, now) for record in records]


def _explain(serving: Serving, shelf: int, row: int, record: Record, now: float) -> Explanation:
    rows = np.array([row], np.int32)
    term = serving.term(record)
    # Not `scores`, which takes note of what is offered: to ask why changes nothing.
    scores = serving.table([record], [term], shelf, rows, now)
    served = serving.served
    held_out = bool(serving.people.holdout(shelf, rows)[0])
    probability = None
    parts: tuple[tuple[str, float], ...] = ()
    if served is not None and not held_out:
        impression = serving.impressions([record], shelf, rows, now)
        probability = float(served.each(impression).opened[0])
        parts = _parts(serving, shelf, row, record, now)
    return Explanation(
        record.n,
        probability,
        term,
        serving.correction(record),
        0 if scores is None else round(float(scores.mean[0, 0])),
        0 if scores is None or scores.sd is None else round(float(scores.sd[0, 0])),
        held_out,
        parts,
    )


def _parts(
    serving: Serving, shelf: int, row: int, record: Record, now: float
) -> tuple[tuple[str, float], ...]:
    served = serving.served
    assert served is not None, "asked for where a model serves"
    head = served.heads[0]
    names = _names(serving, shelf, row, record, now)
    impression = serving.impressions([record], shelf, np.array([row], np.int32), now)
    found = [(_AVERAGE, head.tables.offset)]
    for feature in features(impression, head.blocks):
        tokens = feature.column().spread()[None, :1]
        if not tokens[0, 0]:
            continue
        slope = head.tables.slopes_of([feature.family])
        added, _ = head.tables.add(tokens, np.array([feature.group], np.intp), slope, sampled=False)
        name = " x ".join(
            names.get(int(column.spread()[0]), column.name) for column in feature.operands
        )
        if abs(added[0]) >= _TOLD:
            found.append((name, float(added[0])))
    found.sort(key=lambda part: -abs(part[1]))
    return tuple(found)


def _names(serving: Serving, shelf: int, row: int, record: Record, now: float) -> dict[int, str]:
    """Return what the tokens of this device and this item stand for."""
    item, people = record.item, serving.people
    codes, zone, _ = people.person(shelf, row)
    known = serving.items.of(record).tokens
    topic = item.channel.partition("/")[0]
    tags = [f"tag {tag}" for tag in item.tags[:MAX_TAGS]]
    fields = (f"channel {item.channel}", f"topic {topic}", f"publisher {record.publisher}", *tags)
    names = {people.device(shelf, row): "this device", known.item: "this item"}
    names |= dict(zip(known.fields, fields, strict=False))
    for field, code in zip(people.fields, codes.tolist(), strict=True):
        if code:
            label = field.name.removeprefix("device.")
            names[int(field.tokens[code])] = f"{label} {field.values[code - 1]}"
    hour, weekday = moments(people.zones.values, now)[max(zone, 1) - 1]
    names[token("context.hour", hour)] = f"hour {hour}"
    names[token("context.weekday", weekday)] = _WEEKDAYS[int(weekday)]
    names[token(POSITION, SHOWN_FIRST)] = "position"
    return names
