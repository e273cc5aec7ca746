"""Scripts for MQTT servers: who does what, in which order; `mqtt_stage` has a server play them."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from devices.packets import Will
from feedgen.channels import matches

CLIENTS = ("ann", "bob", "eve")
TOPICS = ("a", "b", "a/a", "a/b", "b/a", "gone")
FILTERS = ("a", "b", "a/b", "+", "a/+", "+/a", "#", "b/#", "gone", "+/+")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that one client does.

    `hold` is what it does with messages from then on: acknowledge them all, answer those of QoS 2 with
    PUBREC alone, or nothing.
    """

    client: str


@dataclass(frozen=True, slots=True)
class Come(Step):
    clean: bool
    will: Will | None
    hold: str


@dataclass(frozen=True, slots=True)
class Leave(Step):
    pass


@dataclass(frozen=True, slots=True)
class Vanish(Step):
    pass


@dataclass(frozen=True, slots=True)
class Follow(Step):
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unfollow(Step):
    topic_filter: str


@dataclass(frozen=True, slots=True)
class Tell(Step):
    """A message; of QoS 2, `again` sends it twice before PUBREL, or comes back in between."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    again: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledge(Step):
    """What was held back; then as `hold` says."""

    hold: str


@dataclass
class _Known:
    """What the author of a script knows of a client."""

    here: bool = False
    clean: bool = True
    filters: set[str] = field(default_factory=set)


class Author:
    """Writes one script."""

    def __init__(self, number: int) -> None:
        self._random = Random(number)
        self._known = {client: _Known() for client in CLIENTS}
        self._messages = 0

    def write(self, length: int = 30) -> list[Step]:
        script: list[Step] = [self._come(client) for client in CLIENTS]
        while len(script) < length:
            step = self._next()
            if step is not None:
                script.append(step)
        return script

    def _next(self) -> Step | None:
        client = self._random.choice(CLIENTS)
        known = self._known[client]
        if not known.here:
            return self._come(client) if self._random.random() < 0.6 else None
        verbs = (self._tell, self._follow, self._acknowledge, self._unfollow, self._go, self._come)
        (verb,) = self._random.choices(verbs, (12, 6, 4, 1, 3, 1))
        return verb(client)

    def _come(self, client: str) -> Step:
        known = self._known[client]
        # A persistent session that takes itself over is in DIFFERENCES: it is about the will.
        clean = self._random.random() < 0.3 or (known.here and not known.clean)
        if clean or known.clean:
            known.filters.clear()
        known.here, known.clean = True, clean
        retain = self._random.random() < 0.2
        will = Will("gone", self._payload(), self._random.randrange(3), retain)
        return Come(client, clean, will, self._hold())

    def _go(self, client: str) -> Step:
        known = self._known[client]
        known.here = False
        if known.clean:
            known.filters.clear()
        return self._random.choice((Leave, Vanish))(client)

    def _follow(self, client: str) -> Step | None:
        known = self._known[client]
        wanted = []
        for topic_filter in self._random.sample(FILTERS, 2):
            if not any(_overlap(topic_filter, held) for held in known.filters - {topic_filter}):
                wanted.append((topic_filter, self._random.randrange(3)))
                known.filters.add(topic_filter)
        return Follow(client, tuple(wanted)) if wanted else None

    def _unfollow(self, client: str) -> Step:
        topic_filter = self._random.choice(FILTERS)
        self._known[client].filters.discard(topic_filter)
        return Unfollow(client, topic_filter)

    def _tell(self, client: str) -> Step:
        known, topic = self._known[client], self._random.choice(TOPICS)
        qos = self._random.randrange(3)
        retain = self._random.random() < 0.3
        payload = b"" if retain and self._random.random() < 0.3 else self._payload()
        again = self._random.choice(("", "twice", "back")) if qos == 2 else ""
        if again == "back" and (known.clean or self._sees_the_order(client, topic)):
            again = ""
        return Tell(client, topic, payload, qos, retain, again)

    def _sees_the_order(self, client: str, topic: str) -> bool:
        """Whether anybody would see if the message or the will came first of one that comes back.

        A message of QoS 2 may be delivered at PUBLISH or at PUBREL (4.3.3).
        """
        watched = any(
            matches(each, "gone") for known in self._known.values() for each in known.filters
        )
        own = any(matches(each, topic) for each in self._known[client].filters)
        return watched or own or topic == "gone"

    def _acknowledge(self, client: str) -> Step:
        return Acknowledge(client, self._hold())

    def _hold(self) -> str:
        return self._random.choice(("none", "none", "PUBCOMP", "all"))

    def _payload(self) -> bytes:
        self._messages += 1
        return b"%d" % self._messages


def _overlap(one: str, other: str) -> bool:
    return any(matches(one, topic) and matches(other, topic) for topic in TOPICS)
