"""The server's own decision log as a log of impressions: what it predicted, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from feedgen.evaluate.progressive import DAY

if TYPE_CHECKING:
    from feedgen.evaluate.events import Event
    from feedgen.evaluate.ranker import Floats
    from feedgen.ranking.joined import Joined


@dataclass(frozen=True, slots=True)
class Served:
    """Shown items in the order of time.

    Attributes:
        labelled: events with labels. Devices are hexadecimal, because the log knows only their
            hashes; a list is what a device was shown on one UTC day, for the log has no windows.
        p: [events], what was predicted when the outcome was learned.
        incomplete: outcomes that were left out, because nothing was predicted of them, or nobody
            knows when they were shown.
    """

    labelled: list[tuple[Event, int]]
    p: Floats
    incomplete: int


def served(joined: Joined) -> Served:
    """Return a decision log as events.

    The propensity of an event is that of the admission to the window, not of the impression: a
    device that looks sees the whole window, so it is the admission that the ranking decides.
    """
    whole = np.flatnonzero(np.isfinite(joined.p) & np.isfinite(joined.shown))
    order = whole[np.argsort(joined.shown[whole], kind="stable")]
    labelled: list[tuple[Event, int]] = []
    for device, n, shown, opened, propensity in zip(
        joined.device[order].tolist(),
        joined.n[order].tolist(),
        joined.shown[order].tolist(),
        joined.opened[order].tolist(),
        joined.propensity[order].tolist(),
        strict=True,
    ):
        name = f"{device:016x}"
        event: Event = {
            "t": shown,
            "device": name,
            "item": str(n),
            "list": f"{name}/{int(shown // DAY)}",
            "device_fields": {},
            "item_fields": {},
            "context": {},
        }
        if propensity > 0:  # NaN is not
            event["propensity"] = propensity
        labelled.append((event, int(opened)))
    return Served(labelled, joined.p[order].astype(np.float64), len(joined) - len(whole))
