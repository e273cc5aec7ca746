"""One gateway put together: store, registry, engine, service, presence, uplinks, control socket."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from broker import ranking_state
from broker.admin import handlers
from broker.cluster.stores import shared_store
from broker.control import SOCKET_NAME, ControlServer
from broker.counters import Counters
from broker.figures import tree
from broker.figures.reading import Figures
from broker.gateway.gateway_service import GatewayService
from broker.gateway.ingest import Election, Ingest, Taking
from broker.gateway.metrics import Metrics
from broker.gateway.presence import Presence
from broker.gateway.uplink import Uplink
from broker.gateway.worker import Worker
from broker.server import load_registry, node_name
from broker.web import opening
from broker.web.subject import Subject
from feedgen.engine import Engine
from feedgen.store.base import PutDevice
from feedgen.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker.config import Config
    from broker.gateway.address import BrokerAddress
    from broker.overload.senders import Source
    from broker.web.server import WebServer
    from devices.packets import Publish
    from feedgen.ranking.following import Following
    from feedgen.ranking.ranking import Ranking
    from feedgen.store.base import Loaded, Store
    from feedgen.store.shared import SharedStore

logger = logging.getLogger(__name__)

_PUBLISHERS: Source = ("", "all publishers")
_TICK = 0.5
_LEAVING = 5.0
"""Seconds that a stopping worker waits for the store."""
_LOOKS = 4
"""So many times within the ack limit it is looked who is over it."""


class Gateway:
    """Everything that runs beside an outside broker.

    Args:
        config: The settings.
        address: Where the broker is.
        shared: A store that other gateways use, too, in the place of that of the settings.

    Attributes:
        node: This gateway among those that share its store; None if it is alone.
        figures: What operators see.
        frames: The uplink that carries frames.
        ingest: Those that bring items and what devices say.
        web: Where operators look in a browser; None without such a port.
        stopping: Whether it has begun to end.
    """

    def __init__(
        self, config: Config, address: BrokerAddress, shared: SharedStore | None = None
    ) -> None:
        self.config = config
        self.address = address
        self.addresses: list[tuple[str, int]] = []  # none of our own
        self.counters = Counters()
        if shared is None and config.store.url is not None:
            shared = shared_store(config.store)
        self._shared = shared
        self.store: Store = SqliteStore(config.data) if shared is None else shared
        self.node: Worker | None = None
        self.web: WebServer | None = None
        self._election: Election | None = None
        self._loop = asyncio.get_running_loop()
        self.stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._untaken: deque[tuple[Publish, Callable[[], None]]] = deque()
        self._next_metrics = 0.0

    # ---- Life

    async def start(self) -> None:
        """Reads the store and connects, however long the broker is not there.

        Raises:
            StoreError: The store cannot be used.
            UplinkRefused: The broker refuses.
            OSError: The file of authorities cannot be read.
            InvalidConfig: The port for operators lacks something.
            ControlError: The control socket or the port for operators cannot be opened.
        """
        config = self.config
        opening.require(config.http)
        loaded = await self._open()
        try:
            self._put_together(loaded)
            if self.node is not None:
                await self.node.warm_up()
        except BaseException:
            await self.store.close(clean=loaded.clean)
            raise
        self.service.join(self.presence)  # type: ignore[arg-type] # all that it needs of a lane
        commands = handlers(self, loaded.key)  # type: ignore[arg-type] # all that it needs of a server
        self._control = ControlServer(config.data / SOCKET_NAME, commands)
        try:
            await self._control.start()
            # Before the broker answers, as that may be long: operators see what is waited for.
            self.web = await opening.open_port(Subject.of_gateway(self, commands))
            await self.frames.start()
            await self._begin_ingest()
        except BaseException:
            await self.stop()
            raise
        self.figures.start()
        self._on_timer()
        logger.info(
            "%d items, %d devices read; the last run ended %s",
            len(loaded.records),
            len(loaded.devices),
            "in order" if loaded.clean else "without warning: positions start new epochs",
        )

    async def _open(self) -> Loaded:
        """Reads the store: all of it, or as a worker what all workers need."""
        config = self.config
        if self._shared is None:
            loaded = self.store.open()
            self.registry, self._outdated = load_registry(
                config, loaded.devices, clean=loaded.clean
            )
            return loaded
        self.registry, self._outdated = load_registry(config, (), clean=True)
        config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = config.cluster.node or node_name()
        self.node = Worker(name, self._shared, self.registry, config.cluster)
        return await self.node.join()

    def _put_together(self, loaded: Loaded) -> None:
        config, node = self.config, self.node
        ranking = self._ranking(loaded.key)
        self.service = GatewayService(
            config=config,
            store=self.store,
            loaded=loaded,
            registry=self.registry,
            engine=Engine(
                landmark=time.time(),
                settings=ranking_state.value_settings(config.ranking),
                scoring=ranking,
                repeats=None if ranking is None else ranking.settings.repeats,
                record_decisions=config.ranking.decisions,
            ),
            counters=self.counters,
            ranking=ranking,
            **({} if node is None else node.parts()),
        )
        own = "" if node is None else f"-{node.name}"
        self.metrics = Metrics(
            config.feed.prefix, config.gateway.instance or config.gateway.client_id + own
        )
        self.frames: Uplink = self._uplink(own, "", _Frames(self))
        self.ingest: Ingest = Ingest(self._uplink, config.feed.prefix, self.item, self.up)
        self.figures: Figures = Figures(self.service, node=node, links=self)
        self.presence = Presence(config, self.service, self.counters, self._read_items)
        self.service.load.reader = self
        self.service.sending.through(self.frames)
        self._take_up = self.presence.up
        if node is not None:
            node.serve(self.service, self.presence)
            self._take_up = node.up

    def _uplink(self, suffix: str, topic_filter: str, taker: Taking | _Frames) -> Uplink:
        gateway, is_frames = self.config.gateway, not topic_filter
        return Uplink(
            address=self.address,
            client_id=gateway.client_id + suffix,
            filters=[topic_filter] if topic_filter else [],
            taker=taker,
            counters=self.counters,
            keep_alive=gateway.keep_alive,
            max_waiting=gateway.max_waiting,
            max_packet=self.config.limits.max_packet,
            # A worker without a name of its own would leave sessions that nobody ever ends.
            clean=is_frames and self.node is not None and self.config.cluster.node is None,
            will=self.metrics.will if is_frames else None,
        )

    def _ranking(self, key: bytes) -> Ranking | Following | None:
        """The learned ranking with what it learned so far; None if another one was chosen."""
        section, data = self.config.ranking, self.config.data
        if section.model != "learned":
            return None
        settings = ranking_state.ranking_settings(section, key)
        if self.node is not None:
            return ranking_state.following(settings, time.time())
        return ranking_state.load(settings, data, self.counters, time.time())

    async def _begin_ingest(self) -> None:
        """Takes in what comes, or stands for election to; goes on with those who were there."""
        if self.node is None or self._shared is None:
            await self.ingest.start()
            restoring = self.presence.restore_all()
        else:
            self._election = Election(self._shared, self.ingest)
            self._election.start()
            restoring = self.node.look_around()
        self._restoring = self._loop.create_task(restoring)

    async def stop(self) -> None:
        """Keeps every position, acknowledges what is stored, and leaves the broker.

        Raises:
            StoreError: What was pending could not be written.
        """
        self.stopping = True  # what still comes stays the broker's
        if self.web is not None:
            await self.web.stop()
        self.figures.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._restoring is not None:
            self._restoring.cancel()
        await self._control.stop()
        if self.node is not None:
            await self._let_others_ingest()
            await self.node.stop()
        profiles = map(self.registry.get, self._outdated)
        outdated = [PutDevice(p.device, p.pack()) for p in profiles if p is not None]
        if outdated:
            self.store.submit(outdated)
        try:
            await self.service.stop()
        finally:
            await asyncio.sleep(0)  # the PUBACKs of what was stored last
            self._publish_metrics([("up", "0")])
            await asyncio.gather(self.ingest.stop(), self.frames.stop())

    async def _let_others_ingest(self) -> None:
        """Acknowledges what was taken in, if the store is there, and leaves the rest to the others."""
        durable = asyncio.Event()
        self.service.barrier(durable.set)
        try:
            async with asyncio.timeout(_LEAVING if self.store.up else 0):
                await durable.wait()
        except TimeoutError:
            logger.warning(
                "the store is away: what it has not taken comes again, to another worker"
            )
        await asyncio.sleep(0)  # the PUBACKs
        if self._election is not None:
            await self._election.stop()

    # ---- What the uplinks bring

    def item(self, publish: Publish, done: Callable[[], None]) -> None:
        """A message of a publisher."""
        if self._refuses(publish, done):
            return
        if self._untaken or not self._take_item(publish, done):
            self._untaken.append((publish, done))
            self.ingest.pause_items()
        elif not self._reads_items:
            self.ingest.pause_items()

    @property
    def _reads_items(self) -> bool:
        """Whether the broker is to bring more items.

        Who published them it does not say. So all publishers are one here: what stops one elsewhere, a
        budget or level 5 of overload, leaves the items of all to the broker for a while.
        """
        service = self.service
        return not self._untaken and not service.congested and service.reads(_PUBLISHERS)

    def _read_items(self) -> None:
        """Reads on, unless there is a reason to wait."""
        if self._reads_items:
            self.ingest.resume_items()

    @property
    def bytes_waiting(self) -> int:
        """Bytes of frames that the broker has not acknowledged."""
        return self.frames.window.waiting

    def read_again(self, sources: Sequence[Source]) -> None:
        """Those who were stopped are read again: here, all are."""
        del sources
        self._read_items()

    def adopt(self, config: Config) -> None:
        """Goes by other settings of overload control and of budgets from now on."""
        self.config = config.model_copy(update={"open": self.config.open})
        self.service.adopt(self.config)

    def _take_item(self, publish: Publish, done: Callable[[], None]) -> bool:
        channel = publish.topic[len(self.config.feed.prefix) + len("items/") :]
        return self.service.item(
            channel,
            publish.payload,
            dup=publish.dup,
            done=done,
            publisher="",
            qos=publish.qos,
            source=_PUBLISHERS,
        )

    def up(self, publish: Publish, done: Callable[[], None]) -> None:
        """A message of a device."""
        if not self._refuses(publish, done):
            device = publish.topic[len(self.config.feed.prefix) + len("u/") :]
            self._take_up(device, publish.payload, done)

    def _refuses(self, publish: Publish, done: Callable[[], None]) -> bool:
        """Whether a message is not taken: we are leaving, or it was retained and so is of any age."""
        if publish.retain and not self.stopping:
            self.counters.dropped["retained"] += 1
            done()
        return self.stopping or publish.retain

    def linked(self) -> None:
        """Frames can be sent again."""
        self.presence.excuse(self._loop.time())
        self.service.sending.catch_up()
        self.metrics.all_again()
        self._next_metrics = 0.0

    # ---- The timer

    def _on_timer(self) -> None:
        every = min(_TICK, self.config.gateway.ack_limit / _LOOKS)
        self._timer = self._loop.call_later(every, self._on_timer)
        while self._untaken and self._take_item(*self._untaken[0]):
            self._untaken.popleft()
        if self.ingest.paused:
            # The store tells when it has worked something off, but the engine does not, nor whoever
            # brings item numbers: with nothing on its way to the store, nobody would.
            self._read_items()
        now = self._loop.time()
        if not self.frames.up:
            return
        if self.node is None or self.store.up:
            self.presence.watch(now)
        else:
            self.presence.excuse(now)  # acks may be waiting for the store
        interval = self.config.gateway.sys_interval
        if interval and now >= self._next_metrics:
            self._next_metrics = now + interval
            self._publish_metrics(self.leaves())

    def leaves(self) -> list[tuple[str, str]]:
        """What operators are told of the gateway: paths below `feed/sys/<instance>/`, and texts."""
        return [("up", "1"), *tree.leaves(self.figures.read())]

    def _publish_metrics(self, leaves: list[tuple[str, str]]) -> None:
        if self.config.gateway.sys_interval and self.frames.up:
            self.frames.publish(self.metrics.packets(leaves), None)


class _Frames:
    """What the uplink that carries frames tells."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def message(self, publish: Publish, done: Callable[[], None]) -> None:
        """Nothing is subscribed to there; what an old session still brings is not wanted."""
        del publish
        done()

    def linked(self) -> None:
        """Frames can be sent."""
        self._gateway.linked()

    def unlinked(self) -> None:
        """Rows are marked as behind meanwhile."""

    def roomy(self) -> None:
        """Those can catch up."""
        self._gateway.service.sending.catch_up()
