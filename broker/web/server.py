"""The port itself: HTTP on the server's own event loop, bounded in everything that a client can hold.

uvicorn reads and writes HTTP/1.1; its own server is not used. That one installs signal handlers, ends the
process when it cannot listen, wakes ten times a second, and waits at its end for streams that have none.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from broker.control import ControlError
from broker.web.turns import Turns

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from broker.config import HttpSettings
    from broker.web.access import Access

MAX_CONNECTIONS = 200
"""Connections at one time; further ones are closed at once."""

MAX_HEAD = 16_384
"""Bytes of a request line with all headers."""

REQUEST_TIMEOUT = 10.0
"""Seconds that a client has for a request's head, and for taking what it is sent."""

KEEP_ALIVE = 20.0
"""Seconds that an idle connection is kept: Prometheus and a page come again sooner."""

GRACE = 1.0
"""Seconds that answers under way have when the server stops."""


class WebServer:
    """Answers HTTP on one address.

    Args:
        settings: Where.
        app: What answers (ASGI).
        access: Who is let in; None if it is not decided here.
        refused: Counts what is not answered, by reason.

    Attributes:
        address: What was bound: host and port.
    """

    def __init__(
        self,
        settings: HttpSettings,
        app: ASGIApp,
        access: Access | None = None,
        refused: Counter[str] | None = None,
    ) -> None:
        self.address = (settings.host, settings.port)
        self._settings = settings
        self._app = app
        self._access = access
        self._refused = Counter() if refused is None else refused
        self._turns = Turns()
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host, port = self.address
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (not to listen on)
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    async def start(self) -> None:
        """Listens.

        Raises:
            ControlError: The address cannot be listened on.
        """
        config = Config(
            self._answer,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            # Addresses of clients are those of their connections: nobody can claim another one.
            proxy_headers=False,
            server_header=False,
            date_header=False,
            h11_max_incomplete_event_size=MAX_HEAD,
            timeout_keep_alive=int(KEEP_ALIVE),
        )
        config.load()
        # Its warnings are of what clients do wrong: that is counted, so that nobody can fill a log with it.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        host, port = self.address
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Connection(config, self._state, self._refused), host, port
            )
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else error
            raise ControlError(
                f"metrics and page cannot listen on {self._settings.bind} ({why}): check http.bind"
            ) from error
        bound = self._server.sockets[0].getsockname()
        self.address = (bound[0], bound[1])

    def adopt(self, settings: HttpSettings, token: bytes | None) -> None:
        """Lets in by these from now on; with another token nobody goes on by the old one.

        Streams of events are ended, too: they were allowed once, when they began.
        """
        if self._access is None or not self._access.adopt(token, settings.hosts):
            return
        for connection in self._connections():
            connection.end_stream()

    async def stop(self) -> None:
        """Answers what was asked, ends streams, and closes everything, within about `GRACE`."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in self._connections():
            connection.leave()
        await self._finish()
        for connection in self._connections():
            connection.transport.abort()
        # Without a client an answer ends by itself; what does not is not waited for any longer.
        await self._finish()
        for task in self._state.tasks:
            task.cancel()
        await self._finish()

    def _connections(self) -> list[_Connection]:
        return [each for each in self._state.connections if isinstance(each, _Connection)]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if _head_size(scope) > MAX_HEAD:
            self._refused["http_too_large"] += 1
            words = f"the head of a request has at most {MAX_HEAD} bytes\n"
            app = PlainTextResponse(words, 431, {"Connection": "close"})
        try:
            await self._turns.answer(lambda: app(scope, receive, send))
        except asyncio.CancelledError:
            # Only `stop` cancels, when the client has been cut off. To uvicorn it would be a fault.
            if self._server is not None:
                raise

    async def _finish(self) -> None:
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks), timeout=GRACE)


def _head_size(scope: Scope) -> int:
    """Bytes of a head: h11 looks at its size only while more of it has to come."""
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return len(scope["raw_path"]) + len(scope["query_string"]) + headers


class _Connection(H11Protocol):
    """One client, who may neither be slow to ask nor slow to read.

    uvicorn itself waits for both as long as a client likes.
    """

    _late: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def __init__(self, config: Config, state: ServerState, refused: Counter[str]) -> None:
        super().__init__(config, state, {})
        self._refused = refused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """See `asyncio.Protocol`; likewise below."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refused["http_too_many"] += 1
            transport.abort()
            return
        self._late = self.loop.call_later(REQUEST_TIMEOUT, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering:
            self._cancel_late()
        elif self._late is None:
            self._late = self.loop.call_later(REQUEST_TIMEOUT, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_late()
        if self._stuck is not None:
            self._stuck.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(REQUEST_TIMEOUT, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP: its sender is told so, unless something came before that was."""
        self._refused["http_malformed"] += 1
        before: RequestResponseCycle | None = self.cycle
        if before is None:  # with an answer given or under way, h11 takes no other one
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def leave(self) -> None:
        """Ends when the answer under way has been given; a stream at once, as it would have no end."""
        if not self.end_stream():
            self.shutdown()

    def end_stream(self) -> bool:
        """Cuts off an answer that has begun and has no end in sight; whether there was one."""
        streams = self._answering and self.cycle.response_started
        if streams:
            self.transport.abort()
        return streams

    @property
    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        return cycle is not None and not cycle.response_complete

    def _give_up(self) -> None:
        self._refused["http_not_read"] += 1
        self.transport.abort()

    def _cancel_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
