"""The pages of items: the newest, and the receipt of one; and sending one, which is in `send`."""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.routing import Route

from broker.web.answers import Json
from broker.web.files import page
from broker.web.pages import send
from broker.web.pages.payloads import readable
from feedgen.items import MAX_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from broker.receipts.counts import Receipt
    from broker.web.subject import Subject

LISTED = 60
"""Items that the list names."""

_PREVIEW = 160
"""Characters of a payload in the list."""

_REPORT_EVERY = 1.0
"""Seconds that a receipt is told again before it is taken anew."""

_SHARE = 0.05
"""Of the time, what censuses may take: with very many devices a receipt is taken anew less often."""

_REPORTS = 32
"""Receipts that are kept, those that were asked for last."""


def routes(subject: Subject) -> list[BaseRoute]:
    """`/items`, `/item/{channel}/{id}`, what they are made of, and what `send` has."""
    reports = Reports(subject)

    async def items(request: Request) -> Response:
        words = request.query_params.get("search", "").strip()
        return Json(newest(subject, words))

    async def item(request: Request) -> Response:
        return Json(await reports.of(*_named(subject, request)))

    return [
        Route("/items", page("items.html")),
        Route("/item", page("item.html")),
        Route("/item/{path:path}", page("item.html")),
        Route("/api/v1/items", items, methods=["GET"]),
        Route("/api/v1/item", item),
        Route("/api/v1/item/{path:path}", item),
        *send.routes(subject),
    ]


# ---- The list


def newest(subject: Subject, words: str) -> dict[str, Any]:
    """The items that came last, the newest first, with what was counted of each.

    Args:
        subject: Where.
        words: What must stand in their ids or channels; "" for all.

    Returns:
        `items`, whether there are `more` of them, and how many are `remembered` at all.
    """
    words = words.lower()
    receipts = list(subject.service.receipts.receipts)
    found = [each for each in receipts if words in each.id.lower() or words in each.channel.lower()]
    first = heapq.nlargest(LISTED, found, key=lambda each: (each.published_ms, each.n))
    return {
        "items": [_line(subject, each) for each in first],
        "found": len(found),
        "remembered": len(receipts),
        "now": subject.service.now(),
    }


def _line(subject: Subject, receipt: Receipt) -> dict[str, Any]:
    engine = subject.service.engine
    record = engine.item(receipt.n)
    return {
        "id": receipt.id,
        "channel": receipt.channel,
        "n": receipt.n,
        "priority": receipt.priority,
        "published": receipt.published_ms / 1000,
        "expires": receipt.expires,
        "state": receipt.ended or ("offering" if engine.offering(receipt.n) else "live"),
        "ended": receipt.ended_at or None,
        "counts": subject.service.receipts.receipts.counts(receipt.n),
        "payload": None if record is None else readable(record.item.payload, _PREVIEW),
    }


# ---- The receipt of one


@dataclass(frozen=True, slots=True)
class _Report:
    """A receipt with its census.

    Attributes:
        told: As `item.show` answers.
        until: On the loop's clock, when it may be taken anew.
    """

    told: dict[str, Any]
    until: float


class Reports:
    """Receipts for many who look often: however many they are, a census is taken once for all of them.

    Args:
        subject: Where.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._kept: OrderedDict[tuple[str, str], _Report] = OrderedDict()
        # One census at a time: each has the loop's spare moments.
        self._one = asyncio.Lock()

    async def of(self, channel: str, item_id: str) -> dict[str, Any]:
        """An item's receipt: its counts of this moment, its census perhaps of some seconds ago.

        Raises:
            ControlError: Nothing is known of it.
        """
        name = (channel, item_id)
        async with self._one:
            kept = self._kept.get(name)
            loop = asyncio.get_running_loop()
            if kept is None or loop.time() >= kept.until:
                began = loop.time()
                told = await self._subject.ask("item.show", id=item_id, channel=channel or None)
                took = loop.time() - began
                kept = _Report(told, loop.time() + max(_REPORT_EVERY, took / _SHARE))
                self._keep(name, kept)
        service = self._subject.service
        n = kept.told["n"]
        record = service.engine.item(n)
        return {
            **kept.told,
            "counts": service.receipts.receipts.counts(n),
            "payload": None if record is None else readable(record.item.payload),
            "brief": None
            if record is None or record.item.brief is None
            else readable(record.item.brief),
            "publisher": None if record is None else record.publisher,
            "now": service.now(),
        }

    def _keep(self, name: tuple[str, str], report: _Report) -> None:
        self._kept[name] = report
        self._kept.move_to_end(name)
        if len(self._kept) > _REPORTS:
            self._kept.popitem(last=False)


def _named(subject: Subject, request: Request) -> tuple[str, str]:
    """Channel and id of the item that a request asks for.

    A path does not say where the channel ends, as ids may have slashes in them, too: it is where an item
    is known. What no path can say (`..`, or nothing between two slashes) is asked for by query.
    """
    path = request.path_params.get("path")
    if path is None:
        query = request.query_params
        if not query.get("id"):
            raise HTTPException(400, "say which item: ?channel=…&id=…")
        return query.get("channel", ""), query["id"]
    named = list(_splits(path))
    if not named:
        return "", path
    receipts = subject.service.receipts.receipts
    wanted = set(named)
    known = {name for each in receipts if (name := (each.channel, each.id)) in wanted}
    return next((name for name in named if name in known), named[0])


def _splits(path: str) -> Iterator[tuple[str, str]]:
    """The channels and ids that a path can mean, the shortest id first; none without a slash.

    An id is short, so there are few of them, however long the path is.
    """
    at = path.rfind("/")
    while at >= 0:
        yield path[:at], path[at + 1 :]
        at = path.rfind("/", 0, at)
        if len(path) - at - 1 > MAX_ID:
            return
