"""Whom a CONNECT names, what would prove it, and what follows once it is proven.

Pure decisions, in the order in which `door` takes them: `claim_of`, then the proof, then `objection`,
`device_of` and `RightsOfAll`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from broker.access.identity import MAX_NAME_BYTES
from broker.access.tokens import looks_like_token
from devices.profile import EVERYTHING, NO_RIGHTS, Rights, shared_rights, valid_device_id

if TYPE_CHECKING:
    from broker.config import Config
    from devices.packets import Connect
    from devices.profile import Profile

# Return codes of CONNACK (MQTT 3.1.1, 3.2.2.3).
IDENTIFIER_REJECTED = 2
UNAVAILABLE = 3
BAD_CREDENTIALS = 4
NOT_AUTHORIZED = 5


@dataclass(frozen=True, slots=True)
class Attempt:
    """A client that asks to be let in.

    Attributes:
        connect: Its packet as sent; where it gave no client id, with the one that the server made up.
        assigned: Whether the client id was made up: it is nobody's device then.
        address: Where it comes from, without port.
        certificate: The name in its verified certificate, None without one.
        came: When CONNECT was read, monotonic seconds.
    """

    connect: Connect
    assigned: bool
    address: str
    certificate: str | None
    came: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A client that is not let in.

    Attributes:
        code: Return code of CONNACK, 2 to 5.
        reason: One word for the counter `connect_refused_<reason>`.
    """

    code: int
    reason: str


class Proof(enum.Enum):
    """What a client offers to prove its name by."""

    CERTIFICATE = enum.auto()  # TLS has checked it
    TOKEN = enum.auto()
    SECRET = enum.auto()  # generated or chosen: what is stored under the name tells
    NONE = enum.auto()


@dataclass(frozen=True, slots=True)
class Claim:
    """Whom a client says to be, and what it offers as a proof."""

    name: str
    proof: Proof


def claim_of(attempt: Attempt, *, tokens: bool) -> Claim | Refused:
    """Read the claim from a CONNECT; `tokens` tells whether this server takes any.

    A user name wins over the client id; an empty one counts as none. Names are kept with sessions and
    compared for every client, so their length has a bound.
    """
    connect = attempt.connect
    if _too_long(connect.client_id):
        return Refused(IDENTIFIER_REJECTED, "client_id_too_long")
    if _too_long(connect.username) or _too_long(attempt.certificate):
        return Refused(BAD_CREDENTIALS, "user_name_too_long")
    if attempt.certificate is not None:
        if connect.username and connect.username != attempt.certificate:
            return Refused(NOT_AUTHORIZED, "certificate_of_another")
        return Claim(attempt.certificate, Proof.CERTIFICATE)
    name = connect.username or connect.client_id
    if connect.password is None:
        return Claim(name, Proof.NONE)
    is_token = tokens and looks_like_token(connect.password)
    return Claim(name, Proof.TOKEN if is_token else Proof.SECRET)


def _too_long(name: str | None) -> bool:
    return name is not None and len(name.encode()) > MAX_NAME_BYTES


def has_credentials(profile: Profile | None) -> bool:
    """Whether something is stored that whoever uses the name has to prove."""
    return profile is not None and not (
        profile.secret_hash is None and profile.next_hash is None and profile.password is None
    )


def objection(
    attempt: Attempt, user: str, profile: Profile | None, claimed: Profile | None, *, opened: bool
) -> Refused | None:
    """What speaks against letting in a client whose name is settled.

    Args:
        attempt: The client.
        user: The name that it has proven; "" = none.
        profile: Of the name that it goes by, proven or not.
        claimed: Of its client id.
        opened: Whether registration is open.
    """
    if profile is None and not opened:
        return Refused(NOT_AUTHORIZED, "unknown")
    if profile is not None and profile.revoked:
        return Refused(NOT_AUTHORIZED, "revoked")
    if has_credentials(claimed) and user != attempt.connect.client_id:
        return Refused(NOT_AUTHORIZED, "client_id_of_another")
    return None


def device_of(attempt: Attempt, user: str) -> str | None:
    """The device that a client may be: the one that its client id and its user name agree on."""
    connect = attempt.connect
    name = user or connect.username or connect.client_id
    own = not attempt.assigned and connect.client_id == name and valid_device_id(name)
    return name if own else None


class RightsOfAll:
    """What the server gives to every client, added to what each was given.

    Open registration gives everything, less what the settings name for other topics.

    Args:
        config: The settings.
    """

    def __init__(self, config: Config) -> None:
        opened = config.open_mode
        unset = EVERYTHING if opened else ()
        read, write = config.topics.read, config.topics.write
        self._common = Rights(
            publish=unset,
            read=unset if read is None else read,
            write=unset if write is None else write,
            operator=opened,
        )

    def with_those_of(self, profile: Profile | None) -> Rights:
        """The effective rights of a name that was proven, or of None for one that was not."""
        return _united(NO_RIGHTS if profile is None else profile.rights, self._common)


@lru_cache(1 << 12)
def _united(own: Rights, common: Rights) -> Rights:
    return shared_rights(
        Rights(
            publish=_either(own.publish, common.publish),
            read=_either(own.read, common.read),
            write=_either(own.write, common.write),
            follow=own.follow,
            operator=own.operator or common.operator,
        )
    )


def _either(own: tuple[str, ...], common: tuple[str, ...]) -> tuple[str, ...]:
    """Filters that cover what either does; `EVERYTHING` itself if one of them has it."""
    united = (*common, *(each for each in own if each not in common))
    return EVERYTHING if "#" in united else united
