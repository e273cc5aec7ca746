"""What acknowledged frames have put on devices, held against the frames themselves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.frames import Delta, Put, Snapshot, decode_frame
from devices.ledger import Answer, Batch, Ledger
from devices.ledger_outside import OutsideLedger
from tests.devices.test_ledger import COLUMNS, FORMS, acknowledge, feed, ledger_of, open_row, slot

Numbers = Counter[int]

ROWS = 2
NUMBERS = st.integers(1, 9)
WINDOWS = st.lists(NUMBERS, max_size=COLUMNS, unique=True)
STEPS = st.lists(
    st.one_of(
        # Rank and number of what is put into all windows at once.
        st.tuples(st.just("put"), st.tuples(st.integers(0, 3), st.integers(1, 99))),
        st.tuples(st.just("push"), st.tuples(WINDOWS, WINDOWS)),
        st.tuples(st.just("ack"), st.tuples(st.integers(0, ROWS - 1), st.integers(0, 6))),
    ),
    max_size=60,
)


def puts(frame: bytes) -> Numbers:
    """The items that a frame puts on a device."""
    sent = decode_frame(frame)
    if isinstance(sent, Snapshot):
        return Counter(item.n for item in sent.items)
    assert isinstance(sent, Delta)
    return Counter(op.item.n for op in sent.ops if isinstance(op, Put))


def frames(batches: list[Batch]) -> list[tuple[int, int, bytes]]:
    """Row, packet identifier (0 at QoS 0) and frame of all that was sent."""
    return [
        (row, int.from_bytes(tail[:2], "big"), tail[2:]) if batch.qos else (row, 0, tail)
        for batch in batches
        for row, tail in zip(batch.rows.tolist(), batch.tails, strict=True)
    ]


def named(batches: list[Batch]) -> Numbers:
    """The items that batches say they put."""
    found: Numbers = Counter()
    for batch in batches:
        found.update([batch.put] * batch.puts if batch.put else batch.put_numbers)
    return found


def arrived(ledger: Ledger) -> Numbers:
    return Counter(ledger.take_arrivals().tolist())


def noting(rows: int = 1) -> Ledger:
    ledger = ledger_of(rows)
    ledger.notes_arrivals = True
    return ledger


def send(ledger: Ledger, *windows: list[int]) -> list[tuple[int, int, bytes]]:
    rows = np.arange(len(windows), dtype=np.int32)
    batches = ledger.push(
        rows, feed(*([slot(n) for n in window] for window in windows)), FORMS, 0.0
    )
    sent = frames(batches)
    assert named(batches) == sum((puts(frame) for _, _, frame in sent), Counter())
    return sent


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_each_frame_arrives_once_with_what_it_put_in_whatever_order_it_is_acknowledged(
    steps: list[tuple[str, Any]],
) -> None:
    ledger = noting(ROWS)
    waiting: dict[tuple[int, int], Numbers] = {}
    windows: list[list[int]] = [[], []]
    for what, how in steps:
        if what == "ack":
            row, back = how
            packet_id = max(int(ledger.packet_id[row]) - back, 1)
            acknowledge(ledger, row, packet_id)
            assert arrived(ledger) == waiting.pop((row, packet_id), Counter())
            continue
        if what == "push":
            windows = list(how)
        else:
            rank, number = how
            others = [[n for n in window if n != number] for window in windows]
            windows = [[*w[:rank], number, *w[rank:]][:COLUMNS] for w in others]
        for row, packet_id, frame in send(ledger, *windows):
            if packet_id:
                waiting[row, packet_id] = puts(frame)


def test_many_devices_acknowledge_together() -> None:
    ledger = noting(3)
    send(ledger, [1], [1], [2, 1])
    assert named(ledger.push(np.arange(3, dtype=np.int32), feed(*[[slot(5)]] * 3), FORMS, 0.0))
    rows = np.arange(3, dtype=np.int32)
    ledger.acknowledge(rows, np.array([1, 1, 1], np.uint16), 0.0)
    assert arrived(ledger) == Counter({1: 3, 2: 1})
    ledger.acknowledge(rows, np.array([2, 2, 9], np.uint16), 0.0)
    assert arrived(ledger)[5] == 2


def test_a_hello_that_names_a_frame_in_flight_says_that_all_before_it_arrived() -> None:
    ledger = noting()
    for window in ([1], [2, 1], [3, 2, 1]):
        send(ledger, window)
    acknowledge(ledger, 0, 2)
    assert arrived(ledger) == Counter([2])
    assert ledger.answer(0, 1, 3) is Answer.KNOWN
    assert arrived(ledger) == Counter([1, 3])


def test_frames_in_flight_at_a_restart_arrive_with_what_they_put() -> None:
    before = noting()
    before.keep[0] = True
    send(before, [1])
    acknowledge(before, 0, 1)
    send(before, [2, 1])
    send(before, [4, 3, 2, 1])
    after = Ledger(COLUMNS)
    after.notes_arrivals = True
    open_row(after, 0, k=COLUMNS, budget=128)
    after.unpack(0, before.pack(0))
    acknowledge(after, 0, 2, 3)
    assert arrived(after) == Counter([2, 3, 4])


def test_what_a_place_of_the_ring_carried_before_is_forgotten() -> None:
    ledger = noting()
    window: list[int] = []
    for number in range(1, 7):
        window = [number, *window]
        send(ledger, window)
        acknowledge(ledger, 0, number)
        assert arrived(ledger) == Counter([number])
    for packet_id in range(7, 13):
        window = [10 * packet_id, 10 * packet_id + 1, *window][:COLUMNS]
        send(ledger, window)
        acknowledge(ledger, 0, packet_id)
        assert arrived(ledger) == Counter(window[:2])


def test_of_a_snapshot_everything_arrives_also_what_the_device_had_before() -> None:
    ledger = noting()
    send(ledger, [2, 1])
    acknowledge(ledger, 0, 1)
    assert arrived(ledger) == Counter([1, 2])
    ledger.begin_epoch(0, 2)
    send(ledger, [2, 1])
    acknowledge(ledger, 0, 2)
    assert arrived(ledger) == Counter([1, 2])


def test_nothing_is_noted_where_nobody_takes_it() -> None:
    ledger = ledger_of(1)
    send(ledger, [1])
    send(ledger, [2, 1])
    acknowledge(ledger, 0, 1, 2)
    assert arrived(ledger) == Counter()


def test_beside_an_outside_broker_an_ack_stands_for_every_frame_up_to_it() -> None:
    ledger = OutsideLedger(COLUMNS)
    ids = iter(range(1, 100))
    ledger.take_ids = lambda count: np.array([next(ids) for _ in range(count)], np.uint16)
    ledger.notes_arrivals = True
    for row in range(2):
        open_row(ledger, row, k=COLUMNS, budget=128)
        ledger.begin_epoch(row, 1)
        ledger.attach(row, 1)
    for window in ([1], [2, 1], [4, 3, 2, 1]):
        send(ledger, window, window)

    def confirm(*seqs: int) -> Numbers:
        rows = np.arange(2, dtype=np.int32)
        ledger.confirm(rows, np.array([1, 1]), np.array(seqs), 0.0)
        return arrived(ledger)

    assert confirm(9, 9) == Counter()
    assert confirm(2, 0) == Counter([1, 2])
    assert confirm(2, 3) == Counter([1, 2, 3, 4])
    assert confirm(3, 3) == Counter([3, 4])
