"""What went over the lane's connections, frames of the feed aside: `broker.counters` has those."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Bytes and packets since the start. Bytes are those of MQTT, without TLS and TCP.

    Attributes:
        bytes_received: From clients, without `pubacks`.
        packets_received: Whole packets from clients, without `pubacks`.
        publishes_received: PUBLISH packets among them.
        publish_bytes_received: Their bytes.
        pubacks: PUBACKs of frames that were taken by the short way, four bytes each.
        bytes_sent: To clients.
        packets_sent: To clients.
        publishes_sent: PUBLISH packets among them.
        publish_bytes_sent: Their bytes.
        clients: Clients that were let in and are connected.
        most_clients: The most that were at a time.
        devices: Those among the clients that may speak for a device.
    """

    bytes_received: int = 0
    packets_received: int = 0
    publishes_received: int = 0
    publish_bytes_received: int = 0
    pubacks: int = 0
    bytes_sent: int = 0
    packets_sent: int = 0
    publishes_sent: int = 0
    publish_bytes_sent: int = 0
    clients: int = 0
    most_clients: int = 0
    devices: int = 0

    def sent(self, data: bytes, packets: int = 1) -> None:
        """Packets were written; only alone may one be a PUBLISH."""
        self.bytes_sent += len(data)
        self.packets_sent += packets
        if data[0] & 0xF0 == 0x30:
            self.publishes_sent += 1
            self.publish_bytes_sent += len(data)

    def publish_received(self, topic: str, payload: bytes, qos: int) -> None:
        """A PUBLISH has come."""
        rest = 2 + len(topic.encode()) + len(payload) + (2 if qos else 0)
        length = 1 + (rest >= 128) + (rest >= 16_384) + (rest >= 2_097_152)
        self.publishes_received += 1
        self.publish_bytes_received += 1 + length + rest

    def entered(self, *, device: bool) -> None:
        """A client was let in."""
        self.clients += 1
        self.devices += device
        self.most_clients = max(self.most_clients, self.clients)

    def left(self, *, device: bool) -> None:
        """The connection of such a client has ended."""
        self.clients -= 1
        self.devices -= device
