"""How much one device may teach: a rate over time, and a share of each batch.

Whoever owns one device, or breaks into it, can open and dismiss as it likes. These two bounds keep
what it can do to everybody's model small, without a judgement on what is honest: a limit that
guesses is one more thing to fool.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class DeviceLimits:
    """A token bucket per device, for a bounded number of devices.

    A bucket is kept as the one time at which it will be full again (the virtual scheduling form of
    the generic cell rate algorithm, ITU-T I.371): 8 bytes instead of a level and its time. One that
    is full again needs no memory, so of too many devices the longest unheard is forgotten.

    Attributes:
        forgotten: devices that were forgotten while their bucket was not full, and so got a full
            one too early.
    """

    __slots__ = ("_burst", "_devices", "_full_at", "_interval", "forgotten")

    def __init__(self, per_hour: float, burst: int, devices: int) -> None:
        self._interval = 3600.0 / per_hour
        self._burst = burst * self._interval
        self._devices = devices
        self._full_at: dict[int, float] = {}  # the longest unheard first
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, device: int, now: float, tokens: float = 1.0) -> bool:
        """Take tokens out of a device's bucket, one by default; False if there are not as many.

        More than a bucket holds are there when it is full: else what stands for many would be refused
        for good.
        """
        full_at = max(self._full_at.pop(device, now), now)
        taken = self._interval * tokens
        allowed = full_at + min(taken, self._burst) <= now + self._burst
        self._full_at[device] = full_at + taken if allowed else full_at
        if len(self._full_at) > self._devices:
            self.forgotten += self._full_at.pop(next(iter(self._full_at))) > now
        return allowed

    def state(self) -> dict[str, bytes]:
        """Return the buckets as columns, the longest unheard first."""
        return {
            "device": np.fromiter(self._full_at.keys(), "<u8").tobytes(),
            "full_at": np.fromiter(self._full_at.values(), "<f8").tobytes(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            ValueError: it returned something else.
        """
        devices = np.frombuffer(state["device"], "<u8").tolist()
        full_at = np.frombuffer(state["full_at"], "<f8").tolist()
        self._full_at = dict(list(zip(devices, full_at, strict=True))[-self._devices :])


def clipped_weights(
    devices: NDArray[np.uint64],
    max_share: float,
    weights: NDArray[np.float32] | None = None,
    least: float = 1.0,
) -> NDArray[np.float32]:
    """Lower the weights of devices that make up too much of a batch.

    Args:
        devices: uint64 [n], whose event each one is.
        max_share: above 0, at most 1; no device has more than this share of the batch's weight
            as returned.
        weights: float32 [n], at least 0, to begin with; 1 each by default.
        least: a device may always have this much weight, whatever its share. In a batch of fewer
            than 1/max_share devices no weights could keep the shares otherwise.

    Returns:
        float32 [n], each between 0 and what it was; the same factor for all events of a device.
    """
    given = np.ones(len(devices), np.float32) if weights is None else weights
    _, group = np.unique(devices, return_inverse=True)
    sums = np.bincount(group, given).astype(np.float64)
    cap = max(_fair_cap(sums, max_share), least)
    factors = np.minimum(1.0, cap / np.maximum(sums, cap))
    return np.asarray(given * factors[group], np.float32)


def _fair_cap(sums: NDArray[np.float64], share: float) -> float:
    """Return the highest cap with cap <= share · sum of min(sums, cap); 0 if there is none above."""
    falling = np.sort(sums)[::-1]
    above = np.arange(len(falling))  # how many of the highest are clipped
    rest = np.cumsum(falling[::-1])[::-1]
    # With `above` of them clipped, cap = share · (above · cap + rest).
    free = 1.0 - share * above
    fits = free > 0
    caps = np.divide(share * rest, free, out=np.zeros(len(falling)), where=fits)
    # The fewest clipped that leave nobody else above the cap.
    enough = fits & (caps >= falling)
    return float(caps[enough.argmax()]) if enough.any() else 0.0
