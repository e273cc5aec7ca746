"""The outgoing side of a session: order, window, bounds, what is sent again."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.lane.outbox import FIRST_ID, LAST_ID, Message, Outbox
from devices.packets import Decoder, Packet, Publish, Pubrel


def outbox(window: int = 2, max_messages: int = 4, max_bytes: int = 100_000) -> Outbox:
    return Outbox(window=window, max_messages=max_messages, max_bytes=max_bytes)


def message(number: int, qos: int = 1) -> Message:
    return Message("home", b"%d" % number, qos)


def decoded(*packets: bytes) -> list[Packet]:
    return [
        packet for packet, _ in Decoder(role="client", max_packet=1 << 20).feed(b"".join(packets))
    ]


def sent(box: Outbox) -> list[Publish]:
    """Everything that may be sent now."""
    found = []
    while (packet := box.next()) is not None:
        (publish,) = decoded(packet)
        assert isinstance(publish, Publish)
        found.append(publish)
    return found


def test_messages_leave_in_order_and_within_the_window() -> None:
    box = outbox()
    for number in range(4):
        assert box.add(message(number), 1)
    first = sent(box)
    assert [each.payload for each in first] == [b"0", b"1"]
    assert box.acknowledged(first[1].packet_id)
    assert [each.payload for each in sent(box)] == [b"2"]


def test_identifiers_stay_in_their_half_and_skip_what_is_in_flight() -> None:
    box = outbox(max_messages=100_000)
    box.add(message(0), 1)
    (stays,) = sent(box)
    assert stays.packet_id == FIRST_ID
    seen = set()
    for number in range(LAST_ID - FIRST_ID + 5):
        box.add(message(number), 1)
        (publish,) = sent(box)
        assert FIRST_ID < publish.packet_id <= LAST_ID
        seen.add(publish.packet_id)
        assert box.acknowledged(publish.packet_id)
    assert len(seen) == LAST_ID - FIRST_ID


def test_a_full_outbox_refuses_and_says_so() -> None:
    box = outbox(window=1, max_messages=2)
    assert box.add(message(0), 1)
    sent(box)
    assert box.add(message(1), 1)
    assert box.add(message(2), 1)
    assert not box.add(message(3), 1)
    small = outbox(max_messages=100, max_bytes=2 * Message("t", bytes(90)).size - 1)
    taken = [small.add(Message("t", bytes(90)), 1) for _ in range(4)]
    assert taken == [True, True, False, False]


def test_what_waits_at_qos_0_goes_with_the_connection() -> None:
    box = outbox(window=1)
    box.add(message(0), 1)
    sent(box)
    box.add(message(1, 1), 1)
    box.add(message(2, 0), 0)
    assert box.disconnected() == 1
    assert box.waiting == 1
    assert box.bytes == message(1).size


def test_a_resumed_session_gets_publish_with_dup_and_pubrel_where_pubrec_had_come() -> None:
    box = outbox(window=3)
    for number in range(3):
        box.add(message(number, 2), 2)
    ids = [each.packet_id for each in sent(box)]
    box.received(ids[0])
    assert decoded(*box.again()) == [
        Publish("home", b"1", 2, ids[1], dup=True),
        Publish("home", b"2", 2, ids[2], dup=True),
        Pubrel(ids[0]),
    ]
    assert not box.acknowledged(ids[1]), "PUBACK ends no delivery of QoS 2"
    assert not box.completed(ids[1]), "PUBCOMP without PUBREC ends none either"
    assert box.completed(ids[0])
    assert not box.completed(ids[0])


def test_retained_messages_keep_their_flag_when_they_are_sent_again() -> None:
    box = outbox(max_messages=3)
    for number in range(3):
        assert box.add(message(number), number % 2, retain=True)
    assert [(each.payload, each.retain) for each in sent(box)] == [
        (b"0", True),
        (b"1", True),
        (b"2", True),
    ]
    (again,) = decoded(*box.again())
    assert again == Publish("home", b"1", 1, FIRST_ID, retain=True, dup=True)


class Session(RuleBasedStateMachine):
    """A session and its client over connections that break at any point.

    The client is the model: it does with each packet what MQTT 3.1.1 says (4.3), and whatever it has
    not yet read is lost when the connection goes.
    """

    WINDOW, ROOM = 3, 5

    def __init__(self) -> None:
        super().__init__()
        self.box = outbox(self.WINDOW, self.ROOM)
        self.connected = True
        self.down: deque[Packet] = deque()
        self.up: deque[tuple[str, int]] = deque()
        self.accepted: dict[int, list[int]] = {1: [], 2: []}
        self.got: dict[int, list[int]] = {1: [], 2: []}
        self.known: set[int] = set()  # QoS 2 identifiers that the client must not deliver again
        self.number = 0

    def _send(self) -> None:
        while self.connected and (packet := self.box.next()) is not None:
            self.down.extend(decoded(packet))

    @rule(qos=st.sampled_from([0, 1, 2]))
    def publish(self, qos: int) -> None:
        self.number += 1
        waiting = self.box.waiting
        if qos == 0 and not self.connected:
            return  # the exchange does not even ask
        taken = self.box.add(message(self.number, qos), qos)
        assert taken == (waiting < self.ROOM)
        if taken and qos:
            self.accepted[qos].append(self.number)
        self._send()

    @precondition(lambda self: self.down)
    @rule()
    def client_reads(self) -> None:
        packet = self.down.popleft()
        if isinstance(packet, Publish):
            number = int(packet.payload)
            if packet.qos == 1:
                if number not in self.got[1]:
                    self.got[1].append(number)
                self.up.append(("puback", packet.packet_id))
            elif packet.qos == 2:
                if packet.packet_id not in self.known:
                    self.known.add(packet.packet_id)
                    self.got[2].append(number)
                self.up.append(("pubrec", packet.packet_id))
        else:
            assert isinstance(packet, Pubrel)
            self.known.discard(packet.packet_id)
            self.up.append(("pubcomp", packet.packet_id))

    @precondition(lambda self: self.up)
    @rule()
    def server_reads(self) -> None:
        kind, packet_id = self.up.popleft()
        if kind == "puback":
            self.box.acknowledged(packet_id)
        elif kind == "pubrec":
            self.box.received(packet_id)
            self.down.append(Pubrel(packet_id))
        else:
            self.box.completed(packet_id)
        self._send()

    @precondition(lambda self: self.connected)
    @rule()
    def connection_breaks(self) -> None:
        self.connected = False
        self.down.clear()
        self.up.clear()
        self.box.disconnected()

    @precondition(lambda self: not self.connected)
    @rule()
    def client_returns(self) -> None:
        self.connected = True
        self.down.extend(decoded(*self.box.again()))
        self._send()

    @invariant()
    def window_and_room_are_kept(self) -> None:
        assert len(self.box) - self.box.waiting <= self.WINDOW
        assert self.box.waiting <= self.ROOM

    @invariant()
    def nothing_comes_out_of_order_or_twice(self) -> None:
        for qos in (1, 2):
            assert self.got[qos] == self.accepted[qos][: len(self.got[qos])]

    def teardown(self) -> None:
        """Given a connection that works, everything that was accepted arrives."""
        if not self.connected:
            self.client_returns()
        while self.down or self.up:
            while self.down:
                self.client_reads()
            while self.up:
                self.server_reads()
        assert self.got == self.accepted
        assert len(self.box) == 0
        assert self.box.bytes == 0


TestSession = Session.TestCase
TestSession.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
