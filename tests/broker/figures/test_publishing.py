"""`$SYS` as clients of the server see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from devices.packets import Puback, Publish
from tests.broker.figures.lint import faults
from tests.broker.support import Peer, Served, ServerProcess, item

Serve = Callable[..., Awaitable[Served]]


async def told(peer: Peer) -> dict[str, Publish]:
    """What has come by now."""
    await peer.subscribe(("$SYS/#", 0))
    peer.send(b"\xc0\x00")
    found: dict[str, Publish] = {}
    while isinstance(packet := await peer.read(), Publish):
        assert packet.topic not in found, f"{packet.topic} came twice"
        found[packet.topic] = packet
    return found


@pytest.fixture(params=["alone", "in amqtt"])
async def server(request: pytest.FixtureRequest, serve: Serve) -> Served:
    return await serve(amqtt=request.param == "in amqtt")


async def test_a_new_subscriber_has_the_whole_tree_at_once_and_nobody_misreads_it(
    server: Served,
) -> None:
    found = await told(await server.connect("operator"))
    assert all(publish.retain for publish in found.values())
    assert faults({topic: each.payload.decode() for topic, each in found.items()}) == []
    assert len(found) > 100
    assert found["$SYS/broker/feed/items/received"].payload == b"0"


async def test_what_mqtt_explorer_and_its_like_look_for_is_there(server: Served) -> None:
    found = await told(await server.connect("operator"))
    for name in (
        "version",
        "uptime",
        "clients/total",
        "messages/received",
        "messages/sent",
        "heap/current",
        "heap/maximum",
        "messages/stored",
        "subscriptions/count",
        "retained messages/count",
    ):
        assert f"$SYS/broker/{name}" in found


async def test_what_changes_is_told_to_those_who_listen(serve: Serve) -> None:
    served = await serve(topics__sys_interval=1)
    listener = await served.connect("operator")
    await told(listener)
    await served.publish(item("a", "one"))
    changed: dict[str, Publish] = {}
    while "$SYS/broker/feed/items/received" not in changed:
        publish = await listener.expect(Publish)
        changed[publish.topic] = publish
    assert changed["$SYS/broker/feed/items/received"].payload == b"1"
    assert not any(publish.retain for publish in changed.values())
    assert "$SYS/broker/version" not in changed


async def test_no_device_is_named(serve: Serve) -> None:
    served = await serve()
    await served.subscribed("kitchen-of-anna")
    served.server._sys.start()  # type: ignore[union-attr] # a round now
    found = await told(await served.connect("operator"))
    assert "kitchen-of-anna" not in repr(found)


async def test_nobody_else_writes_or_keeps_sys(server: Served) -> None:
    intruder = await server.connect("intruder")
    topic = "$SYS/broker/feed/items/received"
    intruder.send(Publish(topic, b"1000000", 1, 1, retain=True))
    intruder.send(Publish("$SYS/broker/more", b"1", 1, 2, retain=True))
    intruder.send(Publish(topic, b"", 1, 3, retain=True))
    for packet_id in (1, 2, 3):
        assert await intruder.expect(Puback) == Puback(packet_id)
    found = await told(await server.connect("operator"))
    assert found[topic].payload == b"0"
    assert "$SYS/broker/more" not in found


async def test_sys_takes_no_room_of_what_clients_retain(serve: Serve) -> None:
    served = await serve(topics__max_retained=1)
    speaker = await served.connect("speaker")
    speaker.send(Publish("home", b"kept", 1, 1, retain=True))
    await speaker.expect(Puback)
    assert served.count("dropped", "retained_full") == 0
    assert len(await told(await served.connect("operator"))) > 100


@pytest.mark.parametrize("settings", [{"topics__sys_interval": 0}, {"topics__enabled": False}])
async def test_it_can_be_turned_off(serve: Serve, settings: dict[str, object]) -> None:
    served = await serve(**settings)
    assert served.server.exchange.told == []


async def test_fleetfeed_serve_tells_one_tree(process: Callable[..., ServerProcess]) -> None:
    server = process()
    found = await told(await server.connect("operator"))
    assert faults({topic: each.payload.decode() for topic, each in found.items()}) == []
    assert found["$SYS/broker/version"].payload.startswith(b"fleetfeed version")
    assert not any(topic.startswith("$SYS/broker/cpu") for topic in found)
