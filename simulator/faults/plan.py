"""What goes wrong in a round: drawn from the round's seed, and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

from simulator.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from simulator.toxics import StreamName, Toxic


class Kind(StrEnum):
    """Kinds of fault."""

    KILL = "kill"
    TERM = "term"
    LATENCY = "latency"
    BANDWIDTH = "bandwidth"
    SLOW_CLOSE = "slow_close"
    TIMEOUT = "timeout"
    RESET_PEER = "reset_peer"
    SLICER = "slicer"
    LIMIT_DATA = "limit_data"
    TAKEOVER = "takeover"
    CUT_PACKETS = "cut_packets"
    WITHHELD_ACKS = "withheld_acks"
    LOST_FLASH = "lost_flash"
    STUCK_READER = "stuck_reader"
    DISK_FULL = "disk_full"
    STORE_LOCKED = "store_locked"
    CLOCK = "clock"
    BAD_INPUT = "bad_input"
    ROLLING = "rolling"
    FREEZE = "freeze"
    PARTITION = "partition"
    REDIS_KILL = "redis_kill"
    REDIS_OUTAGE = "redis_outage"
    FAILOVER = "failover"
    HANDOVER = "handover"
    RACE = "race"


MEANING = {
    Kind.KILL: "kill -9 while publishers and devices run, and start again",
    Kind.TERM: "SIGTERM, and start again",
    Kind.LATENCY: "half of the clients are far away",
    Kind.BANDWIDTH: "half of the clients have a slow line",
    Kind.SLOW_CLOSE: "connections that end late",
    Kind.TIMEOUT: "a line that lets nothing pass, and then closes",
    Kind.RESET_PEER: "TCP resets in the middle",
    Kind.SLICER: "packets in pieces of a few bytes",
    Kind.LIMIT_DATA: "lines that break after some bytes",
    Kind.TAKEOVER: "devices connect again while the old connection is open",
    Kind.CUT_PACKETS: "connections lost inside a packet",
    Kind.WITHHELD_ACKS: "devices that do not acknowledge",
    Kind.LOST_FLASH: "devices that forget, or remember an old state",
    Kind.STUCK_READER: "devices that do not read",
    Kind.DISK_FULL: "nothing can be written to any file",
    Kind.STORE_LOCKED: "another program locks the database",
    Kind.CLOCK: "the wall clock jumps, forward and back",
    Kind.BAD_INPUT: "a storm of broken and forbidden packets",
    Kind.ROLLING: "every node is stopped and started again, one after the other",
    Kind.FREEZE: "a node stands still until it counts as dead, and then goes on",
    Kind.PARTITION: "a node and Redis cannot reach each other",
    Kind.REDIS_KILL: "kill -9 of a Redis master, which is back before its replica takes over",
    Kind.REDIS_OUTAGE: "kill -9 of every Redis server, and start again",
    Kind.FAILOVER: "kill -9 of a Redis master, which is back when its replica has taken over",
    Kind.HANDOVER: "a Redis master hands its slots to its replica",
    Kind.RACE: "the same items are published through two nodes at once",
}

AT_NODES = (
    Kind.KILL,
    Kind.FREEZE,
    Kind.FAILOVER,
    Kind.PARTITION,
    Kind.RACE,
    Kind.REDIS_KILL,
    Kind.TERM,
    Kind.REDIS_OUTAGE,
    Kind.HANDOVER,
    Kind.ROLLING,
)
"""What goes wrong with several nodes and their Redis, in the order in which rounds are about it."""

AT_CLIENTS = (
    Kind.LATENCY,
    Kind.BANDWIDTH,
    Kind.SLOW_CLOSE,
    Kind.TIMEOUT,
    Kind.RESET_PEER,
    Kind.SLICER,
    Kind.LIMIT_DATA,
    Kind.TAKEOVER,
    Kind.CUT_PACKETS,
    Kind.WITHHELD_ACKS,
    Kind.LOST_FLASH,
    Kind.STUCK_READER,
    Kind.BAD_INPUT,
)
"""What goes wrong with clients and their lines, wherever they connect to."""

AT_ONE_SERVER = (
    Kind.KILL,
    Kind.TERM,
    *AT_CLIENTS,
    Kind.DISK_FULL,
    Kind.STORE_LOCKED,
    Kind.CLOCK,
)
"""What goes wrong with one server alone."""

OUTAGES = frozenset({*AT_NODES, Kind.DISK_FULL, Kind.STORE_LOCKED, Kind.CLOCK} - {Kind.RACE})
"""Faults of a server as a whole: nobody is healthy meanwhile."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One round.

    Attributes:
        seed: From which everything here was drawn, and from which the clients draw on.
        kinds: What goes wrong; the first is what the round is about.
        seconds: How long clients are busy.
        strike: When the fault begins, seconds.
        lasts: How long it holds, seconds.
        repeats: Whether at rest everybody repeats what was said.
        throughout: Whether clients are busy until the last fault is over, if that is later.
    """

    seed: int
    kinds: tuple[Kind, ...]
    seconds: float
    strike: float
    lasts: float
    repeats: bool
    throughout: bool = False

    def rng(self, purpose: str) -> Random:
        """Random numbers of this round, each purpose with its own."""
        return Random(f"{self.seed}/{purpose}")  # noqa: S311 - no secret

    @property
    def outage(self) -> bool:
        """Whether the server as a whole fails."""
        return not OUTAGES.isdisjoint(self.kinds)


def draw(seed: int, available: Collection[Kind], only: Kind | None = None) -> Plan:
    """The round of a seed.

    Successive seeds go through all kinds in turn, every second one a kill, so that a few dozen rounds have all.

    Args:
        seed: Of the round.
        available: Kinds that can be had here.
        only: The one kind that is wanted.
    """
    rng = Random(f"{seed}/plan")  # noqa: S311 - no secret
    others = [kind for kind in AT_ONE_SERVER if kind in available and kind is not Kind.KILL]
    kind = only or (Kind.KILL if seed % 2 == 0 else others[seed // 2 % len(others)])
    kinds = [kind]
    if kind is Kind.KILL and only is None and rng.random() < 0.5:
        kinds.append(rng.choice(others))
    if kind in {Kind.DISK_FULL, Kind.STORE_LOCKED} and rng.random() < 0.5:
        kinds.append(Kind.KILL)  # while nothing can be written
    seconds = rng.uniform(0.8, 1.3)
    return Plan(
        seed=seed,
        kinds=tuple(kinds),
        seconds=seconds,
        strike=rng.uniform(0.1, 0.7) * seconds,
        lasts=rng.uniform(0.2, 0.6),
        repeats=rng.random() < 0.5,
    )


def draw_for_nodes(seed: int, only: Kind | None = None) -> Plan:
    """The round of a seed where several nodes share a Redis.

    Successive seeds go through all kinds of `AT_NODES` in turn; every second round has sick clients, too.

    Args:
        seed: Of the round.
        only: The one kind that is wanted.
    """
    rng = Random(f"{seed}/plan")  # noqa: S311 - no secret
    kinds = [only or AT_NODES[seed % len(AT_NODES)]]
    if only is None and rng.random() < 0.5:
        kinds.append(rng.choice(AT_CLIENTS))
    seconds = rng.uniform(1.5, 2.0)
    return Plan(
        seed=seed,
        kinds=tuple(kinds),
        seconds=seconds,
        strike=rng.uniform(0.3, 0.5) * seconds,
        lasts=rng.uniform(0.2, 0.6),
        repeats=rng.random() < 0.5,
        throughout=True,
    )


def toxic_of(kind: Kind, rng: Random) -> tuple[Toxic, StreamName, float] | None:
    """The toxic of a kind with its stream and toxicity; None for a kind that is none."""
    match kind:
        case Kind.LATENCY:
            latency = rng.choice((20, 100, 400))
            toxic: Toxic = Latency(latency, rng.choice((0, latency // 2)))
        case Kind.BANDWIDTH:
            toxic = Bandwidth(rng.choice((1, 5, 50)))
        case Kind.SLOW_CLOSE:
            toxic = SlowClose(rng.choice((50, 300, 1_000)))
        case Kind.TIMEOUT:
            toxic = Timeout(rng.choice((0, 50, 300)))
        case Kind.RESET_PEER:
            toxic = ResetPeer(rng.choice((0, 50, 300)))
        case Kind.SLICER:
            size = rng.choice((1, 3, 20))
            toxic = Slicer(size, rng.choice((0, size - 1)), rng.choice((0, 100)))
        case Kind.LIMIT_DATA:
            toxic = LimitData(rng.choice((10, 60, 300, 2_000)))
        case _:
            return None
    stream: StreamName = rng.choice(("upstream", "downstream"))
    return toxic, stream, rng.choice((0.3, 0.7, 1.0))
