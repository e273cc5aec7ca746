"""gcc, and the driver through which Python talks to feed.c."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import devices

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from devices.frames import Event, FeedItem

SOURCES = Path(devices.__file__).with_name("c99")
HERE = Path(__file__).parent
FEED = SOURCES / "feed.c"

STRICT = (
    *("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow"),
    *("-Wcast-qual", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Werror"),
)  # fmt: skip
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SMALL = ("-Os", "-ffreestanding", "-ffunction-sections", "-fno-asynchronous-unwind-tables")
NOT_SAID = 0xFFFF_FFFF


class CompileError(Exception):
    """What gcc said."""


def gcc(*arguments: str | Path) -> None:
    """Run gcc with feed.h in reach.

    Raises:
        CompileError: it warned or failed.
    """
    command = ["gcc", "-I", str(SOURCES), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise CompileError(done.stderr)


@cache
def compiles_for_32_bits() -> bool:
    """Whether this gcc makes code of 32 bits; only x86-64's is known by this flag."""
    command = ["gcc", "-m32", "-x", "c", "-fsyntax-only", "-"]
    return not subprocess.run(command, input=b"", capture_output=True, check=False).returncode


def has_gcc() -> bool:
    return shutil.which("gcc") is not None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the driver said about a frame: a result, and the state afterwards, as `state_of` writes it."""

    result: str
    state: str


class Driver:
    """feed.c in a process of its own; see driver.c for the lines."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _, said = self._process.communicate()
        assert (self._process.returncode, said) == (0, "")

    def ask(self, line: str) -> str:
        """One line in, one out.

        Raises:
            AssertionError: the process ended; the sanitizer's words are in the message.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            assert self._process.stderr is not None
            raise AssertionError(f"{line[:200]}\n{self._process.stderr.read()}")
        return answer.rstrip("\n")

    def new(
        self,
        k: int = 8,
        budget: int = 256,
        *,
        device: str = "kitchen",
        max_qos: int = 1,
        clock: bool = False,
        agent: str = "-",
    ) -> bool:
        """Begin with an empty window; false if the config was refused."""
        return self.ask(f"new {device} {k} {budget} {max_qos} {clock:d} {agent}") == "true"

    def receive(self, frame: bytes) -> Reply:
        """Give it a frame."""
        result, _, state = self.ask(f"frame {frame.hex()}").partition(" ")
        return Reply(result, state)

    def state(self) -> str:
        return self.ask("state")

    def written(self, command: str) -> bytes:
        """What hello, ack, bye, save or feedback wrote."""
        return bytes.fromhex(self.ask(command).removeprefix("-"))

    def feedback(self, *events: Event) -> bytes:
        words = [
            f"{event.n}:{int(event.kind)}:{_or_not(event.value)}:{_or_not(event.age)}"
            for event in events
        ]
        return self.written(" ".join(["feedback", *words]))

    def load(self, saved: bytes) -> bool:
        return self.ask(f"load {saved.hex()}") == "true"


def state_of(epoch: int, seq: int, k: int, window: Sequence[FeedItem]) -> str:
    """A state as driver.c writes it."""
    items = [
        f"{item.n}:{item.expires}:{item.priority}:"
        + (f"t:{item.payload.encode().hex()}" if isinstance(item.payload, str) else f"b:{item.payload.hex()}")
        for item in window
    ]  # fmt: skip
    return " ".join([f"{epoch} {seq} {k}", *items])


def _or_not(value: int | None) -> int:
    return NOT_SAID if value is None else value
