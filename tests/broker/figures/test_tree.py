"""Readings as topics and texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.figures import tree
from broker.figures.catalog import FIGURES, Kind
from broker.figures.histogram import NOTHING, Distribution
from broker.figures.reading import Reading
from tests.broker.figures.lint import faults

values = st.one_of(
    st.integers(0, 10**15),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([1e-5, -5.0, 1e22]),
)


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    numbers = {
        figure.name: {of: draw(values) for of in figure.values or ("",)}
        for figure in FIGURES.values()
        if figure.kind is not Kind.HISTOGRAM
    }
    counts = np.zeros_like(NOTHING.counts)
    counts[draw(st.integers(0, len(counts) - 1))] = draw(st.integers(0, 3))
    recent = {
        f.name: Distribution(counts, 0.0) for f in FIGURES.values() if f.kind is Kind.HISTOGRAM
    }
    loads = {
        (figure.name, leaf.of): (draw(values), 0.0, 1.5)
        for figure in FIGURES.values()
        for leaf in figure.leaves
        if leaf.per_minute
    }
    return Reading(0.0, "1.2.3", numbers, recent, recent, loads)


@given(readings())
@settings(max_examples=30)
def test_no_consumer_misreads_any_tree(reading: Reading) -> None:
    topics = tree.topics(reading)
    assert faults(dict(topics)) == []
    assert len(dict(topics)) == len(topics)


@given(readings())
@settings(max_examples=5)
def test_a_gateway_tells_the_same_leaves_below_a_topic_of_its_own(reading: Reading) -> None:
    of_server = dict(tree.topics(reading))
    for path, text in tree.leaves(reading):
        assert of_server[f"$SYS/broker/feed/{path}"] == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (100, "100"), (0.25, "0.25"), (1e-5, "0"), (2e9, "2000000000"), (-1, "0")],
)
def test_numbers_are_plain(value: float, text: str) -> None:
    assert tree.plain(value) == text


@pytest.mark.parametrize("text", ["12 seconds", "1e-05", "-5", "", "{}", "nan", "0x1f"])
def test_what_would_be_misread_is_found(text: str) -> None:
    assert faults({"$SYS/broker/x": text})


def test_two_topics_with_one_name_are_found() -> None:
    assert faults({"$SYS/broker/a b": "1", "$SYS/broker/a/b": "1"})
    assert faults({"$SYS/broker/a@b": "1"})
