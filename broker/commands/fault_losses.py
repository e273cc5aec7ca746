"""What `fleetfeed faults --losses` does: how many acknowledged items each way to keep Redis loses when it dies."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table

from broker.commands.fault_redis import DURABILITY, MASTERS, RedisCluster, program
from broker.commands.fault_store import StoreWitness
from feedgen.catalog import Catalog
from feedgen.items import Item
from feedgen.store.redis import RedisStore
from feedgen.store.redis.settings import RedisSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from feedgen.items import Record
    from feedgen.store.shared import SharedStore

Fault = Literal["restart", "failover"]

_BEFORE_KILL = 1.0
"""Seconds of load before a master is killed."""
_PACE = 0.002
_BATCH = 4
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to keep Redis.

    Attributes:
        durability: A key of `DURABILITY`.
        wait: Replicas that must have an item before it is acknowledged.
    """

    durability: str
    wait: int


SETTINGS = tuple(itertools.starmap(Setting, itertools.product(DURABILITY, (1, 0))))
FAULTS: tuple[Fault, ...] = ("restart", "failover")


@dataclass(slots=True)
class Losses:
    """What came of one setting under one fault.

    Attributes:
        kills: Masters that were killed.
        acknowledged: Items acknowledged in all.
        lost: Those of them that were gone afterwards.
        worst: The most that one kill took.
    """

    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    worst: int = 0

    def add(self, acknowledged: int, lost: int) -> None:
        """One kill more."""
        self.kills += 1
        self.acknowledged += acknowledged
        self.lost += lost
        self.worst = max(self.worst, lost)


@dataclass(slots=True)
class _Writer:
    """Has a store accept items as fast as it does, and remembers which were acknowledged."""

    store: SharedStore
    acknowledged: set[int] = field(default_factory=set)
    under_way: int = 0

    async def write(self) -> None:
        """Until it is cancelled."""
        catalog = Catalog(number=self.store.number)
        for serial in itertools.count():
            item = Item("losses", f"item-{serial}", f"payload {serial}", ttl=3_600)
            record = catalog.accept(item, round(time.time() * 1_000), dup=False).record
            assert record is not None
            self._put(record)
            if serial % _BATCH == 0:
                await asyncio.sleep(_PACE)

    def _put(self, record: Record) -> None:
        def answered(future: asyncio.Future[Record | None]) -> None:
            self.under_way -= 1
            if not future.cancelled() and future.exception() is None:
                self.acknowledged.add(record.n)

        self.under_way += 1
        self.store.put_item(record, None).add_done_callback(answered)


class _Nobody:
    """The other nodes: there are none."""

    def accepted(self, records: Sequence[Record]) -> None: ...
    def changed(self, device: str, notice: str) -> None: ...
    def taken(self, device: str) -> None: ...
    def told(self, kind: str, body: bytes, node: str) -> None: ...
    def posted(self, bodies: Sequence[bytes]) -> None: ...
    def members(self, nodes: frozenset[str]) -> None: ...
    def missed(self) -> None: ...


def run(*, kills: int, as_json: bool) -> int:
    """Kill so many masters under every setting and fault, print what was lost, and return 0.

    The code is 1 if the durable setting lost anything.

    Raises:
        Failure: There is no redis-server here.
    """
    program()
    found = asyncio.run(_all(kills, None if as_json else Console(stderr=True)))
    if as_json:
        rows = [
            {"redis": setting.durability, "wait": setting.wait, "fault": fault}
            | {"kills": one.kills, "acknowledged": one.acknowledged, "lost": one.lost}
            | {"worst": one.worst}
            for (setting, fault), one in found.items()
        ]
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        Console().print(_table(found))
    return int(any(one.lost for (setting, _), one in found.items() if setting == SETTINGS[0]))


async def _all(kills: int, console: Console | None) -> dict[tuple[Setting, Fault], Losses]:
    found = {}
    for setting, fault in itertools.product(SETTINGS, FAULTS):
        losses = found[setting, fault] = Losses()
        with tempfile.TemporaryDirectory(prefix="fleetfeed-losses-") as directory:
            cluster = RedisCluster(Path(directory) / "redis", setting.durability)
            try:
                await cluster.start()
                for kill in range(kills):
                    losses.add(*await _kill(cluster, setting, fault, kill % MASTERS))
            finally:
                await cluster.close()
        if console is not None:
            console.print(f"{setting.durability}, WAIT {setting.wait}, {fault}: {losses}")
    return found


async def _kill(
    cluster: RedisCluster, setting: Setting, fault: Fault, place: int
) -> tuple[int, int]:
    """Kill a master under load; how many items were acknowledged, and how many are lost."""
    settings = RedisSettings(
        prefix=f"losses-{time.time_ns()}:",
        wait_replicas=setting.wait,
        wait_timeout=0.5,
        timeout=1.0,
    )
    store = RedisStore(cluster.url(), settings)
    witness = StoreWitness(cluster.url(), settings)
    await store.join("losses", _Nobody())
    writer = _Writer(store)
    writing = asyncio.ensure_future(writer.write())
    try:
        await asyncio.sleep(_BEFORE_KILL)
        await cluster.kill(place)
        if fault == "failover":
            await cluster.promoted(place)
        await cluster.start_again()
        await cluster.well()
    finally:
        writing.cancel()
    try:
        async with asyncio.timeout(_PATIENCE):
            while writer.under_way:  # noqa: ASYNC110 - futures of the store tell nobody else
                await asyncio.sleep(_PACE)
        present = {record.n for record in await witness.records()}
        return len(writer.acknowledged), len(writer.acknowledged - present)
    finally:
        await witness.close()
        await store.close(clean=True)


def _table(found: dict[tuple[Setting, Fault], Losses]) -> Table:
    table = Table("append-only file", "WAIT", "fault", box=None, padding=(0, 2, 0, 0))
    for name in ("kills", "acknowledged", "lost", "worst"):
        table.add_column(name, justify="right")
    for row in _rows(found):
        table.add_row(*row)
    return table


def _rows(found: dict[tuple[Setting, Fault], Losses]) -> Iterator[tuple[str, ...]]:
    for (setting, fault), one in found.items():
        figures = (one.kills, one.acknowledged, one.lost, one.worst)
        yield setting.durability, str(setting.wait), fault, *(f"{each:,}" for each in figures)
