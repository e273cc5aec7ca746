from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from feedgen.engine import Engine, Seat, shelf_of
from feedgen.items import Item, Record

LANDMARK = 1_700_000_000


class Bench:
    """An engine with short ways to use it."""

    def __init__(self) -> None:
        self.engine = Engine(landmark=LANDMARK)
        self.numbers = count(1)

    def seat(self, *follow: str, k: int = 8, capacity: int = 100, **attrs: str | int) -> Seat:
        return self.engine.seat(follow=follow or ("#",), attrs=attrs, k=k, capacity=capacity)

    def record(self, channel: str = "a", at: float = 0, ttl: int = 1000, **fields: Any) -> Record:
        """Return a new item, accepted `at` seconds after the landmark."""
        n = next(self.numbers)
        item = Item(channel, f"i{n}", **({"payload": "x"} | fields), ttl=ttl)
        return Record(n, 0, item, int((LANDMARK + at) * 1000), int(LANDMARK + at + ttl), b"")

    def publish(self, *records: Record) -> None:
        self.engine.publish(records, [self.slot(record) for record in records])

    @staticmethod
    def slot(record: Record) -> int:
        return record.n << 16 | record.version

    def add(self, channel: str = "a", at: float = 0, **fields: Any) -> int:
        """Publish a new item and run dry; return its number."""
        record = self.record(channel, at, **fields)
        self.publish(record)
        self.run_dry()
        return record.n

    def update(self, n: int, at: float, **fields: Any) -> Record:
        before = self.engine.item(n)
        assert before is not None
        item = replace(before.item, **fields)
        after = replace(
            before,
            version=before.version + 1,
            item=item,
            published_ms=int((LANDMARK + at) * 1000),
            expires=int(LANDMARK + at + item.ttl),
        )
        self.publish(after)
        return after

    def retract(self, n: int) -> None:
        before = self.engine.item(n)
        assert before is not None
        self.publish(replace(before, version=before.version + 1, retracted=True))

    def run_dry(self, max_rows: int = 16_384) -> list[tuple[int, int]]:
        """Step until nothing is left; return (shelf, row) of all changes."""
        told = []
        while self.engine.busy:
            for change in self.engine.step(LANDMARK, max_rows):
                told += [(change.shelf, row) for row in change.rows.tolist()]
        return told

    def slots(self, seat: Seat) -> list[int]:
        return self.engine.slots(seat.shelf, np.array([seat.row], np.int32))[0].tolist()


@pytest.fixture
def bench() -> Bench:
    return Bench()


# Devices


@pytest.mark.parametrize(
    ("k", "shelf"), [(1, 0), (8, 0), (9, 1), (16, 1), (17, 2), (32, 2), (33, 3), (64, 3)]
)
def test_a_device_sits_on_the_smallest_shelf_that_shows_enough(k, shelf):
    assert shelf_of(k) == shelf


def test_no_shelf_shows_more_than_64_items():
    with pytest.raises(ValueError, match="65"):
        shelf_of(65)


def test_a_new_device_finds_the_items_that_are_there(bench):
    newest, oldest = bench.add(at=10), bench.add(at=0)
    seat = bench.seat()
    assert bench.engine.window(seat) == []
    assert bench.run_dry() == [seat]
    assert bench.engine.window(seat) == [newest, oldest]


def test_a_row_is_told_even_if_nothing_is_to_be_shown(bench):
    seat = bench.seat("nothing/here")
    assert bench.run_dry() == [seat]


def test_a_row_given_back_shows_nothing_of_the_device_before(bench):
    first = bench.seat("a", region="ca")
    bench.engine.dismiss(first, 1)
    n = bench.add("a", where=(("region", ("ca",)),))
    bench.engine.unseat(first)
    second = bench.seat("#")
    assert second == first
    assert bench.slots(second)[0] == 0
    bench.run_dry()
    assert bench.engine.window(second) == []
    bench.engine.change(second, attrs={"region": "ca"})
    bench.run_dry()
    assert bench.engine.window(second) == [n]


def test_a_freed_follow_set_leaves_nothing_to_the_next(bench):
    everything = bench.seat("#")
    n = bench.add("secret")
    bench.engine.change(everything, follow=())
    bench.run_dry()
    assert bench.engine.window(everything) == []
    assert n not in bench.engine.window(bench.seat("open"))


