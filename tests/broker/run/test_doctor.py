"""What the examination of real installations finds."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from typer.testing import CliRunner

from broker.cli import app
from broker.config_layers import resolve
from broker.gateway.address import parse_address
from broker.run import probes
from broker.run.doctor import examine
from broker.run.findings import Finding, Level
from tests.broker.support import Served, item
from tests.redis_servers import RedisServer, redis_server

Serve = Callable[..., Awaitable[Served]]

FREE = {"bind": "127.0.0.1:0", "limits.max_connections": 100}


def found(subject: str, settings: dict[str, Any], broker: str | None = None) -> list[Finding]:
    address = None if broker is None else parse_address(broker)
    result = examine(resolve(None, {}, {**FREE, **settings}), address)
    return [each for each in result if each.subject == subject]


def of(served: Served, **settings: Any) -> dict[str, Any]:
    """The settings of a running server, with the port that it was given."""
    host, port = served.address
    return {"data": str(served.data), "bind": f"{host}:{port}"} | {
        name.replace("__", "."): value for name, value in settings.items()
    }


def test_a_new_installation_has_nothing_that_fails(tmp_path: Path) -> None:
    result = examine(resolve(None, {}, {**FREE, "data": str(tmp_path / "data")}))
    assert {each.subject for each in result if each.level is Level.WARN} <= {
        "server",
        "clock",
        "disk",
    }
    assert not [each for each in result if each.level is Level.FAIL]
    assert not (tmp_path / "data").exists()  # it only looks
    assert all(each.advice for each in result if each.level is not Level.OK)


async def test_a_running_server_is_well(served: Served) -> None:
    await served.publish(item("a", "x"))
    settings = of(served)
    result = await asyncio.to_thread(lambda: examine(resolve(None, {}, {**FREE, **settings})))
    by_subject = {each.subject: each for each in result}
    assert by_subject["server"].said == "runs, with 0 connections; its store is up"
    assert by_subject["port"].said == f"{settings['bind']} answers"
    assert by_subject["data directory"].level is Level.OK
    assert by_subject["store"].said.startswith("version 1, ")
    assert "the server may have" in by_subject["open files"].said
    assert not [each for each in result if each.level is Level.FAIL]


def test_a_wrong_configuration_is_all_that_is_looked_at() -> None:
    result = examine(resolve(None, {}, {"bind": "nowhere", "feed.stall_after": 0}))
    failed = [each for each in result if each.level is Level.FAIL]
    assert {each.subject for each in failed} == {"configuration"}
    assert len(failed) == 2


def test_what_leaves_the_door_open_is_a_warning(tmp_path: Path) -> None:
    settings = {"bind": "0.0.0.0:0", "data": str(tmp_path)}
    levels = {each.level for each in found("configuration", settings)}
    assert levels == {Level.WARN}


def test_a_port_that_is_taken_is_said_to_be_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        (port,) = found("port", {"bind": bind, "data": str(tmp_path)})
    assert port.level is Level.FAIL
    assert "Address already in use" in port.said
    (port,) = found("port", {"bind": bind, "data": str(tmp_path)})
    assert port.level is Level.OK


async def test_a_server_that_listens_elsewhere_than_is_configured(served: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = of(served) | {"bind": f"127.0.0.1:{port}"}
    (said,) = await asyncio.to_thread(found, "port", settings)
    assert said.level is Level.FAIL
    assert "does not answer" in said.said
    assert said.advice.endswith("it listens on {}:{}.".format(*served.server.addresses[0]))


async def test_a_store_of_a_newer_version_or_a_damaged_one_fails(tmp_path: Path) -> None:
    (tmp_path / "fleetfeed.db").write_bytes(os.urandom(8_192))
    (store,) = found("store", {"data": str(tmp_path)})
    assert store.level is Level.FAIL
    assert "restore a backup" in store.advice


def test_a_data_directory_that_others_can_enter_is_a_warning(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (directory,) = found("data directory", {"data": str(tmp_path)})
    assert (directory.level, directory.advice[:9]) == (Level.WARN, "chmod 700")
    file = tmp_path / "file"
    file.touch()
    (directory,) = found("data directory", {"data": str(file)})
    assert directory.level is Level.FAIL


# ---- Certificates


def pair(authority: trustme.CA, directory: Path) -> dict[str, str]:
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(str(directory / "certificate.pem"))
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    return {
        "tls.certificate": str(directory / "certificate.pem"),
        "tls.key": str(directory / "key.pem"),
    }


def test_how_long_certificates_are_valid(tmp_path: Path) -> None:
    settings = pair(trustme.CA(), tmp_path) | {"tls.bind": "127.0.0.1:0", "data": str(tmp_path)}
    (certificate,) = found("certificate", settings)
    assert certificate.level is Level.OK
    assert "more days" in certificate.said
    (tmp_path / "key.pem").write_text("no key")
    (certificate,) = found("certificate", settings)
    assert certificate.level is Level.FAIL
    assert certificate.advice == "Put the right file there."


async def test_a_server_that_still_shows_an_older_certificate_should_reload(
    serve: Serve, tmp_path: Path
) -> None:
    authority = trustme.CA()
    files = pair(authority, tmp_path)
    more = {name.replace(".", "__"): value for name, value in files.items()}
    served = await serve(bind="off", tls__bind="127.0.0.1:0", **more)
    host, port = served.address
    settings = of(served) | {"bind": "off", "tls.bind": f"{host}:{port}"} | files
    (before,) = await asyncio.to_thread(found, "port", settings)
    assert before.level is Level.OK
    pair(authority, tmp_path)
    (after,) = await asyncio.to_thread(found, "port", settings)
    assert after.level is Level.WARN
    assert "SIGHUP" in after.advice


# ---- Redis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", "appendonly yes", "appendfsync always") as server:
        yield server


def test_what_a_redis_may_lose_is_said(redis: RedisServer, tmp_path: Path) -> None:
    settings = {"store.url": redis.url, "data": str(tmp_path)}
    (said,) = found("Redis", settings)
    assert said.level is Level.OK
    redis.ask("CONFIG", "SET", "appendfsync", "everysec")
    (said,) = found("Redis", settings)
    assert said.level is Level.WARN
    assert "up to about the last second" in said.said
    redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    (said,) = found("Redis", settings)
    assert said.level is Level.FAIL
    assert "noeviction" in said.said


def test_a_redis_that_is_not_there_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"redis://user:hush@127.0.0.1:{port}"
    (said,) = found("Redis", {"store.url": url, "data": str(tmp_path)})
    assert said.level is Level.FAIL
    assert "hush" not in f"{said.said} {said.advice}"


# ---- The broker of a gateway


async def test_the_broker_of_a_gateway_is_asked_to_let_us_in(serve: Serve, tmp_path: Path) -> None:
    served = await serve(open=False)
    served.server.registry.add("gateway")
    host, port = served.address
    here = {"data": str(tmp_path)}
    url = f"mqtt://gateway:wrong@{host}:{port}"
    (said,) = await asyncio.to_thread(found, "broker", here, url)
    assert said.level is Level.FAIL
    assert "the password is wrong" in said.said
    assert "wrong@" not in said.said
    opened = await serve()
    (said,) = await asyncio.to_thread(
        found, "broker", here, f"mqtt://{opened.address[0]}:{opened.address[1]}"
    )
    assert said.level is Level.OK
    assert not await asyncio.to_thread(found, "open files", here, url), "clients are at the broker"


def test_a_broker_that_speaks_something_else_is_found_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    (said,) = found("broker", {"data": str(tmp_path)}, f"mqtt://127.0.0.1:{port}")
    assert said.level is Level.FAIL
    assert "cannot be reached" in said.said


def test_the_kernel_says_whether_its_clock_is_synchronised() -> None:
    assert probes.synchronised() in (True, False, None)


# ---- The command


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)])


def test_the_command_says_what_to_do_and_exits_by_it(tmp_path: Path) -> None:
    file = tmp_path / "fleetfeed.toml"
    file.write_text('bind = "127.0.0.1:0"\n')
    here = ("--data", tmp_path / "data", "--config", file)
    result = run(*here)
    assert result.exit_code == 0, result.output
    assert "warn  server: none runs on" in result.output
    assert "\n      Start it" in result.output
    lines = json.loads(run(*here, "--json").output)
    assert {"subject", "level", "said", "advice"} == set(lines[0])
    (tmp_path / "data").touch()
    assert run(*here).exit_code == 1
    file.write_text('bind = "nowhere"\n')
    result = run(*here)
    assert result.exit_code == 2
    assert "fail  configuration: bind = 'nowhere'" in result.output
