"""MQTT 3.1.1, section 3.1: user names, passwords, and whose a session is."""

from __future__ import annotations

import pytest

from broker.access.passwords import hash_password
from devices.packets import (
    Connack,
    Connect,
    Pingreq,
    Puback,
    Publish,
    Suback,
    Subscribe,
)
from tests.broker.support import Served, Target
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    Serve,
    connect_packet,
    field,
    send,
)

EVERYTHING = {"publish": ["#"], "read": ["#"], "write": ["#"]}
ENCODED = hash_password("correct horse")


# ---- 3.1.2.8 User name and password


async def test_mqtt_3_1_2_18_a_user_name_without_its_flag_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), field("kitchen"), flags=0x02))
    await peer.expect_closed()


async def test_mqtt_3_1_2_19_a_user_name_flag_without_a_name_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(flags=0x82))
    await peer.expect_closed()


async def test_mqtt_3_1_2_20_a_password_without_its_flag_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), field("kitchen"), field("secret"), flags=0x82))
    await peer.expect_closed()


async def test_mqtt_3_1_2_21_a_password_flag_without_a_password_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), field("kitchen"), flags=0xC2))
    await peer.expect_closed()


async def test_mqtt_3_1_2_22_a_password_without_a_user_name_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), field("secret"), flags=0x42))
    await peer.expect_closed()


@pytest.mark.parametrize("kind", [FeedPart, OtherPart])
async def test_mqtt_3_1_3_2_a_session_belongs_to_its_user_as_well(
    serve: Serve, kind: type[Part]
) -> None:
    """On purpose: whoever guesses a client id must not get what waits for its user."""
    served = await serve(open=False)
    secrets = await users(served, "ann", "bob")
    part = kind(served)
    for user in ("ann", "bob"):
        peer = await served.connect(
            "phone", clean=False, username=user, password=secrets[user].encode()
        )
        await peer.subscribe((part.topic, 1))
        await peer.leave()
    thief = await served.peer()
    stolen = Connect("phone", False, 60, "bob", secrets["ann"].encode())
    assert (await thief.greet(stolen)).code == 4
    again = await served.peer()
    connack = await again.greet(Connect("phone", False, 60, "ann", secrets["ann"].encode()))
    assert connack == Connack(True, 0)
    new = await served.peer()
    connack = await new.greet(Connect("tablet", False, 60, "ann", secrets["ann"].encode()))
    assert connack == Connack(False, 0)


async def users(served: Served, *names: str) -> dict[str, str]:
    """Add users who may do everything; their secrets by name."""
    return {
        name: (await served.command("user.add", user=name, **EVERYTHING))["secret"]
        for name in names
    }


@pytest.mark.parametrize("kind", [FeedPart, OtherPart])
async def test_mqtt_3_1_4_2_the_client_of_another_user_is_not_disconnected(
    serve: Serve, kind: type[Part]
) -> None:
    """On purpose: the client id of another user is no way to cut it off."""
    served = await serve(open=False)
    secrets = await users(served, "ann", "bob")
    part = kind(served)
    peers = {
        user: await served.connect("phone", username=user, password=secret.encode())
        for user, secret in secrets.items()
    }
    for peer in peers.values():
        await send(peer, part.message("still here"))
    again = await served.connect("phone", username="ann", password=secrets["ann"].encode())
    await peers["ann"].expect_closed()
    await peers["bob"].ping()
    await again.ping()


async def test_mqtt_3_1_4_4_what_follows_connect_waits_until_a_password_is_checked(
    serve: Serve,
) -> None:
    served = await serve(open=False)
    await served.command("user.add", user="ann", password=ENCODED, **EVERYTHING)
    others = OtherPart(served)
    peer = await served.peer()
    peer.send(
        Connect("phone", True, 60, "ann", b"correct horse"),
        Subscribe(1, ((others.topic, 1),)),
        others.message("to myself"),
    )
    assert await peer.expect(Connack) == Connack(False, 0)
    assert await peer.expect(Suback) == Suback(1, (1,))
    found = [await peer.read(), await peer.read()]
    assert {type(each) for each in found} == {Puback, Publish}


async def test_mqtt_3_1_4_5_what_follows_a_connect_with_a_wrong_password_is_not_processed(
    serve: Serve,
) -> None:
    served = await serve(open=False)
    await served.command("user.add", user="ann", password=ENCODED, **EVERYTHING)
    others = OtherPart(served)
    peer = await served.connect("phone", username="ann", password=b"correct horse")
    await peer.subscribe((others.topic, 1))
    refused = await served.peer()
    refused.send(
        Connect("tablet", True, 60, "ann", b"battery staple"),
        others.message("unwanted"),
        Pingreq(),
    )
    assert await refused.expect(Connack) == Connack(False, 4)
    await refused.expect_closed()
    await peer.ping()
