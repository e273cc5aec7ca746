"""Our server and mosquitto, told the same and compared packet by packet, on topics beside the feed.

A script is drawn from its number: clients come, go, take each other over, subscribe, publish at every QoS,
hold acknowledgements back, leave wills. Both servers play it. Compared is what each client gets in each
step, after what MQTT leaves open is taken out: packet ids, and the order of packets that owe each
other none. Where the two differ on purpose, `DIFFERENCES` says why, and is tested too.

`FLEETFEED_SCRIPTS=2000` plays more of them, `FLEETFEED_SCRIPTS=1717-1717` one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from devices.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
    Will,
)
from feedgen.channels import matches
from tests.broker.support import PATIENCE, Peer, ServerProcess
from tests.conftest import Mosquitto

Address = tuple[str, int]

pytestmark = pytest.mark.mosquitto

CLIENTS = ("ann", "bob", "eve")
TOPICS = ("a", "b", "a/a", "a/b", "b/a", "gone")
FILTERS = ("a", "b", "a/b", "+", "a/+", "+/a", "#", "b/#", "gone", "+/+")


# ---- Scripts


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that one client does.

    `hold` is what it does with messages from then on: acknowledge them all, answer those of QoS 2 with
    PUBREC alone, or nothing.
    """

    client: str


@dataclass(frozen=True, slots=True)
class Come(Step):
    clean: bool
    will: Will | None
    hold: str


@dataclass(frozen=True, slots=True)
class Leave(Step):
    pass


@dataclass(frozen=True, slots=True)
class Vanish(Step):
    pass


@dataclass(frozen=True, slots=True)
class Follow(Step):
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unfollow(Step):
    topic_filter: str


