"""How what was measured is judged."""

from __future__ import annotations

import errno

import pytest

from broker.run import findings
from broker.run.findings import Level

MIB, GIB, DAY = 1 << 20, 1 << 30, 86_400.0


@pytest.mark.parametrize(
    ("free", "inodes", "stored", "level"),
    [
        (100 * GIB, 1_000, GIB, Level.OK),
        (100 * GIB, None, GIB, Level.OK),
        (100 * GIB, 10, GIB, Level.FAIL),
        (10 * GIB, 1_000, 6 * GIB, Level.WARN),
        (900 * MIB, 1_000, 0, Level.WARN),
        (60 * MIB, 1_000, 0, Level.FAIL),
    ],
)
def test_room_on_the_disk(free: int, inodes: int | None, stored: int, level: Level) -> None:
    assert findings.disk(free, inodes, stored, "/data").level is level


@pytest.mark.parametrize(("limit", "level"), [(1_064, Level.OK), (1_063, Level.WARN)])
def test_a_limit_on_files_has_room_for_the_connections_and_some(limit: int, level: Level) -> None:
    assert findings.open_files(limit, 1_000, "it").level is level


@pytest.mark.parametrize(
    ("synchronised", "newest", "level"),
    [
        (True, None, Level.OK),
        (None, 1_000.0, Level.OK),
        (False, 1_000.0, Level.WARN),
        (True, 1_059.0, Level.OK),
        (True, 1_061.0, Level.FAIL),
    ],
)
def test_the_clock(synchronised: bool | None, newest: float | None, level: Level) -> None:
    (found,) = findings.clock(synchronised, 1_000.0, newest)
    assert found.level is level


@pytest.mark.parametrize(
    ("begins", "ends", "level", "said"),
    [
        (0, 131 * DAY, Level.OK, "31 more days"),
        (0, 129 * DAY, Level.WARN, "29 more days"),
        (0, 100 * DAY, Level.FAIL, "expired"),
        (101 * DAY, 200 * DAY, Level.FAIL, "not valid yet"),
    ],
)
def test_the_time_that_a_certificate_has(
    begins: float, ends: float, level: Level, said: str
) -> None:
    found = findings.validity("tls.certificate", "CN=x", begins, ends, 100 * DAY)
    assert found.level is level
    assert said in found.said


@pytest.mark.parametrize(
    ("mode", "own", "writable", "level"),
    [
        (0o700, True, True, Level.OK),
        (0o750, True, True, Level.WARN),
        (0o700, False, True, Level.WARN),
        (0o500, True, False, Level.FAIL),
    ],
)
def test_the_rights_of_the_data_directory(
    mode: int, own: bool, writable: bool, level: Level
) -> None:
    (found,) = findings.directory("/data", mode, own=own, writable=writable)
    assert found.level is level


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EADDRINUSE, "Stop the program"),
        (errno.EACCES, "below 1024"),
        (errno.EADDRNOTAVAIL, "no such address"),
        (errno.EINVAL, "Correct bind"),
    ],
)
def test_why_a_port_cannot_be_had(number: int, advice: str) -> None:
    assert advice in findings.unbound("x:1", "bind", OSError(number, "")).advice


def test_only_what_is_pinned_must_be_exactly_that() -> None:
    pinned = findings.pins(["amqtt==0.12.1", "numpy<3,>=2.0", 'x==1 ; extra == "dev"'])
    assert pinned == {"amqtt": "0.12.1"}
    assert findings.versions({"amqtt": "0.12.1"}, pinned).level is Level.OK
    wrong = findings.versions({"amqtt": "0.13.0"}, pinned)
    assert (wrong.level, wrong.advice) == (Level.FAIL, "Install amqtt==0.12.1: no other was tried.")


def test_clocks_apart() -> None:
    assert findings.skew(0.5, "Redis") is None
    ahead, behind = findings.skew(3.0, "Redis"), findings.skew(-3.0, "Redis")
    assert ahead is not None
    assert behind is not None
    assert "3.0 s ahead of ours" in ahead.said
    assert "3.0 s behind ours" in behind.said


@pytest.mark.parametrize(
    ("count", "text"), [(2_048, "2 KiB"), (3 * MIB // 2, "1.5 MiB"), (3 * GIB, "3.0 GiB")]
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert findings.size(count) == text
