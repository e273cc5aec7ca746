"""Memory of a million devices with rows: profiles, windows, ledgers and what the service keeps of each.

`python benchmarks/memory.py [--json] [--quick] [--devices 1000000]`

Every device is seated as one that has connected before: its window is filled by the engine, its ledger
knows a position. No sockets: what a connection adds is measured by `connect.py`.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from argparse import Namespace
from pathlib import Path

from harness import Report, Verdict, parser, prepare, progress

from broker.config import Config
from broker.counters import Counters
from broker.server import load_registry
from broker.service import Service
from devices.frames import payload_capacity
from feedgen.engine import Engine
from feedgen.items import decode_item
from feedgen.store.memory import MemoryStore

ITEMS = 16
BUDGET_GB = 2.0


def resident() -> float:
    """Return the largest resident set of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


async def fill(devices: int) -> tuple[float, float, float]:
    """Seat the devices and publish to all; returns GB before, GB after, seconds to seat one."""
    config = Config(data=Path(tempfile.gettempdir()), open=True)
    store = MemoryStore()
    loaded = store.open()
    registry, _ = load_registry(config, loaded.devices, clean=True)
    engine = Engine(landmark=time.time())
    service = Service(
        config=config,
        store=store,
        loaded=loaded,
        registry=registry,
        engine=engine,
        counters=Counters(),
    )
    before = resident()
    began = time.process_time()
    for number in range(devices):
        profile = registry.enroll(f"device-{number:07d}")
        assert profile is not None
        live = service.roster.seat(profile)
        service.roster.ledger(live).begin_epoch(live.seat.row, 1)
        if number % 100_000 == 0:
            progress(f"{number} of {devices} devices seated")
    spent = (time.process_time() - began) / devices
    room = payload_capacity(256, "device-0000000")
    for number in range(ITEMS):
        item = decode_item("bench/all", f"item {number}".ljust(room // 2).encode())
        accepted = service.catalog.accept(item, 1000 * number, dup=False)
        assert accepted.record is not None
        service._publish_records([accepted.record])  # noqa: SLF001 (what a commit does)
    while engine.busy:
        engine.step(time.time())
    assert len(engine.window(live.seat)) == min(ITEMS, live.profile.k)
    return before, resident(), spent


def main() -> None:
    """Run and print."""
    prepare()
    options_parser = parser("Memory of a million devices")
    options_parser.add_argument("--devices", type=int)
    options: Namespace = options_parser.parse_args()
    devices = options.devices or (20_000 if options.quick else 1_000_000)
    report = Report("memory", {"devices": devices})
    before, after, spent = asyncio.run(fill(devices))
    report.row(
        devices=devices,
        process_gb=round(after, 2),
        bytes_each=round((after - before) * 1024**3 / devices),
        seat_µs=round(spent * 1e6, 1),
    )
    if devices >= 1_000_000:
        what = "GB with a million devices"
        report.verdicts.append(Verdict(what, after, BUDGET_GB, at_least=False))
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
