"""What the tests of the MicroPython client share: its runtime, its programs, and a scripted server.

A `Program` is one of `programs/` as a process of MicroPython. `Server` and `Peer` are the other end: the
test says, packet by packet, what the server does.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from devices.frames import Frame, Hello, Up, decode_up, encode_frame
from devices.packets import (
    Connack,
    Connect,
    Decoder,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    encode,
)
from tests.broker.support import ROOT
from tests.devices.micropython.get_umqtt import DIRECTORY as UMQTT

if TYPE_CHECKING:
    from types import TracebackType

PATIENCE = 10.0
"""Seconds until a test that waits for something fails."""
_FAKETIME = ("*-linux-gnu/faketime/libfaketime.so.1", "faketime/libfaketime.so.1")
RUNTIME = Path(sys.executable).with_name("micropython")
FAKETIME = next(
    (path for pattern in _FAKETIME for path in Path("/usr/lib").glob(pattern)), Path("libfaketime")
)
CLIENT = ROOT / "devices" / "micropython"
PROGRAMS = Path(__file__).with_name("programs")

P = TypeVar("P", bound=Packet)


def command(program: Path, *arguments: str, heap: int | None = None) -> list[str]:
    """How to start a program, with this many KiB of heap."""
    limit = ["-X", f"heapsize={heap}k"] if heap else []
    return [str(RUNTIME), *limit, str(program), *arguments]


def environment(faster: int = 1) -> dict[str, str]:
    """Where MicroPython finds modules, and how many seconds its clock counts in one."""
    found = os.environ | {"MICROPYPATH": os.pathsep.join((".frozen", str(UMQTT), str(CLIENT)))}
    if faster > 1:
        # Preloaded and not by the program `faketime`, which would be what is killed in the end.
        found |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"+0s x{faster}"}
    return found


class Program:
    """A program whose answers are lines of JSON."""

    def __init__(
        self, name: str, *arguments: str, heap: int | None = None, faster: int = 1
    ) -> None:
        self._process = subprocess.Popen(
            command(PROGRAMS / name, *arguments, heap=heap),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(faster),
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def answer(self, within: float = PATIENCE) -> Any:
        """The next line that it says."""
        line = self._lines.get(timeout=within)
        assert line, "the program has ended"
        try:
            return json.loads(line)
        except ValueError:
            rest = [self._lines.get(timeout=1) for _ in range(20) if self._lines.qsize()]
            raise AssertionError(line + "".join(rest)) from None

    def kill(self) -> None:
        """SIGKILL: the power is gone."""
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait until it has ended."""
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.returncode is None:
            self.kill()


class Client(Program):
    """The MicroPython client of one device, as `programs/device.py` runs it."""

    def __init__(
        self,
        port: int,
        device: str = "kitchen",
        *,
        faster: int = 1,
        heap: int | None = None,
        **more: Any,
    ) -> None:
        config = json.dumps({"port": port, "device": device, **more})
        super().__init__("device.py", config, faster=faster, heap=heap)
        self.errors: list[str] = []
        self.window: list[list[Any]] = []

    def do(self, *order: Any) -> None:
        """Have it call a method of its feed."""
        self.tell(json.dumps(order))

    def hear(self, what: str, within: float = PATIENCE) -> Any:
        """The next that it says of this kind."""
        deadline = time.monotonic() + within
        while True:
            kind, value = self.answer(max(0.01, deadline - time.monotonic()))
            if kind == "error":
                self.errors.append(value)
            elif kind == "window":
                self.window = value
            if kind == what:
                return value

    def shows(self, *payloads: str, within: float = PATIENCE) -> None:
        """Wait until its window is this."""
        deadline = time.monotonic() + within
        while [payload for _, payload in self.window] != list(payloads):
            try:
                self.hear("window", deadline - time.monotonic())
            except queue.Empty:
                raise AssertionError(f"{self.window} {self.errors}") from None

    def number(self, payload: str) -> int:
        """The item number of what is shown."""
        return next(n for n, shown in self.window if shown == payload)


class Server:
    """A port of 127.0.0.1 where the test is the server."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self._peers: list[Peer] = []

    def accept(self) -> Peer:
        """The next connection."""
        sock, _ = self._listener.accept()
        self._peers.append(Peer(sock))
        return self._peers[-1]

    def admit(self, *, session_present: bool = False) -> tuple[Peer, Hello]:
        """Let the next client in, through hello and SUBSCRIBE; returns its hello."""
        peer = self.accept()
        peer.read(Connect)
        peer.send(Connack(session_present, 0))
        hello = peer.read_up()
        assert isinstance(hello, Hello)
        subscribe = peer.read(Subscribe)
        assert subscribe.filters == (("f/kitchen", 1),)
        peer.send(Suback(subscribe.packet_id, (1,)))
        return peer, hello

    def close(self) -> None:
        self._listener.close()
        for peer in self._peers:
            peer.close()


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.settimeout(PATIENCE)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = Decoder(role="server", max_packet=100_000)
        self._packets: list[Packet] = []
        self._packet_id = 100
        self.answers_pings = True
        self.pings = 0

    def next(self) -> Packet | None:
        """The next packet that is no ping; None when the client has closed the connection."""
        deadline = time.monotonic() + PATIENCE
        while not self._packets:
            assert time.monotonic() < deadline, "nothing but pings"
            if not self._receive():
                return None
        return self._packets.pop(0)

    def see_pings(self, count: int) -> None:
        """Wait for as many pings, and nothing else."""
        until = self.pings + count
        while self.pings < until:
            assert self._receive(), "closed"
            assert not self._packets

    def _receive(self) -> bool:
        try:
            data = self._sock.recv(4096)
        except ConnectionError:
            return False
        for packet, _ in self._decoder.feed(data):
            if not isinstance(packet, Pingreq):
                self._packets.append(packet)
                continue
            self.pings += 1
            if self.answers_pings:
                self.send(Pingresp())
        return bool(data)

    def read(self, kind: type[P]) -> P:
        """The next packet, which must be of this kind."""
        packet = self.next()
        assert isinstance(packet, kind), packet
        return packet

    def read_up(self) -> Up:
        """The next packet, which must be an up message; acknowledged if it has to be."""
        publish = self.read(Publish)
        assert publish.topic == "u/kitchen"
        assert not publish.retain
        if publish.qos == 1:
            self.send(Puback(publish.packet_id))
        return decode_up(publish.payload)

    def send(self, *packets: Packet | bytes) -> None:
        self._sock.sendall(b"".join(p if isinstance(p, bytes) else encode(p) for p in packets))

    def packet(self, frame: Frame | bytes) -> bytes:
        """A frame at QoS 1, in a packet with an id of its own."""
        self._packet_id += 1
        payload = frame if isinstance(frame, bytes) else encode_frame(frame)
        return encode(Publish("f/kitchen", payload, qos=1, packet_id=self._packet_id))

    def deliver(self, frame: Frame | bytes) -> None:
        """Send a frame and see it acknowledged, with nothing before."""
        self.send(self.packet(frame))
        assert self.read(Puback).packet_id == self._packet_id

    def close(self) -> None:
        self._sock.close()
