"""Who is in the rows of a shelf, as the ranking sees it: tokens and codes.

Device fields are the attributes that devices have, but for those that say how to reach them. Each is a
column of small numbers into one vocabulary of tokens, so that what an item means to a device class is
looked up once per class and not once per device.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from feedgen.ranking.tokens import device_token, token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from feedgen.attributes import Value
    from feedgen.ranking.tokens import Tokens
    from feedgen.windows import Rows

RESERVED = frozenset({"tz", "quiet", "sleep"})
"""Attributes that say how to reach a device, not what it is."""

MAX_VALUES = 1 << 12
"""Values of a field that have a token; what goes beyond is as if absent. A field with a value for
each device is no field: that is what the device's own features are for."""

_FIRST_ROWS = 64
_FARTHEST_HOURS = 14
"""Hours that a time zone is from Greenwich at most."""
_EAST = re.compile(r"[+-]?[0-9]{1,2}")


class Codes:
    """Numbers for values, and their tokens; 0 stands for none."""

    __slots__ = ("_codes", "_tokens", "_used", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._codes: dict[str, int] = {}
        self._tokens: Tokens = np.zeros(16, np.uint64)
        self._used = 1

    @property
    def tokens(self) -> Tokens:
        """The token of each number."""
        return self._tokens[: self._used]

    @property
    def values(self) -> list[str]:
        """The values, in the order of their numbers from 1 on."""
        return list(self._codes)

    def number(self, value: str) -> int:
        """Return the number of a value, given now if it is new and there is room."""
        code = self._codes.get(value)
        if code is not None:
            return code
        if self._used > MAX_VALUES:
            return 0
        if self._used == len(self._tokens):
            self._tokens = np.concatenate((self._tokens, np.zeros_like(self._tokens)))
        code = self._codes[value] = self._used
        self._tokens[code] = token(self.name, value)
        self._used += 1
        return code


class Person(NamedTuple):
    """Who reports something, as it was then.

    Attributes:
        device: its token.
        codes: uint16 [fields], its device fields.
        zone: number of its time zone.
        held_out: whether it stays on newest first.
    """

    device: int
    codes: NDArray[np.uint16]
    zone: int
    held_out: bool


class People:
    """The rows of all shelves.

    Args:
        shelves: how many there are.
        fields: attribute names that are device fields, at most eight.
        holdout: share of devices that stay on newest first.
        seed: of who they are.
    """

    __slots__ = ("_holdout", "_seed", "_tables", "fields", "zones")

    def __init__(self, shelves: int, fields: Sequence[str], holdout: float, seed: int) -> None:
        self.fields = [Codes(f"device.{name}") for name in fields]
        self.zones = Codes("zone")
        self.zones.number("UTC")
        self._holdout = int(holdout * (1 << 32))
        self._seed = seed
        self._tables = [_Rows(len(fields)) for _ in range(shelves)]

    def seat(self, shelf: int, row: int, device: str, attrs: Mapping[str, Value]) -> None:
        """Note who is in a row."""
        table = self._tables[shelf]
        table.reserve(row)
        who = device_token(device)
        table.device[row] = who
        table.holdout[row] = self.held_out(who)
        self.change(shelf, row, attrs)

    def change(self, shelf: int, row: int, attrs: Mapping[str, Value]) -> None:
        """Note that the attributes of the device in a row changed."""
        table = self._tables[shelf]
        table.codes[row], table.zone[row] = self._coded(attrs)

    def _coded(self, attrs: Mapping[str, Value]) -> tuple[list[int], int]:
        """Return the codes of the device fields, and the number of the time zone."""
        values = (attrs.get(codes.name.removeprefix("device.")) for codes in self.fields)
        numbers = [
            0 if value is None else codes.number(str(value))
            for codes, value in zip(self.fields, values, strict=True)
        ]
        zone = str(attrs.get("tz", "UTC"))
        return numbers, self.zones.number(zone if known_zone(zone) else "UTC")

    def stranger(self, device: int, attrs: Mapping[str, Value], *, held_out: bool) -> Person:
        """Return somebody who is in no row here, by what is told of it."""
        codes, zone = self._coded(attrs)
        return Person(device, np.array(codes, np.uint16), zone, held_out)

    def held_out(self, device: int) -> bool:
        """Whether a device stays on newest first for good; by its token."""
        mixed = (device ^ self._seed * 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
        return mixed >> 32 < self._holdout

    @property
    def values(self) -> int:
        """How many different values the device fields and time zones have."""
        return len(self.zones.tokens) + sum(len(codes.tokens) for codes in self.fields)

    def device(self, shelf: int, row: int) -> int:
        """Return who is in a row."""
        return int(self._tables[shelf].device[row])

    def person(self, shelf: int, row: int) -> tuple[NDArray[np.uint16], int, bool]:
        """Return the fields of a row, its time zone, and whether it stays on newest first."""
        table = self._tables[shelf]
        return table.codes[row], int(table.zone[row]), bool(table.holdout[row])

    def reporter(self, shelf: int, row: int) -> Person:
        """Return who is in a row, all of it."""
        table = self._tables[shelf]
        return Person(
            int(table.device[row]), table.codes[row], int(table.zone[row]), bool(table.holdout[row])
        )

    def unseat(self, shelf: int, row: int) -> None:
        """Note that a row is empty."""
        table = self._tables[shelf]
        table.device[row] = 0
        table.codes[row] = 0
        table.holdout[row] = False

    def devices(self, shelf: int, rows: Rows) -> Tokens:
        """Return who is in some rows."""
        return self._tables[shelf].device.take(rows)

    def axes(self, shelf: int, rows: Rows) -> tuple[NDArray[np.intp], ...]:
        """Return what features of some rows vary with: their device fields, then their time zones."""
        table = self._tables[shelf]
        # As wide as an index: three heads look each of them up, and numpy would widen it each time.
        fields = (column.take(rows).astype(np.intp) for column in table.codes.T)
        return *fields, table.zone.take(rows).astype(np.intp)

    def codes(self, shelf: int, rows: Rows) -> NDArray[np.uint16]:
        """Return the fields of some rows; uint16 [rows, fields]."""
        return self._tables[shelf].codes[rows]

    def zone(self, shelf: int, rows: Rows) -> NDArray[np.uint16]:
        """Return the numbers of the time zones of some rows."""
        return self._tables[shelf].zone[rows]

    def holdout(self, shelf: int, rows: Rows) -> NDArray[np.bool_]:
        """Return which of some rows stay on newest first."""
        return self._tables[shelf].holdout.take(rows)


class _Rows:
    __slots__ = ("codes", "device", "holdout", "zone")

    def __init__(self, fields: int) -> None:
        self.device: Tokens = np.zeros(0, np.uint64)
        # Field by field in memory: one item asks for one field of a hundred thousand rows.
        self.codes: NDArray[np.uint16] = np.zeros((fields, 0), np.uint16).T
        self.zone: NDArray[np.uint16] = np.zeros(0, np.uint16)
        self.holdout: NDArray[np.bool_] = np.zeros(0, np.bool_)

    def reserve(self, row: int) -> None:
        rows = len(self.device)
        if row < rows:
            return
        more = max(row + 1, 2 * rows, _FIRST_ROWS) - rows
        self.device = np.concatenate((self.device, np.zeros(more, np.uint64)))
        nothing = np.zeros((self.codes.shape[1], more), np.uint16)
        self.codes = np.concatenate((self.codes.T, nothing), axis=1).T
        self.zone = np.concatenate((self.zone, np.zeros(more, np.uint16)))
        self.holdout = np.concatenate((self.holdout, np.zeros(more, np.bool_)))


@lru_cache(maxsize=1 << 12)
def known_zone(zone: str) -> bool:
    """Whether a time zone is one: devices say what they like, and each zone costs time per hour."""
    if _EAST.fullmatch(zone):
        return abs(int(zone)) <= _FARTHEST_HOURS
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        return False
    return True


@lru_cache(maxsize=1 << 12)
def local_hour(zone: str, hour: int) -> tuple[int, int]:
    """Return hour and weekday (Monday 0) in a time zone.

    Args:
        zone: an IANA name or whole hours east of Greenwich; anything else is taken as UTC.
        hour: hours since 1970-01-01 UTC.
    """
    try:
        offset = float(zone) * 3600 if zone.lstrip("+-").isdigit() else _offset(zone, hour)
    except (ValueError, OSError, KeyError):
        offset = 0.0
    if not -86_400 < offset < 86_400:
        offset = 0.0
    local = datetime.fromtimestamp(hour * 3600 + offset, UTC)
    return local.hour, local.weekday()


def _offset(zone: str, hour: int) -> float:
    there = datetime.fromtimestamp(hour * 3600, ZoneInfo(zone)).utcoffset()
    return 0.0 if there is None else there.total_seconds()
