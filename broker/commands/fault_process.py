"""A server process of the fault suite: started, killed, frozen, listened to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from broker.commands.demonstration import READY, START_TIMEOUT, STOP_TIMEOUT
from broker.commands.shell import Failure
from broker.control import SOCKET_NAME, ControlClient, ControlError
from feedgen.store.sqlite_file import FILE
from simulator.bounds import Memory
from simulator.faults.server import DeviceState, ServerFault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.facts import Window

_PORTS = range(20_000, 30_000)
"""Below the ports that the system gives to connecting sockets."""
_given: set[int] = set()
_KEPT_LINES = 200
_FAULTY_LINES = ("Traceback (most recent call last)", " ERROR ", " CRITICAL ")


def free_port() -> int:
    """A port that nobody listens on, that the system gives to nobody who connects, and that was not given before.

    One that the system chose might be taken by a client, or even be connected to itself, while the server is down.
    """
    for port in Random().sample(_PORTS, len(_PORTS)):  # noqa: S311 - no secret
        if port in _given:
            continue
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    raise Failure("no port of 20000 to 29999 is free on 127.0.0.1")


class ServerProcess:
    """One data directory and the server processes that live on it, one after the other.

    Args:
        directory: For everything of this server; made here.
        chosen: Settings by dotted name.
    """

    def __init__(self, directory: Path, chosen: Mapping[str, Any]) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self._data = directory / "data"
        self._log = directory / "server.log"
        self._control = ControlClient(self._data / SOCKET_NAME)
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("FLEETFEED_")}
        self._environment |= {
            f"FLEETFEED_{name.replace('.', '__').upper()}": value
            if isinstance(value, str)
            else json.dumps(value)
            for name, value in chosen.items()
        }
        self._faking: dict[str, str] = {}
        self._port = free_port()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._words: list[str] = []

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return "127.0.0.1", self._port

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return None if self._process is None else self._process.pid

    # ---- Life

    async def start(self) -> None:
        """Start it and wait for the line that says where it listens."""
        # stderr is a pipe: a disk that is full must not take the log.
        process = self._process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "broker",
                "serve",
                "--bind",
                f"127.0.0.1:{self._port}",
                "--open",
            ),
            *("--data", str(self._data), "--log-level", "info"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment | self._faking,
            start_new_session=True,
        )
        self._reading = asyncio.ensure_future(self._listen(process))
        assert process.stdout is not None
        line = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT):
                line = (await process.stdout.readline()).decode()
        if not line.startswith(READY):
            await self.close()
            raise ServerFault(f"the server did not start: {self._last_words()}")

    async def kill(self) -> None:
        """SIGKILL."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM; it must end in order."""
        code = await self._end(signal.SIGTERM)
        if code:
            raise ServerFault(f"the server ended with code {code}: {self._last_words()}")

    async def close(self) -> None:
        """End it if it runs."""
        if self._process is not None:
            await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        assert process is not None, "it is not running"
        assert self._reading is not None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        late = False
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                code = await process.wait()
        except TimeoutError:
            late = True
            process.kill()
            code = await process.wait()
        await self._reading
        if late:
            raise ServerFault(f"the server did not end within {STOP_TIMEOUT:g} s of {how.name}")
        return code

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Keep what it says on stderr, in memory and in the log."""
        assert process.stderr is not None
        with self._log.open("ab") as log:
            while line := await process.stderr.readline():
                log.write(line)
                log.flush()
                self._words.append(line.decode(errors="replace").rstrip())

    def _last_words(self) -> str:
        return self._words[-1].removeprefix("fleetfeed: ") if self._words else "it said nothing"

    def complaints(self) -> list[str]:
        """Tracebacks and errors in the log since the last call, with what stands around them."""
        fresh, self._words = self._words, self._words[-1:]
        found = [
            number
            for number, line in enumerate(fresh)
            if any(mark in line for mark in _FAULTY_LINES)
        ]
        return ["\n".join(fresh[max(found[0] - 5, 0) :][:_KEPT_LINES])] if found else []

    # ---- What it says

    async def windows(self, devices: Sequence[str]) -> Mapping[str, Window | None]:
        """What each device should show."""
        return windows_of(await self._ask("windows", devices=list(devices)))

    async def states(self, devices: Sequence[str]) -> Mapping[str, DeviceState | None]:
        """What it knows of devices."""
        return await asyncio.to_thread(device_states, self._control, devices)

    async def heard(self) -> int:
        """How much it took as new since its start."""
        counts = (await self.status())["counters"]
        # Not retractions: one of what is gone for long counts once more, and changes nothing.
        items = sum(counts["items"].get(outcome, 0) for outcome in ("new", "update"))
        return int(items + counts["up"].get("events_counted", 0))

    async def status(self) -> Any:
        """Everything that it says of itself."""
        return await self._ask("status")

    async def _ask(self, do: str, **args: Any) -> Any:
        try:
            return await asyncio.to_thread(self._control.call, do, **args)
        except ControlError as error:
            raise ServerFault(f"the server does not answer: {error}") from error

    def memory(self) -> Memory:
        """Resident memory, from the kernel."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = dict(line.split(":", 1) for line in status.splitlines())
        return Memory(
            now=1024 * int(found["VmRSS"].split()[0]), peak=1024 * int(found["VmHWM"].split()[0])
        )

    def keep(self, place: Path) -> None:
        """Copy everything to where it survives."""
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(
            self.directory, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SOCKET_NAME)
        )


def windows_of(answer: Mapping[str, Any]) -> dict[str, Window | None]:
    """What `windows` answers, as values to compare."""
    return {
        device: None if window is None else tuple((n, payload) for n, payload in window)
        for device, window in answer.items()
    }


def device_states(control: ControlClient, devices: Sequence[str]) -> dict[str, DeviceState | None]:
    """What a server knows of devices; blocks, as each is asked for alone.

    Raises:
        ServerFault: It does not answer.
    """
    return {device: _state(control, device) for device in devices}


def _state(control: ControlClient, device: str) -> DeviceState | None:
    try:
        found = control.call("device.show", device=device)
    except ControlError as error:
        if "there is no device" in str(error):
            return None
        raise ServerFault(f"the server does not say what it knows: {error}") from error
    return DeviceState(
        k=found["k"],
        budget=found["budget"],
        follow=tuple(found["follow"]),
        attributes=found["attributes"],
        details={k: v for k, v in found.items() if k != "window"},
    )


def stored_bars(data: Path) -> set[tuple[str, int]]:
    """Device and number of every item that the store of a data directory keeps out of a feed."""
    uri = f"file:{data / FILE}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as reader:
        return set(reader.execute("SELECT device, n FROM dismissed"))
