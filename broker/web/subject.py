"""What the port for operators looks at: one running server or gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from broker.control import ControlError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.admin.arguments import Handler
    from broker.cluster.node import Node
    from broker.config import Config
    from broker.figures.reading import Figures
    from broker.gateway.gateway import Gateway
    from broker.gateway.uplink import Uplink
    from broker.gateway.worker import Worker
    from broker.lane.exchange import Exchange
    from broker.server import Server
    from broker.service import Service
    from devices.registry import Registry


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What pages and probes are made of.

    Attributes:
        service: The data path.
        figures: What is measured.
        registry: The devices.
        commands: What the control socket answers, by name.
        node: This server among those that share its store; None if it is alone.
        exchange: Topics that are not the feed's; None where devices are connected to another broker.
        uplink: The connection to that broker; None where there is none.
        stopping: Whether it has begun to end.
    """

    service: Service
    figures: Figures
    registry: Registry
    commands: Mapping[str, Handler]
    node: Node | Worker | None = None
    exchange: Exchange | None = None
    uplink: Uplink | None = None
    stopping: Callable[[], bool] = lambda: False

    @classmethod
    def of_server(cls, server: Server, commands: Mapping[str, Handler]) -> Subject:
        """A server that has started."""
        return cls(
            service=server.service,
            figures=server.figures,
            registry=server.registry,
            commands=commands,
            node=server.node,
            exchange=server.exchange,
            stopping=lambda: server.stopping,
        )

    @classmethod
    def of_gateway(cls, gateway: Gateway, commands: Mapping[str, Handler]) -> Subject:
        """A gateway; it may still be waiting for its broker."""
        return cls(
            service=gateway.service,
            figures=gateway.figures,
            registry=gateway.registry,
            commands=commands,
            node=gateway.node,
            uplink=gateway.frames,
            stopping=lambda: gateway.stopping,
        )

    @property
    def config(self) -> Config:
        """The settings, as they are now."""
        return self.service.config

    @property
    def may_send(self) -> bool:
        """Whether the page may publish items."""
        config = self.config
        if config.http.send is None:
            return config.open_mode and config.http.loopback
        return config.http.send

    async def ask(self, do: str, **args: Any) -> Any:
        """What the control socket would answer.

        Args:
            do: The command.
            **args: Its arguments.

        Raises:
            ControlError: It is refused, in a sentence made for the operator.
        """
        handler = self.commands.get(do)
        if handler is None:
            raise ControlError(f"this server knows no command {do!r}")
        return await handler(args)
