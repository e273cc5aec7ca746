"""The one file that knows amqtt's inside, and the bridge between amqtt and the lane's exchange.

The lane serves every client of its ports itself. amqtt is the broker around it: its other plugins publish
(`$SYS/…`), and clients of listeners of its own may be there. What those publish reaches the subscribers
in the lane, and what the lane's clients publish reaches theirs.

Everything is done through amqtt's public interfaces: plugin events, `BrokerContext`, adapters and
external listeners. What is not public, and why it is needed, stands here; `tests/broker/test_amqtt_seam.py`
pins it to the release named in `pyproject.toml`:

`BrokerContext._broker_instance`: a plugin of a stock `amqtt -c` is given the context alone, but
`Broker.external_connected`, which is public, is a method of the broker.

`Broker._subscriptions`: amqtt walks over it while it asks its plugins whether each subscriber may receive a
message. Whoever subscribes or leaves meanwhile ends the walk with an error, and the message is lost for
the rest; so the bridge puts a `_Subscriptions` in its place, of which each walk has its own copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import TYPE_CHECKING, Any

from amqtt.adapters import StreamReaderAdapter, WriterAdapter
from amqtt.contexts import ListenerType

from broker.lane.outbox import Message
from devices.packets import (
    Connect,
    Decoder,
    Disconnect,
    MalformedPacket,
    Publish,
    Subscribe,
    encode,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from amqtt.broker import Broker, BrokerContext
    from amqtt.session import ApplicationMessage, Session

    from broker.counters import Counters
    from broker.lane.exchange import Exchange

logger = logging.getLogger(__name__)

LISTENER = "default"
"""The listener under whose name the bridge is connected; amqtt requires this one."""

_SYS_PLUGIN = "BrokerSysPlugin"
_AGAIN = 1.0
"""Seconds until the bridge connects anew to an amqtt that has let it go."""
_MAX_WAITING = 10_000
"""Messages on their way to clients of amqtt's own listeners."""


