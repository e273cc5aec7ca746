"""What requests are answered with, and how their bodies are read."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from broker.control import dumps

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY = 131_072
"""Bytes of a request's body: an item of 64 KiB, written as JSON."""

BODY_TIMEOUT = 10.0
"""Seconds that a body has to arrive."""


class Json(Response):
    """One JSON value that is never kept by a cache; bytes are `{"b64": …}`, as on the control socket."""

    def __init__(self, value: Any, status: int = 200) -> None:
        super().__init__(
            dumps(value),
            status,
            headers={"Cache-Control": "no-store"},
            media_type="application/json",
        )


def refusal(status: int, sentence: str) -> Json:
    """An error as the pages show it: `{"error": …}`."""
    return Json({"error": sentence}, status)


async def body(request: Request, limit: int = MAX_BODY) -> bytes:
    """The body of a request.

    Raises:
        HTTPException: It is larger than `limit`, or does not come.
    """
    parts = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for part in request.stream():
                parts += part
                if len(parts) > limit:
                    raise HTTPException(413, f"a request has at most {limit} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "the request ended too early") from None
    except TimeoutError:
        raise HTTPException(408, "the request did not arrive in time") from None
    return bytes(parts)


async def json_body(request: Request, limit: int = MAX_BODY) -> dict[str, Any]:
    """The body as one JSON object.

    Raises:
        HTTPException: It is none, is too large, or does not come.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "a request is one JSON object (application/json)")
    try:
        value = json.loads(await body(request, limit))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise HTTPException(400, "a request is one JSON object")
    return value
