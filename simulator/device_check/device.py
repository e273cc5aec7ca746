"""What is checked: a program that we start and kill, or a device that somebody pointed at us."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import tempfile
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from simulator.device_check.case import NoDeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from devices.frames import FeedItem

PLACEHOLDERS = ("host", "port", "device", "state", "keep_alive")
"""What may stand in braces in a command."""

_MAX_LINE = 65_536
_MAX_PRINTED = 1_000


class Device(Protocol):
    """What a bench needs of the device.

    Attributes:
        id: The id that it shall have; None = whichever it says.
        restarts: Whether `start` and `cut_power` do it by themselves, at once.
        printed: The windows that it prints, if it does and we can see them.
    """

    id: str | None
    restarts: bool
    printed: Printed | None

    async def start(self, host: str, port: int) -> None:
        """Switch it on; it connects to us."""

    async def cut_power(self) -> None:
        """Cut its power without a warning."""

    def ended(self) -> str | None:
        """Its last words, if it ended by itself."""


class Printed:
    """The windows that a device prints: lines of JSON, `{"window": [{"n": 1, "payload": "…"}, …]}`.

    The items may stand under `window`, `items`, or be the whole line; an item is an object with `n`, an array that
    begins with it, or the bare number. Other lines are passed over.
    """

    def __init__(self) -> None:
        self._windows: deque[list[Any]] = deque(maxlen=_MAX_PRINTED)
        self._news = asyncio.Event()

    def line(self, text: str) -> None:
        """The device printed this."""
        try:
            value = json.loads(text)
        except ValueError:
            return
        if isinstance(value, dict):
            value = value.get("window", value.get("items"))
        if isinstance(value, list):
            self._windows.append(value)
            self._news.set()

    async def shows(self, window: Sequence[FeedItem], within: float, now: float) -> bool:
        """Wait until the last window printed is this one; items that have expired may be missing."""
        try:
            async with asyncio.timeout(within):
                while not (self._windows and _equal(self._windows[-1], window, now)):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    @property
    def last(self) -> str:
        """The last window printed, for a person."""
        return json.dumps(self._windows[-1])[:200] if self._windows else "no window at all"


def _equal(printed: list[Any], window: Sequence[FeedItem], now: float) -> bool:
    numbers = [_number(item) for item in printed]
    visible = [item.n for item in window if not item.expires or item.expires > now]
    return numbers in (visible, [item.n for item in window])


def _number(item: Any) -> Any:
    if isinstance(item, dict):
        return item.get("n")
    return item[0] if isinstance(item, list) and item else item


class Program:
    """A client that we start as a process of our own, kill and start again.

    Args:
        command: Its command line, with placeholders in braces.
        device: The id that it shall have.
        state: Where it may keep what survives a loss of power.
        keep_alive: Seconds, for programs that let us choose.
        printed: Collects the windows that it prints.
        reads_output: They come on its standard output, and not from elsewhere.
    """

    restarts = True

    def __init__(
        self,
        command: str,
        *,
        device: str,
        state: Path,
        keep_alive: int,
        printed: Printed | None = None,
        reads_output: bool = True,
    ) -> None:
        check_command(command)
        self._command = command
        self._values = {"device": device, "state": str(state), "keep_alive": str(keep_alive)}
        self._process: asyncio.subprocess.Process | None = None
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._reading: asyncio.Task[None] | None = None
        self._output = printed if reads_output else None
        self.id = device if "{device}" in command else None
        self.printed = printed

    async def start(self, host: str, port: int) -> None:
        """Start the program.

        Raises:
            NoDeviceError: there is no such program.
        """
        values = {**self._values, "host": host, "port": str(port)}
        words = [_filled(word, values) for word in shlex.split(self._command)]
        output = asyncio.subprocess.DEVNULL if self._output is None else asyncio.subprocess.PIPE
        try:
            self._process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=self._words,
                start_new_session=True,  # what it starts in turn is killed with it
                limit=_MAX_LINE,
            )
        except OSError as error:
            raise NoDeviceError(f"{words[0]} cannot be started: {error.strerror}") from error
        if self._output is not None:
            self._reading = asyncio.create_task(_read(self._process, self._output))

    async def cut_power(self) -> None:
        """SIGKILL: no word is written and nothing said any more."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if self._reading is not None:
            await self._reading

    def ended(self) -> str | None:
        """Exit code and last line on stderr, if it ended by itself."""
        if self._process is None or self._process.returncode is None:
            return None
        self._words.seek(0)
        said = self._words.read().decode(errors="replace").strip().rpartition("\n")[2]
        return f"it ended with exit code {self._process.returncode}: {said or 'it said nothing'}"

    async def close(self) -> None:
        """Kill it, if it runs."""
        await self.cut_power()
        self._words.close()


async def _read(process: asyncio.subprocess.Process, printed: Printed) -> None:
    """Hand on each line that a program prints, until it ends."""
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # longer than the limit, and dropped by the reader
            continue
        if not line:
            return
        printed.line(line.decode(errors="replace"))


def check_command(command: str) -> None:
    """See that a command line can be filled in.

    Raises:
        NoDeviceError: an unknown placeholder, no port, quotes that do not close.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise NoDeviceError(f"the command cannot be read: {error}") from error
    named = {name for word in words for name in re.findall(r"\{(\w+)\}", word)}
    if unknown := sorted(named - set(PLACEHOLDERS)):
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise NoDeviceError(f"the command has {{{unknown[0]}}}; there are {known}")
    if "port" not in named:
        raise NoDeviceError("the command must have {port}: every run listens on another one")


def _filled(word: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], word)


class Attended:
    """A device that an engineer points at us, and cuts the power of when asked.

    Args:
        say: Shows a sentence to the engineer.
        printed: What is read from the device's console, if anything is.
    """

    restarts = False
    id: str | None = None

    def __init__(self, say: Callable[[str], None], printed: Printed | None = None) -> None:
        self._say = say
        self.printed = printed

    async def start(self, host: str, port: int) -> None:
        """Ask for the device."""
        self._say(f"point the device at {host}:{port} and switch it on")

    async def cut_power(self) -> None:
        """Ask for a loss of power."""
        self._say("cut the device's power now, without shutting it down, and give it back")

    def ended(self) -> str | None:
        """A device does not tell."""
        return None

    async def close(self) -> None:
        """Nothing to do."""
