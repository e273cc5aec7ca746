"""Why an item has its rank, in the form that `fleetfeed explain` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from feedgen.ranking.value import TICKS_PER_SECOND

if TYPE_CHECKING:
    from feedgen.placement import Placement
    from feedgen.ranking.explain import Explanation


def explained(
    placed: Placement, channel: str, payload: str | bytes, thought: Explanation | None
) -> dict[str, Any]:
    """One item of a window, as JSON.

    Args:
        placed: how it came to its place.
        channel: its channel.
        payload: as the device is sent it.
        thought: what a ranking that learned thinks of it, None without one.
    """
    correction = 0 if thought is None else thought.correction
    # What the key holds beyond what the ranking would add now without trying anything out. What was
    # learned since the item was keyed is in it too, until it is worth ranking the item anew.
    explored = placed.personal - thought.personal if thought is not None and thought.explored else 0
    return {
        "n": placed.n,
        "channel": channel,
        "payload": payload,
        "place": placed.place + 1,
        "place_by_key": placed.by_key + 1,
        "published": placed.published,
        "key": {
            "priority": _seconds(placed.priority),
            "filter": _seconds(placed.level),
            "everybody": _seconds(placed.term - correction),
            "fairness": _seconds(correction),
            "device": _seconds(placed.personal - explored),
            "exploration": _seconds(explored),
        },
        "probability": None if thought is None else thought.probability,
        "parts": [] if thought is None else [list(part) for part in thought.parts],
    }


def _seconds(ticks: int) -> float:
    return ticks / TICKS_PER_SECOND
