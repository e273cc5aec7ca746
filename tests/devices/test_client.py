"""The client against a scripted server: the test says, packet by packet, what the server does."""

from __future__ import annotations

import contextlib
import math
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest

from devices.client import FeedClient, FeedClientError, RefusedError
from devices.frames import (
    Ack,
    BadUp,
    Bye,
    Delta,
    Event,
    Feedback,
    FeedItem,
    Frame,
    Hello,
    HelloOptions,
    Kind,
    Profile,
    Put,
    Remove,
    Snapshot,
    Up,
    decode_up,
    encode_frame,
)
from devices.packets import (
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    encode,
)
from devices.replica import HelloPacer
from devices.window_file import WindowFile, WindowFileError

PATIENCE = 10.0  # seconds until a test that waits for something fails
P = TypeVar("P", bound=Packet)


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.settimeout(PATIENCE)
        self._decoder = Decoder(role="server", max_packet=100_000)
        self._packets: list[Packet] = []
        self._packet_id = 0

    def read(self, kind: type[P]) -> P:
        """The next packet, which must be of this kind; pings do not count."""
        while not self._packets:
            data = self._sock.recv(4096)
            assert data, f"the client closed the connection before a {kind.__name__}"
            self._packets += [p for p, _ in self._decoder.feed(data) if not isinstance(p, Pingreq)]
        packet = self._packets.pop(0)
        assert isinstance(packet, kind), packet
        return packet

    def read_up(self) -> Up:
        """The next packet, which must be an up message of the kitchen; acknowledged if it has to be."""
        publish = self.read(Publish)
        assert publish.topic == "u/kitchen"
        if publish.qos == 1:
            self.send(Puback(publish.packet_id))
        return decode_up(publish.payload)

    def send(self, *packets: Packet) -> None:
        self._sock.sendall(b"".join(map(encode, packets)))

    def frame(self, frame: Frame | bytes, qos: int = 1) -> int:
        """Send a frame; returns its packet id."""
        self._packet_id += 1
        payload = frame if isinstance(frame, bytes) else encode_frame(frame)
        packet_id = self._packet_id if qos else 0
        self.send(Publish("f/kitchen", payload, qos=qos, packet_id=packet_id))
        return packet_id

    def acked(self, packet_id: int) -> None:
        """The next packet acknowledges this one."""
        assert self.read(Puback).packet_id == packet_id

    def deliver(self, frame: Frame | bytes) -> None:
        """Send a frame and see it acknowledged, with nothing before."""
        self.acked(self.frame(frame))

    def admit(self, session_present: bool = False) -> Hello:
        """Let a client of our own broker in; returns its hello."""
        self.read(Connect)
        self.send(Connack(session_present, 0))
        hello = self.read_up()
        assert isinstance(hello, Hello)
        self.grant()
        return hello

    def grant(self) -> None:
        subscribe = self.read(Subscribe)
        self.send(Suback(subscribe.packet_id, tuple(qos for _, qos in subscribe.filters)))

    def close(self) -> None:
        self._sock.close()


class Server:
    """Accepts connections on 127.0.0.1."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._sock.settimeout(PATIENCE)
        self.port: int = self._sock.getsockname()[1]
        self._peers: list[Peer] = []

    def accept(self) -> Peer:
        sock, _ = self._sock.accept()
        peer = Peer(sock)
        self._peers.append(peer)
        return peer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for peer in self._peers:
            peer.close()
        self._sock.close()


class CountedPauses:
    """Pauses of no length."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)

    def next(self) -> float:
        self.begun.release()
        return 0.0

    def refused(self) -> None:
        pass

    def lost(self, lasted: float) -> int:
        del lasted
        return 0


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def errors() -> queue.Queue[Exception]:
    """What the client told `on_error`."""
    return queue.Queue()


Make = Callable[..., FeedClient]


