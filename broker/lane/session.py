"""What MQTT 3.1.1 keeps for a client between its connections (section 3.1.2.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.lane.connection import Connection


@dataclass(slots=True, eq=False)
class Session:
    """One client's session.

    Frames in flight are not here: the ledger keeps them per device.

    Attributes:
        client_id: The client.
        clean: Whether the session ends with its connection.
        connection: The live connection, if there is one.
        received: Packet ids of QoS 2 publishes that were received and not yet released.
        releasing: Packet ids of QoS 2 frames for which PUBREL was sent and PUBCOMP is awaited.
        ended_at: When the last connection ended, by the lane's clock.
    """

    client_id: str
    clean: bool
    connection: Connection | None = None
    received: set[int] = field(default_factory=set)
    releasing: dict[int, None] = field(default_factory=dict)
    ended_at: float = 0.0
