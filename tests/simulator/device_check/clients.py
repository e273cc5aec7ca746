"""A right client in few lines, and many that are wrong in one thing each."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import msgpack

from devices.frames import (
    Bye,
    Delta,
    FeedItem,
    Hello,
    Put,
    Remove,
    Snapshot,
    decode_frame,
    encode_frame,
    encode_up,
)
from devices.packets import (
    Connack,
    Connect,
    Decoder,
    MalformedPacket,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Will,
    encode,
)
from devices.replica import Received, Replica


class Client:
    """A device that does everything right, in this process: it is switched on, and its power is cut.

    What it knows after a loss of power is in `flash`. Its times are short, so that tests are.
    """

    id: str | None = "kitchen"
    restarts = True
    printed = None

    replica_type: type[Replica] = Replica
    keep_alive: float = 1
    clean = False
    max_qos = 1
    clock = True
    outside = False
    tls: ssl.SSLContext | None = None
    first_pause = 0.25
    hello_pause = 1.0

    def __init__(self, **changes: Any) -> None:
        for name, value in changes.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        self.flash: dict[str, Any] | None = None
        self.replica = self.new_replica()
        self.tries = 0
        self._random = Random(7)  # the first pauses look like nothing but jitter
        self._life: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._address = "", 0
        self.decoder = Decoder(role="client", max_packet=1 << 16)
        self.heard = self.said = 0.0
        self.asks_at = 0.0
        self.gap = False
        self.released: dict[int, Publish] = {}

    # Switching on and off

    async def start(self, host: str, port: int) -> None:
        self._address = host, port
        self.replica = self.new_replica()
        if self.flash is not None:
            self.replica = self.replica_type.from_state(self.flash)
        self.tries = 0
        self._life = asyncio.create_task(self.live())

    async def cut_power(self) -> None:
        assert self._life is not None
        self._life.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._life

    def ended(self) -> str | None:
        return None

    def new_replica(self) -> Replica:
        return self.replica_type(8, 256, self.max_qos, "", self.clock)

    def save(self) -> None:
        self.flash = self.replica.state()

    # Connections

    async def live(self) -> None:
        while True:
            try:
                reader, self._writer = await asyncio.open_connection(*self._address, ssl=self.tls)
            except OSError:
                pass
            else:
                try:
                    await self.converse(reader)
                except (ConnectionError, EOFError, MalformedPacket):
                    pass
                finally:
                    self._writer.transport.abort()
            await asyncio.sleep(self.pause())

    def pause(self) -> float:
        self.tries += 1
        return float(self.first_pause * 2 ** (self.tries - 1) * self._random.uniform(0.5, 1.0))

    async def converse(self, reader: asyncio.StreamReader) -> None:
        loop = asyncio.get_running_loop()
        self.decoder = self.new_decoder()
        self.heard = loop.time()
        self.send(self.connect())
        pinged = False
        while True:
            data = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    data = await reader.read(4096)
            now = loop.time()
            if data == b"":
                raise EOFError
            if data:
                self.heard, pinged = now, False
                for packet in self.decode(data):
                    self.on(packet)
            elif pinged and now - self.said > self.keep_alive:
                self.unanswered()
            elif self.keep_alive and now - self.said > self.keep_alive and not pinged:
                self.ping()
                pinged = True
            self.idle(now)

    def new_decoder(self) -> Decoder:
        return Decoder(role="client", max_packet=1 << 16)

    def decode(self, data: bytes) -> list[Packet]:
        return [packet for packet, _ in self.decoder.feed(data)]

    def ping(self) -> None:
        self.send(Pingreq())

    def unanswered(self) -> None:
        raise EOFError

    def idle(self, now: float) -> None:
        if self.gap and now > self.asks_at:
            self.hello()

    def send(self, *packets: Packet) -> None:
        assert self._writer is not None
        self.said = asyncio.get_running_loop().time()
        for packet in packets:
            self._writer.write(encode(packet))

    # Packets

    def connect(self) -> Connect:
        will = Will("u/kitchen", encode_up(Bye(7)), 1) if self.outside else None
        return Connect("kitchen", self.clean, self.keep_alive, will=will)

    def on(self, packet: Packet) -> None:
        match packet:
            case Connack(present, 0):
                self.accepted(present)
            case Suback() if self.outside:
                self.hello()
            case Publish():
                self.published(packet)
            case Pubrel(packet_id):
                self.release(packet_id)
            case Pingresp() | Suback():
                pass

    def accepted(self, present: bool) -> None:
        del present
        if not self.outside:
            self.hello()
        self.subscribe()

    def subscribe(self) -> None:
        self.send(Subscribe(1, (("f/kitchen", self.max_qos),)))

    def hello(self) -> None:
        self.asks_at = asyncio.get_running_loop().time() + self.hello_pause
        self.up(self.replica.hello(7 if self.outside else None))

    def up(self, payload: bytes) -> None:
        self.send(Publish("u/kitchen", payload))

    def published(self, packet: Publish) -> None:
        if packet.qos == 2:
            self.released[packet.packet_id] = packet
            self.send(Pubrec(packet.packet_id))
            return
        self.frame(packet)
        if packet.qos == 1:
            self.acknowledge(packet)

    def release(self, packet_id: int) -> None:
        packet = self.released.pop(packet_id, None)
        if packet is not None:
            self.frame(packet)
        self.send(Pubcomp(packet_id))

    def acknowledge(self, packet: Publish) -> None:
        self.send(Puback(packet.packet_id))

    def frame(self, packet: Publish) -> None:
        received = self.take(packet.payload)
        if received is Received.APPLIED:
            self.gap = False
            self.asks_at = 0.0
            self.save()
        if received in {Received.GAP, Received.IMPOSSIBLE}:
            self.gap = True
            if asyncio.get_running_loop().time() > self.asks_at:
                self.hello()
        if self.outside and received in {Received.APPLIED, Received.STALE}:
            self.up(self.replica.ack())

    def take(self, payload: bytes) -> Received:
        return self.replica.receive(payload)


@dataclass(frozen=True, slots=True)
class Broken:
    """A client that is wrong in one thing, the case that has to see it, and a word of what it then says."""

    case: str
    client: Callable[[], Client]
    says: str
    status: str = "fail"
    outside: bool = False


BROKEN: dict[str, Broken] = {}


def broken(
    case: str, says: str, status: str = "fail", **changes: Any
) -> Callable[[type[Client]], type[Client]]:
    """Enter a client into the table, under its name."""

    def enter(client: type[Client]) -> type[Client]:
        outside = bool(changes.get("outside"))
        BROKEN[client.__name__] = Broken(case, lambda: client(**changes), says, status, outside)
        return client

    return enter


# CONNECT, SUBSCRIBE, hello


@broken("connect", "no device id", id=None)
class IdWithASlash(Client):
    def connect(self) -> Connect:
        return replace(super().connect(), client_id="kitchen/left")


@broken("connect", "told to be")
class AnotherId(Client):
    def connect(self) -> Connect:
        return replace(super().connect(), client_id="cellar")


@broken("connect", "user name")
class AnotherUser(Client):
    def connect(self) -> Connect:
        return replace(super().connect(), username="admin", password=b"secret")


@broken("connect", "will is on")
class WillElsewhere(Client):
    def connect(self) -> Connect:
        return replace(super().connect(), will=Will("status/kitchen", b"gone"))


@broken("connect", "keep-alive 0", "warn", keep_alive=0)
class NoKeepAlive(Client):
    pass


@broken("subscribe", "not to f/kitchen alone")
class SubscribesToAll(Client):
    def subscribe(self) -> None:
        self.send(Subscribe(1, (("f/#", 1),)))


@broken("subscribe", "has to allow", "warn")
class SubscribesToMore(Client):
    def subscribe(self) -> None:
        self.send(Subscribe(9, (("commands/kitchen", 1),)))
        super().subscribe()


@broken("hello", "server drops")
class HelloIsAMap(Client):
    def hello(self) -> None:
        self.up(msgpack.packb({"epoch": 0, "seq": 0}))


@broken("hello", "no hello", "warn")
class NoFirstHello(Client):
    def accepted(self, present: bool) -> None:
        del present
        self.subscribe()


@broken("hello", "after SUBSCRIBE", "warn")
class LateHello(Client):
    def accepted(self, present: bool) -> None:
        del present
        self.subscribe()
        self.hello()


@broken("hello", "clamps", "warn")
class ImmodestHello(Client):
    def hello(self) -> None:
        self.up(msgpack.packb([0, self.replica.epoch, self.replica.seq, {1: 500}]))


# Acknowledgements and streams


@broken("puback-qos1", "no PUBACK")
class NoPuback(Client):
    def acknowledge(self, packet: Publish) -> None:
        pass


@broken("puback-qos1", "no PUBACK")
class PubackOfOne(Client):
    def acknowledge(self, packet: Publish) -> None:
        del packet
        self.send(Puback(1))


@broken("burst", "no PUBACK")
class AcknowledgesEveryOther(Client):
    def acknowledge(self, packet: Publish) -> None:
        if packet.packet_id % 2:
            super().acknowledge(packet)


@broken("qos2", "no PUBREC", max_qos=2)
class PubackAtQos2(Client):
    def published(self, packet: Publish) -> None:
        self.frame(packet)
        self.send(Puback(packet.packet_id))


@broken("qos2", "no PUBCOMP", max_qos=2)
class NoPubcomp(Client):
    def release(self, packet_id: int) -> None:
        pass


@broken("qos2", "subscribes at QoS 2", "warn")
class SubscribesAtQos2(Client):
    def subscribe(self) -> None:
        self.send(Subscribe(1, (("f/kitchen", 2),)))


class OneReadOnePacket(Client):
    """Takes what one read brings for one packet."""

    def decode(self, data: bytes) -> list[Packet]:
        self.decoder = self.new_decoder()
        return super().decode(data)[:1]


broken("slow-server", "no PUBACK")(OneReadOnePacket)


@broken("fragments", "no PUBACK")
class OnePieceIsAFrame(OneReadOnePacket):
    pass


@broken("one-segment", "no PUBACK")
class OnlyTheFirstOfASegment(Client):
    def decode(self, data: bytes) -> list[Packet]:
        return super().decode(data)[:1]


# Frames


@broken("budget-frame", "no PUBACK")
class SmallBuffer(Client):
    """As some Arduino libraries: what is too long is thrown away in silence."""

    def published(self, packet: Publish) -> None:
        if len(encode(packet)) < 256:
            super().published(packet)


@broken("gap", "no hello")
class SeesNoGaps(Client):
    def take(self, payload: bytes) -> Received:
        received = super().take(payload)
        return Received.STALE if received is Received.GAP else received


@broken("hello-pace", "although the last one")
class AsksEachTime(Client):
    def frame(self, packet: Publish) -> None:
        self.asks_at = 0.0
        super().frame(packet)


@broken("hello-pace", "no hello")
class AsksOnlyOnce(Client):
    asked = False

    def hello(self) -> None:
        if not self.gap or not self.asked:
            self.asked = self.gap
            super().hello()


@broken("hello-again", "no second hello", hello_pause=60.0)
class NeverAsksAgain(Client):
    pass


@broken("hello-again", "a second hello", hello_pause=0.1)
class AsksAgainTooSoon(Client):
    pass


class Careless(Replica):
    """Applies what it should not look at."""

    __slots__ = ()

    def receive(self, data: bytes) -> Received:
        frame = decode_frame(data)
        if isinstance(frame, Delta) and frame.epoch == self.epoch and frame.seq <= self.seq:
            window = list(self.window)
            for op in frame.ops:
                if isinstance(op, Remove) and op.rank < len(window):
                    del window[op.rank]
            self.window = tuple(window)
            return Received.APPLIED
        return super().receive(data)


@broken("duplicate", "shorter than 1", replica_type=Careless)
class AppliesTwice(Client):
    pass


class TakesOldSnapshots(Replica):
    __slots__ = ()

    def receive(self, data: bytes) -> Received:
        frame = decode_frame(data)
        if isinstance(frame, Snapshot) and frame.epoch == self.epoch:
            self.seq = 0
        return super().receive(data)


@broken("stale", "is at", replica_type=TakesOldSnapshots)
class GoesBack(Client):
    pass


@broken("retained", "is at", replica_type=TakesOldSnapshots)
class TrustsWhatIsRetained(Client):
    pass


@broken("unknown-type", "connection ended")
class HangsUpOnTheUnknown(Client):
    def take(self, payload: bytes) -> Received:
        received = super().take(payload)
        if received is Received.UNKNOWN:
            raise EOFError
        return received


@broken("unknown-type", "although an unknown")
class AsksAboutTheUnknown(Client):
    def take(self, payload: bytes) -> Received:
        received = super().take(payload)
        return Received.GAP if received is Received.UNKNOWN else received


@broken("trailing", "should be at")
class CountsElements(Client):
    def take(self, payload: bytes) -> Received:
        frame = decode_frame(payload)
        if frame is not None and encode_frame(frame) != payload:
            return Received.BAD
        return super().take(payload)


@broken("unknown-op", "cannot have")
class SkipsUnknownOps(Client):
    def take(self, payload: bytes) -> Received:
        received = super().take(payload)
        if received is Received.BAD:
            self.replica.seq = msgpack.unpackb(payload)[2]
        return received


@broken("impossible-op", "no hello")
class SkipsImpossibleOps(Client):
    def take(self, payload: bytes) -> Received:
        before = self.replica.epoch
        received = super().take(payload)
        if received is Received.IMPOSSIBLE:
            self.replica.epoch = before
            return Received.APPLIED
        return received


@broken("impossible-op", "not at 0.0")
class KeepsItsPosition(Client):
    def take(self, payload: bytes) -> Received:
        before = self.replica.position
        received = super().take(payload)
        if received is Received.IMPOSSIBLE:
            self.replica.epoch, self.replica.seq = before
        return received


@broken("no-frame", "connection ended")
class DiesOfGarbage(Client):
    def take(self, payload: bytes) -> Received:
        received = super().take(payload)
        if received is Received.BAD:
            raise EOFError
        return received


class SeqAlone(Replica):
    """Compares numbers without their epoch."""

    __slots__ = ()

    def receive(self, data: bytes) -> Received:
        frame = decode_frame(data)
        if isinstance(frame, Snapshot):
            if frame.seq <= self.seq:
                return Received.STALE
            self.epoch = self.seq = 0
        return super().receive(data)


@broken("new-epoch", "should be at", replica_type=SeqAlone)
class IgnoresNewEpochs(Client):
    pass


@broken("lower-epoch", "lower epoch", replica_type=SeqAlone)
class TakesLowerEpochs(Client):
    pass


class DropsExpired(Client):
    """Removes what has expired by itself, so that ranks move."""

    def save(self) -> None:
        now = time.time()
        window = self.replica.window
        self.replica.window = tuple(i for i in window if not i.expires or i.expires > now)
        super().save()


broken("expiry", "shorter than")(DropsExpired)


@broken("expiry", "shorter than", clock=False)
class TakesZeroForExpired(Client):
    def save(self) -> None:
        self.replica.window = tuple(item for item in self.replica.window if item.expires)
        super().save()


class Overfull(Replica):
    """Keeps what a full window should drop: it goes by a length of its own."""

    __slots__ = ()

    def receive(self, data: bytes) -> Received:
        received = super().receive(data)
        self.k = 8
        return received


@broken("window-length", "longer than 2", replica_type=Overfull)
class GoesByItsOwnK(Client):
    pass


class Twice(Replica):
    """Does not look whether it holds an item already."""

    __slots__ = ()

    def receive(self, data: bytes) -> Received:
        held = self.window
        received = super().receive(data)
        frame = decode_frame(data)
        if received is Received.APPLIED and isinstance(frame, Delta):
            put = {op.item.n for op in frame.ops if isinstance(op, Put)}
            self.window += tuple(
                FeedItem(item.n + 1_000, 0, 1, item.payload) for item in held if item.n in put
            )
        return received


@broken("held-item", "longer than 3", replica_type=Twice)
class HoldsItTwice(Client):
    pass


@broken("late-rank", "should be at")
class NoRankPastTheEnd(Client):
    def take(self, payload: bytes) -> Received:
        frame = decode_frame(payload)
        if isinstance(frame, Delta) and any(
            isinstance(op, Put) and op.rank > 8 for op in frame.ops
        ):
            return Received.BAD
        return super().take(payload)


# Pings and pauses


@broken("keep-alive", "no PINGREQ")
class NeverPings(Client):
    def ping(self) -> None:
        pass

    def unanswered(self) -> None:
        pass


@broken("no-pingresp", "still trusts")
class TrustsTheConnection(Client):
    def unanswered(self) -> None:
        pass


@broken("backoff-closed", "constant")
class ConstantPauses(Client):
    def pause(self) -> float:
        return 0.3


@broken("backoff-closed", "linear")
class LinearPauses(Client):
    def pause(self) -> float:
        self.tries += 1
        return 0.2 * self.tries


@broken("backoff-closed", "without jitter", "warn")
class PausesInStep(Client):
    def pause(self) -> float:
        self.tries += 1
        return 0.4 * 2.0 ** (self.tries - 1)


@broken("backoff-closed", "does not come again")
class GivesUp(Client):
    def pause(self) -> float:
        return 3600.0


@broken("backoff-refused", "constant")
class HammersWhoRefuses(Client):
    refused = False

    def on(self, packet: Packet) -> None:
        self.refused = isinstance(packet, Connack) and packet.code != 0
        super().on(packet)

    def pause(self) -> float:
        return 0.25 if self.refused else super().pause()


@broken("wait-after-close", "came again after")
class ComesAtOnce(Client):
    def pause(self) -> float:
        return 0.05


# Sessions and power


@broken("session-present", "no PUBACK")
class WaitsForSuback(Client):
    """Takes frames after SUBACK alone, and does not subscribe where it has a session."""

    listens = False

    def accepted(self, present: bool) -> None:
        self.hello()
        self.listens = False
        if not present:
            self.subscribe()

    def on(self, packet: Packet) -> None:
        self.listens = self.listens or isinstance(packet, Suback)
        if self.listens or not isinstance(packet, Publish):
            super().on(packet)


@broken("session-expired", "no SUBSCRIBE")
class SubscribesOnce(Client):
    """As umqtt.robust: a session that is gone leaves it deaf."""

    subscribed = False

    def subscribe(self) -> None:
        if not self.subscribed:
            self.subscribed = True
            super().subscribe()


@broken("reset-in-frame", "")
class KeepsHalfAPacket(Client):
    """Its buffer outlives the connection."""

    kept: Decoder | None = None

    def new_decoder(self) -> Decoder:
        self.kept = self.kept or super().new_decoder()
        return self.kept


@broken("power-loss", "never given")
class SavesTooEarly(Client):
    def save(self) -> None:
        super().save()
        assert self.flash is not None
        self.flash["seq"] += 20


@broken("power-loss", "after a loss of power")
class SavesThePositionAlone(Client):
    def save(self) -> None:
        super().save()
        assert self.flash is not None
        self.flash["items"] = []


# Beside an outside broker


@broken("outside-hello", "no hello after SUBACK", outside=True)
class SilentOutside(Client):
    def hello(self) -> None:
        pass


@broken("outside-hello", "before SUBACK", outside=True)
class TooEarlyOutside(Client):
    def accepted(self, present: bool) -> None:
        del present
        self.hello()
        self.subscribe()

    def on(self, packet: Packet) -> None:
        if not isinstance(packet, Suback):
            super().on(packet)


@broken("outside-bye", "no will", outside=True)
class NoWill(Client):
    def connect(self) -> Connect:
        return replace(super().connect(), will=None)


@broken("outside-bye", "could not be told apart", outside=True)
class OldBye(Client):
    def connect(self) -> Connect:
        return replace(super().connect(), will=Will("u/kitchen", encode_up(Bye(6)), 1))


@broken("outside-bye", "not a bye", outside=True)
class WillIsNoBye(Client):
    def connect(self) -> Connect:
        return replace(super().connect(), will=Will("u/kitchen", encode_up(Hello(0, 0)), 1))


@broken("outside-ack", "no ack", outside=True)
class NoAcks(Client):
    def up(self, payload: bytes) -> None:
        if payload[1] != 1:
            super().up(payload)


@broken("outside-ack", "twice", outside=True)
class AcksOnceOnly(Client):
    acked = b""

    def up(self, payload: bytes) -> None:
        if payload != self.acked:
            super().up(payload)
        self.acked = payload


# Up messages


@broken("up-messages", "publishes on")
class PublishesForOthers(Client):
    def subscribe(self) -> None:
        self.send(Publish("u/cellar", self.replica.hello()))
        super().subscribe()


@broken("up-messages", "has to allow", "warn")
class PublishesElsewhere(Client):
    def subscribe(self) -> None:
        self.send(Publish("status/kitchen", b"here"))
        super().subscribe()


@broken("up-messages", "RETAIN")
class RetainsItsHello(Client):
    def up(self, payload: bytes) -> None:
        self.send(Publish("u/kitchen", payload, retain=True))


@broken("up-messages", "bytes")
class TalksTooMuch(Client):
    def subscribe(self) -> None:
        self.up(msgpack.packb([2, [[1, 0]] * 900]))
        super().subscribe()
