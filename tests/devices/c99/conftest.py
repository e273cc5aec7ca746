"""The programs of these tests, each compiled once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.devices.c99.toolchain import (
    FEED,
    HERE,
    SANITIZED,
    SOURCES,
    STRICT,
    Driver,
    gcc,
    has_gcc,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for programs; without gcc skip, but fail under CI, which promises it."""
    if not has_gcc():
        if os.environ.get("CI"):
            pytest.fail("gcc is not installed, although CI is set")
        pytest.skip("gcc is not installed")
    return tmp_path_factory.mktemp("c99")


@pytest.fixture(scope="session")
def driver(build: Path) -> Iterator[Driver]:
    program = build / "driver"
    gcc(*STRICT, *SANITIZED, HERE / "driver.c", FEED, "-o", program)
    with Driver(program) as running:
        yield running


@pytest.fixture(scope="session")
def fuzzer(build: Path) -> Path:
    program = build / "fuzz"
    gcc(*STRICT, *SANITIZED, HERE / "fuzz.c", FEED, "-o", program)
    return program


@pytest.fixture(scope="session")
def example(build: Path) -> Path:
    program = build / "device"
    gcc(*STRICT, *SANITIZED, SOURCES / "example_posix.c", FEED, "-o", program)
    return program
