"""What the tests of the server share: servers to test, and clients that see every packet.

`Served` is a server on the test's own event loop, `ServerProcess` one that can be killed; both are
`Target`s, so that the same clients work on either. `Peer` is one MQTT connection, packet by packet;
`Device` is a peer with a replica of its feed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import msgpack
from amqtt.broker import Broker

import broker
from broker.amqtt_seam import external_listener
from broker.config_layers import load
from broker.control import ControlClient
from broker.plugin import FeedPlugin
from broker.server import Server
from devices.frames import Delta, Hello, HelloOptions, Profile, Snapshot, decode_frame, encode_up
from devices.packets import (
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
    encode,
)
from devices.replica import Received, Replica
from devices.up_messages import Up

PATIENCE = 30.0
"""Seconds until a test that waits for something fails."""

ROOT = Path(broker.__file__).resolve().parents[1]
CLEAN_ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("FLEETFEED_")}

P = TypeVar("P", bound=Packet)
T = TypeVar("T")


async def eventually(
    probe: Callable[[], T], expected: Callable[[T], bool] = bool, within: float = PATIENCE
) -> T:
    """Wait until what `probe` returns is as expected (true, if nothing else is said); return it."""
    deadline = asyncio.get_running_loop().time() + within
    while not expected(found := probe()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"still {found!r} after {within:g} s")
        await asyncio.sleep(0.005)
    return found


def _millisecond() -> int:
    return time.time_ns() // 1_000_000


# ---- Clients


class Peer:
    """One MQTT connection: what is sent and what comes, packet by packet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder(role="client", max_packet=1 << 20)
        self._packets: deque[Packet] = deque()
        self._packet_id = 0

    @classmethod
    async def open(cls, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> Self:
        """Connect, and say nothing yet."""
        name = "localhost" if tls is not None else None
        return cls(*await asyncio.open_connection(*address, ssl=tls, server_hostname=name))

    def new_packet_id(self) -> int:
        self._packet_id += 1
        return self._packet_id

    def send(self, *packets: Packet | bytes) -> None:
        """Send these in one piece."""
        self._writer.write(b"".join(p if isinstance(p, bytes) else encode(p) for p in packets))

    async def read(self, within: float = PATIENCE) -> Packet | None:
        """The next packet; None once the server has closed the connection."""
        async with asyncio.timeout(within):
            while not self._packets:
                try:
                    data = await self._reader.read(65_536)
                except ConnectionError:
                    data = b""
                if not data:
                    return None
                self._packets += [packet for packet, _ in self._decoder.feed(data)]
        return self._packets.popleft()

    async def expect(self, kind: type[P]) -> P:
        """The next packet, which must be of this kind."""
        packet = await self.read()
        assert isinstance(packet, kind), f"{packet} instead of a {kind.__name__}"
        return packet

    async def expect_closed(self, within: float = PATIENCE) -> None:
        """The server closes the connection, and sends nothing before."""
        packet = await self.read(within)
        assert packet is None, f"{packet} instead of the end"

    async def expect_end(self) -> None:
        """The server closes the connection, whatever it sends before."""
        while await self.read() is not None:
            pass

    async def ping(self) -> None:
        """A round trip: nothing that was sent before the PINGRESP is left unread but frames."""
        self.send(Pingreq())
        await self.expect(Pingresp)

    async def greet(self, connect: Connect) -> Connack:
        """CONNECT and what the server answers."""
        self.send(connect)
        return await self.expect(Connack)

    async def subscribe(self, *filters: tuple[str, int]) -> tuple[int, ...]:
        """SUBSCRIBE; returns the codes of SUBACK. Frames that come before are kept."""
        packet_id = self.new_packet_id()
        self.send(Subscribe(packet_id, filters))
        suback = await self._after_frames(Suback)
        assert suback.packet_id == packet_id
        return suback.codes

    async def unsubscribe(self, *filters: str) -> None:
        packet_id = self.new_packet_id()
        self.send(Unsubscribe(packet_id, filters))
        assert (await self._after_frames(Unsuback)).packet_id == packet_id

    async def publish(self, topic: str, payload: bytes, qos: int = 1, *, dup: bool = False) -> None:
        """PUBLISH, and at QoS 1 wait for PUBACK."""
        packet_id = self.new_packet_id() if qos else 0
        self.send(Publish(topic, payload, qos, packet_id, dup=dup))
        if qos == 1:
            assert (await self._after_frames(Puback)).packet_id == packet_id

    async def _after_frames(self, kind: type[P]) -> P:
        """The next packet of this kind; what else is there by then stays to be read."""
        passed: list[Packet] = []
        while True:
            packet = await self.read()
            assert packet is not None, f"the end instead of a {kind.__name__}"
            if isinstance(packet, kind):
                self._packets.extendleft(reversed(passed))
                return packet
            passed.append(packet)

    async def leave(self) -> None:
        """DISCONNECT, and wait until the server has closed the connection."""
        self.send(Disconnect())
        await self.expect_end()

    async def drop(self) -> None:
        """Lose the connection without a word."""
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def pause_reading(self) -> None:
        """Read no more from the socket."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's has it

    def resume_reading(self) -> None:
        self._writer.transport.resume_reading()  # type: ignore[attr-defined] # as above


class Device:
    """A device on one connection: it applies frames, and acknowledges them unless told not to."""

    def __init__(self, peer: Peer, name: str, replica: Replica, connack: Connack) -> None:
        self.peer = peer
        self.name = name
        self.replica = replica
        self.session_present = connack.session_present

    def say(self, message: Up | bytes) -> None:
        """An up message at QoS 0."""
        payload = message if isinstance(message, bytes) else encode_up(message)
        self.peer.send(Publish(f"u/{self.name}", payload))

    async def tell(self, message: Up | bytes) -> None:
        """An up message at QoS 1; returns when it is acknowledged."""
        payload = message if isinstance(message, bytes) else encode_up(message)
        await self.peer.publish(f"u/{self.name}", payload)

    def hello(self, options: HelloOptions | None = None) -> None:
        """Say where the replica stands."""
        self.say(Hello(*self.replica.position, options))

    async def subscribe(self, qos: int = 1) -> None:
        assert await self.peer.subscribe((f"f/{self.name}", qos)) == (qos,)

    async def publish(self) -> Publish:
        """The next packet, which must be a frame for this device; it is not acknowledged."""
        publish = await self.peer.expect(Publish)
        assert publish.topic == f"f/{self.name}"
        assert not publish.retain
        return publish

    async def frame(self, *, ack: bool = True) -> Snapshot | Delta:
        """The next frame, which must apply."""
        publish = await self.publish()
        received = self.replica.receive(publish.payload)
        assert received is Received.APPLIED, (received, decode_frame(publish.payload), self.replica)
        if ack:
            await self.acknowledge(publish)
        frame = decode_frame(publish.payload)
        assert frame is not None
        return frame

    async def acknowledge(self, publish: Publish) -> None:
        if publish.qos == 1:
            self.peer.send(Puback(publish.packet_id))
        elif publish.qos == 2:
            self.peer.send(Pubrec(publish.packet_id))
            pubrel = await self.peer._after_frames(Pubrel)
            assert pubrel.packet_id == publish.packet_id
            self.peer.send(b"\x70\x02" + publish.packet_id.to_bytes(2, "big"))

    async def snapshot(self, *, ack: bool = True) -> Snapshot:
        frame = await self.frame(ack=ack)
        assert isinstance(frame, Snapshot), frame
        return frame

    async def delta(self, *, ack: bool = True) -> Delta:
        frame = await self.frame(ack=ack)
        assert isinstance(frame, Delta), frame
        return frame

    @property
    def shown(self) -> list[str | bytes]:
        """The payloads in the window, best first."""
        return [item.payload for item in self.replica.window]

    async def shows(self, *payloads: str | bytes) -> None:
        """Apply frames until the window is this."""
        while self.shown != list(payloads):
            try:
                await self.frame()
            except TimeoutError:
                raise AssertionError(f"shows {self.shown}, not {payloads}") from None

    def number(self, payload: str) -> int:
        """The item number of what is shown."""
        return next(item.n for item in self.replica.window if item.payload == payload)


# ---- Servers


class Target:
    """A server that listens."""

    address: tuple[str, int]
    tls: ssl.SSLContext | None = None
    """What its clients connect with, if not in plain text."""

    def __init__(self) -> None:
        self._peers: list[Peer] = []

    async def peer(self) -> Peer:
        """A connection on which nothing was said yet."""
        peer = await Peer.open(self.address, self.tls)
        self._peers.append(peer)
        return peer

    async def drop_peers(self) -> None:
        """End what is left of the connections of this test."""
        peers, self._peers = self._peers, []
        for peer in peers:
            await peer.drop()

    async def connect(
        self,
        client_id: str,
        *,
        clean: bool = True,
        keep_alive: int = 60,
        username: str | None = None,
        password: bytes | None = None,
        will: Will | None = None,
    ) -> Peer:
        """A client that was let in."""
        peer = await self.peer()
        connack = await peer.greet(Connect(client_id, clean, keep_alive, username, password, will))
        assert connack.code == 0
        return peer

    async def device(
        self,
        name: str,
        replica: Replica | None = None,
        *,
        clean: bool = True,
        will: Will | None = None,
        username: str | None = None,
        password: bytes | None = None,
    ) -> Device:
        """A device that was let in and has not said anything yet."""
        peer = await self.peer()
        connack = await peer.greet(Connect(name, clean, 60, username, password, will))
        assert connack.code == 0
        return Device(peer, name, replica or Replica(), connack)

    async def subscribed(
        self, name: str, replica: Replica | None = None, *, qos: int = 1, clean: bool = True
    ) -> Device:
        """A device that has subscribed, has its first frame and acknowledged it."""
        device = await self.device(name, replica, clean=clean)
        await device.subscribe(qos)
        await device.frame()
        return device

    async def publish(self, *items: Mapping[str, Any] | bytes, channel: str = "news") -> None:
        """Items at QoS 1, each acknowledged, from a publisher of its own.

        Each is accepted in a millisecond of its own, so that of equal ones the newer stands first.
        """
        peer = await self.connect("", clean=True)
        for item in items:
            payload = item if isinstance(item, bytes) else json.dumps(item).encode()
            await peer.publish(f"items/{channel}", payload)
            await eventually(_millisecond, _millisecond().__lt__)
        await peer.leave()


class Served(Target):
    """A server on the event loop of the test.

    Args:
        data: Its data directory.
        settings: By dotted name, as `feed.max_inflight`.
        amqtt: Whether it runs as a plugin of amqtt.
    """

    def __init__(self, data: Path, settings: Mapping[str, Any], *, amqtt: bool = False) -> None:
        super().__init__()
        self.data = data
        self._settings = dict(settings)
        self._amqtt = amqtt
        self._broker: Broker | None = None
        self.server: Server

    async def start(self) -> Self:
        settings = {
            "bind": "127.0.0.1:0",
            "loop": "asyncio",
            "open": True,
            "ranking.model": "popularity",
            **self._settings,
        }
        config = load(None, {}, {**settings, "data": str(self.data)})
        if self._amqtt:
            plugins = {"broker.plugin.FeedPlugin": {"embedded": config}}
            self._broker = Broker({"listeners": external_listener(), "plugins": plugins})
            await self._broker.start()
            plugin: FeedPlugin = self._broker.plugins_manager.get_plugin("FeedPlugin")
            assert plugin.server is not None, plugin.failure
            self.server = plugin.server
        else:
            self.server = Server(config)
            await self.server.start()
        self.address = self.server.address
        return self

    async def stop(self) -> None:
        """As on SIGTERM."""
        if self._broker is not None:
            await self._broker.shutdown()
        else:
            await self.server.stop()

    async def restart(self, **settings: Any) -> None:
        """Stop in order and start again on the same data, at another port."""
        await self.stop()
        self._settings |= settings
        await self.start()

    def count(self, kind: str, reason: str) -> int:
        """A counter of the server."""
        return int(self.server.counters.as_dict()[kind].get(reason, 0))

    async def counted(self, kind: str, reason: str, count: int = 1) -> None:
        """Wait until the counter has this value."""
        await eventually(lambda: self.count(kind, reason), lambda found: found == count)

    def window(self, device: str) -> list[str | bytes]:
        """The feed of a device as the server has it."""
        return [payload for _, payload in self.server.service.window(device) or ()]

    async def at_rest(self) -> None:
        """Wait until nothing is left to be worked out or answered."""
        await eventually(lambda: self.server.service.idle)

    def call(self, do: str, **args: Any) -> Any:
        """A command through the control socket; to be awaited in a thread."""
        return ControlClient(self.data / "control.sock").call(do, **args)

    async def command(self, do: str, **args: Any) -> Any:
        return await asyncio.to_thread(self.call, do, **args)


class ServerProcess(Target):
    """`fleetfeed serve` as a process of its own, always on the same port and data."""

    def __init__(self, data: Path, *, opened: bool = True, **settings: Any) -> None:
        super().__init__()
        self.data = data
        self.log = data.with_name(f"{data.name}.log")
        self.address = ("127.0.0.1", 0)
        self.ready = ""  # the line that it prints when it listens
        self._opened = opened
        settings = {"ranking__model": "popularity", **settings}
        self._environment = CLEAN_ENVIRONMENT | {
            f"FLEETFEED_{name.replace('.', '__').upper()}": value
            if isinstance(value, str)
            else json.dumps(value)
            for name, value in settings.items()
        }
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        host, port = self.address
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "broker", "serve", "--bind", f"{host}:{port}"),
                    *("--data", str(self.data), "--open" if self._opened else "--no-open"),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=self._environment,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("fleetfeed: listening on "):
            self.kill()
            raise AssertionError(self.log.read_text())
        self.ready = line
        self.address = host, int(line.split()[3].rpartition(":")[2])
        return self

    def stop(self) -> None:
        """SIGTERM, which must end it in order."""
        assert self._end(signal.SIGTERM) == 0, self.log.read_text()

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(how)
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return process.returncode

    def close(self) -> None:
        """End it if it still runs, and look whether its log has a fault."""
        if self._process is not None:
            self.stop()
        log = self.log.read_text()
        assert "Traceback" not in log, log
        assert " ERROR " not in log, log

    def status(self) -> Any:
        return ControlClient(self.data / "control.sock").call("status")

    def count(self, kind: str, reason: str) -> int:
        return int(self.status()["counters"][kind].get(reason, 0))

    def command(self, do: str, **args: Any) -> Any:
        return ControlClient(self.data / "control.sock").call(do, **args)


def item(id_: str, payload: str, priority: int = 1, **more: Any) -> dict[str, Any]:
    """An item as publishers write it."""
    return {"id": id_, "payload": payload, "priority": priority, **more}


def packed(**fields: Any) -> bytes:
    """An item as msgpack."""
    data: bytes = msgpack.packb(fields)
    return data


def follow(*filters: str, unfollow: Iterable[str] = ()) -> Profile:
    return Profile(follow=filters, unfollow=tuple(unfollow))
