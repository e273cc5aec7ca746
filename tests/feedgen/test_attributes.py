from __future__ import annotations

import numpy as np

from feedgen.attributes import Attributes, Vocabulary

ROWS = np.arange(3, dtype=np.int32)


def three_devices() -> Attributes:
    attributes = Attributes(Vocabulary(), 3)
    attributes.set(0, {"region": "ca", "floor": 1})
    attributes.set(1, {"region": "us", "floor": 2})
    attributes.set(2, {"floor": 1})
    return attributes


def matching(attributes: Attributes, *where: tuple[str, tuple[str | int, ...]]) -> list[int]:
    return ROWS[attributes.matching(where, ROWS)].tolist()


def test_one_of_the_values_of_each_attribute_must_match():
    attributes = three_devices()
    assert matching(attributes, ("region", ("ca", "mx"))) == [0]
    assert matching(attributes, ("floor", (1,))) == [0, 2]
    assert matching(attributes, ("floor", (1, 2)), ("region", ("us",))) == [1]
    assert matching(attributes) == [0, 1, 2]


def test_a_number_is_not_the_text_of_it():
    assert matching(three_devices(), ("floor", ("1",))) == []


def test_a_device_without_the_attribute_does_not_match():
    attributes = three_devices()
    assert matching(attributes, ("region", ("ca", "us"))) == [0, 1]
    assert matching(attributes, ("model", ("x",))) == []


def test_attributes_are_replaced_as_a_whole():
    attributes = three_devices()
    attributes.set(0, {"floor": 2})
    assert matching(attributes, ("region", ("ca",))) == []
    assert matching(attributes, ("floor", (2,))) == [0, 1]


def test_a_value_that_comes_up_after_an_item_asked_for_it_matches():
    attributes = three_devices()
    assert matching(attributes, ("region", ("mx",))) == []
    attributes.set(1, {"region": "mx"})
    assert matching(attributes, ("region", ("mx",))) == [1]


def test_rows_that_are_added_have_no_attributes():
    attributes = three_devices()
    attributes.grow(5)
    rows = np.arange(5, dtype=np.int32)
    assert attributes.matching((("floor", (1, 2)),), rows).tolist() == [True] * 3 + [False] * 2
