"""Who a device is and what it can take: one small value per device, and its stored form.

There may be a million of them, nearly all alike. So filters and attribute maps are shared between the
profiles that have the same ones, and both are replaced, never changed in place.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

import msgpack

Attrs: TypeAlias = Mapping[str, str | int]

NO_ATTRS: Attrs = MappingProxyType({})

EVERYTHING = ("#",)
"""The filters that cover every channel, or every topic without a leading `$`."""

# Of the stored bytes; a new one for every change, with `unpack` reading the older ones too.
_FORM = 3
_FIELDS = {1: (14,), 2: (17, 18), 3: (20,)}  # how many may stand after the form
_SHARED = 1 << 14  # distinct values kept for sharing; where there are more, sharing saves little
_DEVICE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class BadProfile(ValueError):  # noqa: N818 - named like BadRecord and BadFrame: it names the finding
    """Stored bytes are not a profile that this version can read."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What somebody may do beside having a feed; shared, so make one with `shared_rights(...)`.

    Attributes:
        publish: Filters over channels on which it may publish items; `EVERYTHING` = all.
        read: Filters over other topics that it may subscribe to.
        write: Filters over other topics that it may publish to.
        follow: Filters over channels that it may choose to follow; None = what the server permits all.
        operator: Whether it may read `$SYS`.
    """

    publish: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    follow: tuple[str, ...] | None = None
    operator: bool = False


NO_RIGHTS = Rights()
_ALL_ITEMS = Rights(publish=EVERYTHING)


def valid_device_id(text: str) -> bool:
    """Whether `text` is 1 to 64 of `[A-Za-z0-9_.:-]`, hence safe as a topic level and client id."""
    return _DEVICE_ID.fullmatch(text) is not None


@dataclass(slots=True)
class Profile:
    """What is known about one device, connected or not.

    Attributes:
        device: Its id.
        follow: Filters over channels; shared, so replace it with `shared_follow(...)`.
        attrs: What the device said about itself; shared, replace it with `shared_attrs(...)`.
        operator_attrs: What the operator said about it; wins over `attrs`.
        k: Length of its window, 1 to 64.
        budget: Longest PUBLISH packet it takes, in bytes, 96 to 65 536.
        max_qos: Highest QoS of a frame.
        agent: Name and version of its client software, as it said.
        clock: Whether it knows the time, and so can use the expiry of items.
        epoch: Last epoch used in a frame to it; 0 = none ever.
        secret_hash: From `registry.hash_secret`; None = it has no secret of its own.
        rights: What it may do; shared, replace it with `registry.set_rights`.
        subscribed: QoS of the subscription of its persistent session, which outlives both connections
            and restarts; None = it has none.
        session: Packed position after a clean stop, opaque here.
        operator: Added by the operator, as opposed to enrolled by connecting in open mode.
        next_hash: Of the secret that follows on `secret_hash`: both are valid until the new one is
            first used, which ends the old one.
        password: An encoded argon2 hash, for a password that somebody chose; None = it has none.
        revoked: Whether it is refused whatever it can prove.
        seen: Unix seconds at which it was last connected when `session` was packed; 0 = never.
        failures: Connections in a row that failed at the oldest frame in flight when `session` was
            packed to be resumed at another server.
        kept_at: The server that keeps what its persistent session holds beside its feed; "" = nothing
            is kept, or there is only one server.
    """

    device: str
    follow: tuple[str, ...] = ()
    # By a factory, only because dataclasses take a mapping proxy for a mutable default.
    attrs: Attrs = field(default_factory=lambda: NO_ATTRS)
    operator_attrs: Attrs = field(default_factory=lambda: NO_ATTRS)
    k: int = 8
    budget: int = 256
    max_qos: int = 1
    agent: str = ""
    clock: bool = False
    epoch: int = 0
    secret_hash: bytes | None = field(default=None, repr=False)  # nothing of it in a log
    rights: Rights = NO_RIGHTS
    subscribed: int | None = None
    session: bytes | None = None
    operator: bool = False
    next_hash: bytes | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    revoked: bool = False
    seen: int = 0
    failures: int = 0
    kept_at: str = ""

    def effective_attrs(self) -> Attrs:
        """The attributes that an item's `where` is compared with: the operator's win."""
        if not self.operator_attrs:
            return self.attrs
        if not self.attrs:
            return self.operator_attrs
        return {**self.attrs, **self.operator_attrs}

    def pack(self) -> bytes:
        """Everything but the id, as bytes for a store."""
        packed: bytes = msgpack.packb(
            (
                _FORM,
                self.follow,
                dict(self.attrs),
                dict(self.operator_attrs),
                self.k,
                self.budget,
                self.max_qos,
                self.agent,
                self.clock,
                self.epoch,
                self.secret_hash,
                _pack_rights(self.rights),
                self.subscribed,
                self.session,
                self.operator,
                self.next_hash,
                self.password,
                self.revoked,
                self.seen,
                self.failures,
                self.kept_at,
            )
        )
        return packed

    def become(self, other: Profile) -> None:
        """Take over every field of another profile of the same device."""
        for name in _NAMES:
            setattr(self, name, getattr(other, name))

    @classmethod
    def unpack(cls, device: str, data: bytes) -> Profile:
        """The profile of `device` that `pack` made into `data`.

        Raises:
            BadProfile: The bytes are damaged or of a newer version.
        """
        try:
            form, *values = msgpack.unpackb(data, use_list=False)
            if len(values) in _FIELDS.get(form, ()):
                follow, attrs, operator_attrs, k, budget, max_qos, agent, *others = values
                others[3] = _unpack_rights(others[3], form)
                shared = shared_follow(follow), shared_attrs(attrs), shared_attrs(operator_attrs)
                return cls(device, *shared, k, budget, max_qos, sys.intern(agent), *others)
        except (ValueError, TypeError, AttributeError) as error:
            raise BadProfile(f"{device}: not a profile: {error}") from error
        raise BadProfile(f"{device}: a profile of form {form!r}, known are 1 to {_FORM}")


_NAMES = tuple(each.name for each in fields(Profile))


def merge(base: Profile, mine: Profile, theirs: Profile) -> Profile:
    """One profile of two that were changed apart from each other: field by field, whoever changed it.

    Where both did, mine stands, as the one that will be written last. Epochs only grow, whoever says so.

    Args:
        base: What both were made from.
        mine: As it was changed here.
        theirs: As it was changed elsewhere.
    """
    chosen: dict[str, Any] = {}
    for name in _NAMES:
        before, ours = getattr(base, name), getattr(mine, name)
        chosen[name] = ours if ours != before else getattr(theirs, name)
    chosen["epoch"] = max(mine.epoch, theirs.epoch)
    return Profile(**chosen)


def _pack_rights(rights: Rights) -> tuple[object, ...] | None:
    if rights == NO_RIGHTS:
        return None
    return (rights.publish, rights.read, rights.write, rights.follow, rights.operator)


def _unpack_rights(packed: Any, form: int) -> Rights:
    if form == 1:  # one flag: whether it may publish items
        return _ALL_ITEMS if packed else NO_RIGHTS
    return NO_RIGHTS if packed is None else _rights(*packed)


@lru_cache(_SHARED)
def shared_follow(filters: tuple[str, ...]) -> tuple[str, ...]:
    """`filters`, the same object for the same filters."""
    return tuple(map(sys.intern, filters))


def shared_rights(rights: Rights) -> Rights:
    """`rights`, the same object for the same rights, `NO_RIGHTS` for none."""
    return _rights(rights.publish, rights.read, rights.write, rights.follow, rights.operator)


@lru_cache(_SHARED)
def _rights(
    publish: tuple[str, ...],
    read: tuple[str, ...],
    write: tuple[str, ...],
    follow: tuple[str, ...] | None,
    operator: bool,
) -> Rights:
    follow = None if follow is None else shared_follow(follow)
    three = shared_follow(publish), shared_follow(read), shared_follow(write)
    rights = Rights(*three, follow, bool(operator))
    return NO_RIGHTS if rights == NO_RIGHTS else rights


def shared_attrs(attrs: Attrs) -> Attrs:
    """A read-only copy of `attrs`, the same object for the same attributes."""
    return _shared_attrs(tuple(sorted(attrs.items()))) if attrs else NO_ATTRS


@lru_cache(_SHARED)
def _shared_attrs(pairs: tuple[tuple[str, str | int], ...]) -> Attrs:
    return MappingProxyType({sys.intern(name): value for name, value in pairs})
