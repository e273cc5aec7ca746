"""The port itself: HTTP on the server's own event loop, bounded in everything that a client can hold.

uvicorn reads and writes HTTP/1.1; its own server is not used. That one installs signal handlers, ends the
process when it cannot listen, wakes ten times a second, and waits at its end for streams that have none.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from broker.control import ControlError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from broker.config import HttpSettings

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

    Attributes:
        address: What was bound: host and port.
    """

    def __init__(self, settings: HttpSettings, app: ASGIApp) -> None:
        self.address = (settings.host, settings.port)
        self._settings = settings
        self._app = app
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
        host, port = self.address
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Connection(config, self._state, {}), host, port
            )
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else error
            raise ControlError(
                f"metrics and page cannot listen on {self._settings.bind} ({why}): check http.bind"
            ) from error
        bound = self._server.sockets[0].getsockname()
        self.address = (bound[0], bound[1])

    async def stop(self) -> None:
        """Answers what was asked, ends streams, and closes everything, within about `GRACE`."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in list(self._state.connections):
            assert isinstance(connection, _Connection)
            connection.leave()
        await self._finish()
        for connection in list(self._state.connections):
            connection.transport.abort()
        # Without a client an answer ends by itself; what does not is not waited for any longer.
        await self._finish()
        for task in self._state.tasks:
            task.cancel()
        await self._finish()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            # Only `stop` cancels, when the client has been cut off. To uvicorn it would be a fault.
            if self._server is not None:
                raise

    async def _finish(self) -> None:
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks), timeout=GRACE)


class _Connection(H11Protocol):
    """One client, who may neither be slow to ask nor slow to read.

    uvicorn itself waits for both as long as a client likes.
    """

    _late: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """See `asyncio.Protocol`; likewise below."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
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
        self._stuck = self.loop.call_later(REQUEST_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def leave(self) -> None:
        """Ends when the answer under way has been given; a stream at once, as it would have no end."""
        if self._answering and self.cycle.response_started:
            self.transport.abort()
        else:
            self.shutdown()

    @property
    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        return cycle is not None and not cycle.response_complete

    def _cancel_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
