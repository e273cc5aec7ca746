"""What `fleetfeed check-device` does: benches with devices, the run, and its reports."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from broker.commands import shell
from broker.commands.ending import end_at
from broker.commands.shell import Code, Failure
from simulator.device_check import report as reports
from simulator.device_check import view
from simulator.device_check.bench import Bench
from simulator.device_check.case import NoDeviceError
from simulator.device_check.device import Attended, Printed, Program, check_command
from simulator.device_check.junit import as_junit
from simulator.device_check.limits import FAST, FULL
from simulator.device_check.run import run as run_cases

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Sequence

    from simulator.device_check.case import Case
    from simulator.device_check.limits import Limits
    from simulator.device_check.run import Report

_KEEP_ALIVE, _KEEP_ALIVE_FAST = 8, 4
"""Seconds that `{keep_alive}` stands for: two of them must fit into a run."""
_RECONNECT = 150.0
"""Seconds for a device that others switch on to come (back)."""
_LOOK_AT_FILE = 0.1
_MAX_LINE = 65_536


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for; see there."""

    cases: Sequence[Case]
    host: str
    port: int
    command: str | None
    window: str | None
    jobs: int
    fast: bool
    outside: bool
    prefix: str
    tls: ssl.SSLContext | None = None


def run(wanted: Wanted, *, junit: Path | None, show_hex: bool, as_json: bool) -> int:
    """Run the cases, show and write what came of them, and return the exit code.

    Raises:
        Failure: no device came, the port or a file cannot be had, or SIGTERM came.
    """
    console = Console(stderr=as_json, highlight=False)
    try:
        report = asyncio.run(_checked(wanted, console))
    except NoDeviceError as error:
        raise Failure(str(error), Code.INVALID if wanted.command else Code.UNREACHABLE) from None
    except asyncio.CancelledError:
        raise Failure("the check was ended by SIGTERM") from None
    if junit is not None:
        _write(junit, as_junit(report))
    _show(report, console, show_hex=show_hex, as_json=as_json)
    return Code.OK if report.ok else Code.FAILED


def _show(report: Report, console: Console, *, show_hex: bool, as_json: bool) -> None:
    if as_json:
        shell.print_json(reports.as_json(report))
        return
    console.print(view.table(report))
    for part in view.evidence(report, with_bytes=show_hex):
        console.print(part, soft_wrap=True)
    console.print(view.summary(report))


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from error


async def _checked(wanted: Wanted, console: Console) -> Report:
    # Without this SIGTERM would end us before the clients that we started.
    end_at(signal.SIGTERM)
    async with contextlib.AsyncExitStack() as stack:
        if wanted.command is None:
            benches = [await stack.enter_async_context(_attended(wanted, console))]
        else:
            check_command(wanted.command)
            unheard = _each_once(partial(_no_tls, console))
            directory = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="fleetfeed-check-"))
            )
            benches = [
                await stack.enter_async_context(
                    _program(wanted, wanted.command, directory, number, unheard)
                )
                for number in range(1, _at_once(wanted) + 1)
            ]
        return await run_cases(
            wanted.cases,
            benches,
            device=wanted.command or f"the device at {wanted.host}:{wanted.port}",
            told=lambda result: console.print(view.progress(result)),
        )


def _at_once(wanted: Wanted) -> int:
    """How many clients run at once: one, where they would share an id, a state or a file of windows."""
    assert wanted.command is not None
    alone = "{device}" not in wanted.command or (wanted.window or "-") != "-"
    return 1 if alone else min(wanted.jobs, len(wanted.cases))


@contextlib.asynccontextmanager
async def _program(
    wanted: Wanted, command: str, directory: Path, number: int, told: Callable[[str], None]
) -> AsyncIterator[Bench]:
    limits = FAST if wanted.fast else FULL
    async with _printed(wanted) as printed:
        program = Program(
            command,
            device=f"check-{number}",
            state=directory / f"state-{number}",
            keep_alive=_KEEP_ALIVE_FAST if wanted.fast else _KEEP_ALIVE,
            printed=printed,
            reads_output=wanted.window == "-",
        )
        bench = Bench(
            program,
            limits,
            prefix=wanted.prefix,
            outside=wanted.outside,
            tls=wanted.tls,
            told=told,
        )
        try:
            await bench.open()
            yield bench
        finally:
            await program.close()
            await bench.close()


@contextlib.asynccontextmanager
async def _attended(wanted: Wanted, console: Console) -> AsyncIterator[Bench]:
    if wanted.window == "-":
        raise Failure("--window - reads what --command prints; give a file instead", Code.INVALID)
    async with _printed(wanted) as printed:
        device = Attended(lambda sentence: console.print(f"→ {sentence}", style="bold"), printed)
        bench = Bench(
            device,
            _with_patience(FAST if wanted.fast else FULL),
            host=wanted.host,
            port=wanted.port,
            prefix=wanted.prefix,
            outside=wanted.outside,
            tls=wanted.tls,
            told=partial(_no_tls, console),
        )
        try:
            await bench.open()
        except OSError as error:
            raise Failure(_cannot_listen(wanted, error)) from error
        try:
            yield bench
        finally:
            await bench.close()


def _no_tls(console: Console, why: str) -> None:
    console.print(f"no TLS connection: {why}", style="yellow", soft_wrap=True, markup=False)


def _each_once(told: Callable[[str], None]) -> Callable[[str], None]:
    """Tells a sentence that several clients give reason for once."""
    heard: set[str] = set()

    def tell(sentence: str) -> None:
        if sentence not in heard:
            heard.add(sentence)
            told(sentence)

    return tell


def _with_patience(limits: Limits) -> Limits:
    """A device that others switch on comes back after pauses of its own, however long."""
    return replace(limits, reconnect=_RECONNECT)


def _cannot_listen(wanted: Wanted, error: OSError) -> str:
    where = f"{wanted.host}:{wanted.port}"
    if error.errno == errno.EADDRINUSE:
        return f"another program listens on {where}: stop it, or choose another --listen"
    why = os.strerror(error.errno) if error.errno else error
    return f"cannot listen on {where} ({why}): check --listen"


@contextlib.asynccontextmanager
async def _printed(wanted: Wanted) -> AsyncIterator[Printed | None]:
    """What collects the windows of a device; a file is followed while it grows."""
    if wanted.window is None:
        yield None
        return
    printed = Printed()
    if wanted.window == "-":
        yield printed
        return
    following = asyncio.create_task(_follow(Path(wanted.window), printed))
    try:
        yield printed
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def _follow(path: Path, printed: Printed) -> None:
    """Hand on each line that is appended to a file, from its present end on."""
    at = len(await asyncio.to_thread(_appended, path, 0))
    rest = b""
    while True:
        await asyncio.sleep(_LOOK_AT_FILE)
        data = await asyncio.to_thread(_appended, path, at)
        at += len(data)
        *lines, rest = (rest[-_MAX_LINE:] + data).split(b"\n")
        for line in lines:
            printed.line(line.decode(errors="replace"))


def _appended(path: Path, at: int) -> bytes:
    """What stands in a file from `at` on; nothing while there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read()
    except FileNotFoundError:
        return b""
