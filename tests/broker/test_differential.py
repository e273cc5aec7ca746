"""Our server and mosquitto, told the same and compared packet by packet, on topics beside the feed.

A script is drawn from its number: clients come, go, take each other over, subscribe, publish at every QoS,
hold acknowledgements back, leave wills. Both servers play it, and each client must get the same in each
step. Where the two differ on purpose, `DIFFERENCES` says why, and is tested too.

`FLEETFEED_SCRIPTS=5000` plays more scripts than usual, `FLEETFEED_SCRIPTS=1717-1717` the one of a failure.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import pytest

from devices.packets import Connect, Pingreq, Pingresp, Publish, Pubrec, Pubrel, Will
from tests.broker.mqtt_scripts import CLIENTS, Author, Step
from tests.broker.mqtt_stage import Address, Got, Stage
from tests.broker.support import PATIENCE, Peer, ServerProcess
from tests.conftest import Mosquitto

pytestmark = pytest.mark.mosquitto


# ---- The servers


@pytest.fixture(scope="module")
def mosquitto_address(
    mosquitto: Mosquitto, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Address]:
    """A mosquitto of our own, with the limits that our server has by default."""
    directory = tmp_path_factory.mktemp("mosquitto")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address: Address = free.getsockname()
    settings = (
        f"listener {address[1]} {address[0]}",
        "allow_anonymous true",
        "persistence false",
        "max_inflight_messages 20",
        "max_queued_messages 1000",
        "set_tcp_nodelay true",
        "sys_interval 0",
    )
    path = directory / "mosquitto.conf"
    path.write_text("\n".join(settings) + "\n")
    log = (directory / "log").open("w")
    process = subprocess.Popen([mosquitto.server, "-c", path], stdout=log, stderr=log)
    try:
        asyncio.run(_listening(address))
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE)
        log.close()


async def _listening(address: Address) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                peer = await Peer.open(address)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                await peer.drop()
                return


@pytest.fixture(scope="module")
def our_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    process = ServerProcess(tmp_path_factory.mktemp("ours") / "data").start()
    yield process.address
    process.close()


# ---- Where they differ on purpose


async def will_at_takeover(address: Address) -> list[bytes]:
    """What somebody who watches sees when a persistent session takes itself over."""
    async with connected(address, "watcher", "owner", "owner") as (watcher, first, second):
        await watcher.greet(Connect("watcher"))
        await watcher.subscribe(("last/words", 0))
        await first.greet(Connect("owner", clean_session=False, will=Will("last/words", b"will")))
        await second.greet(Connect("owner", clean_session=False))
        await first.expect_end()
        await second.publish("last/words", b"marker")
        return await read_up_to(watcher, b"marker")


async def overlap(address: Address) -> list[int]:
    """The QoS of every copy that reaches two overlapping subscriptions of one client."""
    async with connected(address, "one") as (one,):
        await one.greet(Connect("one"))
        await one.subscribe(("over/+", 2))
        await one.subscribe(("over/lap", 0))
        one.send(Publish("over/lap", b"", 2, 900), Pubrel(900), Pingreq())
        copies = []
        while not isinstance(packet := await one.read(), Pingresp):
            copies += [packet.qos] if isinstance(packet, Publish) else []
        return copies


async def qos_2_before_pubrel(address: Address) -> list[bytes]:
    """What a subscriber has while the publisher has not sent PUBREL."""
    async with connected(address, "reader", "writer") as (reader, writer):
        await reader.greet(Connect("reader"))
        await reader.subscribe(("early", 0))
        await writer.greet(Connect("writer"))
        writer.send(Publish("early", b"early", 2, 1))
        await writer.expect(Pubrec)
        await writer.publish("early", b"marker")
        return await read_up_to(reader, b"marker")


async def qos_0_behind_a_full_window(address: Address) -> list[bytes]:
    """What passes a subscriber who has acknowledged none of twenty messages."""
    async with connected(address, "lazy", "writer") as (lazy, writer):
        await lazy.greet(Connect("lazy"))
        await lazy.subscribe(("window/#", 1))
        await writer.greet(Connect("writer"))
        for number in range(21):
            await writer.publish("window/q1", b"%d" % number)
        writer.send(Publish("window/q0", b"passes"), Pingreq())
        await writer.expect(Pingresp)
        lazy.send(Pingreq())
        seen = []
        while not isinstance(packet := await lazy.read(), Pingresp):
            assert isinstance(packet, Publish)
            seen.append(packet.payload)
        return seen[20:]


@dataclass(frozen=True, slots=True)
class Difference:
    """What each server does, and why ours does it otherwise."""

    probe: Callable[[Address], Awaitable[object]]
    ours: object
    theirs: object
    reason: str


DIFFERENCES = (
    Difference(
        will_at_takeover,
        ours=[b"will"],
        theirs=[],
        reason="The old connection was closed without DISCONNECT: the will is due [MQTT-3.1.2-8].",
    ),
    Difference(
        overlap,
        ours=[2],
        theirs=[0],
        reason="One copy has the highest QoS of all that match [MQTT-3.3.5-1].",
    ),
    Difference(
        qos_2_before_pubrel,
        ours=[b"early"],
        theirs=[],
        reason="A message may be delivered at PUBLISH or at PUBREL (4.3.3, method B or A).",
    ),
    Difference(
        qos_0_behind_a_full_window,
        ours=[],
        theirs=[b"passes"],
        reason="Messages of one publisher leave in the order in which they came, whatever their QoS.",
    ),
)


@asynccontextmanager
async def connected(address: Address, *names: str) -> AsyncIterator[tuple[Peer, ...]]:
    """As many connections; afterwards the sessions of these clients are gone."""
    peers = [await Peer.open(address) for _ in names]
    try:
        yield tuple(peers)
    finally:
        for peer, name in zip(peers, names, strict=True):
            await peer.drop()
            last = await Peer.open(address)
            await last.greet(Connect(name, clean_session=True))
            await last.leave()
            await last.drop()


async def read_up_to(peer: Peer, marker: bytes) -> list[bytes]:
    """The payloads that come before `marker`."""
    seen: list[bytes] = []
    while (payload := (await peer.expect(Publish)).payload) != marker:
        seen.append(payload)
    return seen


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda one: one.probe.__name__)
async def test_a_known_difference_is_as_the_table_says(
    mosquitto_address: Address, our_address: Address, difference: Difference
) -> None:
    assert await difference.probe(our_address) == difference.ours, difference.reason
    assert await difference.probe(mosquitto_address) == difference.theirs


# ---- Comparing


def scripts() -> range:
    """The numbers of the scripts to play."""
    asked = os.environ.get("FLEETFEED_SCRIPTS", "300")
    first, dash, last = asked.partition("-")
    return range(int(first), int(last) + 1) if dash else range(int(asked))


async def test_both_servers_say_the_same(mosquitto_address: Address, our_address: Address) -> None:
    for number in scripts():
        script = Author(number).write()
        theirs, ours = await asyncio.gather(
            Stage(mosquitto_address, f"s{number}").play(script),
            Stage(our_address, f"s{number}").play(script),
        )
        for at in range(len(script)):
            assert ours[at] == theirs[at], story(number, script[: at + 1], ours[at], theirs[at])


def story(number: int, script: Sequence[Step], ours: dict[str, Got], theirs: dict[str, Got]) -> str:
    """What led to a difference, to be read by a person."""
    lines = [f"script {number} differs after", *(f"    {step}" for step in script)]
    for client in CLIENTS:
        if ours[client] != theirs[client]:
            lines += [
                f"{client} of ours:      {ours[client]}",
                f"{client} of mosquitto: {theirs[client]}",
            ]
    return "\n".join(lines)
