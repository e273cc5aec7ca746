"""The nouns of `labels`: its settings, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Settings:
    """How feedback becomes labels.

    Attributes:
        window: seconds from the beginning of an impression until its outcome is told.
        late_opens: whether an opening or a dismissal after the window counts. Then a label depends
            on how long impressions are remembered.
        horizon: seconds; events that happened longer ago are dropped, and told impressions are
            remembered for as long. A day: devices may sleep that long.
        longest_dwell: seconds; more counts as this.
        max_pending: impressions that may wait for their window to end; more, and the oldest are
            told early.
        max_told: told impressions that are remembered for corrections; more, and the oldest are
            forgotten early.
        per_hour: outcomes with a weight that a device may have in the long run; corrections count.
        burst: outcomes with a weight that a device may have at once.
        max_devices: devices whose rate is remembered.
        max_share: of a call's outcomes by weight that one device may have.
        free_share: a device may have this many outcomes in a call whatever its share: a small fleet
            tells few devices at a time, and a whole window seen at once is no attack.
    """

    window: float = 600.0
    late_opens: bool = False
    horizon: float = 86_400.0
    longest_dwell: float = 3600.0
    max_pending: int = 200_000
    max_told: int = 200_000
    per_hour: float = 60.0
    burst: int = 120
    max_devices: int = 100_000
    max_share: float = 0.1
    free_share: float = 16.0

    def __post_init__(self) -> None:
        for name in (
            "window",
            "horizon",
            "longest_dwell",
            "max_pending",
            "per_hour",
            "max_devices",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, it is {getattr(self, name)}")
        if self.burst < 1 or self.free_share < 1:
            raise ValueError("burst and free_share must be at least 1: less learns nothing at all")
        if self.max_told < 0:
            raise ValueError(f"max_told must not be below 0, it is {self.max_told}")
        if not 0 < self.max_share <= 1:
            raise ValueError(f"max_share must be above 0 and at most 1, it is {self.max_share}")


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Outcomes told together, one a row: first ones, and after them corrections.

    Attributes:
        device: uint64, `tokens.device_token` of the device.
        n: int64, number of the item.
        ref: int64, what the caller gave with the impression, or `NO_REF`; the same in corrections.
        rank: int8, the best at which it was shown, -1 if unknown; the same in corrections.
        shown_at: float64, Unix seconds of the earliest that is known of it.
        opened: bool.
        dismissed: bool.
        dwell: float32, seconds, -1 if unknown.
        weight: float32 from 0 to the impressions that it stands for (1 unless the caller said
            otherwise), what it may count for in learning; 0 beyond the device's rate. A correction has
            that of the outcome which it replaces.
        correction: bool, whether an earlier outcome of the same impression has to be taken back.
        was_opened: bool, what that one said; False where there is none.
        was_dismissed: bool.
        was_dwell: float32, -1 where there is none.
        released: int64, of any length: refs that are the caller's again once it has learned the
            rows above. Each ref that was taken comes here exactly once.
    """

    device: NDArray[np.uint64]
    n: NDArray[np.int64]
    ref: NDArray[np.int64]
    rank: NDArray[np.int8]
    shown_at: NDArray[np.float64]
    opened: NDArray[np.bool_]
    dismissed: NDArray[np.bool_]
    dwell: NDArray[np.float32]
    weight: NDArray[np.float32]
    correction: NDArray[np.bool_]
    was_opened: NDArray[np.bool_]
    was_dismissed: NDArray[np.bool_]
    was_dwell: NDArray[np.float32]
    released: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.device)
