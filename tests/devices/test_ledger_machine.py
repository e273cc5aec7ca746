"""The ledger against real replicas, through everything that a link, a device and a server can do.

The server around the ledger is in miniature here: what `broker.positions` and `broker.roster` do with
subscriptions, hellos and epochs, on one page and without a clock. What a position names is written down
when its frame is sent, so that every window that a device ever holds is held against it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from devices import slots
from devices.frames import (
    Delta,
    FeedItem,
    Hello,
    HelloOptions,
    Move,
    Put,
    Snapshot,
    decode_frame,
    decode_up,
    encode_up,
    item_bytes,
    payload_capacity,
)
from devices.inflight import ALONE_AFTER
from devices.ledger import Answer, Ledger
from devices.packets import publish_head, topic_field
from devices.replica import Received, Replica, apply_ops

COLUMNS = 8
POLICY = (0, 1, 2, 1)
TOPIC = topic_field("f/d")
BUDGETS = (96, 128, 400)
MAX_EPOCH = 2**32 - 2**16

Window = tuple[FeedItem, ...]
Position = tuple[int, int]


class Form:
    """An item whose payload is made from its slot."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.full_size = 6 + slots.number(slot) % 40

    def encoded(self, *, clock: bool, brief: bool) -> bytes:
        text = f"v{slots.version(self.slot)}".ljust(6 if brief else self.full_size, ".")
        expires = 1_800_000_000 if clock else 0
        return item_bytes(slots.number(self.slot), expires, slots.priority(self.slot), text)


class Forms(dict[int, Form]):
    def __missing__(self, slot: int) -> Form:
        self[slot] = Form(slot)
        return self[slot]


FORMS = Forms()


@dataclass
class Device:
    """A device, its link, and what the server keeps of it beside the ledger.

    Attributes:
        down, up: What is on its way, in order, as TCP keeps it.
        unsent: Packet ids received and not yet acknowledged; a device may do so in any order.
        names: By position that was ever sent, the window that it names.
        outstanding: QoS, position and bytes of what was sent at QoS 1 or 2, by packet id, until its
            acknowledgement has arrived or its session has ended.
        subscribed: The QoS of the subscription.
        epoch: As the store has it.
        went_back: It said hello from before a QoS 0 frame that counts as held, with later frames
            unacknowledged. A second such hello is taken for one from before all of these.
    """

    row: int
    replica: Replica = field(default_factory=Replica)
    saved: Replica = field(default_factory=Replica)
    connected: bool = False
    persistent: bool = False
    down: deque[tuple[int, bytes]] = field(default_factory=deque)
    up: deque[bytes | int] = field(default_factory=deque)
    unsent: list[int] = field(default_factory=list)
    names: dict[Position, Window] = field(default_factory=dict)
    outstanding: dict[int, tuple[int, Position, bytes]] = field(default_factory=dict)
    feed: list[int] = field(default_factory=list)
    k: int = COLUMNS
    budget: int = 128
    max_qos: int = 1
    subscribed: int | None = None
    position: Position | None = None
    in_step: bool = False
    said_hello: bool = False
    proven: bool = False
    epoch: int = 0
    went_back: bool = False

    @property
    def cap(self) -> int:
        return min(self.subscribed or 0, self.max_qos)

    @property
    def shown(self) -> list[int]:
        return self.feed[: self.k]

    def take(self) -> None:
        """The next frame reaches the device."""
        qos, tail = self.down.popleft()
        received = self.replica.receive(tail[2:] if qos else tail)
        assert received is not Received.BAD
        assert received is not Received.IMPOSSIBLE
        if received is Received.GAP:
            self.say_hello()
        if qos:
            self.unsent.append(int.from_bytes(tail[:2], "big"))

    def acknowledge(self, index: int) -> None:
        self.up.append(self.unsent.pop(index % len(self.unsent)))

    def say_hello(self, options: HelloOptions | None = None) -> None:
        self.up.append(encode_up(Hello(*self.replica.position, options)))


devices = st.integers(0, 1)
counts = st.integers(1, 6)
numbers = st.integers(1, 14)


