"""Where the outside broker is, and who we are to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

_PORTS = {"mqtt": 1883, "mqtts": 8883}


class BadAddress(ValueError):  # noqa: N818 - named for what it finds
    """What was given is no address of a broker; the text never repeats it, as it may hold a password."""


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker.

    Attributes:
        host: A name or an address, IPv6 without brackets.
        port: Its MQTT port.
        tls: Whether the connection is encrypted.
        user: The name to log in with; None = none.
        password: What goes with it; None = none.
        ca: File with the authorities to trust (PEM); None = those that this machine trusts.
    """

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def parse_address(
    text: str, *, password: str | None = None, ca: Path | None = None
) -> BrokerAddress:
    """Reads `mqtt[s]://[user[:password]@]host[:port]`.

    Args:
        text: The address. User and password are percent-encoded where they hold one of `:/?#@%`.
        password: From elsewhere; it wins.
        ca: File with the authorities to trust, for `mqtts`.

    Raises:
        BadAddress: It is no such thing, or the parts do not go together.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadAddress("the port or the brackets of the broker's address are wrong") from None
    if parts.scheme not in _PORTS:
        raise BadAddress("the broker's address must begin with mqtt:// or mqtts://")
    if not host or re.search(r"\s", host):
        raise BadAddress("the broker's address names no host, like mqtt://127.0.0.1:1883")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise BadAddress("nothing may follow the port in the broker's address")
    tls = parts.scheme == "mqtts"
    if ca is not None and not tls:
        raise BadAddress("a file of authorities is for mqtts:// alone")
    user = unquote(parts.username) if parts.username else None
    secret = password if password is not None else unquote(parts.password or "") or None
    if secret is not None and user is None:
        raise BadAddress("a password without a user name: write mqtt://user@host")
    return BrokerAddress(host, port or _PORTS[parts.scheme], tls, user, secret, ca)
