"""`fleetfeed simulate --target` against what has TLS, credentials and closed registration."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker.commands.shell import Code, Failure
from broker.commands.simulate_target import import_table, see_secrets, target_of
from simulator.fleet import DeviceSpec
from tests.broker.certificates import Files, issued
from tests.broker.support import CLEAN_ENVIRONMENT, ROOT, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCENARIO = """
[scenario]
name = "try"
about = "To try it."
devices = 12
[[class]]
name = "panel"
follow = ["site/{1..3}"]
[[class]]
name = "phone"
link = "wifi"
[[publisher]]
name = "news"
rate = 6
channels = ["site/{1..3}", "news"]
[[phase]]
name = "one"
seconds = 5
ramp = 1
"""


@dataclass(frozen=True)
class Place:
    """A closed server with TLS, and what somebody needs to simulate a fleet against it."""

    directory: Path
    server: ServerProcess
    port: int
    files: Files

    @property
    def url(self) -> str:
        return f"mqtts://staging@127.0.0.1:{self.port}"

    def fleetfeed(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "broker", *map(str, words)],
            cwd=self.directory,
            env=CLEAN_ENVIRONMENT | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def simulate(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.fleetfeed("simulate", "try.toml", *words, **environment)

    def rows(self, name: str) -> list[dict[str, str]]:
        """The lines of a table."""
        with (self.directory / name).open() as lines:
            return [*csv.DictReader(lines)]

    def refusal(self, *words: str | Path) -> str:
        """What is said on stderr by a simulation that does not begin."""
        done = self.simulate(*words)
        assert done.returncode != 0, done.stdout
        assert not (self.directory / "try.html").exists(), done.stdout
        assert done.stderr.startswith("fleetfeed: ")
        assert done.stderr.count("\n") == 1
        return done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Set up with the commands that the documentation names."""
    directory = tmp_path_factory.mktemp("staging")
    files = issued(directory / "certificates", "127.0.0.1")
    (directory / "try.toml").write_text(SCENARIO)
    server = ServerProcess(
        directory / "data",
        opened=False,
        **{
            "tls.bind": "127.0.0.1:0",
            "tls.certificate": str(files.certificate),
            "tls.key": str(files.key),
            "topics.sys_interval": "1",
        },
    ).start()
    found = re.search(r":(\d+) with TLS", server.ready)
    assert found is not None, server.ready
    place = Place(directory, server, int(found[1]), files)
    (directory / "sim.csv").write_text(place.simulate("--print-devices").stdout)
    data = ("--data", server.data)
    made = place.fleetfeed("device", "import", "sim.csv", "--secrets", "secrets.csv", *data)
    assert made.returncode == 0, made.stderr
    user = place.fleetfeed(
        *("user", "add", "staging", "--secret", "--publish", "#", "--operator", "--json"), *data
    )
    assert user.returncode == 0, user.stderr
    (directory / "password").write_text(json.loads(user.stdout)["secret"] + "\n")
    yield place
    server.close()


def test_the_devices_of_a_scenario_are_printed_as_they_are_imported(place: Place) -> None:
    rows = place.rows("sim.csv")
    assert len(rows) == 12
    assert rows[0] == {"device": "panel-1", "may_follow": "site/2"}
    assert rows[-1] == {"device": "phone-6", "may_follow": ""}


