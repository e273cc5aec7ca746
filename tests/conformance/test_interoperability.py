"""The eleven scenarios that MQTT brokers are usually compared by, with another client than ours.

They are those of Eclipse Paho's interoperability suite, told anew, and on other topics than the feed's:
what any client of any vendor expects. Where a client must do what a library never does (send CONNECT
twice, fall silent, keep PUBACK back), ours does it.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import pytest
from paho.mqtt.client import Client as Paho
from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from devices.packets import Connack, Connect, Publish, Will
from tests.broker.support import PATIENCE, Target
from tests.conformance.support import OtherPart, Serve, acknowledge, connect_packet, field


class Client:
    """A client of Eclipse Paho's Python library, which runs in a thread of its own."""

    def __init__(self, name: str, *, clean: bool = True) -> None:
        self._paho = Paho(CallbackAPIVersion.VERSION2, name, clean_session=clean)
        self._events: dict[str, queue.Queue[Any]] = {
            kind: queue.Queue() for kind in ("connack", "suback", "unsuback", "ended")
        }
        self._messages: queue.Queue[MQTTMessage] = queue.Queue()
        events = self._events
        self._paho.on_connect = lambda _c, _u, flags, code, _p: events["connack"].put((flags, code))
        self._paho.on_subscribe = lambda _c, _u, _m, codes, _p: events["suback"].put(codes)
        self._paho.on_unsubscribe = lambda _c, _u, _m, _r, _p: events["unsuback"].put(None)
        self._paho.on_disconnect = lambda *_: events["ended"].put(None)
        self._paho.on_message = lambda _c, _u, message: self._messages.put(message)

    async def connect(self, target: Target, *, will: Will | None = None) -> bool:
        """Connect; whether a session was present."""
        if will is not None:
            self._paho.will_set(will.topic, will.payload, will.qos, will.retain)
        host, port = target.address
        await asyncio.to_thread(self._paho.connect, host, port)
        self._paho.loop_start()
        flags, code = await self._event("connack")
        assert code == 0
        return bool(flags.session_present)

    async def _event(self, kind: str) -> Any:
        return await asyncio.to_thread(self._events[kind].get, timeout=PATIENCE)

    async def subscribe(self, *filters: tuple[str, int]) -> list[int]:
        self._paho.subscribe(list(filters))
        return [code.value for code in await self._event("suback")]

    async def unsubscribe(self, name: str) -> None:
        self._paho.unsubscribe(name)
        await self._event("unsuback")

    async def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        """Publish, and wait until that is complete at its QoS."""
        info = self._paho.publish(topic, payload, qos, retain)
        await asyncio.to_thread(info.wait_for_publish, PATIENCE)

    async def message(self) -> tuple[str, bytes, int, bool]:
        """The next message: topic, payload, QoS, RETAIN."""
        message = await asyncio.to_thread(self._messages.get, timeout=PATIENCE)
        return message.topic, bytes(message.payload), message.qos, bool(message.retain)

    async def leave(self) -> None:
        if self._paho.disconnect() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            await self._event("ended")
        await asyncio.to_thread(self._paho.loop_stop)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()


Join = Callable[..., Any]


@pytest.fixture
async def join(others: OtherPart) -> AsyncIterator[Join]:
    """Connect a client of Paho's under a name of this test; whether its session was present too."""
    async with AsyncExitStack() as stack:

        async def connect(name: str, *, clean: bool = True) -> tuple[Client, bool]:
            client = await stack.enter_async_context(Client(others.name(name), clean=clean))
            return client, await client.connect(others.server)

        yield connect


async def test_basic_messages_at_every_qos_come_back(others: OtherPart, join: Join) -> None:
    client, present = await join("first")
    assert not present
    assert await client.subscribe((others.topic, 2)) == [2]
    for qos in range(3):
        await client.publish(others.topic, b"qos %d" % qos, qos)
        assert await client.message() == (others.topic, b"qos %d" % qos, qos, False)


async def test_basic_a_second_connect_and_a_wrong_protocol_name_are_not_served(
    others: OtherPart,
) -> None:
    peer = await others.server.connect(others.name())
    peer.send(Connect(others.name()))
    await peer.expect_closed()
    peer = await others.server.peer()
    peer.send(connect_packet(name=field("hj")))
    await peer.expect_closed()


async def test_retained_messages_come_to_a_later_subscriber_until_they_are_cleared(
    others: OtherPart, join: Join
) -> None:
    client, _ = await join("first")
    topics = [others.below(name) for name in ("a", "b", "c")]
    for qos, topic in enumerate(topics):
        await client.publish(topic, b"qos %d" % qos, qos, retain=True)
    await client.subscribe((others.below("+"), 2))
    found = sorted([await client.message() for _ in topics])
    assert found == [(topic, b"qos %d" % qos, qos, True) for qos, topic in enumerate(topics)]
    for qos, topic in enumerate(topics):
        await client.publish(topic, b"", qos, retain=True)
    later, _ = await join("later")
    await later.subscribe((others.below("+"), 2))
    await client.publish(others.topic, b"nothing before", 1)
    assert (await later.message())[1] == b"nothing before"


