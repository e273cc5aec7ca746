from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.audience import Audience, RowSet
from feedgen.channels import matches, specificity

CHANNELS = ("a", "a/b", "a/b/c", "d")
FILTERS = ("#", "+", "a/#", "a/+", "a/b", "+/b/#", "d")
SIZES = (100, 100)


def segments(audience: Audience, *channels: str) -> list[tuple[int, list[int], int]]:
    return [
        (shelf, sorted(rows.tolist()), level)
        for shelf, rows, level in audience.segments(channels, SIZES[: audience.shelves])
    ]


def test_a_row_set_given_out_does_not_change_when_the_set_does():
    rows = RowSet()
    for row in range(4):
        rows.add(row)
    before = rows.rows()
    rows.discard(1)
    rows.add(9)
    rows.rows()
    rows.add(7)
    assert before.tolist() == [0, 1, 2, 3]
    assert sorted(rows.rows().tolist()) == [0, 2, 3, 7, 9]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans())))
def test_a_row_set_is_a_set(program):
    rows, expected = RowSet(), set()
    for row, reads in program:
        if row in expected:
            rows.discard(row)
            expected.remove(row)
        else:
            rows.add(row)
            expected.add(row)
        assert len(rows) == len(expected)
        if reads:
            assert sorted(rows.rows().tolist()) == sorted(expected)
    assert sorted(rows.rows().tolist()) == sorted(expected)


def test_a_row_counts_once_by_the_filter_that_says_most():
    audience = Audience(2, levels=8)
    audience.follow(0, 1, ("#", "a/+"))
    audience.follow(0, 2, ("#",))
    audience.follow(1, 1, ("a/b", "a/#"))
    assert segments(audience, "a/b") == [(0, [2], 0), (0, [1], 1), (1, [1], 2)]


def test_levels_beyond_the_bound_do_not_count():
    audience = Audience(1, levels=2)
    audience.follow(0, 1, ("a/b/c",))
    assert segments(audience, "a/b/c") == [(0, [1], 2)]


def test_several_channels_have_one_audience():
    audience = Audience(2, levels=8)
    audience.follow(0, 1, ("a", "d"))
    audience.follow(0, 2, ("d",))
    audience.follow(1, 5, ("a/b",))
    found = audience.segments(("a", "d"), SIZES)
    assert sorted(row for segment in found for row in segment.rows.tolist()) == [1, 2]


def test_devices_that_follow_the_same_share_one_set():
    audience = Audience(1, levels=8)
    first = audience.follow(0, 1, ("d", "a", "a"))
    assert audience.follow(0, 2, ("a", "d")) is first
    audience.unfollow(0, 1, first)
    audience.unfollow(0, 2, first)
    assert audience.follow(0, 3, ("a",)).number == first.number


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(0, 15),
            st.frozensets(st.sampled_from(FILTERS), max_size=4),
        ),
        max_size=40,
    )
)
def test_the_audience_is_who_follows_a_matching_filter_now(program):
    audience = Audience(2, levels=8)
    following = {}
    for shelf, row, filters in program:
        if (shelf, row) in following:
            audience.unfollow(shelf, row, following.pop((shelf, row)))
        else:
            following[shelf, row] = audience.follow(shelf, row, filters)
    for channel in CHANNELS:
        expected = {}
        for seat, follow_set in following.items():
            levels = [specificity(each) for each in follow_set.filters if matches(each, channel)]
            if levels:
                expected[seat] = max(levels)
        found = [
            ((shelf, row), level)
            for shelf, rows, level in segments(audience, channel)
            for row in rows
        ]
        assert len(found) == len(dict(found))
        assert dict(found) == expected
