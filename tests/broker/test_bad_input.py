"""Whatever bytes a client sends: its connection ends for a counted reason, and nobody else notices."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

import pytest

from devices.frames import Hello
from devices.packets import (
    Connack,
    Connect,
    PacketError,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    encode,
)
from tests.broker.support import Served, eventually, item
from tests.mqtt_cases import MALFORMED, Malformed

Serve = Callable[..., Awaitable[Served]]

SERVER_CASES = [case for case in MALFORMED if case.role == "server"]


async def assert_serves_others(served: Served) -> None:
    device = await served.subscribed("witness")
    await served.publish(item("witness", "all is well"))
    while "all is well" not in device.shown:
        await device.frame()


@pytest.mark.parametrize("case", SERVER_CASES, ids=lambda case: case.name)
async def test_a_malformed_packet_closes_the_connection_and_is_counted(
    served: Served, case: Malformed
) -> None:
    peer = await served.peer()
    if not case.opening:
        await peer.greet(Connect("kitchen"))
    peer.send(case.data)
    if case.reason is PacketError.BAD_PROTOCOL_LEVEL:
        assert await peer.expect(Connack) == Connack(False, 1)
    await peer.expect_closed()
    closed = served.server.counters.closed
    assert closed == {f"malformed_{case.reason.value}": 1}
    await assert_serves_others(served)


@pytest.mark.parametrize(
    "case", [case for case in SERVER_CASES if not case.opening], ids=lambda case: case.name
)
async def test_a_subscribed_device_has_no_privilege_to_be_malformed(
    served: Served, case: Malformed
) -> None:
    """Acknowledgements of subscribed devices take a way of their own."""
    device = await served.subscribed("kitchen")
    device.peer.send(case.data)
    await device.peer.expect_closed()
    assert served.server.counters.closed == {f"malformed_{case.reason.value}": 1}


async def test_what_came_before_a_malformed_packet_still_counts(served: Served) -> None:
    peer = await served.connect("publisher")
    peer.send(Publish("items/news", b"before", 1, 1), b"\xf0\x00")
    await peer.expect_end()
    await served.counted("items", "new")


async def test_a_packet_above_the_limit_is_refused_by_its_header(serve: Serve) -> None:
    served = await serve(limits__max_packet=2304)
    peer = await served.connect("publisher")
    peer.send(b"\x30\x80\x20")  # 4096 bytes announced, none sent
    await peer.expect_closed()
    assert served.count("closed", "malformed_too_large") == 1


async def test_random_bytes_never_raise(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(20260101)
    stream = encode(Connect("kitchen")) + encode(Subscribe(1, (("f/kitchen", 1),)))
    with caplog.at_level(logging.WARNING):
        for _ in range(150):
            peer = await served.peer()
            head = stream if rng.random() < 0.7 else b""
            peer.send(head + rng.randbytes(rng.choice((1, 4, 40, 400))))
            await peer.drop()
        await eventually(lambda: served.server.lane.connections == 0)
        await assert_serves_others(served)
    assert not caplog.records


async def test_mutated_packets_never_raise(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(20260102)
    whole = b"".join(
        encode(packet)
        for packet in (
            Connect("kitchen", keep_alive=60, clean_session=False),
            Subscribe(1, (("f/kitchen", 1), ("x", 0))),
            Publish("u/kitchen", b"\x94\x00\x01\x02\x82\x01\x10\x02\xcd\x01\x00", 1, 2),
            Publish("items/news", b'{"id": "a", "payload": "x"}', 2, 3),
            Publish("u/kitchen", b"\x92\x03\x82\xa6follow\x91\xa1a\xa5attrs\x81\xa1x\x01", 1, 4),
            Publish("u/kitchen", b"\x92\x02\x91\x92\x01\x02", 0),
        )
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(200):
            mutated = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                mutated[rng.randrange(len(mutated))] = rng.randrange(256)
            peer = await served.peer()
            peer.send(bytes(mutated))
            await peer.drop()
        await eventually(lambda: served.server.lane.connections == 0)
        await served.at_rest()
        await assert_serves_others(served)
    # A device that goes at every frame is set apart with a warning; nothing here is an error.
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


async def test_acknowledgements_of_nothing_change_nothing(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "one"))
    await device.shows("one")
    for first in (0x40, 0x50, 0x62, 0x70):
        for packet_id in (1, 2, 3, 1000, 65_535):
            device.peer.send(bytes((first, 2)) + packet_id.to_bytes(2, "big"))
    device.peer.send(Pingreq())
    await device.peer._after_frames(Pingresp)
    await served.publish(item("b", "two"))
    while device.shown != ["two", "one"]:
        packet = await device.peer.read()
        if isinstance(packet, Publish):
            assert device.replica.receive(packet.payload) == "applied"


@pytest.mark.logs_errors  # goes with the mark below
async def test_a_device_that_claims_the_last_epoch_harms_nobody_else(served: Served) -> None:
    """Their profiles are saved together, the liar's first."""
    liar = await served.device("liar")
    bystander = await served.device("bystander")
    liar.say(Hello(0xFFFF_FFFF, 1))
    liar.peer.send(Subscribe(1, (("f/liar", 1),)))
    bystander.peer.send(Subscribe(1, (("f/bystander", 1),)))
    service = served.server.service
    await eventually(lambda: len(service.roster) == 2)
    await eventually(lambda: not service.roster._lives["bystander"].saving, within=2)
    assert service.roster._lives["liar"].profile.epoch < 1 << 32
