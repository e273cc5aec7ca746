"""Commands on many devices at once: which of these exist, and add or change these.

The rows are those of `fleet_file`, which has looked at the whole file before the first of them comes
here. What is wrong nevertheless (a device that connected in between, say) ends the batch at that row.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from broker.admin import arguments
from broker.admin.devices import credentials, renew_secret, settle, why_to_prove
from broker.admin.fleet_file import weakness_of
from broker.control import ControlError
from devices.profile import NO_ATTRS, Rights
from devices.registry import hash_secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.admin.arguments import Handler
    from broker.admin.devices import Keeper
    from devices.profile import Profile
    from devices.registry import Registry

MAX_ROWS = 1_000
"""Rows of one batch."""

_SLICE = 100
"""Rows between two turns of the event loop: a few milliseconds of work, and one commit."""


class Fleet:
    """The commands on many devices, wherever they are kept.

    Args:
        registry: The profiles.
        key: The store's key of the hashed secrets.
        keeper: Who stores changes and lets them take effect.
    """

    def __init__(self, registry: Registry, key: bytes, keeper: Keeper) -> None:
        self._registry = registry
        self._key = key
        self._keeper = keeper

    def commands(self) -> dict[str, Handler]:
        """The commands by name."""
        return {"device.known": self.known, "device.import": self.import_}

    async def known(self, args: dict[str, Any]) -> dict[str, Any]:
        """Which of at most `MAX_LISTED` ids are devices already."""
        asked = arguments.texts(args, "devices")
        if len(asked) > arguments.MAX_LISTED:
            raise ControlError(f"'devices' must be a list of at most {arguments.MAX_LISTED} ids")
        return {"known": [device for device in asked if self._registry.get(device) is not None]}

    async def import_(self, args: dict[str, Any]) -> dict[str, Any]:
        """Adds devices, and with `update` changes those that exist; durable when it answers.

        A row has `device` and what its file says: `follow`, `may_follow`, `publish`, `attrs` (None =
        not set) and `secret` (None = none). What a row does not have stays as it is, and in a new
        device at its default. The rows before a wrong one hold.
        """
        rows = args.get("rows")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ControlError("'rows' must be a list of objects")
        if len(rows) > MAX_ROWS:
            raise ControlError(f"at most {MAX_ROWS} devices are taken at once")
        update = arguments.flag(args, "update")
        added = 0
        for first in range(0, len(rows), _SLICE):
            added += await self._take(rows[first : first + _SLICE], update=update)
        return {"added": added, "changed": len(rows) - added}

    async def _take(self, rows: list[dict[str, Any]], *, update: bool) -> int:
        """Applies some rows in one go, then waits until they are durable; how many were new."""
        before = len(self._registry)
        taken: list[tuple[Profile, str | None]] = []  # and why connections end
        fault: ControlError | None = None
        for row in rows:
            try:
                device = arguments.text(row, "device")
                known = self._registry.get(device)
                if known is None:
                    new = self._add(device, row)
                    taken.append((new, why_to_prove(new)))
                elif update:
                    taken.append((known, self._change(known, row)))
                else:
                    raise ControlError("it exists already; use --update")  # noqa: TRY301
            except (ValueError, ControlError) as error:
                fault = ControlError(f"device {row.get('device')!r}: {error}")
                break
        added = len(self._registry) - before
        await asyncio.gather(*(settle(self._keeper, *each) for each in taken))
        if fault is not None:
            raise fault
        return added

    def _add(self, device: str, row: dict[str, Any]) -> Profile:
        secret = _secret(row)
        return self._registry.add(
            device,
            follow=arguments.some_texts(row, "follow"),
            operator_attrs=_attributes(row, NO_ATTRS),
            secret_hash=None if secret is None else hash_secret(secret, device, self._key),
            rights=arguments.rights(row),
        )

    def _change(self, profile: Profile, row: dict[str, Any]) -> str | None:
        """Why connections that were let in on what the profile was before must end, if they must."""
        secret = _secret(row)  # what may be wrong comes first
        proven, rights = bool(credentials(profile)), profile.rights
        self._registry.revise(
            profile,
            follow=arguments.some_texts(row, "follow"),
            operator_attrs=_attributes(row, profile.operator_attrs),
            rights=_rights(row, rights),
        )
        reason = "rights_changed" if profile.rights != rights else None
        if secret is not None:
            renew_secret(profile, hash_secret(secret, profile.device, self._key), now=False)
            return reason if proven else "secret_rotated"
        if "secret" in row:
            profile.secret_hash = profile.next_hash = None
            return "secret_rotated"
        return reason


def _secret(row: Mapping[str, Any]) -> str | None:
    """The secret that a row brings along; None where it has none or names none."""
    if row.get("secret") is None:
        return None
    secret = arguments.text(row, "secret")
    weakness = weakness_of(secret)
    if weakness is not None:
        raise ControlError(weakness)
    return secret


def _attributes(row: Mapping[str, Any], before: Mapping[str, str | int]) -> dict[str, str | int]:
    """The attributes of before, with those that the row names set or taken away."""
    said = row.get("attrs") or {}
    if not isinstance(said, dict):
        raise ControlError("'attrs' must be an object")
    given = {name: value for name, value in said.items() if value is not None}
    kept = {name: value for name, value in before.items() if name not in said}
    return kept | arguments.attributes({"attrs": given})


def _rights(row: Mapping[str, Any], before: Rights) -> Rights:
    """The rights of before, with those that the row names in their place."""
    named = {name: row[name] for name in ("publish", "may_follow") if name in row}
    kept: dict[str, Any] = {
        "publish": list(before.publish),
        "may_follow": None if before.follow is None else list(before.follow),
        "read": list(before.read),
        "write": list(before.write),
        "operator": before.operator,
    }
    return arguments.rights(kept | named)
