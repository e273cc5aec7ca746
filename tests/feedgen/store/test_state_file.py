"""States on real files: round trips, damage of every kind, and kills in the middle."""

from __future__ import annotations

import math
import os
import resource
import signal
import subprocess
import sys
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feedgen.ranking.event_ranker import event_ranker
from feedgen.store import StoreError, state_file
from feedgen.store.state_file import StateError, load, save, set_aside
from tests.feedgen.model_cases import assert_same, log

if TYPE_CHECKING:
    from collections.abc import Iterator

KIND, VERSION = "ranking", 3


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ranking.state"


def written(path, state):
    save(path, KIND, VERSION, state)
    return path.read_bytes()


def again(path):
    return load(path, KIND, VERSION)


# ---- Round trips

ARRAYS = st.builds(
    lambda kind, shape, seed: np.asarray(np.random.default_rng(seed).random(shape) * 100, kind),
    st.sampled_from(["?", "u1", "i1", "<i4", ">i4", "u8", "i8", "f4", "f8", ">f8"]),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.integers(0, 99),
)
TEXT = st.text(st.characters(), max_size=5)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=5)
    | ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.integers(0, 9), inner),
    max_leaves=10,
)


def little(value):
    """A value as it comes back: arrays in the order of bytes of this machine."""
    if isinstance(value, np.ndarray):
        return value.astype(value.dtype.newbyteorder("="))
    if isinstance(value, list):
        return [little(each) for each in value]
    if isinstance(value, dict):
        return {name: little(each) for name, each in value.items()}
    return value


def assert_alike(one, other):
    if isinstance(one, list):
        assert len(one) == len(other)
        for each, its in zip(one, other, strict=True):
            assert_alike(each, its)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name, each in one.items():
            assert_alike(each, other[name])
    else:
        assert_same(one, other)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_is_saved_is_loaded(tmp_path_factory, state):
    path = tmp_path_factory.getbasetemp() / "any.state"
    written(path, state)
    assert_alike(little(state), again(path))


def test_tuples_come_back_as_lists_and_numbers_of_numpy_as_numbers(path):
    written(path, {"pair": (1, 2), "n": np.int64(7), "x": np.float32(0.5), "b": np.bool_(True)})
    assert again(path) == {"pair": [1, 2], "n": 7, "x": 0.5, "b": True}


def test_numbers_that_are_none_and_strided_arrays_come_back(path):
    written(
        path, {"x": np.array([math.nan, math.inf, -0.0]), "rows": np.arange(12).reshape(3, 4).T}
    )
    state = again(path)
    np.testing.assert_array_equal(state["x"], [math.nan, math.inf, -0.0])
    assert state["rows"].shape == (4, 3)


def test_a_loaded_array_can_be_written_to(path):
    written(path, {"x": np.zeros(3)})
    state = again(path)
    state["x"][1] = 5
    assert state["x"].tolist() == [0, 5, 0]


def test_where_there_is_no_file_there_is_no_state(path):
    assert again(path) is None


def test_the_last_state_is_the_one_that_counts_and_nothing_else_is_left(path):
    for n in range(3):
        written(path, {"n": n})
    assert again(path) == {"n": 2}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_other_users_cannot_read_what_devices_like(path):
    written(path, {})
    assert path.stat().st_mode & 0o077 == 0


def test_a_ranker_goes_on_from_its_file_as_if_there_had_been_no_stop(path):
    events, labels, _ = log(1500)
    one, other = event_ranker(), event_ranker()
    one.learn(events[:777], labels[:777])
    written(path, one.state())
    other.restore(again(path))
    for ranker in (one, other):
        ranker.learn(events[777:], labels[777:])
    assert_same(one.state(), other.state())


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, np.array([object()]), np.array(["a"]), np.array([1j]), 1j, print]
)
def test_what_is_no_state_is_refused_and_the_old_state_stays(path, value):
    written(path, {"n": 1})
    with pytest.raises(TypeError, match="a state cannot hold"):
        written(path, {"bad": value})
    assert again(path) == {"n": 1}


# ---- Damage


def refuse(path, match=None):
    with pytest.raises(StateError, match=match) as caught:
        again(path)
    assert str(path) in str(caught.value)
    assert "begin anew" in str(caught.value)


def test_a_file_cut_anywhere_is_refused(path):
    data = written(path, {"x": np.arange(5), "name": "value"})
    for length in range(len(data)):
        path.write_bytes(data[:length])
        refuse(path)


def test_a_file_with_any_byte_changed_is_refused(path):
    data = written(path, {"x": np.arange(5), "name": "value"})
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes((data[at] ^ 0x41,)) + data[at + 1 :])
        refuse(path)


def test_a_file_with_something_behind_is_refused(path):
    path.write_bytes(written(path, {}) + b"x")
    refuse(path, "where")


@pytest.mark.parametrize("data", [b"", b"hello", b"SQLite format 3\x00" * 9, b"\x80\x04K\x01." * 9])
def test_a_foreign_file_is_refused(path, data):
    path.write_bytes(data)
    refuse(path)


def framed(payload):
    head = state_file._HEAD.pack(state_file.MAGIC, zlib.crc32(payload), len(payload))
    return head + payload


