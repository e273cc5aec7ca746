"""Compile and run the mutational fuzzer of feed.c: ``python -m tests.devices.c99.fuzz --seconds 600``.

A run is many rounds with seeds that follow each other; what breaks a promise of feed.h, or a sanitizer's
rule, is printed with the seed that does it again.
"""

# ruff: noqa: T201 (it says what it found)

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.devices.c99.toolchain import FEED, HERE, SANITIZED, STRICT, gcc
from tests.wire_cases import BAD_FRAMES, FRAMES

ROUND = 2_000_000
"""Frames of one seed, a few seconds."""


class Broken(Exception):  # noqa: N818 - said of feed.c
    """A promise of feed.h does not hold; the text is the fuzzer's, or the sanitizer's."""


def write_corpus(path: Path) -> Path:
    """The frames to begin with: the named wire cases, those that are none included."""
    frames = [case.data for case in FRAMES] + [case.data for case in BAD_FRAMES]
    path.write_text("".join(f"{frame.hex()}\n" for frame in frames))
    return path


def fuzz(program: Path, corpus: Path, *, seed: int, frames: int) -> Counter[str]:
    """Run the fuzzer; how often each result came.

    Raises:
        Broken: it found something.
    """
    command = [str(program), str(seed), str(frames), str(corpus)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise Broken(f"seed {seed}, {frames} frames:\n{done.stderr}")
    words = done.stdout.split()
    return Counter({word: int(count) for word, count in zip(words[::2], words[1::2], strict=True)})


def main() -> int:
    """Fuzz until the time is over or something is found; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.devices.c99.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.seconds
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch, "fuzz")
        gcc(*STRICT, *SANITIZED, HERE / "fuzz.c", FEED, "-o", program)
        corpus = write_corpus(Path(scratch, "corpus"))
        seed = arguments.seed
        while time.monotonic() < until:
            try:
                counts += fuzz(program, corpus, seed=seed, frames=ROUND)
            except Broken as found:
                print(found)
                return 1
            seed += 1
    print(f"{sum(counts.values()):,} frames, nothing found: {dict(counts)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
