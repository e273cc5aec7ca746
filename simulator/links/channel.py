"""One connection of a device over a link, between its protocol and a socket.

The device sees an ordinary transport, so it need not know. What the link does it does to both ends: a device that goes
away in a coverage hole leaves the server with a connection that seems to live, until the hole is over.

One thing differs from a real network: the server's kernel believes that bytes have arrived when they enter the link.
So the server never waits for TCP, and up to `HIGH` bytes are out of its hands; a modem's network holds as much.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from simulator.links.link import Link
from simulator.links.modem import SYN, TLS_HELLO
from simulator.toxics import Chunk, Ending

if TYPE_CHECKING:
    import ssl

    from simulator.links.clockwork import Clockwork
    from simulator.links.link import Again
    from simulator.links.modem import Modem
    from simulator.links.profiles import Profile
    from simulator.toxics import Event

HIGH: Final = 65_536
"""Bytes under way in one direction at which its sender is asked to pause."""

LOW: Final = 16_384
"""Bytes at which it may go on."""

MOST: Final = 1_048_576
"""Bytes under way to the server at which the connection of a device that does not pause is lost."""

_SYN: Final = bytes(SYN)
_HELLO: Final = bytes(TLS_HELLO)
_FLIGHT: Final = bytes(1_300)
"""What opens a connection crosses the link as bytes that nobody gets; recognised by identity. Of the server's part in
the handshake of TLS one segment crosses: its round trip counts, its bandwidth hardly."""

_LINGER_0: Final = struct.pack("ii", 1, 0)


class Device(Protocol):
    """Whose connection it is.

    Attributes:
        profile: Of the link.
        modem: Counts.
        clock: Wakes.
        no_coverage_until: When a coverage hole ends, or has ended.
    """

    profile: Profile
    modem: Modem
    clock: Clockwork
    no_coverage_until: float

    def left(self, channel: Channel) -> None:
        """The connection is over for the device."""


class Channel(asyncio.Transport, asyncio.Protocol):
    """One connection: the transport of the device's protocol, and the protocol of the socket's transport.

    One object for both, as ten thousand of them count. Without links bytes go straight through and are only counted.

    Args:
        device: Whose connection it is.
        protocol: The device's.
        seed: Of the chance of this connection.
    """

    __slots__ = (
        "_choked",
        "_clock",
        "_crossed",
        "_device",
        "_down",
        "_early",
        "_ending",
        "_fault",
        "_held",
        "_modem",
        "_paused",
        "_protocol",
        "_reading",
        "_seed",
        "_socket",
        "_started",
        "_tls",
        "_token",
        "_up",
        "alarm",
    )

    def __init__(self, device: Device, protocol: asyncio.Protocol, seed: int) -> None:
        self._device = device
        self._modem = device.modem
        self._clock = device.clock
        self._seed = seed
        self._protocol: asyncio.BaseProtocol | None = protocol
        self._socket: asyncio.Transport | None = None
        self._up: Link | None = None
        self._down: Link | None = None
        self._token: bytes | None = None  # what `_crossed` waits for
        self._crossed: asyncio.Future[None] | None = None
        self._ending: Ending | None = None  # how the device ended it
        self._early = b""  # what the server said before the device knew of the connection
        self._fault: Exception | None = None  # why it could not be opened
        self._started = False
        self._tls = False
        self._choked = False  # the device was asked to pause
        self._held = False  # the socket asked us to
        self._paused = False  # the device does not read
        self._reading = True  # we read the socket
        self.alarm = inf

    # What the link does

    def interpose(self, now: float) -> None:
        """Bytes go over links from now on, and the coverage hole that there may be concerns them."""
        if self._up is None or self._down is None:
            profile = self._device.profile
            self._up = Link(profile, upwards=True, seed=self._seed)
            self._down = Link(profile, upwards=False, seed=~self._seed)
            self._choked = self._held
        until = self._device.no_coverage_until
        self._again(now, self._up.hole(now, until), upwards=True)
        self._again(now, self._down.hole(now, until), upwards=False)
        self._plan()

    def change(self, profile: Profile, now: float) -> None:
        """The device has another link."""
        if self._up is not None and self._down is not None:
            self._up.change(profile)
            self._down.change(profile)
        elif not profile.straight:
            self.interpose(now)

    def reset(self, why: OSError) -> None:
        """Ends the connection at both ends; one that is only being opened fails if it has got as far as the network."""
        if self._started or self._crossed is not None:
            asyncio.get_running_loop().call_soon(self._lost, why)
            self._disconnect(Ending.RESET)

    def wake(self, now: float) -> None:
        """See `Sleeper`: something is through."""
        up, down = self._up, self._down
        if up is None or down is None:
            return
        while not self._held and (event := up.take(now)):
            self._leaves(event)
        while not self._paused and (event := down.take(now)):
            self._arrives(event, now)
        self._release(up, down)
        if up.due == down.due == inf and self._needless(now):
            self._up = self._down = None
        self._plan()

    def drop(self) -> None:
        """See `Sleeper`: nothing will come through."""
        self._disconnect(Ending.RESET)
        asyncio.get_running_loop().call_soon(self._lost, ConnectionAbortedError(errno.ECONNABORTED, "the link has stopped"))  # fmt: skip

    # How it begins

    async def open(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Connects the socket and the device, one round trip (two with TLS) after the other."""
        loop = asyncio.get_running_loop()
        self._tls = context is not None
        await self._cross(_SYN, upwards=True)
        try:
            await loop.create_connection(lambda: self, host, port, ssl=context)
        except ConnectionRefusedError:
            self._modem.refused(self._clock.time())
            await self._cross(_SYN, upwards=False)
            raise
        if self._started:
            return
        await self._cross(_SYN, upwards=False)
        if self._tls:
            await self._cross(_HELLO, upwards=True)
            await self._cross(_FLIGHT, upwards=False)
        self._start()

    def give_up(self) -> None:
        """The device does not wait for the connection any longer."""
        self._protocol = None
        self._device.left(self)
        self._disconnect(Ending.RESET)
        self._modem.unanswered()

    async def _cross(self, token: bytes, *, upwards: bool) -> None:
        link = self._up if upwards else self._down
        if link is None:
            return
        if self._fault is not None:
            raise self._fault
        self._token, self._crossed = token, asyncio.get_running_loop().create_future()
        now = self._clock.time()
        self._again(now, link.feed(token, now), upwards=upwards)
        self._plan()
        try:
            await self._crossed
        finally:
            self._token = self._crossed = None

    def _start(self) -> None:
        if self._fault is not None:
            raise self._fault
        assert self._protocol is not None
        self._started = True
        self._modem.handshake(self._clock.time(), tls=self._tls)
        self._protocol.connection_made(self)
        if not self._paused:
            self._read(wanted=True)
        if self._early:
            early, self._early = self._early, b""
            self.data_received(early)

    # What the socket calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected; the device hears of it when that has crossed the link."""
        # uvloop's transports are not asyncio's by class, only by what they do.
        self._socket = cast("asyncio.Transport", transport)
        if self._up is None:
            self._start()
        else:
            self._read(wanted=False)

    def data_received(self, data: bytes) -> None:
        """The server has sent something."""
        now = self._clock.time()
        if self._down is None:
            self._modem.received(now, len(data))
            self._give(data)
            return
        if not self._started:
            self._early += data
            assert self._socket is not None
            self._socket.pause_reading()  # uvloop begins to read although `connection_made` paused it
            return
        self._again(now, self._down.feed(data, now), upwards=False)
        if self._down.buffered >= HIGH:
            self._read(wanted=False)
        self._plan()

    def eof_received(self) -> bool | None:
        """The server has closed its half."""
        if self._down is None:
            return None if self._listener is None else self._listener.eof_received()
        self._end_down(self._down, Ending.EOF)
        # The socket stays open until the device has answered; only TLS knows no half of a connection.
        return not self._tls

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._socket = None
        if self._down is None or self._ending is not None:
            self._lost(exc)
        else:
            self._end_down(self._down, Ending.RESET if exc else Ending.CLOSE)

    def pause_writing(self) -> None:
        """The server does not read."""
        self._held = True
        if self._up is None and self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The server reads again."""
        self._held = False
        if self._up is not None and self._down is not None:
            self._release(self._up, self._down)
            self._plan()
        elif self._protocol is not None:
            self._protocol.resume_writing()

    # What the device calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends bytes; without a connection they are lost."""
        if self._ending is not None or self._protocol is None or not data:
            return
        now = self._clock.time()
        self._modem.sent(now, len(data))
        if self._up is None:
            if self._socket is not None:
                self._socket.write(data)
            return
        self._again(now, self._up.feed(bytes(data), now), upwards=True)
        if self._up.buffered > MOST:
            self.reset(OSError(errno.ENOBUFS, f"{MOST} bytes wait for the link: the device sends faster and does not pause"))  # fmt: skip
        elif self._up.buffered > HIGH and not self._choked:
            self._choked = True
            self._protocol.pause_writing()
        self._plan()

    def close(self) -> None:
        """Ends the connection behind what was sent."""
        self._finish(Ending.CLOSE)

    def abort(self) -> None:
        """Ends the connection with a reset."""
        self._finish(Ending.RESET)

    def is_closing(self) -> bool:
        """Whether it has ended, or is about to."""
        return self._ending is not None or self._protocol is None

    def pause_reading(self) -> None:
        """The device takes no more bytes; the network holds a few, then the server notices."""
        self._paused = True
        if self._down is None:
            self._read(wanted=False)

    def resume_reading(self) -> None:
        """The device takes bytes again."""
        self._paused = False
        self._plan()
        if self._down is None or self._down.buffered < HIGH:
            self._read(wanted=True)

    def is_reading(self) -> bool:
        """Whether the device takes bytes."""
        return not self._paused and not self.is_closing()

    def can_write_eof(self) -> bool:
        """Never: MQTT has no use for half a connection."""
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the socket's transport says."""
        return default if self._socket is None else self._socket.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Bytes that the server does not have yet, as far as this end knows."""
        waiting = 0 if self._socket is None else self._socket.get_write_buffer_size()
        return waiting + (0 if self._up is None else self._up.buffered)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Another protocol for the device."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol of the device."""
        assert self._protocol is not None, "the connection is gone"
        return self._protocol

    # How bytes come out

    def _leaves(self, event: Event) -> None:
        """Something has come through to the server."""
        if isinstance(event, Chunk):
            if event.data is self._token:
                self._token_crossed()
            elif self._socket is not None:
                self._socket.write(event.data)
        else:
            if self._ending is None:
                self._lost(TimeoutError(errno.ETIMEDOUT, "nothing got through to the server"))
            self._disconnect(event.how)

    def _arrives(self, event: Event, now: float) -> None:
        """Something has come through to the device."""
        if isinstance(event, Chunk):
            if event.data is self._token:
                self._token_crossed()
            elif self._protocol is not None:
                self._modem.received(now, len(event.data))
                self._give(event.data)
        elif event.how is Ending.EOF and self._started:
            if self._listener is not None and not self._listener.eof_received():
                self.close()
        elif event.how is Ending.RESET:
            self._lost(ConnectionResetError(errno.ECONNRESET, "the server reset the connection, or could not get through"))  # fmt: skip
            self._disconnect(Ending.RESET)
        else:
            self._lost(None)

    def _give(self, data: bytes) -> None:
        if self._listener is not None:
            self._listener.data_received(data)

    def _token_crossed(self) -> None:
        if self._crossed is not None and not self._crossed.done():
            self._crossed.set_result(None)

    def _release(self, up: Link, down: Link) -> None:
        """Lets senders go on that were asked to pause."""
        if self._choked and up.buffered <= LOW:
            self._choked = False
            if self._protocol is not None:
                self._protocol.resume_writing()
        if self._started and not self._reading and down.buffered <= LOW:
            self._read(wanted=True)

    # How it ends

    def _finish(self, how: Ending) -> None:
        """The device ends it: at once for the device, later for the server."""
        if self._ending is not None or self._protocol is None:
            return
        self._ending = how
        if self._up is None:
            assert self._socket is not None
            # The socket then calls `connection_lost`.
            (self._socket.abort if how is Ending.RESET else self._socket.close)()
            return
        now = self._clock.time()
        self._again(now, self._up.end(now, how), upwards=True)
        self._plan()
        asyncio.get_running_loop().call_soon(self._lost, None)

    def _lost(self, why: Exception | None) -> None:
        """The connection is over for the device."""
        protocol, self._protocol = self._protocol, None
        if protocol is None:
            return
        self._device.left(self)
        if not self._started:
            self._fault = why or ConnectionResetError(errno.ECONNRESET, "the server closed the connection")  # fmt: skip
            if self._crossed is not None and not self._crossed.done():
                self._crossed.set_exception(self._fault)
            return
        how = self._ending
        reset = how is Ending.RESET or why is not None
        self._modem.closed(self._clock.time(), reset=reset, by_device=how is not None)
        protocol.connection_lost(why)

    def _end_down(self, down: Link, how: Ending) -> None:
        now = self._clock.time()
        self._again(now, down.end(now, how), upwards=False)
        self._plan()

    def _disconnect(self, how: Ending) -> None:
        """Ends the socket."""
        if self._socket is None:
            return
        if how is not Ending.RESET:
            self._socket.close()
            return
        with contextlib.suppress(OSError, AttributeError, ValueError):  # RST instead of FIN
            self._socket.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0
            )
        self._socket.abort()

    # Small things

    @property
    def _listener(self) -> asyncio.Protocol | None:
        """Who takes what the server sends, if the device still does."""
        listens = self._ending is None and isinstance(self._protocol, asyncio.Protocol)
        return cast("asyncio.Protocol", self._protocol) if listens else None

    def _needless(self, now: float) -> bool:
        """Whether empty links could as well not be there."""
        device = self._device
        waits = self._held or self._paused or self._choked
        return device.profile.straight and now >= device.no_coverage_until and not waits

    def _again(self, now: float, more: Again, *, upwards: bool) -> None:
        if more.segments:
            self._modem.again(now, more, upwards=upwards)

    def _read(self, *, wanted: bool) -> None:
        """Reads the socket, or leaves it alone."""
        if self._socket is None or wanted is self._reading or self._socket.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._socket.resume_reading()
        else:
            self._socket.pause_reading()

    def _plan(self) -> None:
        """Asks to be woken when the next thing is through."""
        if self._up is None or self._down is None:
            return
        due = min(inf if self._held else self._up.due, inf if self._paused else self._down.due)
        if due < inf:
            self._clock.ask(self, due)
