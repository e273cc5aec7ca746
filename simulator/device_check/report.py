"""A report as plain values for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.device_check.case import Status

if TYPE_CHECKING:
    from simulator.device_check.case import Result
    from simulator.device_check.exchange import Noted
    from simulator.device_check.run import Report


def as_json(report: Report) -> dict[str, Any]:
    """What came of all cases, packets as hex."""
    return {
        "device": report.device,
        "ok": report.ok,
        "seconds": round(report.seconds, 3),
        "counts": {status.value: report.count(status) for status in Status},
        "cases": [_case(result) for result in report.results],
    }


def _case(result: Result) -> dict[str, Any]:
    return {
        "id": result.case.id,
        "title": result.case.title,
        "requirement": result.case.requirement,
        "status": result.status.value,
        "sentence": result.sentence,
        "seconds": round(result.seconds, 3),
        "packets": [_noted(noted) for noted in result.exchange],
    }


def _noted(noted: Noted) -> dict[str, Any]:
    found: dict[str, Any] = {"at": round(noted.at, 6), "text": noted.text}
    if noted.sender:
        found["sender"] = noted.sender
    if noted.data:
        found["hex"] = noted.data.hex()
    return found
