"""Cases beside an outside broker, where nothing but messages tells the feed how a device is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devices.frames import Ack, BadUp, Bye, Put, decode_up
from devices.packets import Packet, Publish
from simulator.device_check.case import failed

if TYPE_CHECKING:
    from simulator.device_check.bench import Bench

ACK_WITHIN = 1.0
"""Seconds after applying a frame within which its ack is due (Up messages)."""
_MEASURED = 0.25
"""What our own machine may add to it."""


async def outside_hello(bench: Bench) -> str:
    """Every connection begins with a hello, after SUBACK."""
    greeting = await bench.introduced()
    if greeting.hello is None:
        raise failed("no hello after SUBACK: beside an outside broker the feed sends it nothing")
    if greeting.hello_first and greeting.subscribe is not None:
        raise failed("hello before SUBACK: the answer would reach nobody")
    return "hello after SUBACK"


async def outside_bye(bench: Bench) -> str:
    """The will is a bye, with the number that the hello names."""
    greeting = await bench.introduced()
    will, hello = greeting.connect.will, greeting.hello
    if will is None:
        raise failed("CONNECT has no will: the feed does not hear that the device is gone")
    if will.topic != bench.up_topic:
        raise failed(f"the will is on {will.topic}, not on {bench.up_topic}")
    if will.retain:
        raise failed("the will would be retained")
    try:
        bye = decode_up(will.payload)
    except BadUp as error:
        raise failed(f"the will is no up message: {error}") from error
    if not isinstance(bye, Bye):
        raise failed(f"the will is a {type(bye).__name__.lower()}, not a bye")
    c = hello.options.c if hello is not None and hello.options is not None else None
    if c != bye.c:
        raise failed(
            f"the bye has number {bye.c}, the hello {c}: a late will could not be told apart"
        )
    return f"bye {bye.c}, as the hello says"


async def outside_ack(bench: Bench) -> str:
    """A frame that applied is acknowledged by a message within a second, a repeated one too."""
    line = await bench.settled(items=2)
    await _acked(bench, "a snapshot")
    packet = bench.packet(bench.delta(Put(0, bench.item())))
    for what in ("a delta", "a delta that came twice"):
        line.send(packet)
        await bench.delivered(packet)
        await _acked(bench, what)
    return "snapshot, delta and duplicate acked in time"


async def _acked(bench: Bench, what: str) -> None:
    position = bench.model.position

    def acks(packet: Packet) -> Ack | None:
        if not isinstance(packet, Publish):
            return None
        try:
            message = decode_up(packet.payload)
        except BadUp:
            return None
        right = isinstance(message, Ack) and (message.epoch, message.seq) == position
        return message if isinstance(message, Ack) and right else None

    if await bench.line.next(acks, ACK_WITHIN + _MEASURED) is None:
        raise failed(f"no ack of {position[0]}.{position[1]} within {ACK_WITHIN:g} s of {what}")