def test_what_a_device_shows_is_kept_until_its_row_is_built_anew(bench):
    seat = bench.seat("a")
    n = bench.add("a")
    bench.engine.change(seat, follow=("b",))
    assert not bench.engine.filled(seat)
    assert bench.engine.window(seat) == [n]
    bench.run_dry()
    assert bench.engine.filled(seat)
    assert bench.engine.window(seat) == []


def test_k_changes_within_a_shelf_only(bench):
    seat = bench.seat(k=2)
    numbers = [bench.add(at=at) for at in range(4)]
    bench.engine.change(seat, k=3)
    assert bench.run_dry() == [seat]
    assert bench.engine.window(seat) == numbers[:0:-1]
    with pytest.raises(ValueError, match="shelf 8"):
        bench.engine.change(seat, k=9)


# Items


def test_slots_are_what_the_owner_gave_best_first_and_zero_beyond_k(bench):
    seat = bench.seat(k=2)
    first, second, third = (bench.record(at=at) for at in (1, 2, 3))
    bench.publish(first, second, third)
    bench.run_dry()
    assert bench.slots(seat) == [bench.slot(third), bench.slot(second), *[0] * 6]


def test_only_rows_whose_visible_part_changed_are_told(bench):
    busy, idle = bench.seat(k=1), bench.seat("b", k=1)
    assert sorted(bench.run_dry()) == [busy, idle]
    bench.publish(bench.record(at=10))
    assert bench.run_dry() == [busy]
    bench.publish(bench.record(at=0))
    assert bench.run_dry() == []


def test_an_urgent_item_stands_above_everything_newer(bench):
    seat = bench.seat()
    urgent = bench.add(priority=3)
    later = bench.add(at=13 * 86_400, priority=2)
    assert bench.engine.window(seat) == [urgent, later]


def test_who_follows_more_precisely_ranks_an_item_higher(bench):
    vague, precise = bench.seat("#"), bench.seat("#", "a/b")
    followed, newer = bench.add("a/b"), bench.add("c", at=600)
    assert bench.engine.window(vague) == [newer, followed]
    assert bench.engine.window(precise) == [followed, newer]


def test_a_payload_that_does_not_fit_is_replaced_by_its_brief_or_counted(bench):
    small, large = bench.seat(capacity=40), bench.seat(capacity=60)
    bench.run_dry()
    long = bench.add(payload="é" * 25)
    brief = bench.add(at=-1, payload="x" * 50, brief="x")
    assert bench.engine.window(small) == [brief]
    assert bench.engine.window(large) == [long, brief]
    assert bench.engine.counters["oversize"] == 1


def test_oversize_counts_devices_that_the_item_was_meant_for(bench):
    for region in ("ca", "ca", "us"):
        bench.seat(capacity=40, region=region)
    bench.run_dry()
    bench.add(payload="x" * 50, where=(("region", ("ca",)),))
    bench.add(payload="x" * 50, collapse="key", where=(("region", ("us",)),))
    assert bench.engine.counters["oversize"] == 3


def test_an_update_takes_the_place_of_what_was_shown_before(bench):
    seat = bench.seat()
    first, second = bench.add(at=0), bench.add(at=10)
    update = bench.update(first, at=20)
    assert bench.run_dry() == [seat]
    assert bench.engine.window(seat) == [first, second]
    assert bench.slots(seat)[0] == bench.slot(update)
    assert bench.engine.item(first) == update


def test_an_update_leaves_devices_that_it_is_no_more_meant_for(bench):
    seat = bench.seat(region="ca")
    n = bench.add()
    bench.update(n, at=1, where=(("region", ("us",)),))
    bench.run_dry()
    assert bench.engine.window(seat) == []


@pytest.mark.parametrize("together", [True, False])
def test_a_row_that_updates_emptied_finds_what_it_had_refused(bench, together):
    seat = bench.seat(k=8)
    numbers = [bench.add(at=at) for at in range(40)]
    for n in numbers[20:]:
        bench.update(n, at=100, where=(("region", ("nowhere",)),))
        if not together:
            bench.run_dry()
    bench.run_dry()
    assert bench.engine.window(seat) == numbers[19:11:-1]


