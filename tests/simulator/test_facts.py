"""What a witness can know: the server's clock, the life of an item, its present content."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.facts import Content, Finding, History, Key, Publication, ServerClock, Span

KEY = Key("news", "a")


def content(text: str, **fields: object) -> Content:
    return Content(KEY, text, **fields)  # type: ignore[arg-type]


# The clock


def test_a_clock_that_nobody_sets_is_right() -> None:
    assert ServerClock().span(100.0) == Span(100.0, 100.0)
    assert ServerClock().span(100.0, 107.0) == Span(100.0, 107.0)


def test_a_step_forward_is_seen_after_a_while() -> None:
    clock = ServerClock(lag=2.0)
    clock.step(3_600.0, 1_000.0)
    assert clock.span(999.0) == Span(999.0, 999.0)
    assert clock.span(1_001.0) == Span(1_001.0, 4_601.0)
    assert clock.span(1_003.0) == Span(4_603.0, 4_603.0)
    assert clock.span(999.0, 1_003.0) == Span(999.0, 4_603.0)


def test_a_clock_that_goes_back_stands_still_until_the_truth_has_caught_up() -> None:
    clock = ServerClock(lag=2.0)
    clock.step(100.0, 1_000.0)
    clock.step(0.0, 1_010.0)
    held = clock.span(1_020.0)
    assert held.low == 1_110.0  # what it had reached for sure
    assert held.high == 1_112.0  # and while it may not have noticed yet
    assert clock.span(1_500.0) == Span(1_500.0, 1_500.0)


def test_a_new_process_remembers_nothing() -> None:
    clock = ServerClock(lag=2.0)
    clock.step(100.0, 1_000.0)
    clock.step(0.0, 1_010.0)
    clock.restart(1_015.0)
    assert clock.span(1_016.0) == Span(1_016.0, 1_016.0)
    assert clock.span(1_014.0) == Span(1_110.0, 1_112.0)
    assert clock.span(1_009.0, 1_016.0) == Span(1_015.0, 1_112.0)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.floats(0.1, 30), st.floats(-200, 200), st.booleans()), min_size=1, max_size=6
    ),
    looks=st.lists(st.floats(0, 100), min_size=1, max_size=20),
    notices=st.floats(0, 1),
)
def test_a_real_clock_is_always_within_the_span(
    steps: list[tuple[float, float, bool]], looks: list[float], notices: float
) -> None:
    """A server that notices each step `notices` of the lag later, and holds still, against the model."""
    model, lag = ServerClock(lag=2.0), 2.0
    events: list[
        tuple[float, int, float]
    ] = []  # time, what: 0 starts anew, 1 notices an offset, 2 is looked at
    now, offset = 0.0, 0.0
    for gap, target, restart in steps:
        now += gap
        if restart:
            model.restart(now)
            # What the old process would have noticed is no concern of the new one.
            events = [event for event in events if event[0] < now]
            events.append((now, 0, offset))
        model.step(target, now)
        offset = target
        events.append((now + notices * lag, 1, offset))
    events += [(look, 2, 0.0) for look in looks]
    seen, said = 0.0, float("-inf")
    for time, what, value in sorted(events):
        if what == 1:
            said = max(said, time + seen)
            seen = value
        elif what == 0:
            seen, said = value, float("-inf")
        said = max(said, time + seen)
        if what == 2:
            span = model.span(time)
            assert span.low - 1e-6 <= said <= span.high + 1e-6


# Contents


def test_an_item_ends_its_ttl_after_it_was_accepted_rounded_up() -> None:
    publication = Publication(content("x", ttl=10), sent=100.2, acknowledged=100.9)
    assert publication.expires(ServerClock(), now=105.0) == Span(111.0, 111.0)
    publication.acknowledged = 101.1
    assert publication.expires(ServerClock(), now=105.0) == Span(111.0, 112.0)


def test_an_item_without_acknowledgement_may_have_been_accepted_at_any_time() -> None:
    publication = Publication(content("x", ttl=10), sent=100.0)
    assert publication.expires(ServerClock(), now=150.0) == Span(110.0, 160.0)


def test_the_last_acknowledged_content_and_what_came_after_it_are_possible() -> None:
    old, known, maybe = (Publication(content(text), 1.0) for text in ("a", "b", "c"))
    history = History([old, known, maybe])
    assert history.possible == [old, known, maybe]
    assert history.certain is None
    known.acknowledged = 2.0
    assert history.possible == [known, maybe]
    assert history.certain is None
    maybe.acknowledged = 3.0
    assert history.possible == [maybe]
    assert history.certain is maybe


def test_of_what_two_senders_had_under_way_at_once_either_may_be_the_present_content() -> None:
    mine = Publication(content("a"), sent=1.0, acknowledged=3.0, sender="one")
    theirs = Publication(content("b"), sent=2.0, acknowledged=2.5, sender="other")
    history = History([mine, theirs])
    assert history.possible == [mine, theirs]
    assert history.certain is None
    # Sent after both were acknowledged.
    last = Publication(content("c"), sent=4.0, acknowledged=5.0, sender="other")
    assert History([mine, theirs, last]).certain is last
    # What was never acknowledged may come at any time, but for what its own sender sent later.
    unknown = Publication(content("d"), sent=1.0, sender="third")
    assert History([unknown, mine, theirs, last]).possible == [unknown, last]
    own = Publication(content("e"), sent=1.0, sender="other")
    assert History([own, last]).certain is last


@pytest.mark.parametrize(
    ("capacity", "shown"),
    [(100, "a long payload"), (14, "a long payload"), (13, "short"), (4, None)],
)
def test_a_device_shows_what_it_has_room_for(capacity: int, shown: str | None) -> None:
    assert content("a long payload", brief="short").shown_in(capacity) == shown


def test_a_condition_asks_for_one_of_its_values() -> None:
    item = content("x", where={"region": ("n", "s"), "model": ("m",)})
    assert item.concerns({"region": "s", "model": "m"})
    assert not item.concerns({"region": "w", "model": "m"})
    assert not item.concerns({"region": "s"})


def test_facts_are_said_in_words() -> None:
    said = str(Publication(content("payload", brief="b", collapse="k"), 1_001.5, 1_002.0))
    assert said == (
        "a on news, 'payload' of 7, brief 'b', priority 1, ttl 86400, collapse k; "
        "sent at 1.500, acknowledged after 0.500 s"
    )
    assert "retracted" in str(content("", retract=True))
    assert str(Finding("G1", "it is gone", ("one", "two"))) == "G1: it is gone\n    one\n    two"
