"""Device attributes as columns, and the `where` of items tested against them.

Each attribute is an int32 column over rows that holds interned values, 0 where a device lacks the
attribute. A `where` is then a table lookup per attribute: `allowed[column[rows]]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from feedgen.windows import Mask, Rows

Value: TypeAlias = str | int
Where: TypeAlias = tuple[tuple[str, tuple[Value, ...]], ...]
"""Attribute and the values of which one must match, for each attribute of an item's `where`."""


class Vocabulary:
    """Numbers for the values that devices have, per attribute; 0 stands for none.

    Only devices add values. What an item asks for and no device has needs no number, so publishers
    cannot make this grow.
    """

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, dict[Value, int]] = {}

    def number(self, name: str, value: Value) -> int:
        """Return the number of a value, given now if it is new."""
        values = self._values.setdefault(name, {})
        return values.setdefault(value, len(values) + 1)

    def table(self, name: str, wanted: tuple[Value, ...]) -> Mask:
        """Return for every number of attribute `name` whether it is one of those `wanted`."""
        values = self._values.get(name, {})
        allowed = np.zeros(len(values) + 1, np.bool_)
        allowed[[values[value] for value in wanted if value in values]] = True
        return allowed


class Attributes:
    """The attribute columns of one shelf."""

    __slots__ = ("_columns", "_rows", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, rows: int = 0) -> None:
        self._vocabulary = vocabulary
        self._columns: dict[str, NDArray[np.int32]] = {}
        self._rows = rows

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows; the new ones have no attributes."""
        more = np.zeros(rows - self._rows, np.int32)
        self._rows = rows
        for name, column in self._columns.items():
            self._columns[name] = np.concatenate((column, more))

    def set(self, row: int, attributes: Mapping[str, Value]) -> None:
        """Replace the attributes of one row."""
        for name, column in self._columns.items():
            if name not in attributes:
                column[row] = 0
        for name, value in attributes.items():
            number = self._vocabulary.number(name, value)
            if name not in self._columns:
                self._columns[name] = np.zeros(self._rows, np.int32)
            self._columns[name][row] = number

    def matching(self, where: Where, rows: Rows) -> Mask:
        """Tell which of `rows` satisfy all of `where`; one without the attribute does not."""
        match = np.ones(len(rows), np.bool_)
        for name, wanted in where:
            column = self._columns.get(name)
            if column is None:
                return np.zeros(len(rows), np.bool_)
            match &= self._vocabulary.table(name, wanted)[column[rows]]
        return match
