"""Whether a server can do its work now, and if not, why and what to do.

Alive is whoever answers at all: the event loop turns. Ready is who takes items and clients. What is not
ready is left alone by a load balancer; it need not be started anew, which would mostly cure nothing.
Overload is no reason: it sees to itself, and a server that is taken away hands its load to the next one, until
none is left.

The reasons are told to everybody who reaches the port, so they name no path, host or device.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.web.subject import Subject

SLOW_LOOP = 2.0
"""Seconds by which a timer of the event loop may be late."""

OLD_ITEM = 60.0
"""Seconds after which an item that was taken in should be in every window."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a server is not ready.

    Attributes:
        reason: One word, for programs.
        detail: What is the matter, one sentence.
        do: What an operator can do, one sentence.
    """

    reason: str
    detail: str
    do: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What readiness depends on, at one moment.

    Attributes:
        stopping: Whether the server has begun to end.
        store_up: Whether the last attempt to commit succeeded.
        shared: Whether several servers share that store.
        member: Whether the others, if there are any, know this server.
        uplink_up: Whether the broker that devices are connected to is there; None if they are connected
            to this server.
        loop_lag: Seconds by which the last look at the event loop was late.
        oldest_item: Seconds that the oldest item has been on its way to windows.
    """

    stopping: bool = False
    store_up: bool = True
    shared: bool = False
    member: bool = True
    uplink_up: bool | None = None
    loop_lag: float = 0.0
    oldest_item: float = 0.0


def look(subject: Subject) -> Situation:
    """The present situation of a server."""
    service, node, uplink = subject.service, subject.node, subject.uplink
    overload = service.overload
    return Situation(
        stopping=subject.stopping(),
        store_up=service.store.up,
        shared=node is not None,
        member=node is None or node.name in node.alive,
        uplink_up=None if uplink is None else uplink.up,
        loop_lag=overload.delays.loop_lag,
        oldest_item=overload.delays.oldest_item,
    )


def judge(now: Situation) -> tuple[Reason, ...]:
    """Why a server is not ready; () if it is."""
    return tuple(_reasons(now))


def reasons(subject: Subject) -> tuple[Reason, ...]:
    """Why this server is not ready now; () if it is."""
    return judge(look(subject))


def as_json(found: tuple[Reason, ...]) -> dict[str, Any]:
    """What `/readyz` answers."""
    return {"ready": not found, "reasons": [asdict(each) for each in found]}


def _reasons(now: Situation) -> Iterator[Reason]:
    if now.stopping:
        yield Reason(
            "stopping",
            "the server is ending, and lets its clients go",
            "Nothing: clients find another server, or this one when it is back.",
        )
    if not now.store_up:
        what = "Redis" if now.shared else "the disk of the data directory"
        yield Reason(
            "store_down",
            "the store cannot be written: publishers get no acknowledgement, feeds go on",
            f"See whether {what} is there and has room; the server's log says what failed.",
        )
    if not now.member:
        yield Reason(
            "not_joined",
            "the other servers do not know this one",
            "See whether Redis can be reached from here; it joins again by itself.",
        )
    if now.uplink_up is False:
        yield Reason(
            "broker_away",
            "there is no connection to the broker that devices are at",
            "See whether that broker runs and lets the gateway in; it connects again by itself.",
        )
    if now.loop_lag > SLOW_LOOP:
        yield Reason(
            "loop_stalled",
            f"the event loop was {now.loop_lag:.1f} s late",
            "See what else takes CPU or memory on this machine; give it more of it.",
        )
    if now.oldest_item > OLD_ITEM:
        yield Reason(
            "engine_behind",
            f"an item has been on its way for {now.oldest_item:.0f} s",
            "See how many items come and how many devices follow them (fleetfeed plan says what one server takes).",
        )
