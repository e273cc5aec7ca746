"""The plugin in a stock amqtt, as a process of its own and within this one."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from amqtt.broker import Broker

from broker.plugin import FeedPlugin, interrupt_between_turns
from devices.packets import Disconnect, Publish, Subscribe, Unsubscribe
from tests.broker.support import CLEAN_ENVIRONMENT, PATIENCE, ROOT, Peer, Target, eventually, item

YAML = """
listeners:
  default:
    type: external
plugins:
  broker.plugin.FeedPlugin:
    config: {config}
    settings: {settings}
  amqtt.plugins.sys.broker.BrokerSysPlugin:
    sys_interval: 1
"""


class Stock(Target):
    """`amqtt -c` with a YAML of the operator's."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.log = directory / "amqtt.log"
        toml = directory / "fleetfeed.toml"
        toml.write_text('bind = "127.0.0.1:0"\n[feed]\nhello_wait = 0.1\n')
        yaml = directory / "broker.yaml"
        settings = json.dumps({"data": str(directory / "data"), "feed.max_inflight": 2})
        yaml.write_text(YAML.format(config=toml, settings=settings))
        # As the script `amqtt` does it; a shell that runs us in the background lets its children
        # ignore SIGINT.
        program = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from amqtt.scripts.broker_script import main; sys.exit(main())"
        )
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, "-c", str(yaml)],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=CLEAN_ENVIRONMENT,
            )

    def interrupt(self) -> None:
        """Ctrl-C; a server that does not heed it fails the test and is not left behind."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def listening(self) -> re.Match[str] | None:
        assert self.process.poll() is None, self.log.read_text()
        return re.search(r"listening on 127\.0\.0\.1:(\d+)", self.log.read_text())


@pytest.fixture
async def stock(tmp_path: Path) -> AsyncIterator[Stock]:
    found = Stock(tmp_path)
    try:
        match = await eventually(found.listening)
        assert match is not None
        found.address = ("127.0.0.1", int(match[1]))
        yield found
    finally:
        await found.drop_peers()
        found.interrupt()


async def test_a_stock_amqtt_serves_feeds_and_everything_else_on_one_port(stock: Stock) -> None:
    device = await stock.subscribed("kitchen")
    await stock.publish(item("a", "from a stock broker"))
    await device.shows("from a stock broker")
    listener = await stock.connect("listener")
    await listener.subscribe(("$SYS/broker/version", 0), ("home", 1))
    told = await listener.expect(Publish)
    assert told.retain
    assert told.payload.startswith(b"fleetfeed version ")
    assert "Traceback" not in stock.log.read_text()


async def test_a_stock_amqtt_keeps_positions_when_it_is_interrupted(
    stock: Stock, tmp_path: Path
) -> None:
    device = await stock.subscribed("kitchen")
    await stock.drop_peers()
    stock.interrupt()
    second = Stock(tmp_path)
    try:
        match = await eventually(second.listening)
        assert match is not None
        second.address = ("127.0.0.1", int(match[1]))
        again = await second.device("kitchen", device.replica)
        again.hello()
        await again.subscribe()
        await second.publish(item("a", "one"))
        assert (await again.delta()).epoch == device.replica.epoch
    finally:
        await second.drop_peers()
        second.interrupt()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT as in a process of its own; the tests' own may have another handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_lets_what_has_begun_come_to_its_end() -> None:
    done = []

    def begun() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("begun")

    loop = asyncio.new_event_loop()
    try:
        interrupt_between_turns(loop)
        loop.call_soon(begun)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(PATIENCE))
    finally:
        loop.close()
    assert done == ["begun"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_whoever_heeds_interrupts_already_goes_on_to() -> None:
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append("theirs"))
    loop = asyncio.new_event_loop()
    interrupt_between_turns(loop)
    signal.raise_signal(signal.SIGINT)
    loop.close()
    assert heard == ["theirs"]


async def test_a_feed_that_cannot_start_ends_a_stock_amqtt(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, where the directory belongs")
    stock = Stock(tmp_path)
    try:
        assert stock.process.wait(PATIENCE) is not None
    finally:
        stock.process.kill()
        stock.process.wait()
    assert "the feed could not start" in stock.log.read_text()


@dataclass
class Beside:
    """An amqtt with two ports: the lane's, and one of its own."""

    plugin: FeedPlugin
    lane: Target = field(default_factory=Target)
    plain: Target = field(default_factory=Target)


@pytest.fixture
async def beside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Beside]:
    settings = {"data": str(tmp_path / "data"), "bind": "127.0.0.1:0", "topics.sys_interval": 0}
    plugins = {
        "broker.plugin.FeedPlugin": {"settings": settings},
        "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
    }
    async with running(plugins, caplog) as found:
        yield found


@asynccontextmanager
async def running(
    plugins: Mapping[str, object], caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Beside]:
    listeners = {"default": {"type": "tcp", "bind": "127.0.0.1:0"}}
    amqtt = Broker({"listeners": listeners, "plugins": plugins})
    with caplog.at_level(logging.CRITICAL, logger="amqtt"):
        await amqtt.start()
        try:
            plugin: FeedPlugin = amqtt.plugins_manager.get_plugin("FeedPlugin")
            assert plugin.server is not None, plugin.failure
            found = Beside(plugin)
            found.lane.address = plugin.server.address
            found.plain.address = amqtt._servers["default"].instance.sockets[0].getsockname()[:2]
            yield found
            await found.lane.drop_peers()
            await found.plain.drop_peers()
        finally:
            await amqtt.shutdown()


