"""Toxics without a network: what went in and when, what comes out and when."""

from __future__ import annotations

from math import inf
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.toxics import (
    Bandwidth,
    Chunk,
    End,
    Ending,
    Event,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Stream,
    Timeout,
)

if TYPE_CHECKING:
    from simulator.toxics import Toxic

HARMLESS = st.one_of(
    st.builds(Latency, st.integers(0, 500), st.integers(0, 500)),
    st.builds(Bandwidth, st.integers(0, 100)),
    st.builds(SlowClose, st.integers(0, 500)),
    st.builds(Slicer, st.integers(1, 40), st.integers(0, 40), st.integers(0, 5_000)),
)


def stream(*toxics: Toxic, seed: int = 1) -> Stream:
    return Stream(toxics, Random(seed), 0.0)


def drain(tested: Stream) -> list[Event]:
    """Everything that will ever come out."""
    events: list[Event] = []
    while tested.due < inf:
        events += tested.take(tested.due)
    return events


def data(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Chunk))


# Whatever delays and cuts


@settings(max_examples=150, deadline=None)
@given(
    toxics=st.lists(HARMLESS, max_size=4),
    sent=st.lists(st.tuples(st.floats(0, 0.5), st.binary(min_size=1, max_size=120)), max_size=12),
    changes=st.dictionaries(st.integers(0, 11), st.lists(HARMLESS, max_size=3), max_size=3),
    seed=st.integers(0, 1_000),
)
def test_what_delays_and_cuts_changes_no_byte_and_no_order(
    toxics: list[Toxic],
    sent: list[tuple[float, bytes]],
    changes: dict[int, list[Toxic]],
    seed: int,
) -> None:
    tested = stream(*toxics, seed=seed)
    now, events = 0.0, []
    for place, (gap, chunk) in enumerate(sent):
        now += gap
        if place in changes:
            tested.change(changes[place], now)
        tested.feed(chunk, now)
        taken = tested.take(now)
        assert all(event.at <= now for event in taken)
        events += taken
    tested.end(now)
    events += drain(tested)
    assert data(events) == b"".join(chunk for _, chunk in sent)
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert isinstance(events[-1], End)
    assert sum(isinstance(event, End) for event in events) == 1
    assert tested.buffered == 0


@settings(max_examples=50, deadline=None)
@given(toxics=st.lists(HARMLESS, max_size=3), chunks=st.lists(st.binary(max_size=50), max_size=6))
def test_what_waits_is_counted(toxics: list[Toxic], chunks: list[bytes]) -> None:
    tested = stream(*toxics)
    for chunk in chunks:
        tested.feed(chunk, 0.0)
    assert tested.buffered == len(b"".join(chunks))
    while tested.due < inf:
        left = tested.buffered
        passed = len(data(tested.take(tested.due)))
        assert tested.buffered == left - passed


def test_without_toxics_everything_passes_at_once() -> None:
    tested = stream()
    tested.feed(b"abc", 1.0)
    tested.end(1.0)
    assert tested.take(1.0) == [Chunk(1.0, b"abc"), End(1.0, Ending.EOF)]
    assert tested.due == inf


# Each toxic by itself


def test_latency_delays_every_chunk_and_the_end() -> None:
    tested = stream(Latency(100))
    tested.feed(b"a", 0.0)
    tested.feed(b"b", 0.05)
    tested.end(0.2)
    assert tested.take(0.09) == []
    assert tested.due == pytest.approx(0.1)
    assert data(tested.take(0.1)) == b"a"
    assert data(tested.take(0.16)) == b"b"
    assert tested.take(1.0) == [End(pytest.approx(0.3))]


def test_jitter_stays_within_its_bounds_and_keeps_the_order() -> None:
    tested = stream(Latency(100, 50))
    for tenth in range(50):
        tested.feed(bytes([tenth]), tenth / 10)
    events = drain(tested)
    delays = [event.at - place / 10 for place, event in enumerate(events)]
    assert min(delays) >= 0.05 - 1e-9
    assert max(delays) <= 0.15 + 1e-9
    assert max(delays) - min(delays) > 0.05
    assert data(events) == bytes(range(50))