class Bridge:
    """Between amqtt and the lane's exchange, in both directions.

    Args:
        context: The plugin's context.
        exchange: The lane's.
        counters: What was dropped is counted here.
    """

    def __init__(self, context: BrokerContext, exchange: Exchange, counters: Counters) -> None:
        self._context = context
        self._broker: Broker = context._broker_instance  # noqa: SLF001 (see the module's docstring)
        self._exchange = exchange
        self._counters = counters
        self._token = secrets.token_hex(16)
        self._outward: asyncio.Queue[tuple[Message, bool]] = asyncio.Queue(_MAX_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._reader = asyncio.StreamReader()
        self._stopping = False

    def start(self) -> None:
        """Connects both sides."""
        # Before anything is awaited, so that no walk is under way over the one that is replaced.
        self._broker._subscriptions = _Subscriptions(self._broker.subscriptions)  # noqa: SLF001
        self._tasks.append(asyncio.ensure_future(self._listen()))
        if self._exchange.told:
            self._silence_amqtt()
        if has_listeners(self._broker):
            self._exchange.outward = self._take
            for message in self._exchange.told:
                self._take(message, True)
            self._tasks.append(asyncio.ensure_future(self._pass_on()))

    def _silence_amqtt(self) -> None:
        """Only one may tell a topic. amqtt's plugin for `$SYS` has most of ours, and knows other numbers."""
        plugin: Any = self._broker.plugins_manager.get_plugin(_SYS_PLUGIN)
        if plugin is not None:
            logger.info("fleetfeed tells $SYS: amqtt's %s is stopped", _SYS_PLUGIN)
            self._tasks.append(asyncio.ensure_future(plugin.on_broker_pre_shutdown()))

    async def stop(self) -> None:
        """Parts them."""
        self._stopping = True
        self._exchange.outward = None
        self._reader.feed_data(encode(Disconnect()))
        self._reader.feed_eof()
        _, late = await asyncio.wait(self._tasks[:1], timeout=_AGAIN)
        for task in (*late, *self._tasks[1:]):
            task.cancel()

    # ---- From amqtt

    def is_admitted(self, session: Session) -> bool:
        """Whether this session of amqtt is the bridge's own."""
        # Not by its id, under which anybody may come by another listener of amqtt's.
        password = session.password
        return isinstance(password, str) and secrets.compare_digest(
            password.encode(), self._token.encode()
        )

    def received(self, message: ApplicationMessage) -> None:
        """A client of one of amqtt's own listeners has published, and amqtt permitted it."""
        if message.topic.startswith("$"):
            return
        packet = message.publish_packet
        retain = bool(packet is not None and packet.retain_flag)
        self._exchange.distribute(
            Message(message.topic, bytes(message.data), message.qos or 0), retain=retain
        )

    async def _listen(self) -> None:
        """A client of amqtt that subscribes to what amqtt's plugins publish, for as long as we run.

        Under an id that nobody can guess: whoever came to a listener of amqtt's with the same one would
        take its place.
        """
        while not self._stopping:
            name = f"fleetfeed-bridge-{secrets.token_hex(16)}"
            self._reader = asyncio.StreamReader()
            self._reader.feed_data(encode(Connect(name, True, 0, name, self._token.encode())))
            self._reader.feed_data(encode(Subscribe(1, (("$SYS/#", 0),))))
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._broker.external_connected(
                    StreamReaderAdapter(self._reader), _Writer(self._published), LISTENER
                )
            if not self._stopping:
                logger.warning("amqtt has let the bridge go; it comes back in %g s", _AGAIN)
                await asyncio.sleep(_AGAIN)

    def _published(self, packet: Publish) -> None:
        # Whatever else amqtt sends a client that has just connected is not for `$SYS`. What we tell comes
        # back, and what amqtt tells on the same topics is its own, which has none of the lane's clients.
        if packet.topic.startswith("$SYS/") and not self._exchange.is_told(packet.topic):
            self._exchange.distribute(Message(packet.topic, packet.payload), retain=False)

    # ---- To amqtt

    def _take(self, message: Message, retain: bool) -> None:
        try:
            self._outward.put_nowait((message, retain))
        except asyncio.QueueFull:
            self._counters.dropped["amqtt_too_slow"] += 1

    async def _pass_on(self) -> None:
        while True:
            message, retain = await self._outward.get()
            await self._context.broadcast_message(message.topic, message.payload, message.qos)
            if retain:
                await self._context.retain_message(message.topic, message.payload, message.qos)


class _Subscriptions(dict[str, "list[tuple[Session, int]]"]):
    """amqtt's subscriptions by filter, which may change under whoever walks over them.

    A walk costs a copy. amqtt matches each filter against the topic on the way, which costs far more.
    """

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.keys()))

    def items(self) -> Any:
        return [(name, list(subscribers)) for name, subscribers in super().items()]


class _Writer(WriterAdapter):
    """What amqtt writes to the bridge: packets, of which the PUBLISHes count."""

    def __init__(self, published: Callable[[Publish], None]) -> None:
        self._published = published
        self._decoder = Decoder(role="client", max_packet=1 << 20)

    def write(self, data: bytes) -> None:
        with contextlib.suppress(MalformedPacket):
            for packet, _ in self._decoder.feed(data):
                if isinstance(packet, Publish):
                    self._published(packet)

    async def drain(self) -> None:
        """Nothing waits here."""

    def get_peer_info(self) -> tuple[str, int]:
        return ("127.0.0.1", 0)

    def get_ssl_info(self) -> ssl.SSLObject | None:
        return None

    async def close(self) -> None:
        """There is nothing to close."""


def has_listeners(broker: Broker) -> bool:
    """Whether amqtt has clients of its own."""
    return any(each.type != ListenerType.EXTERNAL for each in broker.listeners_config.values())


def external_listener() -> dict[str, object]:
    """The configuration of a broker that opens no port of its own."""
    return {LISTENER: {"type": "external"}}
