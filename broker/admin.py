"""What the command line asks of a server: devices, their windows, the counts.

The same commands work on a running server, through its control socket, and on its data directory while
no server runs. The first change what is live as well as what is stored; the second only the store.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from broker.control import ControlError
from devices.registry import hash_secret, new_secret
from feedgen.store.base import DropDevice, PutDevice
from feedgen.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from broker.config import Config
    from broker.server import Server
    from devices.profile import Profile
    from devices.registry import Registry

    Handler = Callable[[dict[str, Any]], Awaitable[Any]]

_MAX_LISTED = 10_000
_MAX_WINDOWS = 2_000


class Keeper(Protocol):
    """Who makes changes of profiles hold."""

    async def changed(self, profile: Profile) -> None:
        """Stores a profile and lets it take effect; returns when it is durable."""

    async def removed(self, profile: Profile) -> None:
        """The same for a profile that is in the registry no more."""


class Devices:
    """The commands on devices, wherever they are kept."""

    def __init__(self, registry: Registry, key: bytes, keeper: Keeper) -> None:
        self._registry = registry
        self._key = key
        self._keeper = keeper

    def commands(self) -> dict[str, Handler]:
        """The commands by name."""
        return {
            "device.add": self.add,
            "device.show": self.show,
            "device.list": self.list,
            "device.follow": self.follow,
            "device.remove": self.remove,
        }

    async def add(self, args: dict[str, Any]) -> dict[str, Any]:
        """Adds a device; its secret is in the answer and nowhere else."""
        device = _text(args, "device")
        secret = new_secret() if args.get("secret", True) else None
        try:
            profile = self._registry.add(
                device,
                follow=None if args.get("follow") is None else _texts(args, "follow"),
                operator_attrs=_attributes(args),
                secret_hash=hash_secret(secret, device, self._key) if secret else None,
                publish=bool(args.get("publish")),
            )
        except (ValueError, TypeError) as error:
            raise ControlError(str(error)) from error
        await self._keeper.changed(profile)
        return {"device": device, "secret": secret}

    async def show(self, args: dict[str, Any]) -> dict[str, Any]:
        """What is known of a device."""
        return describe(self._profile(args))

    async def list(self, args: dict[str, Any]) -> dict[str, Any]:
        """Device ids in order, a page at a time."""
        after = str(args.get("after") or "")
        limit = args.get("limit") or _MAX_LISTED
        if not isinstance(limit, int) or limit < 1:
            raise ControlError("'limit' must be a whole number above 0")
        limit = min(limit, _MAX_LISTED)
        ids = sorted(profile.device for profile in self._registry if profile.device > after)
        return {"devices": ids[:limit], "more": len(ids) > limit}

    async def follow(self, args: dict[str, Any]) -> dict[str, Any]:
        """Changes what a device follows, in the operator's name."""
        profile = self._profile(args)
        unfollow = _texts(args, "unfollow")
        kept = [name for name in profile.follow if name not in unfollow]
        wanted = tuple(dict.fromkeys((*kept, *_texts(args, "follow"))))
        try:
            self._registry.set_follow(profile, wanted)
        except (ValueError, TypeError) as error:
            raise ControlError(str(error)) from error
        await self._keeper.changed(profile)
        return describe(profile)

    async def remove(self, args: dict[str, Any]) -> dict[str, Any]:
        """Removes a device and everything that is stored of it."""
        profile = self._profile(args)
        self._registry.remove(profile.device)
        await self._keeper.removed(profile)
        return {"device": profile.device}

    def _profile(self, args: dict[str, Any]) -> Profile:
        device = _text(args, "device")
        profile = self._registry.get(device)
        if profile is None:
            raise ControlError(f"there is no device {device!r}; 'fleetfeed device list' shows all")
        return profile


def describe(profile: Profile) -> dict[str, Any]:
    """A profile for people: everything but secrets."""
    return {
        "device": profile.device,
        "follow": list(profile.follow),
        "attributes": dict(profile.effective_attrs()),
        "k": profile.k,
        "budget": profile.budget,
        "max_qos": profile.max_qos,
        "agent": profile.agent,
        "clock": profile.clock,
        "has_secret": profile.secret_hash is not None,
        "may_publish": profile.publish,
        "added_by": "operator" if profile.operator else "itself",
        "epoch": profile.epoch,
        "persistent_subscription_qos": profile.subscribed,
    }


def handlers(server: Server, key: bytes) -> Mapping[str, Handler]:
    """The commands of a running server."""
    service = server.service
    devices = Devices(server.registry, key, service)

    async def show(args: dict[str, Any]) -> dict[str, Any]:
        found = await devices.show(args)
        return {**found, **service.describe(found["device"])}

    async def status(_args: dict[str, Any]) -> dict[str, Any]:
        host, port = server.address
        return {"host": host, "port": port, **service.status()}

    async def windows(args: dict[str, Any]) -> dict[str, Any]:
        asked = _texts(args, "devices")
        if len(asked) > _MAX_WINDOWS:
            raise ControlError(f"'devices' must be a list of at most {_MAX_WINDOWS} ids")
        return {device: service.window(device) for device in asked}

    return {**devices.commands(), "device.show": show, "status": status, "windows": windows}


class Offline:
    """The device commands on a data directory that no server uses."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def call(self, do: str, **args: Any) -> Any:
        """Carries out one command.

        Raises:
            ControlError: It was refused, or needs a running server.
            StoreError: The data directory cannot be used.
        """
        return asyncio.run(self._call(do, args))

    async def _call(self, do: str, args: dict[str, Any]) -> Any:
        from broker.server import load_registry  # noqa: PLC0415 (it imports this module)

        store = SqliteStore(self._config.data)
        loaded = store.open()
        try:
            registry, _ = load_registry(self._config, loaded.devices, clean=True)
            devices = Devices(registry, loaded.key, _StoreKeeper(store))
            command = devices.commands().get(do)
            if command is None:
                raise ControlError(f"{do!r} needs a running server on {self._config.data}")
            return await command(args)
        finally:
            # What the last server left open stays so: only it could say that positions are safe.
            await store.close(clean=loaded.clean)


class _StoreKeeper:
    """Changes are stored, nothing is live."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def changed(self, profile: Profile) -> None:
        await self._store.submit((PutDevice(profile.device, profile.pack()),))

    async def removed(self, profile: Profile) -> None:
        await self._store.submit((DropDevice(profile.device),))


def _text(args: Mapping[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str):
        raise ControlError(f"{name!r} is missing")
    return value


def _texts(args: Mapping[str, Any], name: str) -> list[str]:
    value = args.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ControlError(f"{name!r} must be a list of strings")
    return value


def _attributes(args: Mapping[str, Any]) -> dict[str, str | int]:
    value = args.get("attrs") or {}
    if not isinstance(value, dict) or not all(type(each) in {str, int} for each in value.values()):
        raise ControlError("'attrs' must be an object of strings and whole numbers")
    return value
