"""Who may look, with which token, under which name, and from which pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import HTTPConnection
from starlette.responses import Response

from broker.web.access import COOKIE, SESSION, Access
from tests.broker.web.conftest import TOKEN

Open = Callable[..., Awaitable[httpx.AsyncClient]]

PAGE = {"Accept": "text/html,*/*"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def closed(open_page: Open, token_file: Path) -> httpx.AsyncClient:
    """A client of a port that wants a token."""
    return await open_page(http__token_file=str(token_file))


async def log_in(client: httpx.AsyncClient, token: str = TOKEN) -> httpx.Response:
    origin = str(client.base_url).rstrip("/")
    return await client.post("/login", data={"token": token}, headers={"Origin": origin})


# ---- The token


async def test_without_a_token_whoever_reaches_the_port_may_look(open_page: Open) -> None:
    client = await open_page()
    assert (await client.get("/metrics")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/api/v1/systree", "/", "/events", "/nothing"),
        *("/healthz/", "/readyz/../metrics", "/login/", "/static", "/%2e%2e/metrics"),
    ],
)
async def test_with_a_token_nothing_is_shown_without_it(
    closed: httpx.AsyncClient, path: str
) -> None:
    answer = await closed.get(path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await closed.get(path, headers=PAGE)).headers["Location"] == "/login"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/login", "/static/style.css"])
async def test_what_is_no_secret_needs_no_token(closed: httpx.AsyncClient, path: str) -> None:
    assert (await closed.get(path)).status_code == 200


async def test_a_program_shows_the_token_with_each_request(closed: httpx.AsyncClient) -> None:
    assert (await closed.get("/metrics", headers=BEARER)).status_code == 200
    wrong = {"Authorization": f"Bearer {TOKEN}x"}
    assert (await closed.get("/metrics", headers=wrong)).status_code == 401
    basic = {"Authorization": f"Basic {TOKEN}"}
    assert (await closed.get("/metrics", headers=basic)).status_code == 401


async def test_a_person_logs_in_once_and_out_again(closed: httpx.AsyncClient) -> None:
    answer = await log_in(closed)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert (await closed.get("/metrics")).status_code == 200
    origin = {"Origin": str(closed.base_url).rstrip("/")}
    assert (await closed.post("/logout", headers=origin)).headers["Location"] == "/login"
    assert (await closed.get("/metrics")).status_code == 401


async def test_a_wrong_token_at_login_is_told_and_gives_nothing(closed: httpx.AsyncClient) -> None:
    answer = await log_in(closed, "a-token-of-thirty-two-characterz")
    assert answer.headers["Location"] == "/login?wrong"
    assert "Set-Cookie" not in answer.headers


async def test_a_login_form_without_end_is_refused(closed: httpx.AsyncClient) -> None:
    assert (await log_in(closed, "x" * 10_000)).status_code == 413


# ---- Decisions, one by one


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def request(method: str = "GET", path: str = "/metrics", **headers: str) -> HTTPConnection:
    named = {"host": "127.0.0.1:9464"} | {k.replace("_", "-"): v for k, v in headers.items()}
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(k.encode(), v.encode()) for k, v in named.items() if v],
        "client": ("127.0.0.1", 1),
    }
    return HTTPConnection(scope)


def status(answer: Response | None) -> int:
    return 200 if answer is None else answer.status_code


def test_an_address_that_guesses_is_soon_not_looked_at_and_only_for_a_while() -> None:
    clock, refused = Clock(), Counter[str]()
    access = Access(TOKEN.encode(), (), refused, clock)
    wrong = [status(access.refusal(request(authorization="Bearer guess"))) for _ in range(25)]
    assert set(wrong[:19]) == {401}
    assert set(wrong[20:]) == {429}
    right = request(authorization=f"Bearer {TOKEN}")
    assert status(access.refusal(right)) == 429
    clock.now += 60
    assert status(access.refusal(right)) == 200
    assert refused["http_wrong_token"] == 26


def test_a_cookie_is_worth_nothing_after_half_a_day_with_another_token_or_another_time() -> None:
    clock = Clock()
    access = Access(TOKEN.encode(), (), Counter(), clock)
    cookie = access._signed()
    asked = request(cookie=f"{COOKIE}={cookie}")
    assert status(access.refusal(asked)) == 200
    assert status(Access(b"another" * 5, (), Counter(), clock).refusal(asked)) == 401
    until, _, signature = cookie.partition(".")
    longer = request(cookie=f"{COOKIE}={int(until) + 1}.{signature}")
    assert status(access.refusal(longer)) == 401
    clock.now += SESSION + 1
    assert status(access.refusal(asked)) == 401


@given(st.text(st.characters(codec="latin-1", exclude_characters="\0\r\n"), max_size=60))
@settings(max_examples=200)
def test_no_cookie_but_a_signed_one_opens_anything(value: str) -> None:
    access = Access(TOKEN.encode(), (), Counter(), Clock())
    assert not access._is_valid(value)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("localhost:9464", True),
        ("127.0.0.1:9464", True),
        ("[::1]:9464", True),
        ("10.1.2.3", True),
        ("feed.example.com", True),
        ("FEED.example.com:443", True),
        ("evil.example", False),
        ("feed.example.com.evil.example", False),
        ("127.0.0.1.evil.example:9464", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_the_port_is_reached_under_its_names_alone(host: str, known: bool) -> None:
    refused = Counter[str]()
    access = Access(None, ("feed.example.com",), refused)
    assert (status(access.refusal(request(host=host))) == 200) is known
    assert refused["http_host"] == (not known)
    assert status(access.refusal(request(path="/readyz", host=host))) == 200


def test_who_shows_the_token_may_use_any_name() -> None:
    access = Access(TOKEN.encode(), (), Counter())
    asked = request(host="broker:9464", authorization=f"Bearer {TOKEN}")
    assert status(access.refusal(asked)) == 200


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        # A program, our own page, the address bar, a link on another page.
        ("GET", {}, True),
        ("GET", {"sec_fetch_site": "same-origin"}, True),
        ("GET", {"sec_fetch_site": "none"}, True),
        (
            "GET",
            {
                "sec_fetch_site": "cross-site",
                "sec_fetch_mode": "navigate",
                "sec_fetch_dest": "document",
            },
            True,
        ),
        # A script or picture of another page, a frame in it.
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, False),
        ("GET", {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"}, False),
        (
            "GET",
            {
                "sec_fetch_site": "cross-site",
                "sec_fetch_mode": "navigate",
                "sec_fetch_dest": "iframe",
            },
            False,
        ),
        # What changes something.
        ("POST", {"origin": "http://127.0.0.1:9464"}, True),
        ("POST", {"origin": "http://127.0.0.1:9464", "sec_fetch_site": "same-origin"}, True),
        ("POST", {}, True),
        ("POST", {"origin": "http://evil.example"}, False),
        ("POST", {"origin": "http://127.0.0.1:8080"}, False),
        ("POST", {"origin": "null"}, False),
        ("POST", {"origin": "http://["}, False),
        # A proxy that says another host: the browser knows whose page it is.
        ("POST", {"origin": "https://feed.example.com", "sec_fetch_site": "same-origin"}, True),
        ("POST", {"origin": "https://evil.example", "sec_fetch_site": "same-site"}, False),
        (
            "POST",
            {
                "sec_fetch_site": "cross-site",
                "sec_fetch_mode": "navigate",
                "sec_fetch_dest": "document",
            },
            False,
        ),
        ("POST", {"cookie": f"{COOKIE}=1.2"}, False),
    ],
)
def test_pages_of_others_get_and_change_nothing(
    method: str, headers: dict[str, str], allowed: bool
) -> None:
    refused = Counter[str]()
    access = Access(None, (), refused)
    assert (status(access.refusal(request(method, **headers))) == 200) is allowed
    assert refused["http_foreign"] == (not allowed)