@pytest.fixture
def make(server: Server, errors: queue.Queue[Exception]) -> Iterator[Make]:
    """Makes clients of the kitchen that are stopped when the test is over."""
    with contextlib.ExitStack() as stack:

        def make_client(**options: Any) -> FeedClient:
            defaults = {
                "port": server.port,
                "on_error": errors.put,
                "flush_after": 60.0,
                "reconnect_after": 0.01,
                "reconnect_at_most": 0.05,
            }
            client = FeedClient("kitchen", **{**defaults, **options})
            stack.callback(client.stop)
            return client

        yield make_client


@pytest.fixture
def client(make: Make) -> FeedClient:
    client = make()
    client.start()
    return client


@pytest.fixture
def peer(server: Server, client: FeedClient) -> Peer:
    """Connected to `client`, which holds 1 2 3 at 5.10."""
    peer = server.accept()
    peer.admit()
    peer.deliver(HELD)
    assert client.wait_for_change(PATIENCE)
    assert numbers(client) == [1, 2, 3]
    return peer


def item(n: int) -> FeedItem:
    return FeedItem(n, 0, 1, f"item {n}")


HELD = Snapshot(5, 10, 8, (item(1), item(2), item(3)))
NEXT = Delta(5, 11, (Put(0, item(4)),))
AFTER_A_GAP = Delta(5, 13, (Remove(0),))


def numbers(client: FeedClient) -> list[int]:
    return [item.n for item in client.window]


def test_the_hello_comes_before_subscribe_and_says_what_the_device_wants(
    server: Server, make: Make
) -> None:
    make(k=16, budget=512, max_qos=2, agent="fridge/2", clock=False).start()
    peer = server.accept()
    peer.read(Connect)
    peer.send(Connack(session_present=False, code=0))
    hello = peer.read_up()
    assert isinstance(hello, Hello)
    assert hello.options is not None
    c = hello.options.c
    assert hello == Hello(0, 0, HelloOptions(16, 512, 2, "fridge/2", c, clock=False))
    assert peer.read(Subscribe).filters == (("f/kitchen", 2),)


def test_client_id_is_the_device_and_the_session_is_kept_by_default(
    server: Server, make: Make
) -> None:
    make().start()
    connect = server.accept().read(Connect)
    assert (connect.client_id, connect.clean_session, connect.username) == ("kitchen", False, None)


def test_with_a_password_the_user_is_the_device(server: Server, make: Make) -> None:
    make(password="s3cret", clean_session=True).start()
    connect = server.accept().read(Connect)
    assert (connect.username, connect.password) == ("kitchen", b"s3cret")
    assert connect.clean_session


def test_frames_become_the_window(peer: Peer, client: FeedClient) -> None:
    peer.deliver(NEXT)
    assert client.wait_for_change(PATIENCE)
    assert client.window == (item(4), item(1), item(2), item(3))
    assert client.position == (5, 11)


def test_waiting_ends_without_a_change_after_the_timeout(peer: Peer, client: FeedClient) -> None:
    peer.deliver(Delta(5, 11, ()))
    assert not client.wait_for_change(0.01)


def test_a_change_from_before_the_wait_is_not_missed(peer: Peer, client: FeedClient) -> None:
    peer.deliver(NEXT)
    assert client.wait_for_change(0)
    assert client.wait_for_change(0)
    assert numbers(client) == [4, 1, 2, 3]
    assert not client.wait_for_change(0)


def test_on_change_is_called_with_each_new_window(server: Server, make: Make) -> None:
    windows: queue.Queue[tuple[FeedItem, ...]] = queue.Queue()
    make(on_change=windows.put).start()
    peer = server.accept()
    peer.admit()
    peer.deliver(HELD)
    peer.deliver(Delta(5, 11, ()))
    peer.deliver(Delta(5, 12, (Remove(0),)))
    assert windows.get(timeout=PATIENCE) == HELD.items
    assert windows.get(timeout=PATIENCE) == HELD.items[1:]
    assert windows.empty()


