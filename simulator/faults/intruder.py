"""Clients that mean harm: what they send is broken or forbidden, and must hurt nobody but them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from devices.frames import Event, Feedback, Kind, Profile, encode_up
from devices.packets import (
    REFUSED,
    Connack,
    Connect,
    Publish,
    Suback,
    Subscribe,
    encode,
)
from simulator.facts import Finding
from simulator.faults.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from devices.packets import Packet
    from simulator.checker import Checker

_PRIVATE = ("f/", "u/", "items/")
"""Topics of which no client gets what is meant for another."""

_BAD_ITEMS = (
    b"{",
    b'{"payload": 1e999}',
    b'{"id": "x"}',
    b'{"payload": "x", "payload": "y"}',
    b'{"payload": "x", "ttl": -1}',
    b'{"payload": "x", "where": {"a": []}}',
    b"{" * 3_000,
    b"\x81\xa7payload",
    b"\xdf\xff\xff\xff\xff",
    b"",
)
_BAD_UPS = (
    b"",
    b"\xc1",
    b"\x90",
    b"\x93\x00\x01",
    b"\x93\x00\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\x92\x02\x91\x91\xc0",
    b"\x92\x03\x81\xa6follow\x91\xa3##a",
    b"\x91" * 1_500,
    b"\x00" * 4_000,
)


class Intruder:
    """One harmful client on one connection.

    Args:
        name: Its client id.
        rng: What it draws from.
        checker: Told if it gets what it must not have.
        victims: Devices that it pretends to be.
    """

    def __init__(self, name: str, rng: Random, checker: Checker, victims: Sequence[str]) -> None:
        self._name = name
        self._rng = rng
        self._checker = checker
        self._victims = victims

    async def attack(self, address: tuple[str, int]) -> None:
        """One attack, drawn at random."""
        if self._rng.random() < 0.4:
            await self._uninvited(address, self._rng.choice(self._noise())())
            return
        link = Link(self)
        if not await link.open(address, Connect(self._name, clean_session=True)):
            return
        for data in self._rng.choices(self._forbidden(), k=5):
            link.write(data)
            await asyncio.sleep(self._rng.random() * 0.02)
        link.abort()

    async def _uninvited(self, address: tuple[str, int], data: bytes) -> None:
        """Bytes without a CONNECT before them."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(*address)
            writer.write(data)
            await asyncio.sleep(self._rng.random() * 0.05)
            writer.transport.abort()

    def _noise(self) -> tuple[Callable[[], bytes], ...]:
        rng = self._rng
        connect = encode(Connect(self._name))
        return (
            lambda: rng.randbytes(rng.randint(1, 400)),
            lambda: connect[: rng.randrange(1, len(connect))],
            lambda: b"\x10\xff\xff\xff\x7f" + rng.randbytes(50),
            lambda: b"\x10\xff\xff\xff\xff\xff",
            lambda: encode(Publish("items/a", b"before CONNECT")),
            lambda: b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x3c\x00\x00",
            lambda: connect[:-1] + b"\xff",
            lambda: b"",
        )

    def _forbidden(self) -> list[bytes]:
        rng, victim = self._rng, self._rng.choice(self._victims)
        feedback = Feedback((Event(rng.randrange(1, 1 << 32), Kind.DISMISSED),))
        return [
            encode(Subscribe(1, ((f"f/{victim}", 1),))),
            encode(Subscribe(2, (("f/+", 1), ("f/#", 0), ("u/#", 2), ("items/#", 1)))),
            encode(Subscribe(3, (("#", 1), ("+/" + victim, 1)))),
            encode(Subscribe(4, (("/" * 150, 1),))),
            encode(
                Publish(f"u/{victim}", encode_up(Profile(("nowhere",), ("#",), {"region": "x"})))
            ),
            encode(Publish(f"f/{victim}", b"\x95\x00\xce\xff\xff\xff\x00\x01\x08\x90")),
            encode(Publish(f"f/{victim}", b"\x95\x00\x01\x01\x08\x90", 1, 7, retain=True)),
            encode(Publish(f"u/{self._name}", rng.choice(_BAD_UPS), 1, 8)),
            encode(Publish(f"u/{self._name}", encode_up(feedback), 1, 9)),
            encode(Publish("items/a", rng.choice(_BAD_ITEMS), rng.choice((1, 2)), 10)),
            encode(Publish("items/a", b"{" + b" " * 66_000, 1, 11)),
            encode(Publish("items/a", b'{"payload": "x", "ttl": 0}', 1, 12, retain=True)),
            b"\x40\x02\xff\xff" * 20,
            b"\x50\x02\x12\x34\x62\x02\x12\x34\x70\x02\x12\x34",
            b"\xc0\x00" * 2_000,
            b"\x36\x05\x00\x01a\x00\x01",
            b"\x82\x02\x00\x01",
            encode(Connect(self._name)),
        ]

    # ---- What Link reports

    def received(self, link: Link, packet: Packet, size: int) -> None:
        """Anything; only what belongs to others is of interest."""
        del link, size
        match packet:
            case Publish(topic) if topic.startswith(_PRIVATE) and topic != f"f/{self._name}":
                self._checker.report(Finding("G6", f"{self._name} received {packet}"))
            case Suback(1, codes) if codes != (REFUSED,):
                self._checker.report(Finding("G6", f"{self._name} subscribed to another's feed"))
            case Connack() | _:
                pass

    def lost(self, link: Link, malformed: str | None) -> None:
        """The server ended it, or we did."""
        del link
        if malformed is not None:
            self._checker.report(Finding("wire", f"{self._name} was sent broken MQTT: {malformed}"))
