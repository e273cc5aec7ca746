"""Who a client is, once CONNECT has been accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devices.profile import Rights

MAX_NAME_BYTES = 256
"""Bytes of the longest client id and user name that are taken; a device's id has 64 at most."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is and what it may do.

    Attributes:
        client_id: Its MQTT client id.
        user: The name that it has proven to be; "" where nobody vouched for it.
        device: The device id that it may use `f/` and `u/` as, or None.
        rights: What it may do: what it was given, and what the server gives to every client.
        expires: Unix seconds at which its token ends, and with it the connection; None = never.
    """

    client_id: str
    user: str
    device: str | None
    rights: Rights
    expires: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Whose session it is. A client id alone would let one user take over another's."""
        return (self.user, self.client_id)
