"""The unit costs that a plan is computed from: `costs.json`, as `benchmarks/costs.py` has written it."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Curve = list[tuple[float, float]]
"""Audiences, rising, and the CPU seconds of an item for each."""

_SCALES = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "bytes": 1.0}
_CURVE = re.compile(r"(item_qos[01]|flood)_to_(\d+)")
_CURVES = ("item_qos0", "item_qos1", "flood")


class CostError(ValueError):
    """The data file has no such cost, or none that can be read; the message says what to run."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One measured unit cost.

    Attributes:
        value: In `unit`.
        unit: ns, µs, ms, s or bytes; words behind it say of what.
        how: What was measured, on what.
        command: Measures it again.
        date: ISO 8601.
    """

    value: float
    unit: str
    how: str
    command: str
    date: str

    @property
    def base(self) -> float:
        """The value in seconds or bytes."""
        return self.value * _SCALES[self.unit.split()[0]]


class Costs:
    """All unit costs, by name, in seconds and bytes.

    Args:
        entries: The costs of the data file.
        machine: What they were measured on.

    Raises:
        CostError: The cost of an item is missing, or falls as its audience grows.
    """

    def __init__(
        self, entries: Mapping[str, Cost], machine: Mapping[str, Any] | None = None
    ) -> None:
        self.entries = dict(entries)
        self.machine = dict(machine or {})
        self._curves = {name: self._curve(name) for name in _CURVES}

    def __getitem__(self, name: str) -> float:
        if name not in self.entries:
            raise CostError(f"costs.json has no {name!r}: run benchmarks/costs.py")
        return self.entries[name].base

    def item(self, qos: int, audience: float) -> float:
        """Return the CPU seconds of one item for as many connected followers on one node.

        Between two measured audiences it is read off the line through both, above the largest off the
        line through the last two. An item has a fixed part, which many followers share, and its
        sockets are colder the fewer they are; so neither a sum nor a product describes it.
        """
        return _read_off(self._curves[f"item_qos{qos}"], audience)

    def item_in_a_flood(self, audience: float) -> float:
        """Return the same for one of many items that wait together; they share what they can."""
        return _read_off(self._curves["flood"], audience)

    def _curve(self, wanted: str) -> Curve:
        found = [
            (float(match[2]), cost.base)
            for name, cost in self.entries.items()
            if (match := _CURVE.fullmatch(name)) and match[1] == wanted
        ]
        found.sort()
        if len(found) < 2 or found[0][0]:
            raise CostError(f"costs.json has no {wanted}_to_0 and more: run benchmarks/costs.py")
        # A plan in which more followers cost less would be nonsense.
        if any(after[1] < before[1] for before, after in pairwise(found)):
            raise CostError(f"{wanted} costs less for more followers: measure again")
        return found


def _read_off(curve: Curve, audience: float) -> float:
    at = min(max(bisect_right(curve, (audience, float("inf"))), 1), len(curve) - 1)
    (low, cheap), (high, dear) = curve[at - 1], curve[at]
    return cheap + (dear - cheap) * (audience - low) / (high - low)


def load() -> Costs:
    """Return the costs that are part of this package.

    Raises:
        CostError: The file is damaged.
    """
    return parse(files("broker").joinpath("costs.json").read_text(encoding="utf-8"))


def parse(text: str) -> Costs:
    """Read a data file.

    Raises:
        CostError: It is no file of costs.
    """
    try:
        held = json.loads(text)
        entries = {
            name: Cost(**{key: value for key, value in entry.items() if key != "part"})
            for name, entry in held["costs"].items()
        }
        unknown = [cost.unit for cost in entries.values() if cost.unit.split()[0] not in _SCALES]
        machine = held["machine"]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise CostError(f"costs.json cannot be read ({error}): run benchmarks/costs.py") from error
    if unknown:
        raise CostError(f"costs.json has an unknown unit, {unknown[0]!r}: run benchmarks/costs.py")
    return Costs(entries, machine)