async def test_a_will_message_comes_when_its_client_is_cut_off(
    others: OtherPart, join: Join
) -> None:
    client, _ = await join("watcher", clean=False)
    await client.subscribe((others.topic, 2))
    will = Will(others.topic, b"client not disconnected", 2)
    leaver = await others.server.connect(others.name("leaver"), keep_alive=2, will=will)
    await leaver.drop()
    assert await client.message() == (others.topic, b"client not disconnected", 2, False)


async def test_a_zero_length_client_id_needs_a_clean_session(others: OtherPart) -> None:
    peer = await others.server.peer()
    assert await peer.greet(Connect("", clean_session=False)) == Connack(False, 2)
    await peer.expect_closed()
    async with Client("") as client:
        assert not await client.connect(others.server)


async def test_offline_messages_of_qos_1_and_2_are_queued(others: OtherPart, join: Join) -> None:
    client, _ = await join("sleeper", clean=False)
    await client.subscribe((others.below("+"), 2))
    await client.leave()
    publisher, _ = await join("publisher")
    for qos in range(3):
        await publisher.publish(others.below(str(qos)), b"qos %d" % qos, qos)
    again, present = await join("sleeper", clean=False)
    assert present
    found = [await again.message(), await again.message()]
    if (others.below("0"), b"qos 0", 0, False) in found:  # permitted; we do not
        found = [found[1], await again.message()]
    assert found == [(others.below(str(qos)), b"qos %d" % qos, qos, False) for qos in (1, 2)]


async def test_overlapping_subscriptions_bring_the_highest_qos(
    others: OtherPart, join: Join
) -> None:
    client, _ = await join("first")
    await client.subscribe((others.below("#"), 2), (others.below("+"), 1))
    await client.publish(others.topic, b"overlapping", 2)
    await client.publish(others.topic, b"fence", 0)
    levels = []
    while (message := await client.message())[1] == b"overlapping":
        levels.append(message[2])
    assert levels in ([2], [1, 2], [2, 1])


async def test_keepalive_ends_a_silent_client_and_publishes_its_will(
    others: OtherPart, join: Join
) -> None:
    client, _ = await join("watcher")
    await client.subscribe((others.topic, 2))
    will = Will(others.topic, b"keepalive expiry", 2)
    silent = await others.server.connect(others.name("silent"), keep_alive=1, will=will)
    await silent.expect_closed()
    assert await client.message() == (others.topic, b"keepalive expiry", 2, False)


async def test_redelivery_on_reconnect_brings_what_was_not_acknowledged(
    others: OtherPart, join: Join
) -> None:
    silent = await others.subscriber(qos=2, clean=False)
    publisher, _ = await join("publisher")
    for qos in (1, 2):
        await publisher.publish(others.topic, b"qos %d" % qos, qos)
        await others.receive(silent, f"qos {qos}", ack=False, qos=qos)
    await silent.leave()
    again, connack = await others.connect(clean=False)
    assert connack.session_present
    for _ in range(2):
        publish = await again.expect(Publish)
        assert publish.dup
        await acknowledge(again, publish)
    await again.leave()
    _, present = await join("kitchen", clean=False)
    assert present


async def test_subscribe_failure_is_reported(serve: Serve) -> None:
    served = await serve(topics__refused=("test/nosubscribe",))
    async with Client("first") as client:
        await client.connect(served)
        assert await client.subscribe(("test/nosubscribe", 2), ("test/other", 2)) == [0x80, 2]


async def test_dollar_topics_are_matched_by_no_wildcard_at_the_front(
    others: OtherPart, join: Join
) -> None:
    client, _ = await join("first")
    await client.subscribe((f"+/{others.number}", 2))
    await client.publish(f"$hidden/{others.number}", b"hidden", 1)
    await client.publish(f"shown/{others.number}", b"shown", 1)
    assert (await client.message())[1] == b"shown"


async def test_unsubscribe_ends_one_subscription_of_several(others: OtherPart, join: Join) -> None:
    client, _ = await join("first")
    topics = [others.below(name) for name in ("a", "b", "c")]
    for topic in topics:
        await client.subscribe((topic, 2))
    await client.unsubscribe(topics[0])
    publisher, _ = await join("publisher")
    for topic in topics:
        await publisher.publish(topic, b"", 1)
    assert [(await client.message())[0] for _ in range(2)] == topics[1:]
