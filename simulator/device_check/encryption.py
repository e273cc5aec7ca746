"""The port with TLS: connections are handed on once their handshake is done; of those that fail it is said why.

asyncio's own server tells nobody of a handshake that fails, and that is what an engineer has to know here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

HANDSHAKE = 15.0
"""Seconds that a handshake may take: a small processor needs some for its part."""
_SHUTDOWN = 1.0
"""Seconds that a device has to answer when we end TLS; then its connection is closed all the same."""
_BACKLOG = 100

_UNTRUSTED = (
    "the device does not trust our certificate: put the authority that signed --cert onto it, and give a --cert for the "
    "name or address that it connects to"
)
_NO_COMMON = (
    "device and certificate have no version or cipher in common: it must offer TLS 1.2 or 1.3, and what the key of "
    "--cert is made for (RSA or elliptic curves)"
)
_PLAIN = "the device does not speak TLS: switch that on in it, or leave out --cert"
_LEFT = (
    "the device broke the handshake off without a word, as many do that do not trust a certificate: look into its log, "
    "and at the authorities, the name and the time that it has"
)
_WORDS = {
    "WRONG_VERSION_NUMBER": _PLAIN,
    "HTTP_REQUEST": _PLAIN,
    "TLSV1_ALERT_UNKNOWN_CA": _UNTRUSTED,
    "SSLV3_ALERT_BAD_CERTIFICATE": _UNTRUSTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _UNTRUSTED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _NO_COMMON,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the device finds our certificate expired: give another --cert, or set its clock",
    "NO_SHARED_CIPHER": _NO_COMMON,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": _NO_COMMON,
    "UNSUPPORTED_PROTOCOL": _NO_COMMON,
    "VERSION_TOO_LOW": _NO_COMMON,
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_COMMON,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _NO_COMMON,
}


def fault_of(error: OSError) -> str:
    """Why a handshake failed, and what to do, seen from the server."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionResetError):
        return _LEFT
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or ""
        return _WORDS.get(reason, f"OpenSSL says {reason or error}")
    if isinstance(error, ConnectionAbortedError | TimeoutError):
        return f"the device did not finish the handshake within {HANDSHAKE:g} s: does it speak TLS?"
    return f"the connection ended in it ({error.strerror or error})"


class EncryptedPort:
    """Listens, and makes a protocol of each connection whose handshake is done.

    Args:
        context: Our certificate and key.
        made: Makes a protocol.
        failed: Told why a handshake failed.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        made: Callable[[], asyncio.Protocol],
        failed: Callable[[str], None],
    ) -> None:
        self._context = context
        self._made = made
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> int:
        """Listens; returns the port that it is.

        Raises:
            OSError: The address cannot be had.
        """
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        self._listener = socket.create_server(address, family=family, backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._begin(self._accept(self._listener))
        return int(self._listener.getsockname()[1])

    async def close(self) -> None:
        """Listens no more, and gives up handshakes under way; connections that were handed on stay."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            with contextlib.suppress(ConnectionAbortedError):  # it left while it waited
                end, _ = await self._loop.sock_accept(listener)
                self._begin(self._encrypt(end))

    async def _encrypt(self, end: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._made,
                end,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE,
                ssl_shutdown_timeout=_SHUTDOWN,
            )
        except OSError as error:  # ssl.SSLError is one
            end.close()
            self._failed(fault_of(error))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
