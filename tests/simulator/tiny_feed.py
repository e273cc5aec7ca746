"""A feed small enough to be read: newest first, everything by its book, faults on request."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from devices.frames import (
    Delta,
    Feedback,
    FeedItem,
    Hello,
    Move,
    Profile,
    Put,
    Remove,
    Snapshot,
    decode_up,
    encode_frame,
    payload_capacity,
)
from devices.packets import (
    Connack,
    Connect,
    Decoder,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    encode,
)
from devices.replica import apply_ops
from feedgen.channels import matches

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Held:
    """What the tiny feed knows of one device."""

    follow: list[str] = field(default_factory=lambda: ["#"])
    k: int = 8
    budget: int = 256
    epoch: int = 1
    seq: int = 1
    window: tuple[FeedItem, ...] = ()
    session: Session | None = None
    greeted: bool = False
    subscribed: bool = False
    connects: int = 0
    hellos: list[Hello] = field(default_factory=list)
    pubacks: int = 0
    pings: int = 0
    feedback: list[Feedback] = field(default_factory=list)


class TinyFeed:
    """An MQTT server with a feed.

    Attributes:
        refuse: CONNACK code for everyone, 0 = welcome.
        mute: Frames are counted as sent but do not leave.
        deaf: Items are neither taken nor acknowledged.
        devices: What it knows, by id.
    """

    def __init__(self) -> None:
        self.refuse = 0
        self.mute = False
        self.deaf = False
        self.devices: dict[str, Held] = {}
        self.items = 0
        self.sessions: set[Session] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> TinyFeed:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Session(self), "127.0.0.1", 0)
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for session in self.sessions:
            session.transport.abort()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def held(self, device: str) -> Held:
        return self.devices.setdefault(device, Held())

    async def window(self, devices: Sequence[str]) -> dict[str, list[tuple[int, str | bytes]]]:
        return {one: [(i.n, i.payload) for i in self.held(one).window] for one in devices}

    def publish(self, channel: str, payload: str, priority: int = 1, brief: str = "") -> None:
        self.items += 1
        for device, held in self.devices.items():
            fits = len(payload.encode()) <= payload_capacity(held.budget, device)
            item = FeedItem(self.items, 0, priority, payload if fits else brief)
            if any(matches(one, channel) for one in held.follow):
                self.change(device, Put(0, item))

    def change(self, device: str, *ops: Put | Remove | Move) -> None:
        """Changes a window and tells the device."""
        held = self.held(device)
        held.window = apply_ops(held.window, ops, held.k)
        held.seq += 1
        self.send(device, Delta(held.epoch, held.seq, ops))

    def answer(self, device: str) -> None:
        """Brings a device that has said hello and subscribed up to date."""
        held = self.held(device)
        position = (held.hellos[-1].epoch, held.hellos[-1].seq) if held.hellos else (0, 0)
        if held.greeted and held.subscribed and position != (held.epoch, held.seq):
            self.send(device, Snapshot(held.epoch, held.seq, held.k, held.window))

    def send(self, device: str, frame: Snapshot | Delta, topic: str | None = None) -> None:
        held = self.held(device)
        if held.session is not None and not self.mute:
            packet = Publish(topic or f"f/{device}", encode_frame(frame), 1, held.seq % 65_535 + 1)
            held.session.transport.write(encode(packet))

    def kick(self, device: str) -> None:
        session = self.held(device).session
        assert session is not None
        session.transport.abort()


class Session(asyncio.Protocol):
    def __init__(self, feed: TinyFeed) -> None:
        self.feed = feed
        self.decoder = Decoder(role="server", max_packet=1 << 20)
        self.held = Held()
        self.device = ""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.feed.sessions.add(self)

    def data_received(self, data: bytes) -> None:
        for packet, _raw in self.decoder.feed(data):
            self.take(packet)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.feed.sessions.discard(self)
        if self.held.session is self:
            self.held.session = None

    def take(self, packet: object) -> None:
        match packet:
            case Connect(client_id):
                self.transport.write(encode(Connack(False, self.feed.refuse)))
                self.device = client_id
                publisher = client_id.endswith("publisher")
                self.held = Held() if publisher else self.feed.held(client_id)
                self.held.session = self
                self.held.greeted = self.held.subscribed = False
                self.held.connects += 1
            case Subscribe(packet_id, filters):
                self.transport.write(encode(Suback(packet_id, tuple(qos for _, qos in filters))))
                self.held.subscribed = True
                self.feed.answer(self.device)
            case Publish(topic, payload, _qos, packet_id):
                if topic.startswith("items/"):
                    if self.feed.deaf:
                        return
                    item = json.loads(payload)
                    brief = item.get("brief", "")
                    self.feed.publish(topic[6:], item["payload"], item.get("priority", 1), brief)
                else:
                    assert topic == f"u/{self.device}"
                    self.up(payload)
                self.transport.write(encode(Puback(packet_id)))
            case Puback():
                self.held.pubacks += 1
            case Pingreq():
                self.held.pings += 1
                self.transport.write(encode(Pingresp()))
            case _:
                self.transport.close()

    def up(self, payload: bytes) -> None:
        held = self.held
        match decode_up(payload):
            case Hello() as hello:
                held.hellos.append(hello)
                held.greeted = True
                assert hello.options is not None
                held.k = hello.options.k or 8
                held.budget = hello.options.budget or 256
                self.feed.answer(self.device)
            case Profile(follow, unfollow):
                held.follow = [one for one in held.follow if one not in unfollow] + [*follow]
            case Feedback() as feedback:
                held.feedback.append(feedback)
            case _:
                pass
