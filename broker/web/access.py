"""Who may look: everybody who reaches the port, or whoever knows the token; and no foreign page.

Programs show the token with each request (RFC 6750). Browsers show it once, to `/login`, and get a cookie
that proves it: not the token, and worth nothing after half a day. Nothing is kept here for that; what a
cookie says is signed with the token.

A page of somebody else, open in the operator's browser, could ask this port for things, even where only
this machine reaches it. Three rules keep it out: names under which the port was never given are refused
(DNS rebinding), so is what a browser says is asked by another site (Fetch Metadata), and what changes
something is taken from our own pages alone (Origin).
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from broker.access.login_limits import LoginLimits
from broker.web import answers
from broker.web.files import page

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = "fleetfeed"
SESSION = 43_200
"""Seconds that a login lasts."""

PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that everybody may ask, by any name: whoever balances load asks by address."""

LOGIN, STATIC = "/login", "/static/"
"""The path and the beginning of paths that need no token: what they say is no secret."""

_SAFE = ("GET", "HEAD")
_MAX_FORM = 4_096
_FAILURES, _REFILL = 20, 10.0
"""Wrong tokens of one address at once, and per minute."""


class Access:
    """Decides on each request, and lets people log in.

    Args:
        token: What opens the port; None if whoever reaches it may look.
        hosts: Names under which it is reached, in small letters.
        refused: Counts whoever is not let in, by reason.
        clock: Unix seconds.
    """

    def __init__(
        self,
        token: bytes | None,
        hosts: tuple[str, ...],
        refused: Counter[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._token: bytes | None = None
        self.adopt(token, hosts)
        self._refused = refused
        self._clock = clock
        self._limits = LoginLimits(failures=_FAILURES, refill=_REFILL)

    def adopt(self, token: bytes | None, hosts: tuple[str, ...]) -> bool:
        """Goes by these from now on.

        Returns: whether the token is another one, so that whoever was let in by the old one is not any more.
        """
        before = self._token
        self._token = token
        self._hosts = frozenset({"localhost", *hosts})
        return token != before

    # ---- One request

    def refusal(self, request: HTTPConnection) -> Response | None:
        """Why a request is not answered; None if it is."""
        path = request.scope["path"]
        if path in PROBES:
            return None
        bearer = self._bearer(request)
        if bearer is True:
            return None  # no browser, and no cookie that a foreign page could make use of
        if not self._is_known_host(request):
            return self._refuse(
                request,
                "http_host",
                421,
                "this server has another name: add this one to http.hosts",
            )
        if not self._is_own(request):
            return self._refuse(request, "http_foreign", 403, "another site asks for this")
        if self._token is None or path == LOGIN or path.startswith(STATIC):
            return None
        if bearer is None and self._is_valid(request.cookies.get(COOKIE, "")):
            return None
        return self._unauthorised(request, wrong=bearer is False)

    def _bearer(self, request: HTTPConnection) -> bool | None:
        """Whether the token that was shown is right; None if none was shown, or none is needed."""
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if self._token is None or scheme.lower() != "bearer":
            return None
        return self._is_token(shown.strip(), request)

    def _is_token(self, shown: str, request: HTTPConnection) -> bool:
        """Whether this is the token. One address can be wrong a few times, then it is not looked at."""
        assert self._token is not None
        address, now = _address(request), self._clock()
        if self._limits.exhausted(address, now):
            return False
        right = hmac.compare_digest(shown.encode(), self._token)
        if not right:
            self._limits.charge(address, now)
        return right

    def _unauthorised(self, request: HTTPConnection, *, wrong: bool) -> Response:
        if wrong:
            self._refused["http_wrong_token"] += 1
        if self._limits.exhausted(_address(request), self._clock()):
            answer = answers.refusal(429, "too many wrong tokens: try again in a minute")
            answer.headers["Retry-After"] = "60"
            return answer
        if _navigates(request):
            return RedirectResponse("/login", 303)
        answer = answers.refusal(
            401, "a token is needed: Authorization: Bearer …, or log in at /login"
        )
        answer.headers["WWW-Authenticate"] = 'Bearer realm="fleetfeed"'
        return answer

    def _refuse(self, request: HTTPConnection, why: str, status: int, sentence: str) -> Response:
        self._refused[why] += 1
        if _navigates(request):
            return PlainTextResponse(f"{sentence}\n", status)
        return answers.refusal(status, sentence)

    def _is_known_host(self, request: HTTPConnection) -> bool:
        """Whether it was asked by a name of ours. An address is nobody's name, so it cannot be rebound."""
        try:
            host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        except ValueError:
            return False
        return host in self._hosts or _is_address(host)

    def _is_own(self, request: HTTPConnection) -> bool:
        """Whether it comes from our own pages, from the address bar, from a link, or from no browser."""
        headers, method = request.headers, request.scope["method"]
        site = headers.get("sec-fetch-site")
        if site not in {None, "same-origin", "none"}:
            followed = method in _SAFE and headers.get("sec-fetch-mode") == "navigate"
            if not (followed and headers.get("sec-fetch-dest") == "document"):
                return False
        if method in _SAFE:
            return True
        if site is not None:  # a browser knows, even where a proxy has changed the host
            return True
        origin = headers.get("origin")
        if origin is None:  # every browser says it with what changes something
            return COOKIE not in request.cookies
        return origin.partition("://")[2] == headers.get("host")

    # ---- Logging in

    def routes(self) -> list[Route]:
        """`/login` and `/logout`."""
        return [
            Route("/login", page("login.html"), methods=["GET"]),
            Route("/login", self._login, methods=["POST"]),
            Route("/logout", self._logout, methods=["POST"]),
        ]

    async def _login(self, request: Request) -> Response:
        form = parse_qs((await answers.body(request, _MAX_FORM)).decode("ascii", "replace"))
        shown = form.get("token", [""])[0].strip()
        if self._token is None:
            return RedirectResponse("/", 303)
        if not self._is_token(shown, request):
            self._refused["http_wrong_token"] += 1
            late = self._limits.exhausted(_address(request), self._clock())
            return RedirectResponse("/login?late" if late else "/login?wrong", 303)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, self._signed(), max_age=SESSION, path="/", httponly=True, samesite="strict"
        )
        return answer

    async def _logout(self, _request: Request) -> Response:
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    def _signed(self) -> str:
        until = str(int(self._clock()) + SESSION)
        return f"{until}.{self._signature(until)}"

    def _is_valid(self, cookie: str) -> bool:
        until, _, signature = cookie.partition(".")
        if not (until.isascii() and until.isdigit() and len(until) <= 12):
            return False
        signed = hmac.compare_digest(signature.encode(), self._signature(until).encode())
        return signed and int(until) > self._clock()

    def _signature(self, until: str) -> str:
        assert self._token is not None
        return hmac.digest(self._token, f"fleetfeed page until {until}".encode(), "sha256").hex()


class Guard:
    """Stands before all routes (ASGI)."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or lets pass."""
        refusal = self._access.refusal(HTTPConnection(scope))
        await (self._app if refusal is None else refusal)(scope, receive, send)


def _navigates(request: HTTPConnection) -> bool:
    """Whether a person looks at what is answered."""
    asks = request.scope["method"] in _SAFE
    return asks and "text/html" in request.headers.get("accept", "")


def _address(request: HTTPConnection) -> str:
    return request.client.host if request.client is not None else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
