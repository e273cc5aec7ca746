"""The page that publishes an item: a dry run first, then in earnest. Only where `http.send` allows it."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.routing import Route

from broker.receipts.trial import foreseen
from broker.web.answers import Json, json_body
from broker.web.files import page
from feedgen.items import InvalidItem, decode_item

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from broker.web.subject import Subject
    from feedgen.items import Item

logger = logging.getLogger(__name__)

SAMPLES = 9
"""Devices that a dry run names."""

DURABLE_WITHIN = 15.0
"""Seconds that an item has to be stored before the page is told that nobody knows."""


def routes(subject: Subject) -> list[BaseRoute]:
    """`/send`, and what its form asks for."""

    async def trial(request: Request) -> Response:
        item, packet = await _item(subject, request)
        found = await subject.ask(
            "item.trial", channel=item.channel, packet=packet, samples=SAMPLES
        )
        return Json({**found, "ttl": item.ttl, "priority": item.priority, "bytes": len(packet)})

    async def publish(request: Request) -> Response:
        item, packet = await _item(subject, request)
        return Json(await _publish(subject, request, item, packet))

    return [
        Route("/send", page("send.html")),
        Route("/api/v1/items/trial", trial, methods=["POST"]),
        Route("/api/v1/items", publish, methods=["POST"]),
    ]


async def _item(subject: Subject, request: Request) -> tuple[Item, bytes]:
    """The item of a request, `{"channel": …, "item": {…}}`, by the rule for all items.

    Raises:
        HTTPException: It is not one, or may not be sent from here.
    """
    if not subject.may_send:
        raise HTTPException(
            403, "this page may not publish items: set http.send = true to allow it"
        )
    asked = await json_body(request)
    channel, fields = asked.get("channel"), asked.get("item")
    if not isinstance(channel, str) or not isinstance(fields, dict):
        raise HTTPException(400, "say the 'channel' and the 'item', a map of its keys")
    try:
        packet = json.dumps(fields, ensure_ascii=False).encode()
        return decode_item(channel, packet), packet
    except UnicodeEncodeError:
        raise HTTPException(422, "This is no item: half of a surrogate pair is no text.") from None
    except InvalidItem as error:
        raise HTTPException(422, f"This is no item: {error.detail}.") from error


async def _publish(subject: Subject, request: Request, item: Item, packet: bytes) -> dict[str, Any]:
    """Publishes it, and returns when it is durable, with what it became.

    Raises:
        HTTPException: It cannot be taken now, or nobody knows yet whether it was.
    """
    service = subject.service
    if service.congested:
        raise HTTPException(503, "more items wait than the server may keep: try again in a while")
    held = service.catalog.find(item.channel, item.id)
    outcome = foreseen(held, item, service.now_ms())
    durable = asyncio.get_running_loop().create_future()

    def done() -> None:
        if not durable.done():
            durable.set_result(None)

    if not service.item(item.channel, packet, dup=False, done=done, publisher=""):
        raise HTTPException(503, "the server cannot take an item just now: try again in a while")
    logger.info(
        "item %.80r on %.80r sent by the page",
        item.id,
        item.channel,
        extra={"channel": item.channel, "client": request.client.host if request.client else ""},
    )
    try:
        async with asyncio.timeout(DURABLE_WITHIN):
            await durable
    except TimeoutError:
        raise HTTPException(
            504,
            "the store has not confirmed the item yet: send it again, the same item with the same"
            " id is stored only once",
        ) from None
    record = service.catalog.find(item.channel, item.id)
    return {
        "outcome": outcome.value,
        "channel": item.channel,
        "id": item.id,
        "n": None if record is None else record.n,
    }
