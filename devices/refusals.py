"""Why a broker does not let a client in, in words: what CONNACK says, and what goes wrong in TLS.

Each text completes a sentence about the broker and gives no advice: what to do depends on who reads it,
the user of a command or the owner of a device.
"""

from __future__ import annotations

import enum
import ssl

ACCEPTED = 0
"""The return code of CONNACK that lets a client in."""
UNAVAILABLE = 3
"""The one return code that a client with the same credentials may not meet again (MQTT 3.1.1, 3.2.2.3)."""

_CODES = {
    1: "it does not speak this version of MQTT",
    2: "it does not take this client id",
    UNAVAILABLE: "it is too busy, or too many logins from this address have failed",
    4: "user name, password or token is wrong, or has expired",
    5: "this user or device is unknown, revoked, without credentials, or uses the client id of another",
}
_OF_MQTT_5 = {0x84: 1, 0x85: 2, 0x86: 4, 0x87: 5, 0x88: UNAVAILABLE}


def connack_code(reason: int) -> int:
    """The return code of MQTT 3.1.1 behind a reason code of MQTT 5, in which paho-mqtt speaks of both."""
    return _OF_MQTT_5.get(reason, reason)


def refusal(code: int) -> str:
    """What a return code other than 0 means, with what our server means by it."""
    return _CODES.get(code, f"return code {code}, which MQTT 3.1.1 does not have")


class TlsFault(enum.Enum):
    """Why there is no encrypted connection."""

    UNTRUSTED = "its certificate is not from an authority that we trust"
    NOT_NOW = "its certificate has expired or is not valid yet"
    OTHER_NAME = "its certificate is for another name"
    NO_TLS = "it broke off the TLS handshake, as a port without TLS does"
    REFUSED = "it refused the TLS handshake"
    NO_AGREEMENT = "it speaks no version of TLS that we do"
    OTHER = "the TLS handshake failed"


# What OpenSSL's X509_verify_cert finds (x509_vfy.h); all other findings are about who signed.
_CERTIFICATE = {
    9: TlsFault.NOT_NOW,
    10: TlsFault.NOT_NOW,
    62: TlsFault.OTHER_NAME,
    64: TlsFault.OTHER_NAME,
}
_REASONS = {
    "WRONG_VERSION_NUMBER": TlsFault.NO_TLS,
    "TLSV1_ALERT_PROTOCOL_VERSION": TlsFault.NO_AGREEMENT,
}


def tls_fault(error: BaseException | None) -> TlsFault | None:
    """What an error of connecting with TLS says about TLS; None if it is about something else.

    A broker that closes the connection during the handshake counts as one without TLS. Some do that, too,
    over a client certificate that they miss; with TLS 1.3 that comes only after the handshake.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE.get(error.verify_code, TlsFault.UNTRUSTED)
    closed = ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionResetError | BrokenPipeError
    if isinstance(error, closed):
        return TlsFault.NO_TLS
    if not isinstance(error, ssl.SSLError):
        return None
    reason = error.reason or ""
    return _REASONS.get(reason, TlsFault.REFUSED if "_ALERT_" in reason else TlsFault.OTHER)
