"""What can be chosen about a Redis store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """All nodes of a store have the same `prefix` and partitions.

    Attributes:
        prefix: what all keys begin with, so that several fleets may share a server.
        item_partitions: how many streams carry the numbers of new items. In a cluster each node has one
            connection for each of them.
        device_partitions: how many pieces the devices are in, for a cluster to spread.
        wait_replicas: replicas that must have a write before it counts as durable (`WAIT`).
        wait_timeout: seconds until it is asked again whether they have.
        timeout: seconds without an answer until a server counts as away.
        lease: seconds without word of a node until it counts as dead.
        stream_length: numbers that an item stream keeps, about; a node that is further behind reads its
            partition anew.
        word_length: words that the stream to all nodes, and the one to each node, keeps, about.
        number_block: item numbers that a node takes at a time.
        feedback_length: feedback bodies that may wait for the trainer.
        ca_file: certificates to trust with TLS; None for the system's.
    """

    prefix: str = "fleetfeed:"
    item_partitions: int = 16
    device_partitions: int = 256
    wait_replicas: int = 0
    wait_timeout: float = 1.0
    timeout: float = 5.0
    lease: float = 5.0
    stream_length: int = 10_000
    word_length: int = 100_000
    number_block: int = 4096
    feedback_length: int = 100_000
    ca_file: Path | None = None
