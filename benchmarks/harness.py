"""What all benchmarks share: cores, CPU clocks, worker processes, series of rounds, reports.

Figures are CPU time per unit or ratios within one run, never wall-clock throughput: the machine is
shared, and a busy neighbour must not decide. Each figure is the median of several rounds, and the
rounds of the contenders alternate, so that a slow minute hits all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import json
import multiprocessing
import os
import platform
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Self

import uvloop
from rich.console import Console
from rich.table import Table

#: Files that one process may need: a connection per device and some to spare.
FILES = 20_000


def cores() -> tuple[int, int]:
    """Return the core of the broker under test and the core of the load (one core: twice it)."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Let processes started meanwhile inherit one core.

    Pinning a child after its start was rejected: threads that it has already started stay behind.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def prepare() -> None:
    """Allow a process a connection per device, and make SIGTERM unwind, so that no server stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, past ones included, in seconds.

    Reads the process' CPU clock (clock_getcpuclockid(3)): nanoseconds, where the utime and stime of
    /proc/PID/stat count ticks of 10 ms.
    """
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Return the resident set of a process in bytes."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as stat:  # noqa: PTH123 - a kernel file
        return int(stat.read().split()[1]) * resource.getpagesize()


def quiesce(pid: int, *, limit: float = 10.0) -> None:
    """Wait until a process has done next to nothing for 100 ms: late acknowledgements are read."""
    until = time.monotonic() + limit
    calm = 0
    while calm < 2 and time.monotonic() < until:
        before = cpu_seconds(pid)
        time.sleep(0.05)
        calm = calm + 1 if cpu_seconds(pid) - before < 0.002 else 0


def idle_share(pid: int, *, seconds: float = 0.5) -> float:
    """Return the share of a core that an idle process takes. Reported, never subtracted."""
    quiesce(pid)
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - began)


class Worker:
    """An object in a child process of its own, pinned to one core, told what to do by a pipe.

    Methods run one at a time, on a uvloop that keeps serving its connections in between.

    Args:
        core: where the process runs.
        factory: called with `settings` inside the child's running loop; must be importable there.
        settings: keyword arguments, picklable.
    """

    def __init__(self, core: int, factory: Callable[..., object], **settings: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        with on_core(core):
            self._process = context.Process(
                target=_work, args=(theirs, factory, settings), daemon=True
            )
            self._process.start()
        theirs.close()
        pid = self._process.pid
        assert pid is not None
        self.pid = pid

    def begin(self, method: str, **arguments: Any) -> None:
        """Start a method without waiting for its result."""
        self._pipe.send((method, arguments))

    def finish(self) -> Any:
        """Wait for the result of the method begun; raises what it raised."""
        result = self._pipe.recv()
        if isinstance(result, Exception):
            raise result
        return result

    def call(self, method: str, **arguments: Any) -> Any:
        """Run a method to its end."""
        self.begin(method, **arguments)
        return self.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _work(pipe: Connection[Any, Any], factory: Callable[..., object], settings: Any) -> None:
    # A collector that walks 10 000 live protocol objects in the middle of a round is noise.
    gc.disable()
    prepare()
    uvloop.run(_obey(pipe, factory, settings))


async def _obey(pipe: Connection[Any, Any], factory: Callable[..., object], settings: Any) -> None:
    loop = asyncio.get_running_loop()
    target = factory(**settings)
    while True:
        try:
            method, arguments = await loop.run_in_executor(None, pipe.recv)
        except EOFError:
            return
        try:
            result = getattr(target, method)(**arguments)
            if inspect.isawaitable(result):
                result = await result
        except Exception as error:  # noqa: BLE001 - it travels to the caller
            result = error
        pipe.send(result)


@dataclass(slots=True)
class Series:
    """The values of one figure over the rounds."""

    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        """Take the value of one more round."""
        self.values.append(value)

    @property
    def median(self) -> float:
        """The middle value: one disturbed round does not move it."""
        return statistics.median(self.values)

    def spread(self, scale: float = 1.0) -> dict[str, float]:
        """Return median, min and max, scaled and rounded for a report."""
        found = {"median": self.median, "min": min(self.values), "max": max(self.values)}
        return {name: round(value * scale, 3) for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One budget of DESIGN.md against what was measured."""

    what: str
    measured: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is within its bound."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound


@dataclass(slots=True)
class Report:
    """What one benchmark found: rows of figures, verdicts on budgets, and what was left out.

    `others` is the load average before it began: a busy neighbour on the load's core makes
    acknowledgements trickle in, so that every broker wakes more often for less.
    """

    benchmark: str
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    others: float = field(default_factory=lambda: os.getloadavg()[0])

    def row(self, **cells: Any) -> None:
        """Add one line; the keys are the columns of the table and of the JSON."""
        self.rows.append(cells)

    def as_json(self) -> str:
        """Render one JSON object."""
        verdicts = [
            {
                "what": verdict.what,
                "measured": round(verdict.measured, 3),
                "bound": verdict.bound,
                "sense": "at least" if verdict.at_least else "at most",
                "met": verdict.met,
            }
            for verdict in self.verdicts
        ]
        return json.dumps(
            {
                "benchmark": self.benchmark,
                "settings": self.settings,
                "machine": {**machine(), "load_average_before": round(self.others, 2)},
                "rows": self.rows,
                "verdicts": verdicts,
                "notes": self.notes,
            },
            indent=2,
            ensure_ascii=False,
        )

    def show(self, *, as_json: bool) -> None:
        """Print the report on stdout."""
        if as_json:
            print(self.as_json())
            return
        console = Console(width=None if sys.stdout.isatty() else 140)
        told = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        table = Table(title=f"{self.benchmark}: {told}", title_justify="left")
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        for name in columns:
            table.add_column(name, justify="left" if name == columns[0] else "right")
        for row in self.rows:
            table.add_row(*(_cell(row.get(name)) for name in columns))
        console.print(table)
        for verdict in self.verdicts:
            sense = "≥" if verdict.at_least else "≤"
            word = "[green]met[/]" if verdict.met else "[red]missed[/]"
            console.print(f"{word}  {verdict.what}: {verdict.measured:.2f} {sense} {verdict.bound}")
        for note in self.notes:
            console.print(f"note: {note}")
        console.print(f"note: the load average before the run was {self.others:.2f}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    broker, load = cores()
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "broker_core": broker,
        "load_core": load,
    }


def parser(description: str) -> argparse.ArgumentParser:
    """Make the parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", action="store_true", help="print one JSON object, not tables")
    made.add_argument("--quick", action="store_true", help="fewer devices and rounds")
    made.add_argument("--rounds", type=int, help="measured rounds per contender")
    return made


def idents(count: int) -> Sequence[str]:
    """Return client ids of one length, from d00000 upwards."""
    return [f"d{at:05d}" for at in range(count)]


def progress(message: str) -> None:
    """Say on stderr what runs now; stdout carries the result only."""
    print(message, file=sys.stderr, flush=True)
