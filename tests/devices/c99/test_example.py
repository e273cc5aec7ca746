"""example_posix.c, built with sanitizers, as a device of a real server, and under `fleetfeed check-device`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devices.frames import Bye, Event, Feedback, Hello, Kind, Snapshot, decode_up, encode_frame
from devices.packets import (
    Connack,
    Connect,
    Decoder,
    Packet,
    Puback,
    Publish,
    Suback,
    Subscribe,
    encode,
)
from devices.window_file import WindowFile
from tests.broker.support import CLEAN_ENVIRONMENT, ROOT, Served, eventually, item

PATIENCE = 10.0


class Program:
    """The device, running; what it prints is in `windows`."""

    def __init__(self, path: Path, device: str, state: Path) -> None:
        self._path = path
        self._device = device
        self.state = state
        self.windows: list[dict[str, Any]] = []
        self.said = ""
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []

    async def start(self, address: tuple[str, int], *options: str, password: str | None = None) -> None:  # fmt: skip
        host, port = address
        env = CLEAN_ENVIRONMENT | ({} if password is None else {"FEED_PASSWORD": password})
        self._process = await asyncio.create_subprocess_exec(
            *(str(self._path), *options, host, str(port), self._device, str(self.state)),
            stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            asyncio.create_task(_each_line(self._process.stdout, self._printed)),
            asyncio.create_task(_each_line(self._process.stderr, self._complained)),
        ]

    def _printed(self, line: str) -> None:
        self.windows.append(json.loads(line))

    def _complained(self, line: str) -> None:
        self.said += line

    @property
    def shown(self) -> list[Any]:
        """The payloads that were printed last, best first."""
        return [item["payload"] for item in self.windows[-1]["items"]] if self.windows else []

    async def shows(self, *payloads: Any) -> None:
        await eventually(lambda: self.shown, lambda shown: shown == list(payloads))

    def type(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def end(self, how: signal.Signals) -> int:
        """Send it a signal; its exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(how)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._readers)
            code = await process.wait()
        assert "Sanitizer" not in self.said, self.said
        assert "runtime error" not in self.said, self.said
        return code

    async def close(self) -> None:
        if self._process is not None:
            assert await self.end(signal.SIGTERM) == 0, self.said


