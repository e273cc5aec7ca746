"""The clients of the fault suite, against a server that a test plays."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import msgpack
import pytest_asyncio

from devices.frames import FeedItem, Hello, Profile, Snapshot, decode_up, encode_frame
from devices.packets import (
    DISCONNECT,
    Connack,
    Connect,
    Decoder,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    encode,
)
from simulator.checker import Checker
from simulator.facts import Content, Key, ServerClock
from simulator.faults.devices import FaultyDevice
from simulator.faults.firmware import Firmware, Habits, Tally
from simulator.faults.link import Link
from simulator.faults.publishers import CHANNELS, FaultyPublisher, Item, Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.simulator.conftest import Until


class Script:
    """A server that does what the test says, and nothing else but accept connections."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.present = False
        self.code = 0
        self.greets = True
        self.writer: asyncio.StreamWriter
        self.clients: list[Callable[[], None]] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def start(self) -> tuple[str, int]:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def stop(self) -> None:
        """End what the test's clients left open, and be gone."""
        for close in self.clients:
            close()
        self._server.close()
        await self._server.wait_closed()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        decoder = Decoder(role="server", max_packet=1 << 20)
        self.writer = writer
        try:
            while data := await reader.read(65_536):
                for packet, _ in decoder.feed(data):
                    if isinstance(packet, Connect) and self.greets:
                        self.say(Connack(self.present, self.code))
                    self.packets.append(packet)
        except ConnectionError:
            pass
        writer.close()

    def say(self, *packets: Packet) -> None:
        self.writer.write(b"".join(encode(packet) for packet in packets))

    def got(self, kind: type[Packet]) -> list[Packet]:
        return [packet for packet in self.packets if isinstance(packet, kind)]

    def published(self) -> list[tuple[int, int, bool]]:
        """Packet id, QoS and DUP of what was published."""
        return [
            (one.packet_id, one.qos, one.dup) for one in self.packets if isinstance(one, Publish)
        ]


@pytest_asyncio.fixture
async def script() -> AsyncIterator[Script]:
    server = Script()
    yield server
    await server.stop()


def item(text: str) -> Item:
    return Item(Content(Key("a", text), text))


async def publisher(script: Script, checker: Checker | None = None) -> FaultyPublisher:
    address = await script.start()
    made = FaultyPublisher("pub", Random(1), checker or Checker(ServerClock()), lambda: address)
    script.clients.append(made.drop)
    assert await made.connect()
    return made


async def device(script: Script, **firmware: object) -> FaultyDevice:
    address = await script.start()
    made = FaultyDevice(
        "kitchen", Firmware(**firmware), Random(3), Checker(ServerClock()), Tally(), lambda: address,
        asyncio.ensure_future, hello_wait=0.1,
    )  # type: ignore[arg-type] # fmt: skip
    made.habits = Habits(takeover=0.0, forget=0.0)
    script.clients.append(made.close)
    return made


# Publishers


async def test_a_publisher_sends_again_in_order_what_was_not_acknowledged(
    script: Script, until: Until
) -> None:
    sender = await publisher(script)
    for place, qos in enumerate((1, 2, 2, 0, 1)):
        assert sender.publish(item(f"item {place}"), qos=qos)
    await until(lambda: len(script.got(Publish)) == 5)
    script.say(Puback(1), Pubrec(2))
    await until(lambda: script.got(Pubrel) == [Pubrel(2)])
    assert (sender.in_flight, sender.acknowledged) == (3, 2)
    script.packets.clear()
    assert await sender.connect()
    await until(lambda: len(script.packets) == 4)
    assert script.packets[1] == Pubrel(2)
    assert script.published() == [(3, 2, True), (4, 1, True)]
    script.say(Pubcomp(2), Puback(4), Pubrec(3))
    await until(lambda: sender.in_flight == 1)
    script.say(Pubcomp(3))
    await until(lambda: sender.in_flight == 0)
    assert (sender.acknowledged, sender.repeated) == (4, 3)


async def test_an_acknowledgement_makes_an_item_certain(script: Script, until: Until) -> None:
    checker = Checker(ServerClock())
    sender = await publisher(script, checker)
    sender.publish(item("one"), qos=1)
    sender.publish(item("two"), qos=2)
    assert checker.current(2e9, margin=-1e9) == []
    script.say(Puback(1), Pubrec(2))
    await until(lambda: sender.acknowledged == 2)
    assert [one.payload for one in checker.current(2e9, margin=-1e9)] == ["one", "two"]


