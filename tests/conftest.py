"""Shared by all tests: Debian's mosquitto, and a watch over what is logged."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("broker", "devices", "feedgen", "simulator")


@dataclass(frozen=True, slots=True)
class Mosquitto:
    """Where the programs of an installed mosquitto are."""

    server: Path
    pub: Path
    sub: Path


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "logs_errors: an exception in the log is what this test provokes"
    )


@pytest.fixture(scope="session")
def mosquitto() -> Mosquitto:
    """Return the installed mosquitto; without one skip, but fail under CI, which promises it."""
    # Debian has the server in /usr/sbin, which an ordinary user's PATH lacks.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    found = {name: shutil.which(f"mosquitto{name}", path=path) for name in ("", "_pub", "_sub")}
    if missing := [f"mosquitto{name}" for name, program in found.items() if program is None]:
        message = f"not installed: {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(f"{message}, although CI is set")
        pytest.skip(message)
    return Mosquitto(*(Path(program) for program in found.values() if program))


class _Watch(logging.Handler):
    """Collects records that do not format and errors that carry an exception."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.faults: list[str] = []
        self._formatter = logging.Formatter("%(name)s: %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._formatter.format(record)
        except Exception as error:  # noqa: BLE001 - whatever formatting may raise is the finding
            where = f"{record.pathname}:{record.lineno}"
            self.faults.append(
                f"badly formatted log record at {where}: {record.msg!r} % {record.args!r}: {error!r}"
            )
            return
        if record.levelno >= logging.ERROR and record.exc_info:
            self.faults.append(f"exception in the log: {line}")


@pytest.fixture(autouse=True)
def _watched_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test whose log has an exception or a record that does not format.

    Our own loggers are at DEBUG meanwhile, so that the lines for debugging are formatted too. The
    mark `logs_errors` permits exceptions; a bad format is never right.
    """
    watch, root = _Watch(), logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in PACKAGES}
    for name in PACKAGES:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(watch)
    yield
    root.removeHandler(watch)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    permitted = request.node.get_closest_marker("logs_errors") is not None
    faults = [each for each in watch.faults if not (permitted and each.startswith("exception"))]
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)
