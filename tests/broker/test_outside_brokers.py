"""What brokers that are not ours do, found by trying: each `Features` of tests/outside_brokers.py.

docs/outside-brokers.md says what follows from it for an operator.
"""

from __future__ import annotations

import asyncio
import contextlib
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from devices.packets import Connack, Connect, Puback, Publish, Pubrec, Subscribe, Will
from tests.broker.support import PATIENCE, Peer
from tests.outside_brokers import BROKERS, GATEWAY, OPERATOR, PUBLISHER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.outside_brokers import OutsideBroker

pytestmark = pytest.mark.mosquitto

QUIET = 0.3
"""Seconds after which a message that did not come will not come."""

NAMES = {name: count() for name in BROKERS}
"""Each test has devices and client ids of its own."""


class Clients:
    """Who is connected to a broker in one test."""

    def __init__(self, broker: OutsideBroker) -> None:
        self._broker = broker
        self._peers: list[Peer] = []
        self._kept: set[tuple[str, str]] = set()
        self._number = next(NAMES[broker.name])
        self.device = f"d{self._number}"

    async def enter(
        self, name: str, client_id: str = "", *, keep: bool = False, **more: Any
    ) -> tuple[Peer, bool]:
        """Connect as somebody; also says whether a session was resumed."""
        user, password = self._broker.login(name)
        secret = None if password is None else password.encode()
        identity = f"{client_id}{self._number}" if client_id else name
        if keep:
            self._kept.add((name, client_id))
        fields = {"keep_alive": 60, "username": user, "password": secret} | more
        peer, connack = await self._greeted(Connect(identity, not keep, **fields))
        assert connack.code == 0
        return peer, connack.session_present

    async def _greeted(self, connect: Connect) -> tuple[Peer, Connack]:
        """NATS may close a connection of a client id that had another a second ago: once more, then."""
        async with asyncio.timeout(PATIENCE):
            while True:
                peer = await Peer.open((self._broker.host, self._broker.port))
                self._peers.append(peer)
                peer.send(connect)
                answer = await peer.read()
                if isinstance(answer, Connack):
                    return peer, answer
                assert answer is None
                await asyncio.sleep(0.1)

    async def gateway(self, client_id: str = "g", *filters: str, keep: bool = False) -> Peer:
        """A gateway that subscribes with QoS 1."""
        peer, _ = await self.enter(GATEWAY, client_id, keep=keep)
        if filters:
            await peer.subscribe(*((each, 1) for each in filters))
        return peer

    async def publish(self, *payloads: bytes) -> None:
        """Items, each acknowledged."""
        publisher, _ = await self.enter(PUBLISHER, "p")
        for payload in payloads:
            await publisher.publish("items/news", payload)
        await publisher.leave()

    async def drop(self) -> None:
        """End all connections and sessions."""
        for name, client_id in self._kept:
            await self.enter(name, client_id)
        for peer in self._peers:
            await peer.drop()


