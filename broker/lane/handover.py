"""The way of a client from the lane to amqtt, behind the same port.

The lane stays in front of a connection that it handed on: it still frames and checks every packet and
still serves `items/…` and `u/…`, which amqtt never sees; frames (`f/…`) are refused from then on. All
other packets go to amqtt as they came. amqtt is told of the client by a replay of its CONNECT; the
CONNACK that it answers is swallowed when the lane had already sent one.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from amqtt.adapters import StreamReaderAdapter, WriterAdapter

from devices.packets import Connect, Subscribe, encode

if TYPE_CHECKING:
    import ssl

    from broker.lane.connection import Connection
    from broker.lane.rules import Rules

_CONNACK_BYTES = 4

_UNGRANTABLE = "#/refused"
"""No filter of MQTT: amqtt answers 0x80 for it, in its place among the others of a SUBSCRIBE."""


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
        rules: What lies within the feed.
        connect: Its CONNECT, less a will that the lane keeps.
        answered: Whether the client has had its CONNACK.
    """

    __slots__ = ("_reader", "_rules", "reader", "writer")

    def __init__(
        self, connection: Connection, rules: Rules, connect: Connect, *, answered: bool
    ) -> None:
        self._rules = rules
        self._reader = asyncio.StreamReader()
        self._reader.set_transport(connection.transport)
        # The lane watches over the keep-alive: amqtt sees neither pings nor what the feed takes.
        self._reader.feed_data(encode(replace(connect, keep_alive=0)))
        self.reader = StreamReaderAdapter(self._reader)
        self.writer = _Writer(connection, swallow=_CONNACK_BYTES if answered else 0)

    def forward(self, raw: bytes) -> None:
        """Passes one packet on as it came."""
        self._reader.feed_data(raw)

    def subscribe(self, packet: Subscribe, raw: bytes) -> None:
        """Passes a SUBSCRIBE on; filters within the feed are refused."""
        filters = tuple(
            (_UNGRANTABLE if self._rules.is_feed_filter(name) else name, qos)
            for name, qos in packet.filters
        )
        unchanged = filters == packet.filters
        self.forward(raw if unchanged else encode(Subscribe(packet.packet_id, filters)))

    def eof(self) -> None:
        """The client is gone."""
        self._reader.feed_eof()
