"""Commands on people and services: those who publish, read other topics, or watch the server.

A user is a profile like any device's: one name space, one place where rights and revocation are. What
makes it one is that it has rights or a password. It follows nothing unless it says so.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from broker.admin import arguments
from broker.admin.devices import credentials, describe_rights, settle, why_to_prove
from broker.control import ControlError
from devices.profile import NO_RIGHTS
from devices.registry import hash_secret, new_secret

if TYPE_CHECKING:
    from broker.admin.arguments import Handler
    from broker.admin.devices import Devices, Keeper
    from devices.profile import Profile
    from devices.registry import Registry

_HASH = re.compile(r"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+(\$[A-Za-z0-9+/]+){2}")


class Users:
    """The commands on users, wherever they are kept.

    Passwords come here as encoded argon2 hashes: the command hashes them itself, so that neither the
    socket nor the server ever holds one.

    Args:
        registry: The profiles.
        key: The store's key of the hashed secrets.
        keeper: Who stores changes and lets them take effect.
        devices: The commands on devices, of which a user's end is one.
    """

    def __init__(self, registry: Registry, key: bytes, keeper: Keeper, devices: Devices) -> None:
        self._registry = registry
        self._key = key
        self._keeper = keeper
        self._devices = devices

    def commands(self) -> dict[str, Handler]:
        """The commands by name."""
        return {
            "user.add": self.add,
            "user.password": self.password,
            "user.rights": self.rights,
            "user.list": self.list,
            "user.remove": self.remove,
        }

    async def add(self, args: dict[str, Any]) -> dict[str, Any]:
        """Adds a user, with the password given or else a secret that is in the answer alone."""
        name = arguments.text(args, "user")
        rights = arguments.rights(args)
        password, secret, secret_hash = self._credential(name, args)
        if password is None and replace(rights, follow=None) == NO_RIGHTS:
            raise ControlError(
                f"{name} would have a secret and no right, as a device has: give it a right,"
                f" or use 'fleetfeed device add {name}'"
            )
        try:
            profile = self._registry.add(
                name, follow=(), rights=rights, password=password, secret_hash=secret_hash
            )
        except ValueError as error:
            raise ControlError(str(error)) from error
        await settle(self._keeper, profile, why_to_prove(profile))
        return {"user": name, "secret": secret}

    async def password(self, args: dict[str, Any]) -> dict[str, Any]:
        """Puts a new password, or a new secret, in the place of every credential that a user has.

        Connections end: whoever is in with the old one must not stay.
        """
        profile = self._profile(args)
        password, secret, secret_hash = self._credential(profile.device, args)
        profile.password, profile.secret_hash, profile.next_hash = password, secret_hash, None
        await self._keeper.ended(profile, "password_changed")
        return {"user": profile.device, "secret": secret}

    async def rights(self, args: dict[str, Any]) -> dict[str, Any]:
        """Replaces what a user, or a device, may do; which channels it may follow only if named.

        Its connections end, as they were let in with the rights of before; it comes back with these.
        """
        profile = self._profile(args)
        rights = arguments.rights(args)
        if rights.follow is None:
            rights = replace(rights, follow=profile.rights.follow)
        try:
            self._registry.set_rights(profile, rights)
        except ValueError as error:
            raise ControlError(str(error)) from error
        await self._keeper.ended(profile, "rights_changed")
        return describe_user(profile)

    async def list(self, args: dict[str, Any]) -> dict[str, Any]:
        """Users in order of their names, a page at a time."""
        after = str(args.get("after") or "")
        limit = arguments.limit(args)
        users = [p for p in self._registry if p.device > after and is_user(p)]
        users.sort(key=lambda profile: profile.device)
        return {
            "users": [describe_user(each) for each in users[:limit]],
            "more": len(users) > limit,
        }

    async def remove(self, args: dict[str, Any]) -> dict[str, Any]:
        """Forgets a user. A device is not taken for one: a slip of the hand must not erase a feed."""
        profile = self._profile(args)
        if not is_user(profile):
            name = profile.device
            raise ControlError(f"{name} is a device: use 'fleetfeed device erase {name}'")
        erased = await self._devices.erase({"device": profile.device})
        return {"user": profile.device, "removed": erased["removed"]}

    def _credential(
        self, name: str, args: dict[str, Any]
    ) -> tuple[str | None, str | None, bytes | None]:
        """The encoded password that was sent; or else a new secret, and what is stored of it."""
        if args.get("password") is not None:
            return _encoded(arguments.text(args, "password")), None, None
        secret = new_secret()
        return None, secret, hash_secret(secret, name, self._key)

    def _profile(self, args: dict[str, Any]) -> Profile:
        name = arguments.text(args, "user")
        profile = self._registry.get(name)
        if profile is None:
            raise ControlError(f"there is no user {name!r}; 'fleetfeed user list' shows all")
        return profile


def _encoded(password: str) -> str:
    """An argon2 hash, and nothing that would pass for a password and match nobody."""
    if _HASH.fullmatch(password) is None:
        raise ControlError("'password' must be an encoded argon2 hash")
    return password


def is_user(profile: Profile) -> bool:
    """Whether a profile is a user's, as opposed to a device's."""
    has_rights = replace(profile.rights, follow=None) != NO_RIGHTS
    return profile.password is not None or has_rights


def describe_user(profile: Profile) -> dict[str, Any]:
    """A user for people: everything but what proves who it is."""
    return {
        "user": profile.device,
        "credentials": credentials(profile),
        "rights": describe_rights(profile.rights),
        "revoked": profile.revoked,
    }
