"""The settings of a gateway beside an outside broker; where that broker is, the command line says."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GatewaySettings(BaseModel):
    """A gateway beside an outside broker, such as Mosquitto (fleetfeed gateway)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: str = Field(
        default="fleetfeed",
        pattern=r"^[A-Za-z0-9_-]{1,15}$",
        description="MQTT client id of the gateway; its connections have '-items', '-up' and a worker's "
        "name behind it. 1 to 15 letters, digits, '-' and '_'. The broker keeps their sessions by it: it "
        "is the same for all workers of a fleet, and must stay so.",
    )
    instance: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Names this gateway in feed/sys/<instance>/…. Unset: as client_id.",
    )
    ack_limit: float = Field(
        default=10.0,
        ge=0.1,
        le=3600,
        description="Seconds after which a frame that a device has not acknowledged counts as lost, and "
        "the device is answered from where it last said it is. Devices acknowledge within 1 s.",
    )
    ack_tries: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Such answers without an acknowledgement after which a device counts as asleep, "
        "until it says something.",
    )
    keep_alive: int = Field(
        default=30,
        ge=1,
        le=3600,
        description="Seconds after which the broker is asked whether it is there; without an answer for "
        "as long again, the gateway connects anew.",
    )
    max_waiting: int = Field(
        default=16_777_216,
        ge=65_536,
        le=1_073_741_824,
        description="Bytes of frames that the broker has not acknowledged; what changes meanwhile becomes "
        "one net difference for each device.",
    )
    sys_interval: int = Field(
        default=20,
        ge=0,
        le=3600,
        description="Seconds between two rounds of feed/sys/… messages; 0 turns them off.",
    )
