from __future__ import annotations

import json
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.difference import MoveOp, PutOp, RemoveOp, difference
from devices.frames import (
    Ack,
    Delta,
    FeedItem,
    Frame,
    Hello,
    HelloOptions,
    Move,
    Op,
    Put,
    Remove,
    Snapshot,
    decode_frame,
    decode_up,
    encode_frame,
)
from devices.replica import HelloPacer, Received, Replica
from devices.slots import number, pack, version
from tests.wire_cases import BAD_FRAMES, FRAMES, Invalid, Valid


def item(n: int, content: int = 0) -> FeedItem:
    return FeedItem(n, 0, 1, f"{n}.{content}")


def snapshot(epoch: int, seq: int, *numbers: int, k: int = 4) -> bytes:
    return encode_frame(Snapshot(epoch, seq, k, tuple(item(n) for n in numbers)))


def delta(epoch: int, seq: int, *ops: Op, base: int | None = None) -> bytes:
    return encode_frame(Delta(epoch, seq, ops, base))


def numbers(replica: Replica) -> list[int]:
    return [item.n for item in replica.window]


@pytest.fixture
def replica() -> Replica:
    """At position 5.10 with the items 1 2 3 4 and no room for more."""
    replica = Replica(k=4)
    assert replica.receive(snapshot(5, 10, 1, 2, 3, 4)) is Received.APPLIED
    return replica


def test_a_snapshot_replaces_everything(replica: Replica) -> None:
    assert replica.receive(snapshot(5, 12, 9, 1, k=16)) is Received.APPLIED
    assert (replica.position, replica.k, numbers(replica)) == ((5, 12), 16, [9, 1])


def test_a_snapshot_of_a_higher_epoch_is_taken_whatever_its_seq(replica: Replica) -> None:
    assert replica.receive(snapshot(6, 0, 7)) is Received.APPLIED
    assert replica.position == (6, 0)


@pytest.mark.parametrize("position", [(4, 99), (5, 9), (5, 10)])
def test_a_snapshot_from_before_is_ignored_as_stale(
    replica: Replica, position: tuple[int, int]
) -> None:
    assert replica.receive(snapshot(*position, 9)) is Received.STALE
    assert (replica.position, numbers(replica)) == ((5, 10), [1, 2, 3, 4])


def test_a_put_at_the_head_pushes_the_last_out(replica: Replica) -> None:
    assert replica.receive(delta(5, 11, Put(0, item(9)))) is Received.APPLIED
    assert (replica.position, numbers(replica)) == ((5, 11), [9, 1, 2, 3])


def test_a_put_past_the_end_appends(replica: Replica) -> None:
    replica.receive(delta(5, 11, Remove(3), Put(77, item(9))))
    assert numbers(replica) == [1, 2, 3, 9]


def test_a_put_past_the_end_of_a_full_window_is_cut_off_again(replica: Replica) -> None:
    assert replica.receive(delta(5, 11, Put(4, item(9)))) is Received.APPLIED
    assert numbers(replica) == [1, 2, 3, 4]


def test_a_put_of_a_held_number_replaces_it_where_it_is_put(replica: Replica) -> None:
    replica.receive(delta(5, 11, Put(3, item(1, content=7))))
    assert replica.window == (item(2), item(3), item(4), item(1, content=7))


def test_the_target_of_a_move_counts_after_taking_out(replica: Replica) -> None:
    replica.receive(delta(5, 11, Move(0, 3)))
    assert numbers(replica) == [2, 3, 4, 1]


def test_ops_apply_in_order(replica: Replica) -> None:
    replica.receive(delta(5, 11, Remove(0), Remove(0), Move(1, 0), Put(1, item(9))))
    assert numbers(replica) == [4, 9, 3]


def test_a_delta_with_an_explicit_base_applies_where_it_starts(replica: Replica) -> None:
    assert replica.receive(delta(5, 20, Remove(0), base=10)) is Received.APPLIED
    assert replica.position == (5, 20)


