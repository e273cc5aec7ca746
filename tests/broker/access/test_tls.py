"""The encrypted port's context, on real certificates and handshakes."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from broker.access.tls import TlsError, certificate_name, server_context
from broker.config import TlsSettings
from broker.config_layers import InvalidConfig


class Authority(NamedTuple):
    """Certificates in files."""

    directory: Path
    ca: trustme.CA
    settings: dict[str, Path]

    def client(self, *names: str, common_name: str | None = None) -> ssl.SSLContext:
        """A client with a certificate; without names, one without."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if names or common_name:
            self.ca.issue_cert(*names, common_name=common_name).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    directory = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    server = ca.issue_cert("feed.example")
    server.private_key_pem.write_to_path(directory / "key.pem")
    for blob in server.cert_chain_pems:
        blob.write_to_path(directory / "certificate.pem", append=True)
    ca.cert_pem.write_to_path(directory / "ca.pem")
    settings = {name: directory / f"{name}.pem" for name in ("certificate", "key")}
    return Authority(directory, ca, settings)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Both ends in memory, until both are done; returns the server's."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="feed.example"),
    ]
    done = [False, False]
    for _ in range(10):
        for i, end in enumerate(ends):
            try:
                end.do_handshake()
                done[i] = True
            except ssl.SSLWantReadError:
                pass
        if all(done):
            return ends[0]
    raise AssertionError("no end of the handshake")


def test_a_client_that_trusts_the_authority_gets_in_without_a_certificate(authority: Authority):
    context = server_context(TlsSettings(**authority.settings))
    served = handshake(context, authority.client())
    assert served.version() == "TLSv1.3"
    assert certificate_name(served) is None


@pytest.mark.parametrize(("minimum", "accepted"), [("1.2", True), ("1.3", False)])
def test_an_older_tls_than_the_least_is_not_spoken(authority: Authority, minimum, accepted):
    context = server_context(TlsSettings(**authority.settings, minimum=minimum))
    client = authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    if accepted:
        assert handshake(context, client).version() == "TLSv1.2"
    else:
        with pytest.raises(ssl.SSLError):
            handshake(context, client)


def test_nothing_below_1_2_is_ever_spoken(authority: Authority):
    context = server_context(TlsSettings(**authority.settings))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("names", "common_name", "found"),
    [
        (["kitchen.example"], None, "kitchen.example"),
        (["a.example", "b.example"], None, "a.example"),
        (["kitchen.example"], "another", "kitchen.example"),
        ([], "kitchen", "kitchen"),
        (["192.0.2.1"], "kitchen", "kitchen"),
        (["me@example.com"], None, None),
    ],
)
@pytest.mark.parametrize("wanted", ["optional", "required"])
def test_a_verified_certificate_names_the_client(
    authority: Authority, wanted, names, common_name, found
):
    context = server_context(
        TlsSettings(
            **authority.settings,
            client_ca=authority.directory / "ca.pem",
            client_certificate=wanted,
        )
    )
    served = handshake(context, authority.client(*names, common_name=common_name))
    assert certificate_name(served) == found


class _Peer:
    """What `getpeercert` gives for kinds of names that the test authority does not issue."""

    def __init__(self, found: object) -> None:
        self._found = found

    def getpeercert(self) -> object:
        return self._found


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ({"subjectAltName": (("URI", "urn:dev:1"), ("DNS", "a"))}, "urn:dev:1"),
        ({"subjectAltName": (("IP Address", "192.0.2.1"), ("DNS", "a"))}, "a"),
        ({"subject": ((("commonName", "fleet"),), (("commonName", "kitchen"),))}, "kitchen"),
        ({"subject": ((("organizationName", "x"),),)}, None),
        ({}, None),
        (None, None),
    ],
)
def test_of_several_names_one_is_chosen_always_the_same(found, name):
    assert certificate_name(_Peer(found)) == name


def test_a_certificate_is_not_asked_for_unless_the_setting_says_so(authority: Authority):
    context = server_context(TlsSettings(**authority.settings))
    assert certificate_name(handshake(context, authority.client("kitchen.example"))) is None


@pytest.mark.parametrize(("wanted", "accepted"), [("optional", True), ("required", False)])
def test_whether_a_client_may_come_without_a_certificate(authority: Authority, wanted, accepted):
    context = server_context(
        TlsSettings(
            **authority.settings,
            client_ca=authority.directory / "ca.pem",
            client_certificate=wanted,
        )
    )
    if accepted:
        assert certificate_name(handshake(context, authority.client())) is None
    else:
        with pytest.raises(ssl.SSLError):
            handshake(context, authority.client())


@pytest.mark.parametrize("wanted", ["optional", "required"])
def test_a_certificate_of_another_authority_lets_nobody_in(authority: Authority, wanted):
    context = server_context(
        TlsSettings(
            **authority.settings,
            client_ca=authority.directory / "ca.pem",
            client_certificate=wanted,
        )
    )
    client = authority.client()
    trustme.CA().issue_cert("kitchen.example").configure_cert(client)
    with pytest.raises(ssl.SSLError):
        handshake(context, client)


def test_each_fault_of_a_file_is_one_sentence_that_names_the_setting(
    authority: Authority, tmp_path: Path
):
    other, junk = tmp_path / "other.pem", tmp_path / "junk.pem"
    trustme.CA().issue_cert("x.example").private_key_pem.write_to_path(other)
    junk.write_text("nothing")
    missing, ca = tmp_path / "none.pem", authority.directory / "ca.pem"
    for changed, says in (
        ({"certificate": missing}, f"tls.certificate = {missing} cannot be read: No such file"),
        ({"key": missing}, f"tls.key = {missing} cannot be read: No such file"),
        ({"key": tmp_path}, f"tls.key = {tmp_path} cannot be read: Is a directory"),
        ({"key": other}, f"tls.key = {other} is not the key of tls.certificate = "),
        ({"key": junk}, f"and tls.key = {junk} are no certificate and key"),
        ({"certificate": junk}, f"tls.certificate = {junk} and tls.key = "),
        ({"client_ca": missing}, f"tls.client_ca = {missing} cannot be read"),
        ({"client_ca": junk}, f"tls.client_ca = {junk} holds no certificates"),
    ):
        files = authority.settings | {"client_ca": ca} | changed
        with pytest.raises(TlsError) as caught:
            server_context(TlsSettings(**files, client_certificate="optional"))
        assert says in str(caught.value)
        assert str(caught.value).endswith(".")
    with pytest.raises(InvalidConfig, match=r"tls\.certificate and tls\.key"):
        server_context(TlsSettings())


def test_a_key_with_a_passphrase_is_refused_and_asks_nobody_at_the_terminal(
    authority: Authority, tmp_path: Path
):
    open_key, locked = authority.settings["key"], tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-in", open_key, "-out", locked],
        check=True,
        capture_output=True,
    )
    with pytest.raises(TlsError, match="is protected by a passphrase"):
        server_context(TlsSettings(**authority.settings | {"key": locked}))