def test_an_item_published_again_after_its_retraction_stands_in_no_window_twice(bench):
    seat = bench.seat()
    n = bench.add()
    record = bench.engine.item(n)
    assert record is not None
    bench.retract(n)
    bench.publish(replace(record, version=2, item=replace(record.item, priority=3)))
    while bench.engine.busy:
        bench.engine.step(LANDMARK, 1)
        assert bench.engine.window(seat) == [n]


def test_a_step_for_urgent_items_does_nothing_else(bench):
    seat = bench.seat(k=4)
    bench.run_dry()
    other, urgent = bench.record(priority=2), bench.record(priority=3)
    bench.publish(other, urgent)
    bench.engine.step(LANDMARK, urgent=True)
    assert bench.engine.window(seat) == [urgent.n]
    assert bench.engine.busy
    assert not bench.engine.urgent
    bench.run_dry()
    assert bench.engine.window(seat) == [urgent.n, other.n]


def test_an_urgent_item_has_rows_built_first_that_wait_to_be_built_anew(bench):
    others = [bench.seat(f"other/{n}") for n in range(50)]
    seat = bench.seat("alarms/#")
    bench.run_dry()
    for waiting in (*others, seat):
        bench.engine.refresh(waiting)
    urgent = bench.record("alarms/fire", priority=3)
    for number in range(3):  # again and again it is the same row that waits
        bench.publish(replace(urgent, version=number))
        bench.engine.step(LANDMARK, 2_000, urgent=True)
    assert bench.engine.window(seat) == [urgent.n]
    assert not all(bench.engine.filled(other) for other in others)
    bench.run_dry()
    assert all(bench.engine.filled(other) for other in others)
    assert bench.engine.window(seat) == [urgent.n]


def test_a_retracted_item_leaves_at_once_however_little_its_retraction_says(bench):
    seat = bench.seat(k=1)
    bench.add(priority=0, at=-1)
    urgent = bench.add(priority=3)
    bench.publish(*(bench.record(f"c/{i}", priority=2) for i in range(50)))
    before = bench.engine.item(urgent)
    assert before is not None
    calm = replace(before.item, priority=0, retract=True)
    bench.publish(replace(before, item=calm, retracted=True))
    bench.engine.step(LANDMARK, 1)
    bench.engine.step(LANDMARK, 1)
    assert urgent not in bench.engine.window(seat)


def test_expired_items_are_named_once_and_leave_every_window(bench):
    seat = bench.seat()
    short, long = bench.add(ttl=10), bench.add(ttl=1000)
    assert bench.engine.expire(LANDMARK + 9.9) == []
    assert bench.engine.expire(LANDMARK + 10) == [short]
    assert bench.engine.expire(LANDMARK + 20) == []
    assert bench.engine.item(short) is None
    bench.run_dry()
    assert bench.engine.window(seat) == [long]


def test_an_update_moves_the_expiry(bench):
    bench.seat()
    n = bench.add(ttl=10)
    bench.update(n, at=5)
    assert bench.engine.expire(LANDMARK + 10) == []
    assert bench.engine.expire(LANDMARK + 15) == [n]


def test_a_burst_of_urgent_items_that_are_over_leaves_no_feed_empty(bench):
    seat = bench.seat(k=8)
    lasting = [bench.add(at=at) for at in range(8)]
    bench.publish(*(bench.record(priority=3, ttl=10, at=at) for at in range(40)))
    bench.run_dry()
    bench.engine.expire(LANDMARK + 100)
    bench.run_dry()
    assert bench.engine.window(seat) == lasting[::-1]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_window_is_found_however_deep_below_what_is_for_others(bench, channels):
    there, here = (("region", ("us",)),), (("region", ("ca",)),)
    deep = [bench.record(f"c/{at % channels}", at=at, where=here) for at in range(20)]
    others = [bench.record(f"c/{at % channels}", at=at, where=there) for at in range(20, 900)]
    bench.publish(*others, *deep)
    seat, other = bench.seat(region="ca"), bench.seat(region="us")
    bench.run_dry()
    assert bench.engine.window(seat) == [record.n for record in deep[:11:-1]]
    assert bench.engine.window(other) == [record.n for record in others[:-9:-1]]


