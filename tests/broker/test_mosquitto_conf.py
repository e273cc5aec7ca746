"""`mosquitto.conf` of the repository, byte for byte, in a network of its own."""

from __future__ import annotations

import contextlib
import re
import ssl
from typing import TYPE_CHECKING

import pytest

from devices.packets import Connack, Connect, Puback, Publish, Will
from tests.broker.support import Peer
from tests.outside_brokers import GATEWAY, OPERATOR, PUBLISHER, ROOT, Mosquitto, mosquitto

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Enter = Callable[..., Awaitable[Peer]]

pytestmark = pytest.mark.mosquitto

CONF = (ROOT / "mosquitto.conf").read_text()


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with mosquitto() as started:
        yield started


@pytest.fixture
async def enter(broker: Mosquitto) -> AsyncIterator[Enter]:
    """Connect as a user to a listener: 1883 for the gateway, 8883 for devices, 8884 for others."""
    peers: list[Peer] = []
    trusted = ssl.create_default_context(cafile=str(broker.certificate))

    async def connect(
        name: str, listener: int = 1883, *, client_id: str = "", keep: bool = False,
        will: Will | None = None,
    ) -> Peer:  # fmt: skip
        tls = None if listener == 1883 else trusted
        peer = await Peer.open((broker.host, broker.ports[listener]), tls)
        peers.append(peer)
        user, password = broker.login(name)
        secret = None if password is None else password.encode()
        fields = Connect(client_id or name, not keep, 60, user, secret, will)
        assert (await peer.greet(fields)).code == 0
        return peer

    yield connect
    for peer in peers:
        await peer.drop()


async def payloads(peer: Peer, within: float = 0.3) -> list[bytes]:
    """What comes until nothing has come for a while, acknowledged."""
    found = []
    with contextlib.suppress(TimeoutError):
        while (packet := await peer.read(within)) is not None:
            if isinstance(packet, Publish):
                found.append(packet.payload)
                if packet.qos:
                    peer.send(Puback(packet.packet_id))
    return found


async def test_mosquitto_takes_the_file_without_a_complaint(broker):
    used = (broker.directory / "mosquitto.conf").read_text()
    if broker.as_it_is:
        assert used == CONF
    else:
        ports = {str(here): str(port) for port, here in broker.ports.items()}
        assert (
            re.sub(r"(?<=^listener )\d+", lambda m: ports[m[0]], used, flags=re.MULTILINE) == CONF
        )
    said = broker.log()
    assert "Error" not in said
    assert "Warning" not in said


def test_only_loopback_is_without_encryption():
    listeners = re.split(r"^listener ", CONF, flags=re.MULTILINE)[1:]
    plain = [each.split("\n")[0] for each in listeners if "certfile" not in each]
    assert plain == ["1883 127.0.0.1"]
    assert [each.split("\n")[0] for each in listeners if "certfile" in each] == ["8884", "8883"]


async def test_nobody_comes_in_without_a_password_or_with_a_wrong_one(broker):
    for user, password in ((None, None), ("d1", None), ("d1", b"secret-of-d2"), ("#", b"#")):
        peer = await Peer.open((broker.host, broker.port))
        peer.send(Connect("d1", True, 60, user, password))
        answer = await peer.read()
        assert isinstance(answer, Connack)
        assert answer.code in (4, 5)
        await peer.drop()


async def test_a_device_reads_and_writes_its_own_topics_alone(enter):
    gateway = await enter(GATEWAY)
    await gateway.subscribe(("u/+", 1))
    device = await enter("d1", 8883)
    wanted = ("f/d1", "f/d2", "f/+", "#", "u/#")
    granted = await device.subscribe(*((each, 1) for each in wanted))
    assert granted == (1,) * 5  # and yet most of it will never come
    for topic in ("u/d1", "u/d2", "u/d1/x", "f/d1", "f/d2", "items/news", "feed/sys/a/up", "x"):
        await device.publish(topic, topic.encode())
    for topic in ("f/d1", "f/d2"):
        await gateway.publish(topic, topic.encode())
    assert set(await payloads(device)) == {b"f/d1"}
    assert await payloads(gateway) == [b"u/d1"]


