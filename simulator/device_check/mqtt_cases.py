"""Cases of MQTT itself: CONNECT, SUBSCRIBE, acknowledgements, pings, and bytes that come as networks bring them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from devices.frames import MAX_BUDGET, MAX_K, MAX_UP, MIN_BUDGET, BadUp, decode_up
from devices.packets import Pingreq, Pubcomp, Publish, Pubrec, Pubrel, encode
from devices.topics import within_feed
from devices.wire import unpack
from simulator.device_check.case import failed, not_applicable, warned
from simulator.device_check.exchange import describe
from simulator.device_check.line import of_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devices.packets import Connect
    from simulator.device_check.bench import Bench

_DEVICE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_RANGES = {1: ("k", 1, MAX_K), 2: ("frame budget", MIN_BUDGET, MAX_BUDGET), 3: ("QoS", 0, 2)}
"""Hello keys whose values the server clamps."""


async def connect(bench: Bench) -> str:
    """CONNECT names the device, and promises what it can keep."""
    said = (await bench.introduced()).connect
    if not _DEVICE_ID.fullmatch(said.client_id):
        raise failed(f"{said.client_id!r} is no device id: 1 to 64 of A-Z a-z 0-9 _ . : -")
    if bench.device.id is not None and said.client_id != bench.device.id:
        raise failed(
            f"its client id is {said.client_id!r}, but it was told to be {bench.device.id!r}"
        )
    if said.username is not None and said.username != said.client_id:
        raise failed(
            f"its user name {said.username!r} is not its client id: it may not use its own topics"
        )
    if said.will is not None and said.will.topic != bench.up_topic:
        raise failed(
            f"its will is on {said.will.topic}: only {bench.up_topic} is allowed, so CONNECT is refused"
        )
    if careless := [*_careless(said, encrypted=bench.encrypted)]:
        raise warned("; ".join(careless))
    session = "a clean" if said.clean_session else "a persistent"
    return f"client id {said.client_id!r}, {session} session, keep-alive {said.keep_alive} s"


def _careless(said: Connect, *, encrypted: bool) -> Iterator[str]:
    """What is no fault of a CONNECT, and yet no good."""
    if said.keep_alive == 0:
        yield "keep-alive 0: it never notices that a connection is dead"
    if said.username is not None and said.password is None:
        yield "a user name without a password: it proves nothing, unless by a client certificate"
    if said.password is not None and not encrypted:
        yield "its password goes in plain text, for everybody on the way to read: use TLS, and check it with --cert"


async def subscribes_to_itself(bench: Bench) -> str:
    """SUBSCRIBE names f/<itself> and nothing else."""
    subscribe = (await bench.introduced()).subscribe
    if subscribe is None:
        return "no SUBSCRIBE: it rests on the session that it has"
    names = [name for name, _ in subscribe.filters]
    if bench.down_topic not in names or any(_is_feeds(bench, name) for name in names):
        raise failed(f"it subscribes to {', '.join(names)}, not to {bench.down_topic} alone")
    if len(names) > 1:
        raise warned(f"it subscribes to {', '.join(names)}: the operator has to allow the others")
    return f"{bench.down_topic} at QoS {subscribe.filters[0][1]}"


async def hello(bench: Bench) -> str:
    """The first hello is well formed, and comes at its time."""
    greeting = await bench.introduced()
    for publish in bench.ups:
        try:
            decode_up(publish.payload)
        except BadUp as error:
            raise failed(f"a message that the server drops: {error}") from error
    if greeting.hello is None:
        raise warned(
            "no hello: the server takes it for empty each time, with k 8 and a budget of 256 bytes"
        )
    _see_ranges(greeting.raw)
    if greeting.subscribe is not None and not greeting.hello_first and not bench.outside:
        raise warned(
            "hello after SUBSCRIBE: the server has sent a snapshot by then that may be needless"
        )
    where = f"{greeting.hello.epoch}.{greeting.hello.seq}"
    return (
        f"at {where}, k {bench.k}, budget {bench.budget} bytes, QoS up to {bench.options.max_qos}"
    )


def _is_feeds(bench: Bench, name: str) -> bool:
    """Whether a topic or filter is the feed's, or reaches into it, and not this device's own."""
    if name in {bench.down_topic, bench.up_topic}:
        return False
    return within_feed(name, bench.prefix) or name.partition("/")[0] in {"#", "+"}


def _see_ranges(raw: bytes) -> None:
    array = unpack(raw)
    for key, value in array[3] if len(array) > 3 else ():
        name, low, high = _RANGES.get(key, ("", 0, 0))
        if name and not low <= value <= high:
            raise warned(f"its {name} is {value}, which the server clamps to {low}…{high}")


async def puback(bench: Bench) -> str:
    """Each frame of QoS 1 is acknowledged, with its packet id."""
    await bench.connected()
    if not bench.qos:
        raise not_applicable("it takes frames at QoS 0 only")
    await bench.settled()
    for _ in range(3):
        await bench.deliver(bench.delta())
    return "4 of 4 frames acknowledged"


async def qos2(bench: Bench) -> str:
    """A device that says QoS 2 completes its exchange, another does not subscribe at it."""
    await bench.settled()
    assert bench.greeting is not None
    subscribe = bench.greeting.subscribe
    asked = max((qos for _, qos in subscribe.filters), default=0) if subscribe else 0
    most = bench.options.max_qos or 0
    if asked > most:
        raise warned(
            f"it subscribes at QoS {asked}, but its hello says {most}: the lower one counts"
        )
    if bench.granted < 2:
        raise not_applicable(f"it takes frames at QoS {bench.granted} at most")
    payload = bench.packet(bench.delta()).payload
    for dup in (
        False,
        True,
    ):  # the same again before PUBREL is the same message (MQTT 3.1.1, 4.3.3)
        bench.line.send(Publish(bench.down_topic, payload, 2, 60_001, dup=dup))
        await bench.line.expect(of_kind(Pubrec), "PUBREC", bench.limits.answer)
    bench.line.send(Pubrel(60_001))
    await bench.line.expect(of_kind(Pubcomp), "PUBCOMP", bench.limits.answer)
    bench.model.receive(payload)
    await bench.confirm("a frame of QoS 2 was sent twice and released")
    return "PUBREC, PUBREC again after DUP, PUBCOMP, and the frame applied once"


async def keep_alive(bench: Bench) -> str:
    """A device with nothing to say sends PINGREQ in time."""
    line = await bench.settled()
    wait = _keep_alive(bench)
    await line.expect(of_kind(Pingreq), "PINGREQ of a device that has nothing to say", 1.5 * wait)
    await bench.deliver(bench.delta())
    return f"PINGREQ within 1.5 times its keep-alive of {wait} s, and it goes on after the answer"


async def no_pingresp(bench: Bench) -> str:
    """A device whose PINGREQ is not answered takes the connection for dead, and comes again."""
    line = await bench.settled()
    wait = _keep_alive(bench)
    line.answers_pings = False
    await line.expect(of_kind(Pingreq), "PINGREQ of a device that has nothing to say", 1.5 * wait)
    patience = 1.5 * wait + bench.limits.answer
    if not await line.ends(patience):
        raise failed(
            f"PINGREQ was not answered for {patience:g} s, and it still trusts the connection"
        )
    bench.drops += 1
    await bench.admitted()
    return "it closed the connection and came again"


def _keep_alive(bench: Bench) -> int:
    seconds = bench.connect.keep_alive
    if not seconds:
        raise not_applicable("its keep-alive is 0: it need not ping")
    if 1.5 * seconds > bench.limits.longest:
        raise not_applicable(
            f"its keep-alive of {seconds} s is longer than this run waits;"
            " give it a shorter one for the check, say 5 s"
        )
    return seconds


async def slow_server(bench: Bench) -> str:
    """A frame that comes byte by byte is a frame."""
    line = await bench.settled()
    packet = bench.packet(bench.delta())
    await line.send_in_pieces(packet, 1, 0.01)
    await bench.delivered(packet)
    await bench.confirm("a frame came byte by byte")
    return "applied"


async def one_segment(bench: Bench) -> str:
    """Several packets in one TCP segment are all seen."""
    line = await bench.settled()
    packets = []
    for _ in range(3):
        packets.append(bench.packet(bench.delta()))
        bench.model.receive(packets[-1].payload)
    line.send(*packets)
    for packet in packets:
        await bench.acknowledged(packet)
    await bench.confirm("three frames came in one segment")
    return "three of three applied"


async def fragments(bench: Bench) -> str:
    """A frame whose pieces end anywhere is a frame."""
    line = await bench.settled()
    for size in (2, 3, 7, 16):
        packet = bench.packet(bench.delta())
        await line.send_in_pieces(packet, size, 0.01)
        await bench.delivered(packet)
    await bench.confirm("frames came in pieces of 2, 3, 7 and 16 bytes")
    return "applied, in pieces of 2, 3, 7 and 16 bytes"


async def up_messages(bench: Bench) -> str:
    """Whatever it has sent so far is within the protocol."""
    await bench.connected()
    others = [publish for publish in bench.ups if not _is_up(bench, publish)]
    for publish in bench.ups:
        if publish not in others:
            _show(bench, publish)
            _see_up(bench, publish)
    if others:
        _show(bench, others[0])
        raise warned(f"it also publishes on {others[0].topic}: the operator has to allow that")
    bench.begin()
    return "topics, sizes and contents of all its messages are within the protocol"


def _is_up(bench: Bench, publish: Publish) -> bool:
    return publish.topic == bench.up_topic or _is_feeds(bench, publish.topic)


def _show(bench: Bench, publish: Publish) -> None:
    """Make this the one packet of the case."""
    bench.begin()
    bench.exchange.note(
        asyncio.get_running_loop().time(), "device", describe(publish), encode(publish)
    )


def _see_up(bench: Bench, publish: Publish) -> None:
    if publish.topic != bench.up_topic:
        raise failed(f"it publishes on {publish.topic}; of the feed it has {bench.up_topic} alone")
    if publish.retain:
        raise failed("it publishes with RETAIN, which the feed ignores")
    if len(publish.payload) > MAX_UP:
        raise failed(f"an up message of {len(publish.payload)} bytes; {MAX_UP} is the most")
    try:
        decode_up(publish.payload)
    except BadUp as error:
        raise failed(f"an up message that the server drops: {error}") from error
