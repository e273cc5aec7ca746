"""`fleetfeed top` as its user meets it: a process beside real servers, and a terminal that it draws on."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any, Self

import trustme

from broker.access.passwords import hash_password
from devices.packets import Connect, Publish
from tests.broker.support import CLEAN_ENVIRONMENT, ROOT, Peer, Served, item
from tests.outside_brokers import GATEWAY, OPERATOR, mosquitto

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Serve = Callable[..., Awaitable[Served]]

PATIENCE = 30.0
CONTROLS = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
ALTERNATE_SCREEN, FORMER_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"
CURSOR = b"\x1b[?25h"


def command(*options: object) -> list[str]:
    return [sys.executable, "-m", "broker", "top", *map(str, options)]


def to(address: tuple[str, int]) -> tuple[object, ...]:
    return ("--host", address[0], "--port", address[1])


def run(*options: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**CLEAN_ENVIRONMENT, "COLUMNS": "80", **environment},
        timeout=PATIENCE,
        check=False,
    )


async def told(*options: object) -> dict[str, Any]:
    """One line of JSON."""
    done = await asyncio.to_thread(run, *options, "--once", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    line: dict[str, Any] = json.loads(done.stdout)
    return line


class Terminal:
    """A terminal with `fleetfeed top` in it."""

    def __init__(self, *options: object, lines: int = 24, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**CLEAN_ENVIRONMENT, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            command(*options),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.output = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)

    def shows(self, words: str) -> str:
        """Wait until these stand on the screen; what was drawn since the last time."""
        deadline = time.monotonic() + PATIENCE
        seen = b""
        while words not in (text := CONTROLS.sub(b"", seen).decode(errors="replace")):
            assert time.monotonic() < deadline, text
            more = self._read(deadline)
            assert more, text
            seen += more
        return text

    def ends(self, how: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code."""
        self._process.send_signal(how)
        while self._read(time.monotonic() + PATIENCE):
            pass
        return self._process.wait(PATIENCE)

    def _read(self, deadline: float) -> bytes:
        ready, _, _ = select.select([self._master], [], [], max(deadline - time.monotonic(), 0))
        data = b""
        with contextlib.suppress(OSError):  # of Linux, once nobody has the other side open
            data = os.read(self._master, 65_536) if ready else b""
        self.output += data
        return data


# What is told


