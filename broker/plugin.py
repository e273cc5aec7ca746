"""fleetfeed as a plugin of amqtt.

Loaded by `fleetfeed serve`, or by a stock `amqtt -c broker.yaml`:

    listeners:
      default:
        type: external
    plugins:
      broker.plugin.FeedPlugin:
        config: fleetfeed.toml
      amqtt.plugins.sys.broker.BrokerSysPlugin:
        sys_interval: 20

The plugin opens the MQTT port itself and serves devices and publishers there; everybody else is handed
on to the amqtt around it. It answers for the clients that it handed on when amqtt authenticates them,
and keeps the feed's topics out of amqtt's own listeners.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin

from broker.amqtt_seam import Amqtt
from broker.config_layers import load
from broker.server import Server
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from amqtt.broker import BrokerContext
    from amqtt.session import Session

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
        self._amqtt = Amqtt(context)
        self.server: Server | None = None
        self.failure: Exception | None = None

    async def on_broker_post_start(self) -> None:
        """Opens the port. A failure is kept: amqtt would swallow it."""
        try:
            config = self._load()
            foreigners = self._amqtt if config.handover.enabled else None
            server = Server(config, foreigners)
            await server.start()
        except Exception as error:  # noqa: BLE001 (of any kind: amqtt would not tell)
            self.failure = error
            if self.config.embedded is None:
                logger.critical("the feed could not start: %s", error)
                asyncio.get_running_loop().stop()
            return
        self.server = server
        logger.info("listening on %s:%d", *server.address)

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
        try:
            await self.server.stop()
        except StoreError as error:
            self.failure = error
            logger.critical("what was not yet stored is lost: %s", error)

    def exit_code(self) -> int:
        """0 unless something failed."""
        return 0 if self.failure is None else 1

    async def authenticate(self, *, session: Session) -> bool | None:
        """Yes to the clients that the lane authenticated before it handed them on."""
        return True if self._amqtt.is_admitted(session) else None

    async def topic_filtering(
        self,
        *,
        session: Session | None = None,  # noqa: ARG002 (amqtt's signature)
        topic: str | None = None,
        action: Action | None = None,  # noqa: ARG002 (amqtt's signature)
    ) -> bool | None:
        """No to the feed's topics: they are served by the lane, where an item is durable first."""
        if self.server is None or topic is None:
            return True
        return not self.server.rules.is_feed_filter(topic)
