"""The operator's commands at a node: for any device and user of the fleet, wherever it is.

A command works on the registry, as at a server alone. Here the registry has those alone who are at this
node, so whoever a command names is looked up before; what it changes reaches the others by the store.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from broker.admin import arguments, users
from broker.control import ControlError
from devices.profile import BadProfile, Profile, valid_device_id
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from broker.admin.arguments import Handler
    from broker.cluster.directory import Directory
    from feedgen.store.shared import Found, SharedStore

_PATIENCE = 5.0
"""Seconds that a command waits for the store to answer who somebody is."""

_PAGE = 500
"""Profiles that are read at a time."""


def fleetwide(
    commands: Mapping[str, Handler], directory: Directory, store: SharedStore
) -> dict[str, Handler]:
    """The commands on profiles, for all of the fleet."""
    wide: dict[str, Handler] = {
        name: partial(_looked_up, handler, directory, store) for name, handler in commands.items()
    }
    wide["device.list"] = partial(_devices, store)
    wide["user.list"] = partial(_users, store)
    return wide


async def holder(store: SharedStore, device: str) -> str:
    """The node that a device is at, "" for none."""
    found: dict[str, Found] = await _answered(store, store.fetch((device,)))
    return found[device].holder


async def _looked_up(
    handler: Handler, directory: Directory, store: SharedStore, args: dict[str, Any]
) -> Any:
    names = [name for name in dict.fromkeys(_named(args)) if valid_device_id(name)]
    for name in names:
        directory.use(name)
    try:
        await _answered(store, directory.look_up(names))
        return await handler(args)
    except StoreError as error:
        raise ControlError(str(error)) from error
    finally:
        for name in names:
            directory.leave(name)


def _named(args: Mapping[str, Any]) -> Iterator[str]:
    """Whose profiles a command is about; what is no name is for the command itself to refuse."""
    for key in ("device", "user"):
        if isinstance(args.get(key), str):
            yield args[key]
    devices, rows = args.get("devices"), args.get("rows")
    if isinstance(devices, list):
        yield from (each for each in devices[: arguments.MAX_LISTED] if isinstance(each, str))
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("device"), str):
            yield row["device"]


async def _answered(store: SharedStore, question: Any) -> Any:
    """What the store answers, if it does in time."""
    try:
        return await asyncio.wait_for(question, _PATIENCE)
    except TimeoutError:
        raise ControlError(
            f"the store does not answer, so nothing was changed: {store.fault or 'try again'}"
        ) from None


async def _devices(store: SharedStore, args: dict[str, Any]) -> dict[str, Any]:
    """Device ids in order, a page at a time."""
    limit = arguments.limit(args)
    ids = await _answered(store, store.devices(str(args.get("after") or ""), limit + 1))
    return {"devices": ids[:limit], "more": len(ids) > limit}


async def _users(store: SharedStore, args: dict[str, Any]) -> dict[str, Any]:
    """Users in order of their names, a page at a time.

    Nobody keeps a list of them: all profiles are read, a page at a time.
    """
    after, limit = str(args.get("after") or ""), arguments.limit(args)
    found: list[Profile] = []
    while len(found) <= limit:
        names = await _answered(store, store.devices(after, _PAGE))
        if not names:
            break
        after = names[-1]
        profiles = await _answered(store, store.fetch(names))
        read = (_unpacked(name, profiles[name].blob) for name in names)
        found += [profile for profile in read if profile is not None and users.is_user(profile)]
    described = [users.describe_user(profile) for profile in found[:limit]]
    return {"users": described, "more": len(found) > limit}


def _unpacked(device: str, blob: bytes | None) -> Profile | None:
    try:
        return None if blob is None else Profile.unpack(device, blob)
    except BadProfile as error:
        raise ControlError(f"a stored profile cannot be read: {error}") from error
