"""Personal keys: what the ranking thinks of a device and an item decides what enters a window.

The engine works on keys that all followers of an item share, and asks the ranking only about rows
that the item might enter at all. With no ranking, or one that has nothing personal to say, the
shared keys are the keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from feedgen.decision_notes import Context
from feedgen.item_columns import HIGHEST, LOWEST
from feedgen.ranking.decisions import How
from feedgen.ranking.explore import decide, propensities, sampled
from feedgen.windows import EMPTY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from feedgen.ranking.scoring import Scores
    from feedgen.state import State
    from feedgen.windows import Ids, Keys, Mask, Rows

_PLACE_BITS = 24
"""Enough for all candidates of one pass; a key and a place fit into 56 bits."""


class Ranked(NamedTuple):
    """Windows made of candidates, as columns; see `Windows.fill`."""

    ids: Ids
    keys: Keys


def reach(state: State, key: int) -> int:
    """Return the highest key that an item can have in any row where its shared key is `key`."""
    return key if state.scoring is None else min(key + state.scoring.bound, HIGHEST)


def admit(state: State, number: int, index: int, rows: Rows, keys: Keys) -> tuple[Mask, Keys]:
    """Offer an item to rows and note who took it.

    Args:
        state: of the engine.
        number: the shelf.
        index: the item.
        rows: each once, all of which may show the item.
        keys: int32 [rows], the shared key in each.

    Returns:
        bool [rows], which of them take it, and int32 [rows], its key in each.
    """
    windows = state.shelves[number].windows
    columns = state.columns
    ids = np.full(len(rows), index, np.int32)
    scoring = state.scoring
    if scoring is None or not rows.size:
        return windows.admissible(rows, ids, keys, columns), keys
    record = columns.records[index]
    assert record is not None, "only live items are offered"
    scores = scoring.scores(record, int(columns.term[index]), number, rows, state.now)
    bars = windows.bar[rows]
    if scores is None:
        admitted = windows.admissible(rows, ids, keys, columns)
        _note_offer(state, number, _Decided(rows, ids, keys, bars), admitted)
        return admitted, keys
    own = _shifted(keys, sampled(scores, scoring.bound))
    admitted = windows.admissible(rows, ids, own, columns)
    propensity = None
    if scores.sd is not None and scores.uniform is not None:
        margin = (keys - bars.astype(np.int64)).astype(np.float32) + scores.mean
        decisions = decide(margin, scores.sd, scores.uniform)
        uncertain = scores.sd > 0
        # An admitted sample may lie below the bar, where the probability was clipped or nearly 1.
        own = np.where(uncertain, np.maximum(own, np.minimum(bars, HIGHEST - 1) + 1), own)
        admitted = np.where(uncertain, decisions.admitted & (own > bars), admitted)
        propensity = decisions.propensity
    _note_offer(state, number, _Decided(rows, ids, own, bars), admitted, scores, propensity)
    return admitted, own


def rank(
    state: State, number: int, rows: Rows, ids: Ids, keys: Keys, eligible: Mask | None
) -> Ranked | None:
    """Make windows of candidates by the keys that they have in each row, and note what was taken.

    Args:
        state: of the engine.
        number: the shelf.
        rows: each once.
        ids: the candidates.
        keys: their shared keys.
        eligible: bool [rows, candidates], which may be shown; None if all of them.

    Returns:
        None if the ranking has nothing personal to say.
    """
    if state.scoring is None or not ids.size:
        return None
    columns = state.columns
    # Of equal keys the better one in the exact order comes first, as `_highest` is stable.
    order = columns.best_first(ids, np.zeros(len(ids), np.int64))
    ids, keys = ids[order], keys[order]
    alive = columns.records
    # All of them: only live items are candidates.
    records = [record for index in ids.tolist() if (record := alive[index]) is not None]
    terms = columns.term[ids].tolist()
    scores = state.scoring.table(records, terms, number, rows, state.now)
    if scores is None:
        return None
    own = _shifted(keys, sampled(scores, state.scoring.bound))
    if eligible is not None:
        own[~eligible[:, order]] = EMPTY
    width = state.shelves[number].windows.width
    places = _highest(own, width + 1)
    best_keys = np.take_along_axis(own, places, axis=1)
    best_ids = ids[places]
    best_ids[best_keys == EMPTY] = 0
    ranked = Ranked(_filled(best_ids, width, 0), _filled(best_keys, width, EMPTY))
    if state.notes is not None:
        # With all other keys as they are, what is taken had to beat the best that is not.
        kept_out = np.full(len(rows), EMPTY, np.int32)
        if places.shape[1] > width:
            kept_out = best_keys[:, width]
        _note_ranked(state, number, rows, ranked, places, keys, scores, kept_out)
    return ranked


def note_shared(state: State, number: int, rows: Rows, ids: Ids, keys: Keys) -> None:
    """Note windows that were made without anything personal."""
    if state.notes is not None:
        row, place = np.nonzero(ids)
        bars = np.full(len(row), EMPTY, np.int32)
        decided = _Decided(rows[row], ids[row, place], keys[row, place], bars)
        _note(state, How.REBUILD, number, decided, _certain(len(row)))


def _shifted(keys: Keys, ticks: NDArray[np.float32]) -> Keys:
    """Return keys plus personal ticks; shapes broadcast."""
    own = np.rint(ticks).astype(np.int64)
    own += keys
    return np.minimum(np.maximum(own, LOWEST, out=own), HIGHEST, out=own).astype(np.int32)


def _highest(keys: Keys, most: int) -> NDArray[np.int64]:
    """Return the places of the highest keys of each row, by falling key; equals in their order."""
    composite = -keys.astype(np.int64) << _PLACE_BITS
    composite += np.arange(keys.shape[1])
    if keys.shape[1] > most:
        composite = np.partition(composite, most - 1, axis=1)[:, :most]
    composite.sort(axis=1)
    composite &= (1 << _PLACE_BITS) - 1
    return composite


def _filled(columns: NDArray[np.int32], width: int, empty: int) -> NDArray[np.int32]:
    """Return `width` columns, empty ones after the last."""
    filled = np.full((len(columns), width), empty, np.int32)
    held = min(width, columns.shape[1])
    filled[:, :held] = columns[:, :held]
    return filled


class _Decided(NamedTuple):
    """Admissions: rows, each with an item, its key there, and what that had to beat."""

    rows: Rows
    ids: Ids
    keys: Keys
    bars: Keys


class _Odds(NamedTuple):
    """What is known of admissions besides; see `Admissions`."""

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    propensity: NDArray[np.float32]


def _certain(rows: int) -> _Odds:
    nothing = np.zeros(rows, np.float32)
    return _Odds(nothing, nothing, np.ones(rows, np.float32))


def _note_offer(
    state: State,
    number: int,
    offered: _Decided,
    admitted: Mask,
    scores: Scores | None = None,
    propensity: NDArray[np.float32] | None = None,
) -> None:
    if state.notes is None:
        return
    at = np.flatnonzero(admitted)
    odds = _certain(len(at))
    if scores is not None:
        odds = odds._replace(mean=scores.mean[at])
    if scores is not None and scores.sd is not None and propensity is not None:
        odds = odds._replace(sd=scores.sd[at], propensity=propensity[at])
    _note(state, How.OFFER, number, _Decided(*(column[at] for column in offered)), odds)


def _note_ranked(
    state: State,
    number: int,
    rows: Rows,
    ranked: Ranked,
    places: NDArray[np.int64],
    shared: Keys,
    scores: Scores,
    kept_out: Keys,
) -> None:
    row, place = np.nonzero(ranked.ids)
    column = places[row, place]
    bars = kept_out[row]
    odds = _certain(len(row))._replace(mean=scores.mean[row, column])
    if scores.sd is not None:
        sd = scores.sd[row, column]
        margin = (shared[column].astype(np.int64) - bars).astype(np.float32) + odds.mean
        odds = odds._replace(sd=sd, propensity=propensities(margin, sd))
    decided = _Decided(rows[row], ranked.ids[row, place], ranked.keys[row, place], bars)
    _note(state, How.REBUILD, number, decided, odds)


def _note(state: State, how: How, number: int, decided: _Decided, odds: _Odds) -> None:
    scoring = state.scoring
    if state.notes is None or scoring is None or not decided.rows.size:
        return
    columns = {
        "n": state.columns.number[decided.ids],
        "device": scoring.tokens(number, decided.rows),
        "key": decided.keys,
        "bar": decided.bars,
        **odds._asdict(),
    }
    state.notes.note(Context(state.now, scoring.version, scoring.rung, how), columns)
