"""A server plays a script: what each client got in each step, without what MQTT leaves open.

Left out are packet ids, and the order of packets that owe each other none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from devices.packets import (
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
)
from tests.broker.mqtt_scripts import (
    CLIENTS,
    TOPICS,
    Acknowledge,
    Come,
    Follow,
    Leave,
    Step,
    Tell,
    Unfollow,
    Vanish,
)
from tests.broker.support import Peer

Address = tuple[str, int]


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
