"""A trial: what an item would meet if it were published now. Nothing is changed, and nothing kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from feedgen.attributes import Attributes, Vocabulary
from feedgen.catalog import Outcome
from feedgen.channels import matches
from feedgen.item_columns import smallest_bytes
from feedgen.items import URGENT, Record, digest
from feedgen.standing import Absent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from broker.service import Service
    from devices.profile import Profile
    from feedgen.items import Item
    from feedgen.standing import Part

_AT_ONCE = 500
"""Devices without a row that are looked at before the loop has its turn."""


@dataclass(slots=True)
class _Audience:
    """What the parts of a trial come to."""

    absent: dict[Absent, int] = field(default_factory=lambda: dict.fromkeys(Absent, 0))
    connected: int = 0
    brief: int = 0
    held_back: int = 0
    # Shelf, row and place of each device that may show the item.
    open_to: list[NDArray[np.int32]] = field(default_factory=list)


def foreseen(held: Record | None, item: Item, now_ms: int) -> Outcome:
    """What `Catalog.accept` would make of an item that comes without DUP.

    Args:
        held: What the catalog has under its id.
        item: As decoded.
        now_ms: Unix milliseconds.
    """
    if held is None or held.expires * 1000 <= now_ms:
        return Outcome.RETRACT if item.retract else Outcome.NEW
    if item.rev is not None and held.item.rev is not None and item.rev <= held.item.rev:
        return Outcome.STALE
    if digest(item) == held.digest:
        return Outcome.UNCHANGED
    return Outcome.RETRACT if item.retract else Outcome.UPDATE


async def try_out(service: Service, item: Item, publisher: str, samples: int) -> dict[str, Any]:
    """Who would get an item, and at which place, as JSON.

    The loop has its turn between any two pieces of the work, so it is not all of one moment.

    Args:
        service: Of the server; it is only read.
        item: As decoded.
        publisher: Who would publish it.
        samples: Devices whose places are told.
    """
    now_ms = service.now_ms()
    held = service.catalog.find(item.channel, item.id)
    outcome = foreseen(held, item, now_ms)
    live = None if held is None or held.expires * 1000 <= now_ms else held
    record = Record(
        n=0 if live is None else live.n,
        version=0,
        item=item,
        published_ms=now_ms,
        expires=-(-now_ms // 1000) + item.ttl,
        digest=b"",
        publisher=publisher,
    )
    retracts = outcome is Outcome.RETRACT
    parts = (
        service.engine.standing(record.n)
        if retracts
        else service.engine.trial(record, now_ms / 1000)
    )
    audience = _Audience()
    for part in parts:
        _count(audience, service, part, item)
        await asyncio.sleep(0)
    away = await _away(service, item)
    shelf, row, place = _columns(audience.open_to)
    seen = place[place >= 0]
    absent = {reason.name.lower(): count for reason, count in audience.absent.items()}
    kept_out = {name: absent.pop(name) for name in ("where", "dismissed", "oversize")}
    return {
        "outcome": outcome.value,
        "held": live and ("retracted" if live.retracted else "live"),
        "channel": item.channel,
        "id": item.id,
        "devices": {
            "following": len(place) + sum(kept_out.values()),
            **kept_out,
            "eligible": len(place),
            "connected": audience.connected,
            "shorter_form": audience.brief,
        },
        "away": away,
        "places": {
            "seen": len(seen),
            "first": int((seen == 0).sum()),
            "held_back": audience.held_back,
            "median": int(np.median(seen)) + 1 if len(seen) else None,
            **absent,
        },
        "samples": _samples(service, shelf, row, place, samples),
    }


def _count(audience: _Audience, service: Service, part: Part, item: Item) -> None:
    for reason in Absent:
        audience.absent[reason] += int((part.places == reason).sum())
    eligible = part.places > Absent.OVERSIZE
    rows = part.rows[eligible]
    ledger = service.roster.shelves[part.shelf].ledger
    audience.connected += int(ledger.attached[rows].sum())
    if item.brief is not None:
        payload = item.payload
        full = len(payload.encode() if isinstance(payload, str) else payload)
        audience.brief += int((ledger.payload_max[rows] < full).sum())
    allowances = service.roster.shelves[part.shelf].allowances
    if allowances is not None and allowances.active and item.priority < URGENT:
        share = allowances.share(rows[part.places[eligible] >= 0], service.now())
        audience.held_back += int((share <= 0).sum())
    shelves = np.full(len(rows), part.shelf, np.int32)
    audience.open_to.append(np.stack((shelves, rows, part.places[eligible].astype(np.int32))))


def _columns(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Shelf, row and place of all devices that may show the item."""
    return np.concatenate(parts, axis=1) if parts else np.zeros((3, 0), np.int32)


def _samples(
    service: Service,
    shelves: NDArray[np.int32],
    rows: NDArray[np.int32],
    places: NDArray[np.int32],
    count: int,
) -> list[dict[str, Any]]:
    """Some devices, spread evenly over all places: the best one, the worst one and those between."""
    order = np.argsort(np.where(places < 0, np.iinfo(np.int32).max + places, places), kind="stable")
    chosen = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).astype(np.intp))
    found = []
    for at in order[chosen].tolist():
        live = service.roster.shelves[int(shelves[at])].lives[int(rows[at])]
        place = int(places[at])
        if live is not None:
            found.append(
                {
                    "device": live.profile.device,
                    "place": place + 1 if place >= 0 else None,
                    "why_not": None if place >= 0 else Absent(place).name.lower(),
                    "k": live.profile.k,
                    "connected": live.connection is not None,
                }
            )
    return found


async def _away(service: Service, item: Item) -> dict[str, int]:
    """Devices without a row: they have not been here for long, or not since the server started."""
    smallest = smallest_bytes(item)
    following = eligible = 0
    # The commonest follow sets are shared by many devices.
    known: dict[tuple[str, ...], bool] = {}
    for number, profile in enumerate(list(service.registry)):
        if number % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        if profile.revoked or service.roster.get(profile.device) is not None:
            continue
        follows = known.get(profile.follow)
        if follows is None:
            follows = any(matches(each, item.channel) for each in profile.follow)
            known[profile.follow] = follows
        following += follows
        fits = follows and smallest <= service.roster.capacity(profile)
        eligible += fits and _wanted(item, profile)
    return {"following": following, "eligible": eligible}


def _wanted(item: Item, profile: Profile) -> bool:
    """Whether an item's `where` asks for a device; by the engine's own rule."""
    if not item.where:
        return True
    row = Attributes(Vocabulary(), 1)
    row.set(0, profile.effective_attrs())
    return bool(row.matching(item.where, np.zeros(1, np.int32))[0])
