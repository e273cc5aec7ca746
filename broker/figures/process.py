"""What the process takes of its machine."""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_PAGE = resource.getpagesize()
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Process:
    """This process at one moment.

    Attributes:
        rss: Bytes of memory.
        max_rss: The most it ever had.
        cpu: Seconds of CPU of all threads.
        files: Open files and sockets.
        max_files: How many are allowed.
    """

    rss: int
    max_rss: int
    cpu: float
    files: int
    max_files: int


def look() -> Process:
    """Looks at this process; some ten microseconds on Linux."""
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
    rss = _rss() or highest
    return Process(
        rss=rss,
        max_rss=max(highest, rss),
        cpu=time.process_time(),
        files=_open_files(),
        max_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _rss() -> int:
    """0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def _open_files() -> int:
    """Linux tells the number as the size of the directory since 6.2; a list of 10 000 takes milliseconds."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return os.stat(directory).st_size or len(os.listdir(directory))  # noqa: PTH116, PTH208 (ten times as fast)
        except OSError:
            continue
    return 0
