"""What the tests of the gateway share: a gateway beside a real broker, and devices of that broker."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from broker.config_layers import load
from broker.control import ControlClient
from broker.gateway.address import parse_address
from broker.gateway.gateway import Gateway
from devices.frames import Bye, Delta, Hello, HelloOptions, Snapshot, decode_frame, encode_up
from devices.packets import Connack, Puback, Will
from devices.replica import Received, Replica
from tests.broker.support import CLEAN_ENVIRONMENT, PATIENCE, ROOT, Device, Target, eventually

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from broker.gateway.worker import Worker
    from feedgen.store.memory_node import MemoryNode
    from tests.broker.support import Peer
    from tests.outside_brokers import OutsideBroker

SETTINGS = {
    "loop": "asyncio",
    "open": True,
    "ranking.model": "popularity",
    "gateway.ack_limit": 30.0,
    "gateway.sys_interval": 0,
    "feed.hello_interval": 0.05,
}
"""Patient by default: what a test does not provoke does not happen in it."""


class OutsideDevice(Device):
    """A device on one connection to the broker; it acknowledges frames to the feed."""

    def __init__(self, peer: Peer, name: str, replica: Replica, connack: Connack, c: int) -> None:
        super().__init__(peer, name, replica, connack)
        self.c = c

    async def greet(self, options: HelloOptions | None = None) -> None:
        """SUBSCRIBE, and a hello after SUBACK."""
        await self.subscribe()
        await self.say_hello(options)

    async def say_hello(self, options: HelloOptions | None = None) -> None:
        """A hello at QoS 1, which the broker keeps while the gateway is away."""
        said = options or HelloOptions()
        named = HelloOptions(said.k, said.budget, said.max_qos, said.agent, self.c, said.clock)
        await self.tell(Hello(*self.replica.position, named))

    async def frame(self, *, ack: bool = True) -> Snapshot | Delta:
        """The next frame that applies; those that do not are passed over."""
        while True:
            publish = await self.publish()
            if publish.qos:
                self.peer.send(Puback(publish.packet_id))
            received = self.replica.receive(publish.payload)
            assert received not in {Received.BAD, Received.IMPOSSIBLE, Received.UNKNOWN}
            if received is Received.GAP:
                await self.say_hello()
            elif received is Received.APPLIED:
                frame = decode_frame(publish.payload)
                assert frame is not None
                if ack:
                    self.say(self.replica.ack())
                return frame

    async def leave(self) -> None:
        """Bye and DISCONNECT."""
        await self.tell(Bye(self.c))
        await self.peer.leave()


class AtBroker(Target):
    """A broker as its clients see it."""

    def __init__(self, broker: OutsideBroker) -> None:
        super().__init__()
        self.broker = broker
        self.address = broker.host, broker.port
        self._c = 100

    async def client(self, name: str, *, clean: bool = True, will: Will | None = None) -> Peer:
        """A client of this name with its own password."""
        user, password = self.broker.login(name)
        secret = None if password is None else password.encode()
        return await self.connect(name, clean=clean, username=user, password=secret, will=will)

    async def arrive(
        self,
        name: str,
        replica: Replica | None = None,
        *,
        clean: bool = True,
        options: HelloOptions | None = None,
        greet: bool = True,
    ) -> OutsideDevice:
        """A device that has said hello, unless it is not to, with its bye as its will."""
        self._c += 1
        will = Will(f"u/{name}", encode_up(Bye(self._c)), qos=1)
        peer = await self.client(name, clean=clean, will=will)
        connack = Connack(False, 0)
        device = OutsideDevice(peer, name, replica or Replica(), connack, self._c)
        if greet:
            await device.greet(options)
        else:
            await device.subscribe()
        return device

    async def publish(self, *items: Mapping[str, Any] | bytes, channel: str = "news") -> None:
        """Items at QoS 1, each acknowledged by the broker."""
        peer = await self.client("publisher")
        for item in items:
            payload = item if isinstance(item, bytes) else json.dumps(item).encode()
            await peer.publish(f"items/{channel}", payload)
        await peer.leave()


class Beside(AtBroker):
    """A gateway on the event loop of the test, beside a broker.

    Args:
        broker: The broker.
        data: Its data directory.
        settings: By dotted name.
        shared: Its hold on a world in memory that it shares with others; None if it has none.
    """

    def __init__(
        self,
        broker: OutsideBroker,
        data: Path,
        settings: Mapping[str, Any],
        shared: MemoryNode | None = None,
    ) -> None:
        super().__init__(broker)
        self.shared = shared
        self.data = data
        self._settings = dict(settings)
        self.is_stopped = True
        self.gateway: Gateway

    async def start(self) -> Self:
        config = load(None, {}, {**SETTINGS, **self._settings, "data": str(self.data)})
        self.gateway = Gateway(config, parse_address(self.broker.url), self.shared)
        await self.gateway.start()
        self.is_stopped = False
        return self

    async def stop(self) -> None:
        if not self.is_stopped:
            self.is_stopped = True
            await self.gateway.stop()

    @property
    def worker(self) -> Worker:
        """Of several gateways, this one."""
        assert self.gateway.node is not None
        return self.gateway.node

    def has(self, device: str) -> bool:
        """Whether it serves a device."""
        return device in self.gateway.presence.devices()

    async def vanish(self) -> None:
        """End as a process that is killed: nothing is said to anybody, nothing more happens here."""
        self.is_stopped = True
        gateway = self.gateway
        gateway.stopping = gateway.service._stopping = True
        for timer in (gateway._timer, gateway.service._timer):
            assert timer is not None
            timer.cancel()
        if self.shared is not None:
            self.shared.kill()
        if self.gateway.node is not None:
            self.worker.directory.close()
        assert gateway._election is not None
        gateway._election._task.cancel()
        for uplink in (gateway.frames, gateway.ingest.ups, gateway.ingest.items):
            if uplink is not None and uplink._task is not None:
                uplink._task.cancel()  # which aborts its connection
        await gateway._control.stop()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def publish(self, *items: Mapping[str, Any] | bytes, channel: str = "news") -> None:
        """Items, each taken in a millisecond of its own, so that of equal ones the newer stands first."""
        if self.is_stopped:
            await super().publish(*items, channel=channel)
            return
        for each in items:
            before = self.count("items", "received")
            await super().publish(each, channel=channel)
            await self.counted("items", "received", before + 1)
            now = time.time_ns() // 1_000_000
            await eventually(lambda: time.time_ns() // 1_000_000, now.__lt__)

    def count(self, kind: str, reason: str) -> int:
        return int(self.gateway.counters.as_dict()[kind].get(reason, 0))

    async def counted(self, kind: str, reason: str, count: int = 1) -> None:
        await eventually(lambda: self.count(kind, reason), lambda found: found >= count)

    def window(self, device: str) -> list[str | bytes]:
        return [payload for _, payload in self.gateway.service.window(device) or ()]

    async def unacknowledged(self, device: str, count: int) -> None:
        """Wait until so many frames of a device are unacknowledged."""

        def found() -> int | None:
            return self.gateway.service.describe(device).get("unacknowledged")

        await eventually(found, lambda frames: frames == count)


class GatewayProcess(AtBroker):
    """`fleetfeed gateway` as a process of its own."""

    def __init__(self, broker: OutsideBroker, data: Path, **settings: Any) -> None:
        super().__init__(broker)
        self.data = data
        self.log = data.with_name(f"{data.name}.log")
        self.ready = ""
        given = {**SETTINGS, **settings}
        self._environment = CLEAN_ENVIRONMENT | {
            f"FLEETFEED_{name.replace('.', '__').upper()}": str(value)
            for name, value in given.items()
        }
        self._environment["FLEETFEED_BROKER"] = broker.url
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "broker", "gateway", "--data", str(self.data)],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=self._environment,
                text=True,
            )
        assert self._process.stdout is not None
        self.ready = self._process.stdout.readline()
        if not self.ready.startswith("fleetfeed: gateway at "):
            self.kill()
            raise AssertionError(self.log.read_text())
        return self

    def stop(self) -> None:
        """SIGTERM, which must end it in order."""
        assert self._process is not None
        process, self._process = self._process, None
        process.terminate()
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, self.log.read_text()

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        process, self._process = self._process, None
        process.kill()
        process.communicate(timeout=PATIENCE)

    def close(self) -> None:
        if self._process is not None:
            self.stop()
        assert "Traceback" not in self.log.read_text(), self.log.read_text()

    def count(self, kind: str, reason: str) -> int:
        status = ControlClient(self.data / "control.sock").call("status")
        return int(status["counters"][kind].get(reason, 0))
