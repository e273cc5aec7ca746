"""MQTT 3.1.1, sections 3.1.4 and 3.2: the answer to CONNECT."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devices.packets import (
    Connack,
    Connect,
    PacketError,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
)
from tests.broker.support import Target
from tests.conformance.support import (
    Part,
    Serve,
    connect_packet,
    encoded,
    field,
    raw_packet,
)
from tests.mqtt_cases import MALFORMED, Malformed

# ---- 3.1.4 Response

OPENINGS = [
    case for case in MALFORMED if case.opening and case.reason is not PacketError.BAD_PROTOCOL_LEVEL
]


@pytest.mark.parametrize("case", OPENINGS, ids=lambda case: case.name)
async def test_mqtt_3_1_4_1_a_connect_that_breaks_a_rule_is_closed_without_connack(
    server: Target, case: Malformed
) -> None:
    peer = await server.peer()
    peer.send(case.data)
    await peer.expect_closed()


@pytest.mark.parametrize("clean", [False, True], ids=["kept", "clean"])
async def test_mqtt_3_1_4_2_a_new_connection_of_a_client_ends_the_old_one(
    part: Part, clean: bool
) -> None:
    old = await part.subscriber(clean=clean)
    new = await part.subscriber(clean=clean)
    await old.expect_closed()
    await part.publish("for the new one")
    await part.receive(new, "for the new one")


async def test_mqtt_3_1_4_3_a_clean_takeover_begins_with_nothing(part: Part) -> None:
    old = await part.subscriber(clean=False)
    new, connack = await part.connect(clean=True)
    assert not connack.session_present
    await old.expect_closed()
    await part.publish("unheard, as nothing is subscribed")
    await new.ping()


async def test_mqtt_3_1_4_3_a_takeover_that_keeps_the_session_goes_on_with_it(part: Part) -> None:
    old = await part.subscriber(clean=False)
    await part.publish("unacknowledged")
    first = await part.receive(old, "unacknowledged", ack=False)
    new, connack = await part.connect(clean=False)
    assert connack.session_present
    assert await part.receive(new, "unacknowledged") == replace(first, dup=True)


@pytest.mark.parametrize("clean", [False, True], ids=["kept", "clean"])
async def test_mqtt_3_1_4_4_a_connect_in_order_is_accepted(server: Target, clean: bool) -> None:
    peer = await server.peer()
    assert (await peer.greet(Connect("in-order", clean))).code == 0


async def test_mqtt_3_1_4_5_what_follows_a_refused_connect_is_not_processed(part: Part) -> None:
    peer = await part.subscriber()
    refused = await part.server.peer()
    refused.send(
        encoded(
            Connect("", clean_session=False),
            Subscribe(1, ((part.filter("kitchen"), 1),)),
            part.message("unwanted"),
        )
    )
    assert await refused.expect(Connack) == Connack(False, 2)
    await refused.expect_closed()
    await part.expect_nothing(peer)


# ---- 3.2 CONNACK


async def test_mqtt_3_2_0_1_the_first_packet_of_the_server_is_connack(part: Part) -> None:
    peer = await part.subscriber(clean=False)
    await part.publish("unacknowledged")
    await part.receive(peer, "unacknowledged", ack=False)
    await peer.drop()
    again = await part.server.peer()
    again.send(Connect(part.name(), clean_session=False), Subscribe(1, (("$x", 0),)), Pingreq())
    assert await again.expect(Connack) == Connack(True, 0)
    kinds = {type(await again.read()) for _ in range(3)}
    assert kinds == {Publish, Suback, Pingresp}


async def test_mqtt_3_2_2_1_a_clean_session_is_not_present(part: Part) -> None:
    peer = await part.subscriber(clean=False)
    await peer.leave()
    _, connack = await part.connect(clean=True)
    assert connack == Connack(False, 0)


async def test_mqtt_3_2_2_2_a_stored_session_is_present(part: Part) -> None:
    peer = await part.subscriber(clean=False)
    await peer.drop()
    for _ in range(2):
        peer, connack = await part.connect(clean=False)
        assert connack == Connack(True, 0)
        await peer.leave()


async def test_mqtt_3_2_2_3_without_a_stored_session_none_is_present(part: Part) -> None:
    _, connack = await part.connect(clean=False)
    assert connack == Connack(False, 0)


async def test_mqtt_3_2_2_4_a_refusal_never_says_session_present(part: Part) -> None:
    peer = await part.subscriber(clean=False)
    await peer.leave()
    refused = await part.server.peer()
    refused.send(connect_packet(field(part.name()), level=9, flags=0))
    assert await raw_packet(refused) == b"\x20\x02\0\x01"


async def test_mqtt_3_2_2_5_a_refused_connection_is_closed(server: Target) -> None:
    for refused_one in (Connect("", clean_session=False), connect_packet(level=9)):
        peer = await server.peer()
        peer.send(refused_one)
        assert (await peer.expect(Connack)).code > 0
        await peer.expect_closed()


async def test_mqtt_3_2_2_6_where_no_code_fits_the_connection_is_closed_without_one(
    serve: Serve,
) -> None:
    served = await serve(limits__max_connections=1)
    await served.connect("first")
    second = await served.peer()
    second.send(Connect("second"))
    await second.expect_closed()
