"""The server as far as connections go: it listens, lets the device in, drops it, and switches it off and on."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from devices.packets import Connack, Connect, Packet, Publish
from simulator.device_check.case import NoDeviceError, failed
from simulator.device_check.encryption import EncryptedPort
from simulator.device_check.exchange import Exchange
from simulator.device_check.greeting import hear
from simulator.device_check.limits import FULL
from simulator.device_check.line import Line, of_kind

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from simulator.device_check.device import Device
    from simulator.device_check.greeting import Greeting
    from simulator.device_check.limits import Limits

_MAX_ARRIVALS = 100
"""Connections that wait to be looked at; of a device that makes more the oldest is closed."""
_MAX_UPS = 10_000


class Host:
    """The server that one device meets.

    Args:
        device: What is checked.
        limits: How long to wait for what.
        host, port: Where to listen; port 0 = any free one.
        prefix: What stands before all topics.
        outside: Keep the rules of a feed beside an outside broker.
        tls: Our certificate and key; None: plain text.
        told: Hears of each TLS handshake that failed for a new reason.

    Attributes:
        greeting: Of the connection that stands, or stood last.
        exchange: What happened in the case that runs.
        prefix: What stands before all topics.
        ups: Every PUBLISH that the device ever sent, for the case that looks at them all.
        drops: How often we dropped a connection of the program as it runs now.
        encrypted: Whether connections are.
    """

    def __init__(
        self,
        device: Device,
        limits: Limits = FULL,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        prefix: str = "",
        outside: bool = False,
        tls: ssl.SSLContext | None = None,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.device = device
        self.limits = limits
        self.outside = outside
        self.exchange = Exchange()
        self.greeting: Greeting | None = None
        self.ups: deque[Publish] = deque(maxlen=_MAX_UPS)
        self.drops = 0
        self.prefix = prefix
        self._host, self._port = host, port
        self.encrypted = tls is not None
        self._tls = tls
        self._told = told
        self._unencrypted = ""
        self._server: asyncio.Server | EncryptedPort | None = None
        self._arrivals: deque[Line] = deque()
        self._arrived = asyncio.Event()
        self._line: Line | None = None
        self._session = False
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Listen, and have the device switched on.

        Raises:
            OSError: The address cannot be had.
            NoDeviceError: Its program cannot be started.
        """
        if self._tls is None:
            plain = await self._loop.create_server(self._new_line, self._host, self._port)
            self._server, self._port = plain, plain.sockets[0].getsockname()[1]
        else:
            port = self._server = EncryptedPort(self._tls, self._new_line, self._no_handshake)
            self._port = await port.open(self._host, self._port)
        await self.device.start(self._host, self._port)

    async def close(self) -> None:
        """Listen no more and drop the device."""
        if isinstance(self._server, EncryptedPort):
            await self._server.close()
        elif self._server is not None:
            self._server.close()
        for line in (*self._arrivals, *([self._line] if self._line else [])):
            line.close()

    def begin(self) -> None:
        """A case begins."""
        self.exchange.begin(self._loop.time())

    @property
    def connect(self) -> Connect:
        """The CONNECT of the connection that stands."""
        assert self.greeting is not None
        return self.greeting.connect

    @property
    def line(self) -> Line:
        """The connection that stands."""
        assert self._line is not None
        return self._line

    @property
    def down_topic(self) -> str:
        """Where its frames go."""
        return f"{self.prefix}f/{self.connect.client_id}"

    @property
    def up_topic(self) -> str:
        """Where its messages come."""
        return f"{self.prefix}u/{self.connect.client_id}"

    async def refresh(self) -> None:
        """See that the device was just switched on, where we can do that."""
        if self.device.restarts and self.drops:
            await self.restart()

    async def restart(self) -> None:
        """Switch the device off and on, and forget its connections."""
        await self.device.cut_power()
        self.forget()
        await self.device.start(self._host, self._port)

    def forget(self) -> None:
        """Drop every connection."""
        for line in (*self._arrivals, *([self._line] if self._line else [])):
            line.close()
        self._arrivals.clear()
        self._line = None
        self.drops = 0

    def drop(self, line: Line, *, reset: bool = False) -> None:
        """Close a connection, or reset it."""
        self.drops += 1
        if reset:
            line.reset()
        else:
            line.close()

    async def arrival(self, within: float | None = None) -> Line | None:
        """The device's next connection; None if none came. Such as are gone already do not count."""
        deadline = self._loop.time() + (self.limits.reconnect if within is None else within)
        while True:
            while self._arrivals:
                line = self._arrivals.popleft()
                if line.open or line.inbox:
                    return line
            if self.device.ended() is not None:
                return None
            self._arrived.clear()
            try:
                # Now and then, to see whether the program still runs.
                async with asyncio.timeout(min(0.5, max(deadline - self._loop.time(), 0.0))):
                    await self._arrived.wait()
            except TimeoutError:
                if self._loop.time() >= deadline:
                    return None

    async def back(self, within: float | None = None) -> Line:
        """The device's next connection.

        Raises:
            Verdict: FAIL, it did not come back.
        """
        line = await self.arrival(within)
        if line is not None:
            return line
        if (words := self.device.ended()) is not None:
            raise failed(f"the program did not live on: {words}")
        wait = self.limits.reconnect if within is None else within
        raise failed(f"the device did not connect again within {wait:g} s{self._no_tls}")

    async def admitted(self, *, present: bool | None = None) -> Line:
        """Let the device's next connection in and hear what it says first.

        Args:
            present: What CONNACK says about the session; None = the truth.

        Raises:
            Verdict: FAIL: it does not come, does not speak MQTT, or does not subscribe.
        """
        line = await self.back()
        connect = await line.expect(of_kind(Connect), "CONNECT", self.limits.answer)
        if present is None:
            present = self._session
        present = present and not connect.clean_session
        line.send(Connack(present, 0))
        if self._line is not None:
            self._line.close()  # MQTT 3.1.1, 3.1.4: a client that connects again takes over
        self._line = line
        self.greeting = await hear(
            line, connect, self.limits, present=present, outside=self.outside
        )
        self.exchange.remember()
        self._session = not connect.clean_session
        if line.broke is not None:
            raise failed(f"the device broke MQTT: {line.broke}")
        if self.greeting.subscribe is None and not present:
            raise failed(
                f"no SUBSCRIBE within {self.limits.answer:g} s of CONNACK with session present 0"
            )
        return line

    async def connected(self) -> Line:
        """The connection that stands, or else the next one.

        Raises:
            NoDeviceError: Nothing has ever connected.
            Verdict: as `admitted`.
        """
        if self._line is not None and self._line.open and not self._arrivals:
            return self._line
        if self.greeting is None:
            await self._first()
        elif self.device.restarts and not self._arrivals:
            await self.restart()  # sooner there than after its pause
        return await self.admitted()

    async def introduced(self) -> Greeting:
        """How the device introduced itself on the connection that stands; its packets show in this case.

        Raises:
            As `connected`.
        """
        await self.connected()
        self.exchange.recall()
        assert self.greeting is not None
        return self.greeting

    async def comes(self, within: float | None = None) -> bool:
        """Whether the device connects; `admitted` then lets it in."""
        line = await self.arrival(within)
        if line is not None:
            self._arrivals.appendleft(line)
        return line is not None

    async def _first(self) -> None:
        if await self.comes():
            return
        if (words := self.device.ended()) is not None:
            raise NoDeviceError(f"the program did not connect: {words}{self._no_tls}")
        raise NoDeviceError(
            f"no device connected to {self._host}:{self._port} within {self.limits.reconnect:g} s{self._no_tls}"
        )

    def _new_line(self) -> Line:
        return Line(self.exchange, self._take, self._hear)

    @property
    def _no_tls(self) -> str:
        """Why the last handshake failed, behind a sentence about a device that does not come."""
        return f"; no TLS connection: {self._unencrypted}" if self._unencrypted else ""

    def _no_handshake(self, why: str) -> None:
        """A handshake failed: no case fails for it, as a device may try again otherwise."""
        self.exchange.note(self._loop.time(), "", f"no TLS connection: {why}")
        if why != self._unencrypted:
            self._told(why)
        self._unencrypted = why

    def _take(self, line: Line) -> None:
        self._unencrypted = ""
        if len(self._arrivals) == _MAX_ARRIVALS:
            self._arrivals.popleft().close()
        self._arrivals.append(line)
        self._arrived.set()

    def _hear(self, packet: Packet) -> None:
        if isinstance(packet, Publish):
            self.ups.append(packet)
