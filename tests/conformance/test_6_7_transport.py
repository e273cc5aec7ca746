"""MQTT 3.1.1, chapters 6 and 7: what carries the packets, and whom one can speak with."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE

import pytest

from devices.packets import Connack, Connect, Pingreq, Puback, Suback, Subscribe
from tests.broker.support import Peer, Target
from tests.conformance.support import FeedPart, OtherPart, Part, encoded
from tests.conftest import Mosquitto

UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


async def test_mqtt_6_0_0_4_a_websocket_handshake_is_closed(server: Target) -> None:
    peer = await server.peer()
    peer.send(UPGRADE)
    await peer.expect_closed()


# ---- 7.0.0 Other implementations


async def run(program: object, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(str(program), *options, stdout=PIPE)


def reach(target: Target, topic: str) -> tuple[str, ...]:
    host, port = target.address
    return ("-h", host, "-p", str(port), "-V", "mqttv311", "-t", topic)


@pytest.mark.mosquitto
@pytest.mark.parametrize("qos", ["0", "1", "2"])
async def test_mqtt_7_0_0_2_the_clients_of_mosquitto_speak_with_each_other(
    others: OtherPart, mosquitto: Mosquitto, qos: str
) -> None:
    where = reach(others.server, others.topic)
    kept = ("-c", "-i", others.name(), "-q", qos)
    await (await run(mosquitto.sub, *where, *kept, "-E")).wait()  # subscribes, and leaves
    subscriber = await run(mosquitto.sub, *where, *kept, "-C", "1", "-W", "10")
    while True:  # at QoS 0 it hears only what is said while it is there
        publisher = await run(mosquitto.pub, *where, "-q", qos, "-m", "hello")
        assert await publisher.wait() == 0
        try:
            async with asyncio.timeout(0.2):
                await subscriber.wait()
                break
        except TimeoutError:
            continue
    heard, _ = await subscriber.communicate()
    assert heard == b"hello\n"
    assert subscriber.returncode == 0


@pytest.mark.mosquitto
async def test_mqtt_7_0_0_2_the_clients_of_mosquitto_have_a_feed(
    feed: FeedPart, mosquitto: Mosquitto
) -> None:
    item = json.dumps({"id": "a", "payload": "hello"})
    publisher = await run(mosquitto.pub, *reach(feed.server, "items/news"), "-q", "1", "-m", item)
    assert await publisher.wait() == 0
    own = reach(feed.server, feed.filter("kitchen"))
    subscriber = await run(mosquitto.sub, *own, "-i", feed.name(), "-C", "1", "-W", "10")
    heard, _ = await subscriber.communicate()
    assert b"hello" in heard
    assert subscriber.returncode == 0


# ---- 7.1 Transport


async def test_mqtt_7_1_1_1_packets_may_come_in_any_pieces(part: Part) -> None:
    peer = await part.server.peer()
    message = part.message("in pieces")
    stream = encoded(Connect(part.name()), Subscribe(1, (("$x", 0),)), message, Pingreq())
    for at in range(len(stream)):
        peer.send(stream[at : at + 1])
        await asyncio.sleep(0)  # so that most bytes are sent alone
    await expect_answers(peer, message.packet_id)


async def test_mqtt_7_1_1_1_packets_may_come_in_one_piece(part: Part) -> None:
    peer = await part.server.peer()
    message = part.message("in one piece")
    peer.send(encoded(Connect(part.name()), Subscribe(1, (("$x", 0),)), message, Pingreq()))
    await expect_answers(peer, message.packet_id)


async def expect_answers(peer: Peer, packet_id: int) -> None:
    assert await peer.expect(Connack) == Connack(False, 0)
    assert (await peer.expect(Suback)).packet_id == 1
    found = [await peer.read(), await peer.read()]  # PUBACK may wait for the disk
    assert Puback(packet_id) in found
