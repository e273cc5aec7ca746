"""What the service manager hears, on a real socket."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from broker.run.notify import Notify, from_environment, reloading, watchdog_seconds

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("abstract", [False, True])
def test_words_arrive_together_in_one_datagram(tmp_path: Path, *, abstract: bool) -> None:
    address = f"@fleetfeed-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        manager.settimeout(5)
        from_environment({"NOTIFY_SOCKET": address})("READY=1", "STATUS=Serving")
        assert manager.recv(1_000) == b"READY=1\nSTATUS=Serving"


def test_where_nobody_listens_nothing_happens(tmp_path: Path) -> None:
    from_environment({})("READY=1")
    Notify(str(tmp_path / "nobody"))("READY=1")


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notify = Notify(str(tmp_path / "notify"))
        for _ in range(5_000):
            notify("WATCHDOG=1")


def test_a_reload_says_when_it_began() -> None:
    first, second = reloading(), reloading()
    assert first[0] == "RELOADING=1"
    times = [int(words[1].removeprefix("MONOTONIC_USEC=")) for words in (first, second)]
    assert 0 < times[0] <= times[1]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_whether_this_process_is_watched(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environ) == seconds