def test_a_fleet_with_secrets_runs_against_a_closed_server_with_tls(place: Place) -> None:
    done = place.simulate(
        *("--target", place.url, "--ca", place.files.ca, "--password-file", "password"),
        *("--credentials", "secrets.csv", "--data", place.server.data),
        *("--html", "whole.html", "--json", "whole.json"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 of 12 devices show their feed" in done.stdout
    texts = [done.stdout, *((place.directory / f"whole.{e}").read_text() for e in ("html", "json"))]
    for row in place.rows("secrets.csv"):
        assert not any(row["secret"] in text for text in texts)
    password = (place.directory / "password").read_text().strip()
    assert not any(password in text for text in texts)
    result = json.loads(texts[2])
    assert f"--target mqtts://staging@127.0.0.1:{place.port} --ca" in result["command"]
    assert "--credentials secrets.csv" in result["command"]
    assert any("Connections are encrypted" in note for note in result["notes"])


def test_a_certificate_that_is_not_trusted_says_so_and_what_to_do(
    place: Place, tmp_path: Path
) -> None:
    said = place.refusal("--target", place.url)
    assert "its certificate is not from an authority that we trust" in said
    assert "give the authority that signed it with --ca" in said
    other = issued(tmp_path / "other", "127.0.0.1").ca
    assert f"--ca {other} is of another authority" in place.refusal(
        "--target", place.url, "--ca", other
    )


def test_a_certificate_for_another_name_says_so(place: Place) -> None:
    said = place.refusal(
        "--target", f"mqtts://staging@localhost:{place.port}", "--ca", place.files.ca
    )
    assert "its certificate is for another name" in said
    assert "write a name that stands in it into --target" in said


def test_plain_text_to_a_port_for_tls_says_so(place: Place) -> None:
    said = place.refusal("--target", f"mqtt://127.0.0.1:{place.port}")
    assert "if that is its port for TLS, write mqtts://" in said


def test_a_wrong_password_names_the_client_and_the_return_code_and_is_not_repeated(
    place: Place,
) -> None:
    url = f"mqtts://staging:opensesame@127.0.0.1:{place.port}"
    said = place.refusal("--target", url, "--ca", place.files.ca)
    assert "refuses knock@simulator as user 'staging'" in said
    assert "(return code 4)" in said
    assert "opensesame" not in said


def test_nobody_is_let_in_without_a_user(place: Place) -> None:
    said = place.refusal("--target", f"mqtts://127.0.0.1:{place.port}", "--ca", place.files.ca)
    assert "refuses knock@simulator without a user name" in said
    assert "(return code 5); publishers need a user in --target" in said


def test_devices_that_may_not_be_the_user_are_told_of_before_all_come(place: Place) -> None:
    said = place.refusal(
        *("--target", place.url, "--ca", place.files.ca, "--password-file", "password")
    )
    assert "panel-1 as user 'staging'" in said
    assert "give each device a secret of its own with --credentials" in said


def test_a_wrong_secret_names_its_device(place: Place) -> None:
    text = (place.directory / "secrets.csv").read_text()
    (place.directory / "wrong.csv").write_text(
        re.sub("panel-1,.*", "panel-1,0123456789abcdef0123456789abcdef", text)
    )
    said = place.refusal(
        *("--target", place.url, "--ca", place.files.ca, "--password-file", "password"),
        *("--credentials", "wrong.csv"),
    )
    assert "refuses panel-1 as user 'panel-1'" in said
    assert "(return code 4); check its secret in wrong.csv" in said


def test_the_password_may_come_from_the_environment(place: Place) -> None:
    password = (place.directory / "password").read_text().strip()
    done = place.simulate(
        *("--target", place.url, "--ca", place.files.ca, "--credentials", "none.csv"),
        FLEETFEED_PASSWORD=password,
    )
    assert "--credentials none.csv cannot be read" in done.stderr
    (place.directory / "empty.csv").write_text("device,secret\n")
    done = place.simulate(
        *("--target", place.url, "--ca", place.files.ca, "--credentials", "empty.csv"),
        FLEETFEED_PASSWORD=password,
    )
    assert (
        "empty.csv has no secret for 12 of 12 simulated devices, panel-1 the first" in done.stdout
    )
    assert "refuses panel-1 as user 'staging'" in done.stderr  # and so `staging` was let in


SPECS = [DeviceSpec(f"{kind}-{n}", kind=kind) for kind in ("panel", "phone") for n in (1, 2)]


@pytest.fixture
def some_secrets(tmp_path: Path) -> Path:
    file = tmp_path / "some.csv"
    file.write_text("device,secret\npanel-1,x\nphone-1,y\nphone-2,none\n")
    return file


def test_devices_without_a_secret_and_without_a_user_are_counted_and_named(
    some_secrets: Path,
) -> None:
    target = target_of("mqtt://127.0.0.1", credentials=some_secrets)
    with pytest.raises(Failure) as failed:
        see_secrets(target, SPECS, "my fleet.toml")
    said = str(failed.value)
    assert failed.value.code == Code.INVALID
    assert "no secret for 2 of 4 simulated devices, panel-2 the first" in said
    assert "They are called panel-1 to panel-2, phone-1 to phone-2." in said
    assert "fleetfeed simulate 'my fleet.toml' --devices 4 --print-devices > sim.csv" in said


def test_devices_without_a_secret_may_be_the_user(some_secrets: Path) -> None:
    target = target_of("mqtt://all:pw@127.0.0.1", credentials=some_secrets)
    said = see_secrets(target, SPECS, "try")
    assert said is not None
    assert said.endswith("panel-2 the first: they log in as 'all'.")
    assert see_secrets(target_of("mqtt://127.0.0.1"), SPECS, "try") is None


def test_the_options_that_name_a_target_again_hold_no_password(tmp_path: Path) -> None:
    target = target_of("mqtt://us%2Fer:pass@[::1]:77", gateway=True, data=tmp_path)
    assert target.options == f"--target 'mqtt://us%2Fer@[::1]:77' --data {tmp_path} --gateway"
    assert target.access.password == "pass"
    assert "pass" not in repr(target)


def test_a_password_in_the_environment_is_for_a_user_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLEETFEED_PASSWORD", "secret")
    assert target_of("mqtt://127.0.0.1").access.password is None
    assert target_of("mqtt://me@127.0.0.1").access.password == "secret"


def test_a_filter_that_no_table_can_hold_is_refused() -> None:
    with pytest.raises(Failure, match="panel-1 follows 'two words', and in a table of devices"):
        import_table([DeviceSpec("panel-1", follow=("two words",))])


def test_a_user_without_the_right_to_publish_is_noticed(
    place: Place, process: Callable[..., ServerProcess]
) -> None:
    """Servers acknowledge what they drop; nothing else tells it."""
    server = process(opened=False)
    data = ("--data", server.data)
    place.fleetfeed("device", "import", "sim.csv", "--secrets", "mute.csv", *data)
    user = place.fleetfeed("user", "add", "silent", "--secret", "--publish", "elsewhere", "--json", *data)  # fmt: skip
    (place.directory / "silent").write_text(json.loads(user.stdout)["secret"])
    url = f"mqtt://silent@127.0.0.1:{server.address[1]}"
    done = place.simulate(
        *("--target", url, "--password-file", "silent", "--credentials", "mute.csv"),
        *("--html", "mute.html", "--json", "mute.json"),
    )
    assert "No device shows anything, though items were acknowledged" in done.stdout
