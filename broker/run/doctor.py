"""Examines an installation: what would keep a server from starting, or from doing its work.

Each subject is a function that measures (`probes`) and judges (`findings`). A measurement that fails is a
finding like any other, so that one broken part does not hide the next.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import ssl
import stat
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.access.door import token_verifier
from broker.access.tls import server_context
from broker.config_layers import InvalidConfig
from broker.control import SOCKET_NAME, ControlClient, ControlError, NoServer
from broker.insecurities import insecurities
from broker.run import findings, probes
from broker.run.doctor_http import examine_http
from broker.run.findings import Finding, fail, ok, warn
from devices.packets import Connect
from feedgen.store.base import StoreError
from feedgen.store.sqlite_migrations import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from broker.config import Config
    from broker.config_layers import Resolved
    from broker.gateway.address import BrokerAddress

_REFUSALS = {
    1: "it does not speak MQTT 3.1.1",
    2: "it does not take our client id",
    3: "it is not available",
    4: "the password is wrong",
    5: "it does not let us in",
}
_NOTHING_LOST = "nothing acknowledged is lost"


def examine(found: Resolved, broker: BrokerAddress | None = None) -> list[Finding]:
    """Look at everything.

    Args:
        found: The settings, valid or not.
        broker: The broker of a gateway, if this is one's installation.
    """
    config = found.config
    if config is None:
        advice = "Correct it; fleetfeed check-config shows where each value comes from."
        return [*_versions(), *(fail("configuration", each, advice) for each in found.problems)]
    status, server = _server(config)
    return [
        *_versions(),
        *_configuration(config),
        server,
        *_data(config, running=status is not None, gateway=broker is not None),
        *_certificates(config, running=status is not None),
        *([] if broker else _ports(config, status)),
        *examine_http(config.http, running=status is not None),
        *_redis(config),
        *([_broker(broker)] if broker else []),
    ]


def _versions() -> Iterator[Finding]:
    installed = {
        "fleetfeed": _installed("fleetfeed"),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
    }
    try:
        pinned = findings.pins(requires("fleetfeed") or [])
    except PackageNotFoundError:
        pinned = {}
    yield findings.versions(installed | {name: _installed(name) for name in pinned}, pinned)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def _configuration(config: Config) -> Iterator[Finding]:
    weak = insecurities(config)
    for each in weak:
        yield warn("configuration", f"{each.setting} = {each.value}", _capital(each.advice))
    if not weak:
        yield ok("configuration", "valid, and no setting leaves the door open")


def _server(config: Config) -> tuple[Mapping[str, Any] | None, Finding]:
    """What a running server says of itself; None if none runs."""
    try:
        status = ControlClient(config.data / SOCKET_NAME, timeout=10).call("status")
    except NoServer:
        said = f"none runs on {config.data}"
        return None, warn("server", said, "Start it, or give its data directory with --data.")
    except ControlError as error:
        return {}, fail("server", str(error), "Look at its log; start it anew if it hangs.")
    store = status["store"]
    if not store["up"]:
        why = store.get("fault") or "it cannot write"
        return status, fail("server", f"its store is down: {why}", "Look at its log.")
    connections = status.get("connections", 0)
    many = "1 connection" if connections == 1 else f"{connections} connections"
    return status, ok("server", f"runs, with {many}; its store is up")


def _data(config: Config, *, running: bool, gateway: bool) -> Iterator[Finding]:
    data = config.data
    if not data.exists():
        yield ok("data directory", f"{data} is made at the first start")
        yield _room(_nearest(data), 0)
    elif not data.is_dir():
        yield fail("data directory", f"{data} is a file", "Choose another with --data.")
        return
    else:
        mode = data.stat()
        yield from findings.directory(
            str(data),
            stat.S_IMODE(mode.st_mode),
            own=mode.st_uid == os.geteuid(),
            writable=os.access(data, os.W_OK | os.X_OK),
        )
        yield _room(data, _stored(data))
    newest = None
    if config.store.url is None:
        finding, newest = _store(data)
        yield finding
    if not gateway:  # whose clients are at its broker
        limit = probes.open_files(probes.holder(data) if running else None)
        whose = "the server" if running else "a server started from here"
        yield findings.open_files(limit, config.limits.max_connections, whose)
    yield from findings.clock(probes.synchronised(), time.time(), newest)


def _store(data: Path) -> tuple[Finding, float | None]:
    """The store, and when its newest item was accepted."""
    try:
        found = probes.store_file(data)
    except StoreError as error:
        return fail(
            "store", str(error), "Install the version that wrote it, or correct --data."
        ), None
    except sqlite3.Error as error:
        said = f"it cannot be read ({error})"
        return fail(
            "store", said, "Run this as the server's user; if damaged, restore a backup."
        ), None
    if found is None:
        return ok("store", "none yet"), None
    newest = len(MIGRATIONS)
    if 0 < found.version < newest:
        said = f"version {found.version}, which the next start brings to {newest}"
        return warn("store", said, "Make a backup first: there is no way back."), found.newest
    return ok("store", f"version {found.version}, {findings.size(found.size)}"), found.newest


def _room(path: Path, stored: int) -> Finding:
    try:
        free, system = shutil.disk_usage(path).free, os.statvfs(path)
    except OSError as error:
        return fail("disk", f"{path}: {error.strerror}", "Check the path and its rights.")
    return findings.disk(free, system.f_favail if system.f_files else None, stored, str(path))


def _nearest(path: Path) -> Path:
    """The directory in which `path` would be made."""
    return next(each for each in path.absolute().parents if each.exists())


def _stored(data: Path) -> int:
    try:
        return sum(each.stat().st_size for each in data.rglob("*") if each.is_file())
    except OSError:  # files come and go, or are another user's
        return 0


def _certificates(config: Config, *, running: bool) -> Iterator[Finding]:
    try:
        if config.tls.bind is not None:
            server_context(config.tls)
        token_verifier(config)
    except InvalidConfig as error:
        then = ", then send the server SIGHUP" if running else ""
        for each in error.problems:
            yield fail("certificate", each, f"Put the right file there{then}.")
        return
    files = {"tls.certificate": config.tls.certificate, "tls.client_ca": config.tls.client_ca}
    for setting, file in files.items():
        if config.tls.bind is None or file is None:
            continue
        try:
            for name, begins, ends, _ in probes.certificates(file):
                yield findings.validity(setting, name, begins, ends, time.time())
        except (OSError, ValueError):
            yield fail("certificate", f"{setting} = {file} cannot be read", "Put a PEM file there.")


def _ports(config: Config, status: Mapping[str, Any] | None) -> Iterator[Finding]:
    ports = [("bind", config.host, config.port)] if config.plain else []
    if config.tls.bind is not None:
        ports.append(("tls.bind", config.tls.host, config.tls.port))
    for setting, host, port in ports:
        address = f"{host}:{port}"
        if not port:
            yield ok("port", f"{setting}: the system chooses one")
        elif status is not None:
            yield _answers(config, setting, host, port, _listening(status))
        else:
            try:
                probes.listen(host, port)
                yield ok("port", f"{address} is free")
            except OSError as error:
                yield findings.unbound(address, setting, error)


def _listening(status: Mapping[str, Any]) -> str:
    """The addresses of a running server; "" if it did not say."""
    return ", ".join(f"{each['host']}:{each['port']}" for each in status.get("listening", ()))


def _answers(config: Config, setting: str, host: str, port: int, listening: str) -> Finding:
    """Whether the running server is reached where it should be, and shows the certificate of the file."""
    try:
        if setting == "bind":
            probes.mqtt_answer(host, port, Connect("", clean_session=True))
        elif not _is_current(config, probes.certificate_served(host, port)):
            said = f"{host}:{port} shows another certificate than the one in tls.certificate"
            return warn("port", said, "Send the server SIGHUP, so that it reads the file again.")
    except OSError as error:
        said = f"{host}:{port} does not answer ({error})"
        advice = "Check a firewall, and whether it was started with these settings"
        return fail(
            "port", said, f"{advice}: it listens on {listening}." if listening else f"{advice}."
        )
    return ok("port", f"{host}:{port} answers")


def _is_current(config: Config, served: bytes | None) -> bool:
    assert config.tls.certificate is not None
    try:
        return any(der == served for _, _, _, der in probes.certificates(config.tls.certificate))
    except (OSError, ValueError):
        return True  # told elsewhere


def _redis(config: Config) -> Iterator[Finding]:
    if config.store.url is None:
        return
    try:
        redis = probes.redis(config.store)
    except StoreError as error:
        yield fail("Redis", str(error), "Correct store.url, or that Redis.")
        return
    for each in redis.warnings:
        yield warn("Redis", each, "See docs/scale.md for its settings.")
    if _NOTHING_LOST in redis.durability:
        yield ok("Redis", redis.durability)
    elif redis.durability not in " ".join(redis.warnings):
        advice = "Where that is too much: appendonly yes, appendfsync always, store.wait_replicas."
        yield warn("Redis", redis.durability, advice)
    if (apart := findings.skew(redis.skew, "Redis")) is not None:
        yield apart


def _broker(address: BrokerAddress) -> Finding:
    """Whether the broker of a gateway lets us in."""
    password = None if address.password is None else address.password.encode()
    connect = Connect("", clean_session=True, username=address.user, password=password)
    try:
        context = ssl.create_default_context(cafile=address.ca) if address.tls else None
        code = probes.mqtt_answer(address.host, address.port, connect, context)
    except OSError as error:
        said = f"{address} cannot be reached ({error})"
        return fail("broker", said, "Start it, or correct --broker and --ca.")
    if code:
        why = _REFUSALS.get(code, f"code {code}")
        return fail(
            "broker", f"{address} refuses us: {why}", "Correct the user, or its rights there."
        )
    return ok("broker", f"{address} lets us in")


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
