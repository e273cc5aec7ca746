"""One feed server put together: store, registry, engine, service, door, lane, control socket."""

from __future__ import annotations

import logging
import secrets
import socket
import time
from typing import TYPE_CHECKING

from broker import ranking_state
from broker.access.door import Door
from broker.access.rules import Rules
from broker.access.tls import server_context
from broker.admin import handlers
from broker.cluster.node import Node
from broker.cluster.stores import shared_store
from broker.control import SOCKET_NAME, ControlServer
from broker.counters import Counters
from broker.figures.publishing import SysPublisher
from broker.figures.reading import Figures
from broker.lane.exchange import Exchange
from broker.lane.listener import Lane
from broker.service import Service
from broker.web import opening
from broker.web.subject import Subject
from devices.profile import Profile
from devices.registry import Registry
from feedgen.engine import Engine
from feedgen.store.base import PutDevice
from feedgen.store.sqlite import SqliteStore

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from broker.config import Config
    from broker.web.server import WebServer
    from feedgen.ranking.following import Following
    from feedgen.ranking.ranking import Ranking
    from feedgen.store.base import Loaded, Store
    from feedgen.store.shared import SharedStore

logger = logging.getLogger(__name__)


class Server:
    """Everything that runs behind one or two ports.

    Args:
        config: The settings.
        shared: A store that other servers use, too, in the place of that of the settings.

    Attributes:
        node: This server among those that share its store; None if it is alone.
        addresses: What was bound: the plaintext port, the TLS port, or both in this order.
        exchange: All topics that are not the feed's.
        figures: What operators see.
        web: Where they see it in a browser; None without such a port.
        stopping: Whether it has begun to end.
    """

    def __init__(self, config: Config, shared: SharedStore | None = None) -> None:
        self.config = config
        self.counters = Counters()
        if shared is None and config.store.url is not None:
            shared = shared_store(config.store)
        self._shared = shared
        self.store: Store = SqliteStore(config.data) if shared is None else shared
        self.node: Node | None = None
        self.exchange = Exchange(config.topics, self.counters)
        self.addresses: list[tuple[str, int]] = []
        self.web: WebServer | None = None
        self.stopping = False
        self._sys: SysPublisher | None = None

    @property
    def address(self) -> tuple[str, int]:
        """The first port."""
        return self.addresses[0]

    async def start(self) -> None:
        """Reads the store and opens the ports.

        Raises:
            StoreError: The store cannot be used.
            TlsError: A certificate or key cannot be used.
            InvalidConfig: The port for operators lacks something.
            OSError: An address cannot be bound.
            ControlError: The control socket or the port for operators cannot be opened.
        """
        config = self.config
        opening.require(config.http)
        tls = server_context(config.tls) if config.tls.bind is not None else None
        loaded = await self._open()
        try:
            ranking = self._ranking(loaded.key)
            engine = Engine(
                landmark=time.time(),
                settings=ranking_state.value_settings(config.ranking),
                scoring=ranking,
                repeats=None if ranking is None else ranking.settings.repeats,
                record_decisions=config.ranking.decisions,
            )
            node = self.node
            self.service = Service(
                config=config,
                store=self.store,
                loaded=loaded,
                registry=self.registry,
                engine=engine,
                counters=self.counters,
                ranking=ranking,
                **({} if node is None else node.parts()),
            )
            self.rules = Rules(
                prefix=config.feed.prefix,
                refused=config.topics.refused,
                others=config.topics.enabled,
            )
            self.door = Door(
                config,
                registry=self.registry,
                key=loaded.key,
                counters=self.counters,
                on_promoted=self.service.profiles.save,
                passwords_exist=node is not None,
            )
            self.lane = Lane(
                door=self.door if node is None else node.door(self.door),
                rules=self.rules,
                feed=self.service,
                host=self.service if node is None else node.host(self.service),
                exchange=self.exchange,
                counters=self.counters,
                limits=config.limits,
                pace=self.service.overload.pace,
            )
            self.service.lane = self.service.load.reader = self.lane
            if node is not None:
                await node.warm_up()
            if config.plain:
                self.addresses.append(await self.lane.listen(config.host, config.port))
            if tls is not None:
                self.addresses.append(await self.lane.listen(config.tls.host, config.tls.port, tls))
        except BaseException:
            # Nobody was sent anything: what was kept at the last stop still holds.
            await self.store.close(clean=loaded.clean)
            raise
        self.service.join(self.lane)
        self._begin_figures()
        commands = handlers(self, loaded.key)
        self._control = ControlServer(config.data / SOCKET_NAME, commands)
        try:
            await self._control.start()
            self.web = await opening.open_port(Subject.of_server(self, commands))
        except BaseException:
            await self._stop()
            raise
        if node is not None:
            logger.info("node %s has joined: %d items read", node.name, len(loaded.records))
            return
        logger.info(
            "%d items, %d devices read; the last run ended %s",
            len(loaded.records),
            len(loaded.devices),
            "in order" if loaded.clean else "without warning: positions start new epochs",
        )

    def _begin_figures(self) -> None:
        """Measures from now on, and tells `$SYS`."""
        self.figures = Figures(self.service, self.lane, self.exchange, node=self.node)
        self.figures.start()
        topics = self.config.topics
        if topics.enabled and topics.sys_interval:
            self._sys = SysPublisher(self.figures, self.exchange, topics.sys_interval)
            self._sys.start()

    def tell_every(self, interval: float) -> None:
        """Tells `$SYS` as often from now on, where it is told at all."""
        if self._sys is not None:
            self._sys.tell_every(interval)

    async def _open(self) -> Loaded:
        """Reads the store: all of it, or as a node what all nodes need."""
        config = self.config
        if self._shared is None:
            loaded = self.store.open()
            try:
                self.registry, self._outdated = load_registry(
                    config, loaded.devices, clean=loaded.clean
                )
            except BaseException:
                await self.store.close(clean=loaded.clean)
                raise
            return loaded
        self.registry, self._outdated = load_registry(config, (), clean=True)
        config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = config.cluster.node or node_name()
        self.node = Node(name, self._shared, self.registry, config.cluster)
        return await self.node.join()

    def _ranking(self, key: bytes) -> Ranking | Following | None:
        """The learned ranking with what it learned so far; None if another one was chosen.

        A node learns nothing by itself: it follows what one of all learns.
        """
        section, data = self.config.ranking, self.config.data
        if section.model != "learned":
            return None
        settings = ranking_state.ranking_settings(section, key)
        if self.node is not None:
            return ranking_state.following(settings, time.time())
        return ranking_state.load(settings, data, self.counters, time.time())

    async def drain(self, hurry: asyncio.Event) -> None:
        """Of several servers, lets clients go to the others, a few at a time; `hurry` ends it."""
        self.stopping = True
        if self.node is not None:
            await self.node.drain(hurry)

    async def stop(self) -> None:
        """Closes the ports and keeps every position."""
        if self.web is not None:
            await self.web.stop()
        await self._stop()
        self.door.close()

    async def _stop(self) -> None:
        """Before the store may say that its positions hold, those that do not are taken out."""
        await self._control.stop()
        self.figures.stop()
        if self._sys is not None:
            self._sys.stop()
        if self.node is not None:
            await self.lane.stop()
            await self.node.stop()
        profiles = map(self.registry.get, self._outdated)
        outdated = [PutDevice(p.device, p.pack()) for p in profiles if p is not None]
        if outdated:
            self.store.submit(outdated)
        await self.service.stop()


def node_name() -> str:
    """A name that no other node has: the machine's, and a random part."""
    machine = "".join(c for c in socket.gethostname() if c.isalnum() or c in "-.")[:48] or "node"
    return f"{machine}-{secrets.token_hex(3)}"


def load_registry(
    config: Config, devices: Iterable[tuple[str, bytes]], *, clean: bool
) -> tuple[Registry, list[str]]:
    """The registry as it was stored, and the devices whose stored positions do not hold.

    Positions only count after a clean end.
    """
    feed = config.feed
    registry = Registry(
        open_mode=config.open_mode,
        default_follow=feed.default_follow,
        permitted=feed.permitted,
        schema=None if feed.attributes is None else frozenset(feed.attributes),
        prefix=feed.prefix,
    )
    outdated = []
    for device, packed in devices:
        profile = Profile.unpack(device, packed)
        if not clean and profile.session is not None:
            profile.session = None
            outdated.append(device)
        registry.restore(profile)
    return registry, outdated
