"""What the tests of MQTT 3.1.1 share: the two parts of the server, and clients of either.

Most statements of the standard hold for every topic. Their tests take the fixture `part` and run
twice: on the feed (`items/`, `f/`, `u/`), where what a client receives are frames made for it, and on
all other topics, where it receives what others publish.
"""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from devices.frames import Hello, HelloOptions, encode_up
from devices.packets import (
    Connack,
    Connect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Will,
    encode,
)
from tests.broker.support import Peer, Served, Target

FEED_SETTINGS: dict[str, Any] = {
    # A resumed session that asks for nothing is answered without delay.
    "feed.hello_wait": 0.1,
    "feed.hello_interval": 0,
    # Low priority at QoS 0, normal at 1, high at 2, so that a test chooses what it gets.
    "feed.qos_by_priority": (0, 1, 2, 2),
}

Serve = Callable[..., Awaitable[Served]]
"""The fixture `serve`: settings by name, `__` for the dot."""

_numbers = itertools.count(1)


class External(Target):
    """A server that runs already: what these tests say can be held against any other."""

    def __init__(self, address: str) -> None:
        super().__init__()
        host, _, port = address.rpartition(":")
        self.address = host, int(port)


async def acknowledge(peer: Peer, publish: Publish) -> None:
    """Complete what a received message asks for."""
    if publish.qos == 1:
        peer.send(Puback(publish.packet_id))
    elif publish.qos == 2:
        peer.send(Pubrec(publish.packet_id))
        # Other messages may come in between.
        assert await peer._after_frames(Pubrel) == Pubrel(publish.packet_id)
        peer.send(Pubcomp(publish.packet_id))


async def send(peer: Peer, publish: Publish) -> None:
    """Publish, and complete what its QoS asks for."""
    peer.send(publish)
    if publish.qos == 1:
        assert await peer.expect(Puback) == Puback(publish.packet_id)
    elif publish.qos == 2:
        assert await peer.expect(Pubrec) == Pubrec(publish.packet_id)
        peer.send(Pubrel(publish.packet_id))
        assert await peer.expect(Pubcomp) == Pubcomp(publish.packet_id)


async def raw_packet(peer: Peer) -> bytes:
    """The bytes of the next packet, cut by its own length and not read by our codec."""
    reader = peer._reader
    head = await reader.readexactly(2)
    length, shift = head[1] & 0x7F, 7
    while head[-1] & 0x80:
        head += await reader.readexactly(1)
        length |= (head[-1] & 0x7F) << shift
        shift += 7
    return head + await reader.readexactly(length)


