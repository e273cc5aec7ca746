"""The contenders of the push benchmarks, each a way to bring one packet to every device.

Every round counts exactly: a delivery too few or too many, or a device that got another number than
its neighbours, ends the run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import servers
from fleet import Fleet, Round
from harness import Series, Worker, cores, idents, idle_share
from wire import filler, publish_packet

#: Bytes of an item's payload.
PAYLOAD = 100
#: Length of every window; as many items fill it before the first round.
WINDOW = 8
#: The topic of the comparison "one topic to all"; as long as a device's own.
ALL = "f/to-all"


@dataclass(slots=True)
class Contender:
    """One way to bring a packet to every device; `run(size)` measures one round of it.

    Attributes:
        name: as it stands in the table.
        run: takes the packet size to send (ours ignores it); returns CPU seconds and what arrived.
        idle: share of a core that the server takes while nothing happens; not subtracted.
        spent: CPU seconds per delivery, by round.
        deliveries: PUBLISH packets that arrived in all rounds.
        octets: their bytes.
    """

    name: str
    run: Callable[[int], tuple[float, Round]]
    idle: float = 0.0
    spent: Series = field(default_factory=Series)
    deliveries: int = 0
    octets: int = 0

    def measure(self, size: int, expected: int) -> int:
        """Run one round; returns the mean packet size.

        Raises:
            AssertionError: the round brought another number of deliveries than it had to.
        """
        cpu, arrived = self.run(size)
        assert arrived.deliveries == expected, f"{self.name}: {arrived} instead of {expected}"
        assert arrived.fewest == arrived.most, f"{self.name}: uneven {arrived}"
        self.spent.add(cpu / arrived.deliveries)
        self.deliveries += arrived.deliveries
        self.octets += arrived.octets
        return round(arrived.octets / arrived.deliveries)

    def cells(self) -> dict[str, str | int | float]:
        """Return what a table shows of it: counts, and CPU microseconds per delivery."""
        return {
            "contender": self.name,
            "deliveries": self.deliveries,
            "packet_bytes": round(self.octets / self.deliveries),
            **{f"µs_{name}": value for name, value in self.spent.spread(1e6).items()},
        }


def ours(stack: ExitStack, devices: int, items: int, qos: int, tls: bool = False) -> Contender:
    """Start our broker and its fleet; windows are full afterwards."""
    server = stack.enter_context(servers.fleetfeed(tls=tls))
    fleet = stack.enter_context(
        Worker(cores()[1], Fleet, port=server.port, idents=idents(devices), qos=qos, tls=tls)
    )
    fleet.call("connect")
    fleet.call("settle")

    def publish(count: int) -> Round:
        arrived: Round = fleet.call("items", count=count, size=PAYLOAD, priority=qos, each=devices)
        return arrived

    def run(_: int) -> tuple[float, Round]:
        before = server.cpu()
        arrived = publish(items)
        return server.cpu() - before, arrived

    publish(WINDOW)
    return Contender("fleetfeed, personal frames", run, idle_share(server.pid))


def peers(
    stack: ExitStack, devices: int, items: int, qos: int, tls: bool = False
) -> list[Contender]:
    """Start Mosquitto and its fleet: one topic each, and one topic to all."""
    server = stack.enter_context(servers.mosquitto(tls=tls))
    fleet = stack.enter_context(
        Worker(
            cores()[1],
            Fleet,
            port=server.port,
            idents=idents(devices),
            qos=qos,
            also=(ALL,),
            tls=tls,
        )
    )
    fleet.call("connect")
    fleet.call("each", count=2, size=PAYLOAD)

    def one_each(size: int) -> tuple[float, Round]:
        before = server.cpu()
        arrived: Round = fleet.call("each", count=items, size=size)
        return server.cpu() - before, arrived

    def to_all(size: int) -> tuple[float, Round]:
        before = server.cpu()
        arrived: Round = fleet.call("to_all", count=items, size=size, topic=ALL)
        return server.cpu() - before, arrived

    return [
        Contender("mosquitto, one topic each", one_each),
        Contender("mosquitto, one to all", to_all),
    ]


def bare(stack: ExitStack, devices: int, items: int, qos: int) -> Contender:
    """Start the bare loop and its fleet."""
    broker_core, load_core = cores()
    loop = stack.enter_context(Worker(broker_core, servers.BareLoop))
    port = loop.call("port")
    fleet = stack.enter_context(
        Worker(load_core, Fleet, port=port, idents=idents(devices), qos=qos)
    )
    loop.begin("accept", count=devices)
    fleet.call("connect")
    loop.finish()
    topic = "f/" + idents(1)[0]

    def run(size: int) -> tuple[float, Round]:
        packet = publish_packet(topic, filler(topic, qos, size), qos, 1)
        cpu = 0.0
        fleet.call("begin")
        for sent in range(1, items + 1):
            cpu += loop.call("send", packet=packet, answered=bool(qos))
            fleet.call("arrived", deliveries=sent * devices)
        arrived: Round = fleet.call("end")
        return cpu, arrived

    name = "bare send() loop and recv() of PUBACK" if qos else "bare send() loop"
    return Contender(name, run)
