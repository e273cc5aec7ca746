from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.items import Item, Record
from feedgen.ranking.features import BLOCKS, SLIM, Column, Impressions, encode
from feedgen.ranking.model import LogisticModel, ModelSettings
from feedgen.ranking.rows import People
from feedgen.ranking.scorer import (
    FIELDS,
    MAX_TAGS,
    RANKS,
    Before,
    Head,
    context_columns,
    item_columns,
    item_tokens,
    lay_out,
    moment_columns,
    told_apart,
)
from feedgen.ranking.tables import Tables
from feedgen.ranking.tokens import token

BITS = 18
NOW = 1.7e9
ITEM = Record(
    7,
    1,
    Item("news/local", "a", "x", tags=("fire", "water", "earth", "air")),
    0,
    2**31,
    b"",
    publisher="agency",
)
ITEMS = (
    ITEM,
    replace(ITEM, n=8, publisher=""),
    replace(ITEM, n=9, item=replace(ITEM.item, channel="news", tags=())),
    replace(ITEM, n=10, item=replace(ITEM.item, channel="sport/a/b", tags=("water",))),
)
CLASSES, REGIONS = ("tv", "phone", None), (1, 2, None)
ZONES = (None, "UTC", "Asia/Tokyo", "America/New_York", "+5", "Nowhere")


def crowd(rng, n, fields=("class", "region")):
    people = People(1, fields, 0.0, 0)
    for row in range(n):
        attrs = {
            "class": CLASSES[rng.integers(3)],
            "region": REGIONS[rng.integers(3)],
            "tz": ZONES[rng.integers(len(ZONES))],
        }
        named = {name: value for name, value in attrs.items() if value is not None}
        people.seat(0, row, f"d{row % 40}", named)
    return people


def before(people, rows):
    codes = people.codes(0, rows)
    axes = (*(codes[:, axis] for axis in range(codes.shape[1])), people.zone(0, rows))
    return Before(people.devices(0, rows), axes)


def impressions(people, rows, items, at, rank=None):
    """What training makes of the same devices before items, one for each."""
    known = [item_tokens(item) for item in items]
    of_item, item_fields = item_columns(
        np.array([each.item for each in known], np.uint64),
        np.array([each.fields for each in known], np.uint64),
    )
    codes = people.codes(0, rows)
    return Impressions(
        (Column("device", people.devices(0, rows)),),
        of_item,
        tuple(
            Column(field.name, field.tokens[codes[:, axis]])
            for axis, field in enumerate(people.fields)
        ),
        item_fields,
        moment_columns(
            people.zones.values,
            people.zone(0, rows),
            at,
            np.zeros(len(rows), np.int8) if rank is None else rank,
        ),
    )


def learned(seed=0, n=3000, blocks=BLOCKS, fields=("class", "region")):
    """People, a model that learned who opens what, and its tables with their features."""
    rng = np.random.default_rng(seed)
    people = crowd(rng, 200, fields)
    rows = rng.integers(0, 200, n)
    chosen = rng.integers(0, len(ITEMS), n)
    at = NOW + rng.uniform(0, 7 * 86_400, n)
    rank = rng.integers(-1, 20, n).astype(np.int8)
    shown = impressions(people, rows, [ITEMS[each] for each in chosen], at, rank)
    model = LogisticModel(ModelSettings(bits=BITS))
    p = 0.1 + 0.2 * (chosen == rows % 4) + 0.3 * (people.zone(0, rows) == chosen) + 0.2 / (rank + 2)
    labels = (rng.random(n) < p).astype(float)
    model.learn(encode(shown, BITS, blocks), labels, now=at.max())
    return people, model, Head(Tables.of(model), blocks)


@pytest.fixture(scope="module", params=["all", "slim", "no device fields"])
def world(request):
    blocks = SLIM if request.param == "slim" else BLOCKS
    fields = () if request.param == "no device fields" else ("class", "region")
    return learned(blocks=blocks, fields=fields)


# ---- Serving and training


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.item.channel)
@pytest.mark.parametrize("hours", [0, 7, 31, 24 * 180])
def test_serving_says_of_devices_what_training_says_of_the_same_impressions(world, item, hours):
    people, model, head = world
    rows, now = np.arange(200), NOW + hours * 3600
    served, variance = head.before(
        head.parts(told_apart(item_tokens(item), people, now, head.tables.bits), sampled=True),
        before(people, rows),
        sampled=True,
    )
    shown = impressions(people, rows, [item] * 200, np.full(200, now))
    each, its_variance = head.each(lay_out(shown, BITS), sampled=True)
    trained = model.logits(encode(shown, BITS, head.blocks))
    np.testing.assert_allclose(served, trained, atol=1e-4)
    np.testing.assert_allclose(each, trained, atol=1e-4)
    np.testing.assert_allclose(variance, its_variance, rtol=1e-4)
    assert np.ptp(served) > 0.1  # it is not about nothing


