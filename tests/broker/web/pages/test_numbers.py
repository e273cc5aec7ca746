"""Numbers that JSON does not have."""

from __future__ import annotations

import json
from math import inf, nan

from hypothesis import given
from hypothesis import strategies as st

from broker.web.pages.numbers import finite

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=10,
)


def test_what_is_no_number_is_told_as_nothing() -> None:
    found = finite({"a": [nan, 1.5, {"b": (inf, -inf, 2)}], "c": True})

    assert found == {"a": [None, 1.5, {"b": [None, None, 2]}], "c": True}


@given(values)
def test_whatever_comes_out_is_json_that_every_browser_reads(value: object) -> None:
    json.dumps(finite(value), allow_nan=False)
