"""How late the server is, as measured at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.config_overload import OverloadSettings


@dataclass(frozen=True, slots=True)
class Delays:
    """One look at everything that can wait.

    Attributes:
        loop_lag: Seconds by which the timer of this look fired too late.
        oldest_item: Seconds that the oldest item has waited which was taken in and is not in windows
            yet. Items that are held on purpose do not count, nor does a store that is away: doing less
            would not bring it back.
        bytes_waiting: Bytes of such items, and of what clients do not read.
        engine_jobs: Items and other jobs that the engine has not ended, and items that are held beyond what may be.
        oldest_stored: The same of those that are stored, or seconds that changes of windows have waited
            for their turn to be sent. It has a limit of its own: one slow commit is no overload, and
            doing less makes it no faster.
    """

    loop_lag: float = 0.0
    oldest_item: float = 0.0
    bytes_waiting: int = 0
    engine_jobs: int = 0
    oldest_stored: float = 0.0

    def pressure(self, settings: OverloadSettings) -> float:
        """The worst of all, as a multiple of what level 1 begins at."""
        return max(
            self.loop_lag / settings.loop_lag,
            self.oldest_item / settings.store_delay,
            self.oldest_stored / settings.item_delay,
            self.bytes_waiting / settings.bytes_waiting,
            self.engine_jobs / settings.jobs,
        )
