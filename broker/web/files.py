"""The files that browsers load: read once, kept in memory, and told apart by what is in them.

They are few and small. Serving them from memory needs no threads, and what is no file of ours cannot be
asked for, whatever a path looks like.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

DIRECTORY = Path(__file__).parent / "static"
"""Where they are."""

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".md": "text/plain",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
"""By suffix: what a system has to say about suffixes differs from machine to machine."""


@dataclass(frozen=True, slots=True)
class File:
    """One file.

    Attributes:
        content: Its bytes.
        media_type: What it is.
        etag: What its content is known by.
    """

    content: bytes
    media_type: str
    etag: str


@cache
def files(directory: Path = DIRECTORY) -> dict[str, File]:
    """All files of a directory, by their paths in it."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            found[path.relative_to(directory).as_posix()] = File(
                content=content,
                media_type=_TYPES.get(path.suffix, "text/plain"),
                etag=f'"{sha256(content).hexdigest()[:20]}"',
            )
    return found


def page(name: str) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a page that is one of these files."""

    async def endpoint(request: Request) -> Response:
        return answer(request, name)

    return endpoint


def routes() -> list[Route]:
    """`/static/…`."""

    async def static(request: Request) -> Response:
        return answer(request, request.path_params["path"])

    return [Route("/static/{path:path}", static)]


def answer(request: Request, name: str, status: int = 200) -> Response:
    """One of these files, or 304 if the browser has it as it is.

    Raises:
        HTTPException: There is none of this name.
    """
    file = files().get(name)
    if file is None:
        raise HTTPException(404)
    # Asked for each time, sent when it has changed: a new version is seen at once, at the price of one
    # short exchange with a machine that is near.
    headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
    asked = request.headers.get("if-none-match", "")
    if status == 200 and file.etag in {
        each.strip().removeprefix("W/") for each in asked.split(",")
    }:
        return Response(status_code=304, headers=headers)
    return Response(file.content, status, headers=headers, media_type=file.media_type)
