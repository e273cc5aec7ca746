"""What `fleetfeed demo` does: a server of its own, a fleet against it, and both gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import uvloop
from rich.console import Console

from broker.commands.ending import end_at
from broker.commands.shell import Failure
from broker.control import SOCKET_NAME, ControlClient, ControlError
from broker.web.opening import missing
from simulator.demo import ServerHandle, run_demo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

READY = "fleetfeed: listening on "
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Ready:
    """A server that serves.

    Attributes:
        host: Where its MQTT port is.
        port: Its number.
        page: The address of its live page; "" where what that needs is not installed.
    """

    host: str
    port: int
    page: str


def run(*, seconds: float, devices: int, seed: int, as_json: bool) -> int:
    """Run the demo and return its exit code.

    Raises:
        Failure: the server did not start or broke off, or SIGTERM came.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_demo(seconds=seconds, devices=devices, seed=seed, as_json=as_json))
    except asyncio.CancelledError:
        raise Failure("the demo was ended by SIGTERM") from None


async def _demo(*, seconds: float, devices: int, seed: int, as_json: bool) -> int:
    # Without this SIGTERM would end us before the server that we started.
    end_at(signal.SIGTERM)
    with tempfile.TemporaryDirectory(prefix="fleetfeed-demo-") as directory:
        control = ControlClient(Path(directory) / SOCKET_NAME)

        async def window(asked: Sequence[str]) -> Any:
            try:
                return await asyncio.to_thread(control.call, "windows", devices=list(asked))
            except ControlError as error:
                raise Failure(f"the demo's server did not say what it shows: {error}") from error

        console = Console(stderr=as_json)
        async with server_process(Path(directory)) as ready:
            if ready.page:
                console.print(f"See it at {ready.page} while it runs.", highlight=False)
            return await run_demo(
                seconds=seconds,
                devices=devices,
                seed=seed,
                json_output=as_json,
                server=ServerHandle(host=ready.host, port=ready.port, window=window),
                console=console,
            )


@contextlib.asynccontextmanager
async def server_process(data: Path) -> AsyncIterator[Ready]:
    """Run `fleetfeed serve` on free ports of loopback and stop it at the end, whatever happens.

    Yields:
        Where it is, once it is ready.

    Raises:
        Failure: it did not start; with its own last words.
    """
    with tempfile.TemporaryFile() as words:
        # Its own session, so that Ctrl-C reaches us alone and the fleet can end before the server.
        # No settings of ours: the demo is the same in every environment.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "broker", "serve", "--bind", "127.0.0.1:0", "--open"),
            *("--data", str(data), "--log-level", "warning"),
            *("--http", "off" if missing() else "127.0.0.1:0"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
            env={k: v for k, v in os.environ.items() if not k.startswith("FLEETFEED_")},
            start_new_session=True,
        )
        try:
            yield await _ready(process, words)
        finally:
            await _stop(process)


async def _ready(process: asyncio.subprocess.Process, words: BinaryIO) -> Ready:
    """Wait for the line that says where the server listens."""
    assert process.stdout is not None
    line = ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_TIMEOUT):
            line = (await process.stdout.readline()).decode()
    if not line.startswith(READY):
        words.seek(0)
        last = (
            words.read()
            .decode(errors="replace")
            .strip()
            .rpartition("\n")[2]
            .removeprefix("fleetfeed: ")
        )
        raise Failure(f"the demo's server did not start: {last or 'it said nothing'}")
    host, _, port = line.removeprefix(READY).split()[0].rpartition(":")
    page = re.search(r"page (\S+)\)", line)
    return Ready(host, int(port), page[1] if page else "")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
