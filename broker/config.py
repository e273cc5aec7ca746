"""The one validated model of all settings.

Every field has its default, bounds, unit and meaning here and nowhere else: the example file, the
help of `check-config` and the documentation are made from it. `config_layers` fills the model from
file, environment and flags.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from feedgen.channels import valid_filter

_DAY = 86_400.0
_MAX_FILTER_BYTES, _MAX_FILTER_LEVELS = 128, 8

Shift = Annotated[float, Field(ge=-30 * _DAY, le=30 * _DAY)]
Qos = Annotated[int, Field(ge=0, le=2)]
Priorities = tuple[Qos, Qos, Qos, Qos]


class _Section(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FeedSettings(_Section):
    """What devices may follow and how their feeds are delivered."""

    prefix: str = Field(
        default="",
        max_length=64,
        description="Stands before every topic: with 'site1/', items are published to "
        "'site1/items/…'. A missing final slash is added.",
    )
    default_follow: tuple[str, ...] = Field(
        default=("#",),
        max_length=32,
        description="Filters over channels that a new device follows until it says otherwise.",
    )
    permitted: tuple[str, ...] = Field(
        default=("#",),
        max_length=256,
        description="Filters over channels that a device may follow at all.",
    )
    attributes: tuple[str, ...] | None = Field(
        default=None,
        max_length=64,
        description="Names of attributes that a device may set on itself. Unset: any name.",
    )
    max_inflight: int = Field(
        default=4,
        ge=1,
        le=8,
        description="Unacknowledged frames per device; changes beyond wait as one net difference.",
    )
    qos_by_priority: Priorities = Field(
        default=(0, 1, 1, 1),
        description="QoS of a frame by the highest priority in it: low, normal, high, urgent. "
        "The subscription and the device can only lower it.",
    )
    away_after: float = Field(
        default=_DAY,
        ge=60,
        le=30 * _DAY,
        description="Seconds after which a disconnected device leaves the arrays; its window is "
        "computed again when it returns.",
    )
    hello_wait: float = Field(
        default=5.0,
        ge=0.1,
        le=60,
        description="Seconds that a resumed session may stay without SUBSCRIBE and hello before "
        "it is answered as holding nothing.",
    )
    hello_interval: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="Least seconds between two answered hellos of one device.",
    )
    stall_after: float = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="Seconds without acknowledgement after which a device counts as stalled.",
    )
    stall_close: float = Field(
        default=300.0,
        ge=2,
        le=_DAY,
        description="Seconds without acknowledgement after which the connection is closed, so "
        "that the device reconnects and resumes. Above stall_after.",
    )

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        if not value:
            return value
        if value.startswith(("$", "/")) or any(c in value for c in "+#\0"):
            raise ValueError("a prefix is plain topic levels, without '+', '#' or a leading '$'")
        return value if value.endswith("/") else value + "/"

    @field_validator("default_follow", "permitted")
    @classmethod
    def _check_filters(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            within = len(each.encode()) <= _MAX_FILTER_BYTES
            if not (within and each.count("/") < _MAX_FILTER_LEVELS and valid_filter(each)):
                raise ValueError(
                    f"{each!r} is no filter over channels: at most {_MAX_FILTER_LEVELS} levels and "
                    f"{_MAX_FILTER_BYTES} bytes, '+' and '#' only as whole levels, '#' last"
                )
        return value

    @field_validator("attributes")
    @classmethod
    def _check_attributes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if not 1 <= len(name.encode()) <= 64:
                raise ValueError(f"{name!r} is no attribute name: 1 to 64 bytes")
        return value

    @model_validator(mode="after")
    def _check_stall(self) -> Self:
        if self.stall_close <= self.stall_after:
            raise ValueError(
                f"stall_close ({self.stall_close:g}) must be above stall_after ({self.stall_after:g})"
            )
        return self


class LimitSettings(_Section):
    """What one client, and all together, may take of the server."""

    max_packet: int = Field(
        default=70_000,
        ge=2_304,
        le=1_048_576,
        description="Bytes of the largest MQTT packet accepted; a larger one closes the "
        "connection. Items of 64 KiB need 66000.",
    )
    max_connections: int = Field(
        default=50_000,
        ge=1,
        le=1_000_000,
        description="Connections at one time; further ones are closed at once.",
    )
    connect_timeout: float = Field(
        default=10.0,
        ge=0.1,
        le=300,
        description="Seconds that a new connection has for its CONNECT.",
    )
    write_buffer: int = Field(
        default=65_536,
        ge=4_096,
        le=16_777_216,
        description="Bytes of answers waiting in a connection above which a client that goes on "
        "asking without reading is closed. Frames never wait: what a full connection misses becomes "
        "one net difference.",
    )
    max_pending_items: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Items waiting for the store or the engine above which the server stops "
        "reading from publishers.",
    )


class RankingSettings(_Section):
    """How items are ordered before anything is learned."""

    tau: float = Field(
        default=21_600.0,
        ge=60,
        le=7 * _DAY,
        description="Seconds of age that outweigh a factor e in value: the larger, the longer a "
        "valuable item stands above newer ones.",
    )
    priority_offsets: tuple[Shift, Shift, Shift, Shift] = Field(
        default=(-21_600.0, 0.0, 43_200.0, 1_209_600.0),
        description="Seconds by which an item counts as newer, by priority: low, normal, high, "
        "urgent. Never falling.",
    )

    @field_validator("priority_offsets")
    @classmethod
    def _check_order(cls, value: tuple[float, float, float, float]) -> tuple[float, ...]:
        if list(value) != sorted(value):
            raise ValueError("a higher priority must not have a lower offset")
        return value


class HandoverSettings(_Section):
    """Clients that leave the feed's topics are served by amqtt on the same port."""

    enabled: bool = Field(
        default=True,
        description="Hand such clients over; when false, their connection is closed instead.",
    )
    sys_interval: int = Field(
        default=20,
        ge=0,
        le=3600,
        description="Seconds between two rounds of $SYS messages; 0 turns them off.",
    )


