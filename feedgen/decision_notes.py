"""Admissions as they happen, kept until somebody writes them down.

The engine decides in chunks of rows, the decision log wants one record per item (see
`ranking.decisions`); windows built anew take a few of many items each. So blocks are kept as they
come, and sorted by item once, when they are taken.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from feedgen.ranking.decisions import Admissions, How

if TYPE_CHECKING:
    from collections.abc import Iterator

Columns: TypeAlias = dict[str, NDArray[Any]]


class Context(NamedTuple):
    """What admissions decided together have in common; see `Admissions`."""

    t: float
    model: int
    rung: int
    how: How


class DecisionNotes:
    """Admissions since they were last taken.

    Args:
        most: rows kept at most; a block that does not fit is dropped whole.

    Attributes:
        dropped: rows dropped since the start.
    """

    __slots__ = ("_blocks", "_most", "_rows", "dropped")

    def __init__(self, most: int) -> None:
        self.dropped = 0
        self._most = most
        self._rows = 0
        self._blocks: list[tuple[Context, Columns]] = []

    def note(self, context: Context, columns: Columns) -> None:
        """Keep a block of admissions.

        Args:
            context: of all of them.
            columns: those of `Admissions`, and `n`, int64 [rows], the item of each; at least one
                row.
        """
        rows = len(columns["n"])
        if self._rows + rows > self._most:
            self.dropped += rows
            return
        self._rows += rows
        self._blocks.append((context, columns))

    def take(self) -> list[Admissions]:
        """Return what was noted since the last call, in the order of deciding."""
        blocks, self._blocks, self._rows = self._blocks, [], 0
        taken: list[Admissions] = []
        for context, alike in groupby(blocks, key=lambda block: block[0]):
            taken += _by_item(context, [columns for _, columns in alike])
        return taken


def _by_item(context: Context, blocks: list[Columns]) -> Iterator[Admissions]:
    """Yield one record per item of blocks with the same context."""
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    ns = columns.pop("n")
    if (ns != ns[0]).any():
        order = np.argsort(ns, kind="stable")
        ns = ns[order]
        columns = {name: column[order] for name, column in columns.items()}
    starts = np.flatnonzero(np.concatenate(([True], ns[1:] != ns[:-1]))).tolist()
    for start, end in zip(starts, [*starts[1:], len(ns)], strict=True):
        part: dict[str, Any] = {name: column[start:end] for name, column in columns.items()}
        yield Admissions(n=int(ns[start]), **context._asdict(), **part)
