"""The files to deploy with agree with the settings, commands and files that exist.

Images are not built here: what is tested is what can be read.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml  # type: ignore[import-untyped] # stubs for one call are not worth a dependency

from broker.cli import app
from broker.config import StoreSettings
from broker.config_layers import Resolved, resolve
from broker.run import probes
from tests.redis_servers import redis_server

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "fleetfeed.service").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def unit_values(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, lines that go on joined."""
    lines = re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
    return [(*line.split(" ", 1),) for line in lines if line and line[0] not in "# "]  # type: ignore[misc]


def image(name: str) -> list[str]:
    """The arguments of an instruction in the last stage, which is the image."""
    steps = instructions()
    begins = max(n for n, (each, _) in enumerate(steps) if each == "FROM")
    return [argument for each, argument in steps[begins:] if each == name]


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for each in image("ENV") for pair in shlex.split(each))


def valid(environ: dict[str, str], file: Path | None = None) -> Resolved:
    found = resolve(file, {k: v for k, v in environ.items() if k.startswith("FLEETFEED_")}, {})
    assert found.problems == ()
    return found


def command_exists(words: list[str]) -> bool:
    """Whether these words, from `fleetfeed` on, are a command and options that it has."""
    group: Any = typer.main.get_command(app)
    command = group.commands.get(words[1])
    options = {each for parameter in command.params for each in parameter.opts}
    return all(word in options for word in words[2:] if word.startswith("--"))


# ---- systemd


def test_the_unit_starts_a_command_that_exists_with_settings_that_are_valid() -> None:
    (start,) = unit_values("ExecStart")
    words = start.split()
    assert Path(words[0]).name == "fleetfeed"
    assert command_exists(words)
    environ = dict(each.split("=", 1) for each in unit_values("Environment"))
    config = valid(environ, ROOT / "fleetfeed.production.toml").config
    assert config is not None
    (state,) = unit_values("StateDirectory")
    assert str(config.data) == f"/var/lib/{state}"
    assert int(unit_values("LimitNOFILE")[0]) >= config.limits.max_connections + 64
    assert all(
        port > 1024 for port in (config.port, config.tls.port) if port
    )  # it has no capability


