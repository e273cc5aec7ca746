"""What `fleetfeed faults` does: server processes that are killed, starved, locked and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import tempfile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import uvloop
from rich.console import Console

from broker.commands.ending import end_at
from broker.commands.fault_process import ServerProcess, stored_bars
from broker.commands.shell import Failure
from feedgen.store.sqlite_file import FILE
from simulator.faults.plan import AT_ONE_SERVER, Kind, draw
from simulator.faults.season import HELLO_WAIT
from simulator.faults.site import ServerSite
from simulator.faults.suite import Suite, run_suite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from simulator.facts import Finding, Window
    from simulator.faults.server import UnderTest

_LIBFAKETIME = (
    "/usr/lib/*-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)
_LOCK_PATIENCE = 5.0
"""Seconds to wait for the database's write lock, which the server takes for moments."""


def run(
    *, rounds: int, seed: int, devices: int, only: Kind | None, keep: Path | None, as_json: bool
) -> int:
    """Run the suite for one server and return its exit code.

    Raises:
        Failure: a fault that was asked for cannot be had here, or SIGTERM came.
    """
    library = _faketime()
    missing = {}
    if library is None:
        missing[Kind.CLOCK] = "libfaketime is missing (Debian: faketime)"
    if only in missing or (missing and os.environ.get("CI")):
        raise Failure(f"{missing[Kind.CLOCK]}; without it the clock cannot be stepped")
    available = [kind for kind in AT_ONE_SERVER if kind not in missing]

    def suite(directory: Path) -> Suite:
        return Suite(
            rounds,
            seed,
            devices,
            draw=lambda of: draw(of, available, only),
            site=lambda of: ServerSite(
                FaultServer(directory / f"seed-{of}", settings(of), library), of
            ),
            missing=missing,
            keep=keeper(keep),
        )

    return run_here(suite, as_json=as_json)


def run_here(suite: Callable[[Path], Suite], *, as_json: bool) -> int:
    """Run a suite in a directory that is removed afterwards, and return its exit code.

    Raises:
        Failure: SIGTERM came.
    """
    try:
        with (
            tempfile.TemporaryDirectory(prefix="fleetfeed-faults-") as directory,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            return runner.run(_until_sigterm(suite(Path(directory)), as_json))
    except asyncio.CancelledError:
        raise Failure("the suite was ended by SIGTERM") from None


async def _until_sigterm(suite: Suite, as_json: bool) -> int:
    # Without this SIGTERM would end us before the servers that we started.
    end_at(signal.SIGTERM)
    return await run_suite(
        suite, json_output=as_json, console=Console(stderr=as_json, highlight=False)
    )


def keeper(place: Path | None) -> Callable[[UnderTest, int], None]:
    """Keeps what broke a promise, under the seed of the round."""

    def keep(server: UnderTest, seed: int) -> None:
        if place is not None:
            server.keep(place / f"seed-{seed}")

    return keep


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


def _faketime() -> Path | None:
    for pattern in _LIBFAKETIME:
        for path in Path("/").glob(pattern.removeprefix("/")):
            return path
    return None


class FaultServer(ServerProcess):
    """A server alone on its data directory; see `simulator.faults.server.ServerUnderTest`, which this is.

    Args:
        directory: For everything of this server; made here.
        chosen: Settings by dotted name.
        library: libfaketime, if the clock shall be stepped.
    """

    def __init__(self, directory: Path, chosen: Mapping[str, Any], library: Path | None) -> None:
        super().__init__(directory, chosen)
        self._stamp = directory / "clock"
        self._library = library

    async def barred(self) -> AbstractSet[tuple[str, int]]:
        """What is kept out of which feed, as stored."""
        return stored_bars(self._data)

    async def misplaced(self, windows: Mapping[str, Window | None]) -> list[Finding]:
        """Nobody can tell: how popular an item is, and so its place, is known to the server alone."""
        del windows
        return []

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
