"""The service of a gateway: the same data path, with what is different beside an outside broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.gateway.gateway_sending import GatewaySending
from broker.service import Service
from devices.ledger_outside import OutsideLedger

if TYPE_CHECKING:
    from broker.gateway.presence import Presence
    from broker.lane.connection import Connection


class GatewayService(Service):
    """`Service` for devices that are connected to another broker; arguments as there."""

    ledger = OutsideLedger
    sender = GatewaySending
    sending: GatewaySending
    presence: Presence

    def _count_talker(self, connection: Connection, size: int) -> None:
        """Nothing follows: what all devices say comes on one connection, which is read all the time."""
