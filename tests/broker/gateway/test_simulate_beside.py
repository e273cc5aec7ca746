"""`fleetfeed simulate` against Mosquitto with TLS and passwords, and a gateway beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.broker.support import CLEAN_ENVIRONMENT, ROOT
from tests.outside_brokers import PUBLISHER, Mosquitto, mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.broker.gateway.stage import GatewayProcess

pytestmark = pytest.mark.mosquitto

SCENARIO = """
[scenario]
name = "beside"
about = "To try it."
devices = 6
[[class]]
name = "panel"
[[publisher]]
name = "news"
rate = 6
[[publisher]]
name = "weather"
rate = 2
[[phase]]
name = "one"
seconds = 5
ramp = 1
"""
DEVICES = [f"panel-{number}" for number in range(1, 7)]


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with mosquitto(DEVICES) as started:
        yield started


def simulate(
    directory: Path, broker: Mosquitto, *words: str | Path
) -> subprocess.CompletedProcess[str]:
    (directory / "beside.toml").write_text(SCENARIO)
    (directory / "secrets.csv").write_text(
        "device,secret\n" + "".join(f"{name},secret-of-{name}\n" for name in DEVICES)
    )
    (directory / "password").write_text(f"secret-of-{PUBLISHER}\n")
    assert broker.certificate is not None
    target = f"mqtts://{PUBLISHER}@127.0.0.1:{broker.ports[8884]}"
    return subprocess.run(
        [
            *(sys.executable, "-m", "broker", "simulate", "beside.toml", "--gateway"),
            *("--target", target, "--ca", str(broker.certificate), *map(str, words)),
        ],
        cwd=directory,
        env=CLEAN_ENVIRONMENT | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_fleet_runs_beside_mosquitto_with_tls_and_passwords(
    tmp_path: Path, broker: Mosquitto, process: Callable[..., GatewayProcess]
) -> None:
    gateway = process(broker)
    done = simulate(
        *(tmp_path, broker, "--data", gateway.data),
        *("--password-file", "password", "--credentials", "secrets.csv"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 devices show their feed" in done.stdout
    report = (tmp_path / "beside.json").read_text() + (tmp_path / "beside.html").read_text()
    assert "secret-of" not in report
    assert "--gateway" in json.loads((tmp_path / "beside.json").read_text())["command"]


def test_mosquitto_that_refuses_a_password_is_told_of_at_once(
    tmp_path: Path, broker: Mosquitto
) -> None:
    (tmp_path / "wrong").write_text("not it\n")
    done = simulate(tmp_path, broker, "--password-file", "wrong", "--credentials", "secrets.csv")
    assert done.returncode == 1
    assert f"refuses knock@simulator as user '{PUBLISHER}'" in done.stderr
    assert "(return code 5)" in done.stderr
    assert not (tmp_path / "beside.json").exists()
