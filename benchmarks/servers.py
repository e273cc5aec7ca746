"""The servers under test: fleetfeed, Mosquitto, and a bare `send()` loop as the floor.

All run pinned to the broker's core and listen on 127.0.0.1. Mosquitto gets the settings that are
best for it here: no persistence, no `$SYS` timer, no connection log, TCP_NODELAY.
"""

from __future__ import annotations

import getpass
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from certificates import issue
from harness import cores, cpu_seconds, on_core, progress, quiesce, resident_bytes

#: Seconds that a server may take until it listens.
START = 30.0


class StartError(RuntimeError):
    """A server did not start; the end of its log is on stderr."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process."""

    name: str
    pid: int
    port: int

    def cpu(self) -> float:
        """Return the CPU seconds of all its threads, once it has nothing left to do."""
        quiesce(self.pid)
        return cpu_seconds(self.pid)

    def resident(self) -> int:
        """Return its resident bytes."""
        return resident_bytes(self.pid)


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_mosquitto() -> str | None:
    """Return the path of Mosquitto's broker, also where Debian hides it from users."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def fleetfeed(*options: str, tls: bool = False) -> Iterator[Server]:
    """Run our broker on an empty data directory with open registration, on one port."""
    with tempfile.TemporaryDirectory(prefix="fleetfeed-bench-") as place:
        port = free_port()
        address = f"127.0.0.1:{port}"
        data = Path(place) / "data"
        command = [sys.executable, "-m", "broker", "serve", "--data", str(data), "--open"]
        command += ["--bind", "off" if tls else address, *options]
        settings = {}
        if tls:
            files = issue(Path(place))
            settings = {"BIND": address, "CERTIFICATE": files.certificate, "KEY": files.key}
        environment = {f"FLEETFEED_TLS__{name}": str(value) for name, value in settings.items()}
        with _running("fleetfeed", command, port, Path(place) / "log", environment) as server:
            yield server


@contextmanager
def mosquitto(*, tls: bool = False) -> Iterator[Server]:
    """Run Mosquitto.

    Raises:
        FileNotFoundError: it is not installed (see `find_mosquitto`).
    """
    program = find_mosquitto()
    if program is None:
        raise FileNotFoundError("mosquitto")
    with tempfile.TemporaryDirectory(prefix="mosquitto-bench-") as place:
        port = free_port()
        config = Path(place) / "mosquitto.conf"
        encrypted = ""
        if tls:
            files = issue(Path(place))
            encrypted = f"certfile {files.certificate}\nkeyfile {files.key}\n"
        config.write_text(
            f"listener {port} 127.0.0.1\n"
            f"{encrypted}"
            f"user {getpass.getuser()}\n"
            "allow_anonymous true\n"
            "persistence false\n"
            "set_tcp_nodelay true\n"
            "sys_interval 0\n"
            "connection_messages false\n"
            "log_dest stderr\n"
            "log_type error\n",
            encoding="utf-8",
        )
        command = [program, "-c", str(config)]
        with _running("mosquitto", command, port, Path(place) / "log") as server:
            yield server


@contextmanager
def _running(
    name: str,
    command: Sequence[str],
    port: int,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    env = {**os.environ, **(environment or {})}
    with log.open("wb") as out, on_core(cores()[0]):
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env)
    try:
        _await_listener(process, port)
        yield Server(name, process.pid, port)
    except BaseException:
        progress(f"the end of {name}'s log:\n{_tail(log)}")
        raise
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_listener(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise StartError(f"{process.args!r} did not listen on port {port}")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


class BareLoop:
    """The floor: accepts as a broker does, then only sends (and at QoS 1 reads the PUBACKs).

    Runs in a `Worker`. Its CPU time is its own, measured around the loop alone.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._devices: list[socket.socket] = []
        self._poll = select.epoll()

    def port(self) -> int:
        """Return the port that devices connect to."""
        port: int = self._listener.getsockname()[1]
        return port

    def accept(self, *, count: int) -> None:
        """Accept devices until `count` have subscribed; each waits for its answers in turn."""
        opened: dict[int, socket.socket] = {}
        subscribed = 0
        self._poll.register(self._listener, select.EPOLLIN)
        while subscribed < count:
            for number, _ in self._poll.poll():
                if number == self._listener.fileno():
                    device, _ = self._listener.accept()
                    device.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    opened[device.fileno()] = device
                    self._poll.register(device, select.EPOLLIN)
                    continue
                said = opened[number].recv(4096)
                if said[0] == 0x10:
                    opened[number].send(b"\x20\x02\x00\x00")
                else:
                    opened[number].send(b"\x90\x03\x00\x01\x01")
                    subscribed += 1
        self._poll.unregister(self._listener)
        self._devices = list(opened.values())

    def send(self, *, packet: bytes, answered: bool) -> float:
        """Send one packet to every device; returns the CPU seconds of doing so.

        Args:
            packet: the same bytes for all.
            answered: whether to read one answer of each device as well.
        """
        before = time.process_time()
        for device in self._devices:
            device.send(packet)
        if answered:
            self._read_answers()
        return time.process_time() - before

    def _read_answers(self) -> None:
        devices = {device.fileno(): device for device in self._devices}
        due = len(devices)
        while due:
            for number, _ in self._poll.poll():
                devices[number].recv(4096)
                due -= 1
