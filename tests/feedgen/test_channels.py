from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.channels import FilterTrie, _words, matches, specificity, valid_channel, valid_filter

# Few names, so that random filters and channels meet often; "" and "$" levels are the odd ones.
literal = st.sampled_from(["a", "b", "", "$s"])
channels = st.lists(literal, min_size=1, max_size=5).map("/".join).filter(valid_channel)
filters = (
    st.tuples(
        st.lists(st.one_of(literal, st.just("+")), max_size=4), st.sampled_from(["a", "+", "#"])
    )
    .map(lambda parts: "/".join([*parts[0], parts[1]]))
    .filter(valid_filter)
)


def trie_of(*topic_filters: str) -> FilterTrie[str]:
    """A trie whose entries are the filters themselves."""
    trie: FilterTrie[str] = FilterTrie(str)
    for topic_filter in topic_filters:
        trie.add(topic_filter)
    return trie


@pytest.mark.parametrize("channel", ["a", "alerts/weather/ca", "a//b", "/", "$x", "é" * 32_767])
def test_a_topic_name_without_wildcards_is_a_channel(channel: str) -> None:
    assert valid_channel(channel)


@pytest.mark.parametrize(
    "channel", ["", "a/+", "#", "a+b", "a\0b", "\ud800", "x" * 65_536, "é" * 32_768]
)
def test_wildcards_nul_surrogates_and_lengths_beyond_mqtt_are_no_channel(channel: str) -> None:
    assert not valid_channel(channel)


@pytest.mark.parametrize("topic_filter", ["#", "+", "a", "a/#", "+/a/+", "+/+", "/", "a//#", "/#"])
def test_wildcards_that_fill_a_level_are_valid(topic_filter: str) -> None:
    assert valid_filter(topic_filter)


@pytest.mark.parametrize(
    "topic_filter", ["", "a#", "#/a", "a/#/b", "a+/b", "a/b+", "##", "++/a", "a\0", "x" * 65_536]
)
def test_wildcards_that_share_a_level_or_end_too_early_are_not(topic_filter: str) -> None:
    assert not valid_filter(topic_filter)


@pytest.mark.parametrize(
    ("topic_filter", "channel"),
    [
        ("a/b", "a/b"),
        ("a/+", "a/b"),
        ("a/+", "a/"),
        ("+/+", "/a"),
        ("/+", "/a"),
        ("a/#", "a"),
        ("a/#", "a/b/c"),
        ("+/#", "a"),
        ("#", "a/b"),
        ("$s/#", "$s/a"),
        ("a/+/#", "a/$s"),
    ],
)
def test_a_filter_matches_by_the_rules_of_mqtt(topic_filter: str, channel: str) -> None:
    assert matches(topic_filter, channel)
    assert trie_of(topic_filter).match(channel) == [topic_filter]


@pytest.mark.parametrize(
    ("topic_filter", "channel"),
    [
        ("a", "a/b"),
        ("a/b", "a"),
        ("a/+", "a"),
        ("a/+", "a/b/c"),
        ("a/+/#", "a"),
        ("+", "/a"),
        ("A", "a"),
        ("#", "$s/a"),
        ("+/a", "$s/a"),
        ("+/#", "$s"),
    ],
)
def test_and_only_by_the_rules_of_mqtt(topic_filter: str, channel: str) -> None:
    assert not matches(topic_filter, channel)
    assert trie_of(topic_filter).match(channel) == []


@pytest.mark.parametrize(
    ("topic_filter", "literals"), [("#", 0), ("+/+", 0), ("a/#", 1), ("a/+/b", 2), ("a//b", 3)]
)
def test_specificity_counts_the_literal_levels(topic_filter: str, literals: int) -> None:
    assert specificity(topic_filter) == literals


def test_a_filter_added_twice_has_one_entry() -> None:
    trie: FilterTrie[list[str]] = FilterTrie(lambda _: [])
    entry = trie.add("a/+")
    assert trie.add("a/+") is entry
    assert trie.get("a/+") is entry
    assert trie.match("a/b") == [entry]
    assert len(trie) == 1


def test_a_filter_that_was_never_added_has_no_entry() -> None:
    trie = trie_of("a/b")
    assert trie.get("a") is None
    assert "a" not in trie
    with pytest.raises(KeyError):
        trie.remove("a")


def test_an_entry_that_is_falsy_is_found_like_any_other() -> None:
    trie: FilterTrie[int] = FilterTrie(lambda _: 0)
    trie.add("a/#")
    assert trie.match("a") == trie.match("a/b") == [0]


def test_removing_the_last_filter_leaves_no_nodes_behind() -> None:
    trie = trie_of("a/b/c", "a/#")
    trie.remove("a/b/c")
    assert trie.match("a/b/c") == ["a/#"]
    trie.remove("a/#")
    assert trie._root.empty
    assert list(trie) == []


def test_a_repeated_channel_is_answered_from_memory() -> None:
    trie = trie_of("a/+", "a/#")
    assert trie.match("a/b") is trie.match("a/b")


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), filters, channels), max_size=40))
def test_the_trie_agrees_with_the_readable_rule_whatever_comes_and_goes(
    steps: list[tuple[bool, str, str]],
) -> None:
    trie = trie_of()
    present: set[str] = set()
    for adds, topic_filter, channel in steps:
        trie.match(channel)  # something to remember, and to be wrong about after the change
        if adds or topic_filter not in present:
            present.add(topic_filter)
            trie.add(topic_filter)
        else:
            present.remove(topic_filter)
            trie.remove(topic_filter)
        expected = sorted(other for other in present if matches(other, channel))
        assert sorted(trie.match(channel)) == expected
        assert set(trie) == present


@settings(deadline=None)
@given(st.sets(filters, max_size=20), channels)
def test_the_order_of_matches_does_not_depend_on_the_order_of_adding(
    topic_filters: set[str], channel: str
) -> None:
    ordered = sorted(topic_filters)
    assert trie_of(*ordered).match(channel) == trie_of(*reversed(ordered)).match(channel)


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FilterTrie, "CACHE_WORDS", 400)
    trie = trie_of("#")
    first = trie.match("first")
    for number in range(1_000):
        last = trie.match(f"c/{number}")
    assert len(trie._cache) < 20
    assert trie.match("c/999") is last
    assert trie.match("first") is not first
    assert trie.match("x" * 60_000) == ["#"]  # more than the bound by itself
    assert trie.match("first") == ["#"]


def test_what_is_forgotten_is_no_longer_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FilterTrie, "CACHE_WORDS", 400)
    trie = trie_of()
    for number in range(100):
        channel = f"c/{number}"
        assert trie.match(channel) == []
        trie.add(channel)
        assert trie.match(channel) == [channel]
        assert trie._cached == sum(_words(*result) for result in trie._cache.items())
    trie.add("#")
    assert trie._cached == 0
