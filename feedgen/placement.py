"""Why a window is as it is: the parts of its keys, item by item, for people to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from feedgen.channels import matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedgen.state import State


@dataclass(frozen=True, slots=True)
class Placement:
    """One item that a window shows.

    The key is the sum of all but the last two, published in ticks since the landmark.

    Attributes:
        n: its number.
        published: Unix seconds.
        priority: ticks that its priority adds.
        level: ticks that the best matching filter adds.
        term: ticks that are the same for every device, as of when the item was last keyed.
        personal: ticks that were added for this device, exploration included.
        place: from 0, where it is shown.
        by_key: from 0, where its key alone would put it; lower ones are in the reserve.
    """

    n: int
    published: float
    priority: int
    level: int
    term: int
    personal: int
    place: int
    by_key: int


def placements(state: State, number: int, row: int, shown: Sequence[int]) -> list[Placement]:
    """Return how the items that a row shows came to their places.

    Args:
        state: of the engine.
        number: the shelf.
        row: any that is seated.
        shown: indices of the items that it shows, best first.
    """
    shelf = state.shelves[number]
    windows, columns = shelf.windows, state.columns
    held = windows.ids[row, : int(windows.held[row])].tolist()
    keys = windows.keys[row].tolist()
    follow_set = state.audience.sets[int(shelf.follow[row])]
    assert follow_set is not None, "a seated row has a follow set"
    found = []
    for place, index in enumerate(shown):
        record = columns.records[index]
        if record is None:
            continue  # it is over, and about to be taken out
        item = record.item
        by_key = held.index(index)
        # The best filters come first. None: it was unfollowed, and the row waits to be built.
        level = next((f for f in follow_set.filters if matches(f, item.channel)), "#")
        bonus = state.baseline.by_level[state.audience.level(level)]
        found.append(
            Placement(
                n=int(columns.number[index]),
                published=int(columns.published[index]) / 1000,
                priority=state.baseline.by_priority[item.priority],
                level=bonus,
                term=int(columns.term[index]),
                personal=keys[by_key] - int(columns.base[index]) - bonus,
                place=place,
                by_key=by_key,
            )
        )
    return found
