from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgen.ranking.chains import NOWHERE, Queue, Wheel


@pytest.fixture
def following() -> array:
    return array("i", [NOWHERE] * 20)


def test_those_whose_slice_is_over_leave_the_earliest_first(following):
    wheel = Wheel(following, 10.0)
    for place, at in ((0, 35.0), (1, 12.0), (2, 19.9), (3, 20.0), (4, 99.0)):
        wheel.put(place, at)
    assert wheel.pop_passed(19.9, None) == []
    assert wheel.pop_passed(20.0, None) == [1, 2]
    assert wheel.pop_passed(98.0, None) == [3, 0]
    assert (len(wheel), list(wheel)) == (1, [4])


def test_no_more_leave_than_were_asked_for_and_the_others_stay_in_line(following):
    wheel = Wheel(following, 10.0)
    for place in range(6):
        wheel.put(place, place * 4.0)
    popped = [wheel.pop_passed(100.0, most) for most in (0, 4, None)]
    assert list(map(len, popped)) == [0, 4, 2]
    assert sorted(place for places in popped for place in places) == list(range(6))
    assert len(wheel) == 0


def test_the_first_to_leave_early_is_of_the_earliest_slice(following):
    wheel = Wheel(following, 10.0)
    for place, at in ((0, 35.0), (1, 12.0), (2, 25.0)):
        wheel.put(place, at)
    assert [wheel.pop_first() for _ in range(3)] == [1, 2, 0]


@given(st.lists(st.one_of(st.integers(0, 39), st.none()), max_size=20))
def test_those_of_one_slice_leave_as_they_came_also_from_a_wheel_made_again(steps):
    wheel = Wheel(array("i", [NOWHERE] * 20), 10.0)
    came: dict[int, list[int]] = {}  # by slice
    for place, seconds in enumerate(steps):
        if seconds is not None:
            wheel.put(place, float(seconds))
            came.setdefault(seconds // 10, []).append(place)
        elif came:
            first = min(came)
            assert wheel.pop_first() == came[first].pop(0)
            if not came[first]:
                del came[first]
    again = Wheel(array("i", [NOWHERE] * 20), 10.0)
    for place in wheel:
        again.put(place, float(steps[place]))
    assert list(again) == list(wheel)
    for each in (wheel, again):
        assert each.pop_passed(40.0, None) == [place for due in sorted(came) for place in came[due]]
        assert len(each) == 0


def test_a_queue_keeps_its_order_also_after_it_was_empty(following):
    queue = Queue(following)
    for place in (3, 1, 2):
        queue.append(place)
    assert (queue.first, list(queue)) == (3, [3, 1, 2])
    assert [queue.pop() for _ in range(3)] == [3, 1, 2]
    assert len(queue) == 0
    assert list(queue) == []
    queue.append(5)
    queue.append(3)
    assert list(queue) == [5, 3]


def test_chains_of_one_table_do_not_disturb_each_other(following):
    wheel, queue = Wheel(following, 10.0), Queue(following)
    for place in range(10):
        wheel.put(place, float(place))
    for place in range(10, 15):
        queue.append(place)
    for place in [wheel.pop_first() for _ in range(4)]:
        queue.append(place)
    assert sorted([*wheel, *queue]) == list(range(15))
