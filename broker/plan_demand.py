"""What a plan is asked for: a fleet and its traffic, and what it may run on."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Flow:
    """Rates at one moment, each a second.

    Attributes:
        items: Items published.
        pushes: Frames to devices: items times the connected followers of one.
        connects: Connections of devices, each with a hello and an answer.
        ups: Other up messages.
        feedback: Events in them.
        pings: Keep-alives.
    """

    items: float
    pushes: float
    connects: float
    ups: float
    feedback: float
    pings: float


@dataclass(frozen=True, slots=True)
class Demand:
    """A fleet and its traffic, as means over a day.

    A *device request* is what a device asks or says: a connection with its hello, or an up message.
    Keep-alives are no requests; they follow from the connections.

    Attributes:
        devices: All that are known, connected or not.
        connected: Share of them that is connected.
        items_per_s: Items published a second.
        followers: Devices that follow one item, on average; connected or not.
        requests_per_s: Device requests a second.
        connects: Share of requests that are connections.
        feedback_per_s: Feedback events a second; the messages that bring them are among the requests.
        peak: Rates of the busiest hour over the mean.
        spike: Rates of a spike over those of the peak.
        ttl: Seconds that an item lives.
        payload: Bytes of an item's payload.
        qos: Of frames, 0 or 1.
        keep_alive: Seconds between two pings of a connected device.
        tls: Whether devices connect by TLS.

    Raises:
        ValueError: A number is out of range; the message says which.
    """

    devices: int
    items_per_s: float
    followers: float
    connected: float = 0.1
    requests_per_s: float = 0.0
    connects: float = 0.3
    feedback_per_s: float = 0.0
    peak: float = 3.0
    spike: float = 10.0
    ttl: float = 86_400.0
    payload: int = 100
    qos: int = 1
    keep_alive: float = 300.0
    tls: bool = False

    def __post_init__(self) -> None:
        for name in ("items_per_s", "followers", "requests_per_s", "feedback_per_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a number from 0 up")
        for name in ("connected", "connects"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, from 0 to 1")
        for name in ("devices", "peak", "spike", "ttl", "keep_alive"):
            if not 1 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least 1")
        if self.followers > self.devices:
            raise ValueError("followers of an item are some of the devices: at most as many")
        if not 0 <= self.payload <= 65_536:
            raise ValueError("payload is at most 65536 bytes")
        if self.qos not in (0, 1):
            raise ValueError("qos is 0 or 1")

    @property
    def connections(self) -> float:
        """Devices connected at a time."""
        return self.devices * self.connected

    @property
    def audience(self) -> float:
        """Connected followers of an item."""
        return self.followers * self.connected

    @property
    def live(self) -> float:
        """Items alive at a time: rate · time to live. The mean counts, as a day has one peak."""
        return self.items_per_s * self.ttl

    def flow(self, factor: float) -> Flow:
        """Return the rates at so many times the mean; the fleet, and so its pings, stay as they are."""
        requests = factor * self.requests_per_s
        return Flow(
            items=factor * self.items_per_s,
            pushes=factor * self.items_per_s * self.audience,
            connects=requests * self.connects,
            ups=requests * (1 - self.connects),
            feedback=factor * self.feedback_per_s,
            pings=self.connections / self.keep_alive,
        )


@dataclass(frozen=True, slots=True)
class Site:
    """What nodes and Redis masters run on, and how full they may be.

    Attributes:
        target: Share of CPU, memory, connections and bandwidth in use at the peak. The rest takes over
            when others fail, and lets work that comes in bursts be done soon.
        node_memory: Bytes for one node, its sockets included.
        node_connections: The setting `limits.max_connections`.
        node_bandwidth: Bits a second of one node, each way.
        redis_memory: Bytes for the data of one master.
        redis_bandwidth: Bits a second of one master, each way.
        partitions: Item partitions of the Redis store: so many masters at most share what nodes read.
        trainer: Share of its core that the node which is the trainer may learn with.
    """

    target: float = 0.6
    node_memory: float = 4.0 * GIB
    node_connections: int = 50_000
    node_bandwidth: float = 1e9
    redis_memory: float = 16.0 * GIB
    redis_bandwidth: float = 10e9
    partitions: int = 16
    trainer: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise ValueError("target is a share, above 0 and at most 1")
        for name in ("node_memory", "node_connections", "node_bandwidth", "redis_memory"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
