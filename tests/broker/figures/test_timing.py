"""Which items and frames are timed, and from when to when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from broker.figures.histogram import Histogram
from broker.figures.timing import ItemTimes
from devices import slots

SHELF = 1
OLD, NEW, NEWER = (slots.pack(n, 0, 1) for n in (3, 4, 5))


def rows(*numbers: int) -> Any:
    return np.array(numbers, np.int32)


def windows(*tips: int) -> Any:
    return np.array([[tip, OLD, 0, 0] for tip in tips], np.int64)


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
    times.intend(SHELF, rows(row), windows(slot), new=new)
    names = None if name is None else np.array([name], np.uint16)
    times.wrote(SHELF, rows(row), names, np.array([alone]), at)


def acknowledge(times: ItemTimes, row: int, name: int, at: float, **how: bool) -> None:
    times.acknowledged(SHELF, rows(row), np.array([name]), at, **how)


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
    send(times, 2, OLD, 50.0, new=False)
    acknowledge(times, 2, 7, 50.5)
    times.device = Histogram()
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


def test_a_frame_of_qos_0_is_not_acknowledged(times: ItemTimes) -> None:
    times.accepted(NEW, 100.0)
    send(times, 2, NEW, 100.25, None)
    acknowledge(times, 2, 0, 101.0)
    assert seconds(times.to_frame) == [0.25]
    assert seconds(times.device) == []


def test_a_device_behind_another_broker_acknowledges_all_up_to_a_position(times: ItemTimes) -> None:
    send(times, 2, NEW, 100.0, 7)
    acknowledge(times, 2, 6, 101.0, all_before=True)
    assert seconds(times.device) == []
    acknowledge(times, 2, 9, 102.0, all_before=True)
    assert seconds(times.device) == [2.0]


def test_an_item_whose_acceptance_is_forgotten_is_not_timed(times: ItemTimes) -> None:
    times.accepted(NEW, 100.0)
    times.accepted(slots.pack(4 + (1 << 16), 0, 1), 150.0)
    send(times, 2, NEW, 200.0)
    assert seconds(times.to_frame) == []


def test_many_rows_at_once_grow_the_columns(times: ItemTimes) -> None:
    times.accepted(NEW, 100.0)
    many = np.arange(5_000, dtype=np.int32)
    times.intend(SHELF, many, windows(*[OLD] * 5_000), new=False)
    times.intend(SHELF, many, windows(*[NEW] * 5_000), new=True)
    times.wrote(SHELF, many, many + 1, np.ones(5_000, bool), 100.5)
    assert times.to_frame.read().count == 5_000
