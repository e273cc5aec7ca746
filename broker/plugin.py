"""fleetfeed as a plugin of amqtt.

Loaded by `fleetfeed serve`, or by a stock `amqtt -c broker.yaml`:

    listeners:
      default:
        type: external
    plugins:
      broker.plugin.FeedPlugin:
        config: fleetfeed.toml

The plugin opens the MQTT ports itself and serves every client there. Between those and the amqtt around
them a bridge carries all topics that are not the feed's (`amqtt_seam`); the feed's topics are kept out of
amqtt's own listeners. `$SYS` is told by fleetfeed, unless `topics.sys_interval` is 0; amqtt's plugin for it,
where it is loaded, is stopped then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin

from broker.access.rules import Rules
from broker.amqtt_seam import Bridge
from broker.config_layers import load
from broker.server import Server
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from amqtt.broker import BrokerContext
    from amqtt.session import ApplicationMessage, Session

    from broker.config import Config as ServerConfig

logger = logging.getLogger(__name__)


class FeedPlugin(BaseAuthPlugin, BaseTopicPlugin):
    """The feed, in amqtt."""

    @dataclass
    class Config:
        """The plugin's block in amqtt's YAML.

        Attributes:
            config: A fleetfeed TOML file; the environment counts too.
            settings: Settings by dotted name, as `feed.max_inflight`, winning over both.
            embedded: A finished `Config`, where fleetfeed itself starts amqtt.
        """

        config: str | None = None
        settings: dict[str, Any] = field(default_factory=dict)
        embedded: Any = None

    def __init__(self, context: BrokerContext) -> None:
        super().__init__(context)
        self._context = context
        self._bridge: Bridge | None = None
        self._rules: Rules | None = None
        self._settings: ServerConfig | None = None
        self.server: Server | None = None
        self.failure: Exception | None = None

    async def on_broker_pre_start(self) -> None:
        """Reads the settings: before a listener of amqtt's opens, the feed's topics must be known."""
        try:
            self._settings = self._load()
        except Exception as error:  # noqa: BLE001 (of any kind: amqtt would not tell)
            self._fail(error)
            return
        feed, topics = self._settings.feed, self._settings.topics
        self._rules = Rules(prefix=feed.prefix, refused=topics.refused, others=topics.enabled)

    async def on_broker_post_start(self) -> None:
        """Opens the ports. A failure is kept: amqtt would swallow it."""
        if self._settings is None:
            return
        try:
            server = Server(self._settings)
            await server.start()
        except Exception as error:  # noqa: BLE001 (as above)
            self._fail(error)
            return
        self.server = server
        if self.config.embedded is None:
            interrupt_between_turns(asyncio.get_running_loop())
        if self._settings.topics.enabled:
            self._bridge = Bridge(self._context, server.exchange, server.counters)
            self._bridge.start()
        logger.info("listening on %s", ", ".join(f"{h}:{p}" for h, p in server.addresses))

    def _fail(self, error: Exception) -> None:
        self.failure = error
        if self.config.embedded is None:
            logger.critical("the feed could not start: %s", error)
            asyncio.get_running_loop().stop()

    def _load(self) -> ServerConfig:
        if self.config.embedded is not None:
            embedded: ServerConfig = self.config.embedded
            return embedded
        path = Path(self.config.config) if self.config.config else None
        return load(path, os.environ, self.config.settings)

    async def on_broker_pre_shutdown(self) -> None:
        """Closes the port, keeps every position. A failure is kept: amqtt would swallow it."""
        if self.server is None:
            return
        if self._bridge is not None:
            await self._bridge.stop()
        try:
            await self.server.stop()
        except StoreError as error:
            self.failure = error
            logger.critical("what was not yet stored is lost: %s", error)

    def exit_code(self) -> int:
        """0 unless something failed."""
        return 0 if self.failure is None else 1

    async def authenticate(self, *, session: Session) -> bool | None:
        """Yes to the bridge; who else may come to amqtt's own listeners is for other plugins to say."""
        return True if self._bridge is not None and self._bridge.is_admitted(session) else None

    async def topic_filtering(
        self,
        *,
        session: Session | None = None,  # noqa: ARG002 (amqtt's signature)
        topic: str | None = None,
        action: Action | None = None,  # noqa: ARG002 (amqtt's signature)
    ) -> bool | None:
        """No to the feed's topics: they are served by the lane, where an item is durable first."""
        if topic is None:
            return True
        if self._rules is None:
            return False  # the settings cannot be read: nobody knows which topics these are
        return not (self._rules.is_feed_filter(topic) or self._rules.is_refused(topic))

    async def on_broker_message_broadcast(
        self,
        *,
        client_id: str,  # noqa: ARG002 (amqtt's signature)
        message: ApplicationMessage,
    ) -> None:
        """A client of amqtt's own listeners has published."""
        if self._bridge is not None:
            self._bridge.received(message)


def interrupt_between_turns(loop: asyncio.AbstractEventLoop) -> None:
    """Lets Ctrl-C interrupt a loop between two callbacks, not within one.

    A stock amqtt ends in order on a KeyboardInterrupt. Python raises it between any two lines: one of the
    feed's would be left half done, and numpy swallows it where it calls Python itself, so that amqtt goes on.
    Whoever has a handler of their own keeps it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # no main thread
            loop.add_signal_handler(signal.SIGINT, _interrupt)


def _interrupt() -> None:
    raise KeyboardInterrupt
