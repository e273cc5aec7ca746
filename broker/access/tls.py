"""The encrypted port: its context from the settings, and the name in a client's certificate."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from broker.config_layers import InvalidConfig

if TYPE_CHECKING:
    from pathlib import Path

    from broker.config import TlsSettings

_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_CERTIFICATE = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


class TlsError(InvalidConfig):
    """A certificate or key cannot be used; one sentence that names the setting."""

    def __init__(self, sentence: str) -> None:
        super().__init__((sentence,))


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """The context of the encrypted port; `settings` has certificate and key.

    Raises:
        TlsError: A file is missing, unreadable, protected by a passphrase, or not what it should be.
    """
    certificate, key = settings.certificate, settings.key
    if certificate is None or key is None:
        raise TlsError("An encrypted port needs tls.certificate and tls.key.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM[settings.minimum]
    # A client could make the server repeat the costly handshake (TLS 1.2; 1.3 has no such thing).
    context.options |= ssl.OP_NO_RENEGOTIATION
    _check_readable(certificate, "tls.certificate")
    _check_readable(key, "tls.key")
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except _PassphraseNeeded:
        raise TlsError(
            f"tls.key = {key} is protected by a passphrase: store it without one, readable by this user"
            " alone."
        ) from None
    except ssl.SSLError as error:
        raise TlsError(_explain(error, certificate, key)) from error
    if settings.client_ca is not None:
        _check_readable(settings.client_ca, "tls.client_ca")
        try:
            context.load_verify_locations(settings.client_ca)
        except ssl.SSLError as error:
            raise TlsError(
                f"tls.client_ca = {settings.client_ca} holds no certificates in PEM form."
            ) from error
    context.verify_mode = _CLIENT_CERTIFICATE[settings.client_certificate]
    return context


def certificate_name(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> str | None:
    """The name in the client's verified certificate, or None without one.

    The first DNS name or URI of the subject's alternative names; where there is neither, the common name
    (the last one, which is the most specific: RFC 6125, 2.3.1).
    """
    found: Any = ssl_object.getpeercert() or {}
    for kind, name in found.get("subjectAltName", ()):
        if kind in ("DNS", "URI"):
            return str(name)
    names = [
        str(value)
        for relative in found.get("subject", ())
        for kind, value in relative
        if kind == "commonName"
    ]
    return names[-1] if names else None


class _PassphraseNeeded(Exception):  # noqa: N818 - names the finding; never leaves this module
    """OpenSSL asked for a passphrase, which it would else read from the terminal."""


def _no_passphrase() -> str:
    raise _PassphraseNeeded


def _check_readable(file: Path, setting: str) -> None:
    """OpenSSL's own errors do not say which file it was."""
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise TlsError(f"{setting} = {file} cannot be read: {error.strerror or error}.") from error


def _explain(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"tls.key = {key} is not the key of tls.certificate = {certificate}."
    return (
        f"tls.certificate = {certificate} and tls.key = {key} are no certificate and key in PEM form"
        f" that OpenSSL takes ({error.reason or 'no reason given'})."
    )