@pytest.mark.parametrize(("epoch", "seq"), [(4, 11), (5, 10), (5, 3)])
def test_a_late_delta_is_ignored_as_stale(replica: Replica, epoch: int, seq: int) -> None:
    assert replica.receive(delta(epoch, seq, Remove(0))) is Received.STALE
    assert (replica.position, numbers(replica)) == ((5, 10), [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("epoch", "seq", "base"),
    [
        pytest.param(5, 12, None, id="one frame is missing"),
        pytest.param(5, 12, 9, id="starts before and ends after"),
        pytest.param(6, 11, None, id="another epoch"),
    ],
)
def test_a_delta_that_starts_elsewhere_is_a_gap(
    replica: Replica, epoch: int, seq: int, base: int | None
) -> None:
    assert replica.receive(delta(epoch, seq, Remove(0), base=base)) is Received.GAP
    assert (replica.position, numbers(replica)) == ((5, 10), [1, 2, 3, 4])


@pytest.mark.parametrize("op", [Remove(4), Move(4, 0), Move(0, 4)], ids=str)
def test_an_impossible_op_gives_the_position_up_and_changes_nothing_shown(
    replica: Replica, op: Op
) -> None:
    assert replica.receive(delta(5, 11, Remove(0), Put(0, item(9)), op)) is Received.IMPOSSIBLE
    assert (replica.position, numbers(replica)) == ((0, 0), [1, 2, 3, 4])
    assert decode_up(replica.hello()) == Hello(
        0, 0, HelloOptions(k=4, budget=256, max_qos=1, clock=False)
    )


def test_after_an_impossible_op_a_delta_is_a_gap_and_the_next_snapshot_is_taken(
    replica: Replica,
) -> None:
    replica.receive(delta(5, 11, Remove(9)))
    assert replica.receive(delta(5, 12, Remove(0))) is Received.GAP
    assert replica.receive(snapshot(5, 12, 8)) is Received.APPLIED
    assert (replica.position, numbers(replica)) == ((5, 12), [8])


def test_a_device_that_holds_nothing_sees_a_gap_in_every_delta() -> None:
    assert Replica().receive(delta(1, 1, Put(0, item(1)))) is Received.GAP


@pytest.mark.parametrize("case", BAD_FRAMES, ids=str)
def test_what_is_no_frame_changes_nothing(replica: Replica, case: Invalid) -> None:
    before = replica.state()
    assert replica.receive(case.data) is Received.BAD
    assert replica.state() == before


@pytest.mark.parametrize("case", [case for case in FRAMES if case.value is None], ids=str)
def test_a_frame_type_of_a_later_protocol_changes_nothing(
    replica: Replica, case: Valid[Frame | None]
) -> None:
    before = replica.state()
    assert replica.receive(case.data) is Received.UNKNOWN
    assert replica.state() == before


@pytest.mark.parametrize("case", [case for case in FRAMES if case.value is not None], ids=str)
def test_every_named_snapshot_applies_to_nothing_and_every_delta_is_a_gap_there(
    case: Valid[Frame | None],
) -> None:
    is_snapshot = isinstance(case.value, Snapshot)
    assert Replica().receive(case.data) is (Received.APPLIED if is_snapshot else Received.GAP)


def test_a_hello_says_the_position_and_what_the_device_asks_for(replica: Replica) -> None:
    replica.receive(snapshot(5, 11, 1, k=2))
    assert decode_up(replica.hello(c=77)) == Hello(
        5, 11, HelloOptions(k=4, budget=256, max_qos=1, c=77, clock=False)
    )


def test_an_ack_says_the_position(replica: Replica) -> None:
    assert decode_up(replica.ack()) == Ack(5, 10)


def test_a_replica_goes_on_from_its_state(replica: Replica) -> None:
    replica = Replica.from_state(json.loads(json.dumps(replica.state())))
    assert replica.receive(delta(5, 11, Put(0, item(9)))) is Received.APPLIED
    assert numbers(replica) == [9, 1, 2, 3]


def test_the_state_keeps_what_the_device_asks_for_apart_from_what_it_got() -> None:
    replica = Replica(k=12, budget=512, max_qos=2, agent="fridge/2", clock=True)
    replica.receive(snapshot(5, 1, 1, k=2))
    twin = Replica.from_state(replica.state())
    assert (twin.k, twin.hello()) == (2, replica.hello())


def test_its_repr_tells_position_and_items(replica: Replica) -> None:
    assert repr(replica) == "<Replica 5.10 k=4 [1 2 3 4]>"


K = 4
histories = st.lists(
    st.lists(st.tuples(st.integers(1, 7), st.integers(0, 1)), max_size=K, unique_by=lambda s: s[0]),
    min_size=2,
    max_size=12,
)


def as_frames(windows: list[list[int]]) -> list[bytes]:
    """What a server may send of a history: seq s names windows[s - 1], in epoch 3."""

    def shown(slot: int) -> FeedItem:
        return item(number(slot), version(slot))

    def op(change: PutOp | RemoveOp | MoveOp) -> Op:
        if isinstance(change, PutOp):
            return Put(change.rank, shown(change.slot))
        if isinstance(change, RemoveOp):
            return Remove(change.rank)
        return Move(change.source, change.target)

    frames: list[Frame] = [
        Snapshot(3, seq, K, tuple(map(shown, held))) for seq, held in enumerate(windows, start=1)
    ]
    for seq, (old, new) in enumerate(pairwise(windows), start=2):
        frames.append(Delta(3, seq, tuple(map(op, difference(old, new, K)))))
    if len(windows) > 2:
        net = difference(windows[0], windows[-1], K)
        frames.append(Delta(3, len(windows), tuple(map(op, net)), 1))
    return [encode_frame(frame) for frame in frames]


@given(histories, st.randoms(use_true_random=False), st.integers(0, 40))
@settings(max_examples=200, deadline=None)
def test_lost_doubled_and_reordered_frames_never_show_a_window_that_the_server_did_not_mean(
    history: list[list[tuple[int, int]]], chance: Random, count: int
) -> None:
    windows = [[pack(n, v, 1) for n, v in held] for held in history]
    frames = as_frames(windows)
    replica = Replica(k=K)
    for data in chance.choices(frames, k=count):
        before = replica.position
        received = replica.receive(data)
        assert received in {Received.APPLIED, Received.STALE, Received.GAP}
        assert (replica.position > before) == (received is Received.APPLIED)
        if replica.epoch:
            meant = windows[replica.seq - 1]
            assert replica.window == tuple(item(number(slot), version(slot)) for slot in meant)


@given(
    st.lists(
        st.binary(max_size=40)
        | st.builds(
            lambda data, at, byte: data[: at % len(data)] + byte + data[at % len(data) + 1 :],
            st.sampled_from(
                [snapshot(5, 9, 1, 2, 3), delta(5, 11, Put(0, item(9)), Move(0, 1), Remove(3))]
            ),
            st.integers(0, 60),
            st.binary(max_size=1),
        ),
        max_size=8,
    )
)
@settings(max_examples=200, deadline=None)
def test_hostile_frames_leave_a_window_that_can_be_shown(frames: list[bytes]) -> None:
    replica = Replica(k=4)
    replica.receive(snapshot(5, 10, 1, 2, 3, 4))
    for data in frames:
        replica.receive(data)
        held = Snapshot(max(replica.epoch, 1), replica.seq, replica.k, replica.window)
        assert decode_frame(encode_frame(held)) == held


def test_a_device_may_ask_at_once_and_then_not_for_thirty_seconds() -> None:
    pacer = HelloPacer(seed=1)
    assert pacer.wants(now=1000.0)
    pacer.sent(now=1000.0)
    assert not pacer.wants(now=1029.9)
    assert pacer.wants(now=1045.0)


def test_each_unanswered_hello_doubles_the_pause_up_to_an_hour() -> None:
    pacer = HelloPacer(seed=1)
    now = 0.0
    pauses = []
    for _ in range(12):
        pacer.sent(now)
        pauses.append(pacer.until - now)
        now = pacer.until
    for pause, least in zip(pauses, [30, 60, 120, 240, 480, 960, 1920, *[3600] * 5], strict=True):
        assert least <= pause <= 1.5 * least


def test_a_frame_that_applies_lets_the_device_ask_at_once_again() -> None:
    pacer = HelloPacer(seed=1)
    pacer.sent(now=0.0)
    pacer.sent(now=50.0)
    pacer.applied()
    assert pacer.wants(now=51.0)
    pacer.sent(now=51.0)
    assert pacer.wants(now=51.0 + 45.0)


def test_devices_do_not_ask_in_step() -> None:
    pauses = set()
    for device in ("kitchen", "hall", "cellar"):
        pacer = HelloPacer(device)
        pacer.sent(now=0.0)
        pauses.add(pacer.until)
    assert len(pauses) == 3
