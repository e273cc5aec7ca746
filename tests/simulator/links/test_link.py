"""One direction without a network: what went in and when, what comes out and when."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.links.link import HEADER, MSS, NOTHING_AGAIN, TRIES, Link, uniform
from simulator.links.profiles import PROFILES, Profile
from simulator.toxics import Chunk, End, Ending, Event

PLAIN = PROFILES["none"]

profiles = st.one_of(
    st.sampled_from([*PROFILES.values()]),
    st.builds(
        Profile,
        st.just("drawn"),
        latency=st.floats(0, 3),
        jitter=st.floats(0, 2),
        down=st.floats(500, 1e9),
        up=st.floats(500, 1e9),
        loss=st.floats(0, 0.6),
    ),
)
sent = st.lists(
    st.tuples(st.floats(0, 5), st.binary(min_size=1, max_size=60) | st.integers(1, 4).map(lambda n: bytes(n * MSS))),
    min_size=1, max_size=15,
)  # fmt: skip


def link(profile: Profile = PLAIN, seed: int = 1, *, upwards: bool = False) -> Link:
    return Link(profile, upwards=upwards, seed=seed)


def drain(tested: Link, until: float = inf) -> list[Event]:
    """Everything that comes out up to a time."""
    events: list[Event] = []
    while tested.due <= until and tested.due < inf:
        event = tested.take(tested.due)
        assert event is not None
        events.append(event)
    return events


def data(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Chunk))


def run(tested: Link, chunks: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Feeds chunks after their pauses; when each went in."""
    now, fed = 0.0, []
    for pause, chunk in chunks:
        now += pause
        tested.feed(chunk, now)
        fed.append((now, chunk))
    return fed


# Whatever the link does


@settings(max_examples=150, deadline=None)
@given(
    profile=profiles,
    chunks=sent,
    holes=st.dictionaries(st.integers(0, 14), st.floats(0, 900), max_size=3),
    others=st.dictionaries(st.integers(0, 14), profiles, max_size=2),
    how=st.sampled_from(Ending),
    seed=st.integers(0, 1_000),
)
def test_bytes_come_out_complete_and_in_order_or_the_connection_dies(
    profile: Profile,
    chunks: list[tuple[float, bytes]],
    holes: dict[int, float],
    others: dict[int, Profile],
    how: Ending,
    seed: int,
) -> None:
    tested, now, events = link(profile, seed), 0.0, []
    for place, (pause, chunk) in enumerate(chunks):
        now += pause
        if place in others:
            tested.change(others[place])
        if place in holes:
            tested.hole(now, now + holes[place])
        tested.feed(chunk, now)
        while event := tested.take(now):
            assert event.at <= now
            events.append(event)
    tested.end(now, how)
    events += drain(tested)
    whole = b"".join(chunk for _, chunk in chunks)
    last = events[-1]
    assert isinstance(last, End)
    assert [event for event in events if isinstance(event, End)] == [last]
    assert all(a.at <= b.at for a, b in pairwise(events))
    assert tested.buffered == 0
    assert whole.startswith(data(events))
    if data(events) != whole:
        assert last.how is Ending.RESET
    elif last.how is not how:
        assert last.how is Ending.RESET, "given up with nothing but the end left to send"


@settings(max_examples=150, deadline=None)
@given(profile=profiles, chunks=sent, seed=st.integers(0, 1_000), upwards=st.booleans())
def test_nothing_comes_out_before_the_latency(
    profile: Profile, chunks: list[tuple[float, bytes]], seed: int, upwards: bool
) -> None:
    tested = link(profile, seed, upwards=upwards)
    fed = run(tested, chunks)
    times = [event.at for event in drain(tested) if isinstance(event, Chunk) for _ in event.data]
    went_in = [at for at, chunk in fed for _ in chunk]
    for out, into in zip(times, went_in, strict=False):
        assert out >= into + profile.latency


@settings(max_examples=150, deadline=None)
@given(
    profile=profiles,
    chunks=sent,
    hole=st.floats(0, 60),
    seed=st.integers(0, 1_000),
    upwards=st.booleans(),
)
def test_bytes_never_come_out_faster_than_the_bandwidth(
    profile: Profile, chunks: list[tuple[float, bytes]], hole: float, seed: int, upwards: bool
) -> None:
    tested = link(profile, seed, upwards=upwards)
    run(tested, chunks)
    tested.hole(100.0, 100.0 + hole)
    events = [event for event in drain(tested) if isinstance(event, Chunk)]
    rate = (profile.up if upwards else profile.down) / 8
    for first, second in pairwise(events):  # each gap holds, so any stretch of time does
        assert second.at - first.at >= (len(second.data) + HEADER) / rate - 1e-6