class LedgerMachine(RuleBasedStateMachine):
    """Two devices in one ledger."""

    busy = False

    @initialize(max_inflight=st.integers(1, 4))
    def the_server_starts(self, max_inflight: int) -> None:
        self.max_inflight = max_inflight
        self.devices = [Device(0), Device(1)]
        self.boot({})

    def boot(self, packed: dict[int, bytes]) -> None:
        self.ledger = Ledger(
            COLUMNS, max_inflight=self.max_inflight, qos_by_priority=POLICY, capacity=1
        )
        for device in self.devices:
            self.open(device, packed.get(device.row))

    def open(self, device: Device, packed: bytes | None) -> None:
        """The device's row, with what was packed of it."""
        self.ledger.open(device.row)
        self.fit(device)
        device.proven = packed is not None
        if packed is not None:
            self.ledger.unpack(device.row, packed)
        else:
            device.outstanding.clear()

    def fit(self, device: Device) -> None:
        header = 2 if device.budget <= 129 else 3
        self.ledger.fit(
            device.row,
            k=device.k,
            frame_max=device.budget - header - len(TOPIC) - 2,
            payload_max=payload_capacity(device.budget, "d"),
            clock=False,
        )

    # ---- The feed

    @rule(at=devices, feed=st.lists(st.tuples(numbers, st.integers(0, 2)), max_size=COLUMNS))
    def a_feed_changes(self, at: int, feed: list[tuple[int, int]]) -> None:
        versions = dict(feed)
        self.devices[at].feed = [slots.pack(n, v, n % 4) for n, v in versions.items()]
        self.push([self.devices[at]])

    @rule(number=st.integers(20, 30), rank=st.integers(0, 4))
    def an_item_enters_both_feeds(self, number: int, rank: int) -> None:
        for device in self.devices:
            device.feed[:] = [slot for slot in device.feed if slots.number(slot) != number]
            device.feed.insert(rank, slots.pack(number, 0, number % 4))
            del device.feed[COLUMNS:]
        self.push(self.devices)

    # ---- Connections

    @precondition(lambda self: not all(device.connected for device in self.devices))
    @rule(
        at=devices,
        persistent=st.booleans(),
        words=st.sampled_from(["hello, subscribe", "subscribe, hello", "subscribe", "nothing"]),
        qos=st.integers(0, 2),
    )
    def a_device_connects(self, at: int, persistent: bool, words: str, qos: int) -> None:
        device = self.devices[at]
        if device.connected:
            return
        self.accept(device, persistent=persistent)
        for word in words.split(", "):
            if word == "hello":
                self.hello(device, Hello(*device.replica.position))
            elif word == "subscribe":
                self.subscribe(device, qos)

    def accept(self, device: Device, *, persistent: bool) -> None:
        device.connected, device.persistent = True, persistent
        device.said_hello, device.position = False, None
        self.ledger.block(device.row, blocked=False)
        if not persistent:
            device.subscribed = None
            self.ledger.forget_inflight(device.row)
            device.outstanding.clear()
        self.ledger.keep[device.row] = persistent
        if device.subscribed is not None:
            self.resend(device)

    def resend(self, device: Device) -> None:
        """What is unacknowledged goes again, as it was [MQTT-4.4.0-1]: all, or the oldest alone."""
        again = self.ledger.unacknowledged(device.row)
        assert [(each.packet_id, each.qos, each.tail) for each in again] == [
            (packet_id, qos, tail) for packet_id, (qos, _, tail) in device.outstanding.items()
        ]
        due = self.ledger.resume(device.row)
        assert due == (again[:1] if self.ledger.alone[device.row] else again)
        device.down.extend((each.qos, each.tail) for each in due)

    @rule(
        at=devices,
        arriving=st.integers(0, 4),
        answered=st.integers(0, 4),
        dies=st.booleans(),
    )
    def the_link_breaks(self, at: int, arriving: int, answered: int, dies: bool) -> None:
        device = self.devices[at]
        if not device.connected:
            return
        for _ in range(min(arriving, len(device.down))):
            device.take()
        self.answers_arrive(at, answered)
        device.down.clear()
        device.up.clear()
        device.unsent.clear()
        if dies and self.ledger.fail(device.row) >= ALONE_AFTER + 2:
            self.the_session_ends(device)
        device.connected, device.position = False, None
        self.ledger.disconnect(device.row)
        if not device.persistent:
            device.subscribed = None
            device.outstanding.clear()

    def the_session_ends(self, device: Device) -> None:
        """A frame is given up as poison, and with it all that is in flight."""
        self.ledger.forget_inflight(device.row)
        device.outstanding.clear()
        device.proven = False

    @rule(at=devices, blocked=st.booleans())
    def the_socket_is_full_or_has_room(self, at: int, blocked: bool) -> None:
        device = self.devices[at]
        if device.connected:
            self.ledger.block(device.row, blocked=blocked)
            if not blocked and self.ledger.behind[device.row]:
                self.push([device])

    # ---- What devices say

    @rule(at=devices, qos=st.integers(0, 2))
    def a_device_subscribes(self, at: int, qos: int) -> None:
        if self.devices[at].connected:
            self.subscribe(self.devices[at], qos)

    @rule(at=devices)
    def a_device_says_hello(self, at: int) -> None:
        if self.devices[at].connected:
            self.devices[at].say_hello()

    @rule(
        at=devices,
        k=st.none() | st.integers(1, COLUMNS),
        budget=st.none() | st.sampled_from(BUDGETS),
        max_qos=st.none() | st.integers(0, 2),
    )
    def a_device_wants_something_else(
        self, at: int, k: int | None, budget: int | None, max_qos: int | None
    ) -> None:
        if self.devices[at].connected:
            self.devices[at].say_hello(HelloOptions(k, budget, max_qos))

    @rule(at=devices, count=counts)
    def frames_arrive(self, at: int, count: int) -> None:
        device = self.devices[at]
        for _ in range(min(count, len(device.down))):
            device.take()

    @rule(at=devices, indices=st.lists(st.integers(0, 3), min_size=1, max_size=4))
    def a_device_acknowledges_in_some_order(self, at: int, indices: list[int]) -> None:
        device = self.devices[at]
        for index in indices[: len(device.unsent)]:
            device.acknowledge(index)

    @rule(at=devices, count=counts)
    def answers_arrive(self, at: int, count: int) -> None:
        device = self.devices[at]
        for _ in range(min(count, len(device.up))):
            said = device.up.popleft()
            if isinstance(said, int):
                self.acknowledged(device, said)
            else:
                hello = decode_up(said)
                assert isinstance(hello, Hello)
                self.hello(device, hello)

    @rule(busy=st.booleans())
    def the_server_has_no_time_to_answer_or_has_again(self, busy: bool) -> None:
        self.busy = busy
        for device in () if busy else self.devices:
            self.settle(device)

    # ---- Memory that fails

    @rule(at=devices)
    def a_device_saves_its_window(self, at: int) -> None:
        self.devices[at].saved = Replica.from_state(self.devices[at].replica.state())

    @rule(at=devices, wiped=st.booleans())
    def a_device_goes_back_to_what_it_had_saved(self, at: int, wiped: bool) -> None:
        device = self.devices[at]
        if not device.connected:
            device.replica = Replica() if wiped else Replica.from_state(device.saved.state())

    @rule(at=devices)
    def the_row_of_a_device_that_is_away_is_packed_and_used_again(self, at: int) -> None:
        device = self.devices[at]
        if not device.connected and device.proven:
            self.open(device, self.ledger.pack(device.row))

    @rule(clean=st.booleans())
    def the_server_restarts(self, clean: bool) -> None:
        for at in range(2):
            self.the_link_breaks(at, 0, 0, dies=False)
        proven = [device for device in self.devices if clean and device.proven]
        self.boot({device.row: self.ledger.pack(device.row) for device in proven})

    # ---- The server in miniature

    def subscribe(self, device: Device, qos: int) -> None:
        device.subscribed = qos
        if device.said_hello and device.position is None and self.ledger.attached[device.row]:
            self.ledger.attach(device.row, device.cap)
            return
        if device.position is None or not device.said_hello:
            device.position, device.in_step = (0, 0), False
        self.settle(device)

    def hello(self, device: Device, hello: Hello) -> None:
        position = (hello.epoch, hello.seq)
        if hello.options is not None:
            wanted = hello.options
            k, budget = wanted.k or device.k, wanted.budget or device.budget
            if (k, budget) != (device.k, device.budget):
                position = (0, 0)
            device.k, device.budget = k, budget
            if wanted.max_qos is not None:
                device.max_qos = wanted.max_qos
            self.fit(device)
            if self.ledger.attached[device.row]:
                self.ledger.attach(device.row, device.cap)
        device.said_hello = True
        before = int(self.ledger.inflight[device.row])
        device.in_step = device.proven and self.ledger.note(device.row, *position)
        self.forget_up_to(device, position, before)
        device.position = position
        if not self.busy:
            self.settle(device)

    def settle(self, device: Device) -> None:
        """The device's word is taken for what it holds; frames follow."""
        position = device.position
        if position is None or device.subscribed is None or not device.connected:
            return
        if not device.proven:
            self.begin_epoch(device, max(device.epoch, position[0]) + 1)
            device.proven = True
        before = int(self.ledger.inflight[device.row])
        if not device.in_step:
            if self.ledger.answer(device.row, *position) is Answer.AHEAD:
                self.begin_epoch(device, position[0] + 1)
                self.ledger.answer(device.row, *position)
            self.forget_up_to(device, position, before)
        device.position = None
        self.ledger.attach(device.row, device.cap)
        self.push([device])

    def begin_epoch(self, device: Device, epoch: int) -> None:
        assert device.epoch < epoch < MAX_EPOCH
        device.epoch = epoch
        self.ledger.begin_epoch(device.row, epoch)

    def forget_up_to(self, device: Device, position: Position, before: int) -> None:
        """A hello at a position in flight acknowledges everything up to it."""
        inflight = int(self.ledger.inflight[device.row])
        if inflight < before:
            for packet_id, (_, sent, _) in list(device.outstanding.items()):
                if sent <= position or (device.went_back and len(device.outstanding) > inflight):
                    del device.outstanding[packet_id]
        device.went_back = bool(device.outstanding) and (
            device.went_back or bool(self.ledger.base[device.row] != self.ledger.seq[device.row])
        )

    def acknowledged(self, device: Device, packet_id: int) -> None:
        device.outstanding.pop(packet_id, None)
        due = self.ledger.acknowledge(
            np.array([device.row], np.int32), np.array([packet_id], np.uint16), 0.0
        )
        self.push([self.devices[row] for row in due.tolist()])

    def push(self, those: list[Device]) -> None:
        for device in those:
            self.resend_next(device)
        target = np.zeros((len(those), COLUMNS), np.int64)
        for at, device in enumerate(those):
            target[at, : len(device.shown)] = device.shown
        rows = np.array([device.row for device in those], np.int32)
        for batch in self.ledger.push(rows, target, FORMS, 0.0):
            for row, tail in zip(batch.rows.tolist(), batch.tails, strict=True):
                self.sent(self.devices[row], batch.qos, tail)

    def resend_next(self, device: Device) -> None:
        if self.ledger.alone[device.row] and device.connected:
            frame = self.ledger.resend_next(device.row)
            if frame is not None:
                assert device.outstanding[frame.packet_id][::2] == (frame.qos, frame.tail)
                device.down.append((frame.qos, frame.tail))

    def sent(self, device: Device, qos: int, tail: bytes) -> None:
        """Everything that must hold of a frame at the moment it is sent."""
        assert device.connected
        assert device.subscribed is not None
        assert not self.ledger.blocked[device.row]
        assert not self.ledger.alone[device.row]
        head = publish_head(TOPIC, len(tail) - 2 if qos else len(tail), qos, 1 if qos else 0)
        assert len(head) - (2 if qos else 0) + len(tail) <= device.budget
        frame = decode_frame(tail[2:] if qos else tail)
        assert frame is not None
        self.names_a_new_window(device, frame)
        self.keeps_the_rule_of_qos(device, frame, qos)
        if qos:
            packet_id = int.from_bytes(tail[:2], "big")
            assert packet_id not in device.outstanding
            device.outstanding[packet_id] = qos, (frame.epoch, frame.seq), tail
            assert len(device.outstanding) <= self.max_inflight
        device.down.append((qos, tail))

    def names_a_new_window(self, device: Device, frame: Snapshot | Delta) -> None:
        name = frame.epoch, frame.seq
        assert name not in device.names
        assert frame.epoch == device.epoch
        if isinstance(frame, Snapshot):
            assert frame.k == device.k
            device.names[name] = frame.items
        else:
            base = device.names[frame.epoch, frame.start]
            device.names[name] = apply_ops(base, frame.ops, device.k)

    def keeps_the_rule_of_qos(self, device: Device, frame: Snapshot | Delta, qos: int) -> None:
        """The lowest of subscription, device and policy, and not lower than what is unacknowledged."""
        before = () if isinstance(frame, Snapshot) else device.names[frame.epoch, frame.start]
        after = device.names[frame.epoch, frame.seq]
        put = [item for item in after if item not in before]
        if isinstance(frame, Delta):
            put = [op.item for op in frame.ops if isinstance(op, Put)]
        gone = [item for item in before if item.n not in {kept.n for kept in after}]
        policy = POLICY[max((item.priority for item in (*put, *gone)), default=0)]
        assert qos <= device.cap
        if not device.outstanding:
            assert qos == min(device.cap, policy)
        else:
            assert qos >= min(device.cap, 1)

    # ---- What always holds

    @invariant()
    def what_a_device_holds_is_what_its_position_names(self) -> None:
        for device in getattr(self, "devices", []):
            if device.replica.epoch:
                assert device.replica.window == device.names[device.replica.position]

    @invariant()
    def the_ledger_counts_no_more_in_flight_than_it_may(self) -> None:
        if hasattr(self, "ledger"):
            assert (self.ledger.inflight[:2] <= self.max_inflight).all()

    @precondition(lambda self: hasattr(self, "devices"))
    @rule()
    def once_quiet_every_device_has_its_feed(self) -> None:
        """G2: within ⌈frames / max_inflight⌉ + 1 round trips of a hello."""
        self.the_server_has_no_time_to_answer_or_has_again(busy=False)
        for device in self.devices:
            if not device.connected:
                self.accept(device, persistent=True)
            self.ledger.block(device.row, blocked=False)
            self.subscribe(device, 1)
            device.say_hello()
            trips = 0
            known = len(device.names)
            while device.down or device.up or device.unsent:
                while device.down:
                    device.take()
                while device.unsent:
                    device.acknowledge(0)
                self.answers_arrive(device.row, len(device.up))
                trips += 1
                assert trips < 100
            frames = len(device.names) - known
            assert trips <= -(-frames // self.max_inflight) + 2
            self.holds_its_feed(device)

    def holds_its_feed(self, device: Device) -> None:
        window = device.replica.window
        assert [item.n for item in window] == [slots.number(slot) for slot in device.shown]
        versions = [f"v{slots.version(slot)}" for slot in device.shown]
        assert [str(item.payload)[:2] for item in window] == versions
        assert not self.ledger.behind[device.row]

    def teardown(self) -> None:
        if hasattr(self, "devices"):
            self.once_quiet_every_device_has_its_feed()


LedgerMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestLedgerMachine = LedgerMachine.TestCase


# ---- What it found


def machine(*feed: int, hold: bool = True) -> tuple[LedgerMachine, Device]:
    """A machine whose first device holds `feed` and, if asked, has not acknowledged it."""
    state = LedgerMachine()
    state.the_server_starts(max_inflight=2)
    state.once_quiet_every_device_has_its_feed()
    device = state.devices[0]
    device.feed = list(feed)
    state.push([device])
    while device.down:
        device.take()
    if not hold:
        state.once_quiet_every_device_has_its_feed()
    return state, device


def test_after_a_clean_stop_policy_chooses_no_lower_qos_than_what_is_unacknowledged() -> None:
    state, device = machine(slots.pack(1, 0, 3))
    state.the_server_restarts(clean=True)
    device.feed = []  # a snapshot without items is of QoS 0, if nothing is unacknowledged
    state.accept(device, persistent=True)
    state.subscribe(device, 1)
    assert [qos for qos, _ in device.down] == [1, 1]


def test_the_last_item_of_a_full_window_that_moves_up_is_moved_and_not_sent_again() -> None:
    window = [slots.pack(number, 0, 1) for number in range(1, COLUMNS + 1)]
    state, device = machine(*window, hold=False)
    device.feed = [window[-1], *window[:-1]]
    state.push([device])
    [(qos, tail)] = device.down
    frame = decode_frame(tail[2:] if qos else tail)
    assert isinstance(frame, Delta)
    assert frame.ops == (Move(COLUMNS - 1, 0),)