async def test_lines_of_json_have_every_figure_and_how_fast_it_grows(serve: Serve) -> None:
    served = await serve(topics__sys_interval=1)
    process = await asyncio.create_subprocess_exec(
        *command(*to(served.address), "--json", "--interval", "0.1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=CLEAN_ENVIRONMENT,
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        first = line = json.loads(await process.stdout.readline())
        await served.publish(item("a", "one"), item("b", "two"))
        while not line["per_second"].get("feed/items/received"):
            assert line["time"] >= first["time"]
            line = json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert first["figures"]["feed/items/received"] == 0
    assert line["figures"]["feed/items/received"] > 0
    assert line["figures"]["messages/sent"] > first["figures"]["messages/sent"]
    assert (line["gateway"], line["connected"]) == (None, True)
    assert line["server"] == f"127.0.0.1:{served.address[1]}"


async def test_who_reads_no_more_lines_ends_it_without_complaint(serve: Serve) -> None:
    served = await serve()

    def read_one_line() -> tuple[bytes, bytes, int]:
        with subprocess.Popen(
            command(*to(served.address), "--json", "--interval", "0.1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=CLEAN_ENVIRONMENT,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            process.stdout.close()
            return line, process.stderr.read(), process.wait(PATIENCE)

    line, errors, code = await asyncio.to_thread(read_one_line)
    assert line.startswith(b"{")
    assert (errors, code) == (b"", 0)


async def test_without_a_terminal_it_prints_one_page(serve: Serve) -> None:
    served = await serve()
    done = await asyncio.to_thread(run, *to(served.address))
    assert done.returncode == 0
    assert "─ devices ─" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


async def test_it_goes_through_tls_with_the_options_of_every_command(
    serve: Serve, tmp_path: Path
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    chain, key, trusted = (tmp_path / name for name in ("chain.pem", "key.pem", "ca.pem"))
    chain.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(trusted)
    served = await serve(
        bind="off", tls__bind="127.0.0.1:0", tls__certificate=str(chain), tls__key=str(key)
    )
    line = await told(*to(served.server.addresses[-1]), "--ca", trusted)
    assert "feed/uptime" in line["figures"]


# On the screen


async def test_the_screen_is_drawn_and_given_back_and_nobody_counts_the_watcher(
    serve: Serve,
) -> None:
    served = await serve(topics__sys_interval=1)
    with Terminal(*to(served.address)) as terminal:
        await asyncio.to_thread(terminal.shows, "a column each 1 s")
        shown = await asyncio.to_thread(terminal.shows, "Ctrl-C ends")
        assert "lost or refused" in shown
        traffic = served.server.lane.traffic
        assert (traffic.clients, traffic.devices) == (1, 0)
        assert served.count("dropped", "subscribe_not_permitted") == 0
        assert await asyncio.to_thread(terminal.ends, signal.SIGINT) == 0
    assert terminal.output.count(ALTERNATE_SCREEN) == terminal.output.count(FORMER_SCREEN) == 1
    assert CURSOR in terminal.output[-40:]
    assert b"Traceback" not in terminal.output


async def test_a_server_that_is_lost_is_said_to_be_and_found_again(serve: Serve) -> None:
    served = await serve(topics__sys_interval=1)
    with Terminal(*to(served.address)) as terminal:
        await asyncio.to_thread(terminal.shows, "no overload")
        await served.stop()
        await asyncio.to_thread(terminal.shows, "lost the server, trying again")
        served._settings["bind"] = f"127.0.0.1:{served.address[1]}"
        await served.start()
        await asyncio.to_thread(terminal.shows, "no overload")
        assert await asyncio.to_thread(terminal.ends, signal.SIGTERM) == 0


# Who may, and where nothing is


async def test_in_a_closed_server_it_takes_an_operator(serve: Serve) -> None:
    served = await serve(open=False)
    hashed = hash_password("secret")
    await served.command("user.add", user="ann", password=hashed, operator=True)
    await served.command("user.add", user="bob", password=hashed)
    line = await told(*to(served.address), "--username", "ann", "--password", "secret")
    assert "feed/uptime" in line["figures"]
    done = await asyncio.to_thread(
        run, *to(served.address), "--username", "bob", "--once", FLEETFEED_PASSWORD="secret"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "come as an operator" in done.stderr
    done = await asyncio.to_thread(run, *to(served.address))
    assert done.returncode == 1
    assert "refused the connection" in done.stderr


async def test_where_no_server_is_it_says_so(unused_tcp_port: int) -> None:
    done = await asyncio.to_thread(run, *to(("127.0.0.1", unused_tcp_port)))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1


# Beside other brokers


async def test_beside_mosquitto_it_shows_the_gateways_and_what_mosquitto_tells() -> None:
    with mosquitto() as broker:
        user, password = broker.login(OPERATOR)
        options = (*to((broker.host, broker.port)), "--username", user, "--password", password)
        plain = await told(*options)
        assert plain["version"].startswith("mosquitto version")
        assert plain["figures"]["clients/total"] >= 0
        assert not [name for name in plain["figures"] if name.startswith("feed/")]

        user, password = broker.login(GATEWAY)
        peer = await Peer.open((broker.host, broker.port))
        assert password is not None
        connack = await peer.greet(Connect(GATEWAY, True, 60, user, password.encode()))
        assert connack.code == 0
        for name, sent in ("north", 5), ("south", 6):
            for leaf, text in ("up", 1), ("version", "0.1.0"), ("frames/sent", sent):
                topic = f"feed/sys/{name}/{leaf}"
                peer.send(Publish(topic, str(text).encode(), retain=True))
        await peer.ping()
        chosen = await told(*options)
        assert (chosen["gateway"], chosen["version"]) == ("north", "0.1.0")
        assert chosen["figures"]["feed/frames/sent"] == 5
        asked_for = await told(*options, "--gateway", "south")
        assert asked_for["figures"]["feed/frames/sent"] == 6
        await peer.drop()