@pytest.fixture(scope="module", params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[OutsideBroker]:
    """Each of them, for all tests here."""
    with BROKERS[request.param]() as started:
        yield started


@pytest.fixture
async def clients(broker: OutsideBroker) -> AsyncIterator[Clients]:
    found = Clients(broker)
    yield found
    await found.drop()


async def messages(peer: Peer, within: float = QUIET, *, ack: bool = True) -> list[Publish]:
    """All that comes, until nothing has come for a while."""
    found: list[Publish] = []
    with contextlib.suppress(TimeoutError):
        while (packet := await peer.read(within)) is not None:
            if isinstance(packet, Publish):
                found.append(packet)
                if ack and packet.qos:
                    peer.send(Puback(packet.packet_id))
    return found


def numbers(found: list[Publish]) -> list[int]:
    return [int(each.payload) for each in found]


def numbered(*bounds: int) -> list[bytes]:
    return [b"%d" % number for number in range(*bounds)]


async def test_a_shared_subscription_divides_items_or_is_granted_and_gives_nothing(broker, clients):
    workers = [await clients.gateway(f"w{n}", "$share/fleetfeed/items/#") for n in range(2)]
    await clients.publish(*numbered(20))
    first, second = [numbers(await messages(worker)) for worker in workers]
    if broker.features.shared_subscriptions:
        assert first
        assert second
        assert sorted(first + second) == list(range(20))
    else:  # SUBACK granted it: only trying tells
        assert first == second == []


async def test_what_falls_to_an_absent_member_of_a_group_waits_for_it_or_goes_to_the_others(
    broker, clients
):
    if not broker.features.shared_subscriptions:
        return
    shared = "$share/fleetfeed/items/#"
    absent = await clients.gateway("absent", shared, keep=True)
    present = await clients.gateway("present", shared, keep=True)
    await absent.leave()
    await clients.publish(*numbered(20))
    found = numbers(await messages(present))
    assert len(found) == (10 if broker.features.share_waits else 20)
    absent = await clients.gateway("absent", keep=True)
    assert sorted(found + numbers(await messages(absent))) == list(range(20))


async def test_items_wait_in_a_session_and_come_in_order_after_subscribing_again(clients):
    gateway = await clients.gateway("waits", "items/#", keep=True)
    await gateway.leave()
    await clients.publish(*numbered(200))
    gateway, resumed = await clients.enter(GATEWAY, "waits", keep=True)
    assert resumed
    gateway.send(Subscribe(1, (("items/#", 1),)))
    found = await messages(gateway)
    assert numbers(found) == list(range(200))
    assert not any(each.retain or each.dup for each in found)


async def test_what_was_not_acknowledged_comes_again(broker, clients):
    gateway = await clients.gateway("again", "items/#", keep=True)
    await clients.publish(*numbered(5))
    first = await messages(gateway, ack=False)
    gateway.send(Puback(first[0].packet_id))
    gateway.send(Puback(first[1].packet_id))
    await gateway.ping()
    await gateway.drop()
    gateway, resumed = await clients.enter(GATEWAY, "again", keep=True)
    assert resumed
    again = [await gateway.expect(Publish) for _ in range(3)]
    assert not await messages(gateway, ack=False)
    assert numbers(again) == [2, 3, 4]
    as_before = [(True, each.packet_id) for each in first[2:]]
    assert ([(each.dup, each.packet_id) for each in again] == as_before) == (
        broker.features.marks_resent
    )


async def test_acknowledgements_in_another_order_are_taken_or_cost_a_message(broker, clients):
    gateway = await clients.gateway("order", "items/#", keep=True)
    await clients.publish(*numbered(6))
    first = await messages(gateway, ack=False)
    for place in (0, 3, 4):
        gateway.send(Puback(first[place].packet_id))
    if broker.features.acks_any_order:
        await gateway.ping()
        await gateway.drop()
        expected = [1, 2, 5]
    else:  # 1 was next: it is taken for acknowledged, and 3 and 4 are not
        await gateway.expect_closed()
        expected = [2, 3, 4, 5]
    gateway, _ = await clients.enter(GATEWAY, "order", keep=True)
    assert numbers([await gateway.expect(Publish) for _ in expected]) == expected


async def test_so_many_are_sent_ahead_of_their_acknowledgements(broker, clients):
    gateway = await clients.gateway("ahead", "items/#")
    publisher, _ = await clients.enter(PUBLISHER, "p")
    publisher.send(*(Publish("items/news", b"%d" % n, 1, n + 1) for n in range(1200)))
    found = await messages(gateway, 0.7, ack=False)
    assert len(found) == broker.features.max_inflight


async def test_the_qos_of_a_message_is_the_lower_one_or_that_of_the_subscription(broker, clients):
    device, _ = await clients.enter(clients.device)
    topic = f"f/{clients.device}"
    assert await device.subscribe((topic, 1)) == (1,)
    gateway = await clients.gateway()
    gateway.send(Publish(topic, b"frame"))
    assert [each.qos for each in await messages(device)] == [0 if broker.features.lower_qos else 1]


async def test_a_message_of_qos_2_is_taken_or_ends_the_connection(broker, clients):
    device, _ = await clients.enter(clients.device)
    topic = f"f/{clients.device}"
    assert await device.subscribe((topic, 2)) == (broker.features.max_qos,)
    gateway = await clients.gateway()
    gateway.send(Publish(topic, b"frame", 2, 1))
    answer = await gateway.read()
    assert answer == (Pubrec(1) if broker.features.max_qos == 2 else None)


async def test_metrics_can_be_retained(clients):
    gateway = await clients.gateway()
    gateway.send(Publish("feed/sys/a/items", b"7", 1, 1, retain=True))
    await gateway.expect(Puback)
    operator, _ = await clients.enter(OPERATOR, "o")
    await operator.subscribe(("feed/sys/#", 1))
    found = await operator.expect(Publish)
    assert (found.topic, found.payload, found.retain) == ("feed/sys/a/items", b"7", True)


async def test_the_largest_item_comes_through(clients):
    gateway = await clients.gateway("large", "items/#")
    await clients.publish(b"x" * 65_536)
    assert [len(each.payload) for each in await messages(gateway)] == [65_536]


async def test_whoever_falls_silent_leaves_its_will(clients):
    gateway = await clients.gateway("g", "u/+")
    topic = f"u/{clients.device}"
    await clients.enter(clients.device, will=Will(topic, b"bye", 1, False), keep_alive=1)
    will = await gateway.expect(Publish)
    assert (will.topic, will.payload) == (topic, b"bye")


async def test_whoever_comes_in_again_may_leave_the_will_of_its_older_connection(broker, clients):
    gateway = await clients.gateway("g", "u/+")
    topic = f"u/{clients.device}"
    older, _ = await clients.enter(clients.device, will=Will(topic, b"older", 1, False))
    newer, _ = await clients.enter(clients.device, will=Will(topic, b"newer", 1, False))
    await older.expect_end()
    replaced = [each.payload for each in await messages(gateway)]
    await newer.drop()
    dropped = [each.payload for each in await messages(gateway)]
    if broker.features.will_of_replaced:
        assert (replaced, dropped) == ([b"older"], [b"newer"])
    elif broker.name == "rumqttd":  # the will of whom it was not, and then none
        assert (replaced, dropped) == ([b"newer"], [])
    else:
        assert (replaced, dropped) == ([], [b"newer"])


async def test_an_id_with_a_dot_is_a_topic_or_ends_the_connection(broker, clients):
    gateway = await clients.gateway()
    codes = await gateway.subscribe(("f/a.b", 1), ("f/a:b-_c", 1))
    assert codes == (1 if broker.features.dotted_ids else 128, 1)
    gateway.send(Publish("f/a.b", b"frame", 1, 9))
    answer = await gateway.read()
    assert answer == (Puback(9) if broker.features.dotted_ids else None)


async def test_what_waits_survives_a_stop_and_maybe_a_kill(broker, clients):
    features = broker.features
    gateway = await clients.gateway("stop", "items/#", keep=True)
    await gateway.leave()
    await clients.publish(*numbered(10))
    broker.restart()
    gateway, resumed = await clients.enter(GATEWAY, "stop", keep=True)
    assert resumed == features.durable_sessions
    assert numbers(await messages(gateway)) == list(range(10 if resumed else 0))
    await gateway.subscribe(("items/#", 1))
    await gateway.leave()
    await clients.publish(*numbered(10, 20))
    broker.kill()
    broker.start()
    gateway, resumed = await clients.enter(GATEWAY, "stop", keep=True)
    assert resumed == features.durable_sessions
    found = set(numbers(await messages(gateway)))
    # What it has taken back may come again: those that were acknowledged after it wrote last.
    assert found >= set(range(10, 20)) if features.synced else not found & set(range(10, 20))
