"""All routes of the port for operators, and what stands around every one of them."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from broker.control import ControlError
from broker.web import answers, exposition, files, health, systree
from broker.web.access import Guard
from broker.web.pages import device, items, model, overview

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from broker.web.access import Access
    from broker.web.subject import Subject

HEADERS = {
    # Everything from here and nothing inline: what a publisher wrote can never become a script.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Nothing to others. With "no-referrer" a browser would not say the origin of our own forms either.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer."""


def application(subject: Subject, access: Access) -> Starlette:
    """The routes of one server.

    Args:
        subject: What they show.
        access: Who is let in.
    """
    return Starlette(
        routes=[
            *_health(subject),
            *exposition.routes(subject),
            *systree.routes(subject),
            *access.routes(),
            *files.routes(),
            *overview.routes(subject),
            *model.routes(subject),
            *device.routes(subject),
            *items.routes(subject),
        ],
        middleware=[Middleware(Headers), Middleware(Guard, access=access)],
        exception_handlers={
            ControlError: _refused,
            HTTPException: _wrong,
            Exception: _failed,
        },
    )


class Headers:
    """Puts what every answer has on it (ASGI)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _put_on(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _put_on(headers: MutableHeaders) -> None:
    headers.update(HEADERS)
    headers["Date"] = formatdate(usegmt=True)  # RFC 9110, 6.6.1


def _health(subject: Subject) -> list[Route]:
    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})

    async def readyz(_request: Request) -> Response:
        found = health.reasons(subject)
        return answers.Json(health.as_json(found), 503 if found else 200)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


async def _refused(request: Request, error: Exception) -> Response:
    return _say(request, 400, str(error))


async def _wrong(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _say(request, error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    return answer


async def _failed(request: Request, _error: Exception) -> Response:
    answer = _say(request, 500, "the server failed at this; its log says why")
    _put_on(answer.headers)  # it is sent from outside of `Headers`
    return answer


def _say(request: Request, status: int, sentence: str) -> Response:
    """A sentence for a person as a page, for a program as JSON."""
    if not request.url.path.startswith("/api/") and "text/html" in request.headers.get(
        "accept", ""
    ):
        return (
            files.answer(request, "missing.html", 404)
            if status == 404
            else PlainTextResponse(f"{sentence}\n", status)
        )
    return answers.refusal(status, sentence)