@pytest.mark.filterwarnings("ignore:`BrokerSysPlugin`:DeprecationWarning")
async def test_sys_has_one_voice_and_it_is_not_amqtts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside amqtt's own plugin for `$SYS`, on both sides, in three rounds of each."""
    settings = {"data": str(tmp_path / "data"), "bind": "127.0.0.1:0", "topics.sys_interval": 1}
    plugins = {
        "broker.plugin.FeedPlugin": {"settings": settings},
        "amqtt.plugins.sys.broker.BrokerSysPlugin": {"sys_interval": 1},
        "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
    }
    async with running(plugins, caplog) as beside:
        for target in (beside.lane, beside.plain):
            listener = await target.connect("listener")
            await listener.subscribe(("$SYS/#", 0))
            topics: set[str] = set()
            uptimes: set[bytes] = set()
            while len(uptimes) < 4:
                found = await listener.expect(Publish)
                topics.add(found.topic)
                if found.topic == "$SYS/broker/uptime":
                    # amqtt itself repeats what is retained.
                    assert target is beside.plain or found.payload not in uptimes, "told twice"
                    uptimes.add(found.payload)
                if found.topic == "$SYS/broker/version":
                    assert found.payload.startswith(b"fleetfeed version ")
            assert "$SYS/broker/retained messages/count" in topics
            assert "$SYS/broker/cpu/percent" not in topics
            listener.send(Disconnect())  # else amqtt may leave the connection open
            await listener.expect_end()


async def message(peer: Peer, topic: str) -> Publish:
    """The next message on this topic; amqtt may send others."""
    while not (isinstance(packet := await peer.read(), Publish) and packet.topic == topic):
        assert packet is not None
    return packet


async def test_the_feeds_topics_are_closed_to_amqtts_own_listeners(beside: Beside) -> None:
    """A client of another listener can neither read frames nor slip items past the store."""
    spy = await beside.plain.connect("spy")
    codes = await spy.subscribe(("f/kitchen", 0), ("items/#", 0), ("u/+", 0), ("home", 0))
    assert codes == (0x80, 0x80, 0x80, 0)
    await spy.publish("items/news", b"past the store")
    await spy.publish("home", b"fine")
    await message(spy, "home")
    assert beside.plugin.server is not None
    assert beside.plugin.server.counters.items.total() == 0


async def test_messages_cross_between_the_lane_and_amqtts_own_listeners(beside: Beside) -> None:
    ours, theirs = await beside.lane.connect("ours"), await beside.plain.connect("theirs")
    await ours.subscribe(("home/#", 1))
    await theirs.subscribe(("home/#", 1))
    ours.send(Publish("home/a", b"from the lane", 1, 1, retain=True))
    assert (await message(ours, "home/a")).payload == b"from the lane"
    assert (await message(theirs, "home/a")).payload == b"from the lane"
    theirs.send(Publish("home/b", b"from the other port", 1, 1, retain=True))
    assert (await message(ours, "home/b")).payload == b"from the other port"
    assert (await message(theirs, "home/b")).payload == b"from the other port"
    for target in (beside.lane, beside.plain):
        late = await target.connect("late")
        await late.subscribe(("home/a", 0), ("home/b", 0))
        found = {(packet := await message(late, topic)).payload for topic in ("home/a", "home/b")}
        assert found == {b"from the lane", b"from the other port"}
        assert packet.retain


async def test_amqtts_own_listeners_miss_nothing_while_others_subscribe_and_leave(
    beside: Beside,
) -> None:
    """amqtt asks its plugins about each subscriber while it walks over them all."""
    publisher = await beside.lane.connect("publisher")
    listeners = [await beside.plain.connect(f"listener{number}") for number in range(4)]
    for listener, asked in zip(listeners, ("home", "+", "#", "home/#"), strict=True):
        await listener.subscribe((asked, 0))
    restless = await beside.plain.connect("restless")
    told = [b"%d" % number for number in range(60)]
    for number, payload in enumerate(told):
        publisher.send(Publish("home", payload))
        restless.send(Subscribe(2 * number + 1, ((f"other/{number}", 0),)))
        restless.send(Unsubscribe(2 * number + 2, (f"other/{number}",)))
    for listener in listeners:
        assert [(await message(listener, "home")).payload for _ in told] == told


async def test_a_client_of_another_listener_is_not_let_in_by_a_name_the_lane_knows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The lane's word counts for its own connections only."""
    listeners = {"default": {"type": "tcp", "bind": "127.0.0.1:0"}}
    settings = {"data": str(tmp_path / "data"), "bind": "127.0.0.1:0"}
    amqtt = Broker(
        {
            "listeners": listeners,
            "plugins": {"broker.plugin.FeedPlugin": {"settings": settings}},
        }
    )
    with caplog.at_level(logging.CRITICAL, logger="amqtt"):
        await amqtt.start()
        try:
            plugin: FeedPlugin = amqtt.plugins_manager.get_plugin("FeedPlugin")
            assert plugin.server is not None
            lane, plain = Target(), Target()
            lane.address = plugin.server.address
            plain.address = amqtt._servers["default"].instance.sockets[0].getsockname()[:2]
            known = await lane.connect("kitchen")
            assert await known.subscribe(("home", 0)) == (0,)
            with pytest.raises(AssertionError):
                await plain.connect("kitchen")
            await lane.drop_peers()
            await plain.drop_peers()
        finally:
            await amqtt.shutdown()