def test_what_a_busy_channel_hides_deep_down_still_comes_before_what_a_quiet_one_has(bench):
    there = (("region", ("us",)),)
    quiet = [bench.record("quiet", at=at) for at in range(20)]
    deep = [bench.record("busy", at=at) for at in range(20, 40)]
    others = [bench.record("busy", at=at, where=there) for at in range(40, 140)]
    bench.publish(*quiet, *others, *deep)
    seat = bench.seat(region="ca")
    bench.run_dry()
    assert bench.engine.window(seat) == [record.n for record in deep[:11:-1]]


# Dismissals


def test_a_dismissed_item_never_returns(bench):
    seat = bench.seat(k=1)
    other, dismissed = bench.add(at=0), bench.add(at=1)
    bench.engine.dismiss(seat, dismissed)
    assert bench.engine.window(seat) == [other]
    assert bench.run_dry() == [seat]
    bench.update(dismissed, at=10)
    bench.run_dry()
    bench.engine.change(seat, attrs={})
    bench.run_dry()
    bench.retract(dismissed)
    record = bench.record(at=20)
    bench.publish(replace(record, n=dismissed))
    bench.run_dry()
    assert bench.engine.window(seat) == [other]


def test_dismissals_are_forgotten_with_the_item(bench):
    seat = bench.seat()
    n = bench.add(ttl=10)
    bench.engine.dismiss(seat, n)
    bench.engine.expire(LANDMARK + 10)
    assert not bench.engine._state.dismissers
    assert not bench.engine._state.shelves[0].dismissed[seat.row]


def test_dismissals_are_forgotten_with_the_tombstone(bench):
    seat = bench.seat()
    n = bench.add(ttl=10)
    bench.engine.dismiss(seat, n)
    bench.retract(n)
    assert bench.engine._state.dismissers
    assert bench.engine.expire(LANDMARK + 10) == []
    assert not bench.engine._state.dismissers


def test_dismissals_known_before_bar_items_from_the_first_window(bench):
    n = bench.add()
    seat = bench.engine.seat(follow=("#",), attrs={}, k=8, capacity=100, dismissed=(n, 999))
    bench.run_dry()
    assert bench.engine.window(seat) == []


# Collapse


def test_only_the_newest_of_a_collapse_key_is_shown(bench):
    seat = bench.seat()
    newer = bench.add(at=10, collapse="storm")
    bench.add("b", at=0, collapse="storm", priority=3)
    assert bench.engine.window(seat) == [newer]


def test_the_older_returns_when_the_newer_is_over(bench):
    seat = bench.seat()
    older, newer = bench.add(at=0, collapse="storm"), bench.add(at=10, collapse="storm")
    bench.retract(newer)
    assert bench.run_dry() == [seat]
    assert bench.engine.window(seat) == [older]


def test_an_item_is_superseded_only_where_the_newer_one_may_be_shown(bench):
    ca, us, other = bench.seat(region="ca"), bench.seat(region="us"), bench.seat("a")
    older = bench.add("a", at=0, collapse="storm")
    newer = bench.add("b", at=10, collapse="storm", where=(("region", ("ca",)),))
    assert [bench.engine.window(seat) for seat in (ca, us, other)] == [[newer], [older], [older]]


def test_what_was_dismissed_or_does_not_fit_still_supersedes(bench):
    dismissing, small = bench.seat(), bench.seat(capacity=10)
    bench.add(at=0, collapse="storm")
    newer = bench.add(at=10, collapse="storm", payload="x" * 20)
    bench.engine.dismiss(dismissing, newer)
    bench.run_dry()
    assert bench.engine.window(dismissing) == bench.engine.window(small) == []


def test_a_follow_set_that_comes_back_knows_what_is_superseded(bench):
    first = bench.seat("#")
    bench.add("a", at=0, collapse="storm")
    newer = bench.add("b", at=10, collapse="storm")
    bench.engine.change(first, k=7)
    bench.run_dry()
    bench.engine.unseat(first)
    second = bench.seat("#")
    bench.run_dry()
    assert bench.engine.window(second) == [newer]


# Feedback


def test_an_item_that_is_opened_more_often_than_others_rises(bench):
    seat = bench.seat()
    liked, newer = bench.add(at=0), bench.add(at=1000)
    bench.engine.feedback(liked, shown=100, opened=50)
    assert bench.run_dry() == [seat]
    assert bench.engine.window(seat) == [liked, newer]
    assert bench.engine.counters["rekeyed"] == 1


