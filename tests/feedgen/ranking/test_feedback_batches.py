"""What a node tells the trainer, as bytes and back."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking.feedback_batches import KINDS, MAX_BYTES, BadBatch, Batching, decode

FIELDS = ("class", "region")
TEXT = st.text(max_size=12)
ATTRS = st.dictionaries(st.sampled_from([*FIELDS, "tz", "quiet"]), TEXT | st.integers(-5, 5))
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(1, (1 << 62) - 1),
        st.integers(-1, 86_400),
        st.floats(1.7e9, 1.9e9),
        st.integers(0, 3),
    ),
    max_size=30,
)


def batch(events: Any = (), **changes: Any) -> bytes:
    """The bytes of a batch, with some entries changed."""
    batching = Batching("a", FIELDS)
    for kind, n, value, at, device in events:
        batching.heard(kind, n, value, at, at + 5, device, lambda: {"class": "tv"}, held_out=False)
    told = msgpack.unpackb(batching.take())
    return msgpack.packb({**told, **changes})


SOME = batch([("shown", 1, 0, 1.8e9, 7), ("opened", 2, 0, 1.8e9, 8)])


@settings(max_examples=60, deadline=None)
@given(
    EVENTS, st.lists(ATTRS, min_size=4, max_size=4), st.lists(st.booleans(), min_size=4, max_size=4)
)
def test_a_batch_comes_back_as_it_was(events, attrs, held_out):
    batching = Batching("node-1", FIELDS)
    for kind, n, value, at, device in events:
        batching.heard(
            kind, n, value, at, at + 1, device, lambda d=device: attrs[d], held_out=held_out[device]
        )
    assert batching.empty == (not events)
    found = decode(batching.take())
    assert batching.empty
    assert found.node == "node-1"
    assert len(found) == len(events)
    columns = (found.who, found.kind, found.n, found.value, found.at, found.heard)
    told = zip(*(column.tolist() for column in columns), strict=True)
    for (who, kind, *rest), (was, n, value, at, device) in zip(told, events, strict=True):
        assert (KINDS[kind], *rest) == (was, n, value, at, at + 1)
        reporter = found.reporters[who]
        names = [*FIELDS, "tz"]
        assert reporter.device == device
        assert reporter.attrs == {k: str(attrs[device][k]) for k in names if k in attrs[device]}
        assert reporter.held_out == held_out[device]


def test_a_device_is_told_once_whatever_it_does():
    asked = []
    batching = Batching("a", FIELDS)
    for n in range(100):
        batching.heard(
            "shown", n, 0, 1.0, 1.0, 5, lambda: asked.append(5) or {"class": "tv"}, held_out=False
        )
    assert asked == [5]
    assert len(decode(batching.take()).reporters) == 1


def test_what_was_eligible_is_summed_by_publisher_and_channel():
    batching = Batching("a", FIELDS)
    batching.eligible(np.array([[1, 2], [3, 4], [1, 2]]), np.array([0.5, 2.0, 0.25]))
    batching.compared(3.0, 4.0)
    batching.compared(1.0, 1.5)
    assert not batching.empty
    found = decode(batching.take())
    assert dict(zip(map(tuple, found.groups.tolist()), found.worth.tolist(), strict=True)) == {
        (1, 2): 0.75,
        (3, 4): 2.0,
    }
    assert found.compared == (4.0, 5.5)
    empty = decode(batching.take())
    assert not len(empty.worth)
    assert not any(empty.compared)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_as_something_or_refused_and_nothing_else(data):
    damaged = bytearray(SOME)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    try:
        found = decode(bytes(damaged[:cut]))
    except BadBatch:
        return
    assert len(found.who) == len(found.n) == len(found.kind) == len(found.at)
    assert all(who < len(found.reporters) for who in found.who)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(data):
    with pytest.raises(BadBatch):
        decode(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"node": 5},
        {"node": b"a"},
        {"reporters": [[7, False, ["tv", None, None]]]},
        {"reporters": [[-1, False, ["tv", None, None]]] * 2},
        {"reporters": [[1 << 63, False, ["tv"]]] * 2},
        {"reporters": [[1, False, [5, None, None]]] * 2},
        {"reporters": 5},
        {"n": b""},
        {"n": b"123"},
        {"kind": b"\x00\x09"},
        {"who": "text"},
        {"at": np.array([np.nan, 1.0]).tobytes()},
        {"value": np.array([np.inf, 1.0], "<f4").tobytes()},
        {"groups": bytes(16)},
        {"groups": np.array([-1, 1]).tobytes(), "worth": bytes(8)},
        {"groups": bytes(24), "worth": bytes(8)},
        {"groups": bytes(16), "worth": np.array([-1.0]).tobytes()},
        {"compared": [1.0]},
        {"compared": [1.0, "a"]},
        {"compared": [float("nan"), 1.0]},
    ],
    ids=" ".join,
)
def test_what_is_no_batch_is_refused(changes):
    told = msgpack.unpackb(SOME)
    with pytest.raises(BadBatch):
        decode(msgpack.packb({**told, **changes}))


def test_what_is_too_long_is_not_even_looked_at():
    with pytest.raises(BadBatch, match="bytes"):
        decode(bytes(MAX_BYTES + 1))


def test_what_a_later_version_adds_is_passed_over():
    told = msgpack.unpackb(SOME)
    assert len(decode(msgpack.packb({**told, "new": [1, 2]}))) == 2
