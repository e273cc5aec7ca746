"""Poison: a frame that a device dies of, on every connection, until the server takes it away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from broker.positions import POISON_AFTER
from devices.frames import HelloOptions
from devices.inflight import ALONE_AFTER
from devices.packets import Connack, Connect, Puback, Publish, Pubrec, Pubrel, encode
from devices.replica import Received, Replica
from tests.broker.support import (
    Device,
    Peer,
    Served,
    ServerProcess,
    Target,
    eventually,
    item,
)

Serve = Callable[..., Awaitable[Served]]
Start = Callable[..., ServerProcess]

LETHAL = 1 + ALONE_AFTER + POISON_AFTER
"""Connections on which poison is sent: for the first time, again with the rest, and again alone."""


class Fragile:
    """A device with a persistent session that dies of some payloads before it acknowledges them.

    What it held in its window survives in flash.
    """

    def __init__(self, target: Target, name: str, *deadly: bytes) -> None:
        self.target = target
        self.name = name
        self.deadly = deadly
        self.replica = Replica()
        self.present: list[bool] = []

    async def lives(self, *payloads: str) -> Device | None:
        """One life: until its window comes to be this, or until it dies; None in the latter case."""
        device = await self.target.device(self.name, self.replica, clean=False)
        self.present.append(device.session_present)
        device.hello()
        await device.subscribe()
        while device.shown != list(payloads):
            publish = await device.publish()
            if any(word in publish.payload for word in self.deadly):
                await device.peer.drop()
                return None
            assert device.replica.receive(publish.payload) in {Received.APPLIED, Received.STALE}
            await device.acknowledge(publish)
        return device

    async def dies(self, times: int = 1) -> None:
        """It dies on each of so many connections."""
        for _ in range(times):
            assert await self.lives("what it never comes to show") is None

    async def survivor(self, *payloads: str) -> Device:
        """It does not die any more."""
        device = await self.lives(*payloads)
        assert device is not None
        return device


async def unacknowledging(served: Served, name: str, frames: int) -> list[Publish]:
    """A persistent device gets so many frames of an item each, and leaves without a PUBACK."""
    device = await served.subscribed(name, clean=False)
    sent = []
    for number in range(frames):
        await served.publish(item(str(number), f"item {number}"))
        sent.append(await device.publish())
    await device.peer.drop()
    return sent


async def again(served: Served, name: str, count: int) -> tuple[Device, list[Publish]]:
    """The device is back: it must be sent exactly so many frames again."""
    device = await served.device(name, clean=False)
    assert device.session_present
    frames = [await device.publish() for _ in range(count)]
    assert all(frame.dup for frame in frames)
    await served.at_rest()
    await device.peer.ping()
    return device, frames


def failures(served: Served, name: str) -> int:
    live = served.server.service.roster.get(name)
    assert live is not None
    return int(served.server.service.roster.ledger(live).failures[live.seat.row])


# ---- A device that dies of an item


async def test_a_device_that_dies_of_an_item_ends_with_all_the_others(served: Served) -> None:
    await served.publish(item("a", "before"))
    fragile = Fragile(served, "fragile", b"deadly")
    control = await served.subscribed("control", clean=False)
    device = await fragile.survivor("before")
    await served.publish(item("x", "deadly"))
    assert b"deadly" in (await device.publish()).payload
    await device.peer.drop()
    await served.publish(item("b", "after"))
    await fragile.dies(LETHAL - 1)
    survivor = await fragile.survivor("after", "before")
    assert fragile.present == [False, *[True] * (LETHAL - 1), False]
    assert served.count("dropped", "poison") == 1
    await control.shows("after", "deadly", "before")
    await served.publish(item("c", "later"))
    await survivor.shows("later", "after", "before")
    await control.shows("later", "after", "deadly", "before")
    assert control.replica.position[1] == 4, "one frame for each item, as if nothing had happened"


async def test_an_update_of_poison_stays_away_too(served: Served) -> None:
    await served.publish(item("a", "fine"), item("x", "deadly"))
    fragile = Fragile(served, "fragile", b"deadly")
    await fragile.dies(LETHAL)
    survivor = await fragile.survivor("fine")
    await served.publish(item("x", "harmless now"), item("y", "other"))
    await survivor.shows("other", "fine")
    assert served.count("dropped", "poison") == 1


async def test_two_deadly_items_are_barred_one_after_the_other(served: Served) -> None:
    await served.publish(item("a", "fine"))
    fragile = Fragile(served, "fragile", b"deadly")
    device = await fragile.survivor("fine")
    await served.publish(item("x", "deadly 1"))
    await device.publish()
    await served.publish(item("y", "deadly 2"))
    await device.publish()
    await device.peer.drop()
    await fragile.dies(LETHAL - 1)  # both frames were sent, but one of them again alone
    await served.counted("dropped", "poison")
    await fragile.dies(LETHAL)
    survivor = await fragile.survivor("fine")
    assert served.count("dropped", "poison") == 2
    await served.publish(item("b", "good"))
    await survivor.shows("good", "fine")


async def test_of_a_frame_with_several_items_the_one_published_last_is_barred(
    served: Served,
) -> None:
    """Not the one with the highest number: an update keeps its number."""
    await served.publish(item("x", "first"), item("y", "second"), item("x", "deadly"))
    fragile = Fragile(served, "fragile", b"deadly")
    await fragile.dies(LETHAL)
    await fragile.survivor("second")


async def test_where_the_newest_item_was_innocent_the_next_one_follows_it(served: Served) -> None:
    """The server cannot see which item of a frame kills; in the end it is the deadly one."""
    await served.publish(item("a", "fine"), item("x", "deadly"), item("b", "innocent"))
    fragile = Fragile(served, "fragile", b"deadly")
    await fragile.dies(2 * LETHAL)
    await fragile.survivor("fine")
    assert served.count("dropped", "poison") == 2


async def test_a_frame_that_only_removes_costs_a_new_epoch_and_no_item(served: Served) -> None:
    await served.publish(item("a", "one"), item("b", "two"))
    device = await served.subscribed("fragile", clean=False)
    epoch = device.replica.epoch
    await served.publish({"id": "a", "retract": True})
    await device.publish()
    await device.peer.drop()
    for _ in range(LETHAL - 1):
        device, _ = await again(served, "fragile", 1)
        await device.peer.drop()
    survivor = await served.device("fragile", clean=False)
    assert not survivor.session_present
    survivor.hello()
    snapshot = await survivor.snapshot()
    assert (snapshot.epoch, survivor.shown) == (epoch + 1, ["two"])
    assert served.count("dropped", "poison") == 0


async def test_the_session_after_poison_is_one_like_any_other(served: Served) -> None:
    await served.publish(item("a", "fine"), item("x", "deadly"))
    fragile = Fragile(served, "fragile", b"deadly")
    await fragile.dies(LETHAL)
    survivor = await fragile.survivor("fine")
    await survivor.peer.leave()
    await served.publish(item("b", "missed"))
    await fragile.survivor("missed", "fine")
    assert fragile.present[-2:] == [False, True]


async def test_a_clean_connection_after_poison_leaves_nothing_to_be_told(served: Served) -> None:
    await served.publish(item("a", "fine"), item("x", "deadly"))
    fragile = Fragile(served, "fragile", b"deadly")
    await fragile.dies(LETHAL)
    clean = await served.connect("fragile")
    await clean.leave()
    for present in (False, True):
        peer = await served.peer()
        assert (
            await peer.greet(Connect("fragile", clean_session=False))
        ).session_present is present
        await peer.leave()


async def test_the_subscription_outlives_the_session_that_poison_ended(serve: Serve) -> None:
    """For clients that subscribe once in their life and never say hello."""
    served = await serve(feed__hello_wait=0.1)
    await unacknowledging(served, "plain", 1)
    for _ in range(LETHAL - 1):
        device, _ = await again(served, "plain", 1)
        await device.peer.drop()
    device = await served.device("plain", clean=False)
    assert not device.session_present
    await device.snapshot()
    assert device.shown == []
    await served.publish(item("b", "next"))
    await device.shows("next")


async def test_a_device_that_dies_after_pubrec_is_rid_of_the_frame_too(serve: Serve) -> None:
    """It works a frame off when PUBREL comes, and that comes again on every connection."""
    served = await serve(feed__qos_by_priority=[2, 2, 2, 2])
    device = await served.device("fragile", Replica(max_qos=2), clean=False)
    device.hello(HelloOptions(max_qos=2))
    await device.subscribe(2)
    await device.frame()
    await served.publish(item("x", "deadly"))
    publish = await device.publish()
    device.peer.send(Pubrec(publish.packet_id))
    await device.peer.expect(Pubrel)
    await device.peer.drop()
    for _ in range(LETHAL - 1):
        peer = await served.peer()
        connack = await peer.greet(Connect("fragile", clean_session=False))
        assert connack.session_present
        assert await peer.expect(Pubrel) == Pubrel(publish.packet_id)
        await peer.drop()
    survivor = await served.device("fragile", device.replica, clean=False)
    assert not survivor.session_present
    survivor.hello()
    await survivor.snapshot()
    assert survivor.shown == []
    assert served.count("dropped", "poison") == 1


async def test_what_is_poison_stays_away_after_kill_9(process: Start) -> None:
    server = process()
    fragile = Fragile(server, "fragile", b"deadly")
    await server.publish(item("a", "fine"), item("x", "deadly"))
    await fragile.dies(LETHAL)
    await fragile.survivor("fine")
    assert server.count("dropped", "poison") == 1
    server.kill()
    server.start()
    survivor = await fragile.survivor("fine")
    await server.publish(item("b", "new"))
    await survivor.shows("new", "fine")
    control = await server.device("control")
    await control.subscribe()
    await control.shows("new", "deadly", "fine")


async def test_an_operator_sees_who_fails_and_what_is_barred(served: Served) -> None:
    await served.publish(item("a", "fine"), item("x", "deadly"))
    fragile = Fragile(served, "fragile", b"deadly")
    await fragile.dies(3)
    await eventually(lambda: failures(served, "fragile"), lambda found: found == 2)
    described = await served.command("device.show", device="fragile")
    assert (described["failed_connections"], described["barred"]) == (2, [])
    await fragile.dies(LETHAL - 3)
    await served.counted("dropped", "poison")
    described = await served.command("device.show", device="fragile")
    assert (described["failed_connections"], described["barred"]) == (0, [2])


# ---- Frames that are sent again one at a time


async def test_after_two_failures_frames_are_sent_again_one_at_a_time(served: Served) -> None:
    sent = await unacknowledging(served, "slow", 3)
    for _ in range(ALONE_AFTER):
        device, frames = await again(served, "slow", 3)
        assert [f.packet_id for f in frames] == [f.packet_id for f in sent]
        await device.peer.drop()
    device, frames = await again(served, "slow", 1)
    await device.subscribe()  # says "I hold nothing": the frames in flight come first nevertheless
    await served.publish(item("new", "new"))
    await served.at_rest()
    await device.peer.ping()
    for expected in sent:
        assert (frames[-1].packet_id, frames[-1].payload) == (expected.packet_id, expected.payload)
        await device.acknowledge(frames[-1])
        frames.append(await device.publish())
    assert not frames[-1].dup
    assert device.replica.receive(frames[-1].payload) is Received.APPLIED
    assert device.shown == ["new", "item 2", "item 1", "item 0"]


async def test_a_hello_beyond_the_frame_sent_alone_brings_the_next_one(served: Served) -> None:
    """The device kept the frame, and only its PUBACK is lost."""
    device = await served.subscribed("slow", clean=False)
    replica = Replica.from_state(device.replica.state())
    await device.peer.drop()
    sent = []
    for number in range(2):
        await served.publish(item(str(number), f"item {number}"))
        device = await served.device("slow", Replica.from_state(replica.state()), clean=False)
        device.hello()
        sent.append([await device.publish() for _ in range(number + 1)][-1])
        await device.peer.drop()
    device, _ = await again(served, "slow", 2)
    await device.peer.drop()
    device, frames = await again(served, "slow", 1)
    device.replica = replica
    assert replica.receive(frames[0].payload) is Received.APPLIED
    device.hello()
    following = await device.publish()
    assert (following.packet_id, following.dup) == (sent[1].packet_id, True)
    assert failures(served, "slow") == 0
    assert replica.receive(following.payload) is Received.APPLIED
    await device.acknowledge(following)
    await served.publish(item("new", "new"))
    await device.shows("new", "item 1", "item 0")


async def test_a_device_that_changes_its_length_meanwhile_gets_the_others_too(
    served: Served,
) -> None:
    """It moves to a row of another shelf with its frames in flight."""
    sent = await unacknowledging(served, "slow", 3)
    for _ in range(ALONE_AFTER):
        device, _ = await again(served, "slow", 3)
        await device.peer.drop()
    device, frames = await again(served, "slow", 1)
    device.hello(HelloOptions(k=16))
    await device.peer.ping()
    await served.at_rest()
    for expected in sent:
        assert frames[-1].packet_id == expected.packet_id
        await device.acknowledge(frames[-1])
        frames.append(await device.publish())
    assert device.replica.receive(frames[-1].payload) is Received.APPLIED
    assert (device.replica.k, device.shown) == (16, ["item 2", "item 1", "item 0"])


# ---- What does not count


async def test_a_device_that_often_loses_its_link_but_acknowledges_keeps_everything(
    served: Served,
) -> None:
    """Each connection lasts for one PUBACK, the fourth just not."""
    device = await served.subscribed("flaky", clean=False)
    replica = device.replica
    shown = []
    for number in range(3 * LETHAL):
        await served.publish(item(str(number), f"item {number}"))
        shown.insert(0, f"item {number}")
        await device.peer.drop()
        device = await served.device("flaky", replica, clean=False)
        assert device.session_present
        device.hello()
        if number % 4 != 3:
            await device.shows(*shown[:8])
            await device.peer.ping()
    await device.shows(*shown[:8])
    assert served.count("dropped", "poison") == 0
    assert failures(served, "flaky") == 0


async def test_one_acknowledgement_begins_the_count_anew(served: Served) -> None:
    await unacknowledging(served, "slow", 2)
    for _ in range(LETHAL - 2):
        device = await served.device("slow", clean=False)
        await device.publish()
        await device.peer.drop()
    await eventually(lambda: failures(served, "slow"), lambda found: found == LETHAL - 2)
    device, [first] = await again(served, "slow", 1)
    await device.acknowledge(first)
    await device.publish()
    await device.peer.drop()
    # It failed at the second frame, once.
    live = served.server.service.roster.get("slow")
    assert live is not None
    await eventually(lambda: live.connection is None)
    assert failures(served, "slow") == 1


async def test_what_was_never_sent_again_is_no_failure_of_a_connection_that_ends(
    served: Served,
) -> None:
    """Its last PUBACK asks for the next frame, and nobody is there to take it."""
    await unacknowledging(served, "slow", 2)
    for _ in range(ALONE_AFTER):
        device, _ = await again(served, "slow", 2)
        await device.peer.drop()
    device, [first] = await again(served, "slow", 1)
    live = served.server.service.roster.get("slow")
    assert live is not None
    assert live.connection is not None
    live.connection.data_received(encode(Puback(first.packet_id)))
    live.connection.abort("keep_alive")
    await device.peer.expect_closed()
    assert failures(served, "slow") == 0


async def test_a_device_that_says_goodbye_has_not_died(served: Served) -> None:
    """One that wakes to publish a reading and does not wait for what else there is."""
    await unacknowledging(served, "sleepy", 1)
    for _ in range(2 * LETHAL):
        device, _ = await again(served, "sleepy", 1)
        await device.peer.leave()
    assert failures(served, "sleepy") == 0


async def test_a_connection_that_had_not_yet_the_whole_frame_does_not_count(serve: Serve) -> None:
    """What waits on the server's side was never seen by the device."""
    served = await serve()
    device = await served.device("far", Replica(budget=65_536), clean=False)
    device.hello(HelloOptions(budget=65_536))
    await device.subscribe()
    await device.frame()
    await served.publish(item("big", "x" * 60_000))
    await device.publish()
    await device.peer.drop()
    live = served.server.service.roster.get("far")
    assert live is not None
    for _ in range(2 * LETHAL):
        peer = await narrow(served)
        peer.send(Connect("far", clean_session=False))
        await eventually(lambda: live.connection is not None and live.connection.writing_paused)
        await peer.drop()
        await eventually(lambda: live.connection is None)
    assert failures(served, "far") == 0
    _, [publish] = await again(served, "far", 1)
    assert len(publish.payload) > 60_000


