"""`fleetfeed simulate` and `compare` as their user meets them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from broker.cli import app
from broker.commands import simulate_server
from broker.commands.shell import Code, Failure
from tests.broker.support import CLEAN_ENVIRONMENT, ROOT

if TYPE_CHECKING:
    from click.testing import Result

TRY = """
[scenario]
name = "try"
about = "To try it."
devices = 24
[[class]]
name = "panel"
[[class]]
name = "phone"
link = "wifi"
[[publisher]]
name = "news"
rate = 6
[[phase]]
name = "one"
seconds = 5
ramp = 1
[[fault]]
do = "kill"
at = 3
seconds = 0.2
[expect]
p99_latency = 30
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands run: reports are written beside the file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "try.toml").write_text(TRY)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], env={"COLUMNS": "100"})


def failure(*arguments: str) -> Failure:
    raised = run(*arguments).exception
    assert isinstance(raised, Failure), raised
    return raised


def test_the_scenarios_that_come_along_are_listed() -> None:
    done = run("simulate", "--list")
    assert done.exit_code == 0
    for name in ("morning-wake-up", "city-alert", "spike-10x", "reconnect-storm", "nbiot-day",
                 "poisonous-item", "slow-quarter", "rolling-restart"):  # fmt: skip
        assert re.search(rf"^{name} +\w", done.output, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which scenario? --list shows"),
        (("city-alarm",), "there is no scenario 'city-alarm' (did you mean 'city-alert'?)"),
        (("none.toml",), "none.toml cannot be read: No such file or directory"),
        (("try.toml", "--gateway"), "--gateway and --data belong to --target"),
        (("try.toml", "--target", "http://x"), "must begin with mqtt:// or mqtts:// (--target)"),
        (
            ("try.toml", "--ca", "ca.pem"),
            "--ca, --password-file and --credentials belong to --target",
        ),
        (("try.toml", "--target", "mqtt://x", "--ca", "ca.pem"), "for mqtts:// alone (--target)"),
        (("try.toml", "--target", "mqtts://x", "--ca", "ca.pem"), "--ca ca.pem cannot be read"),
        (("try.toml", "--target", "mqtt://:pw@x"), "a password without a user name"),
        (("try.toml", "--target", "mqtt://a@x", "--password-file", "no"), "no cannot be read"),
        (
            ("try.toml", "--target", "mqtt://x", "--credentials", "no"),
            "--credentials no cannot be read",
        ),
        (
            ("try.toml", "--target", "mqtt://x", "--credentials", "try.toml"),
            "try.toml: the first line must name the columns",
        ),
        (("try.toml", "--devices", "1"), "1 devices are too few"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_in_a_sentence(
    arguments: tuple[str, ...], said: str, directory: Path
) -> None:
    del directory
    refused = failure("simulate", *arguments)
    assert said in str(refused)
    assert refused.code == Code.INVALID


def test_every_fault_of_a_file_is_a_line_of_the_refusal(directory: Path) -> None:
    (directory / "try.toml").write_text(
        TRY.replace("rate = 6", "rate = 0").replace("at = 3", "att = 3")
    )
    said = str(failure("simulate", "try.toml")).splitlines()
    assert any("[[fault]] 1 has no key `att` (did you mean 'at'?)" in line for line in said)
    assert any("[[publisher]] 'news' `rate` = 0" in line for line in said)


def test_settings_of_the_server_are_those_of_fleetfeed(directory: Path) -> None:
    (directory / "try.toml").write_text(TRY + "[server.settings.feed]\nmax_inflght = 3\n")
    assert "[server.settings]: feed.max_inflght" in str(failure("simulate", "try.toml"))
    assert "did you mean feed.max_inflight?" in str(failure("simulate", "try.toml"))


def test_settings_have_dotted_names() -> None:
    assert simulate_server.flat({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {
        "a.b": 1,
        "a.c.d": 2,
        "e": 3,
    }


def program(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own, as signals and exit codes are those of a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "broker", *arguments],
        cwd=directory,
        env=CLEAN_ENVIRONMENT | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_run_prints_lines_and_a_verdict_and_writes_a_report_to_compare(directory: Path) -> None:
    done = program(directory, "simulate", "try.toml", "--seed", "7")
    said, _ = done.communicate(timeout=90)
    assert done.returncode == 0, said
    assert re.search(r"^ +\d+ s  one: .* connected", said, re.MULTILINE)
    assert "every promise was kept" in said
    assert "report: try.html, figures: try.json" in said
    found = json.loads((directory / "try.json").read_text())
    assert "fleetfeed simulate try.toml --devices 24 --seed 7" in json.dumps(found)
    page = (directory / "try.html").read_text()
    assert "<svg" in page
    assert "kill the server" in page
    beside = program(directory, "compare", "try.json", "try.json", "--html", "both.html")
    said, _ = beside.communicate(timeout=60)
    assert beside.returncode == 0, said
    assert "<svg" in (directory / "both.html").read_text()


def test_what_is_no_report_is_not_compared(directory: Path) -> None:
    assert "missing.json cannot be read" in str(failure("compare", "missing.json", "try.toml"))
    (directory / "bad.json").write_text("{}")
    assert str(failure("compare", "bad.json", "bad.json")).startswith("bad.json: ")


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in found.split()]


def test_ctrl_c_ends_what_was_started_and_writes_what_was_measured(directory: Path) -> None:
    running = program(directory, "simulate", "try.toml", "--seconds", "60")
    assert running.stdout is not None
    line = running.stdout.readline()
    while " one: " not in line:
        assert line, "it ended before it began"
        line = running.stdout.readline()
    servers = children(running.pid)
    assert servers
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "It was interrupted" in said
    assert "report: try.html" in said
    assert json.loads((directory / "try.json").read_text())
    for server in servers:
        with pytest.raises(ProcessLookupError):
            os.kill(server, 0)
