"""Publishers that live through faults, and what they publish.

A publisher keeps what is not acknowledged and, after reconnecting, sends it again in order with DUP (MQTT 3.1.1, 4.4),
as paho-mqtt does. Sometimes it dies instead, and nobody knows what became of its last items.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import msgpack

from devices.packets import (
    Connack,
    Connect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    encode,
)
from simulator.access import OPEN
from simulator.connection import aside
from simulator.facts import Content, Finding, Key
from simulator.faults.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from devices.packets import Packet
    from simulator.access import Access
    from simulator.checker import Checker
    from simulator.facts import Publication

CHANNELS = ("a", "b", "a/x", "c/y/z")
"""Where everything is published."""

MAX_IN_FLIGHT = 200
"""Items without acknowledgement; above it a publisher waits."""

_KEYS = 36
"""Items that a source keeps alive: about half of the devices have room for all of them, so that what is missing shows."""
_CONTESTED = 6
"""Keys of which several sources speak at once."""
_SIZES = (5, 20, 60, 150, 400, 1_500)
_TTLS = (1, 2, 3, 600, 600, 600)
_TOMBSTONES = (2, 5, 10)
"""Seconds that a retraction is remembered: short, so that a season comes to a steady size."""
_FROM_BRIEF = 60
"""Bytes of payload from which an item has a brief."""


@dataclass(frozen=True, slots=True)
class Item:
    """What goes over the wire.

    Attributes:
        content: What it says.
        rev: Its revision, for publishers that count.
        tags: Ranking features.
    """

    content: Content
    rev: int | None = None
    tags: tuple[str, ...] = ()

    def encode(self, *, packed: bool) -> bytes:
        """As JSON, or as msgpack."""
        content = self.content
        fields: dict[str, Any] = {"id": content.key.id, "ttl": content.ttl}
        if content.retract:
            fields["retract"] = True
        else:
            fields |= {"payload": content.payload, "priority": content.priority}
        if content.brief is not None:
            fields["brief"] = content.brief
        if content.collapse is not None:
            fields["collapse"] = content.collapse
        if content.where:
            fields["where"] = {name: list(values) for name, values in content.where.items()}
        if self.tags:
            fields["tags"] = list(self.tags)
        if self.rev is not None:
            fields["rev"] = self.rev
        if packed:
            data: bytes = msgpack.packb(fields)
            return data
        return json.dumps(fields).encode()


class Source:
    """Makes items: new ones, updates and retractions, on a bounded number of keys.

    Args:
        name: Part of every id and text, so that no two sources ever say the same.
        rng: What it draws from.
    """

    def __init__(self, name: str, rng: Random) -> None:
        self._name = name
        self._rng = rng
        self._serial = 0
        self._keys: list[Key] = []
        self._revs: dict[Key, int] = {}

    def publish(self, publisher: FaultyPublisher) -> None:
        """One more item, if the publisher can send it: what was never sent must not count as made."""
        if publisher.ready:
            publisher.publish(self._next())

    def unsent(self) -> Item:
        """An item of a key of its own, of which the server gets a part."""
        self._serial += 1
        return self._item(Key(CHANNELS[0], f"{self._name}-cut-{self._serial}"))

    def contested(self, rng: Random) -> Key:
        """A key of which several sources speak; none has a revision, as nobody numbers for all of them."""
        return Key(rng.choice(CHANNELS), f"contested-{rng.randrange(_CONTESTED)}")

    def about(self, key: Key) -> Item:
        """An item of a contested key."""
        return self._item(key, retract=self._rng.random() < 0.1)

    def _next(self) -> Item:
        draw = self._rng.random()
        if self._keys and draw < 0.3:
            return self._item(self._rng.choice(self._keys))
        if self._keys and draw < 0.4:
            return self._item(self._rng.choice(self._keys), retract=True)
        if len(self._keys) >= _KEYS:
            return self._item(self._keys.pop(self._rng.randrange(_KEYS)), retract=True)
        key = Key(self._rng.choice(CHANNELS), f"{self._name}-{self._serial}")
        self._keys.append(key)
        if self._rng.random() < 0.2:
            self._revs[key] = 0
        return self._item(key)

    def _item(self, key: Key, *, retract: bool = False) -> Item:
        rng = self._rng
        self._serial += 1
        rev = self._revs.get(key)
        if rev is not None:
            rev = self._revs[key] = rev + rng.randint(1, 3)
        if retract:
            ttl = rng.choice(_TOMBSTONES)
            # A content of its own: without `rev`, what was accepted before is a redelivery if it has DUP.
            tags = (f"{self._name}.{self._serial}",)
            return Item(Content(key, "", ttl=ttl, retract=True), rev, tags)
        text = f"{self._name}.{self._serial}."
        size = rng.choice(_SIZES)
        content = Content(
            key,
            text + "x" * (size - len(text)),
            brief=text + "b" if size >= _FROM_BRIEF and rng.random() < 0.8 else None,
            priority=rng.choice((0, 0, 1, 1, 1, 2, 3)),
            ttl=rng.choice(_TTLS),
            collapse=rng.choice("pq") if rng.random() < 0.15 else None,
            where={"region": (rng.choice("ns"),)} if rng.random() < 0.1 else {},
        )
        return Item(content, rev)


class _Stage(Enum):
    """How far the exchange of a packet is."""

    PUBLISH = auto()  # neither PUBACK nor PUBREC has come
    RELEASE = auto()  # PUBREC has come, PUBCOMP has not


@dataclass(slots=True)
class _Outgoing:
    publication: Publication
    packet: Publish
    stage: _Stage = _Stage.PUBLISH


class FaultyPublisher:
    """A publisher over all its connections.

    Args:
        name: Its client id.
        rng: What it draws from.
        checker: Told what was sent and acknowledged.
        route: The address that it connects to, asked each time.
        access: How it comes in there.

    Attributes:
        acknowledged: Items that the server acknowledged.
        repeated: Packets sent again.
        on_acknowledged: Called with the seconds that each acknowledgement took.
    """

    def __init__(
        self,
        name: str,
        rng: Random,
        checker: Checker,
        route: Callable[[], tuple[str, int]],
        access: Access = OPEN,
    ) -> None:
        self.name = name
        self.acknowledged = 0
        self.repeated = 0
        self.on_acknowledged: Callable[[float], None] | None = None
        self._rng = rng
        self._checker = checker
        self._route = route
        self._access = access
        self._persistent = rng.random() < 0.5
        self._outbox: dict[int, _Outgoing] = {}
        self._packet_id = 0
        self._echoes: set[int] = set()
        self._link: Link | None = None
        self._connecting = False
        self._ready = False

    @property
    def connected(self) -> bool:
        """Whether it has a connection, or is making one."""
        return self._connecting or (self._link is not None and self._link.alive)

    @property
    def ready(self) -> bool:
        """Whether it can send an item."""
        return self._ready and self._link is not None and len(self._outbox) < MAX_IN_FLIGHT

    @property
    def in_flight(self) -> int:
        """Packets without acknowledgement."""
        return len(self._outbox) + len(self._echoes)

    async def connect(self) -> bool:
        """Makes a connection in place of the old one; whether it was accepted."""
        if self._connecting:
            return False
        self.drop()
        self._connecting = True
        try:
            link = self._link = Link(self)
            connect = Connect(aside(self.name), not self._persistent, keep_alive=60)
            return await link.open(self._route(), self._access.signed(connect), self._access.tls)
        finally:
            self._connecting = False

    def drop(self) -> None:
        """Loses its connection."""
        link, self._link = self._link, None
        self._ready = False
        self._echoes.clear()
        if link is not None:
            link.abort()

    def lose_inside_a_packet(self, item: Item) -> None:
        """Loses its connection in the middle of an item, which the server thus never has."""
        if self._ready and self._link is not None:
            data = encode(self._packet(item, 1))
            self._link.write(data[: self._rng.randrange(1, len(data))])
            self.drop()

    def die(self) -> None:
        """Forgets what is not acknowledged; nobody will ever know what became of it."""
        self.drop()
        self._outbox.clear()

    def publish(self, item: Item, *, qos: int | None = None) -> bool:
        """Sends an item; whether there was a connection and room for it."""
        if not self.ready or self._link is None:
            return False
        qos = self._rng.choice((0, 1, 1, 1, 2)) if qos is None else qos
        packet = self._packet(item, qos)
        publication = self._checker.sent(item.content, time.time(), self.name)
        if qos:
            self._outbox[packet.packet_id] = _Outgoing(publication, packet)
        self._link.send(packet)
        return True

    def repeat(self, content: Content) -> None:
        """Sends once more what the server has acknowledged; nothing may change."""
        self.say_again(Item(content))

    def say_again(self, item: Item) -> None:
        """Sends once more an item that the server has acknowledged, with all that it had; nothing may change."""
        if self._ready and self._link is not None:
            packet = self._packet(item, 1)
            self._echoes.add(packet.packet_id)
            dup = self._rng.random() < 0.5
            self.repeated += 1
            self._link.send(Publish(packet.topic, packet.payload, 1, packet.packet_id, dup=dup))

    def _packet(self, item: Item, qos: int) -> Publish:
        payload = item.encode(packed=self._rng.random() < 0.3)
        return Publish(
            f"items/{item.content.key.channel}", payload, qos, self._next_packet_id() if qos else 0
        )

    # ---- What Link reports

    def received(self, link: Link, packet: Packet, size: int) -> None:
        """CONNACK and acknowledgements."""
        del size
        if link is not self._link:
            return
        match packet:
            case Connack(_, 0):
                self._ready = True
                self._send_again(link)
            case Puback(packet_id) if packet_id in self._outbox:
                self._confirm(self._outbox.pop(packet_id))
            case Puback(packet_id):
                self._echoes.discard(packet_id)
            case Pubrec(packet_id):
                outgoing = self._outbox.get(packet_id)
                if outgoing is not None and outgoing.stage is _Stage.PUBLISH:
                    outgoing.stage = _Stage.RELEASE
                    self._confirm(outgoing)
                link.send(Pubrel(packet_id))
            case Pubcomp(packet_id):
                self._outbox.pop(packet_id, None)
            case _:
                pass

    def lost(self, link: Link, malformed: str | None) -> None:
        """A connection ended."""
        if malformed is not None:
            self._checker.report(Finding("wire", f"{self.name} was sent broken MQTT: {malformed}"))
        if link is self._link:
            self._link, self._ready = None, False
            self._echoes.clear()

    def _send_again(self, link: Link) -> None:
        """Everything without acknowledgement, in the order of sending."""
        for outgoing in self._outbox.values():
            self.repeated += 1
            packet = outgoing.packet
            if outgoing.stage is _Stage.RELEASE:
                link.send(Pubrel(packet.packet_id))
            else:
                again = Publish(
                    packet.topic, packet.payload, packet.qos, packet.packet_id, dup=True
                )
                link.write(encode(again))

    def _confirm(self, outgoing: _Outgoing) -> None:
        self.acknowledged += 1
        now = time.time()
        self._checker.acknowledged(outgoing.publication, now)
        if self.on_acknowledged is not None:
            self.on_acknowledged(now - outgoing.publication.sent)

    def _next_packet_id(self) -> int:
        while True:
            self._packet_id = self._packet_id % 0xFFFF + 1
            if self._packet_id not in self._outbox and self._packet_id not in self._echoes:
                return self._packet_id