async def narrow(served: Served) -> Peer:
    """A connection of which neither end buffers more than a few kilobytes, and nobody reads."""
    before = {c for bucket in served.server.lane._buckets for c in bucket}
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, served.address)
    peer = Peer(*await asyncio.open_connection(sock=sock))
    peer.pause_reading()
    [connection] = await eventually(
        lambda: {c for bucket in served.server.lane._buckets for c in bucket} - before
    )
    connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return peer


async def test_a_frame_sent_for_the_first_time_is_no_failure(served: Served) -> None:
    """It is lost together with its clean session, and so never sent again."""
    for number in range(2 * LETHAL):
        await served.publish(item(str(number), f"item {number}"))
        device = await served.device("forgetful")
        await device.subscribe()
        await device.publish()
        await device.peer.drop()
    assert served.count("frames", "resent") == 0
    assert served.count("dropped", "poison") == 0


@pytest.mark.parametrize("clean", [True, False])
async def test_a_restart_begins_the_count_anew(process: Start, clean: bool) -> None:
    """After a clean stop the frame is still in flight, after kill -9 it is sent for the first time."""
    server = process()
    await server.publish(item("a", "fine"), item("x", "deadly"))
    fragile = Fragile(server, "fragile", b"deadly")
    await fragile.dies(LETHAL - 1)
    if clean:
        server.stop()
    else:
        server.kill()
    server.start()
    await fragile.dies(LETHAL - 1 if clean else LETHAL)
    await fragile.survivor("fine")
    assert server.count("dropped", "poison") == 1


async def test_a_device_that_hangs_and_is_taken_over_has_died_too(served: Served) -> None:
    """Power was lost: nobody told the server that the old connection is gone."""
    device = await served.subscribed("frozen", clean=False)
    await served.publish(item("x", "deadly"))
    await device.publish()
    for _ in range(LETHAL - 1):
        peer = await served.peer()
        peer.send(Connect("frozen", clean_session=False))
        assert await peer.expect(Connack) == Connack(session_present=True, code=0)
        assert (await peer.expect(Publish)).dup
    survivor = await served.device("frozen", device.replica, clean=False)
    assert not survivor.session_present
    survivor.hello()
    await survivor.snapshot()
    assert survivor.shown == []
    assert served.count("dropped", "poison") == 1
