"""The settings of a server that shares its store with others."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

_SCHEMES = ("redis://", "rediss://", "redis+cluster://", "rediss+cluster://")
_SENTINEL = ("redis+sentinel://", "rediss+sentinel://")


class _Section(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreSettings(_Section):
    """Where items, devices and credentials are kept.

    Without a url they are in the data directory, for one server alone. Servers with the same url and
    prefix are nodes of one fleet.
    """

    url: str | None = Field(
        default=None,
        repr=False,
        description="A Redis that several servers share: 'redis://host:6379', 'rediss://…' with TLS, "
        "'redis+cluster://host:port,host:port', 'redis+sentinel://host:port,host:port/master'. "
        "With a password in it, keep it in the environment (FLEETFEED_STORE__URL), not in this file.",
    )
    prefix: str = Field(
        default="fleetfeed:",
        min_length=1,
        max_length=64,
        pattern=r"^[^{}]+$",
        description="Stands before every key, so that several fleets can share one Redis.",
    )
    wait_replicas: int = Field(
        default=0,
        ge=0,
        le=8,
        description="Replicas of Redis that must have a change before it is acknowledged. 1 with "
        "appendfsync = always is the durable setting; 0 loses what a failing master had not passed on.",
    )
    wait_timeout: float = Field(
        default=1.0,
        ge=0.05,
        le=60,
        description="Seconds after which a change that too few replicas have is offered again.",
    )

    timeout: float = Field(
        default=5.0,
        ge=0.1,
        le=60,
        description="Seconds without an answer after which the store counts as away.",
    )
    ca: Path | None = Field(
        default=None,
        description="With rediss://, file with the authorities to trust (PEM). Unset: those that this "
        "machine trusts.",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith((*_SCHEMES, *_SENTINEL)):
            raise ValueError(
                "no address of a store: it begins with redis://, rediss://, redis+cluster:// or "
                "redis+sentinel://"
            )
        return value

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts in the url, without ports."""
        # Not by urlsplit: several servers are no host of a URL, and some Pythons refuse them.
        netloc = re.split(r"[/?#]", (self.url or "").partition("://")[2])[0]
        servers = netloc.rpartition("@")[2].split(",")
        return tuple(re.sub(r":\d+$", "", each).strip("[]") for each in servers if each)

    @property
    def encrypted(self) -> bool:
        """Whether the connections to it are."""
        return self.url is not None and self.url.startswith("rediss")


def without_password(url: str) -> str:
    """An address as it may be shown: what stands before the host is left out."""
    return re.sub(r"//.*@", "//…@", url)


class ClusterSettings(_Section):
    """One of several servers that share a store."""

    node: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="This server's name among the others. Unset: the machine's name and a random part.",
    )
    handover_wait: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="Seconds that a node has to let go of a device that has come to another one. After "
        "them the device is served without its position, by a whole feed.",
    )
    drain_seconds: float = Field(
        default=10.0,
        ge=0,
        le=600,
        description="Seconds over which a stopping node closes its connections, so that the others are "
        "not met by all of them at once. A second signal ends it.",
    )