def test_duplicates_change_nothing_and_are_acknowledged(peer: Peer, client: FeedClient) -> None:
    peer.deliver(NEXT)
    assert numbers(client) == [4, 1, 2, 3]
    peer.deliver(NEXT)
    peer.deliver(HELD)
    assert numbers(client) == [4, 1, 2, 3]
    assert client.position == (5, 11)


def test_a_frame_of_qos_2_applies_once_released(server: Server, make: Make) -> None:
    client = make(max_qos=2)
    client.start()
    peer = server.accept()
    peer.admit()
    packet_id = peer.frame(HELD, qos=2)
    assert peer.read(Pubrec).packet_id == packet_id
    peer.send(Pubrel(packet_id))
    assert peer.read(Pubcomp).packet_id == packet_id
    assert numbers(client) == [1, 2, 3]


def test_a_release_from_before_a_restart_is_completed(server: Server, make: Make) -> None:
    make(max_qos=2).start()
    peer = server.accept()
    peer.admit(session_present=True)
    peer.send(Pubrel(77))
    assert peer.read(Pubcomp).packet_id == 77


def test_a_frame_is_in_the_file_before_it_is_acknowledged(
    server: Server, make: Make, tmp_path: Path
) -> None:
    file = WindowFile(tmp_path / "feed", "kitchen")
    make(state=file.path).start()
    peer = server.accept()
    peer.admit()
    peer.deliver(HELD)
    assert file.load() == HELD
    peer.deliver(NEXT)
    assert file.load() == Snapshot(5, 11, 8, (item(4), item(1), item(2), item(3)))


def test_after_a_restart_the_window_is_there_at_once_and_the_feed_resumes(
    server: Server, make: Make, tmp_path: Path
) -> None:
    WindowFile(tmp_path / "feed", "kitchen").save(HELD)
    client = make(state=tmp_path / "feed")
    assert numbers(client) == [1, 2, 3]
    client.start()
    peer = server.accept()
    hello = peer.admit()
    assert (hello.epoch, hello.seq) == (5, 10)
    peer.deliver(NEXT)
    assert numbers(client) == [4, 1, 2, 3]


def test_a_damaged_file_is_reported_and_the_device_starts_with_nothing(
    server: Server, make: Make, errors: queue.Queue[Exception], tmp_path: Path
) -> None:
    (tmp_path / "feed").write_bytes(b"not a window")
    client = make(state=tmp_path / "feed")
    assert isinstance(errors.get_nowait(), WindowFileError)
    assert client.window == ()
    client.start()
    peer = server.accept()
    hello = peer.admit()
    assert (hello.epoch, hello.seq) == (0, 0)
    peer.deliver(HELD)
    assert WindowFile(tmp_path / "feed", "kitchen").load() == HELD


def test_a_file_that_cannot_be_written_is_reported_and_the_feed_goes_on(
    server: Server, make: Make, errors: queue.Queue[Exception], tmp_path: Path
) -> None:
    client = make(state=tmp_path / "gone" / "feed")
    client.start()
    peer = server.accept()
    peer.admit()
    peer.deliver(HELD)
    assert isinstance(errors.get(timeout=PATIENCE), WindowFileError)
    assert numbers(client) == [1, 2, 3]


def test_a_gap_is_answered_by_a_hello_before_the_acknowledgement(
    peer: Peer, client: FeedClient
) -> None:
    packet_id = peer.frame(AFTER_A_GAP)
    hello = peer.read_up()
    assert isinstance(hello, Hello)
    assert (hello.epoch, hello.seq) == (5, 10)
    peer.acked(packet_id)
    assert numbers(client) == [1, 2, 3]


def test_while_a_hello_waits_for_its_answer_no_other_is_sent(peer: Peer) -> None:
    packet_id = peer.frame(AFTER_A_GAP)
    peer.read_up()
    peer.acked(packet_id)
    peer.deliver(AFTER_A_GAP)
    peer.deliver(AFTER_A_GAP)


