"""Unit costs for `fleetfeed plan`: measures them, and writes them into one data file.

`python benchmarks/costs.py [--json] [--quick] [--only items,redis] [--out broker/costs.json]`

About five minutes. What a part measures takes the place of its entries in the file, the others stay;
each entry says its unit, how and when it was measured, and by which command. The file is part of the
installed package, so that a plan needs no benchmark.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from cost_server import Measured, connections, items, sends, tls
from harness import Report, machine, parser, prepare, progress

from feedgen.items import Item, Record
from feedgen.store.base import PutItem
from feedgen.store.sqlite import SqliteStore

HERE = Path(__file__).parent
FILE = HERE.parent / "broker" / "costs.json"
#: Significant digits of a figure: more would be noise.
DIGITS = 4


def _items(options: Namespace) -> Iterator[Measured]:
    yield from items(options.devices, options.rounds)


def _sends(options: Namespace) -> Iterator[Measured]:
    yield from sends(max(options.devices // 2, 1), options.rounds)


def _connections(options: Namespace) -> Iterator[Measured]:
    yield from connections(max(options.devices // 2, 1), options.rounds)


def _tls(options: Namespace) -> Iterator[Measured]:
    yield from tls(max(options.devices // 20, 1), options.rounds)


def _engine(options: Namespace) -> Iterator[Measured]:
    """Yield what the engine takes for a candidate, an admission and a window, without a ranking's scores."""
    engine = importlib.import_module("engine")  # its name is a common word
    rows, repeats = 10 * options.devices, 2 * options.rounds + 1
    progress("engine")
    figures = [
        *engine.personal(rows, repeats),
        *engine.personal_windows(max(rows // 20, 10_000), repeats),
    ]
    found = {figure.name: figure for figure in figures}
    for name, told in (
        ("candidate", "candidate refused, sampled"),
        ("admission", "admission, more than that, sampled"),
        ("rebuild", "device connects, ranks 128 items by itself"),
        ("refresh", "row refreshed among others, 128 items"),
    ):
        figure = found[told]
        how = f"benchmarks/engine.py, {rows} rows: {told}"
        yield Measured(name, figure.value, f"{figure.unit} of CPU", how)


def _memory(options: Namespace) -> Iterator[Measured]:
    """Yield the bytes of a device that is not connected but has a row."""
    devices = 10 * options.devices
    rows = _rows("memory.py", "--devices", str(devices))
    how = f"benchmarks/memory.py, {devices} devices with profile, window and ledger"
    yield Measured("row_bytes", rows[0]["bytes_each"], "bytes", how)


def _feedback(options: Namespace) -> Iterator[Measured]:
    """Yield what an event costs the node that hears it, and whoever learns from it."""
    taken, learned = (row["µs_median"] for row in _rows("feedback.py", *_size(options)))
    how = "benchmarks/feedback.py, messages of eight events: "
    yield Measured("event_heard", taken, "µs of CPU", how + "decoded, counted, heard")
    yield Measured("event_learned", learned - taken, "µs of CPU", how + "learned by three heads")


def _size(options: Namespace) -> list[str]:
    return ["--quick"] if options.quick else ["--rounds", "3"]


def _rows(script: str, *more: str) -> list[dict[str, float]]:
    """Run another benchmark and return the rows of its report."""
    progress(script)
    command = [sys.executable, str(HERE / script), "--json", *more]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    rows: list[dict[str, float]] = json.loads(said)["rows"]
    return rows


def _store(options: Namespace) -> Iterator[Measured]:
    """Yield how long a commit to the embedded store takes, alone."""
    progress("store")
    with tempfile.TemporaryDirectory(prefix="fleetfeed-bench-") as place:
        waits = asyncio.run(_commits(Path(place) / "store.db", 100 * options.rounds))
    how = f"one item, submit to durable, SQLite with synchronous=FULL; {len(waits)} one after the other"
    yield Measured("commit_p50", statistics.median(waits) * 1e3, "ms", how)
    yield Measured("commit_p99", statistics.quantiles(waits, n=100)[98] * 1e3, "ms", how)


async def _commits(path: Path, count: int) -> list[float]:
    store = SqliteStore(path)
    store.open()
    expires = int(time.time()) + 10**6
    waits = []
    for n in range(1, count + 1):
        record = Record(n, 0, Item("bench/x", f"i{n}", "x" * 100), 1000 * expires, expires, b"")
        began = time.perf_counter()
        await store.submit([PutItem(record)])
        waits.append(time.perf_counter() - began)
    await store.close(clean=True)
    return waits


def _redis(options: Namespace) -> Iterator[Measured]:
    # Not above: what else is measured needs no Redis client.
    shared_store = importlib.import_module("cost_redis").shared_store
    yield from shared_store(options.devices, options.devices // 2, 100 * options.rounds)


PARTS: dict[str, Callable[[Namespace], Iterator[Measured]]] = {
    "items": _items,
    "connections": _connections,
    "sends": _sends,
    "engine": _engine,
    "memory": _memory,
    "feedback": _feedback,
    "store": _store,
    "tls": _tls,
    "redis": _redis,
}


def write(path: Path, part: str, found: list[Measured]) -> None:
    """Put what a part measured in the place of its entries in the file; the others stay."""
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"costs": {}}
    costs = {name: entry for name, entry in held["costs"].items() if entry["part"] != part}
    for each in found:
        # A difference of two readings is less than none where noise is larger than the cost.
        costs[each.name] = {
            "value": float(f"{max(each.value, 0):.{DIGITS}g}"),
            "unit": each.unit,
            "how": each.how,
            "part": part,
            "command": f"python benchmarks/costs.py --only {part}",
            "date": datetime.now(UTC).date().isoformat(),
        }
    ordered = dict(sorted(costs.items(), key=lambda pair: list(PARTS).index(pair[1]["part"])))
    text = json.dumps({"machine": machine(), "costs": ordered}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Measure, write and print."""
    prepare()
    options_parser = parser("Unit costs for fleetfeed plan")
    options_parser.add_argument("--devices", type=int, help="of the largest fleet")
    options_parser.add_argument("--only", help="parts, with commas between: " + ", ".join(PARTS))
    options_parser.add_argument("--out", type=Path, default=FILE, help="the data file")
    options = options_parser.parse_args()
    options.devices = options.devices or (200 if options.quick else 10_000)
    options.rounds = options.rounds or (1 if options.quick else 3)
    wanted = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(wanted) - PARTS.keys():
        options_parser.error(f"there is no part {', '.join(sorted(unknown))}")
    report = Report("costs", {"devices": options.devices, "rounds": options.rounds})
    for part in wanted:
        found = list(PARTS[part](options))
        write(options.out, part, found)
        for each in found:
            report.row(cost=each.name, value=each.value, unit=each.unit, part=part)
    report.notes.append(f"written to {options.out}")
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