class Part(ABC):
    """One of the two parts: where to subscribe and publish, and how to know what was published.

    Names of clients and topics are new for each test, so that nothing is left of others even where
    the server is not.

    Args:
        server: Where to connect.

    Attributes:
        topic: What publishers publish on; every subscriber of this part hears of it.
        ahead: Messages that come while one before them stays unacknowledged.
    """

    topic: str
    ahead: int

    def __init__(self, server: Target) -> None:
        self.server = server
        self.number = next(_numbers)
        self._packet_id = 100

    # ---- What the parts differ in

    @abstractmethod
    def filter(self, name: str) -> str:
        """What the client of this name subscribes to."""

    @abstractmethod
    def payload(self, text: str, qos: int = 1) -> bytes:
        """What to publish, so that a subscriber who may have it at `qos` is sent `text` at `qos`."""

    @abstractmethod
    async def settle(self, peer: Peer) -> None:
        """Take what a new subscriber is sent at once."""

    # ---- Subscribers

    def name(self, name: str = "kitchen") -> str:
        """A client id that no other test has."""
        return f"{name}{self.number}"

    async def connect(self, name: str = "kitchen", *, clean: bool = True) -> tuple[Peer, Connack]:
        """Connect the client of this name."""
        peer = await self.server.peer()
        connack = await peer.greet(Connect(self.name(name), clean, keep_alive=60))
        assert connack.code == 0
        return peer, connack

    async def subscriber(self, name: str = "kitchen", *, qos: int = 1, clean: bool = True) -> Peer:
        """A client that has subscribed, and has taken what there was at that moment."""
        peer, _ = await self.connect(name, clean=clean)
        await self.subscribe(peer, name, qos=qos)
        return peer

    async def subscribe(self, peer: Peer, name: str = "kitchen", *, qos: int = 1) -> None:
        """Subscribe, and take what there is at that moment."""
        assert await peer.subscribe((self.filter(name), qos)) == (qos,)
        await self.settle(peer)

    async def receive(
        self, peer: Peer, text: str, *, ack: bool = True, qos: int | None = None
    ) -> Publish:
        """The next packet, which must be a message that brings `text`, at this QoS if one is given."""
        publish = await peer.expect(Publish)
        assert text.encode() in publish.payload, f"{publish} instead of {text!r}"
        assert qos in (None, publish.qos)
        if ack:
            await acknowledge(peer, publish)
        return publish

    async def expect_nothing(self, peer: Peer, unwanted: str = "unwanted", qos: int = 1) -> None:
        """Nothing has been sent so far: what is published now comes next, without `unwanted`."""
        await self.publish("fence", qos)
        fence = await self.receive(peer, "fence")
        assert unwanted.encode() not in fence.payload

    # ---- Publishers

    def message(self, text: str, qos: int = 1, **flags: bool) -> Publish:
        """A PUBLISH with a packet id of its own."""
        self._packet_id += 1
        packet_id = self._packet_id if qos else 0
        return Publish(self.topic, self.payload(text, qos), qos, packet_id, **flags)

    async def publish(self, text: str, qos: int = 1, **flags: bool) -> None:
        """A message from a client of its own, acknowledged at QoS 1 or 2 before this returns."""
        peer = await self.server.connect("")
        await send(peer, self.message(text, qos, **flags))
        await peer.leave()

    def will(self, text: str, qos: int = 1, *, retain: bool = False) -> Will:
        return Will(self.topic, self.payload(text, qos), qos, retain=retain)

    def hostile(self, fields: bytes, first: int) -> bytes:
        """A PUBLISH of this part with other bytes than the codec would write."""
        topic = self.topic.encode()
        body = len(topic).to_bytes(2, "big") + topic + fields
        assert len(body) < 128
        return bytes((first, len(body))) + body


class FeedPart(Part):
    """`items/`, `f/` and `u/`: items become frames for each device."""

    topic = "items/news"
    ahead = 3  # feed.max_inflight less one

    def filter(self, name: str) -> str:
        return f"f/{self.name(name)}"

    def payload(self, text: str, qos: int = 1) -> bytes:
        return json.dumps({"id": text, "payload": text, "priority": qos}).encode()

    async def subscribe(self, peer: Peer, name: str = "kitchen", *, qos: int = 1) -> None:
        hello = Hello(0, 0, HelloOptions(max_qos=2))  # first a device counts as one of QoS 1
        peer.send(Publish(f"u/{self.name(name)}", encode_up(hello)))
        await super().subscribe(peer, name, qos=qos)

    async def settle(self, peer: Peer) -> None:
        await acknowledge(peer, await peer.expect(Publish))  # the snapshot


class OtherPart(Part):
    """All other topics: messages go to who subscribed to them."""

    ahead = 50  # any number, as long as each is acknowledged

    def __init__(self, server: Target) -> None:
        super().__init__(server)
        self.topic = f"home{self.number}/hall"

    def filter(self, name: str) -> str:
        del name
        return self.topic

    def payload(self, text: str, qos: int = 1) -> bytes:
        del qos
        return text.encode()

    async def settle(self, peer: Peer) -> None:
        await peer.ping()

    def below(self, *levels: str) -> str:
        """A topic or filter below the root that is this test's alone."""
        return "/".join((f"home{self.number}", *levels))


def field(text: str | bytes) -> bytes:
    """A string with its length, which may be no string at all."""
    data = text.encode() if isinstance(text, str) else text
    return len(data).to_bytes(2, "big") + data


def packet(first: int, *fields: bytes) -> bytes:
    """A packet of at most 127 bytes after its fixed header, whatever is in it."""
    body = b"".join(fields)
    assert len(body) < 128
    return bytes((first, len(body))) + body


def connect_packet(
    client_id: bytes = b"\0\x07kitchen",
    *fields: bytes,
    name: bytes = b"\0\x04MQTT",
    level: int = 4,
    flags: int = 0x02,
) -> bytes:
    """A CONNECT, right or wrong."""
    head = name + bytes((level, flags)) + b"\0\x3c"
    return packet(0x10, head, client_id, *fields)


def encoded(*packets: Any) -> bytes:
    """Several packets in one piece."""
    return b"".join(each if isinstance(each, bytes) else encode(each) for each in packets)
