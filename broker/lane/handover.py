"""The way of a client from the lane to amqtt, behind the same port.

The lane stays in front of a connection that it handed on: it still frames and checks every packet and
still serves `items/…` and `u/…`, which amqtt never sees; frames (`f/…`) are refused from then on. All
other packets go to amqtt as they came. amqtt is told of the client by a replay of its CONNECT; the
CONNACK that it answers is swallowed when the lane had already sent one.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from amqtt.adapters import StreamReaderAdapter, WriterAdapter

from devices.packets import Connect, encode

if TYPE_CHECKING:
    import ssl

    from broker.lane.connection import Connection

_CONNACK_BYTES = 4

_GRACE = 0.1
"""Seconds that amqtt has for what came before DISCONNECT."""


class _Writer(WriterAdapter):
    """What amqtt writes to: the client's transport, less a CONNACK that it has had already."""

    def __init__(self, connection: Connection, *, swallow: int) -> None:
        self._connection = connection
        self._swallow = swallow

    def write(self, data: bytes) -> None:
        if self._swallow:
            self._swallow, data = (
                max(0, self._swallow - len(data)),
                data[self._swallow :],
            )
        if data and self._connection.closed_for is None:
            self._connection.transport.write(data)

    async def drain(self) -> None:
        """Nothing to wait for: a client that reads too slowly is cut off by the lane."""

    def get_peer_info(self) -> tuple[str, int] | None:
        return self._connection.peer

    def get_ssl_info(self) -> ssl.SSLObject | None:
        found: ssl.SSLObject | None = self._connection.transport.get_extra_info("ssl_object")
        return found

    async def close(self) -> None:
        self._connection.close("closed_by_amqtt")


class Foreign:
    """amqtt's side of one connection that was handed on.

    Args:
        connection: The client's connection.
        connect: Its CONNECT, less a will that the lane keeps.
        answered: Whether the client has had its CONNACK.

    Attributes:
        token: Stands in the place of the client's password, which is none of amqtt's business: by it
            amqtt's session is known to be that of a client that the lane has authenticated.
    """

    __slots__ = ("_last", "_left", "_reader", "_stays", "reader", "token", "writer")

    def __init__(self, connection: Connection, connect: Connect, *, answered: bool) -> None:
        self.token = secrets.token_hex(16)
        self._stays = not connect.clean_session
        self._last = b""  # DISCONNECT, once the client has sent it
        self._left = False
        self._reader = asyncio.StreamReader()
        self._reader.set_transport(connection.transport)
        replayed = replace(
            connect,
            # The lane watches over it: amqtt sees neither pings nor what the feed takes.
            keep_alive=0,
            username=connect.client_id if connect.username is None else connect.username,
            password=self.token.encode(),
        )
        self._reader.feed_data(encode(replayed))
        self.reader = StreamReaderAdapter(self._reader)
        self.writer = _Writer(connection, swallow=_CONNACK_BYTES if answered else 0)

    def forward(self, raw: bytes) -> None:
        """Passes one packet on as it came."""
        self._reader.feed_data(raw)

    def disconnect(self, raw: bytes) -> None:
        """Passes DISCONNECT on, upon which amqtt ends by itself.

        Upon DISCONNECT, and upon the end of the stream, amqtt drops what it has not worked off:
        mosquitto_pub's one message at QoS 0, for example. So it gets a moment; but not where a
        session stays, as whatever comes for it meanwhile would be sent to nobody. An end of the
        stream right behind DISCONNECT would make amqtt miss that as well, and publish the will.
        """
        self._last = raw
        if self._stays:
            self.finish()
        else:
            asyncio.get_running_loop().call_later(_GRACE, self.finish)

    def finish(self) -> None:
        """Passes DISCONNECT on now, if it is still to come."""
        if self._last and not self._left:
            self._left = True
            self._reader.feed_data(self._last)

    def eof(self) -> None:
        """The client is gone."""
        if not self._last:
            self._reader.feed_eof()
