"""`fleetfeed gateway` as an operator starts it, and the Python client beside it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from devices.client import FeedClient
from tests.broker.gateway.stage import GatewayProcess
from tests.broker.support import CLEAN_ENVIRONMENT, PATIENCE, ROOT, item

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.outside_brokers import OutsideBroker


def run(
    *options: str, data: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "broker", "gateway", "--data", str(data), *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=CLEAN_ENVIRONMENT | {"FLEETFEED_RANKING__MODEL": "newest"} | (environment or {}),
        timeout=2 * PATIENCE,
        check=False,
    )


def test_a_wrong_password_ends_the_command_with_a_sentence_that_does_not_repeat_it(
    mosquitto_broker: OutsideBroker, tmp_path: Path
) -> None:
    url = f"mqtt://gateway@{mosquitto_broker.address}"
    done = run(
        data=tmp_path, environment={"FLEETFEED_BROKER": url, "FLEETFEED_PASSWORD": "hunter2"}
    )
    assert done.returncode == 1
    assert "refuses us" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_a_password_may_be_in_a_file(mosquitto_broker: OutsideBroker, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    url = f"mqtt://nobody@{mosquitto_broker.address}"
    done = run("--broker", url, "--password-file", str(secret), data=tmp_path)
    assert "refuses us" in done.stderr  # so it was read, and sent
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--broker", "http://u:hunter2@127.0.0.1"),
        ("--broker", "mqtt://u:hunter2@127.0.0.1:0x10"),
        ("--broker", "mqtt://u:hunter2@127.0.0.1", "--ca", "ca.pem"),
        ("--broker", "mqtt://u:hunter2@127.0.0.1", "--password-file", "not-there"),
    ],
)
def test_a_wrong_command_line_is_told_without_the_password(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    done = run(*options, data=tmp_path)
    assert done.returncode == 2
    assert "hunter2" not in done.stderr


def test_the_ready_line_names_broker_and_registration_and_no_password(
    mosquitto_broker: OutsideBroker, process: Callable[..., GatewayProcess]
) -> None:
    gateway = process(mosquitto_broker, gateway__client_id="ready")
    assert gateway.ready == (
        f"fleetfeed: gateway at mqtt://{mosquitto_broker.address} "
        f"(data {gateway.data}, open registration)\n"
    )
    assert "secret-of-" not in gateway.log.read_text()


async def test_the_python_client_has_its_feed_beside_an_outside_broker(
    mosquitto_broker: OutsideBroker, process: Callable[..., GatewayProcess]
) -> None:
    gateway = process(mosquitto_broker, gateway__client_id="client")
    user, password = mosquitto_broker.login("d40")
    shown: list[tuple[str | bytes, ...]] = []
    full = threading.Event()

    def changed(window: tuple[object, ...]) -> None:
        shown.append(tuple(each.payload for each in window))  # type: ignore[attr-defined]
        if set(shown[-1]) == {"first", "second"}:
            full.set()

    host, port = gateway.address
    with FeedClient(
        "d40",
        host=host,
        port=port,
        username=user,
        password=password,
        outside_broker=True,
        on_change=changed,
    ):
        await gateway.publish(item("a", "first"), item("b", "second"))
        assert await asyncio.to_thread(full.wait, PATIENCE), shown
