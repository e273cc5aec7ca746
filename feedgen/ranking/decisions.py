"""What the decision log holds: what was admitted with which probability, and what came of it.

Off-policy estimates ask of a logged decision how probable it was when it was made (Horvitz and
Thompson, JASA 1952). So every admission is kept with its propensity, its model and its context, and
every outcome with what was predicted; `joined.join` brings the two together.

A record is columns, because decisions are made for many rows at once. On disk it is a frame:

    length u32 | crc32 u32 | msgpack map        both little endian, both of the map

The map names its kind, its scalars, how many `rows` it has, and its columns, each as [dtype, bytes];
a column that is the same in every row is written once. Fields, columns and kinds that a reader does
not know are passed over, so a later version may add some. A log of JSON lines was rejected: five
times the bytes, fifty times the work. Compression too: half of a row is a hash and does not shrink.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar
from zlib import crc32

import msgpack
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

Columns: TypeAlias = dict[str, NDArray[Any]]
"""Columns by the names of their fields."""

MAX_ROWS = 1 << 24
"""In one record: columns that are the same everywhere would else claim any number of them."""

_HEAD = Struct("<II")
_DTYPES = frozenset(
    ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
)
_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class BadDecision(ValueError):  # noqa: N818 - named for what it is
    """These bytes are no record, or the columns of a record do not fit together."""


class How(IntEnum):
    """On what occasion a row was asked for an item."""

    OFFER = 0
    """The item was new or its key moved."""
    REBUILD = 1
    """The window was built from scratch."""


@dataclass(frozen=True, slots=True, eq=False)
class Admissions:
    """Rows that took one item at one moment.

    Attributes:
        t: Unix seconds.
        n: the item.
        model: version of the model that decided.
        rung: of the fallback ladder, 0 the best.
        how: the occasion.
        device: uint64 [rows], `tokens.device_token` of each device.
        mean: float32 [rows], ticks that the ranking added for this device.
        sd: float32 [rows], their standard deviation; 0 where nothing was explored.
        propensity: float32 [rows] in (0, 1], the probability of admission, given bar and context.
        key: int32 [rows], the key that the item got.
        bar: int32 [rows], what it had to beat.
    """

    t: float
    n: int
    model: int
    rung: int
    how: int
    device: NDArray[np.uint64]
    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    propensity: NDArray[np.float32]
    key: NDArray[np.int32]
    bar: NDArray[np.int32]

    KIND: ClassVar[str] = "admissions"
    SCALARS: ClassVar[dict[str, type]] = {
        "t": float,
        "n": int,
        "model": int,
        "rung": int,
        "how": int,
    }
    COLUMNS: ClassVar[dict[str, str]] = {
        "device": "<u8",
        "mean": "<f4",
        "sd": "<f4",
        "propensity": "<f4",
        "key": "<i4",
        "bar": "<i4",
    }

    def __len__(self) -> int:
        return len(self.device)


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Labels of shown items, as they were learned together.

    Attributes:
        t: Unix seconds.
        model: version of the model that predicted `p`.
        device: uint64 [rows], `tokens.device_token` of each device.
        n: int64 [rows], the items.
        shown: float64 [rows], Unix seconds.
        rank: int8 [rows], place in the window from 0; -1 unknown.
        p: float32 [rows], predicted probability of being opened.
        opened: bool [rows].
        dismissed: bool [rows].
        dwell: float32 [rows], seconds; -1 unknown.
    """

    t: float
    model: int
    device: NDArray[np.uint64]
    n: NDArray[np.int64]
    shown: NDArray[np.float64]
    rank: NDArray[np.int8]
    p: NDArray[np.float32]
    opened: NDArray[np.bool_]
    dismissed: NDArray[np.bool_]
    dwell: NDArray[np.float32]

    KIND: ClassVar[str] = "outcomes"
    SCALARS: ClassVar[dict[str, type]] = {"t": float, "model": int}
    COLUMNS: ClassVar[dict[str, str]] = {
        "device": "<u8",
        "n": "<i8",
        "shown": "<f8",
        "rank": "|i1",
        "p": "<f4",
        "opened": "|b1",
        "dismissed": "|b1",
        "dwell": "<f4",
    }

    def __len__(self) -> int:
        return len(self.device)


Decision: TypeAlias = Admissions | Outcomes
_D = TypeVar("_D", bound=Decision)
_KINDS: dict[str, type[Decision]] = {kind.KIND: kind for kind in (Admissions, Outcomes)}


def encode(record: Decision) -> bytes:
    """Return the frame of a record.

    Raises:
        BadDecision: A column is not one-dimensional, or not as long as the others, or of a type
            that would lose something; or there are more than `MAX_ROWS`.
    """
    if len(record) > MAX_ROWS:
        raise BadDecision(f"{len(record)} rows, at most {MAX_ROWS} go into a record")
    scalars = {name: kind(getattr(record, name)) for name, kind in record.SCALARS.items()}
    columns = {
        name: _packed(_fitting(getattr(record, name), name, dtype, len(record)))
        for name, dtype in record.COLUMNS.items()
    }
    fields = {"kind": record.KIND, **scalars, "rows": len(record), "columns": columns}
    return _framed(msgpack.packb(fields))