def test_the_unit_is_notified_watched_and_reloaded() -> None:
    assert unit_values("Type") == ["notify"]
    assert unit_values("ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert int(unit_values("WatchdogSec")[0]) >= 15


def with_credential(unit: str) -> str:
    """The unit, with what it has as a comment: the page's token from systemd."""
    return re.sub(r"^#(LoadCredential|Environment)=", r"\1=", unit, flags=re.MULTILINE)


def test_the_pages_token_is_where_the_configuration_looks_for_it(tmp_path: Path) -> None:
    said = (ROOT / "fleetfeed.production.toml").read_text()
    before, _, rest = said.partition("#[http]\n")
    page, _, after = rest.partition("\n\n")
    file = tmp_path / "fleetfeed.toml"
    uncommented = re.sub("^#", "", page, flags=re.MULTILINE)
    file.write_text(f"{before}[http]\n{uncommented}\n\n{after}")
    config = valid({}, file).config
    assert config is not None
    assert config.http.enabled
    token = config.http.token_file
    assert f" /dev/stdin {token}\n" in (DEPLOY / "README.md").read_text()
    assert f"#LoadCredential={token.name}:{token}\n" in UNIT  # type: ignore[union-attr]
    named = re.findall(
        r"^Environment=(FLEETFEED_HTTP\w+)=(.*)$", with_credential(UNIT), re.MULTILINE
    )
    assert named == [("FLEETFEED_HTTP__TOKEN_FILE", f"%d/{token.name}")]  # type: ignore[union-attr]


@pytest.mark.parametrize("form", [str, with_credential])
def test_systemd_takes_the_unit_and_finds_it_closed(
    tmp_path: Path, form: Callable[[str], str]
) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:  # nothing else here can read a unit as systemd does
        assert "NoNewPrivileges=yes" in UNIT
        return
    unit = tmp_path / "fleetfeed.service"
    unit.write_text(form(UNIT).replace("/opt/fleetfeed/bin/fleetfeed", sys.executable))
    verified = subprocess.run(
        [program, "verify", unit], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(
        [program, "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout


# ---- The image


def test_the_image_runs_as_nobody_else_and_says_how_it_is() -> None:
    (user,) = image("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert image("STOPSIGNAL") == ["SIGTERM"]
    (entry,), (command,), (health,) = image("ENTRYPOINT"), image("CMD"), image("HEALTHCHECK")
    assert command_exists([*yaml.safe_load(entry), *yaml.safe_load(command)])
    assert command_exists(yaml.safe_load(health.partition(" CMD ")[2]))


def test_the_settings_of_the_image_are_valid_and_its_port_and_data_are_the_ones_named() -> None:
    config = valid(image_environment()).config
    assert config is not None
    assert image("EXPOSE") == [str(config.port)]
    assert image("VOLUME") == [str(config.data)]
    assert not config.open_mode  # other machines reach it


def test_the_image_is_of_one_named_slim_python_that_the_project_allows() -> None:
    bases = [argument.split()[0] for each, argument in instructions() if each == "FROM"]
    assert len(set(bases)) == 1
    match = re.fullmatch(r"python:3\.(\d+)-slim-\w+", bases[0])
    assert match is not None
    assert int(match[1]) >= 11


def test_all_that_the_package_is_made_of_is_copied_and_let_through() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {name.partition(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    needed |= {"pyproject.toml", project["project"]["readme"], "LICENSE"}
    copied = {
        word
        for each, argument in instructions()
        if each == "COPY" and "--from" not in argument
        for word in argument.split()[:-1]
    }
    assert copied == needed
    through = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in through if line.startswith("!")} == copied
    assert all((ROOT / each).exists() for each in copied)


# ---- Compose


def test_the_server_of_the_composition_has_settings_that_are_valid() -> None:
    broker = COMPOSE["services"]["broker"]
    config = valid(image_environment() | broker["environment"]).config
    assert config is not None
    assert config.store.hosts == ("redis",)
    assert broker["ulimits"]["nofile"] >= config.limits.max_connections + 64
    assert broker["volumes"] == [f"broker:{config.data}"]
    build = broker["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).is_file()


def test_every_port_is_of_this_machine_alone() -> None:
    published = [port for each in COMPOSE["services"].values() for port in each.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_file_and_volume_that_is_mounted_exists() -> None:
    mounts = [each for service in COMPOSE["services"].values() for each in service["volumes"]]
    for source in (mount.split(":")[0] for mount in mounts):
        exists = (DEPLOY / source).is_file() if source[0] == "." else source in COMPOSE["volumes"]
        assert exists, source


def test_images_of_others_are_of_one_named_version() -> None:
    images = [each["image"] for each in COMPOSE["services"].values() if "image" in each]
    assert len(images) == 3
    assert all(re.search(r":v?\d+\.\d+", each) for each in images)


def test_prometheus_and_grafana_look_at_services_that_there_are() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    targets = [
        target
        for job in prometheus["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    datasources = yaml.safe_load((DEPLOY / "grafana/datasource.yml").read_text())["datasources"]
    urls = [each["url"].removeprefix("http://") for each in datasources]
    assert {each.partition(":")[0] for each in (*targets, *urls)} <= COMPOSE["services"].keys()


def test_the_redis_of_the_composition_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A Redis with just these options is looked at as a server would."""
    program, *words = COMPOSE["services"]["redis"]["command"]
    assert program == "redis-server"
    options = [f"{name[2:]} {value}" for name, value in zip(words[::2], words[1::2], strict=True)]
    with redis_server(tmp_path, *options) as redis:
        found = probes.redis(StoreSettings(url=redis.url))
    assert found.warnings == ()
    assert "nothing acknowledged is lost" in found.durability
