"""What servers say of their load, heard over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from broker.figures.catalog import FIGURES, Root
from devices.packets import (
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Publish,
    Suback,
    Subscribe,
    encode,
)
from simulator.connection import Publisher as PublisherClient
from simulator.load import Load
from simulator.scenario.gauges import _LEAVES, _REFUSED, Gauges
from tests.broker.support import Served, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OURS = "$SYS/broker/feed/overload/"


class Talker:
    """A server that tells what it is told to, to everybody who asks.

    Attributes:
        filters: What was asked for.
        retained: Topic to text, told to who asks later, too.
    """

    def __init__(self) -> None:
        self.filters: list[str] = []
        self.retained: dict[str, str] = {}
        self._writers: set[asyncio.StreamWriter] = set()

    def tell(self, topic: str, text: str) -> None:
        self.retained[topic] = text
        for writer in self._writers:
            writer.write(encode(Publish(topic, text.encode())))

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = Decoder(role="server", max_packet=4_096)
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while data := await reader.read(4_096):
                for packet, _ in decoder.feed(data):
                    if isinstance(packet, Disconnect):
                        return
                    self._answer(packet, writer)
        self._writers.discard(writer)

    def _answer(self, packet: object, writer: asyncio.StreamWriter) -> None:
        if isinstance(packet, Connect):
            writer.write(encode(Connack(session_present=False, code=0)))
        elif isinstance(packet, Subscribe):
            self.filters += [name for name, _ in packet.filters]
            writer.write(encode(Suback(packet.packet_id, (0,))))
            for topic, text in self.retained.items():
                writer.write(encode(Publish(topic, text.encode(), retain=True)))
            self._writers.add(writer)


@contextlib.asynccontextmanager
async def listening(*talkers: Talker, outside: bool = False) -> AsyncIterator[Gauges]:
    async with contextlib.AsyncExitStack() as opened:
        addresses = []
        for talker in talkers:
            server = await asyncio.start_server(talker.serve, "127.0.0.1", 0)
            opened.push_async_callback(server.wait_closed)
            opened.callback(server.close)
            addresses.append(server.sockets[0].getsockname()[:2])
        gauges = Gauges(addresses, outside=outside)
        staying = asyncio.create_task(gauges.stay())
        try:
            yield gauges
        finally:
            staying.cancel()
            await asyncio.wait([staying])


async def heard(gauges: Gauges, wanted: Load | None) -> None:
    await eventually(lambda: gauges.take() == wanted)


async def test_a_level_and_what_waits_are_heard_in_the_units_of_people() -> None:
    talker = Talker()
    for leaf, text in (
        ("level", "4"),
        ("loop_lag_ms", "12.5"),
        ("oldest_item_ms", "900"),
        ("held/items", "7"),
    ):
        talker.retained[OURS + leaf] = text
    async with listening(talker) as gauges:
        await heard(gauges, Load(4, 0.0125, 0.9, items=7))
        talker.tell(OURS + "held/connects", "3")
        await heard(gauges, Load(4, 0.0125, 0.9, items=7, clients=3))
    assert talker.filters == ["$SYS/broker/feed/overload/#"]
    assert gauges.heard


async def test_a_level_that_rose_and_fell_between_two_looks_is_not_missed() -> None:
    talker = Talker()
    async with listening(talker) as gauges:
        await eventually(lambda: talker.filters)
        for level, marker in (("5", "1"), ("1", "2")):
            talker.tell(f"{OURS}level", level)
            talker.tell(f"{OURS}held/items", marker)
        seen: list[Load] = []

        def told() -> bool:
            found = gauges.take()
            seen.extend([found] if found is not None else [])
            return found is not None and found.items == 2

        await eventually(told)
        assert max(load.level for load in seen) == 5
        assert gauges.take() == Load(1, items=2)


async def test_nothing_is_known_before_a_level_was_told_and_after_the_connection_was_lost() -> None:
    talker = Talker()
    async with listening(talker) as gauges:
        await eventually(lambda: talker.filters)
        talker.tell(f"{OURS}held/items", "7")
        assert gauges.take() is None
        assert not gauges.heard
        talker.tell(f"{OURS}level", "2")
        await heard(gauges, Load(2, items=7))
        talker.retained.clear()
        talker.cut()
        await heard(gauges, None)
        await eventually(lambda: len(talker.filters) == 2)
        talker.tell(f"{OURS}level", "0")
        await heard(gauges, Load(0))


async def test_several_servers_are_heard_as_one_as_far_as_they_are_there() -> None:
    one, other = Talker(), Talker()
    one.retained = {f"{OURS}level": "1", f"{OURS}held/items": "5"}
    async with listening(one, other) as gauges:
        await heard(gauges, Load(1, items=5))
        other.tell(f"{OURS}level", "3")
        other.tell(f"{OURS}held/items", "6")
        await heard(gauges, Load(3, items=11))


async def test_a_gateway_tells_the_same_below_its_own_name() -> None:
    talker = Talker()
    talker.retained = {
        "feed/sys/gate-1/overload/level": "3",
        "feed/sys/gate-1/overload/held/publishers": "1",
    }
    async with listening(talker, outside=True) as gauges:
        await heard(gauges, Load(3, publishers=1))
    assert talker.filters == ["feed/sys/+/overload/#"]


@pytest.mark.parametrize("text", ["", "high", "-1", "1e3", "1.2.3", "9" * 40, "nan", "0x2"])
async def test_what_is_no_number_is_not_heard(text: str) -> None:
    talker = Talker()
    talker.retained = {f"{OURS}level": text, f"{OURS}other": "4"}
    async with listening(talker) as gauges:
        await eventually(lambda: talker.filters)
        talker.tell(f"{OURS}held/items", "1")
        talker.tell(f"{OURS}level", "1")
        await heard(gauges, Load(1, items=1))


async def test_a_level_that_this_version_does_not_know_is_the_highest_that_it_knows() -> None:
    talker = Talker()
    talker.retained = {f"{OURS}level": "9"}
    async with listening(talker) as gauges:
        await heard(gauges, Load(5))


def test_the_server_tells_every_leaf_that_is_listened_for() -> None:
    told = {
        path
        for figure in FIGURES.values()
        for leaf in figure.leaves
        if leaf.root is Root.FEED
        for path in leaf.paths
    }
    assert {f"overload/{leaf}" for leaf in (*_LEAVES, _REFUSED)} <= told


async def test_who_was_refused_is_counted_over_the_starts_of_a_server_and_not_twice() -> None:
    talker = Talker()
    async with listening(talker) as gauges:
        for place, (told, together) in enumerate((("5", 5), ("5", 5), ("7", 7), ("1", 8)), start=1):
            talker.retained = {f"{OURS}refused/connects": told}
            await eventually(lambda place=place: len(talker.filters) == place)
            await eventually(lambda together=together: gauges.refused == together)
            talker.cut()


async def test_whoever_publishes_and_watches_counts_as_no_device(tmp_path: Path) -> None:
    """Registration is open, so that any client id that can be a device's is taken for one."""
    settings = {"topics.enabled": True, "topics.sys_interval": 3_600}
    served = await Served(tmp_path / "data", settings).start()
    gauges = Gauges([served.address], outside=False)
    staying = asyncio.create_task(gauges.stay())
    publisher = PublisherClient()
    try:
        await publisher.open_connection(*served.address)
        await eventually(gauges.take)
        await publisher.publish("news", {"id": "a", "payload": "x"})
        assert served.server.lane.connections == 2
        assert served.server.lane.traffic.devices == 0
    finally:
        publisher.close()
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)
        await served.stop()
