"""What stands around every route: headers, errors, and that nothing of an exception gets out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.routing import Route

from broker.control import ControlError
from broker.web import app
from broker.web.access import Access
from broker.web.answers import Json, json_body
from broker.web.subject import Subject
from tests.broker.support import Served
from tests.broker.web.conftest import TOKEN

Open = Callable[..., Awaitable[httpx.AsyncClient]]

PAGE = {"Accept": "text/html,*/*"}


@pytest.mark.parametrize("path", ["/", "/metrics", "/readyz", "/static/style.css", "/nothing"])
async def test_every_answer_says_how_it_may_be_used(open_page: Open, path: str) -> None:
    client = await open_page()
    headers = (await client.get(path)).headers
    assert app.HEADERS.items() <= dict(headers.items()).items() | {
        (name, headers[name]) for name in app.HEADERS
    }
    assert {headers[name] for name in app.HEADERS} == set(app.HEADERS.values())
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Date"].endswith(" GMT")
    assert "Server" not in headers


async def test_what_is_not_there_is_told_to_people_as_a_page_and_to_programs_as_json(
    open_page: Open,
) -> None:
    client = await open_page()
    answer = await client.get("/nothing", headers=PAGE)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "There is nothing here." in answer.text
    answer = await client.get("/api/v1/nothing", headers=PAGE)
    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})
    answer = await client.post("/metrics")
    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})
    assert "GET" in answer.headers["Allow"]


class Faulty:
    """Commands that fail."""

    async def refuses(self, _args: dict[str, Any]) -> None:
        raise ControlError("there is no device 'x'; 'fleetfeed device list' shows all")

    async def breaks(self, _args: dict[str, Any]) -> None:
        raise RuntimeError("secret-in-an-exception")


@pytest.fixture
async def faulty(serve: Callable[..., Awaitable[Served]]) -> httpx.AsyncClient:
    """The routes of a server, one more that asks what `?do=` says, and one that takes a body."""
    served = await serve()

    commands = {"refuses": Faulty().refuses, "breaks": Faulty().breaks}
    subject = Subject.of_server(served.server, commands)
    routes = app.application(subject, Access(None, (), Counter()))

    async def ask(request: Request) -> Json:
        return Json(await subject.ask(request.query_params["do"]))

    async def echo(request: Request) -> Json:
        return Json(await json_body(request, 100))

    routes.router.routes += [Route("/api/v1/ask", ask), Route("/echo", echo, methods=["POST"])]
    transport = httpx.ASGITransport(routes, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", trust_env=False)


async def test_a_command_that_is_refused_says_why(faulty: httpx.AsyncClient) -> None:
    answer = await faulty.get("/api/v1/ask?do=refuses")
    assert answer.status_code == 400
    assert answer.json() == {"error": "there is no device 'x'; 'fleetfeed device list' shows all"}
    answer = await faulty.get("/api/v1/ask?do=unknown")
    assert answer.json() == {"error": "this server knows no command 'unknown'"}


@pytest.mark.parametrize("headers", [{}, PAGE])
async def test_nothing_of_an_exception_gets_out(
    faulty: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await faulty.get("/api/v1/ask?do=breaks", headers=headers)
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed at this; its log says why"}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"a": 1}', "application/json", 200),
        (b'{"a": 1}', "application/json; charset=utf-8", 200),
        (b'{"a": 1}', "text/plain", 415),
        (b"[1]", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 100, "application/json", 400),
        (b'{"a": "' + b"x" * 100 + b'"}', "application/json", 413),
    ],
)
async def test_a_body_is_one_small_json_object(
    faulty: httpx.AsyncClient, content: bytes, kind: str, status: int
) -> None:
    answer = await faulty.post("/echo", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.json() == {"a": 1} if status == 200 else "error" in answer.json()


async def test_the_page_may_send_where_it_is_allowed_or_nobody_else_could_reach_it(
    serve: Callable[..., Awaitable[Served]], token_file: Path
) -> None:

    for settings, allowed in [
        ({"open": True}, True),
        ({"open": False}, False),
        ({"open": False, "http__send": True}, True),
        ({"open": True, "http__send": False}, False),
        (
            {"open": True, "http__bind": "0.0.0.0:0", "http__token_file": str(token_file)},
            False,
        ),
    ]:
        served = await serve(**{"http__bind": "127.0.0.1:0", **settings})
        assert Subject.of_server(served.server, {}).may_send is allowed
    assert TOKEN
