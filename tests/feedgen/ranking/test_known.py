"""What is remembered of items, whoever publishes them."""

from __future__ import annotations

import pytest

from feedgen.ranking.known import KnownItems, group
from tests.feedgen.ranking_cases import record


def test_an_item_is_known_by_its_present_content() -> None:
    items = KnownItems()
    old = items.of(record(1, channel="a/b", tags=("x",)))
    assert items.of(record(1, channel="a/b", tags=("x",))) is old
    new = items.of(record(1, channel="a/b", tags=("y",), version=1))
    assert new.tokens.item == old.tokens.item
    assert new.tokens.fields != old.tokens.fields
    assert items[1] is new


def test_who_owns_a_branch_of_channels_is_a_publisher_without_a_name() -> None:
    items = KnownItems()
    one, other, named = (
        items.of(record(1, channel="a/b", publisher="")),
        items.of(record(2, channel="a/c", publisher="")),
        items.of(record(3, channel="a/c", publisher="b")),
    )
    assert one.publisher == other.publisher == group("publisher", "a")
    assert named.publisher != one.publisher
    assert one.channel != other.channel == named.channel


def test_the_same_id_on_many_channels_is_as_many_items() -> None:
    items = KnownItems()
    known = {items.of(record(n, channel=f"c{n}", id="same")).tokens.item for n in range(1, 9)}
    assert len(known) == 8


def test_tags_beyond_the_third_teach_nothing() -> None:
    items = KnownItems()
    few = items.of(record(1, tags=("a", "b", "c")))
    many = items.of(record(2, tags=("a", "b", "c", *(f"t{n}" for n in range(200)))))
    assert few.tokens.fields[-3:] == many.tokens.fields[-3:]


def test_items_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedgen.ranking.known._ITEMS", 64)
    items = KnownItems()
    for n in range(1, 1000):
        items.of(record(n))
        assert n in items
    assert sum(n in items for n in range(1, 1000)) <= 64


def test_a_publisher_that_takes_ever_new_names_makes_nobody_nameless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("feedgen.ranking.known._NAMES", 16)
    items = KnownItems()
    for n in range(1, 400, 2):
        items.of(record(n, channel="news", publisher="honest"))
        items.of(record(n + 1, channel="news", publisher=f"mask {n}"))
        assert items.names[group("publisher", "honest")] == "honest"
        assert len(items.names) <= 16


def test_names_outlive_a_restart() -> None:
    items, later = KnownItems(), KnownItems()
    items.of(record(1, channel="news", publisher="paper"))
    later.restore(items.names)
    assert later.names == items.names
    assert set(later.names.values()) == {"news", "paper"}


def test_groups_are_positive_numbers_of_31_bits() -> None:
    for n in range(500):
        assert 0 < group("tag", f"{n}") < 1 << 31
