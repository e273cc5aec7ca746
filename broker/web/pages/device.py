"""The page of one device, and finding one."""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING

from starlette.routing import Route

from broker.web.answers import Json
from broker.web.files import page
from broker.web.pages.device_facts import facts
from broker.web.pages.device_live import Devices, window

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from broker.web.subject import Subject

_FOUND = 50
"""Devices that a search names."""

_AT_ONCE = 5_000
"""Devices that are looked at before the loop has its turn."""


def routes(subject: Subject) -> list[BaseRoute]:
    """`/device` and `/device/{id}`, what they are made of, and what their page listens to."""
    devices = Devices(subject)

    async def device(request: Request) -> Response:
        name = request.path_params["device"]
        found = await facts(subject, name)
        return Json(
            {
                "device": found,
                "window": await window(subject, name),
                "frames": devices.frames(name),
            }
        )

    async def events(request: Request) -> Response:
        return devices.join(request.path_params["device"])

    async def search(request: Request) -> Response:
        words = request.query_params.get("search", "").strip()
        found = await _named(subject, words)
        return Json({"devices": found[:_FOUND], "more": len(found) > _FOUND})

    return [
        Route("/device", page("device.html")),
        Route("/device/{device}", page("device.html")),
        Route("/api/v1/devices", search),
        Route("/api/v1/device/{device}", device),
        Route("/events/device/{device}", events),
    ]


async def _named(subject: Subject, words: str) -> list[str]:
    """The first ids, in order, in which these words stand, one more than a search names."""
    words = words.lower()
    found: list[str] = []
    for number, profile in enumerate(list(subject.registry)):
        if number % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        if words in profile.device.lower():
            found.append(profile.device)
    return heapq.nsmallest(_FOUND + 1, found)
