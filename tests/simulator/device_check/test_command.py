"""`fleetfeed check-device` as its user meets it: a process, its output, its files and its exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

CLIENT = Path(__file__).with_name("python_client.py")
COMMAND = (
    f"{sys.executable} {CLIENT} {{host}} {{port}} {{device}} {{state}} --keep-alive {{keep_alive}}"
)
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("FLEETFEED_")}


def check_device(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", "check-device", *map(str, words)],
        capture_output=True,
        text=True,
        env={**CLEAN, "COLUMNS": "120", "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
        check=False,
    )


OUTSIDE = (
    "outside-hello",
    "outside-bye",
    "outside-ack",
    "session-present",
    "power-loss",
    "hello-pace",
    "up-messages",
)


@pytest.mark.slow
def test_the_python_client_passes_every_case(tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    done = check_device("--fast", "--window", "-", "--junit", junit, "--command", COMMAND)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout
    suite = ET.parse(junit).getroot()[0]
    skipped = {
        case.get("name") for case in suite.iter("testcase") if case.find("skipped") is not None
    }
    assert skipped == {"qos2", "hello-again"}


def test_the_python_client_passes_beside_an_outside_broker() -> None:
    only = [word for case in OUTSIDE for word in ("--only", case)]
    done = check_device("--fast", "--outside", *only, "--command", f"{COMMAND} --outside")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(OUTSIDE)} passed" in done.stdout


def test_a_client_that_fails_ends_the_command_with_1_and_is_shown_with_its_packets(
    tmp_path: Path,
) -> None:
    done = check_device(
        *("--fast", "--hex", "--only", "wait-after-close", "--only", "connect"),
        *("--command", f"{COMMAND} --reconnect-after 0.2", "--junit", tmp_path / "junit.xml"),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "✗ wait-after-close" in done.stdout
    assert "device ──▶         CONNECT 'check-" in done.stdout
    assert "00 04 4d 51 54 54 04" in done.stdout
    assert "1 passed, 0 with a warning, 1 failed" in done.stdout
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")


def test_json_goes_to_stdout_alone() -> None:
    done = check_device("--fast", "--json", "--only", "gap", "--command", COMMAND)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [case["status"] for case in found["cases"]] == ["pass"]
    assert any("hello at" in packet["text"] for packet in found["cases"][0]["packets"])


def test_windows_can_be_read_from_a_file(tmp_path: Path) -> None:
    output = tmp_path / "console.log"
    command = f"sh -c 'exec {COMMAND} >> {output}'"
    words = ("--fast", "--window", output, "--only", "gap", "--command")
    assert check_device(*words, command).returncode == 0
    done = check_device(*words, COMMAND)  # nobody writes the file now
    assert done.returncode == 1
    assert "it printed no window at all" in done.stdout


def test_the_cases_can_be_listed() -> None:
    done = check_device("--list")
    assert done.returncode == 0
    assert "puback-qos1" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--only", "puback-qos2"], 2, "there is no case 'puback-qos2'; did you mean puback-qos1?"),
        (["--skip", "zzz"], 2, "there is no case 'zzz'; --list shows all"),
        (["--only", "gap", "--skip", "gap"], 2, "--only and --skip leave no case to run"),
        (["--listen", "1883"], 2, "--listen '1883' is not HOST:PORT, like 127.0.0.1:1883"),
        (["--window", "-"], 2, "--window - reads what --command prints; give a file instead"),
        (["--command", "client"], 2, "the command must have {port}: every run listens on another one"),
        (["--only", "gap", "--command", "false {port}"], 2, "the program did not connect: it ended with exit code 1: it said nothing"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_command_line_is_told_in_a_sentence(
    words: list[str], code: int, sentence: str
) -> None:
    done = check_device(*words)
    assert (done.returncode, done.stderr) == (code, f"fleetfeed: {sentence}\n")


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = check_device("--listen", where)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"fleetfeed: another program listens on {where}: stop it, or choose another --listen\n"
    )


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_ended_takes_its_client_with_it(tmp_path: Path, end: int) -> None:
    started = tmp_path / "pid"
    client = f"sh -c 'echo $$ > {started}.new; mv {started}.new {started}; exec sleep 60' {{port}}"
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "check-device", "--only", "gap", "--command", client],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**CLEAN, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    wait_until(started.exists)
    pid = int(started.read_text())
    assert is_running(pid)
    process.send_signal(end)
    assert process.wait(30) != 0
    assert not is_running(pid)


def wait_until(there: Callable[[], bool], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_engineer_is_told_what_to_do_and_the_clients_end_with_the_command(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "broker", "check-device", "--fast"),
            *("--listen", f"127.0.0.1:{port}", "--only", "gap", "--only", "power-loss"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**CLEAN, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    words = [sys.executable, str(CLIENT), "127.0.0.1", str(port), "oven", str(tmp_path / "state")]
    client: subprocess.Popen[bytes] | None = None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("→"):
            if client is not None:
                client.kill()
                client.wait()
            client = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert client is not None
    client.kill()
    client.wait()
    assert process.wait(30) == 0, "".join(said)
    assert f"point the device at 127.0.0.1:{port}" in "".join(said)
    assert "cut the device's power now" in "".join(said)
    process.stdout.close()