async def test_a_publisher_that_dies_forgets_what_was_on_its_way(script: Script) -> None:
    sender = await publisher(script)
    sender.publish(item("x"), qos=1)
    sender.die()
    assert (sender.in_flight, sender.connected, sender.ready) == (0, False, False)
    assert not sender.publish(item("y"), qos=1)


async def test_a_repetition_waits_for_its_acknowledgement_and_is_no_news(
    script: Script, until: Until
) -> None:
    sender = await publisher(script)
    sender.repeat(item("x").content)
    await until(lambda: len(script.got(Publish)) == 1)
    assert sender.in_flight == 1
    script.say(Puback(1))
    await until(lambda: sender.in_flight == 0)
    assert sender.acknowledged == 0


async def test_a_cut_item_never_arrives(script: Script, until: Until) -> None:
    sender = await publisher(script)
    sender.lose_inside_a_packet(item("x"))
    assert not sender.connected
    assert await sender.connect()
    await until(lambda: len(script.got(Connect)) == 2)
    assert script.got(Publish) == []


def test_a_source_keeps_a_bounded_number_of_items_alive_and_never_repeats_a_text() -> None:
    source = Source("s", Random(5))
    alive: set[Key] = set()
    texts: Counter[str] = Counter()
    wire: Counter[bytes] = Counter()
    for _ in range(3_000):
        made = source._next()
        content = made.content
        assert content.key.channel in CHANNELS
        (alive.discard if content.retract else alive.add)(content.key)
        texts.update({content.payload, content.brief or ""} - {""})
        wire[made.encode(packed=True)] += 1
        assert len(alive) <= 36
    assert set(texts.values()) == {1}
    # A retraction that is repeated must not look like the one before (it would be a redelivery).
    assert set(wire.values()) == {1}


def test_json_and_msgpack_say_the_same() -> None:
    source = Source("s", Random(6))
    for _ in range(300):
        made = source._next()
        assert json.loads(made.encode(packed=False)) == msgpack.unpackb(made.encode(packed=True))


# Devices


async def test_a_device_greets_applies_and_acknowledges(script: Script, until: Until) -> None:
    kitchen = await device(script, persistent=False)
    assert await kitchen.connect()
    await until(lambda: script.got(Subscribe))
    (subscribe,) = script.got(Subscribe)
    assert isinstance(subscribe, Subscribe)
    assert subscribe.filters == (("f/kitchen", 1),)
    assert kitchen.needs_connection  # until the server has said yes
    frame = encode_frame(Snapshot(1, 1, 8, (FeedItem(1, 0, 1, "soup"),)))
    script.say(Suback(subscribe.packet_id, (1,)), Publish("f/kitchen", frame, 1, 9))
    await until(lambda: script.got(Puback))
    assert script.got(Puback) == [Puback(9)]
    assert kitchen.shown == ((1, "soup"),)
    assert not kitchen.needs_connection


async def test_a_device_that_withholds_an_acknowledgement_must_connect_anew(
    script: Script, until: Until
) -> None:
    kitchen = await device(script, persistent=False)
    kitchen.habits.withhold = 1.0
    assert await kitchen.connect()
    await until(lambda: script.got(Subscribe))
    frame = encode_frame(Snapshot(1, 1, 8, (FeedItem(1, 0, 1, "soup"),)))
    script.say(Publish("f/kitchen", frame, 1, 9))
    await until(lambda: kitchen.shown)
    assert kitchen.withheld
    assert kitchen.needs_connection
    assert script.got(Puback) == []


async def test_a_qos_2_frame_that_comes_again_is_applied_once(script: Script, until: Until) -> None:
    kitchen = await device(script, persistent=False, qos=2, max_qos=2)
    arrived: list[int] = []
    kitchen.on_item = lambda one: arrived.append(one.n)
    assert await kitchen.connect()
    await until(lambda: script.got(Subscribe))
    frame = encode_frame(Snapshot(1, 1, 8, (FeedItem(1, 0, 1, "soup"),)))
    for dup in (False, True):
        script.say(Publish("f/kitchen", frame, 2, 9, dup=dup))
    await until(lambda: len(script.got(Pubrec)) == 2)
    script.say(Pubrel(9))
    await until(lambda: script.got(Pubcomp))
    assert arrived == [1]


