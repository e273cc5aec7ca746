"""The MicroPython client against a scripted server: the test says, packet by packet, what the server does."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from devices.frames import (
    Delta,
    Event,
    Feedback,
    FeedItem,
    Hello,
    HelloOptions,
    Kind,
    Profile,
    Put,
    Remove,
    Snapshot,
    decode_frame,
)
from devices.packets import Connack, Connect, Disconnect, Pingresp, Puback, Publish
from devices.up_messages import Bye
from tests.devices.micropython.support import Client, Server

if TYPE_CHECKING:
    from pathlib import Path

ONE = FeedItem(1, 0, 1, "one")
TWO = FeedItem(2, 0, 1, "two")
START = Snapshot(7, 1, 8, (ONE,))
SKIPPED = Delta(7, 9, (Remove(0),))
"""A delta that starts where the device is not."""


@pytest.mark.parametrize("robust", [False, True], ids=["simple", "robust"])
def test_it_says_hello_subscribes_and_shows_what_comes(server: Server, robust: bool) -> None:
    with Client(server.port, robust=robust, feed={"k": 5, "budget": 300, "clock": True}) as device:
        peer, hello = server.admit()
        assert (hello.epoch, hello.seq) == (0, 0)
        asked = hello.options
        assert asked is not None
        assert asked.c is not None
        assert asked == HelloOptions(5, 300, 1, "micropython", asked.c, clock=True)
        peer.deliver(START)
        device.shows("one")
        peer.deliver(Delta(7, 2, (Put(0, TWO),)))
        device.shows("two", "one")


def test_its_session_is_persistent_and_its_keep_alive_announced(server: Server) -> None:
    with Client(server.port, feed={"keepalive": 45}):
        connect = server.accept().read(Connect)
        assert (connect.client_id, connect.clean_session, connect.keep_alive) == (
            "kitchen",
            False,
            45,
        )


def test_the_same_frame_again_changes_nothing_and_is_acknowledged(server: Server) -> None:
    with Client(server.port) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        again = Delta(7, 2, (Put(0, TWO),))
        peer.deliver(again)
        peer.deliver(again)
        peer.deliver(Delta(7, 3, (Remove(1),)))
        device.shows("two")


def test_a_frame_is_in_the_flash_before_it_is_acknowledged(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "feed"
    with Client(server.port, feed={"path": str(path)}):
        peer, _ = server.admit()
        for seq in range(1, 20):
            peer.deliver(Snapshot(7, seq, 8, (ONE,)))
            kept = decode_frame(path.read_bytes()[4:])
            assert kept == Snapshot(7, seq, 8, (ONE,))


def test_after_a_power_loss_it_shows_what_it_had_and_names_its_position(
    server: Server, tmp_path: Path
) -> None:
    feed = {"path": str(tmp_path / "feed")}
    with Client(server.port, feed=feed) as device:
        peer, _ = server.admit()
        peer.deliver(Snapshot(7, 3, 8, (TWO, ONE)))
        device.kill()
    with Client(server.port, feed=feed) as device:
        device.shows("two", "one")
        peer, hello = server.admit(session_present=True)
        assert (hello.epoch, hello.seq) == (7, 3)
        peer.deliver(Delta(7, 4, (Remove(0),)))
        device.shows("one")


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, None], ids=["empty", "overwritten", "a bit"])
def test_a_damaged_file_counts_as_nothing(
    server: Server, tmp_path: Path, damage: bytes | None
) -> None:
    path = tmp_path / "feed"
    with Client(server.port, feed={"path": str(path)}):
        server.admit()[0].deliver(START)
    kept = bytearray(path.read_bytes())
    kept[-1] ^= 1
    path.write_bytes(bytes(kept) if damage is None else damage)
    with Client(server.port, feed={"path": str(path)}) as device:
        _, hello = server.admit()
        assert (hello.epoch, hello.seq) == (0, 0)
        device.hear("window")
        assert device.window == []


def test_without_room_on_the_flash_it_goes_on_and_says_so(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "gone" / "feed"
    with Client(server.port, feed={"path": str(path)}) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        peer.deliver(Delta(7, 2, (Put(0, TWO),)))
        device.shows("two", "one")
        assert device.hear("error") == "OSError(2,)"


def test_a_packet_of_exactly_the_budget_is_taken(server: Server) -> None:
    with Client(server.port) as device:
        peer, _ = server.admit()
        text = "x" * 228
        packet = peer.packet(Snapshot(7, 1, 8, (FeedItem(1, 0, 1, text),)))
        assert len(packet) == 256
        peer.send(packet)
        peer.read(Puback)
        device.shows(text)


def test_bytes_may_come_one_at_a_time(server: Server) -> None:
    with Client(server.port) as device:
        peer, _ = server.admit()
        for byte in peer.packet(START):
            peer.send(bytes((byte,)))
        peer.read(Puback)
        device.shows("one")


def test_a_gap_is_answered_by_one_hello_until_a_frame_applies(server: Server) -> None:
    with Client(server.port) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        peer.deliver(SKIPPED)
        hello = peer.read_up()
        assert isinstance(hello, Hello)
        assert (hello.epoch, hello.seq) == (7, 1)
        peer.deliver(SKIPPED)
        device.do("feedback", 1, 1)
        assert isinstance(peer.read_up(), Feedback)
        peer.deliver(Delta(7, 2, (Put(0, TWO),)))
        peer.deliver(SKIPPED)
        hello = peer.read_up()
        assert isinstance(hello, Hello)
        assert (hello.epoch, hello.seq) == (7, 2)


def test_a_hello_that_nobody_answers_is_repeated_after_doubling_pauses(server: Server) -> None:
    with Client(server.port, faster=60, feed={"keepalive": 6000}) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        peer.deliver(SKIPPED)
        assert isinstance(peer.read_up(), Hello)
        times = [time.monotonic()]
        for _ in range(3):
            assert isinstance(peer.read_up(), Hello)
            times.append(time.monotonic())
        pauses = [60 * (after - before) for before, after in pairwise(times)]
        for pause, least in zip(pauses, (30, 60, 120), strict=True):
            assert least - 6 < pause < least * 1.5 + 20
        assert device.errors == []


def test_an_impossible_op_gives_the_position_up_and_keeps_the_items(server: Server) -> None:
    with Client(server.port) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        peer.deliver(Delta(7, 2, (Remove(5),)))
        hello = peer.read_up()
        assert isinstance(hello, Hello)
        assert (hello.epoch, hello.seq) == (0, 0)
        device.shows("one")
        peer.deliver(Snapshot(7, 3, 8, (TWO,)))
        device.shows("two")


@pytest.mark.parametrize("robust", [False, True], ids=["simple", "robust"])
def test_a_lost_connection_is_made_again_and_subscribed_again(server: Server, robust: bool) -> None:
    with Client(server.port, robust=robust, faster=5) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        lost = time.monotonic()
        peer.close()
        peer, hello = server.admit()
        assert 5 * (time.monotonic() - lost) >= 0.95
        assert (hello.epoch, hello.seq) == (7, 1)
        peer.deliver(Delta(7, 2, (Put(0, TWO),)))
        device.shows("two", "one")


def test_a_connection_that_ends_inside_a_frame_leaves_the_window_as_it_was(server: Server) -> None:
    with Client(server.port, faster=5) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        peer.send(peer.packet(Delta(7, 2, (Put(0, TWO),)))[:-3])
        peer.close()
        peer, hello = server.admit()
        assert (hello.epoch, hello.seq) == (7, 1)
        peer.deliver(Delta(7, 2, (Put(0, TWO),)))
        device.shows("two", "one")


@pytest.mark.parametrize("robust", [False, True], ids=["simple", "robust"])
def test_pauses_between_tries_double_and_differ(server: Server, robust: bool) -> None:
    with Client(server.port, faster=20, robust=robust):
        times = []
        for _ in range(6):
            peer = server.accept()
            times.append(time.monotonic())
            peer.read(Connect)
            peer.close()
    pauses = [20 * (after - before) for before, after in pairwise(times)]
    for number, pause in enumerate(pauses):
        longest = 2.0 * 2**number
        assert longest / 2 - 0.5 < pause < longest + 3, pauses


def test_two_devices_do_not_come_in_step(server: Server) -> None:
    drawn = set()
    for _ in range(3):
        with Client(server.port):
            _, hello = server.admit()
            assert hello.options is not None
            drawn.add(hello.options.c)
    assert len(drawn) == 3


def test_a_refusal_is_followed_by_the_longest_pause(server: Server) -> None:
    with Client(server.port, faster=20) as device:
        peer = server.accept()
        peer.read(Connect)
        refused = time.monotonic()
        peer.send(Connack(False, 5))
        assert "MQTTException" in device.hear("error")
        server.accept()
        assert 20 * (time.monotonic() - refused) > 29


def test_it_pings_and_gives_a_connection_up_that_does_not_answer(server: Server) -> None:
    with Client(server.port, faster=20, feed={"keepalive": 20}) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        peer.answers_pings = False
        assert peer.next() is None
        assert peer.pings >= 1
        assert "no answer" in device.hear("error")
        server.admit()


def test_a_server_that_falls_silent_inside_a_frame_is_given_up(server: Server) -> None:
    with Client(server.port, faster=5, feed={"keepalive": 1}) as device:
        peer, _ = server.admit()
        peer.send(peer.packet(START)[:9])
        assert device.hear("error") == "OSError(110,)"  # ETIMEDOUT
        peer, _ = server.admit()
        peer.deliver(START)
        device.shows("one")


def test_a_connection_with_answered_pings_lasts(server: Server) -> None:
    with Client(server.port, faster=20, feed={"keepalive": 10}) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        peer.see_pings(4)
        peer.deliver(Delta(7, 2, (Put(0, TWO),)))
        device.shows("two", "one")
        assert device.errors == []


def test_what_comes_while_it_waits_for_an_acknowledgement_counts_as_an_answer(
    server: Server,
) -> None:
    with Client(server.port, faster=20, feed={"keepalive": 10}) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        peer.answers_pings = False
        while peer.pings < 4:
            device.do("feedback", 1, 1)
            publish = peer.read(Publish)
            peer.send(Pingresp(), Puback(publish.packet_id))
        assert device.errors == []


def test_a_frame_too_large_for_the_memory_is_not_acknowledged(server: Server) -> None:
    with Client(server.port, heap=64, faster=5) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        peer.send(peer.packet(Snapshot(7, 2, 8, (FeedItem(9, 0, 1, "x" * 60_000),))))
        assert "MemoryError" in device.hear("error")
        assert peer.next() is None
        peer, hello = server.admit()
        assert (hello.epoch, hello.seq) == (7, 1)
        peer.deliver(Delta(7, 2, (Put(0, TWO),)))
        device.shows("two", "one")


def test_what_people_did_before_it_was_connected_is_sent_with_its_age(server: Server) -> None:
    with Client(server.port) as device:
        peer = server.accept()
        peer.read(Connect)
        peer.close()
        device.hear("error")
        device.do("feedback", 1, 0, 2)
        device.do("feedback", 1, 2)
        peer, _ = server.admit()
        sent = peer.read_up()
        assert isinstance(sent, Feedback)
        assert [(e.n, e.kind, e.value) for e in sent.events] == [
            (1, Kind.SHOWN, 2),
            (1, Kind.DISMISSED, None),
        ]
        assert all(e.age is not None and e.age <= 5 for e in sent.events)


def test_events_grow_old_while_they_wait(server: Server) -> None:
    with Client(server.port, faster=20) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        device.do("feedback", 1, 1)
        peer.read(Publish)
        waited = time.monotonic()
        peer.close()
        peer, _ = server.admit()
        sent = peer.read_up()
        assert isinstance(sent, Feedback)
        age = sent.events[0].age
        assert age is not None
        assert 1 <= age <= 20 * (time.monotonic() - waited) + 5


def test_feedback_that_was_not_acknowledged_is_sent_again(server: Server) -> None:
    with Client(server.port, faster=5) as device:
        peer, _ = server.admit()
        peer.deliver(START)
        device.do("feedback", 1, 3, 45)
        assert peer.read(Publish).qos == 1
        peer.close()
        peer, _ = server.admit()
        sent = peer.read_up()
        assert isinstance(sent, Feedback)
        assert [(e.n, e.kind, e.value) for e in sent.events] == [(1, Kind.DWELL, 45)]


def test_the_oldest_feedback_goes_first_and_is_counted(server: Server) -> None:
    with Client(server.port) as device:
        peer = server.accept()
        peer.read(Connect)
        peer.close()
        device.hear("error")
        for n in range(1, 21):
            device.do("feedback", n, 1)
        counts = [device.hear("dropped") for _ in range(20)]
        assert counts[-1] == 4
        peer, _ = server.admit()
        sent = peer.read_up()
        assert isinstance(sent, Feedback)
        assert [event.n for event in sent.events] == list(range(5, 21))


def test_a_profile_is_sent_once_and_acknowledged(server: Server) -> None:
    with Client(server.port) as device:
        peer, _ = server.admit()
        device.do("profile", {"follow": ["alerts/+/ca"], "attrs": {"tz": "UTC"}})
        assert peer.read_up() == Profile(follow=("alerts/+/ca",), attrs={"tz": "UTC"})
        device.do("feedback", 1, 1)
        assert peer.read_up() == Feedback((Event(1, Kind.OPENED, None, 0),))


def test_before_a_sleep_it_says_bye_and_disconnects(server: Server) -> None:
    with Client(server.port) as device:
        peer, hello = server.admit()
        assert hello.options is not None
        device.do("bye")
        assert peer.read_up() == Bye(hello.options.c or 0)
        peer.read(Disconnect)
        assert peer.next() is None
        assert device.wait() == 0


def test_frames_of_other_topics_are_none_of_its_business(server: Server) -> None:
    with Client(server.port) as device:
        peer, _ = server.admit()
        peer.send(Publish("f/cellar", peer.packet(START), qos=0))
        peer.deliver(START)
        device.shows("one")
