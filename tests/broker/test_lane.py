"""MQTT 3.1.1 as the lane serves it: CONNECT, acknowledgements, QoS 2, silence, takeover, wills."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from devices.frames import Bye, encode_up
from devices.packets import (
    Connack,
    Connect,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Will,
    encode,
)
from tests.broker.support import Served, eventually, item

Serve = Callable[..., Awaitable[Served]]


def body(id_: str, payload: str = "x", priority: int = 1) -> bytes:
    return json.dumps(item(id_, payload, priority)).encode()


# ---- CONNECT


async def test_a_client_that_says_nothing_is_closed(serve: Serve) -> None:
    served = await serve(limits__connect_timeout=0.1)
    peer = await served.peer()
    await peer.expect_closed()
    assert served.count("closed", "connect_timeout") == 1


async def test_the_first_packet_must_be_connect(served: Served) -> None:
    peer = await served.peer()
    peer.send(Pingreq())
    await peer.expect_closed()
    assert served.count("closed", "no_connect") == 1


async def test_a_second_connect_closes_the_connection(served: Served) -> None:
    peer = await served.connect("kitchen")
    peer.send(Connect("kitchen"))
    await peer.expect_closed()
    assert served.count("closed", "second_connect") == 1


async def test_mqtt_5_is_told_that_only_3_1_1_is_spoken(served: Served) -> None:
    peer = await served.peer()
    peer.send(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00")
    assert await peer.expect(Connack) == Connack(False, 1)
    await peer.expect_closed()


async def test_an_empty_client_id_gets_one_of_its_own_each_time(served: Served) -> None:
    first = await served.connect("")
    second = await served.connect("")
    await first.ping()
    await second.ping()
    assert served.count("connections", "taken_over") == 0


async def test_an_empty_client_id_has_no_session_to_keep(served: Served) -> None:
    peer = await served.peer()
    assert await peer.greet(Connect("", clean_session=False)) == Connack(False, 2)
    await peer.expect_closed()
    assert served.count("dropped", "connect_refused_no_client_id") == 1


async def test_an_anonymous_client_may_publish_items_and_has_no_feed(served: Served) -> None:
    peer = await served.connect("")
    await peer.publish("items/news", body("a"))
    assert await peer.subscribe(("f/", 1)) == (0x80,)
    assert served.count("items", "new") == 1


async def test_beyond_the_limit_connections_are_closed_at_once(serve: Serve) -> None:
    served = await serve(limits__max_connections=1)
    first = await served.connect("kitchen")
    await (await served.peer()).expect_closed()
    await first.ping()
    assert served.count("closed", "too_many_connections") == 1
    await first.leave()
    await eventually(lambda: served.server.lane.connections == 0)
    await served.connect("kitchen")


# ---- Silence


async def test_a_client_silent_for_one_and_a_half_keep_alives_is_closed(served: Served) -> None:
    loop = served.server.lane._loop
    peer = await served.connect("kitchen", keep_alive=1)
    start = loop.time()
    await peer.expect_closed()
    assert loop.time() - start >= 1.4
    assert served.count("closed", "keep_alive") == 1


async def test_any_packet_is_a_sign_of_life(served: Served) -> None:
    loop = served.server.lane._loop
    peer = await served.connect("kitchen", keep_alive=1)
    until = loop.time() + 2.6
    while loop.time() < until:
        await peer.publish("items/news", body("a"))
        # Nothing comes for this long, and the connection stays open.
        with pytest.raises(TimeoutError):
            await peer.read(within=0.5)
    await peer.ping()


async def test_keep_alive_0_means_that_silence_is_welcome(served: Served) -> None:
    peer = await served.connect("kitchen", keep_alive=0)
    limit = served.server.lane.sessions["", "kitchen"].connection
    assert limit is not None
    assert limit.silent_limit > 3600
    await peer.ping()


# ---- Acknowledgements


async def test_pubacks_come_in_the_order_of_the_publishes(served: Served) -> None:
    """Also where an invalid item needs no wait for the store, and one without effect none either."""
    peer = await served.connect("publisher")
    payloads = [b"{", body("a"), b'{"id": 1}', body("a"), body("b"), b"", body("c", "y"), b"{]"]
    peer.send(*(Publish("items/news", p, 1, 100 + i) for i, p in enumerate(payloads)))
    ids = [(await peer.expect(Puback)).packet_id for _ in payloads]
    assert ids == [100 + i for i in range(len(payloads))]
    assert served.count("items", "new") == 3
    assert served.count("items", "unchanged") == 1
    assert served.server.counters.rejected.total() == 4


async def test_an_acknowledgement_comes_only_once_the_store_has_the_item(served: Served) -> None:
    store = served.server.store
    peer = await served.connect("publisher")
    # The writer thread waits for the file, which this connection holds.
    with Locked(served):
        peer.send(Publish("items/news", body("a"), 1, 1), Publish("items/news", body("b"), 2, 2))
        await eventually(lambda: served.count("items", "new") == 2)
        await peer.ping()
        assert store.pending > 0
    assert await peer.expect(Puback) == Puback(1)
    assert await peer.expect(Pubrec) == Pubrec(2)


async def test_qos_0_publishes_are_not_acknowledged(served: Served) -> None:
    peer = await served.connect("publisher")
    await peer.publish("items/news", body("a"), qos=0)
    await peer.ping()
    await served.counted("items", "new")
    await served.at_rest()
    await peer.ping()


async def test_a_qos_2_publish_counts_once_however_often_it_comes(served: Served) -> None:
    peer = await served.connect("publisher")
    first = Publish("items/news", b"once", 2, 7)
    peer.send(first)
    assert await peer.expect(Pubrec) == Pubrec(7)
    peer.send(Publish("items/news", b"once", 2, 7, dup=True))
    assert await peer.expect(Pubrec) == Pubrec(7)
    assert served.count("items", "received") == 1
    peer.send(Pubrel(7))
    assert await peer.expect(Pubcomp) == Pubcomp(7)
    peer.send(Pubrel(7))
    assert await peer.expect(Pubcomp) == Pubcomp(7)
    peer.send(Publish("items/news", b"another", 2, 7))
    assert await peer.expect(Pubrec) == Pubrec(7)
    assert served.count("items", "new") == 2


async def test_an_unreleased_qos_2_publish_is_remembered_by_a_persistent_session(
    served: Served,
) -> None:
    peer = await served.connect("publisher", clean=False)
    peer.send(Publish("items/news", b"once", 2, 7))
    await peer.expect(Pubrec)
    await peer.drop()
    again = await served.peer()
    assert await again.greet(Connect("publisher", clean_session=False)) == Connack(True, 0)
    again.send(Publish("items/news", b"once", 2, 7, dup=True))
    await again.expect(Pubrec)
    assert served.count("items", "received") == 1


async def test_a_client_may_not_leave_publishes_unreleased_for_ever(served: Served) -> None:
    peer = await served.connect("publisher")
    for start in range(1, 4098, 512):
        ids = range(start, min(start + 512, 4098))
        peer.send(*(Publish("u/somebody", b"", 2, packet_id) for packet_id in ids))
    await peer.expect_end()
    assert served.count("closed", "too_many_unreleased") == 1


# ---- The store is behind


async def test_publishers_are_read_no_further_while_the_store_is_behind(serve: Serve) -> None:
    served = await serve(limits__max_pending_items=10)
    peer = await served.connect("publisher")
    with Locked(served):
        for part in range(20):
            ids = range(part * 50, part * 50 + 50)
            peer.send(*(Publish("items/news", body(str(i)), 1, 1 + i) for i in ids))
            await eventually(lambda: served.server.lane._paused, within=5)
        other = await served.connect("kitchen")
        await other.ping()
        assert served.count("items", "received") < 1000
    acknowledged = [(await peer.expect(Puback)).packet_id for _ in range(1000)]
    assert acknowledged == list(range(1, 1001))


async def test_who_sends_urgent_items_alone_is_read_on_until_there_is_twice_too_much(
    serve: Serve,
) -> None:
    served = await serve(limits__max_pending_items=100)
    peer, warner = await served.connect("publisher"), await served.connect("warner")
    lane = served.server.lane

    def warn(first: int, last: int) -> None:
        ids = range(first, last)
        warner.send(*(Publish("items/news", body(f"w{i}", priority=3), 1, i) for i in ids))

    with Locked(served):
        peer.send(*(Publish("items/news", body(str(i)), 1, 1 + i) for i in range(150)))
        await eventually(lambda: served.count("items", "received"), lambda count: count == 150)
        assert len(lane._paused) == 1
        warn(1, 40)
        await eventually(lambda: served.count("items", "received"), lambda count: count == 189)
        assert len(lane._paused) == 1
        warn(40, 80)
        await eventually(lambda: len(lane._paused), lambda count: count == 2)
    assert [(await warner.expect(Puback)).packet_id for _ in range(79)] == list(range(1, 80))


# ---- Takeover and wills


async def test_a_new_connection_of_a_client_ends_the_old_one(served: Served) -> None:
    old = await served.connect("kitchen")
    new = await served.connect("kitchen")
    await old.expect_closed()
    await new.ping()
    assert served.count("connections", "taken_over") == 1
    assert served.count("closed", "taken_over") == 1
    assert served.server.lane.sessions["", "kitchen"].connection is not None


@pytest.mark.parametrize("how", ["lost", "taken over", "malformed"])
async def test_a_will_is_published_when_a_client_goes_without_disconnect(
    served: Served, how: str
) -> None:
    will = Will("items/news", body("w", "the sensor is gone"), 1)
    peer = await served.connect("sensor", will=will)
    match how:
        case "lost":
            await peer.drop()
        case "taken over":
            await served.connect("sensor")
        case "malformed":
            peer.send(b"\xf0\x00")
    await served.counted("items", "new")
    watcher = await served.subscribed("kitchen")
    assert watcher.shown == ["the sensor is gone"]


async def test_disconnect_discards_the_will(served: Served) -> None:
    peer = await served.connect("sensor", will=Will("items/news", b"gone"))
    await peer.leave()
    await eventually(lambda: served.server.lane.connections == 0)
    assert served.count("items", "received") == 0


async def test_a_device_may_say_bye_by_its_will(served: Served) -> None:
    old = await served.device("kitchen", will=Will("u/kitchen", encode_up(Bye(7)), 1))
    await old.subscribe()
    await old.frame()
    new = await served.device("kitchen")
    await old.peer.expect_closed()
    assert served.count("up", "bye") == 1
    await new.subscribe()
    await served.publish(item("a", "still served"))
    await new.shows("still served")


@pytest.mark.parametrize("topic", ["u/hall", "f/kitchen", "$SYS/broker", "$share/x"])
async def test_a_will_to_a_forbidden_topic_is_refused_at_connect(
    served: Served, topic: str
) -> None:
    peer = await served.peer()
    assert await peer.greet(Connect("kitchen", will=Will(topic, b"x"))) == Connack(False, 5)
    await peer.expect_closed()
    assert served.count("dropped", "connect_refused_will_not_permitted") == 1


# ---- Who may do what


@pytest.mark.parametrize(
    "name", ["f/hall", "f/+", "f/#", "u/kitchen", "u/#", "items/#", "items/news", "f", "items"]
)
async def test_a_device_may_subscribe_to_its_own_frames_alone(served: Served, name: str) -> None:
    peer = await served.connect("kitchen")
    assert await peer.subscribe((name, 1), ("f/kitchen", 1)) == (0x80, 1)
    assert served.count("dropped", "subscribe_not_permitted") == 1


async def test_two_devices_never_see_each_others_frames(served: Served) -> None:
    kitchen, hall = await served.subscribed("kitchen"), await served.subscribed("hall")
    assert await kitchen.peer.subscribe(("f/hall", 1)) == (0x80,)
    await served.publish(item("a", "for all"))
    for device in (kitchen, hall):
        await device.shows("for all")
        await device.peer.ping()


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize(
    "topic", ["u/hall", "f/kitchen", "f/hall", "$SYS/x", "$anything", "u/kitchen/more"]
)
async def test_a_publish_that_is_not_permitted_is_dropped_acknowledged_and_counted(
    served: Served, topic: str, qos: int
) -> None:
    peer = await served.connect("kitchen")
    peer.send(Publish(topic, b"\x93\x00\x00\x00", qos, 9 if qos else 0))
    if qos == 1:
        assert await peer.expect(Puback) == Puback(9)
    elif qos == 2:
        assert await peer.expect(Pubrec) == Pubrec(9)
    await peer.ping()
    assert served.count("dropped", "publish_not_permitted") == 1
    assert served.server.counters.up.total() == 0


@pytest.mark.parametrize("name", ["#", "+", "a/b", "ü", "x" * 65, "a b"])
async def test_a_client_id_that_is_no_device_id_has_no_feed(served: Served, name: str) -> None:
    peer = await served.connect(name)
    assert await peer.subscribe((f"f/{name}", 1)) == (0x80,)
    if name not in "#+":
        await peer.publish(f"u/{name}", b"\x93\x00\x00\x00")
        assert served.count("dropped", "publish_not_permitted") == 1
    assert len(served.server.registry) == 0


async def test_a_client_id_that_differs_from_the_user_name_has_no_feed(served: Served) -> None:
    peer = await served.connect("kitchen", username="bob")
    assert await peer.subscribe(("f/kitchen", 1), ("f/bob", 1)) == (0x80, 0x80)
    await peer.publish("u/kitchen", b"\x93\x00\x00\x00")
    assert served.count("dropped", "publish_not_permitted") == 1


async def test_the_retain_flag_of_an_item_is_counted_and_has_no_effect(served: Served) -> None:
    peer = await served.connect("publisher")
    peer.send(Publish("items/news", b"kept?", 1, 1, retain=True))
    await peer.expect(Puback)
    assert served.count("dropped", "retain_flag") == 1
    device = await served.subscribed("kitchen")
    assert device.shown == [b"kept?"]


# ---- Bytes in any pieces


async def test_packets_may_come_in_any_pieces(served: Served) -> None:
    peer = await served.peer()
    packets = (
        Connect("kitchen"),
        Subscribe(1, (("f/kitchen", 1),)),
        Publish("items/news", body("a"), 1, 2),
        Pingreq(),
    )
    stream = b"".join(encode(packet) for packet in packets)
    for byte in stream:
        peer.send(bytes((byte,)))
        await peer._writer.drain()
    await peer.expect(Connack)
    missing = {"Suback", "Publish", "Puback", "Pingresp"}
    while missing:
        missing.discard(type(await peer.read()).__name__)


class Locked:
    """Holds the store's file, so that its commits have to wait."""

    def __init__(self, served: Served) -> None:
        self._path = served.data / "fleetfeed.db"

    def __enter__(self) -> None:
        import sqlite3  # noqa: PLC0415 (here alone)

        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("ROLLBACK")
        self._connection.close()


async def test_a_closed_connection_whose_client_reads_nothing_is_given_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its unsent bytes would otherwise keep it for ever."""
    monkeypatch.setattr("broker.lane.connection._LINGER", 0.2)
    served = await serve()
    stuck = await served.connect("kitchen", keep_alive=0)
    connection = served.server.lane.sessions["", "kitchen"].connection
    assert connection is not None
    stuck.pause_reading()
    connection.transport.write(bytes(32 << 20))
    await served.connect("kitchen")
    await eventually(lambda: served.server.lane.connections, lambda found: found == 1)
