"""How clients come in to a server that does not let in everybody: with what encryption, and as whom."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from devices.packets import Connect

Login: TypeAlias = "tuple[str, str | None]"
"""User name and password; a user name may come without one."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the clients of a run show at the door.

    Attributes:
        tls: What every connection is encrypted with; None: plain text.
        user: Whom clients log in as that are no device; None: as nobody.
        password: Of that user.
        secrets: Secrets of devices that log in as themselves, by id.
    """

    tls: ssl.SSLContext | None = None
    user: str | None = None
    # Not in the repr: it may end up in an error.
    password: str | None = field(default=None, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def login(self, device: str) -> Login | None:
        """How a device logs in: as itself, else as the user; None: as nobody."""
        if device in self.secrets:
            return device, self.secrets[device]
        return None if self.user is None else (self.user, self.password)

    def signed(self, connect: Connect) -> Connect:
        """The CONNECT of a client that is no device, with user name and password."""
        secret = None if self.password is None else self.password.encode()
        return replace(connect, username=self.user, password=secret)


OPEN = Access()
"""Of a server that lets in everybody, in plain text."""
