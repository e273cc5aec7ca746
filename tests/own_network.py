"""Run a program in a network namespace of its own, its ports forwarded from here.

So a configuration with fixed ports is tested as it is, byte for byte, and many times at once:

    python tests/own_network.py 1883 8883:40001 -- mosquitto -c mosquitto.conf

forwards a free port of 127.0.0.1 to port 1883 of the program, and port 40001 to its 8883. The first
line on stdout is JSON: {"pid": of the program, "ports": {"1883": 39211, "8883": 40001}}. The program
inherits stderr, gets SIGHUP and SIGTERM that come here, and ends when this process ends.

One process forwards: a socket belongs to the namespace it was made in, so it listens with sockets
made before it leaves for the new one. Nothing but Linux is needed, and no right but that to make a
namespace, which ordinary users mostly have too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys

_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Pipe(asyncio.Protocol):
    """One side of a connection; what it receives is written to the other side."""

    def __init__(self) -> None:
        self.other: asyncio.Transport
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.other.write(data)

    def eof_received(self) -> bool:
        if self.other.can_write_eof():
            self.other.write_eof()
        return True  # the other direction may still have something to say

    def connection_lost(self, _error: Exception | None) -> None:
        if hasattr(self, "other"):
            self.other.close()

    def pause_writing(self) -> None:
        self.other.pause_reading()

    def resume_writing(self) -> None:
        self.other.resume_reading()


class _Outside(_Pipe):
    """The side of a client: on connecting, finds its way in."""

    def __init__(self, port: int, tasks: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._port = port
        self._tasks = tasks
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._join())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def data_received(self, data: bytes) -> None:
        # Before Python 3.11.4 a transport goes on reading that was paused in connection_made.
        if hasattr(self, "other"):
            super().data_received(data)
        else:
            self._early += data

    def eof_received(self) -> bool:
        return hasattr(self, "other") and super().eof_received()

    async def _join(self) -> None:
        try:
            _, inside = await asyncio.get_running_loop().create_connection(
                _Pipe, "127.0.0.1", self._port
            )
        except OSError:  # the program does not listen there, or no more
            self.transport.abort()
            return
        inside.other, self.other = self.transport, inside.transport
        if self.transport.is_closing():
            inside.transport.close()
        else:
            self.other.write(self._early)
            self.transport.resume_reading()


def _listening(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _leave() -> None:
    """Move to a new network namespace, where there is a loopback interface and nothing else.

    Raises:
        OSError: This user may not, or this kernel cannot.
    """
    flags = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    if _libc.unshare(flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _die_with_us() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def _run(sockets: dict[int, socket.socket], command: list[str]) -> int:
    loop = asyncio.get_running_loop()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=_die_with_us)  # noqa: ASYNC220, PLW1509 - before any thread
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, child.send_signal, number)
    tasks: set[asyncio.Task[None]] = set()
    for inside, sock in sockets.items():
        await loop.create_server(lambda port=inside: _Outside(port, tasks), sock=sock, backlog=4096)
    ports = {str(inside): sock.getsockname()[1] for inside, sock in sockets.items()}
    print(json.dumps({"pid": child.pid, "ports": ports}), flush=True)  # noqa: T201 - its answer
    return await loop.run_in_executor(None, child.wait)


def main() -> int:
    """Run what the command line says; returns the exit code of the program."""
    split = sys.argv.index("--")
    sockets = {}
    for text in sys.argv[1:split]:
        inside, _, here = text.partition(":")
        sockets[int(inside)] = _listening(int(here or 0))
    _leave()
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_run(sockets, sys.argv[split + 1 :]))
    return 1


if __name__ == "__main__":
    sys.exit(main())