def extension(code, fields):
    return msgpack.ExtType(code, fields if isinstance(fields, bytes) else msgpack.packb(fields))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000,
        msgpack.packb(1),
        msgpack.packb({"kind": KIND}),
        msgpack.packb([KIND, VERSION]),
        msgpack.packb([KIND, VERSION, [1]]),
        msgpack.packb([KIND, VERSION, {}]) + b"\x00",
        *(
            msgpack.packb([KIND, VERSION, {"x": extension(code, fields)}])
            for code, fields in [
                (2, b""),
                (1, b""),
                (1, b"\xc1"),
                (1, 5),
                (1, ["<f8", [1]]),
                (1, ["<f8", [2], bytes(8)]),
                (1, ["<f8", [-2], bytes(8)]),
                (1, ["<f8", [2**62, 2**62], b""]),
                (1, ["<f8", 1, "text"]),
                (1, ["<f8", None, bytes(8)]),
                (1, ["|O", [1], bytes(8)]),
                (1, ["O8", [1], bytes(8)]),
                (1, ["<f8,O", [1], bytes(16)]),
                (1, ["<i3", [1], bytes(3)]),
                (1, ["<U2", [1], bytes(8)]),
                (1, [None, [1], bytes(8)]),
                (1, ["", [1], bytes(8)]),
                (1, ["<f8", ["a"], bytes(8)]),
            ]
        ),
    ],
)
def test_a_file_whose_checksum_is_right_and_whose_content_is_not_is_refused(path, payload):
    path.write_bytes(framed(payload))
    refuse(path)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
@example(b"\x81\x80\x00")  # a map whose key is a map
def test_no_content_raises_anything_else(tmp_path_factory, payload):
    path = tmp_path_factory.getbasetemp() / "odd.state"
    path.write_bytes(framed(payload))
    with pytest.raises(StateError):
        again(path)


def test_the_state_of_another_thing_is_refused(path):
    written(path, {})
    with pytest.raises(StateError, match="holds the state of 'ranking', not of 'monitor'"):
        load(path, "monitor", VERSION)


def test_another_version_is_refused_and_both_are_named(path):
    written(path, {})
    with pytest.raises(StateError, match="has version 3 of its layout, and this program reads 4"):
        load(path, KIND, 4)


def test_a_file_that_is_too_long_is_not_even_read(path):
    with path.open("wb") as file:
        file.truncate(state_file.MAX_BYTES + 1)  # a hole: no disk is filled
    refuse(path, "more than any state")


def test_a_file_that_was_refused_is_set_aside_for_somebody_to_look_at(path):
    for content in (b"first", b"second"):
        path.write_bytes(content)
        refuse(path)
        aside = set_aside(path)
        assert aside.read_bytes() == content
        assert again(path) is None
    assert [each.name for each in path.parent.iterdir()] == [aside.name]


# ---- The disk


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """No file of this process grows beyond `limit` bytes: as a full disk, but for root too."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_old_state_and_says_what_to_do(path):
    written(path, {"n": 1})
    with file_size_limit(4096), pytest.raises(StoreError, match="make room on the disk"):
        written(path, {"x": np.zeros(10_000)})
    assert again(path) == {"n": 1}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_directory_that_is_not_there_is_a_fault_of_the_path_and_not_of_the_state(tmp_path):
    nowhere = tmp_path / "no" / "ranking.state"
    with pytest.raises(StoreError, match="check the path"):
        written(nowhere, {})
    with pytest.raises(StoreError, match="Cannot rename"):
        set_aside(nowhere)
    assert again(nowhere) is None


def test_what_cannot_be_read_is_not_called_damaged(tmp_path):
    with pytest.raises(StoreError, match="Cannot read") as caught:
        again(tmp_path)  # a directory
    assert not isinstance(caught.value, StateError)


# Dies at a chosen call of the operating system, as a kill may come at any of them.
KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from feedgen.store.state_file import save

path, deadly, calls = Path(sys.argv[1]), int(sys.argv[2]), 0

def counted(call):
    def either(*args, **kwargs):
        global calls
        calls += 1
        if calls == deadly:
            os.kill(os.getpid(), 9)
        if call is real_write:  # a write may be cut short
            args = args[0], bytes(args[1])[:40_000]
        return call(*args, **kwargs)
    return either

real_write = os.write
for name in ("open", "write", "fsync", "close", "replace", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
save(path, "ranking", 3, {"n": 2, "x": np.arange(10_000)})
print(calls)
"""


def saved_until(path, call):
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(call)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_a_kill_at_any_step_of_saving_leaves_the_old_state_or_the_new_one(path):
    found = []
    for call in range(1, 40):
        path.with_name(path.name + ".tmp").unlink(missing_ok=True)
        written(path, {"n": 1})
        run = saved_until(path, call)
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL, run.stderr
        found.append(again(path)["n"])
        # What the kill left behind is in nobody's way.
        written(path, {"n": 3})
        assert again(path) == {"n": 3}
    assert run.returncode == 0
    assert set(found) == {1, 2}
    assert found == sorted(found)
