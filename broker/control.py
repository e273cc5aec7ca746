"""How the command line speaks to a running server: one unix socket, one line per request.

A request is `{"do": "device.show", "args": {…}}`, its answer `{"ok": true, "result": …}` or
`{"ok": false, "error": "…"}`, each one line of JSON. Bytes travel as `{"b64": "…"}` both ways. The
socket belongs to the server's user alone (mode 0600), which is the whole access control: who can
read the data directory may administer it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import json
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    Handler = Callable[[dict[str, Any]], Awaitable[Any]]

log = logging.getLogger(__name__)

SOCKET_NAME = "control.sock"
MAX_LINE = 1 << 20
MAX_CONNECTIONS = 16
# sun_path holds 108 bytes on Linux and 104 elsewhere, with the closing NUL.
_MAX_PATH = 103


class ControlError(Exception):
    """The server refused a command; the text is one sentence made for the operator.

    Handlers raise it for the same purpose: its text, and no other exception's, reaches the client.
    """


class NoServer(ControlError):  # noqa: N818 - it names a situation that callers may well expect
    """Nobody listens on the socket: no server runs on that data directory."""


class ControlServer:
    """Answers commands on a unix socket, each connection one command after the other.

    `start` replaces the socket file of a server that died. A client that stays silent for
    `idle_timeout` seconds, or sends a line above 1 MiB, is disconnected; beyond `MAX_CONNECTIONS`
    clients further ones are told to come back.
    """

    def __init__(
        self, path: Path, handlers: Mapping[str, Handler], *, idle_timeout: float = 60.0
    ) -> None:
        self._path = path
        self._handlers = handlers
        self._idle_timeout = idle_timeout
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen.

        Raises:
            ControlError: another process answers on this path, or the path cannot be used.
        """
        try:
            listener = _listen(self._path)
        except OSError as error:
            raise ControlError(
                f"the control socket {self._path} cannot be opened: {error.strerror or error}"
            ) from error
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.start_unix_server(
            self._connected, sock=listener, limit=MAX_LINE
        )

    async def stop(self) -> None:
        """Close the socket and all connections, and remove the file if it is still ours."""
        if self._server is None:
            return
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._server = None
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) > MAX_CONNECTIONS:
                writer.write(_refusal("too many control connections; try again in a moment"))
                await writer.drain()
            else:
                await self._serve(reader, writer)
        except (ConnectionError, TimeoutError):
            log.debug("control connection lost or silent")
            writer.transport.abort()
        except asyncio.CancelledError:
            # Only `stop` cancels. Swallowed, as asyncio's own callback would report it as a fault.
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(self._idle_timeout):
                    line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                writer.write(_refusal(f"a request is one line of at most {MAX_LINE} bytes"))
                await writer.drain()
                return
            writer.write(await self._answer(line))
            async with asyncio.timeout(self._idle_timeout):
                await writer.drain()

    async def _answer(self, line: bytes) -> bytes:
        try:
            request = loads(line)
            name, args = request["do"], request.get("args", {})
            if not (isinstance(name, str) and isinstance(args, dict)):
                raise TypeError  # noqa: TRY301 - one refusal for every wrong form
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return _refusal('a request is one line of JSON: {"do": "…", "args": {…}}')
        handler = self._handlers.get(name)
        if handler is None:
            return _refusal(f"this server knows no command {name!r}; is it another version?")
        try:
            return dumps({"ok": True, "result": await handler(args)}) + b"\n"
        except ControlError as error:
            return _refusal(str(error))
        except Exception:
            log.exception("control command %s failed", name)
            return _refusal("the command failed inside the server; its log says why")


class ControlClient:
    """Sends commands to the server that listens on `path`, one connection for each. Synchronous."""

    def __init__(self, path: Path, *, timeout: float = 30.0) -> None:
        self._path = path
        self._timeout = timeout

    def call(self, do: str, **args: Any) -> Any:
        """Return the result of one command.

        Raises:
            NoServer: nobody listens there.
            ControlError: the server refused, or broke off.
        """
        request = dumps({"do": do, "args": args}) + b"\n"
        if len(request) > MAX_LINE:
            raise ControlError(f"the command is longer than {MAX_LINE} bytes")
        try:
            return self._result(self._exchange(request))
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise NoServer(f"no server listens on {self._path}") from error
        except PermissionError as error:
            raise ControlError(f"{self._path} belongs to another user") from error
        except TimeoutError as error:
            raise ControlError(f"the server gave no answer within {self._timeout:g} s") from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ControlError("the server broke off before it answered") from error

    @staticmethod
    def _result(line: bytes) -> Any:
        reply = loads(line)
        if reply["ok"]:
            return reply["result"]
        raise ControlError(reply["error"])

    def _exchange(self, request: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._timeout)
            with _address(self._path) as address:
                connection.connect(address)
            # A server that is too busy says so and closes at once: its words are there to be read.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
            with connection.makefile("rb") as lines:
                return lines.readline()


def dumps(value: Any) -> bytes:
    """Encode as one line of JSON, bytes as `{"b64": …}`."""
    return json.dumps(value, default=_tagged, separators=(",", ":")).encode()


def loads(line: bytes) -> Any:
    """Decode what `dumps` made."""
    return json.loads(line, object_hook=_untagged)


def _tagged(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _untagged(table: dict[str, Any]) -> Any:
    if table.keys() == {"b64"} and isinstance(table["b64"], str):
        return base64.b64decode(table["b64"], validate=True)
    return table


def _refusal(error: str) -> bytes:
    return dumps({"ok": False, "error": error}) + b"\n"


def _listen(path: Path) -> socket.socket:
    """Bind a socket that only this user can reach and put it in place of a dead one.

    It starts to listen only after its mode is set, and takes the final name only then, so that
    nobody ever meets a socket half made.
    """
    if _answers(path):
        raise OSError(errno.EADDRINUSE, "another server answers on it")
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(fresh) as address:
            listener.bind(address)
        fresh.chmod(0o600)
        listener.listen(MAX_CONNECTIONS)
        fresh.replace(path)
    except OSError:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _address(path) as address:
        probe.settimeout(1.0)
        try:
            probe.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give the path in a form that fits a socket address.

    A data directory may lie deeper than a socket address can say; Linux then reaches it through an
    open descriptor of the directory.
    """
    if len(os.fsencode(path)) <= _MAX_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
