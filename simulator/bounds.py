"""Two promises that are numbers: memory that does not grow (G5), and neighbours that do not delay (G6)."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from simulator.facts import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

ENOUGH = 20
"""Samples below which a trend means nothing."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a server process.

    Attributes:
        now: Bytes at rest.
        peak: The high-water mark of the process, bytes.
    """

    now: int
    peak: int


def slope(values: Sequence[float]) -> float:
    """Growth from one value to the next, robust against outliers (Theil 1950, Sen 1968: the median of all slopes)."""
    slopes = [
        (later - earlier) / (j - i)
        for i, earlier in enumerate(values)
        for j, later in enumerate(values[i + 1 :], i + 1)
    ]
    return median(slopes) if slopes else 0.0


def growth(samples: Sequence[Memory]) -> float:
    """Bytes that a round leaves behind; 0 where there are too few rounds to tell.

    Of the later half: a process that was just started still warms up.
    """
    if len(samples) < ENOUGH:
        return 0.0
    return slope([sample.now for sample in samples[len(samples) // 2 :]])


def memory_grows(
    samples: Sequence[Memory], *, most: int, per_round: int, devices: int
) -> list[Finding]:
    """G5: the high-water mark is bounded, and rounds of faults leave nothing behind.

    Args:
        samples: One for each round that the data directory lived through, at rest.
        most: Bytes that the server may ever take.
        per_round: Bytes that a round may leave behind.
        devices: How many there were; said in the finding.
    """
    found = []
    peak = max((sample.peak for sample in samples), default=0)
    if peak > most:
        found.append(
            Finding("G5", f"the server took {_mib(peak)}, at most {_mib(most)} were allowed")
        )
    left = growth(samples)
    if left > per_round:
        found.append(
            Finding(
                "G5",
                f"each round left {left / 1024:.0f} KiB behind, "
                f"{left / devices / 1024:.1f} KiB for each of {devices} devices",
                (" ".join(f"{sample.now / 2**20:.1f}" for sample in samples) + " MiB",),
            )
        )
    return found


def healthy_delayed(latencies: Sequence[float], *, most: float) -> list[Finding]:
    """G6: 99 of 100 items reach a healthy device within `most` seconds while its neighbours are sick."""
    p99 = quantile(latencies, 0.99)
    if p99 is None or p99 <= most:
        return []
    return [
        Finding(
            "G6",
            f"a healthy device waited {p99:.2f} s for an item (p99 of {len(latencies)}), "
            f"at most {most:g} s were allowed",
        )
    ]


def quantile(values: Sequence[float], q: float) -> float | None:
    """The smallest value that a share `q` of all does not exceed; None without any."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