@settings(max_examples=60, deadline=None)
@given(profile=profiles, chunks=sent, seed=st.integers(0, 1_000))
def test_the_same_seed_gives_the_same_times(
    profile: Profile, chunks: list[tuple[float, bytes]], seed: int
) -> None:
    one, other = link(profile, seed), link(profile, seed)
    run(one, chunks)
    run(other, chunks)
    assert drain(one) == drain(other)


def test_another_seed_gives_other_times() -> None:
    one, other = link(PROFILES["nbiot-nb1"], 1), link(PROFILES["nbiot-nb1"], 2)
    one.feed(b"item", 0.0)
    other.feed(b"item", 0.0)
    assert one.due != other.due


# What it costs


def test_a_link_without_properties_lets_bytes_through_at_once() -> None:
    tested = link()
    tested.feed(b"item", 3.0)
    assert drain(tested) == [Chunk(3.0, b"item")]


def test_latency_and_bandwidth_add_up_with_the_headers_of_tcp() -> None:
    tested = link(Profile("slow", latency=0.5, down=8_000))
    tested.feed(bytes(60), 1.0)
    assert tested.due == pytest.approx(1.0 + 0.5 + (60 + HEADER) / 1_000)


def test_each_direction_has_its_own_bandwidth() -> None:
    profile = Profile("uneven", down=8_000, up=80_000)
    down, up = link(profile), link(profile, upwards=True)
    down.feed(bytes(960), 0.0)
    up.feed(bytes(960), 0.0)
    assert (down.due, up.due) == (pytest.approx(1.0), pytest.approx(0.1))


def test_much_data_arrives_segment_by_segment() -> None:
    tested = link(Profile("slow", down=8_000))
    tested.feed(bytes(2 * MSS + 1), 0.0)
    sizes = [len(event.data) for event in drain(tested) if isinstance(event, Chunk)]
    assert sizes == [MSS, MSS, 1]


def test_the_jitter_has_its_mean() -> None:
    profile, waits = Profile("jittery", jitter=0.2), []
    for seed in range(3_000):
        tested = link(profile, seed)
        tested.feed(b"x", 0.0)
        waits.append(tested.due)
    assert sum(waits) / len(waits) == pytest.approx(0.2, rel=0.06)
    assert max(waits) <= 8 * 0.2


def test_a_lost_segment_waits_for_the_retransmission_timer_which_doubles() -> None:
    profile = Profile("lossy", loss=0.5)
    delays = set()
    for seed in range(60):
        tested = link(profile, seed)
        again = tested.feed(b"x", 0.0)
        assert again.size == again.segments * (1 + HEADER)
        assert tested.due == pytest.approx(2.0**again.segments - 1)  # RTO is a second here
        delays.add(again.segments)
    assert {0, 1, 2, 3} <= delays


def test_the_share_of_segments_sent_again_is_the_loss() -> None:
    tested, again = link(Profile("lossy", loss=0.2)), 0
    for n in range(4_000):
        again += tested.feed(b"x", n * 100.0).segments
        drain(tested)
    assert again / (4_000 + again) == pytest.approx(0.2, rel=0.1)


def test_a_lost_segment_holds_up_those_behind_it() -> None:
    seed = next(seed for seed in range(100) if link(Profile("l", loss=0.4), seed).feed(b"a", 0.0).segments == 1)  # fmt: skip
    tested = link(Profile("l", loss=0.4), seed)
    tested.feed(b"a", 0.0)
    tested.change(PLAIN)
    tested.feed(b"b", 0.1)
    assert drain(tested) == [Chunk(1.0, b"a"), Chunk(1.0, b"b")]


def test_a_connection_on_which_nothing_gets_through_is_given_up() -> None:
    tested = link(Profile("dead", loss=0.999_999))
    assert tested.feed(b"item", 0.0).segments == TRIES + 1
    assert tested.feed(b"more", 1.0) == NOTHING_AGAIN
    (end,) = drain(tested)
    assert end == End(end.at, Ending.RESET)
    assert 300 < end.at < 600


