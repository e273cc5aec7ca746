"""The ledger alone, and against the replica through a channel that loses, repeats and delays."""

from __future__ import annotations

from collections import deque

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from devices import slots
from devices.frames import (
    Delta,
    Hello,
    Kind,
    Put,
    Remove,
    Snapshot,
    decode_frame,
    decode_up,
    item_bytes,
    payload_capacity,
)
from devices.inflight import ALONE_AFTER
from devices.ledger import Answer, Ledger
from devices.replica import Received, Replica

COLUMNS = 8
BUDGET = 128


class Form:
    """An item whose payload is made from its slot."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.full_size = 6 + slots.number(slot) % 40

    def encoded(self, *, clock: bool, brief: bool) -> bytes:
        text = f"v{slots.version(self.slot)}".ljust(6 if brief else self.full_size, ".")
        expires = 1_800_000_000 if clock else 0
        return item_bytes(slots.number(self.slot), expires, slots.priority(self.slot), text)


class Forms(dict):
    def __missing__(self, slot: int) -> Form:
        self[slot] = Form(slot)
        return self[slot]


FORMS = Forms()


def slot(number: int, version: int = 0, priority: int = 1) -> int:
    return slots.pack(number, version, priority)


def feed(*windows: list[int]) -> np.ndarray:
    target = np.zeros((len(windows), COLUMNS), np.int64)
    for row, window in enumerate(windows):
        target[row, : len(window)] = window
    return target


def ledger_of(rows: int, *, k: int = COLUMNS, cap: int = 1, budget: int = BUDGET) -> Ledger:
    """A ledger of attached devices that hold nothing yet."""
    ledger = Ledger(COLUMNS)
    for row in range(rows):
        open_row(ledger, row, k=k, budget=budget)
        ledger.begin_epoch(row, 1)
        ledger.attach(row, cap)
    return ledger


def open_row(ledger: Ledger, row: int, *, k: int, budget: int, clock: bool = False) -> None:
    ledger.open(row)
    ledger.fit(
        row,
        k=k,
        frame_max=budget - 2 - 5 - 2,
        payload_max=payload_capacity(budget, "d"),
        clock=clock,
    )


def push(ledger: Ledger, *windows: list[int]) -> list[tuple[int, int, bytes]]:
    """(row, qos, frame) of every frame that brings rows 0, 1, … towards these windows."""
    rows = np.arange(len(windows), dtype=np.int32)
    sent = []
    for batch in ledger.push(rows, feed(*windows), FORMS, 0.0):
        for row, tail in zip(batch.rows.tolist(), batch.tails, strict=True):
            sent.append((row, batch.qos, tail[2:] if batch.qos else tail))
    return sent


def acknowledge(ledger: Ledger, row: int, *packet_ids: int) -> list[int]:
    rows = np.full(len(packet_ids), row, np.int32)
    return ledger.acknowledge(rows, np.array(packet_ids, np.uint16), 0.0).tolist()


def test_a_device_that_holds_nothing_gets_a_snapshot() -> None:
    ledger = ledger_of(1)
    [(row, qos, frame)] = push(ledger, [slot(2), slot(1)])
    snapshot = decode_frame(frame)
    assert isinstance(snapshot, Snapshot)
    assert (row, qos) == (0, 1)
    assert (snapshot.epoch, snapshot.seq, snapshot.k) == (1, 1, COLUMNS)
    assert [item.n for item in snapshot.items] == [2, 1]


def test_a_device_with_an_empty_feed_gets_an_empty_snapshot_and_nothing_after_it() -> None:
    ledger = ledger_of(1)
    assert decode_frame(push(ledger, [])[0][2]) == Snapshot(1, 1, COLUMNS, ())
    assert push(ledger, []) == []


def test_a_new_item_is_one_put() -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(1)])
    [(_, _, frame)] = push(ledger, [slot(2), slot(1)])
    delta = decode_frame(frame)
    assert isinstance(delta, Delta)
    assert (delta.epoch, delta.seq, delta.base) == (1, 2, None)
    [put] = delta.ops
    assert isinstance(put, Put)
    assert (put.rank, put.item.n) == (0, 2)


def test_at_most_max_inflight_frames_are_unacknowledged_and_the_next_is_the_net_difference() -> (
    None
):
    ledger = ledger_of(1)
    for newest in range(1, 8):
        push(ledger, [slot(n) for n in range(newest, 0, -1)])
    assert ledger.inflight[0] == 4
    assert ledger.behind[0]
    assert acknowledge(ledger, 0, 1) == [0]
    [(_, _, frame)] = push(ledger, [slot(7), slot(6), slot(1)])
    delta = decode_frame(frame)
    assert isinstance(delta, Delta)
    assert [type(op) for op in delta.ops] == [Put, Put, Remove, Remove, Remove]


def test_acknowledgements_out_of_order_make_room_only_when_the_oldest_has_come() -> None:
    ledger = ledger_of(1)
    for newest in range(1, 5):
        push(ledger, [slot(newest)])
    acknowledge(ledger, 0, 3)
    acknowledge(ledger, 0, 2)
    assert ledger.inflight[0] == 4
    acknowledge(ledger, 0, 1)
    assert ledger.inflight[0] == 1


@pytest.mark.parametrize("packet_id", [0, 5, 400, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
def test_an_unknown_packet_id_acknowledges_nothing(packet_id: int) -> None:
    """0x8000 and 0xFFFF are what 1 is, counted in steps of 0x7FFF."""
    ledger = ledger_of(1)
    push(ledger, [slot(1)])
    acknowledge(ledger, 0, packet_id)
    acknowledge(ledger, 0, packet_id, packet_id)
    assert ledger.inflight[0] == 1


def test_packet_ids_go_on_at_one_after_the_lower_half() -> None:
    """Those of the upper half belong to other messages."""
    ledger = ledger_of(1)
    ledger.packet_id[0] = 0x7FFE
    ledger.keep[0] = True
    for newest in range(1, 4):
        push(ledger, [slot(newest)])
    assert [frame.packet_id for frame in ledger.unacknowledged(0)] == [0x7FFF, 1, 2]
    acknowledge(ledger, 0, 0x7FFF, 1)
    assert [frame.packet_id for frame in ledger.unacknowledged(0)] == [2]


def test_a_row_packed_when_frames_had_all_packet_ids_forgets_what_was_in_flight() -> None:
    ledger = ledger_of(1)
    ledger.keep[0] = True
    push(ledger, [slot(1)])
    push(ledger, [slot(2), slot(1)])
    fields = msgpack.unpackb(ledger.pack(0))
    fields[6] += 0x8000
    fields[7] = [[packet_id + 0x8000, *rest] for packet_id, *rest in fields[7]]
    other = Ledger(COLUMNS)
    open_row(other, 0, k=COLUMNS, budget=BUDGET)
    other.unpack(0, msgpack.packb(fields))
    other.keep[0] = True
    assert other.unacknowledged(0) == []
    assert other.answer(0, 1, 1) is Answer.KNOWN
    other.attach(0, 1)
    [(_, _, frame)] = push(other, [slot(2), slot(1)])
    delta = decode_frame(frame)
    assert isinstance(delta, Delta)
    assert (delta.seq, delta.base) == (3, 1)
    assert [frame.packet_id for frame in other.unacknowledged(0)] == [1]


# ---- Frames sent again


def reconnect(ledger: Ledger, row: int = 0) -> list[int]:
    """The connection is lost and the session resumes; the packet ids that are sent again at once."""
    ledger.fail(row)
    ledger.disconnect(row)
    frames = ledger.resume(row)
    ledger.attach(row, 1)
    return [frame.packet_id for frame in frames]


def in_flight(*, frames: int, failures: int = 0) -> Ledger:
    """A ledger of one persistent device with frames that failed on some connections."""
    ledger = ledger_of(1)
    ledger.keep[0] = True
    for newest in range(1, frames + 1):
        push(ledger, [slot(n) for n in range(newest, 0, -1)])
    for _ in range(failures + 1):
        reconnect(ledger)
    assert ledger.failures[0] == failures
    return ledger


def test_all_that_is_unacknowledged_is_sent_again_at_first_then_one_frame_alone() -> None:
    ledger = in_flight(frames=3)
    for failures in range(1, ALONE_AFTER):
        assert reconnect(ledger) == [1, 2, 3]
        assert ledger.failures[0] == failures
    assert reconnect(ledger) == [1]
    assert reconnect(ledger) == [1]


def test_beside_a_frame_sent_again_alone_nothing_is_sent() -> None:
    ledger = in_flight(frames=2, failures=ALONE_AFTER)
    assert push(ledger, [slot(9)]) == []
    ledger.block(0, blocked=True)
    ledger.block(0, blocked=False)
    assert push(ledger, [slot(9)]) == []
    assert ledger.resend_next(0) is None
    assert acknowledge(ledger, 0, 1) == [0]
    following = ledger.resend_next(0)
    assert following is not None
    assert following.packet_id == 2
    assert ledger.resend_next(0) is None
    assert push(ledger, [slot(9)]) == []
    assert acknowledge(ledger, 0, 2) == [0]
    assert ledger.resend_next(0) is None
    assert [row for row, _, _ in push(ledger, [slot(9)])] == [0]


@pytest.mark.parametrize("packet_ids", [(1,), (1, 1), (1, 2)])
def test_the_next_frame_is_due_as_soon_as_the_one_sent_alone_is_acknowledged(
    packet_ids: tuple[int, ...],
) -> None:
    ledger = in_flight(frames=4, failures=ALONE_AFTER)
    ledger.behind[0] = False
    assert reconnect(ledger) == [1]
    assert acknowledge(ledger, 0, *packet_ids) == [0]
    following = ledger.resend_next(0)
    assert following is not None
    assert following.packet_id == packet_ids[-1] + 1


def test_a_position_beyond_the_frame_sent_alone_makes_way_for_the_next() -> None:
    ledger = in_flight(frames=3, failures=ALONE_AFTER)
    assert ledger.answer(0, 1, 2) is Answer.UNDER_WAY
    assert ledger.failures[0] == 0
    following = ledger.resend_next(0)
    assert following is not None
    assert following.packet_id == 3


def test_frames_acknowledged_out_of_order_are_passed_over_when_sent_alone() -> None:
    ledger = in_flight(frames=3)
    acknowledge(ledger, 0, 2)
    for _ in range(ALONE_AFTER):
        reconnect(ledger)
    assert ledger.alone[0]
    acknowledge(ledger, 0, 1)
    following = ledger.resend_next(0)
    assert following is not None
    assert following.packet_id == 3


@pytest.mark.parametrize("together", [True, False])
def test_any_acknowledgement_begins_the_count_anew(together: bool) -> None:
    ledger = in_flight(frames=4, failures=4)
    if together:
        acknowledge(ledger, 0, 1, 3)
    else:
        acknowledge(ledger, 0, 3)
    assert ledger.failures[0] == 0


@pytest.mark.parametrize("packet_id", [5, 0x7FFF, 0x8001])
def test_an_unknown_packet_id_leaves_the_count_as_it_is(packet_id: int) -> None:
    ledger = in_flight(frames=4, failures=4)
    acknowledge(ledger, 0, packet_id)
    assert ledger.failures[0] == 4


def test_a_connection_that_was_sent_nothing_again_has_not_failed() -> None:
    ledger = ledger_of(1)
    ledger.keep[0] = True
    push(ledger, [slot(1)])
    assert ledger.fail(0) == 0, "sent for the first time"
    ledger.disconnect(0)
    ledger.resume(0)
    ledger.attach(0, 1)
    push(ledger, [slot(2), slot(1)])
    acknowledge(ledger, 0, 1)
    assert ledger.fail(0) == 0, "what was sent again is acknowledged, the rest is new"


def test_packet_ids_that_began_anew_do_not_hide_a_failure() -> None:
    ledger = ledger_of(1)
    ledger.keep[0] = True
    ledger.packet_id[0] = 0x7FFE
    push(ledger, [slot(1)])
    reconnect(ledger)
    push(ledger, [slot(2), slot(1)])
    push(ledger, [slot(3), slot(2), slot(1)])
    assert ledger.packet_id[0] == 2
    assert ledger.fail(0) == 1


def test_the_items_that_the_oldest_frame_puts_are_known() -> None:
    ledger = ledger_of(1)
    ledger.keep[0] = True
    assert ledger.oldest_puts(0) == ()
    push(ledger, [slot(2), slot(1)])
    push(ledger, [slot(5), slot(4), slot(1)])
    push(ledger, [slot(4), slot(1)])
    assert ledger.oldest_puts(0) == (2, 1)
    acknowledge(ledger, 0, 1)
    assert sorted(ledger.oldest_puts(0)) == [4, 5]
    acknowledge(ledger, 0, 2)
    assert ledger.oldest_puts(0) == ()


def test_the_end_of_the_session_forgets_the_count_and_what_was_sent_alone() -> None:
    ledger = in_flight(frames=2, failures=ALONE_AFTER)
    ledger.forget_inflight(0)
    assert ledger.resending(0) == (0, 0, False)
    ledger.attach(0, 1)
    assert [row for row, _, _ in push(ledger, [slot(9)])] == [0]


# ---- QoS


def test_at_qos_0_a_frame_counts_as_held_once_written() -> None:
    ledger = ledger_of(1, cap=0)
    for newest in range(1, 12):
        assert len(push(ledger, [slot(newest)])) == 1
    assert ledger.inflight[0] == 0


def test_the_policy_never_chooses_a_lower_qos_on_top_of_an_unacknowledged_frame() -> None:
    ledger = ledger_of(1, cap=2)
    low = slot(3, priority=0)
    assert push(ledger, [slot(1, priority=1)])[0][1] == 1
    assert push(ledger, [low, slot(1, priority=1)])[0][1] == 1
    acknowledge(ledger, 0, 1, 2)
    assert push(ledger, [slot(4, priority=0), low, slot(1, priority=1)])[0][1] == 0


def test_a_removal_takes_the_qos_of_what_leaves() -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(1, priority=3), slot(2, priority=0)])
    acknowledge(ledger, 0, 1)
    assert push(ledger, [slot(2, priority=0)])[0][1] == 1


def test_an_update_puts_the_item_again_in_place_of_the_old_content() -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(1), slot(2)])
    [(_, _, frame)] = push(ledger, [slot(1), slot(2, version=1)])
    delta = decode_frame(frame)
    assert isinstance(delta, Delta)
    assert [(op.rank, op.item.n, op.item.payload[:2]) for op in delta.ops] == [(1, 2, "v1")]


def test_a_blocked_or_detached_device_is_not_written_to_but_remembered() -> None:
    ledger = ledger_of(2)
    ledger.block(0, blocked=True)
    ledger.detach(1)
    assert push(ledger, [slot(1)], [slot(1)]) == []
    assert ledger.behind[:2].tolist() == [True, True]
    ledger.block(0, blocked=False)
    assert [row for row, _, _ in push(ledger, [slot(1)], [slot(1)])] == [0]


def test_a_change_larger_than_the_budget_is_sent_in_several_frames_best_items_first() -> None:
    ledger = ledger_of(1, budget=96)
    window = [slot(n) for n in (31, 32, 33, 34, 35)]
    frames = [frame for _, _, frame in push(ledger, window)]
    assert len(frames) == 4
    assert all(len(frame) <= 96 - 9 for frame in frames)
    replica = Replica()
    for count, frame in enumerate(frames, 1):
        assert replica.receive(frame) is Received.APPLIED
        assert [item.n for item in replica.window] == [31, 32, 33, 34, 35][: len(replica.window)]
        assert len(replica.window) >= count


def test_a_snapshot_is_sent_where_it_is_smaller_than_a_delta() -> None:
    ledger = ledger_of(1, budget=4096)
    push(ledger, [slot(n) for n in range(1, 9)])
    [(_, _, frame)] = push(ledger, [slot(n) for n in range(11, 19)])
    assert isinstance(decode_frame(frame), Snapshot)


def test_a_position_in_flight_acknowledges_everything_up_to_it() -> None:
    ledger = ledger_of(1)
    for newest in range(1, 4):
        push(ledger, [slot(newest)])
    assert ledger.answer(0, 1, 2) is Answer.UNDER_WAY
    assert ledger.inflight[0] == 1
    assert ledger.answer(0, 1, 3) is Answer.KNOWN
    assert ledger.inflight[0] == 0


def test_a_position_before_what_was_acknowledged_gets_a_delta_with_its_base() -> None:
    ledger = ledger_of(1)
    for newest in range(1, 4):
        push(ledger, [slot(n) for n in range(newest, 0, -1)])
    acknowledge(ledger, 0, 1, 2, 3)
    assert ledger.answer(0, 1, 2) is Answer.KNOWN
    [(_, _, frame)] = push(ledger, [slot(3), slot(2), slot(1)])
    delta = decode_frame(frame)
    assert isinstance(delta, Delta)
    assert (delta.seq, delta.base) == (4, 2)


def test_a_device_that_went_back_to_a_window_like_its_feed_is_sent_an_empty_delta() -> None:
    ledger = ledger_of(1)
    for window in ([1], [2, 1], [1]):
        push(ledger, [slot(n) for n in window])
    acknowledge(ledger, 0, 1, 2, 3)
    assert ledger.answer(0, 1, 1) is Answer.KNOWN
    [(_, _, frame)] = push(ledger, [slot(1)])
    assert decode_frame(frame) == Delta(1, 4, (), 1)
    assert push(ledger, [slot(1)]) == []


def test_a_position_noted_while_frames_are_in_flight_that_follow_it_needs_no_answer() -> None:
    ledger = ledger_of(1)
    for newest in range(1, 4):
        push(ledger, [slot(newest)])
    assert ledger.note(0, 1, 1)
    assert ledger.inflight[0] == 2
    acknowledge(ledger, 0, 2, 3)
    assert not ledger.note(0, 1, 1)
    assert ledger.note(0, 1, 3)


def test_a_position_noted_while_a_snapshot_is_in_flight_needs_no_answer() -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(1)])
    assert ledger.note(0, 0, 0)
    acknowledge(ledger, 0, 1)
    assert not ledger.note(0, 0, 0)


@pytest.mark.parametrize("position", [(1, 9), (2, 0), (0, 3)])
def test_a_position_noted_that_nothing_in_flight_follows_is_to_be_answered(
    position: tuple[int, int],
) -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(1)])
    acknowledge(ledger, 0, 1)
    assert not ledger.note(0, *position)


def test_holding_nothing_is_not_answered_again_while_a_snapshot_is_under_way() -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(1)])
    assert ledger.answer(0, 0, 0) is Answer.UNDER_WAY
    acknowledge(ledger, 0, 1)
    assert ledger.answer(0, 0, 0) is Answer.SNAPSHOT


@pytest.mark.parametrize("position", [(1, 9), (2, 0), (2, 1)])
def test_a_position_ahead_of_everything_known_asks_for_a_new_epoch(
    position: tuple[int, int],
) -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(1)])
    assert ledger.answer(0, *position) is Answer.AHEAD


def test_feedback_counts_once_per_kind_and_only_for_what_was_sent() -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(1)])
    assert ledger.count_feedback(0, 1, 0) is True
    assert ledger.count_feedback(0, 1, 0) is False
    assert ledger.count_feedback(0, 1, 1) is True
    assert ledger.count_feedback(0, 2, 0) is None
    assert ledger.count_feedback(0, 0, 0) is None


def test_of_dwells_each_that_is_longer_than_all_before_counts() -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(1)])
    found = [ledger.count_feedback(0, 1, Kind.DWELL, seconds) for seconds in (0, 0, 5, 5, 3, 9)]
    assert found == [True, False, True, False, False, True]


def test_a_value_that_is_no_dwell_never_counts_again() -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(1)])
    for kind in (Kind.SHOWN, Kind.OPENED, Kind.DISMISSED):
        assert ledger.count_feedback(0, 1, kind, 1) is True
        assert ledger.count_feedback(0, 1, kind, 2) is False
    assert ledger.count_feedback(0, 1, Kind.DWELL, 1) is True


events = st.tuples(
    st.integers(1, 3), st.sampled_from(Kind), st.integers(0, 9) | st.just((1 << 32) - 1)
)


@settings(max_examples=50, deadline=None)
@given(st.lists(events, max_size=30), st.integers(0, 30))
def test_feedback_that_comes_again_counts_no_more_also_after_a_row_was_away(
    said: list[tuple[int, Kind, int]], away_after: int
) -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(n) for n in (1, 2, 3)])
    longest: dict[tuple[int, Kind], int] = {}
    for at, (number, kind, value) in enumerate(said):
        if at == away_after:
            packed = ledger.pack(0)
            ledger = Ledger(COLUMNS)
            open_row(ledger, 0, k=COLUMNS, budget=BUDGET)
            ledger.unpack(0, packed)
        before = longest.get((number, kind), -1)
        counts = before < 0 or (kind is Kind.DWELL and value > before)
        assert ledger.count_feedback(0, number, kind, value) is counts
        longest[number, kind] = max(before, value)
        assert ledger.count_feedback(0, number, kind, value) is False


def test_a_row_packed_when_dwells_had_no_length_takes_the_first_that_has_one() -> None:
    """A bit for each kind was all there was of an item: here shown, and dwelt on."""
    ledger = ledger_of(1)
    push(ledger, [slot(1)])
    fields = msgpack.unpackb(ledger.pack(0))
    assert fields[9] == [0]
    fields[9] = [0b1001]
    other = Ledger(COLUMNS)
    open_row(other, 0, k=COLUMNS, budget=BUDGET)
    other.unpack(0, msgpack.packb(fields))
    assert other.count_feedback(0, 1, Kind.SHOWN) is False
    assert other.count_feedback(0, 1, Kind.DWELL, 0) is False
    assert other.count_feedback(0, 1, Kind.OPENED) is True
    assert other.count_feedback(0, 1, Kind.DWELL, 4) is True


def test_feedback_is_remembered_only_for_items_that_may_still_get_some() -> None:
    ledger = ledger_of(1, k=1, cap=0)
    for newest in range(1, 500):
        push(ledger, [slot(newest)])
        assert ledger.count_feedback(0, newest, Kind.DWELL, (1 << 32) - 1) is True
    assert len(ledger._counted[0]) <= ledger.recent_length + 1


def test_feedback_is_taken_for_the_last_eight_windows_of_items() -> None:
    ledger = ledger_of(1, k=1, cap=0)
    for newest in range(1, 11):
        push(ledger, [slot(newest)])
    assert ledger.count_feedback(0, 2, 0) is None
    assert ledger.count_feedback(0, 3, 0) is True


def test_a_cap_lowered_to_qos_0_waits_until_what_was_sent_above_it_is_acknowledged() -> None:
    ledger = ledger_of(1)
    ledger.keep[0] = True
    push(ledger, [slot(1)])
    ledger.attach(0, 0)
    assert push(ledger, [slot(2), slot(1)]) == []
    assert push(ledger, [slot(2)]) == []
    assert [frame.qos for frame in ledger.unacknowledged(0)] == [1]
    assert acknowledge(ledger, 0, 1) == [0]
    assert [qos for _, qos, _ in push(ledger, [slot(2)])] == [0]


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_changed_budget_asks_for_a_snapshot_as_other_forms_of_the_items_may_fit(
    acknowledged: bool,
) -> None:
    ledger = ledger_of(1)
    push(ledger, [slot(1)])
    if acknowledged:
        acknowledge(ledger, 0, 1)
    ledger.fit(0, k=COLUMNS, frame_max=400, payload_max=350, clock=False)
    assert ledger.answer(0, 0, 0) is not Answer.AHEAD
    [(_, _, frame)] = push(ledger, [slot(1)])
    assert isinstance(decode_frame(frame), Snapshot)


def test_a_row_packed_with_another_window_length_is_never_resumed_by_a_delta() -> None:
    ledger = ledger_of(1, cap=0)
    push(ledger, [slot(n) for n in range(1, 6)])
    packed = ledger.pack(0)
    other = Ledger(COLUMNS)
    open_row(other, 0, k=3, budget=BUDGET)
    other.unpack(0, packed)
    other.attach(0, 0)
    push(other, [slot(n) for n in range(1, 4)])
    assert other.answer(0, 1, 1) is Answer.SNAPSHOT


def test_a_gap_before_a_frame_acknowledged_out_of_order_is_filled() -> None:
    ledger = ledger_of(1)
    for newest in range(1, 4):
        push(ledger, [slot(n) for n in range(newest, 0, -1)])
    acknowledge(ledger, 0, 3)
    assert ledger.answer(0, 1, 1) is Answer.KNOWN
    [(_, _, frame)] = push(ledger, [slot(3), slot(2), slot(1)])
    delta = decode_frame(frame)
    assert isinstance(delta, Delta)
    assert delta.base == 1


def test_a_batch_has_each_row_once() -> None:
    ledger = ledger_of(2, budget=96)
    rows = np.arange(2, dtype=np.int32)
    windows = feed([slot(n) for n in (31, 32, 33)], [slot(n) for n in (33, 34, 35)])
    for batch in ledger.push(rows, windows, FORMS, 0.0):
        assert len(set(batch.rows.tolist())) == len(batch.rows)


def test_with_leads_a_batch_has_whole_packets_and_keeps_only_the_tails_to_resend() -> None:
    plain, led = ledger_of(3), ledger_of(3)
    led.leads = lambda rows, qos, length: np.full((len(rows), 3), [qos, length, 7], np.uint8)
    found = []
    for ledger in (plain, led):
        ledger.keep[:3] = True
        push(ledger, [], [], [])
        rows = np.arange(3, dtype=np.int32)
        [batch] = ledger.push(rows, feed(*[[slot(1)]] * 3), FORMS, 0.0)
        found.append((batch, [ledger.unacknowledged(row) for row in range(3)]))
    (tails, kept), (packets, kept_too) = found
    assert (tails.whole, packets.whole) == (False, True)
    assert packets.tails == [bytes((1, len(tail), 7)) + tail for tail in tails.tails]
    assert kept == kept_too


@st.composite
def two_windows(draw: st.DrawFn) -> tuple[int, list[int], list[int]]:
    k = draw(st.integers(1, COLUMNS))
    numbers = st.lists(st.integers(1, 12), unique=True, max_size=k)
    versions = st.integers(0, 1)
    old = [slot(n, draw(versions), n % 4) for n in draw(numbers)]
    if draw(st.booleans()):
        rank = draw(st.integers(0, len(old)))
        new = [*old[:rank], slot(20), *old[rank:]][:k]
    else:
        new = [slot(n, draw(versions), n % 4) for n in draw(numbers)]
    return k, old, new


@given(st.lists(two_windows(), min_size=1, max_size=6), st.integers(0, 2))
@settings(max_examples=150, deadline=None)
def test_rows_worked_off_as_arrays_get_the_frames_of_the_general_way(
    cases: list[tuple[int, list[int], list[int]]], cap: int
) -> None:
    ledgers = [Ledger(COLUMNS, capacity=1) for _ in range(2)]
    ledgers[1]._single_puts = lambda rows, *_: (  # type: ignore[method-assign]
        np.zeros(len(rows), bool),
        np.zeros(len(rows), int),
    )
    sent = []
    for ledger in ledgers:
        for row, (k, _, _) in enumerate(cases):
            open_row(ledger, row, k=k, budget=4096, clock=bool(row % 2))
            ledger.begin_epoch(row, 100 * (row + 1))
            ledger.seq[row] = ledger.base[row] = 126 + row
            ledger.attach(row, cap)
            ledger.keep[row] = True
        push(ledger, *(old for _, old, _ in cases))
        sent.append(sorted(push(ledger, *(new for _, _, new in cases))))
    assert sent[0] == sent[1]
    for name in ("_devices", "recent", "held", "held_seq", "held_qos"):
        np.testing.assert_array_equal(getattr(ledgers[0], name), getattr(ledgers[1], name))
    for row in range(len(cases)):
        assert ledgers[0].pack(row) == ledgers[1].pack(row)


class Device:
    """A replica at the far end of a link that keeps order and may break at any byte."""

    def __init__(self, row: int, k: int, *, persistent: bool) -> None:
        self.row, self.k, self.persistent = row, k, persistent
        self.replica = Replica(k=k)
        self.saved = self.replica.state()
        self.down: deque[tuple[int, bytes]] = deque()
        self.up: deque[bytes | int] = deque()
        self.connected = False

    def take(self, qos: int, tail: bytes) -> None:
        received = self.replica.receive(tail[2:] if qos else tail)
        assert received is not Received.BAD
        if received in {Received.GAP, Received.IMPOSSIBLE}:
            self.up.append(self.replica.hello())
        if qos:
            self.up.append(int.from_bytes(tail[:2], "big"))


class LedgerAndReplica(RuleBasedStateMachine):
    """What the server does around a ledger, in miniature, and three devices."""

    devices_count = 3

    @initialize(cap=st.integers(0, 1))
    def start(self, cap: int) -> None:
        self.cap = cap
        self.epochs = [0] * self.devices_count
        self.feeds: list[list[int]] = [[] for _ in range(self.devices_count)]
        self.devices = [
            Device(0, 8, persistent=True),
            Device(1, 3, persistent=False),
            Device(2, 5, persistent=True),
        ]
        self.boot({})

    def boot(self, kept: dict[int, bytes]) -> None:
        self.ledger = Ledger(COLUMNS, max_inflight=2, capacity=1)
        for device in self.devices:
            open_row(self.ledger, device.row, k=device.k, budget=BUDGET)
            if device.row in kept:
                self.ledger.unpack(device.row, kept[device.row])
            else:
                self.epochs[device.row] += 1
                self.ledger.begin_epoch(device.row, self.epochs[device.row])

    def push(self, rows: list[int]) -> None:
        rows = sorted(set(rows))
        if not rows:
            return
        for row in rows:
            frame = self.ledger.resend_next(row) if self.ledger.alone[row] else None
            if frame is not None:
                self.devices[row].down.append((frame.qos, frame.tail))
        target = feed(*(self.feeds[row][: self.devices[row].k] for row in rows))
        for batch in self.ledger.push(np.array(rows, np.int32), target, FORMS, 0.0):
            for row, tail in zip(batch.rows.tolist(), batch.tails, strict=True):
                assert self.devices[row].connected
                assert len(tail) + 7 <= BUDGET
                self.devices[row].down.append((batch.qos, tail))

    @rule(
        row=st.integers(0, 2),
        numbers=st.lists(st.integers(1, 14), unique=True, max_size=COLUMNS),
        version=st.integers(0, 2),
    )
    def feed_changes(self, row: int, numbers: list[int], version: int) -> None:
        self.feeds[row] = [slot(n, version * (n % 3 == 0), n % 4) for n in numbers]
        self.push([row])

    @rule(number=st.integers(20, 30), rank=st.integers(0, 4))
    def an_item_enters_every_feed(self, number: int, rank: int) -> None:
        for feed_of_row in self.feeds:
            feed_of_row[:] = [s for s in feed_of_row if slots.number(s) != number]
            feed_of_row.insert(rank, slot(number))
            del feed_of_row[COLUMNS:]
        self.push([0, 1, 2])

    @rule(row=st.integers(0, 2), hello=st.booleans())
    def connect(self, row: int, hello: bool) -> None:
        device = self.devices[row]
        if device.connected:
            return
        device.connected = True
        self.ledger.keep[row] = device.persistent
        if device.persistent:
            for frame in self.ledger.resume(row):
                device.down.append((frame.qos, frame.tail))
        self.position(row, device.replica.position if hello else (0, 0))
        if not hello:
            # A device that never says hello asks for the whole, and so takes whatever comes.
            device.replica.epoch = device.replica.seq = 0

    def position(self, row: int, position: tuple[int, int]) -> None:
        answer = self.ledger.answer(row, *position)
        if answer is Answer.AHEAD:
            self.epochs[row] = position[0] + 1
            self.ledger.begin_epoch(row, self.epochs[row])
        self.ledger.attach(row, self.cap)
        self.push([row])

    @rule(row=st.integers(0, 2), count=st.integers(1, 5))
    def frames_arrive(self, row: int, count: int) -> None:
        device = self.devices[row]
        for _ in range(min(count, len(device.down))):
            device.take(*device.down.popleft())

    @rule(row=st.integers(0, 2), count=st.integers(1, 5))
    def answers_arrive(self, row: int, count: int) -> None:
        device = self.devices[row]
        for _ in range(min(count, len(device.up))):
            self.answer_arrives(device, device.up.popleft())

    def answer_arrives(self, device: Device, message: bytes | int) -> None:
        if isinstance(message, int):
            due = self.ledger.acknowledge(
                np.array([device.row], np.int32), np.array([message], np.uint16), 0.0
            )
            self.push(due.tolist())
        else:
            hello = decode_up(message)
            assert isinstance(hello, Hello)
            self.position(device.row, (hello.epoch, hello.seq))

    @rule(row=st.integers(0, 2), arrived=st.integers(0, 3))
    def the_link_breaks(self, row: int, arrived: int) -> None:
        device = self.devices[row]
        if not device.connected:
            return
        for _ in range(min(arrived, len(device.down))):
            device.take(*device.down.popleft())
        device.down.clear()
        device.up.clear()
        device.connected = False
        self.ledger.fail(row)
        self.ledger.disconnect(row)

    @rule(row=st.integers(0, 2))
    def the_device_saves_its_state(self, row: int) -> None:
        self.devices[row].saved = self.devices[row].replica.state()

    @rule(row=st.integers(0, 2))
    def the_device_loses_power_and_goes_back_to_what_it_had_saved(self, row: int) -> None:
        device = self.devices[row]
        if not device.connected:
            device.replica = Replica.from_state(device.saved)

    @rule(clean=st.booleans())
    def the_server_restarts(self, clean: bool) -> None:
        for device in self.devices:
            self.the_link_breaks(device.row, 0)
        kept = {d.row: self.ledger.pack(d.row) for d in self.devices} if clean else {}
        self.boot(kept)

    @precondition(lambda self: hasattr(self, "devices"))
    @rule()
    def once_connected_and_quiet_the_windows_are_equal(self) -> None:
        for device in self.devices:
            self.connect(device.row, hello=True)
            for _ in range(100):
                if not (device.down or device.up):
                    break
                while device.down:
                    device.take(*device.down.popleft())
                while device.up:
                    self.answer_arrives(device, device.up.popleft())
            assert not device.down
            expected = [slots.number(s) for s in self.feeds[device.row][: device.k]]
            assert [item.n for item in device.replica.window] == expected
            versions = [f"v{slots.version(s)}" for s in self.feeds[device.row][: device.k]]
            assert [str(item.payload)[:2] for item in device.replica.window] == versions
            assert not self.ledger.behind[device.row]

    def teardown(self) -> None:
        if hasattr(self, "devices"):
            self.once_connected_and_quiet_the_windows_are_equal()


LedgerAndReplica.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None
)
TestLedgerAndReplicaConverge = LedgerAndReplica.TestCase


def test_what_a_put_pushes_out_counts_for_its_qos() -> None:
    """A low item in place of an urgent one is sent as surely as the urgent one was."""
    ledger = ledger_of(2, k=2)
    urgent, low, other = slot(1, priority=3), slot(2, priority=0), slot(3, priority=0)
    push(ledger, [low, urgent], [low])
    acknowledge(ledger, 0, 1)
    sent = push(ledger, [other, low], [other, low])
    assert [(row, qos) for row, qos, _ in sent] == [(1, 0), (0, 1)]
