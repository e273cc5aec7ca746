"""The way from a command to a server's MQTT port: where it is, with what encryption, and what went wrong."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from broker.commands.shell import Code, Failure
from devices.refusals import UNAVAILABLE, TlsFault, refusal, tls_fault

if TYPE_CHECKING:
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
    context = _context(ca, cert, key) if tls or ca or cert or key else None
    port = port or (PORT if context is None else TLS_PORT)
    return Server(host, port, username, password, context, cert is not None)


def _context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """Names are checked always: with a switch against that, TLS would keep out nobody but the curious."""
    for option, file in (("--ca", ca), ("--cert", cert), ("--key", key)):
        _check_readable(option, file)
    if key and not cert:
        raise Failure("--key needs --cert: the certificate that it is the key of", Code.INVALID)
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise Failure(f"--ca {ca} holds no certificate in PEM form", Code.INVALID) from error
    if cert is not None:
        _identify(context, cert, key)
    return context


def _identify(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    try:
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except _PassphraseNeeded:
        raise Failure(
            f"the key in {key or cert} is protected by a passphrase: store it without one, readable by "
            "you alone",
            Code.INVALID,
        ) from None
    except ssl.SSLError as error:
        said = (
            f"--key {key} is not the key of --cert {cert}"
            if error.reason == "KEY_VALUES_MISMATCH"
            else f"--cert {cert} and --key {key or cert} are no certificate and key in PEM form"
        )
        raise Failure(said, Code.INVALID) from error


class _PassphraseNeeded(Exception):  # noqa: N818 - names the finding; never leaves this module
    """OpenSSL asked for a passphrase, which it would else read from the terminal."""


def _no_passphrase() -> str:
    raise _PassphraseNeeded


def _check_readable(option: str, file: Path | None) -> None:
    """OpenSSL's own errors do not say which file it was."""
    if file is None:
        return
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise Failure(
            f"{option} {file} cannot be read: {error.strerror or error}", Code.INVALID
        ) from error


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