def test_once_a_frame_applies_the_next_gap_is_answered_at_once(
    peer: Peer, client: FeedClient
) -> None:
    packet_id = peer.frame(AFTER_A_GAP)
    peer.read_up()
    peer.acked(packet_id)
    peer.deliver(Snapshot(5, 13, 8, (item(9),)))
    packet_id = peer.frame(Delta(5, 15, ()))
    hello = peer.read_up()
    assert isinstance(hello, Hello)
    assert (hello.epoch, hello.seq) == (5, 13)
    peer.acked(packet_id)
    assert numbers(client) == [9]


def test_a_hello_that_is_not_answered_is_repeated_after_its_pause(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HelloPacer, "FIRST", 0.02)
    make().start()
    peer = server.accept()
    peer.admit()
    peer.frame(AFTER_A_GAP, qos=0)
    for _ in range(3):
        assert isinstance(peer.read_up(), Hello)


def test_an_impossible_op_is_answered_by_a_hello_from_nothing(
    peer: Peer, client: FeedClient
) -> None:
    packet_id = peer.frame(Delta(5, 11, (Remove(7),)))
    hello = peer.read_up()
    assert isinstance(hello, Hello)
    assert (hello.epoch, hello.seq) == (0, 0)
    peer.acked(packet_id)
    peer.deliver(Snapshot(5, 12, 8, (item(9),)))
    assert numbers(client) == [9]


def test_bytes_that_are_no_frame_are_acknowledged_and_reported(
    peer: Peer, client: FeedClient, errors: queue.Queue[Exception]
) -> None:
    peer.deliver(b"\xc1")
    assert isinstance(errors.get(timeout=PATIENCE), FeedClientError)
    peer.deliver(NEXT)
    assert numbers(client) == [4, 1, 2, 3]


def test_inside_our_broker_puback_is_the_only_ack(peer: Peer, client: FeedClient) -> None:
    peer.deliver(NEXT)
    assert client._ack_at == math.inf


def test_errors_that_nobody_asked_for_are_logged(
    server: Server, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    make(on_error=None).start()
    peer = server.accept()
    peer.admit()
    peer.frame(b"\xc1")
    peer.read(Puback)
    (record,) = caplog.records
    assert record.getMessage() == "kitchen: 1 bytes that are no frame"


def test_a_frame_for_another_device_is_not_taken(peer: Peer, client: FeedClient) -> None:
    peer.send(Publish("f/hall", encode_frame(NEXT), qos=1, packet_id=900))
    peer.acked(900)
    assert numbers(client) == [1, 2, 3]


def test_an_error_in_on_change_is_reported_and_ends_nothing(
    server: Server, make: Make, errors: queue.Queue[Exception]
) -> None:
    def fail(window: tuple[FeedItem, ...]) -> None:
        raise ZeroDivisionError(len(window))

    client = make(on_change=fail)
    client.start()
    peer = server.accept()
    peer.admit()
    peer.deliver(HELD)
    assert isinstance(errors.get(timeout=PATIENCE), ZeroDivisionError)
    peer.deliver(NEXT)
    assert numbers(client) == [4, 1, 2, 3]


def test_after_a_lost_connection_the_device_resumes_from_its_position(
    server: Server, peer: Peer, client: FeedClient
) -> None:
    peer.deliver(NEXT)
    peer.close()
    again = server.accept()
    hello = again.admit(session_present=True)
    assert (hello.epoch, hello.seq) == (5, 11)
    again.deliver(Delta(5, 12, (Remove(0),)))
    assert numbers(client) == [1, 2, 3]


def test_after_every_lost_connection_the_client_pauses(server: Server, make: Make) -> None:
    client = make()
    pauses = client._pauses = CountedPauses()  # type: ignore[assignment]
    client.start()
    for _ in range(2):
        peer = server.accept()
        peer.admit()
        peer.close()
        assert pauses.begun.acquire(timeout=PATIENCE)
    server.accept().admit()


def test_by_default_a_fleet_that_lost_its_server_leaves_it_alone_for_a_second() -> None:
    first = [FeedClient("kitchen")._pauses.next() for _ in range(200)]
    assert min(first) >= 1.0
    assert max(first) - min(first) > 0.5


def test_each_connection_draws_another_c(server: Server, make: Make) -> None:
    make().start()
    drawn = set()
    for _ in range(3):
        peer = server.accept()
        hello = peer.admit()
        assert hello.options is not None
        drawn.add(hello.options.c)
        peer.close()
    assert len(drawn) == 3


def refuse(peer: Peer, code: int) -> float:
    """Answer CONNECT with this code and close, as a server does; returns when."""
    peer.read(Connect)
    peer.send(Connack(session_present=False, code=code))
    refused_at = time.monotonic()
    peer.close()
    return refused_at


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (2, "client id"),
        (4, "user name, password or token is wrong"),
        (5, "unknown, revoked, without credentials"),
    ],
)
def test_a_refusal_is_reported_and_the_next_try_comes_after_the_longest_pause(
    server: Server, make: Make, errors: queue.Queue[Exception], code: int, words: str
) -> None:
    make(password="s3cret", reconnect_after=0.001, reconnect_at_most=0.4).start()
    for _ in range(2):
        refused_at = refuse(server.accept(), code)
        error = errors.get(timeout=PATIENCE)
        assert isinstance(error, RefusedError)
        assert error.code == code
        assert words in str(error)
        assert "s3cret" not in str(error)
    again = server.accept()
    assert time.monotonic() - refused_at >= 0.2  # the longest, shortened by half at most
    again.admit()
    assert errors.empty()


