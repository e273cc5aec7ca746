"""What goes wrong in TLS, provoked between two real ends of it, and CONNACK in words."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from devices.refusals import ACCEPTED, TlsFault, connack_code, refusal, tls_fault

TODAY = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def shake(
    client: ssl.SSLContext, server: ssl.SSLContext | bytes, name: str = "localhost"
) -> OSError | None:
    """Let two ends, or a client and what a server without TLS says, shake hands; what the client meets."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = None
    if isinstance(server, bytes):
        to_client.write(server)
        to_client.write_eof()
    else:
        theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        try:
            ours.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            return error
        if theirs is not None:
            try:
                theirs.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                theirs = None  # its alert is on the way
    try:
        ours.read(1)
    except ssl.SSLWantReadError:
        return None
    except OSError as error:
        return error
    raise AssertionError("nobody sends anything")


def server_side(certificate: trustme.LeafCert, wanted: trustme.CA | None = None) -> ssl.SSLContext:
    """A server; with `wanted` it wants a client certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if wanted is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        wanted.configure_trust(context)
    return context


def client_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_handshake_that_succeeds_is_no_fault(authority: trustme.CA) -> None:
    server = server_side(authority.issue_cert("localhost"))
    assert shake(client_side(authority), server) is None


@pytest.mark.parametrize(
    ("certificate", "name", "fault"),
    [
        (lambda _: trustme.CA().issue_cert("localhost"), "localhost", TlsFault.UNTRUSTED),
        (lambda ca: ca.issue_cert("localhost"), "feed.example.com", TlsFault.OTHER_NAME),
        (lambda ca: ca.issue_cert("localhost"), "127.0.0.1", TlsFault.OTHER_NAME),
        (
            lambda ca: ca.issue_cert("localhost", not_after=TODAY - timedelta(days=1)),
            "localhost",
            TlsFault.NOT_NOW,
        ),
        (
            lambda ca: ca.issue_cert("localhost", not_before=TODAY + timedelta(days=2)),
            "localhost",
            TlsFault.NOT_NOW,
        ),
    ],
)
def test_what_is_wrong_with_the_certificate_of_the_server_is_told(
    authority: trustme.CA,
    certificate: Callable[[trustme.CA], trustme.LeafCert],
    name: str,
    fault: TlsFault,
) -> None:
    error = shake(client_side(authority), server_side(certificate(authority)), name)
    assert tls_fault(error) is fault


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_says_that_it_wants_a_client_certificate_refuses(
    authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    client = client_side(authority)
    client.maximum_version = version
    server = server_side(authority.issue_cert("localhost"), wanted=authority)
    assert tls_fault(shake(client, server)) is TlsFault.REFUSED


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x02\x00\x01"])
def test_a_port_without_tls_is_known_by_what_it_says_or_by_its_silence(
    authority: trustme.CA, said: bytes
) -> None:
    assert tls_fault(shake(client_side(authority), said)) is TlsFault.NO_TLS


def test_a_connection_reset_in_the_handshake_counts_as_a_port_without_tls() -> None:
    assert tls_fault(ConnectionResetError()) is TlsFault.NO_TLS


def test_two_ends_without_a_version_in_common_do_not_agree(authority: trustme.CA) -> None:
    client, server = client_side(authority), server_side(authority.issue_cert("localhost"))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    assert tls_fault(shake(client, server)) is TlsFault.NO_AGREEMENT


@pytest.mark.parametrize(
    "error", [None, ConnectionRefusedError(), TimeoutError(), OSError(113, "No route to host")]
)
def test_other_errors_say_nothing_about_tls(error: OSError | None) -> None:
    assert tls_fault(error) is None


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Success", ACCEPTED),
        ("Unsupported protocol version", 1),
        ("Client identifier not valid", 2),
        ("Server unavailable", 3),
        ("Bad user name or password", 4),
        ("Not authorized", 5),
    ],
)
def test_return_codes_are_found_again_behind_the_reasons_of_paho(name: str, code: int) -> None:
    assert connack_code(ReasonCode(PacketTypes.CONNACK, name).value) == code


def test_every_return_code_has_words_of_its_own() -> None:
    said = {refusal(code) for code in range(1, 6)}
    assert len(said) == 5
    assert not any("return code" in each for each in said)
    assert "return code 77" in refusal(77)
