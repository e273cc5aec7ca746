"""A whole server under a service manager: what it says, and what SIGHUP does to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.broker.gateway.stage import GatewayProcess
from tests.broker.support import PATIENCE, ServerProcess
from tests.outside_brokers import BROKERS

Start = Callable[..., ServerProcess]


class Manager:
    """The end of the socket that systemd has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(PATIENCE)

    def close(self) -> None:
        self._socket.close()

    def hears(self, word: str) -> list[str]:
        """Wait for a message with `word` in it; returns all of that message."""
        while True:
            words = self._socket.recv(4_096).decode().splitlines()
            if word in words:
                return words

    def hears_after(self, first: str, word: str) -> list[str]:
        """The same, for a message that comes after one with `first` in it."""
        self.hears(first)
        return self.hears(word)

    def forget(self) -> None:
        """Pass over what has come so far."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(4_096):
                pass
        self._socket.settimeout(PATIENCE)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path / "notify")
    yield found
    found.close()


def supervised(tmp_path: Path, manager: Manager, **settings: object) -> ServerProcess:
    server = ServerProcess(tmp_path / "data", **settings)
    server._environment |= {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "600000"}
    return server.start()


def pid_of(server: ServerProcess) -> int:
    assert server._process is not None
    return server._process.pid


def test_a_server_says_that_it_is_ready_that_it_lives_and_that_it_stops(
    tmp_path: Path, manager: Manager
) -> None:
    server = supervised(tmp_path, manager)
    assert manager.hears("READY=1") == ["READY=1", "STATUS=Serving"]
    for _ in range(3):
        manager.hears("WATCHDOG=1")
    server.stop()
    assert manager.hears("STOPPING=1") == ["STOPPING=1", "STATUS=Stopping"]


def test_a_server_that_stands_still_says_nothing(tmp_path: Path, manager: Manager) -> None:
    server = supervised(tmp_path, manager)
    manager.hears("WATCHDOG=1")
    os.kill(pid_of(server), signal.SIGSTOP)
    os.waitid(os.P_PID, pid_of(server), os.WSTOPPED)
    manager.forget()
    manager._socket.settimeout(0.7)  # more than the limit that it was given
    with pytest.raises(TimeoutError):
        manager.hears("WATCHDOG=1")
    manager._socket.settimeout(PATIENCE)
    os.kill(pid_of(server), signal.SIGCONT)
    manager.hears("WATCHDOG=1")
    server.stop()


def test_on_sighup_a_changed_file_is_taken_in(tmp_path: Path, manager: Manager) -> None:
    file = tmp_path / "fleetfeed.toml"
    file.write_text('log_level = "info"\n')
    server = supervised(tmp_path, manager, config=str(file))
    file.write_text('log_level = "warning"\n[log]\nformat = "json"\n[limits]\nmax_sessions = 7\n')
    manager.hears("READY=1")
    os.kill(pid_of(server), signal.SIGHUP)
    assert manager.hears("RELOADING=1")[1].startswith("MONOTONIC_USEC=")
    assert manager.hears("READY=1") == ["READY=1", "STATUS=Serving"]
    file.write_text('bind = "127.0.0.1:1"\nlog_level = "warning"\nshape = "round"\n')
    os.kill(pid_of(server), signal.SIGHUP)
    status = manager.hears_after("RELOADING=1", "READY=1")[1]
    assert status.startswith("STATUS=Serving; not reloaded: shape")
    server.stop()
    last = json.loads(server.log.read_text().splitlines()[-1])
    assert last["level"] == "error"
    assert last["logger"] == "broker.run.reload"
    assert "nothing has changed: shape" in last["message"]


async def test_clients_stay_while_a_server_reloads(tmp_path: Path, manager: Manager) -> None:
    file = tmp_path / "fleetfeed.toml"
    file.write_text("")
    server = supervised(tmp_path, manager, config=str(file))
    device = await server.subscribed("kitchen")
    file.write_text("[limits]\nmax_sessions = 7\n")
    os.kill(pid_of(server), signal.SIGHUP)
    manager.hears_after("RELOADING=1", "READY=1")
    await device.peer.ping()
    await server.publish({"id": "a", "payload": "x"})
    await device.shows("x")
    await server.drop_peers()
    server.stop()


def test_a_server_without_a_manager_reloads_too(process: Start, tmp_path: Path) -> None:
    file = tmp_path / "fleetfeed.toml"
    file.write_text("")
    server = process(config=str(file))
    file.write_text("[limits]\nmax_sessions = 7\n")
    os.kill(pid_of(server), signal.SIGHUP)
    server.status()  # after the signal, for it is handled first
    server.stop()
    assert "limits.max_sessions = 7 (was 100000)" in server.log.read_text()


def test_what_a_client_did_wrong_is_a_line_of_json_with_its_reason(
    tmp_path: Path, manager: Manager
) -> None:
    server = supervised(tmp_path, manager, log__format="json")
    with socket.create_connection(server.address, PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(100) == b""
    server.stop()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    (line,) = [line for line in lines if line["logger"] == "broker.lane.listener"]
    assert line["message"].startswith("closing 127.0.0.1:")
    assert line["reason"] in line["message"]


@pytest.mark.mosquitto
def test_a_gateway_is_supervised_like_a_server_and_reloads_some_settings(
    tmp_path: Path, manager: Manager
) -> None:
    file = tmp_path / "fleetfeed.toml"
    file.write_text("")
    with BROKERS["mosquitto"]() as broker:
        gateway = GatewayProcess(broker, tmp_path / "data", config=str(file))
        gateway._environment |= {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "600000"}
        gateway.start()
        assert gateway._process is not None
        assert manager.hears("READY=1") == ["READY=1", "STATUS=Serving"]
        manager.hears("WATCHDOG=1")
        file.write_text('[log]\nformat = "json"\n')
        os.kill(gateway._process.pid, signal.SIGHUP)
        assert manager.hears_after("RELOADING=1", "READY=1") == ["READY=1", "STATUS=Serving"]
        file.write_text("[overload]\ncalm = 3.0\n")
        os.kill(gateway._process.pid, signal.SIGHUP)
        assert manager.hears_after("RELOADING=1", "READY=1") == ["READY=1", "STATUS=Serving"]
        file.write_text("[limits]\nmax_sessions = 7\n")
        os.kill(gateway._process.pid, signal.SIGHUP)
        assert "limits.max_sessions" in manager.hears_after("RELOADING=1", "READY=1")[1]
        gateway.stop()
        manager.hears("STOPPING=1")
