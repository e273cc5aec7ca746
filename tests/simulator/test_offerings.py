"""The stream of items of the simulated market."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.offerings import Items, Market, Settings, Stream

HOUR = 3600.0
MARKET = Market(channels=4, tags=8, publishers=4)


def columns(items: Items) -> list[np.ndarray]:
    return [getattr(items, name) for name in Items.__dataclass_fields__]


@given(st.lists(st.floats(0, 100 * HOUR), min_size=2, max_size=8))
@settings(max_examples=50)
def test_a_stream_is_the_same_however_it_is_cut(cuts) -> None:
    stream = Stream(3, MARKET, start=50.0)
    cuts = sorted(cuts)
    parts = [stream.between(one, other) for one, other in pairwise(cuts)]
    whole = stream.between(cuts[0], cuts[-1])
    for column, of_parts in zip(
        columns(whole), zip(*map(columns, parts), strict=True), strict=True
    ):
        assert np.array_equal(column, np.concatenate(of_parts))


def test_items_are_published_at_the_given_rate_within_the_given_time() -> None:
    items = Stream(1, MARKET, Settings(rate=6), start=1_000.0).between(
        1_000 + HOUR, 1_000 + 3 * HOUR
    )
    assert len(items) == 12
    assert items.number.tolist() == list(range(6, 18))
    assert items.published.min() >= 1_000 + HOUR
    assert items.published.max() < 1_000 + 3 * HOUR


@given(st.floats(0, 100 * HOUR), st.floats(0, 10 * HOUR))
@settings(max_examples=50)
def test_an_item_is_found_in_the_time_that_it_was_published_in(begin, span) -> None:
    published = (
        Stream(3, MARKET, Settings(rate=7.0), start=50.0).between(begin, begin + span).published
    )
    assert np.all(published > begin - 1e-6)
    assert np.all(published < begin + span + 1e-6)


def test_nothing_is_published_before_the_start() -> None:
    assert len(Stream(1, MARKET, start=500.0).between(0.0, 500.0)) == 0


def test_every_item_belongs_to_the_market() -> None:
    items = Stream(1, MARKET).items(np.arange(5_000))
    for column, count in (
        (items.channel, MARKET.channels),
        (items.publisher, MARKET.publishers),
        (items.tags, MARKET.tags),
    ):
        assert column.min() == 0
        assert column.max() == count - 1
    assert items.tags.shape == (5_000, 2)


def test_publishers_publish_by_weight_and_in_two_channels_at_most() -> None:
    items = Stream(1, MARKET, Settings(weights=(5, 1, 1, 1))).items(np.arange(20_000))
    shares = np.bincount(items.publisher) / 20_000
    assert shares == pytest.approx([5 / 8, 1 / 8, 1 / 8, 1 / 8], abs=0.015)
    for publisher in range(4):
        assert len(np.unique(items.channel[items.publisher == publisher])) <= 2


def test_a_new_publisher_appears_at_its_debut() -> None:
    stream = Stream(1, MARKET, Settings(rate=100, debuts=(0, 0, 0, 10 * HOUR)), start=7.0)
    debut = 7.0 + 10 * HOUR
    assert 3 not in stream.between(0, debut).publisher
    assert 3 in stream.between(debut, debut + HOUR).publisher


def test_the_items_of_a_stronger_publisher_are_better() -> None:
    stream = Stream(1, MARKET, Settings(strengths=(1, 0, 0, -1)))
    items = stream.items(np.arange(20_000))
    means = [items.quality[items.publisher == each].mean() for each in range(4)]
    assert means == pytest.approx([1, 0, 0, -1], abs=0.06)


def test_fields_tell_what_a_server_may_know_and_no_quality() -> None:
    items = Stream(1, MARKET).items(np.arange(200))
    told = [items.fields(place) for place in range(200)]
    assert all(set(each) in ({"channel", "publisher", "tag"}, {"channel", "publisher", "tag", "tag2"})
               for each in told)  # fmt: skip
    assert [each["publisher"] for each in told] == [f"p{each}" for each in items.publisher]


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (Settings(weights=(1, 2)), "4 publishers, but 2 values"),
        (Settings(debuts=(1, 2, 3, 4)), "nobody publishes from the start"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(given_, said) -> None:
    with pytest.raises(ValueError, match=said):
        Stream(1, MARKET, given_)


def test_a_market_without_a_second_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="channels=1"):
        Market(channels=1)
