"""What a service manager is told: ready, stopping, alive (sd_notify(3), ours as it is so little)."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


class Notify:
    """Sends words to the socket that systemd gave this process; to nobody where there is none.

    Args:
        address: Of a datagram socket of the file system, or, with a leading "@", of the abstract
            namespace; "" for none.
    """

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def __call__(self, *words: str) -> None:
        """Tell all of `words` at once. That nobody listens is no reason to stop serving."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.setblocking(False)
            to.sendto("\n".join(words).encode(), self._address)


def from_environment(environ: Mapping[str, str]) -> Notify:
    """What systemd said where to send to."""
    return Notify(environ.get("NOTIFY_SOCKET", ""))


def reloading() -> tuple[str, str]:
    """Words for the time until the next `READY` (the clock is that of systemd's own)."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Seconds without `ALIVE` after which this process is killed; None if it is not watched."""
    meant = environ.get("WATCHDOG_PID", "")
    usec = environ.get("WATCHDOG_USEC", "")
    if (meant and meant != str(os.getpid())) or not usec.isdecimal() or not int(usec):
        return None
    return int(usec) / 1e6
