"""What is published: real streams and generated items, each text in no other, so that a window tells what it shows.

Lazy and seeded. A real item gets a short number behind its texts: a thousand earthquakes are "M 1.2" somewhere,
and a witness has to tell them apart.
"""

from __future__ import annotations

import json
import math
from itertools import count
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator import publishers as streams
from simulator.demo import thinned
from simulator.facts import Content, Key
from simulator.faults.publishers import Item
from simulator.offerings import Market, Stream
from simulator.publishers import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.scenario.model import Fault
    from simulator.scenario.tables import Publisher
    from simulator.sources import Publication

POISON = "poison!"
"""What the texts of an item begin with that fragile devices crash on."""

_BATCH = 64
_KEYS = 256
"""Earlier items of a generator that it may still update or take back."""
_BRIEF_FROM = 60
_BRIEF = 32
"""Bytes of payload that every device has room for (protocol, *Frames*)."""
_FILLER = "and the people of the town read it on every device that shows the feed, "


class Offer(NamedTuple):
    """An item to be published.

    Attributes:
        nominal: When, in seconds of the publisher's own pace.
        item: What goes over the wire.
        number: Of the market's item behind it, where people have true interests in it.
    """

    nominal: float
    item: Item
    number: int | None = None


def offers(publisher: Publisher, seed: int, seconds: float) -> Iterator[Offer]:
    """Everything that a publisher has to say.

    Args:
        publisher: As in the scenario.
        seed: Of what it draws.
        seconds: Its nominal time up to the end of the run; a stream is spread over it, a generator has no end.

    Raises:
        SourceError: Its stream cannot be read.
    """
    if publisher.stream is not None:
        return _streamed(publisher, _read(publisher.stream), seconds)
    if publisher.people:
        return _felt(publisher, seed)
    return _generated(publisher, Random(f"{seed}/{publisher.name}"))  # noqa: S311 - no secret


def burst(fault: Fault, first: int) -> list[Item]:
    """The items of a `burst` or `poison`; `first` is how many there were before."""
    found = []
    for serial in range(first, first + fault.count):
        mark = POISON if fault.do == "poison" else "alert"
        text = f"{mark} {fault.channel} {serial}"
        content = Content(
            Key(fault.channel, f"burst-{serial}"),
            text,
            priority=fault.priority,
            ttl=round(fault.ttl),
        )
        found.append(Item(content))
    return found


# ---- Real streams


def _read(stream: str) -> list[Publication]:
    if stream in {"week", "earthquakes", "alerts"}:
        found: list[Publication] = getattr(streams, stream)()
        return found
    return streams.replay_file(stream)


def _streamed(
    publisher: Publisher, publications: list[Publication], seconds: float
) -> Iterator[Offer]:
    if publisher.rate is not None:
        publications = thinned(publications, int(publisher.rate * seconds))
    for serial, due in enumerate(Schedule.over(publications, max(seconds, 1.0))):
        yield Offer(
            due.offset, _real(due.channel, dict(due.item), f"{publisher.name}-{serial}", serial)
        )


def _real(channel: str, item: dict[str, object], fallback: str, serial: int) -> Item:
    key = Key(channel, str(item.get("id", fallback)))
    tags = tuple(map(str, item.get("tags", ())))  # type: ignore[call-overload]
    rev = item.get("rev")
    ttl = int(item.get("ttl", 86_400))  # type: ignore[call-overload]
    if item.get("retract"):
        return Item(Content(key, "", ttl=ttl, retract=True), _whole(rev), (*tags, f"#{serial:x}"))
    payload = item["payload"]
    text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
    brief = item.get("brief")
    content = Content(
        key,
        f"{text} #{serial:x}",
        brief=None if brief is None else _short(str(brief), f" #{serial:x}b"),
        priority=int(item.get("priority", 1)),  # type: ignore[call-overload]
        ttl=ttl,
        collapse=None if item.get("collapse") is None else str(item["collapse"]),
        where=_where(item.get("where")),
    )
    return Item(content, _whole(rev), tags)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _where(value: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        return {}
    return {
        str(name): tuple(map(str, allowed if isinstance(allowed, list) else [allowed]))
        for name, allowed in value.items()
    }


def _short(text: str, suffix: str) -> str:
    """A brief with its number, not longer than every device has room for."""
    return text.encode()[: _BRIEF - len(suffix)].decode(errors="ignore") + suffix


# ---- Generators


def _generated(publisher: Publisher, rng: Random) -> Iterator[Offer]:
    assert publisher.rate is not None
    keys: list[Key] = []
    for serial in count():
        yield Offer(serial / publisher.rate, _next(publisher, rng, keys, serial))


def _next(publisher: Publisher, rng: Random, keys: list[Key], serial: int) -> Item:
    draw = rng.random()
    if keys and draw < publisher.retracts:
        key = keys.pop(rng.randrange(len(keys)))
        # What was accepted before without `rev` is a redelivery if it has DUP: the tag makes it another content.
        return Item(Content(key, "", ttl=60, retract=True), tags=(f"{publisher.name}.{serial}",))
    if keys and draw < publisher.retracts + publisher.updates:
        key = rng.choice(keys)
    else:
        key = Key(rng.choice(publisher.channels), f"{publisher.name}-{serial}")
        keys.append(key)
        del keys[:-_KEYS]
    return Item(_content(publisher, rng, key, serial))


def _content(publisher: Publisher, rng: Random, key: Key, serial: int) -> Content:
    mark = f"{POISON} " if rng.random() < publisher.poison else ""
    low, high = publisher.sizes
    size = round(math.exp(rng.uniform(math.log(low), math.log(high))))
    text = f"{mark}{publisher.name} {serial}: "
    filler = _FILLER * (max(size - len(text), 0) // len(_FILLER) + 1)
    (priority,) = rng.choices(range(4), publisher.priorities)
    return Content(
        key,
        text + filler[: max(size - len(text), 0)],
        brief=f"{text[:-2]}" if publisher.brief and size >= _BRIEF_FROM else None,
        priority=priority,
        ttl=round(publisher.ttl),
    )


# ---- Items that people feel something about


def _felt(publisher: Publisher, seed: int) -> Iterator[Offer]:
    assert publisher.rate is not None
    stream = Stream(
        seed, Market()
    )  # as the people know it; what counts as published when is the run's
    rng = Random(f"{seed}/{publisher.name}")  # noqa: S311 - no secret
    for first in count(0, _BATCH):
        batch = stream.items(np.arange(first, first + _BATCH))
        for place in range(_BATCH):
            number = first + place
            fields = batch.fields(place)
            key = Key(fields.pop("channel"), f"{publisher.name}-{number}")
            item = Item(_content(publisher, rng, key, number), tags=tuple(fields.values()))
            yield Offer(number / publisher.rate, item, number)