def test_a_server_that_is_only_busy_is_not_left_alone_for_the_longest_pause(
    server: Server, make: Make, errors: queue.Queue[Exception]
) -> None:
    make(reconnect_after=0.001, reconnect_at_most=3_600).start()
    refuse(server.accept(), 3)
    server.accept().admit()
    error = errors.get(timeout=PATIENCE)
    assert isinstance(error, RefusedError)
    assert error.code == 3


def test_a_server_that_hangs_up_instead_of_answering_is_reported(
    server: Server, make: Make, errors: queue.Queue[Exception]
) -> None:
    make().start()
    peer = server.accept()
    peer.read(Connect)
    peer.close()
    error = errors.get(timeout=PATIENCE)
    assert isinstance(error, RefusedError)
    assert error.code is None
    assert "before it answered" in str(error)
    server.accept().admit()


def test_connections_that_are_lost_soon_after_they_were_accepted_are_reported_once(
    server: Server, make: Make, errors: queue.Queue[Exception]
) -> None:
    """As where two clients with one id throw each other out: 3.1.1 has no word for it."""
    make(reconnect_after=0.001, reconnect_at_most=30.0).start()
    for lost in range(5):
        peer = server.accept()
        assert errors.qsize() == (lost > 2)
        peer.admit()
        peer.close()
    server.accept().admit()
    assert "another client may use the id kitchen" in str(errors.get_nowait())
    assert errors.empty()


def test_connections_that_lasted_are_no_reason_to_worry(
    server: Server, make: Make, errors: queue.Queue[Exception]
) -> None:
    """Against a longest pause so short that every connection lasts."""
    make(reconnect_after=0.0, reconnect_at_most=0.0).start()
    for _ in range(5):
        peer = server.accept()
        peer.admit()
        peer.close()
    server.accept().admit()
    assert errors.empty()


