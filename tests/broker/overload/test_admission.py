"""Items on their way to the engine: none is lost, and what is held goes on by value."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.overload.admission import Admission
from feedgen.items import Item, Record

OFFSETS = (-100.0, 0.0, 100.0, 1000.0)
LOW, NORMAL, HIGH, URGENT = range(4)
FOREVER = 10**9


def admission(max_held: int = 1000, threshold: int = 0) -> Admission:
    made = Admission(OFFSETS, max_held)
    made.threshold = threshold
    return made


def record(
    n: int, priority: int = NORMAL, version: int = 0, at: float = 0, *, retracted: bool = False
) -> Record:
    item = Item("news", f"i{n}", "payload", priority=priority, retract=retracted)
    return Record(n, version, item, int(at * 1000), FOREVER, b"", retracted=retracted)


def numbers(taken: list[Record]) -> list[int]:
    return [each.n for each in taken]


def test_items_go_on_in_the_order_in_which_they_came_but_urgent_ones_first() -> None:
    state = admission()
    for n, priority in enumerate((NORMAL, LOW, URGENT, HIGH, URGENT), 1):
        state.put(record(n, priority), 0.0)
    assert numbers(state.take(3, 0.0, spare=True)) == [3, 5, 1]
    assert numbers(state.take(9, 0.0, spare=True)) == [2, 4]


def test_urgent_items_go_on_even_when_nothing_else_may() -> None:
    state = admission()
    state.put(record(1), 0.0)
    state.put(record(2, URGENT), 0.0)
    assert numbers(state.take(0, 0.0, spare=False)) == [2]
    assert len(state) == 1


def test_below_the_threshold_items_are_held_until_the_engine_has_time_the_best_first() -> None:
    state = admission(threshold=HIGH)
    state.put(record(1, LOW, at=0), 0.0)
    state.put(record(2, NORMAL, at=1), 0.0)
    state.put(record(3, LOW, at=300), 0.0)  # so much younger that it outranks what is normal
    state.put(record(4, HIGH, at=2), 0.0)
    assert (state.held, len(state), state.oldest()) == (3, 1, 0.0)
    assert numbers(state.take(9, 0.0, spare=False)) == [4]
    assert state.oldest() is None  # what is held on purpose is not late
    assert state.take(9, 0.0, spare=False) == []
    assert numbers(state.take(9, 0.0, spare=True)) == [3, 2, 1]
    assert (state.held, state.bytes_waiting) == (0, 0)


def test_held_items_go_on_also_after_the_threshold_fell() -> None:
    state = admission(threshold=HIGH)
    state.put(record(1), 0.0)
    state.threshold = 0
    state.put(record(2), 0.0)
    assert numbers(state.take(9, 0.0, spare=True)) == [2]
    assert numbers(state.take(9, 0.0, spare=True)) == [1]


def test_a_held_item_that_has_expired_does_not_go_on() -> None:
    state = admission(threshold=HIGH)
    state.put(record(1), 0.0)
    state.put(record(2), 0.0)
    state.forget([2])
    assert state.take(9, FOREVER, spare=True) == []
    assert (state.expired, state.held) == (2, 0)


def test_of_one_item_the_newest_content_goes_on() -> None:
    state = admission(threshold=HIGH)
    state.put(record(1, NORMAL, version=1), 0.0)
    state.put(record(1, URGENT, version=2), 0.0)
    state.put(record(2, HIGH, version=1), 0.0)
    state.put(record(2, HIGH, version=2), 0.0)
    taken = state.take(9, 0.0, spare=True)
    assert [(each.n, each.version) for each in taken] == [(1, 2), (2, 2)]
    assert state.superseded == 2


def test_an_update_of_what_is_shown_and_a_retraction_are_never_held() -> None:
    state = admission(threshold=HIGH)
    state.put(record(1, LOW, version=1), 0.0, new=False)
    state.put(record(2, LOW, version=1), 0.0)
    state.put(record(2, LOW, version=2, retracted=True), 0.0)
    assert numbers(state.take(9, 0.0, spare=False)) == [1, 2]
    assert state.held == 0


def test_beyond_the_bound_the_most_valuable_of_the_held_wait_their_turn() -> None:
    state = admission(max_held=2, threshold=HIGH)
    for n in range(1, 6):
        state.put(record(n, at=n), 0.0)
    assert len(state) == 3
    assert numbers(state.take(0, 0.0, spare=False)) == []
    assert numbers(state.take(2, 0.0, spare=False)) == [5, 4]
    state.put(record(6, at=6, priority=HIGH), 0.0)
    assert numbers(state.take(2, 0.0, spare=False)) == [6, 3]
    assert (state.held, len(state)) == (2, 0)
    assert numbers(state.take(9, 0.0, spare=False)) == []


def test_the_oldest_is_what_still_waits_and_not_what_was_overtaken() -> None:
    state = admission()
    state.put(record(1, version=1), 1.0)
    state.put(record(2), 2.0)
    state.put(record(1, version=2), 3.0)
    assert state.oldest() == 2.0


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 8), st.sampled_from((0, 1, 2, 3)), st.booleans(), st.integers(0, 3)
        ),
        max_size=60,
    ),
    st.sampled_from((0, 1, 2)),
    st.integers(0, 5),
)
def test_no_item_is_lost_and_none_goes_back_to_an_older_content(
    puts: list[tuple[int, int, bool, int]], threshold: int, max_held: int
) -> None:
    state, newest, given_on = admission(max_held, threshold), {}, {}
    for version, (n, priority, spare, most) in enumerate(puts):
        newest[n] = version
        state.put(record(n, priority, version), 0.0, new=n not in given_on)
        for each in state.take(most, 0.0, spare=spare):
            assert given_on.get(each.n, -1) < each.version
            given_on[each.n] = each.version
    while len(state) or state.held:
        for each in state.take(9, 0.0, spare=True):
            assert given_on.get(each.n, -1) < each.version
            given_on[each.n] = each.version
    assert given_on == newest
    assert state.bytes_waiting == 0


def test_what_follows_an_urgent_content_is_not_held_as_that_would_outlive_it() -> None:
    state = admission(threshold=HIGH)
    state.put(record(1, URGENT), 0.0)
    state.put(record(1, LOW, version=1), 0.0)
    taken = state.take(9, 0.0, spare=False)
    assert [(each.n, each.version) for each in taken] == [(1, 0), (1, 1)]
    state.put(record(1, LOW, version=2), 0.0)  # the next one is new again, as nobody said otherwise
    assert state.held == 1
