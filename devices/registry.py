"""Which devices there are, what they may follow, and who may speak for them.

Pure rules on profiles: an update goes in, the profile changes, and a `Changed` says what the caller has
to store, rebuild and count. Reading and writing profiles is the caller's business.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING

from devices.frames import MIN_PAYLOAD, payload_capacity
from devices.packets import valid_filter
from devices.profile import (
    NO_ATTRS,
    NO_RIGHTS,
    Attrs,
    Profile,
    Rights,
    shared_attrs,
    shared_follow,
    shared_rights,
    valid_device_id,
)
from devices.topics import futility
from devices.up_messages import (
    MAX_ATTR_BYTES,
    MAX_ATTRS,
    MAX_FILTER_BYTES,
    MAX_FILTER_LEVELS,
    MAX_FILTERS,
)
from devices.wire import MAX_UINT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devices import frames

RESERVED_ATTRS = frozenset({"tz", "class", "quiet", "sleep"})
"""Attributes that every schema has."""


class Refusal(StrEnum):
    """Why a part of an update was left out; the rest of it still holds."""

    NOT_PERMITTED = "not_permitted"  # a filter reaches channels that devices may not follow
    TOO_MANY_FILTERS = "too_many_filters"
    NOT_IN_SCHEMA = "not_in_schema"  # an attribute that the operator did not name
    TOO_MANY_ATTRS = "too_many_attrs"
    BUDGET_TOO_SMALL = "budget_too_small"  # leaves fewer than MIN_PAYLOAD bytes of payload


@dataclass(frozen=True, slots=True)
class Changed:
    """What an update changed in a profile. True if anything did, so if it has to be stored."""

    follow: bool = False
    attrs: bool = False
    k: bool = False
    budget: bool = False
    qos: bool = False
    agent: bool = False
    clock: bool = False
    refused: tuple[Refusal, ...] = ()

    def __bool__(self) -> bool:
        return (
            self.follow
            or self.attrs
            or self.k
            or self.budget
            or self.qos
            or self.agent
            or self.clock
        )


class Registry:
    """The profiles of all devices, by id.

    Args:
        open_mode: Whether devices that nobody added may enroll themselves.
        default_follow: What a new device follows until it says otherwise.
        permitted: Filters whose channels devices may choose to follow. The operator's own choices,
            `default_follow` included, are not held against it.
        schema: Names of the attributes that devices may set, besides `RESERVED_ATTRS`; None = any.
        prefix: Configured prefix of all topics; it takes its part of a frame budget.

    Raises:
        ValueError: A filter is not valid or not within the protocol's bounds.
    """

    def __init__(
        self,
        *,
        open_mode: bool,
        default_follow: tuple[str, ...],
        permitted: tuple[str, ...] = ("#",),
        schema: frozenset[str] | None = None,
        prefix: str = "",
    ) -> None:
        self._open_mode = open_mode
        self._prefix = prefix
        self._profiles: dict[str, Profile] = {}
        self.permit(default_follow=default_follow, permitted=permitted, schema=schema)

    def permit(
        self,
        *,
        default_follow: tuple[str, ...],
        permitted: tuple[str, ...],
        schema: frozenset[str] | None,
    ) -> None:
        """Hold what devices ask for against other settings from now on; what they have they keep.

        Raises:
            ValueError: A filter is not valid or not within the protocol's bounds.
        """
        _check_filters(default_follow)
        for topic_filter in permitted:
            if not valid_filter(topic_filter):
                raise ValueError(f"not a topic filter: {topic_filter!r}")
        self._default_follow = shared_follow(default_follow)
        self._permitted = permitted
        self._schema = None if schema is None else schema | RESERVED_ATTRS

    def __len__(self) -> int:
        return len(self._profiles)

    def __iter__(self) -> Iterator[Profile]:
        return iter(self._profiles.values())

    def get(self, device: str) -> Profile | None:
        """The profile of `device`, if there is one."""
        return self._profiles.get(device)

    def add(
        self,
        device: str,
        *,
        follow: Sequence[str] | None = None,
        operator_attrs: Attrs = NO_ATTRS,
        secret_hash: bytes | None = None,
        password: str | None = None,
        rights: Rights = NO_RIGHTS,
    ) -> Profile:
        """Add a device or user in the operator's name; without `follow` it gets the default set.

        `secret_hash` is from `hash_secret`; `password` is an encoded argon2 hash.

        Raises:
            ValueError: The id, a filter or an attribute is not valid, or the device exists.
        """
        if not valid_device_id(device):
            raise ValueError(f"not a device id (1 to 64 of [A-Za-z0-9_.:-]): {device!r}")
        if device in self._profiles:
            raise ValueError(f"device {device} exists already")
        self._check(follow, operator_attrs, rights)
        profile = Profile(
            device,
            self._default_follow if follow is None else shared_follow(tuple(follow)),
            operator_attrs=shared_attrs(operator_attrs),
            secret_hash=secret_hash,
            password=password,
            rights=shared_rights(rights),
            operator=True,
        )
        self._profiles[device] = profile
        return profile

    def enroll(self, device: str) -> Profile | None:
        """The profile of a device that connects; in open mode it is made if there is none.

        None if the device is unknown and may not enroll, because the registry is closed or the name is
        not a device id.
        """
        profile = self._profiles.get(device)
        if profile is None and self._open_mode and valid_device_id(device):
            profile = self._profiles[device] = Profile(device, self._default_follow)
        return profile

    def restore(self, profile: Profile) -> None:
        """Take back a profile that was stored, in place of any that is here under its id."""
        self._profiles[profile.device] = profile

    def remove(self, device: str) -> Profile | None:
        """Forget `device` and return its profile, if there was one."""
        return self._profiles.pop(device, None)

    def set_follow(self, profile: Profile, follow: Sequence[str]) -> Changed:
        """Replace what a device follows, in the operator's name: `permitted` does not matter.

        Raises:
            ValueError: A filter is not valid, or there are too many; nothing was changed.
        """
        _check_filters(follow)
        before, profile.follow = profile.follow, shared_follow(tuple(follow))
        return Changed(follow=profile.follow != before)

    def set_rights(self, profile: Profile, rights: Rights) -> None:
        """Replace what somebody may do. What it follows already stays: that is `set_follow`'s matter.

        Raises:
            ValueError: A filter is not valid or would give nothing, or there are too many; nothing was
                changed.
        """
        self._check_rights(rights)
        profile.rights = shared_rights(rights)

    def revise(
        self,
        profile: Profile,
        *,
        follow: Sequence[str] | None,
        operator_attrs: Attrs,
        rights: Rights,
    ) -> None:
        """Replace all that the operator says of a device, or nothing; without `follow`, that stays.

        Raises:
            ValueError: A filter or an attribute is not valid; nothing was changed.
        """
        self._check(follow, operator_attrs, rights)
        if follow is not None:
            profile.follow = shared_follow(tuple(follow))
        profile.operator_attrs = shared_attrs(operator_attrs)
        profile.rights = shared_rights(rights)

    def apply_profile(self, profile: Profile, update: frames.Profile) -> Changed:
        """Change what the device follows and says about itself.

        Unfollowing comes first and matches exactly; what is not followed is ignored. Attributes add to
        those it said before. Those that the operator set are kept too, but have no effect as long as
        the operator's stand. Where the device has filters of its own for what it may follow, they
        stand in the place of `permitted`.
        """
        refused: list[Refusal] = []
        own = profile.rights.follow
        permitted = self._permitted if own is None else own
        follow = _followed(profile.follow, update, permitted, refused)
        attrs = self._described(profile.attrs, update.attrs, refused)
        changed = Changed(
            follow=follow != profile.follow,
            attrs=attrs != profile.attrs,
            refused=tuple(refused),
        )
        profile.follow, profile.attrs = follow, attrs
        return changed

    def apply_hello(self, profile: Profile, options: frames.HelloOptions) -> Changed:
        """Take over what a hello said about the device; what it left out stands.

        A budget in which too little payload would fit is refused, and the one before stands.
        """
        refused: tuple[Refusal, ...] = ()
        budget = profile.budget if options.budget is None else options.budget
        if payload_capacity(budget, profile.device, self._prefix) < MIN_PAYLOAD:
            refused = (Refusal.BUDGET_TOO_SMALL,)
            budget = profile.budget
        said = (
            profile.k if options.k is None else options.k,
            budget,
            profile.max_qos if options.max_qos is None else options.max_qos,
            profile.agent if options.agent is None else options.agent,
            profile.clock if options.clock is None else options.clock,
        )
        known = (profile.k, profile.budget, profile.max_qos, profile.agent, profile.clock)
        profile.k, profile.budget, profile.max_qos, profile.agent, profile.clock = said
        k, budget_, qos, agent, clock = (a != b for a, b in zip(said, known, strict=True))
        return Changed(k=k, budget=budget_, qos=qos, agent=agent, clock=clock, refused=refused)

    def _check(self, follow: Sequence[str] | None, attrs: Attrs, rights: Rights) -> None:
        if follow is not None:
            _check_filters(follow)
        _check_attrs(attrs)
        self._check_rights(rights)

    def _check_rights(self, rights: Rights) -> None:
        for channels in (rights.publish, rights.follow or ()):
            _check_filters(channels)
        for topics in (rights.read, rights.write):
            if len(topics) > MAX_FILTERS:
                raise ValueError(f"{len(topics)} filters; at most {MAX_FILTERS} are taken")
            for text in topics:
                if not valid_filter(text):
                    raise ValueError(f"not a topic filter: {text!r}")
                reason = futility(text, self._prefix)
                if reason is not None:
                    raise ValueError(f"{text!r} would give nothing: {reason}")

    def _described(self, attrs: Attrs, update: Attrs, refused: list[Refusal]) -> Attrs:
        described = dict(attrs)
        for name, value in update.items():
            if self._schema is not None and name not in self._schema:
                refused.append(Refusal.NOT_IN_SCHEMA)
            elif name not in described and len(described) >= MAX_ATTRS:
                refused.append(Refusal.TOO_MANY_ATTRS)
            else:
                described[name] = value
        return shared_attrs(described)


def _followed(
    follow: tuple[str, ...],
    update: frames.Profile,
    permitted: Sequence[str],
    refused: list[Refusal],
) -> tuple[str, ...]:
    wanted = dict.fromkeys(name for name in follow if name not in update.unfollow)
    for topic_filter in update.follow:
        if topic_filter in wanted:
            continue
        if not covers(permitted, topic_filter):
            refused.append(Refusal.NOT_PERMITTED)
        elif len(wanted) >= MAX_FILTERS:
            refused.append(Refusal.TOO_MANY_FILTERS)
        else:
            wanted[topic_filter] = None
    return shared_follow(tuple(wanted))


def covers(permitted: Sequence[str], topic_filter: str) -> bool:
    """Whether every channel that `topic_filter` matches is matched by one of `permitted`.

    Exact, also where several of `permitted` are needed to cover one filter (`a` and `a/+/#` cover
    `a/#`). A wildcard is replaced by a level that none of them names, so that only their wildcards can
    match it; `#` is tried with every number of levels up to one more than the longest of them has,
    beyond which they can tell no difference.
    """
    patterns = [pattern.split("/") for pattern in permitted]
    levels = ["\0" if level == "+" else level for level in topic_filter.split("/")]
    if levels[-1] != "#":
        return _matched(patterns, levels)
    del levels[-1]
    longest = max(map(len, patterns), default=0)
    fewest = 0 if levels else 1  # no channel has no level
    counts = range(fewest, max(longest + 1 - len(levels), fewest) + 1)
    return all(_matched(patterns, [*levels, *["\0"] * count]) for count in counts)


def _matched(patterns: list[list[str]], channel: list[str]) -> bool:
    return any(_matches(pattern, channel) for pattern in patterns)


def _matches(pattern: list[str], channel: list[str]) -> bool:
    """MQTT 3.1.1, 4.7: `#` matches its parent level too; a leading wildcard never matches `$`."""
    if channel[0].startswith("$") and pattern[0] in ("+", "#"):
        return False
    if pattern[-1] == "#":
        pattern = pattern[:-1]
        channel = channel[: len(pattern)]
    return len(pattern) == len(channel) and all(
        level in ("+", name) for level, name in zip(pattern, channel, strict=True)
    )


def new_secret() -> str:
    """A fresh secret for a device: 24 random bytes as 32 characters that need no quoting."""
    return secrets.token_urlsafe(24)


def hash_secret(secret: str | bytes, device: str, key: bytes) -> bytes:
    """What is stored of a secret: 32 bytes that tell nothing without the store's `key`.

    HMAC-SHA-256 and no slow hash, for secrets come from `new_secret` and cannot be guessed, and a fleet
    that reconnects must not queue for its logins. Bound to `device`, so that a stored hash is of no
    use for another one.
    """
    if isinstance(secret, str):
        secret = secret.encode()
    return hmac.digest(key, device.encode() + b"\0" + secret, hashlib.sha256)


class Match(Enum):
    """Which of a profile's secrets one was."""

    CURRENT = auto()
    NEXT = auto()  # the one that follows on it: its first use ends the other, see `promote`


