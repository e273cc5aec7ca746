"""The outside ledger against real replicas, over links that lose, repeat and reorder whatever they carry.

The gateway around the ledger is in miniature here, as the server is in `test_ledger_machine`: who is there,
who is asleep, and what an ack, a hello or silence leads to. Every window that a device ever holds is held
against what its position was given to when its frame was sent.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    Ack,
    Delta,
    Hello,
    HelloOptions,
    Put,
    Snapshot,
    decode_frame,
    decode_up,
    encode_up,
    payload_capacity,
)
from devices.ledger import Answer
from devices.ledger_outside import OutsideLedger
from devices.replica import Received, Replica, apply_ops
from tests.devices.test_ledger_machine import BUDGETS, COLUMNS, FORMS, TOPIC, Position, Window

POLICY = (0, 0, 1, 1)
TRIES = 3
ACK_LIMIT = 10.0


@dataclass
class Device:
    """A device, the links to it and from it, and what the gateway keeps of it beside the ledger.

    Attributes:
        down, up: What is on its way; any of it may arrive next, again, or never.
        names: By position that was ever sent, the window that it names.
        qos: By position, what its frame was sent with.
        asleep: Whether the gateway sends it nothing until it says something.
        went_back: It lost its memory, and its hello has not arrived: nobody can know.
        epoch: As the store has it.
    """

    row: int
    replica: Replica = field(default_factory=Replica)
    saved: Replica = field(default_factory=Replica)
    down: list[bytes] = field(default_factory=list)
    up: list[bytes] = field(default_factory=list)
    names: dict[Position, Window] = field(default_factory=dict)
    qos: dict[Position, int] = field(default_factory=dict)
    feed: list[int] = field(default_factory=list)
    k: int = COLUMNS
    budget: int = 128
    max_qos: int = 1
    asleep: bool = True
    went_back: bool = False
    proven: bool = False
    epoch: int = 0

    @property
    def shown(self) -> list[int]:
        return self.feed[: self.k]

    def take(self, frame: bytes) -> None:
        """A frame reaches the device, which acknowledges at once what it applied or has already."""
        received = self.replica.receive(frame)
        assert received is not Received.BAD
        assert received is not Received.IMPOSSIBLE
        if received is Received.GAP:
            self.say_hello()
        elif received in {Received.APPLIED, Received.STALE}:
            self.up.append(self.replica.ack())

    def say_hello(self, options: HelloOptions | None = None) -> None:
        self.up.append(encode_up(Hello(*self.replica.position, options)))


devices = st.integers(0, 1)
numbers = st.integers(1, 14)
which = st.integers(0, 6)


class OutsideMachine(RuleBasedStateMachine):
    """Two devices in one ledger, beside an outside broker."""

    @initialize(max_inflight=st.integers(1, 4))
    def the_gateway_starts(self, max_inflight: int) -> None:
        self.max_inflight = max_inflight
        self.now = 0.0
        self.next_id = 0
        self.devices = [Device(0), Device(1)]
        self.boot({})

    def boot(self, packed: dict[int, bytes]) -> None:
        self.ledger = OutsideLedger(
            COLUMNS, max_inflight=self.max_inflight, qos_by_priority=POLICY, capacity=1
        )
        self.ledger.take_ids = self.take_ids
        for device in self.devices:
            self.open(device, packed.get(device.row))

    def take_ids(self, count: int) -> np.ndarray:
        ids = (np.arange(count) + self.next_id) % 65_535 + 1
        self.next_id += count
        return ids.astype(np.uint16)

    def open(self, device: Device, packed: bytes | None) -> None:
        self.ledger.open(device.row)
        self.fit(device)
        device.proven = packed is not None
        if packed is not None:
            self.ledger.unpack(device.row, packed)

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

    # ---- What becomes of messages

    @rule(at=devices, index=which, again=st.booleans())
    def a_frame_arrives(self, at: int, index: int, again: bool) -> None:
        device = self.devices[at]
        if device.down:
            index %= len(device.down)
            device.take(device.down[index] if again else device.down.pop(index))

    @rule(at=devices, index=which, again=st.booleans())
    def an_up_message_arrives(self, at: int, index: int, again: bool) -> None:
        device = self.devices[at]
        if device.up:
            index %= len(device.up)
            self.hear(device, device.up[index] if again else device.up.pop(index))

    @rule(at=devices, index=which, down=st.booleans())
    def a_message_is_lost(self, at: int, index: int, down: bool) -> None:
        queue = self.devices[at].down if down else self.devices[at].up
        if queue:
            del queue[index % len(queue)]

    # ---- Coming, going, silence

    @rule(at=devices)
    def a_device_says_hello(self, at: int) -> None:
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
        self.devices[at].say_hello(HelloOptions(k, budget, max_qos))

    @rule(at=devices)
    def a_bye_arrives(self, at: int) -> None:
        self.fall_asleep(self.devices[at])

    @rule(seconds=st.sampled_from([1.0, ACK_LIMIT + 1]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        rows = np.arange(2, dtype=np.int32)
        silent = self.ledger.stalled(rows[self.ledger.attached[:2]], self.now - ACK_LIMIT)
        again, asleep = self.ledger.retry(silent, TRIES, self.now)
        for row in asleep.tolist():
            self.fall_asleep(self.devices[row])
        self.push([self.devices[row] for row in again.tolist()])

    # ---- Memory that fails

    @rule(at=devices)
    def a_device_saves_its_window(self, at: int) -> None:
        self.devices[at].saved = Replica.from_state(self.devices[at].replica.state())

    @rule(at=devices, wiped=st.booleans())
    def a_device_goes_back_to_what_it_had_saved(self, at: int, wiped: bool) -> None:
        device = self.devices[at]
        device.replica = Replica() if wiped else Replica.from_state(device.saved.state())
        device.down.clear()  # they were for its connection of before
        device.went_back = True
        device.say_hello()

    @rule(at=devices)
    def the_row_of_a_sleeping_device_is_packed_and_used_again(self, at: int) -> None:
        device = self.devices[at]
        if device.asleep and device.proven:
            self.open(device, self.ledger.pack(device.row))

    @rule(clean=st.booleans())
    def the_gateway_restarts(self, clean: bool) -> None:
        proven = [device for device in self.devices if clean and device.proven]
        self.boot({device.row: self.ledger.pack(device.row) for device in proven})
        for device in self.devices:
            if not device.asleep:
                self.settle(device, None)

    # ---- The gateway in miniature

    def fall_asleep(self, device: Device) -> None:
        device.asleep = True
        self.ledger.disconnect(device.row)

    def hear(self, device: Device, said: bytes) -> None:
        message = decode_up(said)
        if isinstance(message, Hello):
            self.hello(device, message)
        else:
            assert isinstance(message, Ack)
            if device.asleep:
                self.settle(device, (message.epoch, message.seq))
            else:
                rows = np.array([device.row], np.int32)
                self.push_rows(
                    self.ledger.confirm(
                        rows, np.array([message.epoch]), np.array([message.seq]), self.now
                    )
                )

    def hello(self, device: Device, hello: Hello) -> None:
        position = (hello.epoch, hello.seq)
        device.went_back &= position != device.replica.position
        if hello.options is not None:
            wanted = hello.options
            k, budget = wanted.k or device.k, wanted.budget or device.budget
            if (k, budget) != (device.k, device.budget):
                position = (0, 0)
            device.k, device.budget = k, budget
            if wanted.max_qos is not None:
                device.max_qos = wanted.max_qos
            self.fit(device)
        self.settle(device, position)

    def settle(self, device: Device, position: Position | None) -> None:
        """A device is there, at this position or at the one that it said last."""
        if device.asleep:
            self.ledger.forget_inflight(device.row)
        if position is None:
            position = self.ledger.acknowledged(device.row) if device.proven else (0, 0)
        if not device.proven:
            self.begin_epoch(device, max(device.epoch, position[0]) + 1)
            device.proven = True
        if self.ledger.answer(device.row, *position) is Answer.AHEAD:
            self.begin_epoch(device, position[0] + 1)
            self.ledger.answer(device.row, *position)
        device.asleep = False
        self.ledger.attach(device.row, min(1, device.max_qos))
        self.push([device])

    def begin_epoch(self, device: Device, epoch: int) -> None:
        assert device.epoch < epoch
        device.epoch = epoch
        self.ledger.begin_epoch(device.row, epoch)

    def push_rows(self, rows: Iterable[int]) -> None:
        self.push([self.devices[row] for row in rows])

    def push(self, those: list[Device]) -> None:
        target = np.zeros((len(those), COLUMNS), np.int64)
        for at, device in enumerate(those):
            target[at, : len(device.shown)] = device.shown
        rows = np.array([device.row for device in those], np.int32)
        for batch in self.ledger.push(rows, target, FORMS, self.now):
            for row, tail in zip(batch.rows.tolist(), batch.tails, strict=True):
                self.sent(self.devices[row], batch.qos, tail[2:] if batch.qos else tail)

    def sent(self, device: Device, qos: int, data: bytes) -> None:
        """Everything that must hold of a frame at the moment it is sent."""
        assert not device.asleep
        assert len(data) + len(TOPIC) + 4 <= device.budget + (2 if device.budget > 129 else 0)
        frame = decode_frame(data)
        assert frame is not None
        name = frame.epoch, frame.seq
        assert name not in device.names
        assert frame.epoch == device.epoch
        if isinstance(frame, Snapshot):
            assert frame.k == device.k
            device.names[name] = frame.items
        else:
            base = frame.epoch, frame.start
            device.names[name] = apply_ops(device.names[base], frame.ops, device.k)
            self.hangs_on_nothing_less_sure(device, frame, base, qos)
        device.qos[name] = qos
        device.down.append(data)

    def hangs_on_nothing_less_sure(
        self, device: Device, frame: Delta, base: Position, qos: int
    ) -> None:
        """A change of QoS ≥ 1 is not sent on top of an unconfirmed frame of QoS 0."""
        if qos and self.ledger.acknowledged(device.row) != base:
            assert device.qos[base], (frame, device.qos)
        put = [op.item.priority for op in frame.ops if isinstance(op, Put)]
        if put:
            assert qos >= min(1, device.max_qos, POLICY[max(put)])

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
    @rule(hello=st.booleans(), lost=st.booleans())
    def once_quiet_every_device_has_its_feed(self, hello: bool, lost: bool) -> None:
        """G2: after a hello; or at the ack limit, for those that are awake."""
        for device in self.devices:
            if lost:
                device.down.clear()
                device.up.clear()
            known = len(device.names)
            if hello or device.asleep or device.went_back or not device.replica.epoch:
                device.say_hello()
                trips = self.let_it_settle(device)
                assert trips <= -(-(len(device.names) - known) // self.max_inflight) + 4
            for _ in range(3):
                if not device.asleep:
                    self.time_passes(ACK_LIMIT + 1)
                    self.let_it_settle(device)
            if device.asleep:
                device.say_hello()
                self.let_it_settle(device)
            self.holds_its_feed(device)

    def let_it_settle(self, device: Device) -> int:
        trips = 0
        while device.down or device.up:
            while device.down:
                device.take(device.down.pop(0))
            said, device.up = device.up, []
            for each in said:
                self.hear(device, each)
            trips += 1
            assert trips < 100
        return trips

    def holds_its_feed(self, device: Device) -> None:
        window = device.replica.window
        assert [item.n for item in window] == [slots.number(slot) for slot in device.shown]
        versions = [f"v{slots.version(slot)}" for slot in device.shown]
        assert [str(item.payload)[:2] for item in window] == versions
        assert not self.ledger.behind[device.row]

    def teardown(self) -> None:
        if hasattr(self, "devices"):
            self.once_quiet_every_device_has_its_feed(hello=True, lost=True)


OutsideMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestOutsideMachine = OutsideMachine.TestCase
