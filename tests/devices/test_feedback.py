from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from devices.feedback import PendingFeedback
from devices.frames import MAX_UINT, MAX_UP, Event, Feedback, Kind, encode_up


def test_events_collect_into_one_message() -> None:
    pending = PendingFeedback()
    pending.add(Event(1, Kind.SHOWN, 0), now=10.0)
    pending.add(Event(1, Kind.OPENED), now=10.4)
    assert pending.take(now=10.5) == [
        Feedback((Event(1, Kind.SHOWN, 0), Event(1, Kind.OPENED)))
    ]  # fmt: skip


def test_what_is_taken_is_no_longer_pending() -> None:
    pending = PendingFeedback()
    pending.add(Event(1, Kind.OPENED), now=0.0)
    assert pending
    pending.take(now=0.0)
    assert not pending
    assert pending.take(now=0.0) == []


def test_an_event_that_waited_says_for_how_many_whole_seconds() -> None:
    pending = PendingFeedback()
    pending.add(Event(1, Kind.OPENED), now=100.0)
    assert pending.take(now=107.9) == [Feedback((Event(1, Kind.OPENED, None, 7),))]


def test_of_several_dwells_the_longest_is_kept() -> None:
    pending = PendingFeedback()
    for seconds in (3, 9, 5):
        pending.add(Event(1, Kind.DWELL, seconds), now=0.0)
    assert pending.take(now=0.0) == [Feedback((Event(1, Kind.DWELL, 9),))]


def test_of_several_showings_the_first_is_kept() -> None:
    pending = PendingFeedback()
    for rank in (3, 0, 5):
        pending.add(Event(1, Kind.SHOWN, rank), now=0.0)
    assert pending.take(now=0.0) == [Feedback((Event(1, Kind.SHOWN, 3),))]


def test_the_oldest_events_go_when_too_many_wait() -> None:
    pending = PendingFeedback()
    for n in range(1, 1001):
        pending.add(Event(n, Kind.OPENED), now=0.0)
    kept = [event.n for message in pending.take(now=0.0) for event in message.events]
    assert kept == list(range(1001 - len(kept), 1001))
    assert len(kept) == 512


@given(st.integers(0, 512), st.floats(0, 1e9))
@settings(max_examples=30, deadline=None)
def test_every_message_is_one_that_the_server_takes(count: int, wait: float) -> None:
    pending = PendingFeedback()
    for n in range(count):
        pending.add(Event(MAX_UINT - n, Kind.DWELL, MAX_UINT), now=0.0)
    messages = pending.take(now=wait)
    assert sum(len(message.events) for message in messages) == count
    assert all(len(encode_up(message)) <= MAX_UP for message in messages)