@dataclass(frozen=True, slots=True)
class Tell(Step):
    """A message; of QoS 2, `again` sends it twice before PUBREL, or comes back in between."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    again: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledge(Step):
    """What was held back; then as `hold` says."""

    hold: str


@dataclass
class _Known:
    """What the author of a script knows of a client."""

    here: bool = False
    clean: bool = True
    filters: set[str] = field(default_factory=set)


class Author:
    """Writes one script."""

    def __init__(self, number: int) -> None:
        self._random = Random(number)
        self._known = {client: _Known() for client in CLIENTS}
        self._messages = 0

    def write(self, length: int = 30) -> list[Step]:
        script: list[Step] = [self._come(client) for client in CLIENTS]
        while len(script) < length:
            step = self._next()
            if step is not None:
                script.append(step)
        return script

    def _next(self) -> Step | None:
        client = self._random.choice(CLIENTS)
        known = self._known[client]
        if not known.here:
            return self._come(client) if self._random.random() < 0.6 else None
        verbs = (self._tell, self._follow, self._acknowledge, self._unfollow, self._go, self._come)
        (verb,) = self._random.choices(verbs, (12, 6, 4, 1, 3, 1))
        return verb(client)

    def _come(self, client: str) -> Step:
        known = self._known[client]
        # A persistent session that takes itself over is in DIFFERENCES: it is about the will.
        clean = self._random.random() < 0.3 or (known.here and not known.clean)
        if clean or known.clean:
            known.filters.clear()
        known.here, known.clean = True, clean
        retain = self._random.random() < 0.2
        will = Will("gone", self._payload(), self._random.randrange(3), retain)
        return Come(client, clean, will, self._hold())

    def _go(self, client: str) -> Step:
        known = self._known[client]
        known.here = False
        if known.clean:
            known.filters.clear()
        return self._random.choice((Leave, Vanish))(client)

    def _follow(self, client: str) -> Step | None:
        known = self._known[client]
        wanted = []
        for topic_filter in self._random.sample(FILTERS, 2):
            if not any(_overlap(topic_filter, held) for held in known.filters - {topic_filter}):
                wanted.append((topic_filter, self._random.randrange(3)))
                known.filters.add(topic_filter)
        return Follow(client, tuple(wanted)) if wanted else None

    def _unfollow(self, client: str) -> Step:
        topic_filter = self._random.choice(FILTERS)
        self._known[client].filters.discard(topic_filter)
        return Unfollow(client, topic_filter)

    def _tell(self, client: str) -> Step:
        known, topic = self._known[client], self._random.choice(TOPICS)
        qos = self._random.randrange(3)
        retain = self._random.random() < 0.3
        payload = b"" if retain and self._random.random() < 0.3 else self._payload()
        again = self._random.choice(("", "twice", "back")) if qos == 2 else ""
        if again == "back" and (known.clean or self._sees_the_order(client, topic)):
            again = ""
        return Tell(client, topic, payload, qos, retain, again)

    def _sees_the_order(self, client: str, topic: str) -> bool:
        """Whether anybody would see if the message or the will came first of one that comes back.

        A message of QoS 2 may be delivered at PUBLISH or at PUBREL (4.3.3).
        """
        watched = any(
            matches(each, "gone") for known in self._known.values() for each in known.filters
        )
        own = any(matches(each, topic) for each in self._known[client].filters)
        return watched or own or topic == "gone"

    def _acknowledge(self, client: str) -> Step:
        return Acknowledge(client, self._hold())

    def _hold(self) -> str:
        return self._random.choice(("none", "none", "PUBCOMP", "all"))

    def _payload(self) -> bytes:
        self._messages += 1
        return b"%d" % self._messages


def _overlap(one: str, other: str) -> bool:
    return any(matches(one, topic) and matches(other, topic) for topic in TOPICS)


# ---- Playing a script


@dataclass(frozen=True, slots=True)
class Got:
    """What one client got in one step.

    Attributes:
        answers: CONNACK and acknowledgements of what it said, in any order.
        retained: Messages that a subscription brought, in any order.
        messages: All others, in order: topic, payload, QoS, DUP.
        releases: PUBRELs, by the message that they are about. Their order is that of the PUBRECs
            [MQTT-4.6.0-4], which `Actor` sees to.
        closed: The server closed its connection.
    """

    answers: tuple[str, ...] = ()
    retained: tuple[tuple[str, bytes, int, bool], ...] = ()
    messages: tuple[tuple[str, bytes, int, bool], ...] = ()
    releases: tuple[bytes, ...] = ()
    closed: bool = False


@dataclass
class Actor:
    """One client: its connection, and what it has still to acknowledge.

    Attributes:
        pending: Packet ids and what each was, in order; None once PUBREL has come.
        payloads: What the packet ids of this session were about.
        received: Packet ids for which PUBREC was sent on this connection and PUBREL is due.
    """

    client: str
    peer: Peer | None = None
    come: Come | None = None
    hold: str = "none"
    pending: dict[int, Publish | None] = field(default_factory=dict)
    payloads: dict[int, bytes] = field(default_factory=dict)
    received: deque[int] = field(default_factory=deque)
    got: list[Packet] = field(default_factory=list)
    closed: bool = False
    ids: int = 0

    def new_id(self) -> int:
        self.ids = self.ids % 65_535 + 1
        return self.ids

    def send(self, *packets: Packet) -> None:
        assert self.peer is not None
        self.peer.send(*packets)

    async def ask(self, question: Packet, answer: Packet) -> int:
        """Say something and read up to the answer; how many acknowledgements were sent meanwhile."""
        if self.peer is None:
            return 0
        self.send(question)
        answered = 0
        while (packet := await self.peer.read()) != Pingresp():
            if packet is None:
                self.peer, self.closed = None, True
                break
            self.got.append(packet)
            answered += self._take(packet)
            if packet == answer:
                break
        return answered

    async def catch_up(self) -> int:
        """Read everything that the server has sent so far."""
        return await self.ask(Pingreq(), Pingresp())

    def _take(self, packet: Packet) -> int:
        if isinstance(packet, Publish) and packet.qos:
            assert packet.dup or packet.packet_id not in self.pending
            self.pending[packet.packet_id] = packet
            self.payloads[packet.packet_id] = packet.payload
            return self._answer(packet.packet_id)
        if isinstance(packet, Pubrel):
            assert packet.packet_id in self.payloads
            if packet.packet_id in self.received:
                assert packet.packet_id == self.received.popleft()
            self.pending[packet.packet_id] = None
            return self._answer(packet.packet_id)
        return 0

    def _answer(self, packet_id: int) -> int:
        publish = self.pending[packet_id]
        if self.hold == "all" or (self.hold == "PUBCOMP" and publish is None):
            return 0
        if publish is not None and publish.qos == 2:
            self.received.append(packet_id)
            self.send(Pubrec(packet_id))
        else:
            del self.pending[packet_id]
            self.send(Puback(packet_id) if publish is not None else Pubcomp(packet_id))
        return 1

    def acknowledge(self, hold: str) -> None:
        self.hold = hold
        for packet_id in list(self.pending):
            self._answer(packet_id)

    def take_step(self) -> Got:
        """What came since the last call, without what MQTT leaves open."""
        publishes = [packet for packet in self.got if isinstance(packet, Publish)]
        messages = [(p.topic, p.payload, p.qos, p.dup) for p in publishes if not p.retain]
        retained = sorted((p.topic, p.payload, p.qos, p.dup) for p in publishes if p.retain)
        releases = sorted(self.payloads[p.packet_id] for p in self.got if isinstance(p, Pubrel))
        answers = sorted(repr(p) for p in self.got if not isinstance(p, (Publish, Pubrel)))
        got = Got(tuple(answers), tuple(retained), tuple(messages), tuple(releases), self.closed)
        self.got.clear()
        self.closed = False
        return got


class Stage:
    """One server that plays a script, below a topic of its own."""

    def __init__(self, address: Address, name: str) -> None:
        self._address = address
        self._name = name
        self._actors = {client: Actor(client) for client in CLIENTS}
        self._peers: list[Peer] = []
        self._observer: Peer

    async def play(self, script: Sequence[Step]) -> list[dict[str, Got]]:
        """What each client got in each step."""
        self._observer = await self._open()
        await self._observer.greet(Connect(f"{self._name}-observer"))
        await self._observer.subscribe((self._topic("gone"), 0))
        try:
            return [await self._step(step) for step in script]
        finally:
            await self._strike()

    async def _step(self, step: Step) -> dict[str, Got]:
        actor = self._actors[step.client]
        match step:
            case Come():
                await self._come(actor, step)
            case Leave():
                await self._leave(actor)
            case Vanish():
                await self._vanish(actor)
            case Follow(_, filters):
                wanted = tuple((self._topic(each), qos) for each, qos in filters)
                actor.send(Subscribe(actor.new_id(), wanted))
            case Unfollow(_, topic_filter):
                actor.send(Unsubscribe(actor.new_id(), (self._topic(topic_filter),)))
            case Tell():
                await self._tell(actor, step)
            case Acknowledge(_, hold):
                actor.acknowledge(hold)
        await self._settle(actor)
        return {client: each.take_step() for client, each in self._actors.items()}

    async def _settle(self, first: Actor) -> None:
        """Until nothing is on its way: what `first` said was done before the others ask."""
        while True:
            answered = await first.catch_up()
            for actor in self._actors.values():
                answered += await actor.catch_up()
            if not answered:
                return

    async def _come(self, actor: Actor, step: Come) -> None:
        old, will = actor.peer, step.will
        assert will is not None
        peer = await self._open()
        will = replace(will, topic=self._topic(will.topic))
        connect = Connect(f"{self._name}-{actor.client}", step.clean, 600, will=will)
        connack = await peer.greet(connect)
        if old is not None:
            await self._taken_over(actor, old)
        if not connack.session_present:
            actor.payloads.clear()
        actor.received.clear()
        actor.pending.clear()  # what is not acknowledged comes again
        actor.got.append(connack)
        actor.peer, actor.come, actor.hold = peer, step, step.hold

    async def _taken_over(self, actor: Actor, old: Peer) -> None:
        """The old connection is closed, and its will has been published."""
        await old.expect_end()
        assert actor.come is not None
        await self._will_of(actor.come)

    async def _leave(self, actor: Actor) -> None:
        actor.send(Disconnect())
        assert actor.peer is not None
        await actor.peer.expect_end()
        actor.peer = None

    async def _vanish(self, actor: Actor) -> None:
        assert actor.peer is not None
        assert actor.come is not None
        await actor.peer.drop()
        actor.peer = None
        await self._will_of(actor.come)

    async def _will_of(self, come: Come) -> None:
        """Wait until the observer has seen the will: only then has the server noticed."""
        assert come.will is not None
        while (await self._observer.expect(Publish)).payload != come.will.payload:
            pass

    async def _tell(self, actor: Actor, step: Tell) -> None:
        packet_id = actor.new_id() if step.qos else 0
        publish = Publish(
            self._topic(step.topic), step.payload, step.qos, packet_id, retain=step.retain
        )
        if step.qos == 0:
            actor.send(publish)
        elif step.qos == 1:
            await actor.ask(publish, Puback(packet_id))
        else:
            await self._tell_once(actor, step, publish)

    async def _tell_once(self, actor: Actor, step: Tell, publish: Publish) -> None:
        """QoS 2, in one of three ways that must come to the same."""
        received = Pubrec(publish.packet_id)
        await actor.ask(publish, received)
        if step.again == "twice":
            await actor.ask(replace(publish, dup=True), received)
        elif step.again == "back":
            await self._vanish(actor)
            assert actor.come is not None
            await self._come(actor, replace(actor.come, clean=False, hold=actor.hold))
        await actor.ask(Pubrel(publish.packet_id), Pubcomp(publish.packet_id))

    async def _strike(self) -> None:
        """Leave nothing behind: no session, no retained message, no connection."""
        for client, actor in self._actors.items():
            if actor.peer is not None:
                await actor.peer.drop()
            peer = await self._open()
            await peer.greet(Connect(f"{self._name}-{client}", clean_session=True))
            peer.send(*(Publish(self._topic(topic), b"", retain=True) for topic in TOPICS))
            await peer.leave()
        for peer in self._peers:
            await peer.drop()

    async def _open(self) -> Peer:
        peer = await Peer.open(self._address)
        self._peers.append(peer)
        return peer

    def _topic(self, topic: str) -> str:
        return f"{self._name}/{topic}"


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
    asked = os.environ.get("FLEETFEED_SCRIPTS", "60")
    first, dash, last = asked.partition("-")
    return range(int(first), int(last) + 1) if dash else range(int(asked))


async def test_both_servers_say_the_same(mosquitto_address: Address, our_address: Address) -> None:
    for number in scripts():
        script = Author(number).write()
        theirs, ours = await asyncio.gather(
            Stage(mosquitto_address, f"s{number}").play(script),
            Stage(our_address, f"s{number}").play(script),
        )
        for at, step in enumerate(script):
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
