"""Clients against a server that a test plays, and against Debian's mosquitto."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import trustme

from devices.frames import FeedItem, Hello, Snapshot, decode_up, encode_frame
from devices.packets import (
    PINGREQ,
    Connect,
    Packet,
    Puback,
    Publish,
    Subscribe,
    encode,
    puback,
)
from simulator import connection
from simulator.connection import Client, Publisher, Refused
from simulator.fleet import DeviceSpec, Fleet, FleetError
from tests.simulator.tiny_feed import Session, TinyFeed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.simulator.conftest import Until

    Starter = Callable[[bytes | None], Awaitable[int]]

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


async def test_an_item_is_published_once_the_server_has_it(feed: TinyFeed) -> None:
    publisher = Publisher()
    await publisher.open_connection("127.0.0.1", feed.port)
    items = [publisher.publish("news", {"payload": f"item {n}"}) for n in range(10)]
    assert publisher.in_flight == 10
    await asyncio.gather(*items)
    assert (feed.items, publisher.in_flight) == (10, 0)
    publisher.close()


async def test_items_in_flight_fail_when_the_connection_is_lost(feed: TinyFeed) -> None:
    publisher = Publisher()
    await publisher.open_connection("127.0.0.1", feed.port)
    acknowledged = publisher.publish("news", {"payload": "x"})
    publisher.abort(ConnectionError("cut"))
    with pytest.raises(ConnectionError, match="cut"):
        await acknowledged
    with pytest.raises(ConnectionError, match="not connected"):
        publisher.publish("news", {"payload": "y"})


async def test_a_refusal_names_the_client_and_the_reason(feed: TinyFeed) -> None:
    feed.refuse = 2
    with pytest.raises(
        Refused, match="publisher@simulator: the server does not accept this client id"
    ):
        await Publisher().open_connection("127.0.0.1", feed.port)


async def test_a_server_that_is_not_available_may_be_asked_again() -> None:
    assert not Refused("x", 3).final
    assert Refused("x", 5).final


async def test_a_server_that_breaks_mqtt_is_left(
    unused_port_server: Starter,
) -> None:
    port = await unused_port_server(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ConnectionError, match="publisher@simulator: the server breaks MQTT"):
        await Publisher().open_connection("127.0.0.1", port)


async def test_a_server_that_hangs_up_is_a_lost_connection(
    unused_port_server: Starter,
) -> None:
    port = await unused_port_server(None)
    with pytest.raises(ConnectionError):
        await Publisher().open_connection("127.0.0.1", port)


async def test_packet_ids_go_round_without_zero() -> None:
    client = Client(Connect("one", clean_session=True, keep_alive=0))
    ids = [client.next_packet_id() for _ in range(65_536)]
    assert ids[0] == ids[65_535] == 1
    assert 0 not in ids


@pytest_asyncio.fixture
async def unused_port_server() -> AsyncIterator[Starter]:
    """Starts servers that answer the first bytes with others, or hang up."""
    servers = []

    async def start(answer: bytes | None) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            if answer is not None:
                writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


class Gateway(Client):
    """Answers every hello with a window of one item, through whatever broker there is."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        super().__init__(Connect("gateway", clean_session=True, keep_alive=60))
        self.items: list[bytes] = []

    def connected(self) -> None:
        self.send(encode(Subscribe(self.next_packet_id(), (("u/+", 1), ("items/#", 1)))))

    def received(self, packet: Packet, size: int) -> None:  # noqa: ARG002 - a hook's signature
        if not isinstance(packet, Publish):
            return
        self.send(puback(packet.packet_id))
        if packet.topic.startswith("items/"):
            self.items.append(packet.payload)
        elif isinstance(decode_up(packet.payload), Hello):
            device = packet.topic.removeprefix("u/")
            frame = encode_frame(Snapshot(1, 1, 8, (FeedItem(1, 0, 1, f"for {device}"),)))
            self.send(encode(Publish(f"f/{device}", frame, 1, self.next_packet_id())))


