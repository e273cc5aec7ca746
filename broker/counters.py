"""Counts since the start of the process, under the names that operators see.

Every drop has a reason, and every reason a count. Plain dictionary increments: this sits on the data
path.
"""

from __future__ import annotations

from collections import Counter


class Counters:
    """What happened so far.

    Attributes:
        items: Items by outcome (`received`, `new`, `update`, `retract`, `unchanged`, `stale`).
        rejected: Refused items by reason.
        frames: Frames and what is in them (`sent`, `resent`, `acked`, `snapshots`, `puts`, `removes`,
            `moves`, `bytes`).
        up: Up messages by kind; `events_counted`: events of feedback that were heard for the first time.
        dropped: Anything else that was not carried out, by reason.
        closed: Connections closed by the server, by reason.
        connections: `opened`, `connected` (CONNECT accepted), `taken_over`.
        ranking: What the learned ranking did: `learned` outcomes, `refreshed` devices, `fell` and `climbed`
            to another rung, `saved`, `save_failed`, `begun_anew` over a state that could not be used. At
            a node: `told` events to the trainer, `adopted` versions; at the trainer `published` ones and
            `sampled` events, each of which stands for several.
        topics: Messages on other topics than the feed's: `published`, `delivered`, `resent`.
    """

    __slots__ = (
        "closed",
        "connections",
        "dropped",
        "frames",
        "items",
        "ranking",
        "rejected",
        "topics",
        "up",
    )

    def __init__(self) -> None:
        self.items: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()
        self.up: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.connections: Counter[str] = Counter()
        self.ranking: Counter[str] = Counter()
        self.topics: Counter[str] = Counter()

    def as_dict(self) -> dict[str, dict[str, int]]:
        """All counts, for status and logs."""
        return {name: dict(sorted(getattr(self, name).items())) for name in self.__slots__}
