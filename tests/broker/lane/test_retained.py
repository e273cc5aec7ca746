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
        found = [message.topic for message in store.match(each)]
        assert sorted(found) == sorted(topic for topic in kept if matches(each, topic))


def test_an_empty_message_ends_what_was_retained_and_leaves_no_levels_behind() -> None:
    store = retained()
    store.put(Message("a/b/c", b"x"))
    store.put(Message("a/b/c", b""))
    store.put(Message("never/there", b""))
    assert len(store) == 0
    assert not store._root.below


def test_without_room_nothing_is_retained_and_the_message_before_is_gone() -> None:
    store = retained(max_messages=2)
    assert store.put(Message("a", b"1"))
    assert store.put(Message("b", b"1"))
    assert store.put(Message("b", b"2")), "the same topic needs no more room"
    assert not store.put(Message("c", b"1"))
    small = retained(max_bytes=Message("a", b"1").size)
    assert small.put(Message("a", b"1"))
    assert not small.put(Message("a", b"22"))
    assert small.match("#") == []
    assert small.bytes == 0


def test_many_levels_need_no_recursion() -> None:
    store = retained(max_bytes=1 << 20)
    deep = "/".join("x" * 5000)
    store.put(Message(deep, b"deep"))
    assert [each.payload for each in store.match("#")] == [b"deep"]
    store.remove(deep)
    assert store.match("#") == []
