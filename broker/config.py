"""The one validated model of all settings.

Every field has its default, bounds, unit and meaning here and nowhere else: the example file, the
help of `check-config` and the documentation are made from it. `config_layers` fills the model from
file, environment and flags.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from broker.config_cluster import ClusterSettings, StoreSettings
from broker.config_gateway import GatewaySettings
from broker.config_http import OFF, HttpSettings
from broker.config_log import LogSettings
from broker.config_overload import BudgetSettings, OverloadSettings
from broker.config_sections import (
    AuthSettings,
    FeedSettings,
    LimitSettings,
    RankingSettings,
    TlsSettings,
    TokenSettings,
    TopicSettings,
    checked_bind,
    is_loopback,
    split_bind,
)
from devices.topics import futility

__all__ = [
    "OFF",
    "AuthSettings",
    "BudgetSettings",
    "ClusterSettings",
    "Config",
    "FeedSettings",
    "GatewaySettings",
    "HttpSettings",
    "LimitSettings",
    "LogSettings",
    "OverloadSettings",
    "RankingSettings",
    "StoreSettings",
    "TlsSettings",
    "TokenSettings",
    "TopicSettings",
    "is_loopback",
]


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
        "0.0.0.0 means every interface, IPv6 goes in brackets. 'off' for the encrypted port alone.",
    )
    data: Path = Field(
        default=Path("fleetfeed-data"),
        description="Directory of everything that must survive: items, devices, credentials.",
    )
    open: bool | None = Field(
        default=None,
        description="Let unknown devices register themselves. Unset: only when bind and tls.bind are "
        "loopback.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What goes to the log on stderr."
    )
    loop: Literal["uvloop", "asyncio"] = Field(
        default="uvloop", description="The event loop; asyncio's own costs twice the CPU."
    )
    feed: FeedSettings = FeedSettings()
    limits: LimitSettings = LimitSettings()
    overload: OverloadSettings = OverloadSettings()
    budgets: BudgetSettings = BudgetSettings()
    ranking: RankingSettings = RankingSettings()
    topics: TopicSettings = TopicSettings()
    tls: TlsSettings = TlsSettings()
    auth: AuthSettings = AuthSettings()
    token: TokenSettings = TokenSettings()
    store: StoreSettings = StoreSettings()
    cluster: ClusterSettings = ClusterSettings()
    gateway: GatewaySettings = GatewaySettings()
    log: LogSettings = LogSettings()
    http: HttpSettings = HttpSettings()

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
        return value if value == OFF else checked_bind(value)

    @model_validator(mode="after")
    def _check_ports(self) -> Self:
        if self.bind == OFF and self.tls.bind is None:
            raise ValueError("with bind = 'off', tls.bind is needed: there would be no port at all")
        return self

    @model_validator(mode="after")
    def _check_topics(self) -> Self:
        for name, filters in (("read", self.topics.read), ("write", self.topics.write)):
            for each in filters or ():
                reason = futility(each, self.feed.prefix)
                if reason is not None:
                    raise ValueError(f"{each!r} in topics.{name} would give nothing: {reason}")
        return self

    @property
    def plain(self) -> bool:
        """Whether there is a port without encryption."""
        return self.bind != OFF

    @property
    def host(self) -> str:
        """The address to listen on without encryption, IPv6 without brackets; "" if not `plain`."""
        return split_bind(self.bind)[0] if self.plain else ""

    @property
    def port(self) -> int:
        """The port to listen on without encryption; 0 lets the system choose."""
        return int(split_bind(self.bind)[1]) if self.plain else 0

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return all(is_loopback(host) for host in (self.host, self.tls.host) if host)

    @property
    def open_mode(self) -> bool:
        """Whether unknown devices register themselves: as set, else only on plain loopback."""
        if self.open is None:
            return self.plain and self.loopback
        return self.open
