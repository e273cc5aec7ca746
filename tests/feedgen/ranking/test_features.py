from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking.features import (
    BLOCKS,
    GROUPS,
    SLIM,
    Column,
    Group,
    Impressions,
    encode,
    features,
    layout,
    pairs,
    stacked,
)
from feedgen.ranking.tokens import cross
from tests.feedgen.model_cases import column, some

KINDS = ("device", "item", "device_fields", "item_fields", "context")


def one_of_each():
    return Impressions(
        (column("device", "ab"),),
        (column("item", "xy"),),
        (column("device.class", "12"),),
        (column("item.channel", "cd"),),
        (column("context.hour", "78"),),
    )


def test_an_impression_has_each_thing_known_of_it_and_their_crosses():
    found = [
        (feature.group, feature.column().name, feature.family)
        for feature in features(one_of_each())
    ]
    assert found == [
        (Group.DEVICE, "device", "device"),
        (Group.ITEM, "item", "item"),
        (Group.TRAIT, "device.class", "device.class"),
        (Group.KIND, "item.channel", "item.channel"),
        (Group.TIME, "context.hour", "context.hour"),
        (Group.TASTE, "device x item.channel", "device x item.channel"),
        (Group.HABIT, "device x context.hour", None),
        (Group.SEGMENT, "device.class x item.channel", "device.class x item.channel"),
        (Group.MOMENT, "item.channel x context.hour", "item.channel x context.hour"),
        (Group.REACH, "device.class x item", None),
    ]


def test_the_slim_features_cross_the_device_with_nothing():
    for feature in features(one_of_each(), SLIM):
        assert len(feature.operands) == 1 or feature.operands[0].name != "device"
    assert {block.group for block in BLOCKS} - {block.group for block in SLIM} == {
        Group.TASTE,
        Group.HABIT,
    }


def test_impressions_that_nothing_is_known_of_have_their_device_and_item():
    bare = Impressions((column("device", "ab"),), (column("item", "xy"),))
    assert [feature.group for feature in features(bare)] == [Group.DEVICE, Group.ITEM]
    assert encode(bare, 18).places.shape == (2, 2)


def test_two_values_of_one_field_share_its_family():
    impressions = Impressions(
        (column("device", "ab"),),
        (column("item", "xy"),),
        item_fields=(column("item.tag", "tu"), column("item.tag", "vw")),
    )
    known = layout(impressions)
    assert known.families == ("device", "item", "item.tag", "item.tag", *["device x item.tag"] * 2)


def test_a_cross_with_what_is_absent_is_absent():
    here, absent = np.array([5, 0, 7], np.uint64), np.array([3, 3, 0], np.uint64)
    found = pairs(here, absent)
    assert found[0] == cross(here[:1], absent[:1])[0]
    assert found[1:].tolist() == [0, 0]


def test_absence_is_told_for_each_impression_and_feature():
    impressions = Impressions(
        (column("device", "ab"),),
        (column("item", "xy"),),
        item_fields=(column("item.tag", ["t", None]),),
    )
    encoded = encode(impressions, 18)
    assert encoded.present.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert encode(one_of_each(), 18).present is None


@st.composite
def shapes(draw):
    """The same impressions twice: all columns dense, and in other forms."""
    n = draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 999)))

    def both(name):
        form = draw(st.sampled_from(["dense", "coded", "single"]))
        vocabulary = rng.integers(0, 2**63, 4, np.uint64)
        vocabulary[0] *= draw(st.sampled_from([0, 1]))
        codes = rng.integers(0, 1 if form == "single" else 4, n)
        given = {
            "dense": Column(name, vocabulary[codes]),
            "coded": Column(name, vocabulary, codes),
            "single": Column(name, vocabulary[:1]),
        }[form]
        return Column(name, vocabulary[codes]), given

    counts = (1, 1, *(draw(st.integers(0, 3)) for _ in range(3)))
    kinds = [
        [both(f"{kind}.{at}") for at in range(count)]
        for kind, count in zip(KINDS, counts, strict=True)
    ]
    dense, mixed = (
        Impressions(*(tuple(each[at] for each in kind) for kind in kinds)) for at in (0, 1)
    )
    return n, dense, mixed


@settings(max_examples=150, deadline=None)
@given(shapes())
def test_dense_coded_and_single_columns_give_the_same_features(shape):
    n, dense, mixed = shape
    expected = stacked(dense)
    for impressions in (dense, mixed):
        one_by_one = [np.broadcast_to(f.column().spread(), n) for f in features(impressions)]
        assert (np.array(one_by_one) == expected).all()
    found = stacked(mixed)
    assert (np.broadcast_to(found, expected.shape) == expected).all()


def test_a_cross_of_few_values_with_one_is_looked_up_a_handful_of_times():
    impressions = Impressions(
        (column("device", map(str, range(1000))),),
        (column("item", "x"),),
        (Column("device.class", np.array([0, 5, 6], np.uint64), np.arange(1000) % 3),),
        (column("item.channel", "c"),),
    )
    sizes = {f.column().name: len(f.column().tokens) for f in features(impressions)}
    assert sizes["device.class x item.channel"] == 3
    assert sizes["item.channel"] == 1
    assert sizes["device x item.channel"] == 1000


def test_columns_that_differ_in_length_are_refused():
    impressions = Impressions((column("device", "abc"),), (column("item", "xy"),))
    with pytest.raises(ValueError, match=r"differ in length: \[2, 3\]"):
        encode(impressions, 18)


def test_no_impressions_are_no_features():
    none = some(np.random.default_rng(0), 0)
    assert len(none) == 0
    assert encode(none, 18).places.shape[0] == 0


def test_some_rows_of_an_encoding_are_those_rows():
    encoded = encode(some(np.random.default_rng(1), 30, num=2), 18)
    chosen = np.array([3, 3, 29])
    for part, rows in ((encoded.part(5, 9), slice(5, 9)), (encoded.rows(chosen), chosen)):
        assert (part.places == encoded.places[rows]).all()
        assert (part.present == encoded.present[rows]).all()
        assert (part.num == encoded.num[rows]).all()


def test_a_layout_says_which_group_each_feature_is_of_and_which_are_counted():
    known = layout(one_of_each())
    assert known.members.shape == (10, GROUPS)
    assert (known.members.argmax(axis=1) == known.groups).all()
    assert (known.members.sum(axis=1) == 1).all()
    assert known.counted.tolist() == [0, 1, 2, 3, 4, 5, 7, 8]
    assert layout(one_of_each()) is known
