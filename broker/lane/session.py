"""What MQTT 3.1.1 keeps for a client between its connections (section 3.1.2.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.lane.connection import Connection
    from broker.lane.outbox import Outbox
    from broker.lane.retained import Answer


@dataclass(slots=True, eq=False)
class Session:
    """One client's session.

    Frames in flight are not here: the ledger keeps them per device.

    Attributes:
        key: Whose it is: the authenticated user, "" where nobody vouched for one, and the client id.
        clean: Whether the session ends with its connection.
        connection: The live connection, if there is one.
        received: Packet ids of QoS 2 publishes that were received and not yet released.
        releasing: Packet ids of QoS 2 frames for which PUBREL was sent and PUBCOMP is awaited.
        filters: Its subscriptions to other topics than the feed's, with the granted QoS.
        answers: What is retained for new subscriptions and still to be sent, by filter.
        outbox: What it is to be sent of those; None as long as it never subscribed to any.
        ended_at: When the last connection ended, by the lane's clock.
    """

    key: tuple[str, str]
    clean: bool
    connection: Connection | None = None
    received: set[int] = field(default_factory=set)
    releasing: dict[int, None] = field(default_factory=dict)
    filters: dict[str, int] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    outbox: Outbox | None = None
    ended_at: float = 0.0

    @property
    def holds_state(self) -> bool:
        """Whether there is something that would be lost with it, beside its feed."""
        mail = self.outbox is not None and (self.filters or len(self.outbox))
        return bool(mail or self.received or self.releasing)

    @property
    def name(self) -> str:
        """The user or, where nobody authenticated, the client id that it belongs to."""
        user, client_id = self.key
        return user or client_id