async def _each_line(stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
    while line := await stream.readline():
        take(line.decode())


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    served = await Served(tmp_path / "data", {}).start()
    yield served
    await served.drop_peers()
    await served.stop()


@pytest.fixture
async def kitchen(example: Path, tmp_path: Path) -> AsyncIterator[Program]:
    program = Program(example, "kitchen", tmp_path / "kitchen.feed")
    yield program
    await program.close()


async def test_it_prints_what_the_server_has_for_it(server: Served, kitchen: Program) -> None:
    await server.publish(item("a", 'one "quoted" \\ ü\n'))
    await kitchen.start(server.address)
    await kitchen.shows('one "quoted" \\ ü\n')
    await server.publish(item("b", "two"), b"\x00\xff opaque")
    await kitchen.shows({"hex": "00ff206f7061717565"}, "two", 'one "quoted" \\ ü\n')
    await server.publish({"id": "b", "retract": True})
    await kitchen.shows({"hex": "00ff206f7061717565"}, 'one "quoted" \\ ü\n')


async def test_it_follows_more_items_than_its_window_holds(server: Served, kitchen: Program) -> None:  # fmt: skip
    await kitchen.start(server.address)
    await eventually(lambda: kitchen.windows)
    await server.publish(*(item(f"{n}", f"item {n}" + "x" * 150) for n in range(12)))
    await server.at_rest()
    await kitchen.shows(*server.window("kitchen"))
    assert len(kitchen.shown) == 8


async def test_after_a_loss_of_power_it_goes_on_where_it_was(server: Served, kitchen: Program) -> None:  # fmt: skip
    await server.publish(item("a", "one"), item("b", "two"))
    await kitchen.start(server.address)
    await kitchen.shows("two", "one")
    position = kitchen.windows[-1]
    await kitchen.end(signal.SIGKILL)
    await server.publish(item("c", "three"))
    await kitchen.start(server.address)
    await kitchen.shows("three", "two", "one")
    later = kitchen.windows[kitchen.windows.index(position) + 1 :]
    assert later[0] == position, "it shows what it kept before anything comes"
    assert kitchen.windows[-1]["epoch"] == position["epoch"], "a delta came, and no snapshot"


async def test_the_python_client_could_go_on_with_its_state(server: Served, kitchen: Program) -> None:  # fmt: skip
    await server.publish(item("a", "one"))
    await kitchen.start(server.address)
    await kitchen.shows("one")
    held = WindowFile(kitchen.state, "kitchen").load()
    assert held is not None
    assert (held.epoch, held.seq) == (kitchen.windows[-1]["epoch"], kitchen.windows[-1]["seq"])


async def test_a_damaged_state_is_said_and_begun_anew(server: Served, kitchen: Program) -> None:
    kitchen.state.write_bytes(b"fleetfeed window 1\nnonsense")
    await server.publish(item("a", "one"))
    await kitchen.start(server.address)
    await kitchen.shows("one")
    await eventually(lambda: "damaged" in kitchen.said)


async def test_it_comes_back_when_the_server_was_away(server: Served, kitchen: Program) -> None:
    await server.publish(item("a", "one"))
    await kitchen.start(server.address)
    await kitchen.shows("one")
    host, port = server.address
    await server.restart(bind=f"{host}:{port}")
    await server.publish(item("b", "two"))
    await kitchen.shows("two", "one")
    assert "the next try is in" in kitchen.said


async def test_what_is_dismissed_leaves_its_window(server: Served, kitchen: Program) -> None:
    await server.publish(item("a", "one"), item("b", "two"))
    await kitchen.start(server.address)
    await kitchen.shows("two", "one")
    kitchen.type(f"shown {kitchen.windows[-1]['items'][0]['n']}")
    kitchen.type(f"dismissed {kitchen.windows[-1]['items'][0]['n']}")
    await kitchen.shows("one")


# ---- What only a server that we play can show


class Scripted:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = Decoder(role="server", max_packet=10_000)
        self._packets: list[Packet] = []

    def send(self, *packets: Packet) -> None:
        self._writer.write(b"".join(map(encode, packets)))

    async def read(self) -> Packet | None:
        """The next packet; None once the device has closed the connection."""
        async with asyncio.timeout(PATIENCE):
            while not self._packets:
                try:
                    data = await self._reader.read(4_096)
                except ConnectionResetError:  # it closed with bytes of ours unread
                    return None
                if not data:
                    return None
                self._packets += [packet for packet, _ in self._decoder.feed(data)]
        return self._packets.pop(0)

    async def admit(self, *, present: bool = False) -> Hello:
        connect = await self.read()
        assert isinstance(connect, Connect)
        assert (connect.client_id, connect.clean_session) == ("kitchen", False)
        self.send(Connack(present, 0))
        hello = await self.up()
        assert isinstance(hello, Hello)
        return hello

    async def grant(self) -> None:
        subscribe = await self.read()
        assert isinstance(subscribe, Subscribe)
        assert subscribe.filters == (("f/kitchen", 1),)
        self.send(Suback(subscribe.packet_id, (1,)))

    async def up(self) -> object:
        publish = await self.read()
        assert isinstance(publish, Publish), publish
        return decode_up(publish.payload)

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Scripts:
    """A server of which the test says what it does."""

    def __init__(self) -> None:
        self._arrivals: asyncio.Queue[Scripted] = asyncio.Queue()
        self._lines: list[Scripted] = []
        self.address = ("127.0.0.1", 0)

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Scripted(reader, writer)
        self._lines.append(line)
        self._arrivals.put_nowait(line)

    async def next(self) -> Scripted:
        return await asyncio.wait_for(self._arrivals.get(), PATIENCE)

    async def close(self) -> None:
        """End every connection of this test."""
        for line in self._lines:
            await line.close()


@pytest.fixture
async def scripts() -> AsyncIterator[Scripts]:
    scripts = Scripts()
    listening = await asyncio.start_server(scripts._arrived, "127.0.0.1", 0)
    scripts.address = listening.sockets[0].getsockname()
    yield scripts
    listening.close()
    await scripts.close()


async def test_the_window_is_in_the_file_before_the_frame_is_acknowledged(scripts: Scripts, kitchen: Program) -> None:  # fmt: skip
    await kitchen.start(scripts.address)
    line = await scripts.next()
    await line.admit()
    await line.grant()
    for seq in range(1, 30):
        line.send(Publish("f/kitchen", encode_frame(Snapshot(1, seq, 8, ())), 1, seq))
        assert await line.read() == Puback(seq)
        assert WindowFile(kitchen.state, "kitchen").load() == Snapshot(1, seq, 8, ())


async def test_a_packet_longer_than_its_budget_ends_the_connection_and_not_the_device(scripts: Scripts, kitchen: Program) -> None:  # fmt: skip
    await kitchen.start(scripts.address)
    line = await scripts.next()
    await line.admit()
    await line.grant()
    line.send(Publish("f/kitchen", b"\x90" * 300, 1, 1))
    assert await line.read() is None
    line = await scripts.next()
    hello = await line.admit(present=True)
    assert (hello.epoch, hello.seq) == (0, 0)


async def test_it_logs_in_as_itself_and_a_refusal_means_the_longest_pause(
    scripts: Scripts, kitchen: Program
) -> None:
    await kitchen.start(scripts.address, password="s3cret")
    line = await scripts.next()
    connect = await line.read()
    assert isinstance(connect, Connect)
    assert (connect.username, connect.password) == ("kitchen", b"s3cret")
    line.send(Connack(session_present=False, code=5))
    await eventually(lambda: re.search(r"next try is in (\d+) ms", kitchen.said))
    assert "refused with return code 5" in kitchen.said
    assert "s3cret" not in kitchen.said
    pause = int(kitchen.said.rpartition(" in ")[2].split()[0])
    assert 60_000 <= pause < 120_000


async def test_it_trusts_no_session_of_which_it_does_not_know_that_it_is_subscribed(
    scripts: Scripts, kitchen: Program
) -> None:
    """Power may have gone between CONNECT and SUBSCRIBE: then there is a session without a subscription."""
    for _ in range(2):
        await kitchen.start(scripts.address)
        line = await scripts.next()
        await line.admit(present=True)
        subscribe = await line.read()
        assert isinstance(subscribe, Subscribe)
        await kitchen.end(signal.SIGKILL)


async def test_feedback_that_was_not_acknowledged_comes_again_in_the_resumed_session(
    scripts: Scripts, kitchen: Program
) -> None:
    await kitchen.start(scripts.address)
    line = await scripts.next()
    await line.admit()
    await line.grant()
    kitchen.type("opened 17")
    first = await line.read()
    assert isinstance(first, Publish)
    assert (first.qos, decode_up(first.payload)) == (1, Feedback((Event(17, Kind.OPENED),)))
    await line.close()
    line = await scripts.next()
    await line.admit(present=True)
    again = await line.read()
    assert again == replace(first, dup=True), "and no SUBSCRIBE: the session has one"
    line.send(Puback(first.packet_id))
    kitchen.type("opened 18")
    assert await line.up() == Feedback((Event(18, Kind.OPENED),))


async def test_on_sigterm_it_says_bye_with_the_number_of_its_hello(scripts: Scripts, kitchen: Program) -> None:  # fmt: skip
    await kitchen.start(scripts.address)
    line = await scripts.next()
    hello = await line.admit()
    await line.grant()
    assert hello.options is not None
    ended = asyncio.create_task(kitchen.end(signal.SIGTERM))
    assert await line.up() == Bye(hello.options.c or 0)
    assert await ended == 0


@pytest.mark.slow
def test_it_passes_check_device(example: Path) -> None:
    device = shlex.join([str(example), "-k", "{keep_alive}", "{host}", "{port}", "{device}", "{state}"])  # fmt: skip
    done = subprocess.run(
        [*(sys.executable, "-m", "broker", "check-device", "--fast", "--window", "-", "--json"), "--command", device],
        capture_output=True, text=True, cwd=ROOT, env=CLEAN_ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
