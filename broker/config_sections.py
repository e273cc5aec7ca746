"""The settings, section by section: each with its default, bounds, unit and meaning.

`config.Config` puts them together; everybody else takes them from there.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from feedgen.channels import valid_filter

_DAY = 86_400.0
_MAX_FILTER_BYTES, _MAX_FILTER_LEVELS = 128, 8
_MAX_ATTRIBUTE = 64

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
            if not 1 <= len(name.encode()) <= _MAX_ATTRIBUTE:
                raise ValueError(f"{name!r} is no attribute name: 1 to {_MAX_ATTRIBUTE} bytes")
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
    session_expiry: float = Field(
        default=7 * _DAY,
        ge=1,
        le=365 * _DAY,
        description="Seconds that a persistent session outlives its connection.",
    )
    max_sessions: int = Field(
        default=100_000,
        ge=0,
        le=10_000_000,
        description="Persistent sessions without a connection; when there are more, the oldest end.",
    )
    max_pending_items: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Items waiting for the store or the engine above which the server stops "
        "reading from publishers.",
    )


class TlsSettings(_Section):
    """The encrypted port, and the certificates that clients may name themselves by."""

    bind: str | None = Field(
        default=None,
        description="Address and port of the encrypted listener, 8883 by custom. Unset: none.",
    )
    certificate: Path | None = Field(
        default=None,
        description="File with the server's certificate and those that lead to its authority (PEM).",
    )
    key: Path | None = Field(
        default=None, description="File with the certificate's private key (PEM)."
    )
    client_ca: Path | None = Field(
        default=None,
        description="File with the authorities that issue the clients' certificates (PEM).",
    )
    client_certificate: Literal["none", "optional", "required"] = Field(
        default="none",
        description="Whether clients are asked for a certificate. Its name is then the user name: "
        "the first DNS name or URI of it, else its common name.",
    )
    minimum: Literal["1.2", "1.3"] = Field(
        default="1.2", description="The oldest version of TLS that is spoken."
    )

    @field_validator("bind")
    @classmethod
    def _check_bind(cls, value: str | None) -> str | None:
        return value if value is None else checked_bind(value)

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        if self.bind is not None and (self.certificate is None or self.key is None):
            raise ValueError("an encrypted port (bind) needs certificate and key")
        if self.client_certificate != "none" and self.client_ca is None:
            raise ValueError(
                f"client_certificate = {self.client_certificate!r} needs client_ca, to tell whose "
                "certificates count"
            )
        return self

    @property
    def host(self) -> str:
        """The address to listen on, IPv6 without brackets; "" if there is no such port."""
        return "" if self.bind is None else split_bind(self.bind)[0]

    @property
    def port(self) -> int:
        """The port to listen on; 0 lets the system choose."""
        return 0 if self.bind is None else int(split_bind(self.bind)[1])


class AuthSettings(_Section):
    """How many wrong logins an address has, and what checking them may cost."""

    login_failures: int = Field(
        default=20,
        ge=0,
        le=1_000_000,
        description="Failed logins of one address (an IPv6 network of /64 is one) after which its "
        "passwords and tokens are refused unchecked for a while. 0 turns the limit off.",
    )
    login_refill: float = Field(
        default=10.0,
        ge=0.1,
        le=1_000_000,
        description="Failed logins per minute that an address gets back.",
    )
    password_workers: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Threads that check passwords; each check takes tens of milliseconds and 64 MiB.",
    )
    password_queue: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Passwords waiting for a check above which further logins are refused for now.",
    )


class TokenSettings(_Section):
    """Signed tokens (JWT) that clients may send in the place of a password."""

    key: Path | None = Field(
        default=None,
        description="File with the public key (PEM) that tokens are checked with; with HS256 the "
        "shared secret, of which a final line break is no part. Unset: no tokens.",
    )
    algorithm: Literal["EdDSA", "ES256", "RS256", "HS256"] | None = Field(
        default=None,
        description="The one algorithm that tokens are signed with: EdDSA, ES256, RS256 or HS256. "
        "Needed with a key.",
    )
    issuer: str | None = Field(
        default=None, min_length=1, description="What a token's iss must be. Unset: anything."
    )
    audience: str | None = Field(
        default=None, min_length=1, description="What a token's aud must hold. Unset: anything."
    )
    leeway: float = Field(
        default=30.0,
        ge=0,
        le=600,
        description="Seconds by which the clock of the issuer may differ from the server's.",
    )

    @model_validator(mode="after")
    def _check_algorithm(self) -> Self:
        if self.key is not None and self.algorithm is None:
            raise ValueError("tokens (key) need algorithm: the one that they are signed with")
        return self


class RankingSettings(_Section):
    """How items are ordered, and what the order is learned from."""

    model: Literal["learned", "popularity", "newest"] = Field(
        default="learned",
        description="What ranks: 'learned' predicts what each device opens, and falls back by itself "
        "where it predicts badly; 'popularity' is the same for every device; 'newest' knows age and "
        "priority alone. The last two learn nothing.",
    )
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
    worth_open: float = Field(
        default=1.0, ge=0.01, le=100, description="What an opening is worth to the learned ranking."
    )
    worth_dismiss: float = Field(
        default=1.0, ge=0, le=100, description="What a dismissal costs, on the same scale."
    )
    worth_dwell: float = Field(
        default=0.25,
        ge=0,
        le=100,
        description="What it is worth, on the same scale, that an item is looked at for dwell_seconds.",
    )
    dwell_seconds: float = Field(
        default=10.0, ge=1, le=3600, description="How long an item must be looked at for that."
    )
    window: float = Field(
        default=600.0,
        ge=1,
        le=_DAY,
        description="Seconds from the moment an item is shown in which it may be opened; what is not "
        "opened by then was not wanted.",
    )
    refresh: float = Field(
        default=5.0,
        ge=0.2,
        le=3600,
        description="Seconds after which what was learned is ranked by; each time costs tens of "
        "milliseconds.",
    )
    explore: float = Field(
        default=0.3,
        ge=0,
        le=4,
        description="How much of what the ranking does not know yet it tries out: 1 as much as it is "
        "in doubt, 0 nothing.",
    )
    holdout: float = Field(
        default=0.01,
        ge=0,
        le=0.5,
        description="Share of devices that stay on newest first for good, to measure against what the "
        "ranking is worth.",
    )
    fields: tuple[str, ...] = Field(
        default=("class", "model", "region"),
        max_length=8,
        description="Attributes of devices that the ranking learns from.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2**32 - 1,
        description="What exploration and the choice of the devices on newest first depend on. Unset: "
        "a number of the data directory's own.",
    )
    decisions: bool = Field(
        default=True,
        description="Write what the learned ranking decides, and what comes of it, to a log in the "
        "data directory, for estimates and explanations.",
    )
    decisions_max_bytes: int = Field(
        default=268_435_456,
        ge=33_554_432,
        le=1_000_000_000_000,
        description="Bytes of that log; its oldest files are deleted beyond.",
    )

    @field_validator("fields")
    @classmethod
    def _check_fields(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not 1 <= len(name.encode()) <= _MAX_ATTRIBUTE:
                raise ValueError(f"{name!r} is no attribute name: 1 to {_MAX_ATTRIBUTE} bytes")
            if value.count(name) > 1:
                raise ValueError(f"{name!r} is there twice")
        return value

    @field_validator("priority_offsets")
    @classmethod
    def _check_order(cls, value: tuple[float, float, float, float]) -> tuple[float, ...]:
        if list(value) != sorted(value):
            raise ValueError("a higher priority must not have a lower offset")
        return value


class TopicSettings(_Section):
    """Topics beside the feed, which any MQTT client may use on the same port."""

    enabled: bool = Field(
        default=True,
        description="Serve them; when false, subscriptions to them are refused and what is "
        "published there is dropped and counted.",
    )
    read: tuple[str, ...] | None = Field(
        default=None,
        max_length=256,
        description="Filters over other topics that every client may subscribe to. Unset: '#' with "
        "open registration, nothing otherwise.",
    )
    write: tuple[str, ...] | None = Field(
        default=None,
        max_length=256,
        description="Filters over other topics that every client may publish to. Unset: '#' with "
        "open registration, nothing otherwise.",
    )
    refused: tuple[str, ...] = Field(
        default=(),
        max_length=256,
        description="Filters over other topics that are closed to everybody, whatever else allows "
        "them.",
    )
    max_subscriptions: int = Field(
        default=100, ge=1, le=10_000, description="Subscriptions of one client."
    )
    max_inflight: int = Field(
        default=20,
        ge=1,
        le=1_000,
        description="Unacknowledged messages on the way to one client; further ones wait.",
    )
    max_queued: int = Field(
        default=1_000,
        ge=1,
        le=1_000_000,
        description="Messages that wait for one client, connected or not; further ones are dropped "
        "and counted.",
    )
    max_queued_bytes: int = Field(
        default=1_048_576,
        ge=1_024,
        le=1_073_741_824,
        description="Bytes of the messages that wait for one client.",
    )
    max_retained: int = Field(
        default=10_000,
        ge=0,
        le=10_000_000,
        description="Retained messages; further topics are not retained, and counted.",
    )
    max_retained_bytes: int = Field(
        default=67_108_864,
        ge=0,
        le=4_294_967_296,
        description="Bytes of all retained messages together.",
    )
    sys_interval: int = Field(
        default=20,
        ge=0,
        le=3600,
        description="Seconds between two rounds of $SYS messages; 0 turns them off.",
    )

    @field_validator("read", "write", "refused")
    @classmethod
    def _check_filters(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for each in value or ():
            if not valid_filter(each):
                raise ValueError(
                    f"{each!r} is no topic filter: '+' and '#' only as whole levels, '#' last"
                )
        return value


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, a name or an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_bind(value: str) -> str:
    """Return `value` if it is an address and a port.

    Raises:
        ValueError: It is not.
    """
    host, port = split_bind(value)
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("an address and a port are needed, like 127.0.0.1:1883 or [::1]:1883")
    return value


def split_bind(value: str) -> tuple[str, str]:
    """Split into host and port; the host is empty where the form is wrong."""
    host, _, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    return ("" if ":" in host or re.search(r"\s", host) else host), port
