"""The last message of each topic, for those who subscribe later."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.lane.outbox import Message
from broker.lane.retained import Retained
from feedgen.channels import matches, valid_filter

levels = st.sampled_from(["", "a", "b", "$SYS", "c d"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
filters = (
    st.lists(st.sampled_from(["", "a", "b", "$SYS", "+", "#"]), min_size=1, max_size=4)
    .map("/".join)
    .filter(valid_filter)
)


def found(store: Retained, topic_filter: str) -> list[Message]:
    """The whole answer to a subscription."""
    answer = store.answer(topic_filter, 1)
    messages = []
    while not answer.over:
        message = answer.look()
        if message is not None:
            messages.append(message)
    return messages


def retained(max_messages: int = 100, max_bytes: int = 10_000) -> Retained:
    return Retained(max_messages=max_messages, max_bytes=max_bytes)


@given(
    steps=st.lists(st.tuples(topics, st.sampled_from([b"", b"x", b"yy"])), max_size=30),
    asked=st.lists(filters, max_size=5),
)
def test_a_filter_finds_what_the_rule_of_mqtt_says(
    steps: list[tuple[str, bytes]], asked: list[str]
) -> None:
    store, model = retained(), {}
    for topic, payload in steps:
        assert store.put(Message(topic, payload))
        model[topic] = payload
    kept = {topic for topic, payload in model.items() if payload}
    assert len(store) == len(kept)
    assert store.bytes == sum(Message(topic, model[topic]).size for topic in kept)
    for each in asked:
        topics_found = [message.topic for message in found(store, each)]
        assert sorted(topics_found) == sorted(topic for topic in kept if matches(each, topic))


def test_an_empty_message_ends_what_was_retained() -> None:
    store = retained()
    store.put(Message("a/b/c", b"x"))
    store.put(Message("a/b/c", b""))
    store.put(Message("never/there", b""))
    assert len(store) == 0
    assert store.bytes == 0


def test_without_room_nothing_is_retained_and_the_message_before_is_gone() -> None:
    store = retained(max_messages=2)
    assert store.put(Message("a", b"1"))
    assert store.put(Message("b", b"1"))
    assert store.put(Message("b", b"2")), "the same topic needs no more room"
    assert not store.put(Message("c", b"1"))
    small = retained(max_bytes=Message("a", b"1").size)
    assert small.put(Message("a", b"1"))
    assert not small.put(Message("a", b"22"))
    assert found(small, "#") == []
    assert small.bytes == 0


def test_what_is_replaced_during_an_answer_is_not_in_it() -> None:
    store = retained()
    for name in "abc":
        store.put(Message(name, b"old"))
    answer = store.answer("#", 1)
    first = answer.look()
    store.put(Message("b", b"new"))
    store.put(Message("c", b""))
    assert first is not None
    assert first.topic == "a"
    assert [answer.look(), answer.look()] == [None, None]
    assert answer.over
