"""The way from a command to a server's MQTT port: where it is, with what encryption, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from broker.commands.certificates import client_context
from broker.commands.shell import Code, Failure
from devices.refusals import UNAVAILABLE, TlsFault, refusal, tls_fault

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

PORT = 1883
TLS_PORT = 8883
"""The ports of MQTT, as IANA has them."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is and who we are there.

    Attributes:
        tls: What encrypts the connection; None = plaintext.
        certified: We have a client certificate.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    certified: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def server(
    host: str,
    port: int | None,
    *,
    username: str | None,
    password: str | None,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
) -> Server:
    """Read the options that say which server is meant.

    A certificate of either side means TLS: nobody names one and wants plaintext.

    Raises:
        Failure: a file cannot be used.
    """
    context = client_context(ca, cert, key) if tls or ca or cert or key else None
    port = port or (PORT if context is None else TLS_PORT)
    return Server(host, port, username, password, context, cert is not None)


# What went wrong

_ADVICE = {
    TlsFault.UNTRUSTED: "give the authority that signed it with --ca",
    TlsFault.NOT_NOW: "renew it, or set the clock of this machine",
    TlsFault.OTHER_NAME: "give a name that stands in it with --host",
    TlsFault.NO_TLS: "give its port for TLS with --port, or do without TLS",
    TlsFault.REFUSED: "it may want a client certificate (--cert, --key), or another one",
}


def fail_to_connect(server: Server, error: Exception) -> NoReturn:
    """End the command: there is no connection."""
    fault = tls_fault(error) if server.tls is not None else None
    if fault is not None:
        advice = _ADVICE.get(fault, f"OpenSSL says {getattr(error, 'reason', None) or error}")
        raise Failure(f"no TLS connection to {server}: {fault.value}; {advice}") from error
    why = getattr(error, "strerror", None) or error
    raise Failure(
        f"no server answers at {server} ({why}): start it or give --host and --port",
        Code.UNREACHABLE,
    ) from error


def refused(server: Server, code: int | None) -> Failure:
    """The server does not let us in: what to end the command with.

    Args:
        server: The server.
        code: CONNACK's return code; None if it closed the connection without one.
    """
    if code is None:
        return Failure(f"{server} closed the connection before it answered: {_unanswered(server)}")
    said = f"the server {server} refused the connection: {refusal(code)}"
    if code == UNAVAILABLE:
        return Failure(f"{said}; try again in a minute", Code.UNREACHABLE)
    proofs = (
        "--cert, or --username and --password" if server.certified else "--username and --password"
    )
    return Failure(f"{said}; check {proofs}")


def _unanswered(server: Server) -> str:
    """What our server, and not it alone, means by closing a connection without a word."""
    if server.tls is None:
        return "if that is its port for TLS, give --tls or --ca"
    if server.certified:
        return "it probably does not accept the certificate of --cert"
    return "it probably wants a client certificate, with --cert and --key"