async def test_a_will_is_held_against_the_same_rules(enter):
    gateway = await enter(GATEWAY)
    await gateway.subscribe(("u/+", 1))
    for topic in ("u/d4", "u/d3"):
        device = await enter("d3", 8883, will=Will(topic, topic.encode(), 1, False))
        await device.drop()
    assert await payloads(gateway) == [b"u/d3"]


async def test_a_device_is_its_user_name_whatever_client_id_it_sends(enter):
    """So nobody reads what waits for another, or ends its connection, by taking its client id."""
    victim = await enter("d5", 8883, keep=True)
    await victim.subscribe(("f/d5", 1))
    thief = await enter("d6", 8883, client_id="d5", keep=True)
    await victim.ping()
    gateway = await enter(GATEWAY)
    await gateway.publish("f/d5", b"for d5")
    assert await payloads(thief) == []
    assert await payloads(victim) == [b"for d5"]


async def test_where_client_ids_are_free_another_user_can_end_a_session_but_reads_nothing(enter):
    """On the other listeners, for users with many connections: what the listener of devices is for."""
    victim = await enter("d7", 8884, keep=True)
    await victim.subscribe(("f/d7", 1))
    thief = await enter("d8", 8884, client_id="d7", keep=True)
    await victim.expect_end()
    gateway = await enter(GATEWAY)
    await gateway.publish("f/d7", b"for d7")
    assert await payloads(thief) == []  # Mosquitto asks the ACL at each delivery too


async def test_one_publisher_may_have_many_connections(enter):
    gateway = await enter(GATEWAY)
    await gateway.subscribe(("items/#", 1))
    both = [await enter(PUBLISHER, 8884, client_id=f"p{n}") for n in range(2)]
    for peer in both:
        await peer.publish("items/news", b"item")
    assert await payloads(gateway) == [b"item", b"item"]


async def test_what_the_broker_says_of_itself_is_for_operators(enter):
    filters = ("$SYS/broker/version", 0), ("$SYS/#", 0)
    operator = await enter(OPERATOR, 8884)
    await operator.subscribe(*filters)
    assert any(b"mosquitto" in each for each in await payloads(operator))
    device = await enter("d9", 8883)
    await device.subscribe(*filters)
    assert await payloads(device) == []


async def test_the_largest_item_waits_for_a_gateway_that_is_away(enter):
    gateway = await enter(GATEWAY, client_id="away", keep=True)
    await gateway.subscribe(("items/#", 1))
    await gateway.leave()
    publisher = await enter(PUBLISHER, 8884)
    await publisher.publish("items/" + "news/" * 7 + "x" * 90, b"x" * 65_536)
    gateway = await enter(GATEWAY, client_id="away", keep=True)
    assert [len(each) for each in await payloads(gateway)] == [65_536]


async def test_a_larger_packet_ends_the_connection(enter):
    publisher = await enter(PUBLISHER, 8884)
    publisher.send(Publish("items/news", b"x" * 70_001, 1, 1))
    await publisher.expect_closed()


async def test_more_than_the_limit_waits_for_nobody_and_is_counted(enter):
    """100 000 messages or 64 MiB: what comes after is dropped, whatever Mosquitto acknowledges."""
    gateway = await enter(GATEWAY, client_id="full", keep=True)
    await gateway.subscribe(("items/#", 1))
    await gateway.leave()
    publisher = await enter(PUBLISHER, 8884)
    for _ in range(1100):
        await publisher.publish("items/news", b"x" * 65_536)
    gateway = await enter(GATEWAY, client_id="full", keep=True)
    assert len(await payloads(gateway, 1)) == 67_108_864 // 65_536
