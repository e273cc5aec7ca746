"""The settings of the port for operators: metrics, health, the live page."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from broker.config_sections import checked_bind, is_loopback, split_bind

OFF = "off"
"""In the place of an address: no such port."""


class HttpSettings(BaseModel):
    """Metrics, health and the live page over HTTP, for operators; needs the extra 'web'."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bind: str = Field(
        default=OFF,
        description="Address and port of metrics, health and the live page; port 0 lets the system "
        "choose. 'off' for none. It is not encrypted: for a network, put a proxy in front of it.",
    )
    token_file: Path | None = Field(
        default=None,
        description="File with the token that opens it, on its first line, of 16 characters at least. "
        "Needed unless bind is loopback; health is told to everybody.",
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Names, without a port, under which browsers reach it, beside the address itself and "
        "localhost; others are refused, so that no foreign page can talk to it.",
    )
    send: bool | None = Field(
        default=None,
        description="Let the page publish items. Unset: only where registration is open and bind is "
        "loopback.",
    )
    refresh: float = Field(
        default=1.0,
        ge=0.2,
        le=60,
        description="Seconds between two looks that the live page is shown.",
    )

    @field_validator("bind")
    @classmethod
    def _check_bind(cls, value: str) -> str:
        return value if value == OFF else checked_bind(value)

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if not each or any(c in each for c in ":/*@ "):
                raise ValueError(f"{each!r} is no plain host name: give it without scheme and port")
        return tuple(each.lower() for each in value)

    @model_validator(mode="after")
    def _check_token(self) -> Self:
        if not self.loopback and self.token_file is None:
            raise ValueError(
                f"with bind = {self.bind!r} others than this machine reach the port: token_file is needed"
            )
        return self

    @property
    def enabled(self) -> bool:
        """Whether there is such a port."""
        return self.bind != OFF

    @property
    def host(self) -> str:
        """The address to listen on, IPv6 without brackets; "" without a port."""
        return split_bind(self.bind)[0] if self.enabled else ""

    @property
    def port(self) -> int:
        """The port to listen on; 0 lets the system choose."""
        return int(split_bind(self.bind)[1]) if self.enabled else 0

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return not self.enabled or is_loopback(self.host)