class Config(BaseSettings):
    """All settings of a server, frozen and valid.

    Constructing it reads neither file nor environment (tests and embedders get what they pass);
    `config_layers.load` does.
    """

    model_config = SettingsConfigDict(
        env_prefix="FLEETFEED_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
    )

    bind: str = Field(
        default="127.0.0.1:1883",
        description="Address and port of the MQTT listener; port 0 lets the system choose, "
        "0.0.0.0 means every interface, IPv6 goes in brackets.",
    )
    data: Path = Field(
        default=Path("fleetfeed-data"),
        description="Directory of everything that must survive: items, devices, credentials.",
    )
    open: bool | None = Field(
        default=None,
        description="Let unknown devices register themselves. Unset: only when bind is loopback.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What goes to the log on stderr."
    )
    loop: Literal["uvloop", "asyncio"] = Field(
        default="uvloop", description="The event loop; asyncio's own costs twice the CPU."
    )
    feed: FeedSettings = FeedSettings()
    limits: LimitSettings = LimitSettings()
    ranking: RankingSettings = RankingSettings()
    handover: HandoverSettings = HandoverSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the constructor's arguments alone; `config_layers` merges the rest."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @field_validator("bind")
    @classmethod
    def _check_bind(cls, value: str) -> str:
        host, port = _split_bind(value)
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ValueError("an address and a port are needed, like 127.0.0.1:1883 or [::1]:1883")
        return value

    @property
    def host(self) -> str:
        """The address to listen on, IPv6 without brackets."""
        return _split_bind(self.bind)[0]

    @property
    def port(self) -> int:
        """The port to listen on; 0 lets the system choose."""
        return int(_split_bind(self.bind)[1])

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def open_mode(self) -> bool:
        """Whether unknown devices register themselves: as set, else only on loopback."""
        return self.loopback if self.open is None else self.open


def _split_bind(value: str) -> tuple[str, str]:
    """Split into host and port; the host is empty where the form is wrong."""
    host, _, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    return ("" if ":" in host or re.search(r"\s", host) else host), port
