"""What is known of one device now, in numbers and in one sentence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from broker.overload.quiet_hours import quiet_hours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.roster import Live
    from broker.web.subject import Subject

_MOMENT = 5.0
"""Seconds without an acknowledgement that are nothing to speak of."""


async def facts(subject: Subject, device: str) -> dict[str, Any]:
    """A device as JSON: what `device.show` answers, without the window, and what its row says.

    `feed` is None for a device without a row, `standing` says in words how it does.

    Raises:
        ControlError: There is no such device.
    """
    found: dict[str, Any] = await subject.ask("device.show", device=device)
    found.pop("window", None)
    live = subject.service.roster.get(device)
    found["feed"] = None if live is None else _feed(subject, live)
    found["quiet"] = _quiet(found["attributes"])
    found["now"] = subject.service.now()
    tone, words = standing(found)
    found["standing"] = {"tone": tone, "words": words}
    return found


def _feed(subject: Subject, live: Live) -> dict[str, Any]:
    """What its row says: of its frames, its acknowledgements, its budget."""
    service = subject.service
    shelf, row = service.roster.shelves[live.seat.shelf], live.seat.row
    ledger = shelf.ledger
    loop = asyncio.get_running_loop()
    waiting = bool(ledger.inflight[row]) and bool(ledger.waiting_since[row])
    allowances = shelf.allowances
    return {
        "k": int(ledger.k[row]),
        "inflight": int(ledger.inflight[row]),
        "max_inflight": ledger.max_inflight,
        "waiting_for": loop.time() - float(ledger.waiting_since[row]) if waiting else None,
        "stall_after": service.config.feed.stall_after,
        "behind": bool(ledger.behind[row]),
        "blocked": bool(ledger.blocked[row]),
        "alone": bool(ledger.alone[row]),
        "away_for": None if live.connection is not None else loop.time() - live.away_since,
        "payload_max": int(ledger.payload_max[row]),
        "allowance": (
            None
            if allowances is None or not allowances.active
            else allowances.describe(row, service.now())
        ),
    }


def _quiet(attrs: Mapping[str, str | int]) -> dict[str, Any] | None:
    hours = quiet_hours(attrs)
    if hours is None:
        return None
    return {"begin": hours.begin, "end": hours.end, "zone": hours.zone}


def standing(found: Mapping[str, Any]) -> tuple[str, str]:
    """How a device does, as `facts` has it: a tone (`ok`, `idle`, `warn` or `bad`) and a sentence.

    What comes first here is what has to be dealt with first.
    """
    feed, holder = found["feed"], found.get("held_by")
    if found["revoked"]:
        return "bad", "Revoked: it is not let in. 'fleetfeed device restore' lets it in again."
    if feed is None:
        if holder:
            return "idle", f"Node {holder} serves it: look there."
        return "idle", "Not here, and not for long or not since the server started."
    if not found["connected"]:
        return "idle", "Away. When it comes back it is sent what has changed meanwhile."
    if not found["subscribed"]:
        return "warn", "Connected, but not subscribed to its frames: its client has to subscribe."
    return _flow(feed)


def _flow(feed: Mapping[str, Any]) -> tuple[str, str]:
    """How frames get to a device that is there."""
    waiting, count = feed["waiting_for"] or 0.0, _frames(feed["inflight"])
    allowance = feed["allowance"] or {}
    if feed["alone"]:
        return (
            "warn",
            "Several connections failed at what it was sent: it gets one frame at a time.",
        )
    if feed["inflight"] and waiting >= feed["stall_after"]:
        return "bad", f"Stalled: {count} not acknowledged for {waiting:.0f} s."
    if feed["blocked"]:
        return "warn", "It does not read: its connection is full, and changes wait."
    if allowance.get("waiting"):
        why = "it is quiet there" if allowance["quiet"] else "its budget is used up"
        return "idle", f"Changes wait: {why}. Urgent items pass."
    if feed["inflight"] and waiting >= _MOMENT:
        return "warn", f"Slow: {count} not acknowledged for {waiting:.0f} s."
    if feed["behind"]:
        return "ok", f"Catching up: {count} under way, more to come."
    if feed["inflight"]:
        return "ok", f"In touch: {count} under way."
    return "ok", "Up to date: it has all that its feed has."


def _frames(count: int) -> str:
    return f"{count} frame" if count == 1 else f"{count} frames"
