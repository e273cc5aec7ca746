"""What a server has around it: other servers on the same store, and the broker that a gateway stands beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from broker.cluster.node import Node
    from broker.gateway.ingest import Ingest
    from broker.gateway.uplink import Uplink
    from broker.ranked_windows import RankedWindows

    Numbers = dict[str, dict[str, float]]

_MOVES = ("claimed", "unclean", "released", "lost")


class Links(Protocol):
    """What of a gateway is looked at."""

    @property
    def frames(self) -> Uplink:
        """Carries frames to the broker."""

    @property
    def ingest(self) -> Ingest:
        """Brings what publishers and devices say."""


def cluster(node: Node, learning: RankedWindows | None) -> Numbers:
    """The figures of one server among others; looks at each device that is held."""
    directory = node.directory
    return {
        "fleetfeed_cluster_members": {"": len(node.alive)},
        "fleetfeed_cluster_devices": {"": directory.held},
        "fleetfeed_cluster_handovers_total": {move: directory.moves[move] for move in _MOVES},
        "fleetfeed_cluster_trainer": {"": int(getattr(learning, "trainer", None) is not None)},
    }


def uplinks(links: Links) -> Numbers:
    """The figures of the connections to an outside broker.

    Of several gateways one reads; where another does, the connections that would bring something are
    not down but not wanted, and have no number.
    """
    ingest, window = links.ingest, links.frames.window
    there = {"frames": links.frames, "items": ingest.items, "ups": ingest.ups}
    return {
        "fleetfeed_uplink_up": {
            name: int(uplink.up) for name, uplink in there.items() if uplink is not None
        },
        "fleetfeed_uplink_unacknowledged": {"": window.unacknowledged},
        "fleetfeed_uplink_waiting_bytes": {"": window.waiting},
        "fleetfeed_uplink_items_paused": {"": int(ingest.paused)},
    }