async def test_a_gap_is_answered_with_one_hello(script: Script, until: Until) -> None:
    kitchen = await device(script, persistent=False)
    assert await kitchen.connect()
    await until(lambda: script.got(Subscribe))
    script.packets.clear()
    for seq in (7, 8, 9):
        script.say(Publish("f/kitchen", b"\x94\x01\x01" + bytes([seq]) + b"\x90"))
    await until(lambda: len(script.got(Publish)) == 1)
    (hello,) = script.got(Publish)
    assert isinstance(hello, Publish)
    assert isinstance(decode_up(hello.payload), Hello)
    script.say(Publish("f/kitchen", encode_frame(Snapshot(1, 9, 8, ()))))
    await until(lambda: kitchen.settled_after(0.0) > 0)
    assert len(script.got(Publish)) == 1


async def test_a_taken_over_connection_stays_open_and_is_heard_no_more(
    script: Script, until: Until
) -> None:
    kitchen = await device(script, persistent=False)
    kitchen.habits.takeover = 1.0
    assert await kitchen.connect()
    old = script.writer
    assert await kitchen.connect()
    old.write(encode(Publish("f/kitchen", encode_frame(Snapshot(1, 1, 8, ())), 1, 9)))
    await until(lambda: kitchen._tally.frames == 1)
    assert not old.is_closing()
    assert kitchen.settled_after(0.0) == 0.0
    assert script.got(Puback) == []


async def test_a_profile_is_said_as_a_whole(script: Script, until: Until) -> None:
    kitchen = await device(script, persistent=False)
    assert await kitchen.connect()
    script.packets.clear()
    kitchen.say_profile(("a",), {"region": "n"})
    await until(lambda: script.got(Publish))
    said = [decode_up(one.payload) for one in script.packets if isinstance(one, Publish)]
    (profile,) = (one for one in said if isinstance(one, Profile))
    assert profile.follow == ("a",)
    assert "#" in profile.unfollow
    assert "a" not in profile.unfollow


# Links


class Ear:
    def __init__(self) -> None:
        self.lost_for: list[str | None] = []

    def received(self, link: Link, packet: Packet, size: int) -> None:
        """Nothing of interest."""

    def lost(self, link: Link, malformed: str | None) -> None:
        assert not link.alive
        self.lost_for.append(malformed)


async def test_a_connection_that_is_refused_is_closed(script: Script, until: Until) -> None:
    address = await script.start()
    script.code, ear = 5, Ear()
    link = Link(ear)
    assert not await link.open(address, Connect("x"))
    await until(lambda: ear.lost_for == [None])
    assert not link.alive


async def test_nobody_there_is_no_connection() -> None:
    assert not await Link(Ear()).open(("127.0.0.1", 9), Connect("x"))


async def test_a_server_that_breaks_mqtt_is_reported(script: Script, until: Until) -> None:
    address = await script.start()
    ear = Ear()
    link = Link(ear)
    assert await link.open(address, Connect("x"))
    script.writer.write(DISCONNECT)  # which a server never sends
    await until(lambda: len(ear.lost_for) == 1)
    assert ear.lost_for[0] is not None


async def test_who_gives_up_waiting_leaves_no_connection_behind(
    script: Script, until: Until
) -> None:
    address = await script.start()
    script.greets, ear = False, Ear()
    link = Link(ear)
    opening = asyncio.ensure_future(link.open(address, Connect("x")))
    await until(lambda: script.got(Connect))
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await until(lambda: ear.lost_for == [None])


async def test_what_is_not_read_waits(script: Script, until: Until) -> None:
    kitchen = await device(script, persistent=False)
    assert await kitchen.connect()
    await until(lambda: script.got(Subscribe))
    kitchen.stop_reading()
    script.say(Publish("f/kitchen", encode_frame(Snapshot(1, 1, 8, ()))))
    await script.writer.drain()
    kitchen.say_hello()
    seen = len(script.packets)
    await until(lambda: len(script.packets) > seen)  # it still speaks
    assert kitchen._tally.frames == 0
    kitchen.read_on()
    await until(lambda: kitchen._tally.frames == 1)