def payloads(data: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield what the whole frames from `at` hold, each with the place where it ends.

    Ends before the first frame that is not whole: a writer that was killed, or one that is still
    writing, leaves such a tail. Nothing behind it can be trusted, since its length cannot.
    """
    while at + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        # No record is empty; without this, a tail of zeros would be whole frames of nothing.
        if not length or len(payload) < length or crc32(payload) != crc:
            return
        at += _HEAD.size + length
        yield at, payload


def decode(payload: bytes) -> Decision | None:
    """Return the record of a frame; None if its kind is of a later version.

    Raises:
        BadDecision: It is no record.
    """
    fields = _fields(payload)
    kind = _KINDS.get(fields["kind"])
    if kind is None:
        return None
    values: dict[str, Any] = {}
    for name, wanted in kind.SCALARS.items():
        value = fields.get(name)
        # type(), not isinstance: a bool is no number here.
        if type(value) is not wanted:
            raise BadDecision(f"{name} is {type(value).__name__}, must be {wanted.__name__}")
        values[name] = value
    for name, dtype in kind.COLUMNS.items():
        column = _unpacked(fields["columns"].get(name), name, fields["rows"])
        values[name] = _fitting(column, name, dtype, fields["rows"])
    return kind(**values)


def without(payload: bytes, device: int) -> tuple[bytes, int]:
    """Return the frame of a payload without the rows of a device, and how many rows that were.

    Works on any kind that has a column `device`, and keeps what it does not know. Where no row is
    left the frame is `b""`.

    Raises:
        BadDecision: It is no record, so nobody can say whose rows it has.
    """
    fields = _fields(payload)
    rows, columns = fields["rows"], fields["columns"]
    if "device" not in columns:
        return _framed(payload), 0
    keep = _unpacked(columns["device"], "device", rows) != np.uint64(device)
    left = int(np.count_nonzero(keep))
    if left == rows:
        return _framed(payload), 0
    if not left:
        return b"", rows
    kept = {name: _packed(_unpacked(spec, name, rows)[keep]) for name, spec in columns.items()}
    return _framed(msgpack.packb({**fields, "rows": left, "columns": kept})), rows - left


def select(record: _D, rows: NDArray[np.bool_]) -> _D:
    """Return a record of some of the rows."""
    values = {name: getattr(record, name) for name in record.SCALARS}
    columns = {name: getattr(record, name)[rows] for name in record.COLUMNS}
    return type(record)(**values, **columns)


def _framed(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), crc32(payload)) + payload


def _fields(payload: bytes) -> dict[str, Any]:
    try:
        fields = msgpack.unpackb(payload)
    except (ValueError, msgpack.UnpackException) as error:
        raise BadDecision(f"not msgpack: {error}") from error
    if not isinstance(fields, dict):
        raise BadDecision("not a map")
    rows, columns = fields.get("rows"), fields.get("columns")
    if type(rows) is not int or not 0 <= rows <= MAX_ROWS or not isinstance(columns, dict):
        raise BadDecision("without rows and columns")
    if not isinstance(fields.get("kind"), str):
        raise BadDecision("without a kind")
    return fields


def _fitting(column: NDArray[Any], name: str, dtype: str, rows: int) -> NDArray[Any]:
    if column.shape != (rows,):
        raise BadDecision(f"{name} has shape {column.shape}, must be ({rows},)")
    if column.dtype == dtype:
        return column
    if not np.can_cast(column.dtype, dtype, "same_kind"):
        raise BadDecision(f"{name} is {column.dtype}, which does not fit into {dtype}")
    return column.astype(dtype)


def _packed(column: NDArray[Any]) -> list[Any]:
    dtype = column.dtype.newbyteorder("<").str
    if len(column) > 1:
        # Bits, not values: equal zeros have two signs, and NaN does not equal itself.
        bits = np.ascontiguousarray(column).view(_BITS[column.itemsize])
        # Most columns that vary do so between their ends already.
        if bits[0] == bits[-1] and (bits == bits[0]).all():
            column = column[:1]
    return [dtype, column.astype(dtype, copy=False).tobytes()]


def _unpacked(spec: Any, name: str, rows: int) -> NDArray[Any]:
    match spec:
        case [str(dtype), bytes(data)] if dtype in _DTYPES:
            size = np.dtype(dtype).itemsize
        case _:
            raise BadDecision(f"column {name} is missing or of an unknown type")
    if len(data) == rows * size:
        return np.frombuffer(data, dtype)
    if len(data) != size:
        raise BadDecision(f"column {name} has {len(data)} bytes for {rows} rows")
    return np.broadcast_to(np.frombuffer(data, dtype), (rows,))
