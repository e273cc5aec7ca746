"""Is the gateway the bottleneck beside Mosquitto? Pushes per second, against a client that only writes bytes.

`python benchmarks/gateway.py [--json] [--quick] [--devices 16000] [--items 4]`

Every device gets every item, one frame on its own topic each. The contender is a client that computes nothing:
it has the very packets of the gateway's first round ready in memory, writes them with as few system calls as
the kernel allows, and reads PUBACKs without a look at them. No client in C could be faster; what limits it is
Mosquitto. One reader is subscribed to all frames, so that Mosquitto also delivers them. Mosquitto has one
core; gateway, contender and reader share the other, in turn or together, which is to the gateway's disadvantage.

The acks of devices are measured apart: what one costs that has arrived.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context

import numpy as np
import servers
import uvloop
from harness import Report, Series, Verdict, cores, cpu_seconds, idents, parser, prepare, progress
from wire import connect_packet, publish_packet, subscribe_packet

from broker.config_layers import load
from broker.gateway.address import BrokerAddress
from broker.gateway.gateway import Gateway
from devices.up_messages import Ack, Hello, encode_up

#: The issue's goal: what share of Mosquitto's own limit the gateway reaches.
SHARE_BUDGET = 0.8
PAYLOAD = 64
PUBACK = b"\x40\x02"
_CHUNK = 1 << 20
_PATIENCE = 600.0
"""Seconds for all rounds of one QoS."""
_SILENCE = 60.0
"""Seconds without a byte after which Mosquitto counts as stuck."""


class Beside:
    """A gateway in this process, with devices that were never connected: their words are put in by hand."""

    def __init__(self, port: int, data: str, devices: int, qos: int) -> None:
        config = load(
            None,
            {},
            {
                "data": data,
                "open": True,
                "ranking.model": "newest",
                "gateway.ack_limit": 3600.0,
                "gateway.sys_interval": 0,
                "gateway.max_waiting": 64 << 20,
                "feed.qos_by_priority": (qos,) * 4,
            },
        )
        self.gateway = Gateway(config, BrokerAddress("127.0.0.1", port))
        self.names = idents(devices)
        self.chunks: list[bytes] = []
        self._number = 0

    async def start(self) -> None:
        """Connect, and have every device say hello and acknowledge its first snapshot."""
        await self.gateway.start()
        for at, name in enumerate(self.names):
            self.gateway.presence.up(name, encode_up(Hello(0, 0)), _nothing)
            if at % 1000 == 999:
                await self.rest()
        await self.rest()
        await self.acknowledge()

    async def rest(self) -> None:
        """Wait until nothing is left to be done, and the broker has acknowledged everything."""
        service, frames = self.gateway.service, self.gateway.frames
        looks = 0
        while looks < 2:  # an answer of the store may have come that nobody has been told of
            busy = not service.idle or frames.window.unacknowledged
            looks = 0 if busy else looks + 1
            await asyncio.sleep(0.002)

    async def acknowledge(self) -> float:
        """Have every device acknowledge what it was sent; CPU seconds for each ack."""
        words = []
        for name in self.names:
            live = self.gateway.service.roster.get(name)
            assert live is not None
            ledger = self.gateway.service.roster.ledger(live)
            words.append((name, encode_up(Ack(*ledger.position(live.seat.row)))))
        before = time.process_time()
        for name, payload in words:
            self.gateway.presence.up(name, payload, _nothing)
        await self.rest()
        return (time.process_time() - before) / len(words)

    async def push(self, items: int) -> tuple[float, float]:
        """Publish items, wait until all frames are taken; seconds of wall time and of CPU."""
        frames = self.gateway.counters.frames
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(items):  # one by one, else a frame would have several
            self._number += 1
            wanted = frames["sent"] + len(self.names)
            payload = f'{{"id": "i{self._number}", "payload": "{"x" * PAYLOAD}", "ttl": 3600}}'
            self.gateway.service.item(
                "news", payload.encode(), dup=False, done=_nothing, publisher=""
            )
            while frames["sent"] < wanted:  # noqa: ASYNC110 - as in `rest`
                await asyncio.sleep(0.0005)
        await self.rest()
        await self._taken()
        return time.perf_counter() - wall, time.process_time() - cpu

    async def _taken(self) -> None:
        """QoS 0 has no answer: a last packet of QoS 1 behind everything has one."""
        uplink = self.gateway.frames
        ids = uplink.window.take(1)
        uplink.publish([publish_packet("f/none", b"", 1, int(ids[0]))], ids)
        while uplink.window.unacknowledged:  # noqa: ASYNC110 - as in `rest`
            await asyncio.sleep(0.001)

    @contextmanager
    def recorded(self) -> Iterator[list[bytes]]:
        """What is written meanwhile."""
        uplink, chunks = self.gateway.frames, []
        publish = uplink.publish

        def remember(packets: Sequence[bytes], ids: np.ndarray | None) -> int:
            chunks.append(b"".join(packets))
            return publish(packets, ids)

        uplink.publish = remember  # type: ignore[method-assign] # for the recording alone
        yield chunks
        uplink.publish = publish  # type: ignore[method-assign]


class Blaster:
    """The contender: it has the bytes, writes them, and counts the bytes of the answers."""

    def __init__(self, port: int) -> None:
        self._socket = _client(port, "blaster")
        self._socket.setblocking(False)

    def push(self, chunks: Iterable[bytes], answers: int) -> tuple[float, float]:
        """Write it all and read so many PUBACKs; seconds of wall time and of CPU."""
        waiting = memoryview(b"".join(chunks) + publish_packet("f/none", b"", 1, 65_535))
        missing = 4 * (answers + 1)
        wall, cpu = time.perf_counter(), time.process_time()
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while missing > 0:
                ready = selector.select(_SILENCE)
                if not ready:
                    raise TimeoutError(f"Mosquitto owes {missing} bytes of answers and is silent")
                for _, events in ready:
                    if events & selectors.EVENT_READ:
                        if not (answered := self._socket.recv(_CHUNK)):
                            raise ConnectionError("Mosquitto closed the contender's connection")
                        missing -= len(answered)
                    if events & selectors.EVENT_WRITE and waiting:
                        waiting = waiting[self._socket.send(waiting[:_CHUNK]) :]
                        if not waiting:
                            selector.modify(self._socket, selectors.EVENT_READ)
        return time.perf_counter() - wall, time.process_time() - cpu


def _client(port: int, name: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(connect_packet(name))
    assert sock.recv(4) == b"\x20\x02\x00\x00"
    return sock


def _read_all(port: int) -> None:
    """Take every frame that Mosquitto delivers, and throw it away."""
    sock = _client(port, "reader")
    sock.sendall(subscribe_packet(1, ["f/#"], 0))
    buffer = bytearray(_CHUNK)
    while sock.recv_into(buffer):
        pass


async def measure(port: int, pid: int, options: Namespace, qos: int, report: Report) -> float:
    """Alternate rounds of both; adds their rows, returns the gateway's share of the contender's rate."""
    pushes = options.devices * options.items
    series = {name: Series() for name in ("gateway", "bytes")}
    cpu = {name: Series() for name in ("gateway", "bytes", "ack", "beside gateway", "beside bytes")}
    with tempfile.TemporaryDirectory(prefix="fleetfeed-bench-") as data:
        beside = Beside(port, data, options.devices, qos)
        await beside.start()
        with beside.recorded() as chunks:
            await beside.push(options.items)
        await beside.acknowledge()
        blaster = Blaster(port)
        for number in range(options.rounds):
            progress(f"QoS {qos}, round {number + 1} of {options.rounds}")
            for name, rates in series.items():
                theirs = cpu_seconds(pid)
                if name == "gateway":
                    wall, own = await beside.push(options.items)
                    cpu["ack"].add(await beside.acknowledge())
                else:
                    wall, own = blaster.push(chunks, 1 + pushes * qos)  # the last is recorded, too
                rates.add(pushes / wall)
                cpu[name].add(own / pushes)
                cpu[f"beside {name}"].add((cpu_seconds(pid) - theirs) / pushes)
        await beside.gateway.stop()
    for name, rates in series.items():
        report.row(
            client=name,
            qos=qos,
            pushes_per_s=round(rates.median),
            own_us=round(cpu[name].median * 1e6, 2),
            mosquitto_us=round(cpu[f"beside {name}"].median * 1e6, 2),
            ack_us=round(cpu["ack"].median * 1e6, 2) if name == "gateway" else None,
        )
    return series["gateway"].median / series["bytes"].median


def _nothing() -> None:
    """Nobody waits for an acknowledgement here."""


def main() -> None:
    """Run both QoS."""
    made = parser(__doc__ or "")
    made.add_argument("--devices", type=int)
    made.add_argument("--items", type=int, default=4, help="items in a round, at most 4")
    options = made.parse_args()
    options.devices = options.devices or (1_000 if options.quick else 16_000)
    options.rounds = options.rounds or (2 if options.quick else 7)
    prepare()
    report = Report("gateway", {"devices": options.devices, "items": options.items})
    for qos in (1, 0):
        with servers.mosquitto() as mosquitto:
            os.sched_setaffinity(0, {cores()[1]})
            reader = get_context("spawn").Process(target=_read_all, args=(mosquitto.port,))
            reader.start()
            try:
                measuring = measure(mosquitto.port, mosquitto.pid, options, qos, report)
                share = uvloop.run(asyncio.wait_for(measuring, _PATIENCE))
            finally:
                reader.terminate()
                reader.join()
        report.verdicts.append(
            Verdict(f"QoS {qos}: share of Mosquitto's own limit", share, SHARE_BUDGET, True)
        )
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
