"""How long items took to one device, frame by frame."""

from __future__ import annotations

import pytest

from devices.frames import Delta, FeedItem, Frame, Put, Remove, Snapshot
from simulator.fleet.timing import Timing
from simulator.tally import Arrivals, Tally


def item(n: int, text: str) -> FeedItem:
    return FeedItem(n, 0, 1, text)


OLD, NEWS = item(1, "old"), item(2, "news")


class Bench:
    """A device that dialled at 10, with items published before and after."""

    def __init__(self) -> None:
        self.timing, self.arrivals, self.tally = Timing(), Arrivals(), Tally()
        self.arrivals.publish("old", now=5.0)
        self.arrivals.publish("news", now=20.0)
        self.timing.dial(10.0)

    def frame(self, frame: Frame, window: tuple[FeedItem, ...], now: float) -> None:
        self.timing.applied(frame, window, now, self.arrivals, self.tally)


def put(one: FeedItem, rank: int = 0) -> Delta:
    return Delta(1, 2, (Put(rank, one),))


def test_a_snapshot_after_dialling_is_a_wake_up_and_no_latency() -> None:
    bench = Bench()
    bench.frame(Snapshot(1, 1, 8, (OLD,)), (OLD,), 13.0)
    assert (bench.tally.wake_up.count, bench.tally.latency.count) == (1, 0)
    assert bench.tally.wake_up.largest == pytest.approx(3.0)


def test_a_delta_with_what_was_missed_is_a_wake_up_and_no_latency() -> None:
    bench = Bench()
    bench.frame(put(OLD), (OLD,), 13.0)
    assert (bench.tally.wake_up.count, bench.tally.latency.count) == (1, 0)


def test_news_in_the_first_frame_of_a_connection_are_timed_and_no_wake_up() -> None:
    bench = Bench()
    bench.frame(put(NEWS), (NEWS,), 20.5)
    assert (bench.tally.wake_up.count, bench.tally.latency.count) == (0, 1)
    assert bench.tally.latency.largest == pytest.approx(0.5)


def test_only_the_first_frame_of_a_connection_can_be_a_wake_up() -> None:
    bench = Bench()
    bench.frame(put(NEWS), (NEWS,), 20.5)
    bench.frame(put(OLD), (OLD, NEWS), 30.0)
    assert bench.tally.wake_up.count == 0
    bench.timing.dial(31.0)
    bench.frame(Snapshot(2, 1, 8, ()), (), 32.0)
    assert bench.tally.wake_up.count == 1


def test_an_older_number_that_moves_up_is_not_timed() -> None:
    bench = Bench()
    bench.arrivals.publish("third", now=21.0)
    bench.frame(put(item(3, "third")), (item(3, "third"),), 21.5)
    bench.frame(put(NEWS), (NEWS, item(3, "third")), 40.0)
    assert bench.tally.latency.count == 1


def test_what_fills_the_last_place_after_a_removal_is_timed_only_if_it_is_newer() -> None:
    bench = Bench()
    window = (item(9, "a"), NEWS)
    bench.frame(Delta(1, 2, (Remove(1), Put(1, NEWS))), window, 25.0)
    assert bench.tally.latency.count == 0
    bench.arrivals.publish("later", now=26.0)
    bench.frame(put(item(10, "later"), 1), (item(9, "a"), item(10, "later")), 27.0)
    assert bench.tally.latency.count == 1


def test_the_newest_item_of_a_window_is_known_and_forgotten_with_it() -> None:
    bench = Bench()
    bench.frame(Snapshot(1, 1, 8, (OLD, NEWS)), (OLD, NEWS), 21.0)
    assert bench.timing.newest == 20.0
    bench.frame(Delta(1, 2, (Remove(1),)), (OLD,), 22.0)
    assert bench.timing.newest == 5.0
    bench.frame(Delta(1, 3, (Remove(0),)), (), 23.0)
    assert bench.timing.newest == 0.0