def test_few_impressions_in_any_form_of_columns_are_as_they_are_in_training(world):
    people, model, head = world
    rng = np.random.default_rng(5)
    rows, chosen = rng.integers(0, 200, 50), rng.integers(0, len(ITEMS), 50)
    dense = impressions(people, rows, [ITEMS[each] for each in chosen], np.full(50, NOW))
    codes = people.codes(0, rows)
    coded = replace(
        dense,
        device_fields=tuple(
            Column(field.name, field.tokens, codes[:, axis])
            for axis, field in enumerate(people.fields)
        ),
        context=context_columns(people.zones.values, NOW, people.zone(0, rows).astype(np.intp)),
    )
    trained = model.logits(encode(dense, BITS, head.blocks))
    for shown in (dense, coded):
        np.testing.assert_allclose(
            head.each(lay_out(shown, BITS), sampled=False)[0], trained, atol=1e-4
        )


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        Item,
        st.sampled_from(["a", "a/b", "a/b/c", "news", "news/local"]),
        st.just("id"),
        st.just("x"),
        tags=st.lists(st.sampled_from(["fire", "water", "new", ""]), max_size=5).map(tuple),
    ),
    st.sampled_from(["", "agency", "somebody new"]),
    st.integers(0, 10_000),
    st.integers(0, 199),
)
def test_any_item_is_served_as_it_is_trained(item, publisher, hours, row):
    people, model, head = WORLD
    record = replace(ITEM, item=item, publisher=publisher)
    rows, now = np.array([row]), NOW + hours * 3600
    served, _ = head.before(
        head.parts(told_apart(item_tokens(record), people, now, head.tables.bits), sampled=True),
        before(people, rows),
        sampled=False,
    )
    shown = impressions(people, rows, [record], np.array([now]))
    trained = model.logits(encode(shown, BITS))
    np.testing.assert_allclose(served, trained, atol=1e-4)


WORLD = learned(seed=1)


def test_more_devices_than_are_laid_out_at_a_time_are_as_each_by_itself():
    people, _, head = WORLD
    rows = np.arange(20_000) % 200
    parts = head.parts(told_apart(item_tokens(ITEM), people, NOW, head.tables.bits), sampled=True)
    z, variance = head.before(parts, before(people, rows), sampled=True)
    first, its_variance = head.before(parts, before(people, np.arange(200)), sampled=True)
    np.testing.assert_array_equal(z, np.tile(first, 100))
    np.testing.assert_array_equal(variance, np.tile(its_variance, 100))


def test_uncertainty_that_nobody_asks_for_is_not_computed():
    people, _, head = WORLD
    parts = head.parts(told_apart(item_tokens(ITEM), people, NOW, head.tables.bits), sampled=True)
    asked = before(people, np.arange(5))
    assert head.before(parts, asked, sampled=False)[1] is None
    np.testing.assert_array_equal(
        head.before(parts, asked, sampled=False)[0], head.before(parts, asked, sampled=True)[0]
    )


def test_a_value_first_seen_after_the_tables_were_made_counts_as_unknown():
    people, model, head = learned(seed=2, n=500)
    people.seat(0, 200, "newcomer", {"class": "fridge", "tz": "Europe/Oslo"})
    rows = np.array([200])
    parts = head.parts(told_apart(item_tokens(ITEM), people, NOW, head.tables.bits), sampled=True)
    z, _ = head.before(parts, before(people, rows), sampled=False)
    shown = impressions(people, rows, [ITEM], np.array([NOW]))
    np.testing.assert_allclose(z, model.logits(encode(shown, BITS)), atol=1e-4)


# ---- Tokens and columns


def test_an_item_is_its_number_its_channel_its_topic_its_publisher_and_its_first_tags():
    known = item_tokens(ITEM)
    assert known.item == token("item", "7")
    assert known.fields == (
        token("item.channel", "news/local"),
        token("item.topic", "news"),
        token("item.publisher", "agency"),
        *(token("item.tag", tag) for tag in ("fire", "water", "earth")),
    )
    assert len(known.fields) == len(FIELDS)


def test_what_an_item_lacks_is_absent():
    bare = item_tokens(replace(ITEM, publisher="", item=replace(ITEM.item, channel="a", tags=())))
    assert bare.fields == (token("item.channel", "a"), 0, 0, *[0] * MAX_TAGS)


def test_position_is_a_feature_in_training_and_constant_in_serving():
    ranks = np.array([0, 1, RANKS - 1, RANKS, 127, -1], np.int8)
    zone = np.ones(6, np.uint16)
    rank = moment_columns(["UTC"], zone, np.full(6, NOW), ranks)[-1].spread()
    assert len(set(rank[:3].tolist())) == 3
    assert rank[2] == rank[3] == rank[4]
    served = context_columns(["UTC"], NOW, zone.astype(np.intp))[-1].spread()
    assert served.tolist() == [rank[0]]
    assert rank[5] == rank[0]  # unknown


def test_hour_and_weekday_are_those_of_the_device_in_training_as_in_serving():
    zones = ["UTC", "Asia/Tokyo", "+5"]
    number = np.array([1, 2, 3, 0], np.uint16)
    for now in NOW + np.arange(0, 14 * 86_400, 11 * 3600.0):
        trained = moment_columns(zones, number, np.full(4, now), np.zeros(4, np.int8))
        served = context_columns(zones, now, number.astype(np.intp))
        for one, other in zip(trained[:2], served[:2], strict=True):
            assert one.name == other.name
            assert one.spread().tolist() == other.spread().tolist()
            assert one.spread()[3] == 0  # of nobody


def test_impressions_of_different_hours_have_each_their_own():
    at = NOW + np.array([0.0, 3600.0, 7200.0])
    hours = moment_columns(["UTC"], np.ones(3, np.uint16), at, np.zeros(3, np.int8))[0].spread()
    assert hours.tolist() == [token("context.hour", str(h)) for h in (22, 23, 0)]
