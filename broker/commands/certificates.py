"""Certificates and keys that options name: what encrypts our end of a connection, or a sentence about the file."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from broker.commands.shell import Code, Failure

if TYPE_CHECKING:
    from pathlib import Path


def client_context(
    ca: Path | None, cert: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """What a client trusts, and shows of itself.

    Names are checked always: with a switch against that, TLS would keep out nobody but the curious.

    Args:
        ca: The authorities to trust (PEM); None: those that this machine trusts.
        cert: Its certificate (PEM); None: it shows none.
        key: The key of that; None: it is in the same file.

    Raises:
        Failure: a file cannot be used.
    """
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


def server_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """What a server shows, from TLS 1.2 on; it asks nobody for a certificate.

    Args:
        cert: Its certificate and those between it and the authority (PEM).
        key: The key of that; None: it is in the same file.

    Raises:
        Failure: a file cannot be used.
    """
    for option, file in (("--cert", cert), ("--key", key)):
        _check_readable(option, file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
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
