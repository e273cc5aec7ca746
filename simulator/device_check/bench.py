"""The bench that cases work on: brings the device to a known position, and asks where it is.

Beside the device runs a `Replica` that is fed the same frames. A device's position shows only in its hello,
so the bench provokes one by a frame that starts elsewhere; how long its window is, it finds by ops that are
possible in just that window.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from devices.frames import (
    Delta,
    FeedItem,
    Hello,
    HelloOptions,
    Move,
    Op,
    Put,
    Remove,
    Snapshot,
    encode_frame,
)
from devices.packets import Publish, encode
from devices.replica import Received, Replica
from simulator.device_check.case import failed, not_applicable
from simulator.device_check.host import Host
from simulator.device_check.limits import FULL
from simulator.device_check.line import acknowledges, hello_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from simulator.device_check.device import Device
    from simulator.device_check.limits import Limits
    from simulator.device_check.line import Line

_FIRST_EPOCH = 100
"""Above what a device has that was never connected, and below nothing that matters."""


class Bench(Host):
    """One device under test, the server that it meets, and what a right device would hold.

    Attributes:
        model: A replica that was fed what the device was.
    """

    def __init__(
        self,
        device: Device,
        limits: Limits = FULL,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        prefix: str = "",
        outside: bool = False,
        tls: ssl.SSLContext | None = None,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(
            device,
            limits,
            host=host,
            port=port,
            prefix=prefix,
            outside=outside,
            tls=tls,
            told=told,
        )
        self.model = Replica()
        self._packet_id = 0
        self._epoch = _FIRST_EPOCH
        self._seq = 0
        self._n = 0

    @property
    def options(self) -> HelloOptions:
        """What its last hello said, with the protocol's defaults for what it left out."""
        assert self.greeting is not None
        return self.greeting.options

    @property
    def k(self) -> int:
        """The window length that it asks for."""
        return self.options.k or 8

    @property
    def budget(self) -> int:
        """Its frame budget, in bytes of a whole packet."""
        return self.options.budget or 256

    @property
    def granted(self) -> int:
        """The highest QoS of its subscription and its hello together."""
        assert self.greeting is not None
        return self.greeting.granted

    @property
    def qos(self) -> int:
        """The QoS that frames are sent at."""
        return min(1, self.granted)

    async def settled(self, items: int = 1, k: int | None = None, seq: int = 10) -> Line:
        """A device that holds `items` items, at `seq` of an epoch of its own, and owes no answer.

        Raises:
            Verdict: FAIL, it does not connect, subscribe or acknowledge.
        """
        line = await self.connected()
        line.inbox.clear()
        await self.deliver(self.snapshot(items, k, seq))
        return line

    def snapshot(self, items: int, k: int | None = None, seq: int = 10) -> Snapshot:
        """A snapshot of new items in the next epoch.

        Raises:
            Verdict: NOT_APPLICABLE, the device's window is too short for it.
        """
        k = self.k if k is None else k
        if max(items, k) > self.k:
            raise not_applicable(
                f"its window has room for {self.k} items; {max(items, k)} are needed"
            )
        hello = self.greeting.hello if self.greeting is not None else None
        self._epoch = max(self._epoch, hello.epoch if hello is not None else 0) + 1
        self._seq = seq
        window = tuple(self.item() for _ in range(items))
        return Snapshot(self._epoch, seq, k, window)

    def item(self, payload: str = "", expires: int = 0) -> FeedItem:
        """A new item."""
        self._n += 1
        return FeedItem(self._n, expires, 1, payload or f"n{self._n}")

    def delta(self, *ops: Op) -> Delta:
        """What leads from the model's position to the next number that was never used."""
        return self._delta_from(self.model.seq, ops)

    def delta_ahead(self) -> Delta:
        """A delta that starts where the device cannot be."""
        self._seq += 1
        return self._delta_from(self._seq, (Put(0, self.item()),))

    def _delta_from(self, base: int, ops: tuple[Op, ...]) -> Delta:
        self._seq += 1
        return Delta(self.model.epoch, self._seq, ops, None if base == self._seq - 1 else base)

    def packet(self, frame: Snapshot | Delta | bytes, *, retain: bool = False) -> Publish:
        """The PUBLISH that carries a frame."""
        self._packet_id = self._packet_id % 60_000 + 1
        payload = frame if isinstance(frame, bytes) else encode_frame(frame)
        packet_id = self._packet_id if self.qos else 0
        packet = Publish(self.down_topic, payload, self.qos, packet_id, retain)
        assert len(encode(packet)) <= self.budget, "our own frame is above the device's budget"
        return packet

    async def deliver(self, frame: Snapshot | Delta | bytes) -> Received:
        """Send a frame, to device and model, and see it acknowledged.

        Returns:
            What the model made of it.

        Raises:
            Verdict: FAIL, no PUBACK.
        """
        packet = self.packet(frame)
        self.line.send(packet)
        return await self.delivered(packet)

    async def delivered(self, packet: Publish) -> Received:
        """The packet was sent: tell the model, and see it acknowledged."""
        received = self.model.receive(packet.payload)
        await self.acknowledged(packet)
        return received

    async def acknowledged(self, packet: Publish) -> None:
        """See a packet acknowledged, if it asks for that.

        Raises:
            Verdict: FAIL, no PUBACK.
        """
        if packet.qos:
            what = f"PUBACK for packet {packet.packet_id}"
            await self.line.expect(acknowledges(packet.packet_id), what, self.limits.answer)

    async def ask(self) -> Hello:
        """Have the device say its position, by a gap.

        Raises:
            Verdict: FAIL, it says no hello.
        """
        await self.deliver(self.delta_ahead())
        what = "hello after a frame that starts at a position which the device does not hold"
        return await self.line.expect(hello_of, what, self.limits.answer)

    async def no_hello(self, why: str, within: float | None = None) -> None:
        """See that no hello comes.

        Raises:
            Verdict: FAIL, one came; `why` says why it must not.
        """
        wait = self.limits.grace if within is None else within
        hello = await self.line.next(hello_of, wait)
        if hello is not None:
            raise failed(f"a hello at {hello.epoch}.{hello.seq}, although {why}")
        if not self.line.open:
            raise failed(f"the connection ended, although {why}")

    async def confirm(self, why: str) -> None:
        """See that the device is where the model is, in position and, if it prints it, in window.

        Raises:
            Verdict: FAIL; `why` says what put it there.
        """
        await self._see_window()
        hello = await self.ask()
        if (hello.epoch, hello.seq) != self.model.position:
            epoch, seq = self.model.position
            raise failed(
                f"the device is at {hello.epoch}.{hello.seq} and should be at {epoch}.{seq}: {why}"
            )

    async def confirm_length(self, why: str) -> None:
        """See that the device's window is as long as the model's; its position is gone afterwards.

        Raises:
            Verdict: FAIL; `why` says what made the window.
        """
        length = len(self.model.window)
        assert length, "an empty window cannot be probed"
        await self._see_window()
        await self.deliver(self.delta(Move(length - 1, length - 1)))
        hello = await self.line.next(hello_of, self.limits.grace)
        if hello is not None:
            raise failed(f"the device's window is shorter than {length}: {why}")
        await self.deliver(self.delta(Remove(length)))
        hello = await self.line.next(hello_of, self.limits.answer)
        if hello is None:
            raise failed(
                f"no hello after an op at rank {length}, so that the device's window is longer than"
                f" {length}, or it does not check ranks: {why}"
            )
        if (hello.epoch, hello.seq) != (0, 0):
            raise failed(f"a hello at {hello.epoch}.{hello.seq} after an impossible op, not at 0.0")

    async def _see_window(self) -> None:
        printed = self.device.printed
        if printed is None:
            return
        window = self.model.window
        if not await printed.shows(window, self.limits.answer, time.time()):
            numbers = [item.n for item in window]
            raise failed(f"the device should show the items {numbers}; it printed {printed.last}")
