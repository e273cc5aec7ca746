"""Why a device's items have their ranks, in the form that `fleetfeed explain` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from feedgen.ranking.value import TICKS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.roster import Live
    from feedgen.engine import Engine
    from feedgen.placement import Placement
    from feedgen.ranking.explain import Explanation
    from feedgen.ranking.following import Following
    from feedgen.ranking.ranking import Ranking


def explained(
    live: Live, engine: Engine, ranking: Ranking | Following | None, now: float
) -> list[dict[str, Any]]:
    """The items of a device's window, best first, as JSON without their payloads; see `explaining`."""
    return list(explaining(live, engine, ranking, now))


def explaining(
    live: Live, engine: Engine, ranking: Ranking | Following | None, now: float
) -> Iterator[dict[str, Any]]:
    """The same one by one: where something was learned, each takes a millisecond or more.

    Whoever gives the loop its turn in between has to see whether the device still has its row.

    Args:
        live: the device.
        engine: where its window is.
        ranking: what learned, if anything did.
        now: Unix seconds.
    """
    placed = [
        (each, record) for each in engine.placements(live.seat) if (record := engine.item(each.n))
    ]
    for each, record in placed:
        thought = None if ranking is None else ranking.explain(*live.seat, [record], now)[0]
        yield {"channel": record.item.channel, **_explained(each, thought)}


def _explained(placed: Placement, thought: Explanation | None) -> dict[str, Any]:
    """One item; parts of its key in seconds: with +3600 it ranks as if published an hour later."""
    correction = 0 if thought is None else thought.correction
    # What the key holds beyond what the ranking would add now without trying anything out. What was
    # learned since the item was keyed is in it too, until it is worth ranking the item anew.
    explored = placed.personal - thought.personal if thought is not None and thought.explored else 0
    return {
        "n": placed.n,
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
        "held_out": thought is not None and thought.held_out,
        "probability": None if thought is None else thought.probability,
        "parts": [] if thought is None else [list(part) for part in thought.parts],
    }


def _seconds(ticks: int) -> float:
    return ticks / TICKS_PER_SECOND
