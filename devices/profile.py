"""Who a device is and what it can take: one small value per device, and its stored form.

There may be a million of them, nearly all alike. So filters and attribute maps are shared between the
profiles that have the same ones, and both are replaced, never changed in place.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

import msgpack

Attrs: TypeAlias = Mapping[str, str | int]

NO_ATTRS: Attrs = MappingProxyType({})

_FORM = (
    1  # of the stored bytes; a new one for every change, with `unpack` reading the older ones too
)
_FIELDS = 14  # after the form
_SHARED = 1 << 14  # distinct values kept for sharing; where there are more, sharing saves little
_DEVICE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class BadProfile(ValueError):  # noqa: N818 - named like BadRecord and BadFrame: it names the finding
    """Stored bytes are not a profile that this version can read."""


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
        publish: Whether it may publish items.
        subscribed: QoS of the subscription of its persistent session, which outlives both connections
            and restarts; None = it has none.
        session: Packed position after a clean stop, opaque here.
        operator: Added by the operator, as opposed to enrolled by connecting in open mode.
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
    secret_hash: bytes | None = None
    publish: bool = False
    subscribed: int | None = None
    session: bytes | None = None
    operator: bool = False

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
                self.publish,
                self.subscribed,
                self.session,
                self.operator,
            )
        )
        return packed

    @classmethod
    def unpack(cls, device: str, data: bytes) -> Profile:
        """The profile of `device` that `pack` made into `data`.

        Raises:
            BadProfile: The bytes are damaged or of a newer version.
        """
        try:
            form, *fields = msgpack.unpackb(data, use_list=False)
            if form == _FORM and len(fields) == _FIELDS:
                follow, attrs, operator_attrs, k, budget, max_qos, agent, *others = fields
                shared = shared_follow(follow), shared_attrs(attrs), shared_attrs(operator_attrs)
                return cls(device, *shared, k, budget, max_qos, sys.intern(agent), *others)
        except (ValueError, TypeError, AttributeError) as error:
            raise BadProfile(f"{device}: not a profile: {error}") from error
        raise BadProfile(f"{device}: a profile of form {form!r}, known is {_FORM}")


@lru_cache(_SHARED)
def shared_follow(filters: tuple[str, ...]) -> tuple[str, ...]:
    """`filters`, the same object for the same filters."""
    return tuple(map(sys.intern, filters))


def shared_attrs(attrs: Attrs) -> Attrs:
    """A read-only copy of `attrs`, the same object for the same attributes."""
    return _shared_attrs(tuple(sorted(attrs.items()))) if attrs else NO_ATTRS


@lru_cache(_SHARED)
def _shared_attrs(pairs: tuple[tuple[str, str | int], ...]) -> Attrs:
    return MappingProxyType({sys.intern(name): value for name, value in pairs})
