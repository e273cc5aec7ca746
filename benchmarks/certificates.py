"""A certificate for the servers under test, made anew for every run, and the clients' side of it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files that a server needs for TLS: an ECDSA certificate on curve P-256."""

    certificate: Path
    key: Path


def issue(place: Path) -> Certificate:
    """Write a certificate for localhost and its key."""
    issued = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    found = Certificate(place / "certificate.pem", place / "key.pem")
    found.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(found.key))
    return found


def client_context() -> ssl.SSLContext:
    """What the load connects with. Who the server is does not matter to a measurement."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
