"""How a device introduces itself: CONNECT, hello, SUBSCRIBE, and what follows from them for its frames."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devices.frames import BadUp, Hello, HelloOptions, decode_up
from devices.packets import Connect, Packet, Publish, Subscribe
from simulator.device_check.line import hello_of

if TYPE_CHECKING:
    from simulator.device_check.limits import Limits
    from simulator.device_check.line import Line


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the device said until it was subscribed.

    Attributes:
        connect: Its CONNECT.
        hello: Its hello; None if it said none.
        raw: The hello's bytes.
        subscribe: Its SUBSCRIBE, all filters up to that of its frames; None if it rested on its session.
        hello_first: The hello came before SUBSCRIBE.
    """

    connect: Connect
    hello: Hello | None = None
    raw: bytes = b""
    subscribe: Subscribe | None = None
    hello_first: bool = False

    @property
    def options(self) -> HelloOptions:
        """What its hello said, with the protocol's defaults for what it left out."""
        said = (self.hello.options if self.hello is not None else None) or HelloOptions()
        return HelloOptions(
            8 if said.k is None else said.k,
            256 if said.budget is None else said.budget,
            1 if said.max_qos is None else said.max_qos,
            said.agent,
            said.c,
            bool(said.clock),
        )

    @property
    def granted(self) -> int:
        """The highest QoS of its subscription and its hello together."""
        wanted = max((qos for _, qos in self.subscribe.filters), default=0) if self.subscribe else 1
        return min(wanted, self.options.max_qos or 0)


async def hear(
    line: Line, connect: Connect, limits: Limits, *, present: bool, outside: bool
) -> Greeting:
    """Hear hello and SUBSCRIBE, in any order; once one is there, the other may be left out.

    Args:
        line: Its connection, on which CONNACK was sent.
        connect: Its CONNECT.
        limits: How long to wait.
        present: CONNACK said that the session is present, so that there need be no SUBSCRIBE.
        outside: The hello comes after SUBACK, and must.
    """
    loop = asyncio.get_running_loop()
    subscribe: Subscribe | None = None
    filters: tuple[tuple[str, int], ...] = ()
    hello: Publish | None = None
    first = False
    until = loop.time() + limits.answer
    while subscribe is None or hello is None:
        packet = await line.next(_greets, until - loop.time())
        if packet is None:
            break
        if isinstance(packet, Subscribe):
            filters += packet.filters
            if any(_may_be_down(name) for name, _ in filters):
                subscribe = Subscribe(packet.packet_id, filters)
        elif isinstance(packet, Publish):
            hello, first = packet, subscribe is None
        if (subscribe is not None and not outside) or (hello is not None and present):
            until = min(until, loop.time() + 2 * limits.grace)
    said = hello_of(hello) if hello is not None else None
    return Greeting(connect, said, hello.payload if hello else b"", subscribe, first)


def _may_be_down(name: str) -> bool:
    """Whether a filter may let frames through; a device can subscribe to other topics before."""
    return not {"f", "+", "#"}.isdisjoint(name.split("/"))


def _greets(packet: Packet) -> Subscribe | Publish | None:
    if isinstance(packet, Subscribe):
        return packet
    if isinstance(packet, Publish):
        try:
            return packet if isinstance(decode_up(packet.payload), Hello) else None
        except BadUp:
            return None
    return None