@pytest_asyncio.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[int]:
    """A mosquitto of this test's own; its port."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = await asyncio.create_subprocess_exec(
        MOSQUITTO, "-c", str(config), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    while b"running" not in (line := await process.stderr.readline()):
        assert line, "mosquitto ended"
    yield port
    process.terminate()
    await process.communicate()


@pytest.mark.mosquitto
async def test_a_fleet_speaks_to_a_broker_that_we_did_not_write(
    mosquitto: int, until: Until
) -> None:
    gateway, publisher = Gateway(), Publisher()
    await gateway.open_connection("127.0.0.1", mosquitto)
    await publisher.open_connection("127.0.0.1", mosquitto)
    specs = [DeviceSpec(f"d{n}", follow=("news",)) for n in range(30)]
    async with Fleet(specs, host="127.0.0.1", port=mosquitto) as fleet:
        await fleet.start()
        await publisher.publish("news", {"payload": "hello"})
        await until(lambda: all(fleet.windows().values()) and gateway.items)
        assert fleet.windows() == {f"d{n}": [(1, f"for d{n}")] for n in range(30)}
        assert gateway.items == [b'{"payload":"hello"}']
        assert fleet.tally.losses == 0
    gateway.close()
    publisher.close()


async def test_a_server_that_never_answers_connect_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "GREETING", 0.05)
    listener = socket.create_server(("127.0.0.1", 0))  # accepts by its backlog, says nothing
    client = Client(Connect("one", clean_session=True, keep_alive=0))
    with listener, pytest.raises(TimeoutError):
        await client.open_connection("127.0.0.1", listener.getsockname()[1])
    await asyncio.sleep(0)
    assert not client.open


async def test_a_client_without_keep_alive_neither_pings_nor_gives_up(feed: TinyFeed) -> None:
    client = Client(Connect("one", clean_session=True, keep_alive=0))
    await client.open_connection("127.0.0.1", feed.port)
    client.keep_alive(client.heard + 10_000.0)
    assert (client.open, feed.held("one").pings) == (True, 0)
    client.close()


async def test_a_ping_that_is_long_on_its_way_is_not_repeated(feed: TinyFeed) -> None:
    sent: list[bytes] = []

    class Lost(Client):
        def send(self, data: bytes) -> None:
            sent.append(data)
            if data != PINGREQ:
                super().send(data)

    client = Lost(Connect("one", clean_session=True, keep_alive=60))
    await client.open_connection("127.0.0.1", feed.port)
    start = client.heard
    sent.clear()
    for second in range(31, 60):
        client.keep_alive(start + second)
    assert sent == [PINGREQ]
    client.keep_alive(start + 62)
    assert len(sent) == 2
    client.close()


async def test_a_connection_may_be_made_by_a_route(feed: TinyFeed) -> None:
    class Road:
        taken = 0

        async def connect(
            self,
            protocol: asyncio.Protocol,
            host: str,
            port: int,
            ssl: ssl.SSLContext | None = None,
        ) -> None:
            assert ssl is None
            self.taken += 1
            await asyncio.get_running_loop().create_connection(lambda: protocol, host, port)

    road, client = Road(), Client(Connect("one", clean_session=True, keep_alive=0))
    await client.open_connection("127.0.0.1", feed.port, route=road)
    assert (road.taken, client.open) == (1, True)
    client.close()


async def test_packets_behind_the_one_that_made_us_leave_are_not_taken(feed: TinyFeed) -> None:
    taken: list[Packet] = []

    class Leaver(Client):
        def received(self, packet: Packet, size: int) -> None:
            del size
            taken.append(packet)
            self.abort(ConnectionError("enough"))

    leaver = Leaver(Connect("one", clean_session=True, keep_alive=0))
    await leaver.open_connection("127.0.0.1", feed.port)
    leaver.data_received(puback(1) + puback(2))
    assert taken == [Puback(1)]


async def test_a_fleet_that_is_refused_as_a_whole_says_so_at_once(feed: TinyFeed) -> None:
    specs = [DeviceSpec("one"), DeviceSpec("two")]
    async with Fleet(specs, host="127.0.0.1", port=feed.port) as fleet:
        await fleet.start()
        feed.refuse = 5
        for device in ("one", "two"):
            feed.kick(device)
        with pytest.raises(FleetError, match=r"refuses all 2 devices, .*\(return code 5\) first"):
            await fleet.deserted()


async def test_a_fleet_may_be_encrypted() -> None:
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)
    feed, loop = TinyFeed(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(feed), "127.0.0.1", 0, ssl=theirs)
    port = server.sockets[0].getsockname()[1]
    async with Fleet([DeviceSpec("one")], host="127.0.0.1", port=port, tls=ours) as fleet:
        await fleet.start()
        assert feed.held("one").subscribed
    server.close()
    await server.wait_closed()
