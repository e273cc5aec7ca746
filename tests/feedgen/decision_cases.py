"""Records of the decision log for the tests: by hand, at random, and compared bit by bit."""

from __future__ import annotations

from struct import pack
from typing import Any
from zlib import crc32

import msgpack
import numpy as np
from hypothesis import strategies as st

from feedgen.ranking.decisions import Admissions, Decision, Outcomes

NOON = 1_800_000_000.0


def admissions(*devices: int, t: float = NOON, n: int = 1, **columns: Any) -> Admissions:
    """Admissions of one item by these devices; columns not given are the same in every row."""
    rows = len(devices)
    given = {"mean": 20.0, "sd": 0.0, "propensity": 1.0, "key": 500, "bar": 400} | columns
    scalars = {name: given.pop(name, 0) for name in ("model", "rung", "how")}
    return Admissions(
        t=t,
        n=n,
        **scalars,
        device=np.array(devices, np.uint64),
        **{
            name: np.broadcast_to(np.asarray(value, Admissions.COLUMNS[name]), (rows,))
            for name, value in given.items()
        },
    )


def outcomes(*devices: int, t: float = NOON, model: int = 0, **columns: Any) -> Outcomes:
    """Outcomes of these devices; columns not given are the same in every row."""
    rows = len(devices)
    given = {"n": 1, "shown": NOON, "rank": 0, "p": 0.1, "opened": False, "dismissed": False, "dwell": -1.0} | columns  # fmt: skip
    return Outcomes(
        t=t,
        model=model,
        device=np.array(devices, np.uint64),
        **{
            name: np.broadcast_to(np.asarray(value, Outcomes.COLUMNS[name]), (rows,))
            for name, value in given.items()
        },
    )


def bits(record: Decision | None) -> list[Any]:
    """All of a record, such that equal means equal in every bit: NaN and -0.0 too."""
    assert record is not None
    scalars = [getattr(record, name) for name in record.SCALARS]
    columns = [
        np.asarray(getattr(record, name), dtype).tobytes() for name, dtype in record.COLUMNS.items()
    ]
    return [record.KIND, *scalars, *columns]


def framed(fields: object) -> bytes:
    """The frame of any value, written as the documentation of the log has it."""
    payload = msgpack.packb(fields)
    return pack("<II", len(payload), crc32(payload)) + payload


@st.composite
def records(draw: st.DrawFn, devices: st.SearchStrategy[int] | None = None) -> Decision:
    """Any record: columns of raw bits, some of them the same in every row."""
    kind = draw(st.sampled_from((Admissions, Outcomes)))
    rows = draw(st.integers(0, 8))
    columns: dict[str, Any] = {}
    for name, dtype in kind.COLUMNS.items():
        itemsize = np.dtype(dtype).itemsize
        count = draw(st.sampled_from((1, rows))) if rows else 0
        raw = draw(st.binary(min_size=itemsize * count, max_size=itemsize * count))
        if dtype == "|b1":
            raw = bytes(byte & 1 for byte in raw)
        columns[name] = np.resize(np.frombuffer(raw, dtype), rows)
    if devices is not None:
        each = draw(st.lists(devices, min_size=rows, max_size=rows))
        columns["device"] = np.array(each, np.uint64)
    int64 = st.integers(-(2**63), 2**63 - 1)
    finite = st.floats(allow_nan=False, allow_infinity=False)
    scalars = {
        name: draw(finite if wanted is float else int64) for name, wanted in kind.SCALARS.items()
    }
    return kind(**scalars, **columns)