def check_secret(secret: str | bytes, profile: Profile, key: bytes) -> Match | None:
    """Which secret of the device this is, if any, in a time that does not depend on how much of it is."""
    found = hash_secret(secret, profile.device, key)
    current = hmac.compare_digest(found, profile.secret_hash or b"")
    follows = hmac.compare_digest(found, profile.next_hash or b"")
    return Match.CURRENT if current else Match.NEXT if follows else None


def promote(profile: Profile) -> None:
    """Put the secret that was to follow in the place of the present one, which ends."""
    profile.secret_hash, profile.next_hash = profile.next_hash, None


def _check_filters(filters: Sequence[str]) -> None:
    if len(filters) > MAX_FILTERS:
        raise ValueError(f"{len(filters)} filters; at most {MAX_FILTERS} are taken")
    for text in filters:
        if (
            not valid_filter(text)
            or text.count("/") >= MAX_FILTER_LEVELS
            or len(text.encode()) > MAX_FILTER_BYTES
        ):
            raise ValueError(
                f"not a topic filter of at most {MAX_FILTER_LEVELS} levels and"
                f" {MAX_FILTER_BYTES} bytes: {text!r}"
            )


def _check_attrs(attrs: Attrs) -> None:
    if len(attrs) > MAX_ATTRS:
        raise ValueError(f"{len(attrs)} attributes; at most {MAX_ATTRS} are taken")
    for name, value in attrs.items():
        if not name or max(len(name.encode()), len(str(value).encode())) > MAX_ATTR_BYTES:
            raise ValueError(f"not an attribute of at most {MAX_ATTR_BYTES} bytes: {name!r}")
        if not isinstance(value, str) and not (type(value) is int and 0 <= value <= MAX_UINT):
            raise ValueError(f"not a text or a whole number below 2³²: attribute {name!r}")
