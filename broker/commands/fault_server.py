"""What `fleetfeed faults` does: server processes that are killed, starved, locked and started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import uvloop
from rich.console import Console

from broker.commands.demonstration import READY, START_TIMEOUT, STOP_TIMEOUT
from broker.commands.shell import Failure
from broker.control import SOCKET_NAME, ControlClient, ControlError
from feedgen.store.sqlite_file import FILE
from simulator.bounds import Memory
from simulator.faults.plan import Kind
from simulator.faults.season import HELLO_WAIT
from simulator.faults.server import DeviceState, ServerFault
from simulator.faults.suite import run_suite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from simulator.facts import Window

_LIBFAKETIME = (
    "/usr/lib/*-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)
_PORTS = range(20_000, 30_000)
"""Below the ports that the system gives to connecting sockets."""
_LOCK_PATIENCE = 5.0
"""Seconds to wait for the database's write lock, which the server takes for moments."""
_KEPT_LINES = 200
_FAULTY_LINES = ("Traceback (most recent call last)", " ERROR ", " CRITICAL ")


def run(
    *, rounds: int, seed: int, devices: int, only: Kind | None, keep: Path | None, as_json: bool
) -> int:
    """Run the suite and return its exit code.

    Raises:
        Failure: a fault that was asked for cannot be had here, or SIGTERM came.
    """
    library = _faketime()
    missing = {}
    if library is None:
        missing[Kind.CLOCK] = "libfaketime is missing (Debian: faketime)"
    if only in missing or (missing and os.environ.get("CI")):
        raise Failure(f"{missing[Kind.CLOCK]}; without it the clock cannot be stepped")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="fleetfeed-faults-") as directory,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            given = {"rounds": rounds, "seed": seed, "devices": devices, "only": only}
            return runner.run(_suite(Path(directory), library, missing, keep, given, as_json))
    except asyncio.CancelledError:
        raise Failure("the suite was ended by SIGTERM") from None


async def _suite(
    directory: Path,
    library: Path | None,
    missing: Mapping[Kind, str],
    keep: Path | None,
    given: Mapping[str, Any],
    as_json: bool,
) -> int:
    task = asyncio.current_task()
    assert task is not None
    # Without this SIGTERM would end us before the servers that we started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    def server(of: int) -> FaultServer:
        return FaultServer(directory / f"seed-{of}", settings(of), library)

    def kept(server: FaultServer, of: int) -> None:
        if keep is not None:
            server.keep(keep / f"seed-{of}")

    return await run_suite(
        **given,
        server=server,
        missing=missing,
        keep=kept,  # type: ignore[arg-type] # it gets back what `server` made
        json_output=as_json,
        console=Console(stderr=as_json, highlight=False),
    )


def settings(seed: int) -> dict[str, Any]:
    """The settings of a season: small bounds and short times, drawn so that each combination occurs."""
    rng = Random(f"{seed}/settings")  # noqa: S311 - no secret
    return {
        "feed.hello_wait": HELLO_WAIT,
        "feed.hello_interval": 0.2,
        "feed.max_inflight": rng.choice((1, 2, 4, 4, 8)),
        "feed.qos_by_priority": rng.choice(
            ([0, 1, 1, 1], [0, 1, 2, 2], [1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0])
        ),
        "feed.stall_after": 1.0,
        "feed.stall_close": rng.choice((2.0, 300.0)),
        "limits.write_buffer": 4_096,
        # What is learned goes on moving windows after the last message, and the suite repeats messages to
        # see that nothing moves.
        "ranking.model": "popularity",
    }


def _free_port() -> int:
    """A port that nobody listens on, and that the system gives to nobody who connects.

    One that the system chose might be taken by a client, or even be connected to itself, while the server is down.
    """
    for port in Random().sample(_PORTS, 200):  # noqa: S311 - no secret
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Failure("no port of 20000 to 29999 is free on 127.0.0.1")


def _faketime() -> Path | None:
    for pattern in _LIBFAKETIME:
        for path in Path("/").glob(pattern.removeprefix("/")):
            return path
    return None


class FaultServer:
    """One data directory and the server processes that live on it, one after the other.

    See `simulator.faults.server.ServerUnderTest`, which this is.

    Args:
        directory: For everything of this server; made here.
        chosen: Settings by dotted name.
        library: libfaketime, if the clock shall be stepped.
    """

    def __init__(self, directory: Path, chosen: Mapping[str, Any], library: Path | None) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self._data = directory / "data"
        self._log = directory / "server.log"
        self._stamp = directory / "clock"
        self._control = ControlClient(self._data / SOCKET_NAME)
        self._library = library
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("FLEETFEED_")}
        self._environment |= {
            f"FLEETFEED_{name.replace('.', '__').upper()}": value
            if isinstance(value, str)
            else json.dumps(value)
            for name, value in chosen.items()
        }
        self._faking: dict[str, str] = {}
        self._port = _free_port()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._words: list[str] = []
        self._judged = 0

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return "127.0.0.1", self._port

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
        answer = await self._ask("windows", devices=list(devices))
        return {
            device: None if window is None else tuple((n, payload) for n, payload in window)
            for device, window in answer.items()
        }

    async def states(self, devices: Sequence[str]) -> Mapping[str, DeviceState | None]:
        """What it knows of devices."""
        return await asyncio.to_thread(self._states, devices)

    def _states(self, devices: Sequence[str]) -> dict[str, DeviceState | None]:
        return {device: self._state(device) for device in devices}

    def _state(self, device: str) -> DeviceState | None:
        try:
            found = self._control.call("device.show", device=device)
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

    def barred(self) -> AbstractSet[tuple[str, int]]:
        """What is kept out of which feed, as stored."""
        uri = f"file:{self._data / FILE}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as reader:
            return set(reader.execute("SELECT device, n FROM dismissed"))

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

    # ---- What is done to it

    @contextlib.contextmanager
    def fill_disk(self) -> Iterator[None]:
        """Let no file grow, nor be written beyond its first byte; the process is told EFBIG, not killed.

        Python ignores SIGXFSZ, so a write past the limit fails as one on a full disk does.
        """
        assert self._process is not None
        pid = self._process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):  # killed meanwhile
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    @contextlib.contextmanager
    def lock_store(self) -> Iterator[None]:
        """Hold the write lock of the database, as a backup or a curious operator might."""
        with contextlib.closing(
            sqlite3.connect(self._data / FILE, timeout=_LOCK_PATIENCE, isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    @property
    def fakes_clock(self) -> bool:
        """Whether its wall clock can be set."""
        return bool(self._faking)

    def fake_clock(self, wanted: bool) -> None:
        """Preload libfaketime into the next processes, or not."""
        self._faking = {}
        if wanted:
            assert self._library is not None, "without the library this fault is not drawn"
            self.set_clock(0.0)
            self._faking = {
                "LD_PRELOAD": str(self._library),
                "FAKETIME_TIMESTAMP_FILE": str(self._stamp),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }

    def set_clock(self, offset: float) -> None:
        """Set the wall clock of this process and of the next ones."""
        fresh = self._stamp.with_name("clock.new")
        fresh.write_text(f"{offset:+.0f}\n")
        fresh.replace(self._stamp)  # never read half

    def keep(self, place: Path) -> None:
        """Copy everything to where it survives."""
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(
            self.directory, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SOCKET_NAME)
        )