# Coverage holes


@settings(max_examples=100, deadline=None)
@given(
    profile=profiles,
    chunks=sent,
    start=st.floats(0, 30),
    seconds=st.floats(0.001, 120),
    seed=st.integers(0, 1_000),
)
def test_nothing_comes_out_during_a_hole(
    profile: Profile,
    chunks: list[tuple[float, bytes]],
    start: float,
    seconds: float,
    seed: int,
) -> None:
    tested, now, began, events = link(profile, seed), 0.0, False, []
    for pause, chunk in chunks:
        if not began and now + pause >= start:
            events += drain(tested, start)
            tested.hole(start, start + seconds)
            began = True
        now += pause
        tested.feed(chunk, now)
    if not began:
        events += drain(tested, start)
        tested.hole(start, start + seconds)
    events += drain(tested)
    assert data(events) == b"".join(chunk for _, chunk in chunks) or isinstance(events[-1], End)
    assert not [event for event in events if isinstance(event, Chunk) and start < event.at < start + seconds]  # fmt: skip


def test_what_is_under_way_when_coverage_ends_is_sent_again_after_it() -> None:
    tested = link(Profile("far", latency=1.0))  # RTO: a round trip of two seconds
    tested.feed(b"item", 0.0)
    again = tested.hole(0.5, 4.0)
    assert again.segments == 2, "after 2 s, still in the hole, and after 6 s"
    assert drain(tested) == [Chunk(6.5, b"item")]


def test_what_waits_on_a_thin_link_begins_anew_after_a_hole() -> None:
    tested = link(Profile("thin", down=8_000))
    tested.feed(bytes(960), 0.0)  # a second on the air
    tested.hole(0.5, 1.0)
    assert tested.due == pytest.approx(1.5 + 1.0)


def test_coverage_is_needed_when_a_segment_is_on_the_air() -> None:
    far = Profile("far", latency=10.0)
    down, up = link(far), link(far, upwards=True)
    for tested in (down, up):
        tested.hole(0.0, 5.0)
        tested.feed(b"item", 1.0)
    assert down.due == 11.0, "it came down after the hole"
    assert up.due == 21.0, "it was sent into the hole, and again after an RTO of 20 s"


def test_what_is_sent_in_a_hole_waits_for_the_first_segment_in_it() -> None:
    tested = link()
    tested.hole(0.0, 5.0)
    assert tested.feed(b"a", 1.0).segments == 3  # at 2, 4 and 8
    assert tested.feed(b"b", 4.9).segments == 0
    assert drain(tested) == [Chunk(8.0, b"a"), Chunk(8.0, b"b")]


def test_what_is_sent_after_a_hole_passes_as_before() -> None:
    tested = link()
    tested.hole(0.0, 5.0)
    tested.feed(b"a", 5.0)
    assert drain(tested) == [Chunk(5.0, b"a")]


def test_a_hole_longer_than_tcp_is_patient_ends_the_connection() -> None:
    tested = link()
    tested.hole(0.0, 3_600.0)
    tested.feed(b"item", 1.0)
    (end,) = drain(tested)
    assert end == End(end.at, Ending.RESET)
    assert end.at < 3_600.0


def test_a_shorter_hole_changes_nothing_in_a_longer_one() -> None:
    tested = link()
    tested.hole(0.0, 5.0)
    tested.feed(b"a", 1.0)
    assert tested.hole(2.0, 3.0) == NOTHING_AGAIN
    assert tested.due == 8.0


def test_the_end_of_a_connection_waits_for_coverage_too() -> None:
    tested = link()
    tested.end(0.0, Ending.CLOSE)
    tested.hole(0.0, 2.0)
    assert drain(tested) == [End(3.0, Ending.CLOSE)]
    assert tested.end(9.0) == NOTHING_AGAIN


# Chance


def test_the_numbers_of_a_seed_are_spread_evenly() -> None:
    drawn = [uniform(seed, n) for seed in range(40) for n in range(250)]
    assert all(0 <= number < 1 for number in drawn)
    tenths = [sum(1 for number in drawn if int(number * 10) == tenth) for tenth in range(10)]
    assert all(850 < count < 1_150 for count in tenths)
    assert len(set(drawn)) == len(drawn)
