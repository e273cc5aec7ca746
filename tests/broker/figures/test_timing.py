"""Which items and frames are timed, and from when to when."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.figures import timing
from broker.figures.histogram import Histogram
from broker.figures.timing import ItemTimes
from devices import slots
from devices.ledger import Batch

SHELF = 1
OLD, NEW, NEWER, NEWEST = (slots.pack(n, 0, 1) for n in (3, 4, 5, 6))


def rows(*numbers: int) -> Any:
    return np.array(numbers, np.int32)


def batch(
    to: list[int], tips: list[int], names: list[int], *, qos: bool, alone: list[bool]
) -> Batch:
    """A frame to each of these rows."""
    windows = np.array([[tip, OLD, 0, 0] for tip in tips], np.int64).reshape(-1, 4)
    return Batch(rows(*to), int(qos), [], windows, records(names, alone))


def records(names: list[int], alone: list[bool]) -> Any:
    """What the ledger has of rows with these newest frames."""
    found = np.zeros(len(names), [("packet_id", "u2"), ("seq", "u4"), ("inflight", "u1")])
    found["packet_id"] = found["seq"] = names
    found["inflight"] = [1 if each else 2 for each in alone]
    return found


def send(
    times: ItemTimes,
    row: int,
    slot: int,
    at: float,
    name: int | None = 7,
    *,
    new: bool = True,
    alone: bool = True,
) -> None:
    frame = batch([row], [slot], [name or 0], qos=name is not None, alone=[alone])
    if not new:
        times.met(SHELF, frame.rows, frame.windows, frame.records)
    times.wrote(SHELF, frame, at)


def acknowledge(times: ItemTimes, row: int, name: int, at: float) -> None:
    times.acknowledged(SHELF, rows(row), np.array([name]), at)


def seconds(histogram: Histogram) -> list[float]:
    """What was counted, if it is one value or none."""
    found = histogram.read()
    assert found.count <= 1
    return [pytest.approx(found.sum)] if found.count else []


@pytest.fixture
def times() -> ItemTimes:
    """A device in row 2 that came when only the old item was there."""
    times = ItemTimes(2)
    times.accepted(OLD, 10.0)
    send(times, 2, OLD, 50.0, None, new=False)
    assert seconds(times.to_frame) == []
    return times


def test_an_item_is_timed_from_its_acceptance_to_its_frame_and_its_acknowledgement(
    times: ItemTimes,
) -> None:
    times.accepted(NEW, 100.0)
    send(times, 2, NEW, 100.25)
    acknowledge(times, 2, 7, 101.0)
    assert seconds(times.to_frame) == [0.25]
    assert seconds(times.to_ack) == [1.0]
    assert seconds(times.device) == [0.75]


def test_what_a_device_is_sent_when_it_comes_was_not_on_its_way(times: ItemTimes) -> None:
    times.accepted(NEW, 100.0)
    send(times, 2, NEW, 900.0, new=False)
    acknowledge(times, 2, 7, 901.0)
    assert seconds(times.to_frame) == []
    assert seconds(times.to_ack) == []
    assert seconds(times.device) == [1.0]


def test_an_item_that_goes_uncovers_no_new_one(times: ItemTimes) -> None:
    times.accepted(NEW, 100.0)
    send(times, 2, NEW, 100.25)
    send(times, 2, OLD, 200.0)
    send(times, 2, OLD, 300.0)
    assert seconds(times.to_frame) == [0.25]


def test_a_new_version_of_the_newest_item_is_timed(times: ItemTimes) -> None:
    version = slots.pack(3, 1, 1)
    times.accepted(version, 100.0)
    send(times, 2, version, 100.5)
    assert seconds(times.to_frame) == [0.5]


def test_one_frame_of_a_device_is_timed_at_a_time(times: ItemTimes) -> None:
    send(times, 2, NEW, 100.0, 7)
    send(times, 2, NEWER, 101.0, 8, alone=False)
    acknowledge(times, 2, 8, 101.5)
    assert seconds(times.device) == []
    acknowledge(times, 2, 7, 103.0)
    assert seconds(times.device) == [3.0]
    acknowledge(times, 2, 7, 104.0)
    assert seconds(times.device) == [3.0]


def test_a_frame_that_was_lost_with_its_session_gives_way(times: ItemTimes) -> None:
    send(times, 2, NEW, 100.0, 7)
    send(times, 2, NEWER, 200.0, 9)
    acknowledge(times, 2, 9, 200.5)
    assert seconds(times.device) == [0.5]


def test_a_frame_that_was_sent_again_is_not_timed(times: ItemTimes) -> None:
    send(times, 2, NEW, 100.0, 7)
    times.sent_again(SHELF, 2)
    times.sent_again(SHELF, 10_000)
    acknowledge(times, 2, 7, 200.0)
    assert seconds(times.device) == []


def test_of_many_frames_that_were_sent_again_together_none_is_timed(times: ItemTimes) -> None:
    many, names = list(range(100, 200)), list(range(1, 101))
    times.wrote(SHELF, batch(many, [NEW] * 100, names, qos=True, alone=[True] * 100), 100.0)
    assert seconds(times.device) == []  # asking has everything worked off
    for row in many:
        times.sent_again(SHELF, row)
    assert seconds(times.device) == []
    times.acknowledged(SHELF, rows(*many), np.array(names), 200.0)
    assert seconds(times.device) == []


def test_a_frame_of_qos_0_is_not_acknowledged(times: ItemTimes) -> None:
    times.accepted(NEW, 100.0)
    send(times, 2, NEW, 100.25, None)
    acknowledge(times, 2, 0, 101.0)
    assert seconds(times.to_frame) == [0.25]
    assert seconds(times.device) == []


def test_a_device_behind_another_broker_acknowledges_all_up_to_a_position() -> None:
    times = ItemTimes(2, positions=True)
    send(times, 2, NEW, 100.0, 7)
    acknowledge(times, 2, 6, 101.0)
    assert seconds(times.device) == []
    acknowledge(times, 2, 9, 102.0)
    assert seconds(times.device) == [2.0]


def test_a_position_is_confirmed_at_qos_0_as_well() -> None:
    times = ItemTimes(2, positions=True)
    times.wrote(SHELF, batch([2], [NEW], [7], qos=False, alone=[True]), 100.0)
    acknowledge(times, 2, 7, 102.0)
    assert seconds(times.device) == [2.0]


def test_an_item_whose_acceptance_is_forgotten_is_not_timed(times: ItemTimes) -> None:
    times.accepted(NEW, 100.0)
    times.accepted(slots.pack(4 + (1 << 16), 0, 1), 150.0)
    send(times, 2, NEW, 200.0)
    assert seconds(times.to_frame) == []


def test_many_rows_at_once_grow_the_columns(times: ItemTimes) -> None:
    times.accepted(NEW, 100.0)
    many = list(range(5_000))
    names, alone = [row + 1 for row in many], [True] * 5_000
    before = batch(many, [OLD] * 5_000, names, qos=True, alone=alone)
    times.met(SHELF, before.rows, before.windows, before.records)
    times.wrote(SHELF, batch(many, [NEW] * 5_000, names, qos=True, alone=alone), 100.5)
    assert times.to_frame.read().count == 5_000


def test_no_rows_are_no_event(times: ItemTimes) -> None:
    none = batch([], [], [], qos=True, alone=[])
    times.met(SHELF, none.rows, none.windows, none.records)
    send(times, 2, NEW, 100.0)
    acknowledge(times, 2, 7, 101.0)
    assert seconds(times.device) == [1.0]


# ---- Together as one after the other


class OneByOne:
    """The rules of the module, each event by itself as soon as it happens; times in ms, so that sums are exact."""

    def __init__(self, *, positions: bool) -> None:
        self.positions = positions
        self.accepted: dict[int, tuple[int, float]] = {}
        self.newest: dict[int, int] = {}
        self.timed: dict[int, tuple[int, float, float | None]] = {}
        self.counted: dict[str, list[float]] = {"to_frame": [], "to_ack": [], "device": []}

    def wrote(self, row: int, slot: int, name: int, at: float, *, alone: bool) -> None:
        since = None
        if slot > self.newest.get(row, 0):
            held, moment = self.accepted.get(slots.number(slot) % REMEMBERED, (0, 0.0))
            since = moment if held == slot else None
        self.newest[row] = slot
        if since is not None:
            self.counted["to_frame"].append(at - since)
        if name and (alone or row not in self.timed):
            self.timed[row] = (name, at, since)

    def acknowledged(self, row: int, name: int, at: float) -> None:
        if row not in self.timed:
            return
        timed, sent_at, since = self.timed[row]
        if timed == name or (self.positions and timed < name):
            del self.timed[row]
            self.counted["device"].append(at - sent_at)
            if since is not None:
                self.counted["to_ack"].append(at - since)


REMEMBERED = 1 << 16
NUMBERS = st.sampled_from([1, 2, 3, 4, 1 + REMEMBERED])
# How many rows from which on: one, a handful, or more than are worked off one by one.
SPANS = st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 1, 5, 40, 90]))
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("accepted"), NUMBERS),
        st.tuples(
            st.just("wrote"), SPANS, NUMBERS, st.integers(1, 3), st.booleans(), st.booleans()
        ),
        st.tuples(st.just("met"), SPANS, NUMBERS),
        st.tuples(st.just("acknowledged"), SPANS, st.integers(1, 3)),
        st.tuples(st.just("again"), SPANS),
        st.tuples(st.just("read")),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(EVENTS, st.booleans(), st.sampled_from([1, 7, 100, 1_000_000]))
def test_events_worked_off_together_count_as_one_after_the_other(
    events: list[tuple[Any, ...]], positions: bool, together: int
) -> None:
    times, model = (
        ItemTimes(2, positions=positions, together=together),
        OneByOne(positions=positions),
    )
    versions: Counter[int] = Counter()
    for moment, (what, *how) in enumerate(events, 1):
        at = float(moment)
        if what == "accepted":
            versions[how[0]] += 1  # no content is accepted twice
            slot = slots.pack(how[0], versions[how[0]], 1)
            times.accepted(slot, at)
            model.accepted[how[0] % REMEMBERED] = (slot, at)
        elif what == "again":
            for row in range(how[0][0], sum(how[0])):
                times.sent_again(SHELF, row)
                model.timed.pop(row, None)
        elif what == "read":
            assert times.to_frame.read().count == len(model.counted["to_frame"])
        else:
            (first, count), *said = how
            if what == "wrote" and not count:
                continue
            to = list(range(first, first + count))
            if what == "acknowledged":
                times.acknowledged(SHELF, rows(*to), np.full(count, said[0], np.uint16), at)
                for row in to:
                    model.acknowledged(row, said[0], at)
                continue
            slot = slots.pack(said[0], versions[said[0]], 1)
            name, alone, qos = (said[1], said[2], said[3]) if what == "wrote" else (0, False, False)
            frames = batch(to, [slot] * count, [name] * count, qos=qos, alone=[alone] * count)
            if what == "met":
                times.met(SHELF, frames.rows, frames.windows, frames.records)
                model.newest.update(dict.fromkeys(to, max(slot, OLD)))
                continue
            times.wrote(SHELF, frames, at)
            for row in to:
                awaited = name if qos or positions else 0
                model.wrote(row, max(slot, OLD), awaited, at, alone=alone)
    for name, values in model.counted.items():
        expected = Histogram()
        expected.add_many(np.array(values, float))
        found = getattr(times, name).read()
        assert found.counts.tolist() == expected.read().counts.tolist()
        assert found.sum == sum(values)


def test_no_more_waits_than_was_agreed(times: ItemTimes) -> None:
    times = ItemTimes(2, together=10)
    for at in range(25):
        send(times, 2, NEW, float(at), 7)
        acknowledge(times, 2, 7, at + 0.5)
        assert sum(len(notes.counts) for notes in times._notes) < 10
    for number in range(1, 100):
        times.accepted(slots.pack(number, 0, 1), 1.0)
        assert len(times._replaced) < 10
    assert times.device.read().count == 25


def many(slot: int, others: list[int], name: int, *, qos: bool, alone: bool) -> Batch:
    """A frame to each of 300 rows that puts one item in front of what the window has else."""
    windows = np.array([[slot, *others]] * 300, np.int64)
    rows_of = np.arange(300, dtype=np.int32)
    named = records([name] * 300, [alone] * 300)
    return Batch(rows_of, int(qos), [], windows, named, puts=300, put=slots.number(slot))


@pytest.mark.parametrize("at_once", [256, 1_000_000])
def test_a_batch_for_many_counts_as_its_frames_one_by_one(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(timing, "_MANY", at_once)
    times = ItemTimes(2)
    for at, slot in enumerate((OLD, NEW, NEWER, NEWEST)):
        times.accepted(slot, 10.0 + at)
    times.wrote(SHELF, many(OLD, [0, 0, 0], 1, qos=True, alone=True), 20.0)
    send(times, 5, NEWER, 21.0, 2, alone=False)  # waits, and is before what comes now
    times.wrote(SHELF, many(NEW, [OLD, 0, 0], 3, qos=True, alone=False), 22.0)
    times.acknowledged(SHELF, np.arange(300), np.full(300, 1), 23.0)
    times.wrote(SHELF, many(NEWEST, [NEW, OLD, 0], 4, qos=True, alone=False), 24.0)
    times.acknowledged(SHELF, np.arange(300), np.full(300, 4), 26.0)
    times.wrote(SHELF, many(NEWEST + 1, [NEW, OLD, 0], 0, qos=False, alone=True), 27.0)
    found = times.to_frame.read(), times.to_ack.read(), times.device.read()
    assert [each.count for each in found] == [300 + 1 + 299 + 300, 600, 600]
    assert [each.sum for each in found] == pytest.approx(
        [300 * 10 + 9 + 299 * 11 + 300 * 11, 300 * 13 + 300 * 13, 300 * 3 + 300 * 2]
    )
