"""What a device does beside an outside broker, where a PUBACK says nothing about the feed.

It says hello after SUBACK, acknowledges positions itself, and says bye: before it leaves, and as its will for the case
that it cannot. `c` is drawn per connection, so that the feed tells a late bye from a present one (protocol, *Up messages*).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from devices.frames import Bye, encode_up
from devices.packets import Connect, Will

if TYPE_CHECKING:
    from collections.abc import Hashable

ACK_EVERY = 0.25
"""Seconds between looks at who owes an ack; the protocol allows one second."""


def with_will(connect: Connect, topic: str, c: int) -> Connect:
    """A CONNECT whose will says bye."""
    return replace(connect, will=Will(topic, encode_up(Bye(c)), qos=1, retain=False))


class Acknowledging(Protocol):
    """Who owes an ack."""

    def acknowledge(self) -> None:
        """Says what is applied, if there is a connection."""

    @property
    def client_id(self) -> Hashable:
        """Names it."""


class OwedAcks:
    """Devices that have applied frames since they last said so: one ack for all that came in a moment."""

    __slots__ = ("_devices",)

    def __init__(self) -> None:
        self._devices: dict[Hashable, Acknowledging] = {}

    def owe(self, device: Acknowledging) -> None:
        """A device has applied a frame, or got one again whose ack may have been lost."""
        self._devices[device.client_id] = device

    def settle(self) -> None:
        """Everybody who owes an ack says it."""
        devices, self._devices = self._devices, {}
        for device in devices.values():
            device.acknowledge()
