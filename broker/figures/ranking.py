"""How well the learned ranking does: figures made of what its monitor reports.

What is not known yet has no number, rather than one that looks like an answer.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from broker.figures.catalog import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Numbers = dict[str, dict[str, float]]


def health(status: Mapping[str, Any], uptime: float) -> Numbers:
    """The figures of a ranking that learns, or follows who learns.

    Args:
        status: What `RankedWindows.status` says. Where nothing was adopted yet, most of it is missing.
        uptime: Seconds since the start, the age of what never came.
    """
    cohorts, shift = status.get("cohorts", {}), status.get("shift", {})
    numbers: Numbers = {
        "fleetfeed_ranking_pinned": {"": int(status["pinned"] is not None)},
        "fleetfeed_ranking_calibration": _known(cohorts, "calibration"),
        "fleetfeed_ranking_normalised_entropy": _known(cohorts, "normalised_entropy"),
        "fleetfeed_ranking_drift": _known(cohorts, "drift_level"),
        **_tally(
            "fleetfeed_ranking_alarms",
            (alarm for each in cohorts.values() for alarm in each["alarms"]),
        ),
        **_tally("fleetfeed_ranking_features", (each["level"] for each in shift.values())),
        "fleetfeed_ranking_shift": _known(shift, "index"),
        **_lift(status.get("lift", {})),
        **_exposure(status.get("publishers", {}), status.get("channels", {})),
    }
    if "trainer" in status:
        age = status["trainer"]["age"]
        numbers["fleetfeed_ranking_age_seconds"] = {"": uptime if age is None else age}
    return numbers


def _known(readings: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, float]:
    """One number of each reading that has it."""
    return {of: each[name] for of, each in readings.items() if each[name] is not None}


def _tally(name: str, found: Iterable[str]) -> Numbers:
    """How often each value of a figure's label was found."""
    counts = Counter(found)
    return {name: {value: counts[value] for value in FIGURES[name].values}}


def _lift(lift: Mapping[str, Any]) -> Numbers:
    rates = {
        side: lift[f"{side}_rate"] for side in ("ranked", "held_out") if lift.get(side, 0.0) > 0
    }
    bounds = {"estimate": lift.get("lift"), "low": lift.get("low"), "high": lift.get("high")}
    return {
        "fleetfeed_ranking_opening_rate": rates,
        "fleetfeed_ranking_lift": {
            name: value for name, value in bounds.items() if value is not None
        },
    }


def _exposure(publishers: Mapping[str, Any], channels: Mapping[str, Any]) -> Numbers:
    exposure: Counter[str] = Counter()
    merit: Counter[str] = Counter()
    correction: dict[str, float] = {}
    for share in publishers.get("shares", ()):
        # Those whose name was forgotten are told by one name together.
        exposure[share["name"]] += share["exposure"]
        merit[share["name"]] += share["merit"]
        correction.setdefault(share["name"], share["correction"])
    costs = {"publishers": publishers.get("cost"), "channels": channels.get("cost")}
    return {
        "fleetfeed_publisher_exposure": {**exposure},
        "fleetfeed_publisher_merit": {**merit},
        "fleetfeed_publisher_correction": correction,
        "fleetfeed_exposure_cost": {name: cost for name, cost in costs.items() if cost is not None},
    }
