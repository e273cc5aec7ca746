"""The commands of a running server: those on profiles, and what only it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker.admin import arguments, items, ranking
from broker.admin.devices import Devices
from broker.admin.fleet import Fleet
from broker.admin.users import Users
from broker.control import ControlError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.admin.arguments import Handler
    from broker.admin.devices import Keeper
    from broker.server import Server
    from devices.registry import Registry

_MAX_WINDOWS = 2_000


def commands(registry: Registry, key: bytes, keeper: Keeper) -> dict[str, Handler]:
    """The commands on profiles, by name, wherever these are kept."""
    devices = Devices(registry, key, keeper)
    users = Users(registry, key, keeper, devices)
    return {
        **devices.commands(),
        **users.commands(),
        **Fleet(registry, key, keeper).commands(),
    }


def handlers(server: Server, key: bytes) -> Mapping[str, Handler]:
    """The commands of a running server."""
    service, node = server.service, server.node
    profiles = commands(server.registry, key, service)
    if node is not None:
        profiles = node.commands(profiles)

    async def show(args: dict[str, Any]) -> dict[str, Any]:
        found = await profiles["device.show"](args)
        live = {**found, **service.describe(found["device"])}
        return live if node is None else {**live, "held_by": await node.holder(found["device"])}

    async def status(_args: dict[str, Any]) -> dict[str, Any]:
        listening = [{"host": host, "port": port} for host, port in server.addresses]
        if server.config.tls.bind is not None:
            listening[-1]["tls"] = True
        status = {"listening": listening, **service.status()}
        if node is None:
            return status
        return {**status, "store": status["store"] | node.store_status(), "cluster": node.status()}

    async def windows(args: dict[str, Any]) -> dict[str, Any]:
        asked = arguments.texts(args, "devices")
        if len(asked) > _MAX_WINDOWS:
            raise ControlError(f"'devices' must be a list of at most {_MAX_WINDOWS} ids")
        return {device: service.window(device) for device in asked}

    return {
        **profiles,
        "device.show": show,
        "status": status,
        "windows": windows,
        **ranking.commands(server),
        **items.commands(server),
    }
