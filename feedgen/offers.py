"""Putting items into windows and taking them out: the chunks of offers and withdrawals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from feedgen.jobs import URGENT
from feedgen.personal import admit, reach
from feedgen.shelf import PENDING
from feedgen.windows import NO_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedgen.audience import Segment
    from feedgen.jobs import Offer
    from feedgen.state import State
    from feedgen.windows import Ids, Keys, Rows

UNBOUNDED = 1 << 62
"""A budget that no job exhausts."""


def offer(state: State, job: Offer, chunk: Segment) -> None:
    """Offer one item to the rows of a chunk."""
    number, rows, level = chunk
    windows = state.shelves[number].windows
    columns = state.columns
    every = rows
    _hasten(state, job, number, rows)
    if job.replaces:
        rows = clean(state, number, rows)
    key = columns.key(job.index, state.baseline.by_level[level])
    rows = _wanting(state, job, number, _fitting(state, job, number, rows), key)
    if rows.size:
        rows, keys = _taking(state, job, number, rows, key)
        ids = np.full(len(rows), job.index, np.int32)
        state.changed(number, windows.insert(rows, ids, keys, columns))
    if job.replaces:
        state.starve(number, every)


def offer_together(state: State, jobs: Sequence[Offer]) -> None:
    """Offer several items, each to all of its rows, in one pass per shelf.

    The effect is that of offering them one after the other; but where exploration decides, it does so
    at the bars before the first.
    """
    columns = state.columns
    # As `Windows.merge` asks: of equal keys, the better item comes first.
    ranked = np.array([job.index for job in jobs], np.int32)
    order = columns.best_first(ranked, np.zeros(len(jobs), np.int64))
    offered: dict[int, list[tuple[Offer, Rows, int]]] = {}
    for place in order.tolist():
        job = jobs[place]
        while (chunk := job.take(state, UNBOUNDED)) is not None:
            key = columns.key(job.index, state.baseline.by_level[chunk.level])
            _hasten(state, job, chunk.shelf, chunk.rows)
            offered.setdefault(chunk.shelf, []).append((job, chunk.rows, key))
    for shelf, parts in offered.items():
        _offer_pairs(state, shelf, parts)


def _offer_pairs(state: State, number: int, parts: list[tuple[Offer, Rows, int]]) -> None:
    shelf = state.shelves[number]
    replaced = [rows for job, rows, _ in parts if job.replaces]
    every = np.concatenate(replaced) if replaced else NO_ROWS
    if replaced:
        every = every[state.audience.last_of_each(number, len(shelf), every)]
        clean(state, number, every)
    pairs = _shared_pairs if state.scoring is None else _personal_pairs
    rows, ids, keys = pairs(state, number, parts)
    if rows.size:
        state.changed(number, shelf.windows.merge(rows, ids, keys, state.columns))
    state.starve(number, every)


def _shared_pairs(
    state: State, number: int, parts: list[tuple[Offer, Rows, int]]
) -> tuple[Rows, Ids, Keys]:
    """Return rows, items and keys that are admitted, where an item has one key for all."""
    shelf = state.shelves[number]
    wanting = [
        rows
        if _plain(state, job.index, number)
        else _wanting(state, job, number, _fitting(state, job, number, rows), key)
        for job, rows, key in parts
    ]
    lengths = [len(rows) for rows in wanting]
    rows = np.concatenate(wanting)
    keys = np.repeat(np.array([key for _, _, key in parts], np.int32), lengths)
    ids = np.repeat(np.array([job.index for job, _, _ in parts], np.int32), lengths)
    stamps = np.repeat(np.array([job.stamp for job, _, _ in parts], np.int64), lengths)
    keep = shelf.windows.admissible(rows, ids, keys, state.columns)
    keep &= shelf.stamp[rows] <= stamps
    return rows[keep], ids[keep], keys[keep]


def _personal_pairs(
    state: State, number: int, parts: list[tuple[Offer, Rows, int]]
) -> tuple[Rows, Ids, Keys]:
    """Return rows, items and keys that are admitted, where each row has its own key of an item."""
    taking = []
    for job, rows, key in parts:
        wanting = _wanting(state, job, number, _fitting(state, job, number, rows), key)
        taking.append(_taking(state, job, number, wanting, key))
    ids = np.array([job.index for job, _, _ in parts], np.int32)
    return (
        np.concatenate([rows for rows, _ in taking]),
        np.repeat(ids, [len(rows) for rows, _ in taking]),
        np.concatenate([keys for _, keys in taking]),
    )


def _taking(state: State, job: Offer, number: int, rows: Rows, key: int) -> tuple[Rows, Keys]:
    """Return those of `rows` that take the item, and its key in each."""
    admitted, keys = admit(state, number, job.index, rows, np.full(len(rows), key, np.int32))
    if not admitted.all():
        rows, keys = rows[admitted], keys[admitted]
    return rows, keys


def _hasten(state: State, job: Offer, number: int, rows: Rows) -> None:
    """Have those rows built first that an urgent item will only reach when they are."""
    if job.rank == URGENT and state.shelves[number].waiting:
        state.hastened |= state.shelves[number].hasten(rows)


def withdraw(state: State, chunk: Segment) -> None:
    """Take what is over out of the rows of a chunk."""
    state.starve(chunk.shelf, clean(state, chunk.shelf, chunk.rows))


def clean(state: State, number: int, rows: Rows) -> Rows:
    """Take all retired items out of `rows`, but for those that wait to be built anew.

    Returns:
        The rows that do not wait.
    """
    shelf = state.shelves[number]
    rows = rows[shelf.stamp[rows] < PENDING]
    windows = shelf.windows
    dead = ~state.columns.alive[windows.ids[rows]]
    state.changed(number, windows.take_out(rows, dead))
    return rows


def _plain(state: State, index: int, number: int) -> bool:
    """Tell whether the key alone decides in every row that follows the item's channel."""
    columns = state.columns
    fits = state.shelves[number].fits_all(int(columns.smallest[index]))
    return fits and not columns.special[index]


def _fitting(state: State, job: Offer, number: int, rows: Rows) -> Rows:
    shelf = state.shelves[number]
    smallest = int(state.columns.smallest[job.index])
    if shelf.fits_all(smallest):
        return rows
    fits = shelf.fitting(rows, smallest)
    if job.counts:
        others = rows[~fits]
        others = others[shelf.stamp[others] <= job.stamp]
        state.oversize += len(state.matching(job.index, number, others))
    return rows[fits]


def _wanting(state: State, job: Offer, number: int, rows: Rows, key: int) -> Rows:
    """Return the rows that may show the item, and whose bar is not above all keys it can have."""
    shelf = state.shelves[number]
    # Most rows refuse most items, so this comes first.
    rows = rows[shelf.windows.bar[rows] <= reach(state, key)]
    if rows.size:
        rows = rows[shelf.stamp[rows] <= job.stamp]
        rows = state.welcome(job.index, number, state.matching(job.index, number, rows))
    return rows