def test_an_application_may_give_up_when_it_is_refused(server: Server, make: Make) -> None:
    given_up = threading.Event()

    def give_up(error: Exception) -> None:
        assert isinstance(error, RefusedError)
        client.stop()
        given_up.set()

    before = threading.active_count()
    client = make(on_error=give_up, reconnect_at_most=60.0)
    client.start()
    refuse(server.accept(), 5)
    assert given_up.wait(PATIENCE)
    assert not client.wait_for_change(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()


def test_a_client_that_pauses_after_a_refusal_can_be_stopped(
    server: Server, make: Make, errors: queue.Queue[Exception]
) -> None:
    client = make(reconnect_after=3_600.0, reconnect_at_most=3_600.0)
    client.start()
    refuse(server.accept(), 5)
    errors.get(timeout=PATIENCE)
    began = time.monotonic()
    client.stop()
    assert time.monotonic() - began < PATIENCE


def test_a_refused_subscription_is_reported(
    server: Server, make: Make, errors: queue.Queue[Exception]
) -> None:
    make().start()
    peer = server.accept()
    peer.read(Connect)
    peer.send(Connack(session_present=False, code=0))
    peer.read_up()
    peer.send(Suback(peer.read(Subscribe).packet_id, (0x80,)))
    assert "f/kitchen" in str(errors.get(timeout=PATIENCE))


def test_without_a_broker_the_client_goes_on_trying_and_can_be_stopped(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    client = make(port=port)
    pauses = client._pauses = CountedPauses()  # type: ignore[assignment]
    client.start()
    for _ in range(3):
        assert pauses.begun.acquire(timeout=PATIENCE)
    client.stop()


def test_feedback_goes_out_as_one_message(peer: Peer, client: FeedClient) -> None:
    client.shown(1, rank=0)
    client.shown(2, rank=1)
    client.opened(1)
    client.dismissed(2)
    client.dwell(1, 44.6)
    client.flush()
    feedback = peer.read_up()
    assert isinstance(feedback, Feedback)
    assert [(event.n, event.kind, event.value) for event in feedback.events] == [
        (1, Kind.SHOWN, 0),
        (2, Kind.SHOWN, 1),
        (1, Kind.OPENED, None),
        (2, Kind.DISMISSED, None),
        (1, Kind.DWELL, 45),
    ]


def test_feedback_is_held_back_for_the_time_it_is_collected(peer: Peer, client: FeedClient) -> None:
    client.opened(1)
    client.opened(2)
    assert 50 < client._flush_at - time.monotonic() <= 60
    peer.deliver(NEXT)


def test_no_dwell_is_shorter_than_nothing(peer: Peer, client: FeedClient) -> None:
    client.dwell(1, -3)
    client.dwell(2, 0.2)
    client.flush()
    assert peer.read_up() == Feedback((Event(1, Kind.DWELL, 0), Event(2, Kind.DWELL, 0)))


def test_feedback_is_flushed_by_itself_after_a_while(server: Server, make: Make) -> None:
    client = make(flush_after=0.01)
    client.start()
    peer = server.accept()
    peer.admit()
    peer.deliver(HELD)
    client.opened(3)
    assert peer.read_up() == Feedback((Event(3, Kind.OPENED),))


def test_feedback_from_before_the_connection_is_sent_once_there_is_one(
    server: Server, make: Make
) -> None:
    client = make(flush_after=0.01)
    client.opened(3)
    client.flush()
    client.start()
    peer = server.accept()
    peer.admit()
    feedback = peer.read_up()
    assert isinstance(feedback, Feedback)
    assert [(event.n, event.kind) for event in feedback.events] == [(3, Kind.OPENED)]


def test_feedback_that_the_server_would_refuse_is_an_error_at_once(client: FeedClient) -> None:
    with pytest.raises(BadUp):
        client.opened(0)
    with pytest.raises(BadUp):
        client.shown(1, rank=-1)


def test_following_and_attributes_are_said_at_qos_1(peer: Peer, client: FeedClient) -> None:
    client.follow("alerts/+/ca", "recipes/#")
    client.unfollow("#")
    client.set_attrs(tz="UTC", floor=3)
    assert peer.read_up() == Profile(follow=("alerts/+/ca", "recipes/#"))
    assert peer.read_up() == Profile(unfollow=("#",))
    assert peer.read_up() == Profile(attrs={"tz": "UTC", "floor": 3})


def test_what_is_followed_before_the_connection_is_said_after_the_hello(
    server: Server, make: Make
) -> None:
    client = make()
    client.follow("alerts/#")
    client.start()
    peer = server.accept()
    peer.admit()
    assert peer.read_up() == Profile(follow=("alerts/#",))


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a" * 129, "a/b/c/d/e/f/g/h/i"])
def test_a_filter_that_the_server_would_refuse_is_an_error_at_once(
    client: FeedClient, topic_filter: str
) -> None:
    with pytest.raises(ValueError, match="bad_filter"):
        client.follow(topic_filter)


def test_more_profile_changes_than_can_wait_are_an_error(make: Make) -> None:
    client = make()
    for n in range(100):
        client.set_attrs(floor=n)
    with pytest.raises(FeedClientError, match="100 messages wait"):
        client.set_attrs(floor=100)


def test_stopping_sends_what_is_collected_and_says_bye(server: Server, make: Make) -> None:
    client = make()
    client.start()
    peer = server.accept()
    hello = peer.admit()
    peer.deliver(HELD)
    client.opened(1)
    client.stop()
    assert hello.options is not None
    assert hello.options.c is not None
    assert peer.read_up() == Feedback((Event(1, Kind.OPENED),))
    assert peer.read_up() == Bye(hello.options.c)
    peer.read(Disconnect)


def test_stopping_ends_every_thread_and_every_wait(server: Server, make: Make) -> None:
    before = threading.active_count()
    with make() as client:
        server.accept().admit()
        waiting = threading.Thread(target=client.wait_for_change, args=(PATIENCE,))
        waiting.start()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert threading.active_count() == before
    client.stop()
    assert not client.wait_for_change(PATIENCE)


def test_a_client_starts_once(client: FeedClient) -> None:
    with pytest.raises(FeedClientError, match="once"):
        client.start()


class TestBesideAnOutsideBroker:
    @pytest.fixture
    def client(self, make: Make) -> FeedClient:
        client = make(outside_broker=True, prefix="home/")
        client.start()
        return client

    @staticmethod
    def up(peer: Peer) -> Up:
        publish = peer.read(Publish)
        assert publish.topic == "home/u/kitchen"
        return decode_up(publish.payload)

    def test_the_hello_waits_for_suback_and_the_will_is_a_bye_with_its_c(
        self, server: Server, client: FeedClient
    ) -> None:
        peer = server.accept()
        will = peer.read(Connect).will
        peer.send(Connack(session_present=False, code=0))
        subscribe = peer.read(Subscribe)
        assert subscribe.filters == (("home/f/kitchen", 1),)
        peer.send(Suback(subscribe.packet_id, (1,)))
        hello = self.up(peer)
        assert isinstance(hello, Hello)
        assert hello.options is not None
        assert hello.options.c is not None
        assert will is not None
        assert will.topic == "home/u/kitchen"
        assert decode_up(will.payload) == Bye(hello.options.c)
        assert client.position == (0, 0)

    @pytest.mark.parametrize("qos", [0, 1])
    def test_frames_are_acked_by_message_once_for_all_that_came_together(
        self, server: Server, client: FeedClient, qos: int
    ) -> None:
        peer = server.accept()
        peer.read(Connect)
        peer.send(Connack(session_present=False, code=0))
        peer.grant()
        self.up(peer)
        together = [
            Publish("home/f/kitchen", encode_frame(frame), qos=qos, packet_id=packet_id)
            for packet_id, frame in ((qos, HELD), (2 * qos, NEXT))
        ]
        peer.send(*together)
        for publish in together[: 2 * qos]:
            peer.acked(publish.packet_id)
        assert self.up(peer) == Ack(5, 11)
        # One that comes again: its ack may have been lost.
        peer.send(Publish("home/f/kitchen", encode_frame(NEXT)))
        assert self.up(peer) == Ack(5, 11)
        assert numbers(client) == [4, 1, 2, 3]