def test_what_can_wait_is_left_alone_until_there_is_nothing_else_to_do(bench):
    liked, newer = bench.add(at=0), bench.add(at=1000)
    bench.run_dry()
    seat = bench.seat()
    assert not bench.engine.caught_up  # the row is to be built
    bench.run_dry()
    bench.engine.feedback(liked, shown=100, opened=50)
    assert bench.engine.caught_up
    bench.engine.step(LANDMARK, background=False)
    assert bench.engine.window(seat) == [newer, liked]
    assert bench.engine.busy
    bench.run_dry()
    assert bench.engine.window(seat) == [liked, newer]
    assert bench.engine.caught_up


def test_feedback_that_hardly_moves_an_item_is_no_work(bench):
    bench.seat()
    n = bench.add()
    bench.engine.feedback(n, shown=1)
    assert not bench.engine.busy


def test_feedback_on_what_is_over_is_ignored(bench):
    bench.engine.feedback(7, opened=1000)
    assert not bench.engine.busy


# Work


def test_an_item_that_changes_all_the_time_reaches_every_row(bench):
    seats = [bench.seat() for _ in range(40)]
    bench.run_dry()
    n = bench.add()
    seen = set()
    for at in range(1, 40):
        update = bench.update(n, at=at)
        for change in bench.engine.step(LANDMARK, 10):
            seen |= set(change.rows.tolist())
        assert bench.engine.item(n) == update
    assert seen == {seat.row for seat in seats}


def test_urgent_items_overtake_a_large_job(bench):
    seats = [bench.seat() for _ in range(100)]
    bench.run_dry()
    bench.publish(bench.record())
    bench.engine.step(LANDMARK, 10)
    urgent = bench.record(priority=3)
    bench.publish(urgent)
    bench.engine.step(LANDMARK, 100)
    assert all(bench.engine.window(seat)[:1] == [urgent.n] for seat in seats)


def test_rows_are_built_although_items_keep_coming(bench):
    bench.publish(*(bench.record(f"c/{i}") for i in range(100)))
    seat = bench.seat()
    for _ in range(100):
        bench.publish(bench.record())
        bench.engine.step(LANDMARK, 16)
        if bench.engine.filled(seat):
            return
    pytest.fail("the device waited behind all items")


def test_a_row_that_is_built_between_two_chunks_does_not_get_the_item_twice(bench):
    seats = [bench.seat() for _ in range(20)]
    bench.run_dry()
    n = bench.record()
    bench.publish(n)
    bench.engine.step(LANDMARK, 5)
    for seat in seats:
        bench.engine.change(seat, attrs={})
    bench.run_dry(7)
    assert all(bench.engine.window(seat) == [n.n] for seat in seats)


def test_no_order_changes_when_the_landmark_moves(bench):
    seat = bench.seat(k=4)
    bench.publish(*(bench.record(at=at, priority=at % 4) for at in range(20)))
    bench.run_dry()
    before = bench.engine.window(seat)
    later = LANDMARK + 201 * 86_400
    bench.engine.step(later)
    assert bench.engine.window(seat) == before
    newest = bench.add(at=201 * 86_400, priority=3)
    assert bench.engine.window(seat) == [newest, *before[:3]]
    bench.engine.change(seat, attrs={})
    bench.run_dry()
    assert bench.engine.window(seat) == [newest, *before[:3]]


def test_indices_of_items_that_are_over_are_used_again(bench):
    bench.seat()
    for _ in range(300):
        n = bench.add()
        bench.update(n, at=1)
        bench.update(n, at=2)  # the job of the first update is never done
        bench.run_dry()
        bench.retract(n)
        bench.run_dry()
    assert len(bench.engine._state.columns) == 64


def test_sizes_say_how_much_is_held(bench):
    bench.seat()
    bench.publish(bench.record("a"), bench.record("b"))
    sizes = bench.engine.size
    assert (sizes.items, sizes.channels, sizes.rows) == (2, 2, 1)
    assert (sizes.jobs, sizes.pending) == (2, 1)
    bench.run_dry()
    assert (bench.engine.size.jobs, bench.engine.size.pending) == (0, 0)
