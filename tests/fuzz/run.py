"""Fuzz the decoders with atheris, by coverage: ``python -m tests.fuzz.run [TARGET …] --seconds 20``.

Each target runs in a process of its own, as libFuzzer ends the one that it runs in. What it finds is
written to a file, together with what to do about it, and the exit code is 1.
"""

# ruff: noqa: T201 (it says what it found)

from __future__ import annotations

import argparse
import hashlib
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE, STDOUT

ROOT = Path(__file__).parents[2]
INSTRUMENTED = ["devices", "feedgen"]
NAMES = (
    *("packets", "frames", "replica", "up", "differences"),
    *("items", "records", "profiles", "topics"),
)

LONGEST = 4_096
"""Bytes of an input. What is longer takes no other branches, only more time."""
SLOWEST = 5
"""Seconds that one input may take; the slowest known takes milliseconds."""
MEMORY = 512
"""MiB that the process may have; at rest it has 60."""


def main() -> int:
    """Fuzz the targets that were named, one after the other; the exit code."""
    arguments = _parse()
    if arguments.replay:
        return _replay(arguments.targets[0], arguments.replay)
    if arguments.child:
        _fuzz(arguments.targets[0], arguments.seconds, arguments.corpus, arguments.finds)
    broken = [name for name in arguments.targets or NAMES if not _run(name, arguments)]
    return 1 if broken else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("--corpus", type=Path, help="keep what was learned here, and begin with it")
    parser.add_argument("--finds", type=Path, default=Path(), help="where inputs that fail go")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="only this input of one target")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(NAMES):
        parser.error(f"no target: {', '.join(sorted(unknown))}")
    if arguments.replay and len(arguments.targets) != 1:
        parser.error("--replay takes the one target that the file is for")
    return arguments


def _run(name: str, arguments: argparse.Namespace) -> bool:
    """One target in a process of its own; whether all went well."""
    with tempfile.TemporaryDirectory() as scratch:
        corpus = arguments.corpus / name if arguments.corpus else Path(scratch)
        command = [
            *(sys.executable, "-m", "tests.fuzz.run", name, "--child"),
            *("--seconds", str(arguments.seconds), "--corpus", str(corpus)),
            *("--finds", str(arguments.finds.resolve())),
        ]
        done = subprocess.run(
            command, cwd=ROOT, stdout=PIPE, stderr=STDOUT, text=True, errors="replace", check=False
        )
    said = [line for line in done.stdout.splitlines() if not line.startswith(("#", "INFO"))]
    if done.returncode == 0:
        print(f"{name}: {_summary(said)}", flush=True)
        return True
    print("\n".join(said), file=sys.stderr)
    print(
        f"{name}: broken. The input is in the file named above. Again, alone:\n"
        f"    python -m tests.fuzz.run {name} --replay FILE\n"
        f"Once it is mended, keep it as a line of tests/fuzz/corpus/{name}.txt (name, tab, hex).",
        file=sys.stderr,
    )
    return False


def _summary(said: list[str]) -> str:
    """The last of libFuzzer's own words: how many inputs were tried."""
    lines = [line for line in said if line.startswith("Done ")]
    return lines[-1] if lines else "nothing was tried"


def _fuzz(name: str, seconds: int, corpus: Path, finds: Path) -> None:
    """Fuzz in this process; does not return."""
    import atheris  # noqa: PLC0415 (only those who fuzz need it)

    with atheris.instrument_imports(include=INSTRUMENTED):
        targets = importlib.import_module("tests.fuzz.targets")
    seeds = importlib.import_module("tests.fuzz.seeds").seeds(name)
    corpus.mkdir(parents=True, exist_ok=True)
    for _, data in seeds:
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    options = {
        "max_total_time": seconds,
        "max_len": LONGEST,
        "timeout": SLOWEST,
        "rss_limit_mb": MEMORY,
        "artifact_prefix": f"{finds}/{name}-",
        "print_final_stats": 0,
        "verbosity": 1,
    }
    flags = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], targets.TARGETS[name])
    atheris.Fuzz()


def _replay(name: str, path: Path) -> int:
    targets = importlib.import_module("tests.fuzz.targets")
    targets.TARGETS[name](path.read_bytes())
    print(f"{name}: {path} passes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
