"""How much heap the MicroPython client needs beyond umqtt, as the README says it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from devices.frames import payload_capacity
from tests.broker.support import ServerProcess, item
from tests.devices.micropython.support import PATIENCE, PROGRAMS, command, environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT = 16
"""KiB beyond umqtt; on the 64-bit port, where an object is twice as large as on a chip."""
DEVICE = "k%06d"


def enough(heap: int, program: str, port: int, device: str, *more: str) -> bool:
    """Whether a program reaches its end with this many KiB."""
    started = command(PROGRAMS / program, str(port), device, *more, heap=heap)
    done = subprocess.run(
        started, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.stdout == "enough\n"


def least(program: str, port: int, *more: str) -> int:
    """The fewest KiB with which a program reaches its end."""
    short, good = 8, 128
    assert enough(good, program, port, f"{program[0]}{good:06}", *more)
    while good - short > 1:
        heap = (short + good) // 2
        if enough(heap, program, port, f"{program[0]}{heap:06}", *more):
            good = heap
        else:
            short = heap
    return good


async def test_a_full_window_of_long_items_takes_sixteen_kib_beyond_umqtt(
    process: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = process()
    longest = payload_capacity(256, DEVICE % 0)
    await server.publish(*(item(f"i{n}", f"{n:02}".ljust(longest, "x")) for n in range(10)))
    port = server.address[1]
    alone = least("bare.py", port)
    together = least("full.py", port, str(tmp_path / "feed"))
    assert together - alone <= LIMIT, f"umqtt {alone} KiB, with the feed {together} KiB"