def test_bandwidth_lets_so_many_kilobytes_pass_in_a_second() -> None:
    tested = stream(Bandwidth(10))
    tested.feed(bytes(20_000), 0.0)
    assert len(data(tested.take(1.0))) == pytest.approx(10_000, abs=1_000)
    assert drain(tested)[-1].at == pytest.approx(2.0)


def test_an_idle_line_saves_no_bandwidth_for_later() -> None:
    tested = stream(Bandwidth(1))
    tested.feed(bytes(1_000), 10.0)
    assert drain(tested)[-1].at == pytest.approx(11.0)


def test_slow_close_delays_nothing_but_the_end() -> None:
    tested = stream(SlowClose(700))
    tested.feed(b"a", 0.0)
    tested.end(0.0)
    assert tested.take(0.69) == [Chunk(0.0, b"a")]
    assert tested.take(0.7) == [End(0.7, Ending.EOF)]


def test_the_slicer_cuts_to_size_with_pauses_between() -> None:
    tested = stream(Slicer(10, 0, 2_000))
    tested.feed(bytes(range(35)), 0.0)
    events = drain(tested)
    assert [len(event.data) for event in events if isinstance(event, Chunk)] == [10, 10, 10, 5]
    assert [event.at for event in events] == pytest.approx([0, 0.002, 0.004, 0.006])


def test_slices_vary_within_their_bounds() -> None:
    tested = stream(Slicer(10, 4))
    tested.feed(bytes(2_000), 0.0)
    sizes = [len(event.data) for event in drain(tested) if isinstance(event, Chunk)]
    assert set(sizes[:-1]) == set(range(6, 15))


def test_timeout_lets_nothing_pass_and_then_closes() -> None:
    tested = stream(Timeout(300))
    tested.feed(b"lost", 0.1)
    assert tested.take(0.29) == []
    assert tested.due == 0.3
    assert tested.take(0.3) == [End(0.3, Ending.CLOSE)]


def test_a_timeout_of_0_closes_when_it_is_taken_away() -> None:
    tested = stream(Timeout(0))
    tested.feed(b"lost", 0.1)
    assert tested.due == inf
    tested.change([], 5.0)
    assert tested.take(5.0) == [End(5.0, Ending.CLOSE)]


def test_reset_peer_resets_after_the_first_data() -> None:
    tested = stream(ResetPeer(200))
    assert tested.due == inf
    tested.feed(b"lost", 1.0)
    assert tested.take(1.19) == []
    assert tested.take(1.2) == [End(1.2, Ending.RESET)]


def test_limit_data_closes_after_exactly_so_many_bytes() -> None:
    tested = stream(LimitData(5))
    tested.feed(b"abc", 0.0)
    tested.feed(b"defg", 0.1)
    tested.feed(b"h", 0.2)
    events = tested.take(1.0)
    assert data(events) == b"abcde"
    assert events[-1] == End(0.1, Ending.CLOSE)


# Ends and changes


def test_a_reset_of_the_sender_overtakes_what_is_under_way() -> None:
    tested = stream(Latency(1_000))
    tested.feed(b"lost", 0.0)
    tested.end(0.0)
    tested.end(0.1, Ending.RESET)
    assert tested.take(0.1) == [End(0.1, Ending.RESET)]


def test_what_a_removed_toxic_held_back_passes_at_once_and_in_order() -> None:
    slow = Latency(60_000)
    tested = stream(slow)
    tested.feed(b"a", 0.0)
    tested.change([], 1.0)
    tested.feed(b"b", 1.0)
    assert data(tested.take(1.0)) == b"ab"


def test_toxics_that_stay_go_on_where_they_were() -> None:
    limit = LimitData(4)
    tested = stream(limit)
    tested.feed(b"abc", 0.0)
    tested.change([limit, Slicer(1)], 1.0)
    tested.feed(b"def", 1.0)
    assert data(tested.take(2.0)) == b"abcd"


def test_nothing_comes_out_after_the_end() -> None:
    tested = stream(LimitData(1))
    tested.feed(b"ab", 0.0)
    tested.end(0.0)
    tested.feed(b"c", 0.1)
    assert drain(tested) == [Chunk(0.0, b"a"), End(0.0, Ending.CLOSE)]
    assert tested.buffered == 0
