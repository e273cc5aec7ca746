"""A changed configuration taken in by a running server, whole or not at all.

What changed is compared setting by setting. One that cannot change while the server runs refuses the
whole reload, by name, and so does everything that is wrong with the new settings or with a file that they
name: all of it is tried before the first is taken over. Certificates, keys and the page's token are read
anew each time, as what is in a file changes without its name.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from broker.access.door import token_verifier
from broker.access.tls import server_context
from broker.config_cluster import without_password
from broker.config_http import HttpSettings
from broker.config_layers import InvalidConfig
from broker.config_overload import BudgetSettings, OverloadSettings
from broker.run import logs
from broker.web import opening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker.config import Config
    from broker.config_layers import Resolved
    from broker.gateway.gateway import Gateway
    from broker.server import Server

logger = logging.getLogger(__name__)

OF_THE_LOG = frozenset({"log_level", "log.format", "log.burst", "log.per_minute"})
"""What can change in whatever process logs."""

OF_THE_LOAD = frozenset(f"overload.{name}" for name in OverloadSettings.model_fields) | frozenset(
    f"budgets.{name}" for name in BudgetSettings.model_fields
)
"""What can change where a service runs, in a server as in a gateway."""

OF_THE_PAGE = frozenset(f"http.{name}" for name in HttpSettings.model_fields if name != "bind")
"""What can change at the port for operators; where it listens cannot."""

OF_A_SERVER = (
    OF_THE_LOG
    | OF_THE_LOAD
    | OF_THE_PAGE
    | {
        "limits.max_packet",
        "limits.max_connections",
        "limits.connect_timeout",
        "limits.write_buffer",
        "limits.session_expiry",
        "limits.max_sessions",
        "limits.max_pending_items",
        "feed.default_follow",
        "feed.permitted",
        "feed.attributes",
        "feed.away_after",
        "feed.hello_wait",
        "feed.hello_interval",
        "feed.stall_after",
        "feed.stall_close",
        "topics.read",
        "topics.write",
        "topics.max_subscriptions",
        "topics.max_inflight",
        "topics.max_queued",
        "topics.max_queued_bytes",
        "topics.sys_interval",
        "auth.login_failures",
        "auth.login_refill",
        "token.key",
        "token.algorithm",
        "token.issuer",
        "token.audience",
        "token.leeway",
        "tls.certificate",
        "tls.key",
        "tls.client_ca",
        "tls.client_certificate",
        "tls.minimum",
    }
)
"""What can change in a running server. All else shapes arrays, ports or the store, or was never made to."""


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that is not what it was; `str` never shows a password."""

    name: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.name} = {_shown(self.new)} (was {_shown(self.old)})"


class Target(Protocol):
    """What runs by a configuration.

    Attributes:
        changeable: Dotted names of the settings that it can take over while it runs.
    """

    changeable: frozenset[str]

    def prepare(self, config: Config) -> Callable[[], None]:
        """Try everything that may fail with these settings; what it returns takes them over.

        Raises:
            InvalidConfig: They cannot be used; nothing has changed.
        """


class LogTarget:
    """A process of which only the log can change."""

    changeable = OF_THE_LOG

    def prepare(self, config: Config) -> Callable[[], None]:
        """See `Target.prepare`."""
        return lambda: logs.configure(config)


class GatewayTarget:
    """A running gateway."""

    changeable = OF_THE_LOG | OF_THE_LOAD | OF_THE_PAGE

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def prepare(self, config: Config) -> Callable[[], None]:
        """See `Target.prepare`."""
        token = opening.require(config.http)

        def take_over() -> None:
            logs.configure(config)
            self._gateway.adopt(config)
            if self._gateway.web is not None:
                self._gateway.web.adopt(config.http, token)

        return take_over


class ServerTarget:
    """A running server.

    What a client may do is settled when it connects: other rights are those of the next connection.
    """

    changeable = OF_A_SERVER

    def __init__(self, server: Server) -> None:
        self._server = server

    def prepare(self, config: Config) -> Callable[[], None]:
        """See `Target.prepare`."""
        if bool(config.topics.sys_interval) != bool(self._server.config.topics.sys_interval):
            raise InvalidConfig(
                ("topics.sys_interval: only a restart turns $SYS on or off.",),
            )
        context = server_context(config.tls) if config.tls.bind is not None else None
        tokens = token_verifier(config)
        page_token = opening.require(config.http)
        server, feed = self._server, config.feed
        told_anew = config.topics.sys_interval != server.config.topics.sys_interval

        def take_over() -> None:
            logs.configure(config)
            server.config = config
            server.service.adopt(config)
            server.registry.permit(
                default_follow=feed.default_follow,
                permitted=feed.permitted,
                schema=None if feed.attributes is None else frozenset(feed.attributes),
            )
            server.door.adopt(config, tokens)
            server.exchange.adopt(config.topics)
            if told_anew:
                server.tell_every(config.topics.sys_interval)
            server.lane.limit(config.limits)
            if context is not None:
                server.lane.encrypt_by(context)
            if server.web is not None:
                server.web.adopt(config.http, page_token)

        return take_over


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a reload.

    Attributes:
        config: The settings from now on.
        changes: What changed; nothing if it was refused.
        problems: Why it was refused, one sentence each; () if it was not.
    """

    config: Config
    changes: tuple[Change, ...] = ()
    problems: tuple[str, ...] = ()


def reload(config: Config, found: Resolved, target: Target) -> Outcome:
    """Take over the settings that were found, in the place of `config`, or say why not."""
    if found.config is None:
        return Outcome(config, problems=found.problems)
    changes = differences(config, found.config)
    fixed = [each for each in changes if each.name not in target.changeable]
    if fixed:
        return Outcome(
            config, problems=tuple(f"{each} cannot change without a restart." for each in fixed)
        )
    try:
        take_over = target.prepare(found.config)
    except InvalidConfig as error:
        return Outcome(config, problems=error.problems)
    take_over()
    return Outcome(found.config, changes)


def differences(old: Config, new: Config) -> tuple[Change, ...]:
    """The settings that differ, in the order of the model."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return tuple(
        Change(name, before[name], value) for name, value in after.items() if value != before[name]
    )


class Reloader:
    """Reloads, again and again, and logs what came of it.

    Args:
        config: The settings that `target` runs by.
        read: Looks at file and environment again.
        target: What runs by them.
    """

    def __init__(self, config: Config, read: Callable[[], Resolved], target: Target) -> None:
        self._config = config
        self._read = read
        self._target = target

    def reload(self) -> Outcome:
        """Look at the settings again, and take over what changed."""
        outcome = reload(self._config, self._read(), self._target)
        for problem in outcome.problems:
            logger.error("the configuration is not reloaded, nothing has changed: %s", problem)
        if not outcome.problems:
            self._config = outcome.config
            changed = ", ".join(map(str, outcome.changes)) or "no setting changed"
            logger.info(
                "the configuration is reloaded: %s; certificates, keys and tokens are read", changed
            )
        return outcome


def _leaves(section: BaseModel, above: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield above + name, value


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    return without_password(value) if isinstance(value, str) else str(value)
