"""Commands on devices: who they are, what proves it, what they may do, and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from broker.admin import arguments
from broker.control import ControlError
from devices.registry import hash_secret, new_secret
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from broker.admin.arguments import Handler
    from devices.profile import Profile, Rights
    from devices.registry import Registry


class Keeper(Protocol):
    """Who makes changes of profiles hold."""

    async def changed(self, profile: Profile) -> None:
        """Stores a profile and lets it take effect; returns when it is durable."""

    async def ended(self, profile: Profile, reason: str) -> None:
        """The same, and ends its connections and sessions, for this reason.

        Reasons: `revoked`, `rights_changed`, `secret_rotated`, `password_changed`. Those who were let in
        on what the profile was before must not stay.
        """

    async def removed(self, profile: Profile) -> None:
        """The same for a profile that is in the registry no more, with all that is kept of it.

        Raises:
            StoreError: What the ranking decided for it could not be taken out of the decision log.
        """


class Devices:
    """The commands on devices, wherever they are kept.

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
        return {
            "device.add": self.add,
            "device.show": self.show,
            "device.list": self.list,
            "device.follow": self.follow,
            "device.rotate": self.rotate,
            "device.revoke": self.revoke,
            "device.restore": self.restore,
            "device.erase": self.erase,
            "device.remove": self.erase,
        }

    async def add(self, args: dict[str, Any]) -> dict[str, Any]:
        """Adds a device; its secret is in the answer and nowhere else."""
        device = arguments.text(args, "device")
        secret = new_secret() if arguments.flag(args, "secret", default=True) else None
        try:
            profile = self._registry.add(
                device,
                follow=arguments.some_texts(args, "follow"),
                operator_attrs=arguments.attributes(args),
                secret_hash=hash_secret(secret, device, self._key) if secret else None,
                rights=arguments.rights(args),
            )
        except ValueError as error:
            raise ControlError(str(error)) from error
        await settle(self._keeper, profile, why_to_prove(profile))
        return {"device": device, "secret": secret}

    async def show(self, args: dict[str, Any]) -> dict[str, Any]:
        """What is known of a device."""
        return describe(self._profile(args))

    async def list(self, args: dict[str, Any]) -> dict[str, Any]:
        """Device ids in order, a page at a time."""
        after = str(args.get("after") or "")
        limit = arguments.limit(args)
        ids = sorted(profile.device for profile in self._registry if profile.device > after)
        return {"devices": ids[:limit], "more": len(ids) > limit}

    async def follow(self, args: dict[str, Any]) -> dict[str, Any]:
        """Changes what a device follows, in the operator's name."""
        profile = self._profile(args)
        unfollow = arguments.texts(args, "unfollow")
        kept = [name for name in profile.follow if name not in unfollow]
        wanted = tuple(dict.fromkeys((*kept, *arguments.texts(args, "follow"))))
        try:
            self._registry.set_follow(profile, wanted)
        except ValueError as error:
            raise ControlError(str(error)) from error
        await self._keeper.changed(profile)
        return describe(profile)

    async def rotate(self, args: dict[str, Any]) -> dict[str, Any]:
        """Gives a device a new secret.

        The present one stays valid until the new one is first used, so that a device may be told at
        leisure; with `now` it ends at once, and with it the connection. Beside a first secret there is
        nothing that could stay valid: whoever is in without one has to come again.
        """
        profile = self._profile(args)
        device, now = profile.device, arguments.flag(args, "now")
        if profile.password is not None:
            raise ControlError(f"{device} has a password: use 'fleetfeed user password {device}'")
        reason = "secret_rotated" if now or not credentials(profile) else None
        secret = new_secret()
        renew_secret(profile, hash_secret(secret, device, self._key), now=now)
        await settle(self._keeper, profile, reason)
        return {
            "device": device,
            "secret": secret,
            "old_secret_valid": profile.next_hash is not None,
        }

    async def revoke(self, args: dict[str, Any]) -> dict[str, Any]:
        """Refuses a device from now on, and ends its connection; everything is kept."""
        profile = self._profile(args)
        profile.revoked = True
        await self._keeper.ended(profile, "revoked")
        return {"device": profile.device}

    async def restore(self, args: dict[str, Any]) -> dict[str, Any]:
        """Lets a device in again that was revoked."""
        profile = self._profile(args)
        profile.revoked = False
        await self._keeper.changed(profile)
        return {"device": profile.device}

    async def erase(self, args: dict[str, Any]) -> dict[str, Any]:
        """Forgets a device and everything that is stored of it; the answer says what that was."""
        profile = self._profile(args)
        removed = [
            "profile",
            *credentials(profile),
            *(f"attribute {name}" for name in sorted({*profile.attrs, *profile.operator_attrs})),
            *(["feed position"] if profile.epoch else []),
            "session",
            "dismissals",
            "feedback counts",
            "decisions",
        ]
        self._registry.remove(profile.device)
        try:
            await self._keeper.removed(profile)
        except StoreError as error:
            raise ControlError(
                f"{profile.device} is gone, but what was decided for it is still in the log: {error}"
            ) from error
        return {"device": profile.device, "removed": removed}

    def _profile(self, args: dict[str, Any]) -> Profile:
        device = arguments.text(args, "device")
        profile = self._registry.get(device)
        if profile is None:
            raise ControlError(f"there is no device {device!r}; 'fleetfeed device list' shows all")
        return profile


async def settle(keeper: Keeper, profile: Profile, reason: str | None) -> None:
    """Makes a change hold; with a reason, the connections that were let in before it end."""
    await (keeper.changed(profile) if reason is None else keeper.ended(profile, reason))


def why_to_prove(profile: Profile) -> str | None:
    """Why connections under the name of a profile that was just added must end, if they must.

    Where registration is open somebody may be in under that name already, and has proven nothing.
    """
    if not credentials(profile):
        return None
    return "secret_rotated" if profile.password is None else "password_changed"


def renew_secret(profile: Profile, secret_hash: bytes, *, now: bool) -> None:
    """Gives a profile a secret: beside the one it has, which then ends at the first use, or `now`."""
    if now or profile.secret_hash is None:
        profile.secret_hash, profile.next_hash = secret_hash, None
    else:
        profile.next_hash = secret_hash


def describe(profile: Profile) -> dict[str, Any]:
    """A profile for people: everything but what proves who it is."""
    return {
        "device": profile.device,
        "follow": list(profile.follow),
        "attributes": dict(profile.effective_attrs()),
        "k": profile.k,
        "budget": profile.budget,
        "max_qos": profile.max_qos,
        "agent": profile.agent,
        "clock": profile.clock,
        "credentials": credentials(profile),
        "rights": describe_rights(profile.rights),
        "revoked": profile.revoked,
        "added_by": "operator" if profile.operator else "itself",
        "epoch": profile.epoch,
        "persistent_subscription_qos": profile.subscribed,
    }


def credentials(profile: Profile) -> list[str]:
    """The kinds of proof that a profile has."""
    kinds = {
        "secret": profile.secret_hash,
        "next secret": profile.next_hash,
        "password": profile.password,
    }
    return [kind for kind, kept in kinds.items() if kept is not None]


def describe_rights(rights: Rights) -> dict[str, Any]:
    """Rights by the names that the command line gives them; what is not granted is left out."""
    named = {
        "publish": list(rights.publish),
        "read": list(rights.read),
        "write": list(rights.write),
        "operator": rights.operator,
    }
    granted: dict[str, Any] = {name: value for name, value in named.items() if value}
    if rights.follow is not None:  # nothing at all says something here
        granted["may_follow"] = list(rights.follow)
    return granted
