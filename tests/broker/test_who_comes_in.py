"""The door, over real connections: certificates, tokens, secrets, passwords, and whose session it is."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import jwt
import pytest
import trustme

from broker.access.passwords import hash_password
from devices.packets import Connack, Connect, Publish, Will
from devices.profile import Rights
from devices.registry import hash_secret
from tests.broker.support import Served, ServerProcess, eventually, item

Serve = Callable[..., Awaitable[Served]]

TOKEN_KEY = "a shared key of more than thirty-two bytes"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_settings(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    certificate = authority.issue_cert("localhost")
    paths = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "client_ca")}
    for blob in certificate.cert_chain_pems:
        paths["certificate"].write_bytes(blob.bytes())
    certificate.private_key_pem.write_to_path(str(paths["key"]))
    authority.cert_pem.write_to_path(str(paths["client_ca"]))
    return {
        "bind": "off",
        "tls__bind": "127.0.0.1:0",
        **{f"tls__{name}": str(path) for name, path in paths.items()},
    }


def client_context(authority: trustme.CA, name: str | None = None) -> ssl.SSLContext:
    """What a client connects with that trusts the authority and, with a name, has a certificate."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if name is not None:
        authority.issue_cert(common_name=name).configure_cert(context)
    return context


def add(served: Served, name: str, **given: object) -> str:
    """A device or user with a generated secret; returns the secret."""
    server = served.server
    key = server.door._key
    secret = f"secret of {name}"
    server.registry.add(name, secret_hash=hash_secret(secret, name, key), **given)  # type: ignore[arg-type]
    return secret


async def greeted(served: Served, *connect: object) -> Connack:
    peer = await served.peer()
    return await peer.greet(Connect(*connect))  # type: ignore[arg-type]


# ---- TLS


async def test_a_feed_over_tls(
    serve: Serve, authority: trustme.CA, tls_settings: dict[str, str]
) -> None:
    served = await serve(**tls_settings)
    served.tls = client_context(authority)
    device = await served.subscribed("kitchen")
    for number in range(30):
        await served.publish(item("a", f"text {number}" + "x" * 100))
        await device.shows(f"text {number}" + "x" * 100)


async def test_a_feed_over_tls_in_a_server_of_its_own(
    process: Callable[..., ServerProcess], authority: trustme.CA, tls_settings: dict[str, str]
) -> None:
    """With uvloop, whose TLS is another."""
    served = process(**{k: v for k, v in tls_settings.items() if k != "bind"})
    plain = await served.subscribed("porch")
    (line,) = [each for each in [served.ready] if " with TLS" in each]
    served.address = "127.0.0.1", int(line.split(" with TLS")[0].rpartition(":")[2])
    served.tls = client_context(authority)
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "encrypted"))
    await device.shows("encrypted")
    await plain.shows("encrypted")


async def test_what_speaks_no_tls_is_closed_and_counted(
    serve: Serve, tls_settings: dict[str, str]
) -> None:
    served = await serve(**tls_settings)
    peer = await served.peer()
    peer.send(Connect("kitchen"))
    await peer.expect_closed()
    await served.counted("dropped", "tls_handshake_failed")


async def test_a_handshake_that_never_ends_is_given_up(
    serve: Serve, tls_settings: dict[str, str]
) -> None:
    served = await serve(**tls_settings, limits__connect_timeout=0.3, limits__max_connections=1)
    silent = await served.peer()
    await eventually(lambda: served.server.lane._opening, lambda count: count == 1)
    crowded = await served.peer()
    await crowded.expect_closed()
    await silent.expect_closed()
    assert served.count("dropped", "tls_handshake_failed") == 1
    assert served.count("closed", "too_many_connections") == 1
    assert served.server.lane._opening == 0


async def test_a_certificate_names_the_device(
    serve: Serve, authority: trustme.CA, tls_settings: dict[str, str]
) -> None:
    served = await serve(**tls_settings, tls__client_certificate="required", open=False)
    served.server.registry.add("kitchen")
    served.server.registry.add("porch")
    served.tls = client_context(authority, "kitchen")
    device = await served.subscribed("kitchen")
    assert device.peer is not None
    assert (await greeted(served, "porch")).code == 0, "another client id is no device's"
    peer = await served.connect("porch")
    assert await peer.subscribe(("f/porch", 1), ("f/kitchen", 1)) == (0x80, 0x80)
    assert (await greeted(served, "porch", True, 60, "porch")).code == 5
    served.tls = client_context(authority, "cellar")
    assert (await greeted(served, "cellar")).code == 5, "nobody added it"


async def test_without_the_required_certificate_there_is_no_connection(
    serve: Serve, authority: trustme.CA, tls_settings: dict[str, str]
) -> None:
    served = await serve(**tls_settings, tls__client_certificate="required", open=False)
    stranger = trustme.CA()
    context = client_context(authority)
    stranger.issue_cert(common_name="kitchen").configure_cert(context)
    for tls in (client_context(authority), context):
        served.tls = tls
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            await served.connect("kitchen")
    assert served.count("connections", "connected") == 0


# ---- Tokens


def token(**claims: object) -> bytes:
    filled = {"sub": "kitchen", "exp": time.time() + 60, **claims}
    return jwt.encode(filled, TOKEN_KEY, "HS256").encode()


@pytest.fixture
async def with_tokens(serve: Serve, tmp_path: Path) -> Served:
    key = tmp_path / "token.key"
    key.write_text(TOKEN_KEY)
    served = await serve(token__key=str(key), token__algorithm="HS256", token__leeway=0, open=False)
    served.server.registry.add("kitchen")
    return served


async def test_a_token_is_a_password_for_as_long_as_it_lives(with_tokens: Served) -> None:
    peer = await with_tokens.connect(
        "kitchen", username="kitchen", password=token(exp=time.time() + 1.5)
    )
    assert await peer.subscribe(("f/kitchen", 1)) == (1,)
    await peer.expect_end()
    assert with_tokens.count("closed", "token_expired") == 1


@pytest.mark.parametrize(
    "password",
    [
        token(exp=1),
        token(sub="porch"),
        jwt.encode({"sub": "kitchen", "exp": 4e9}, "x" * 40, "HS256").encode(),
        jwt.encode({"sub": "kitchen", "exp": 4e9}, None, "none").encode(),
        b"a.b.c",
    ],
    ids=["expired", "of another", "of another key", "without signature", "no token at all"],
)
async def test_a_token_that_does_not_hold_opens_nothing(
    with_tokens: Served, password: bytes
) -> None:
    assert (await greeted(with_tokens, "kitchen", True, 60, "kitchen", password)).code in {4, 5}


# ---- Passwords


async def test_a_chosen_password_is_checked_while_others_are_served(serve: Serve) -> None:
    served = await serve(open=False)
    served.server.registry.add(
        "anna", password=hash_password("correct horse"), rights=Rights(publish=("#",))
    )
    secret = add(served, "kitchen")
    device = await served.device("kitchen", username="kitchen", password=secret.encode())
    waiting = await served.peer()
    waiting.send(
        Connect("desk", True, 60, "anna", b"correct horse"),
        Publish("items/news", b'{"payload": "typed in at once"}', 1, 1),
    )
    await device.subscribe()
    assert await waiting.expect(Connack) == Connack(False, 0)
    await device.shows("typed in at once")
    assert (await greeted(served, "desk", True, 60, "anna", b"wrong horse")).code == 4
    assert (await greeted(served, "desk", True, 60, "anna")).code == 5


async def test_a_client_that_leaves_before_its_password_is_checked_leaves_nothing(
    serve: Serve,
) -> None:
    served = await serve(open=False)
    served.server.registry.add("anna", password=hash_password("correct horse"))
    for _ in range(3):
        peer = await served.peer()
        peer.send(Connect("desk", False, 60, "anna", b"correct horse"))
        await peer.drop()
    await eventually(lambda: served.server.lane.connections, lambda count: count == 0)
    peer = await served.connect("desk", username="anna", password=b"correct horse")
    await peer.ping()
    assert list(served.server.lane.sessions) == [("anna", "desk")]


async def test_an_address_that_guesses_is_held_back_but_its_devices_are_not(serve: Serve) -> None:
    served = await serve(open=False, auth__login_failures=3, auth__login_refill=1)
    served.server.registry.add("anna", password=hash_password("correct horse"))
    secret = add(served, "kitchen")
    guesses = [(await greeted(served, "x", True, 60, "anna", b"guess")).code for _ in range(5)]
    assert guesses == [4, 4, 4, 3, 3]
    assert (await greeted(served, "desk", True, 60, "anna", b"correct horse")).code == 3
    assert (await greeted(served, "kitchen", True, 60, "kitchen", secret.encode())).code == 0


async def test_five_hundred_refused_logins_leave_nothing_behind(serve: Serve) -> None:
    served = await serve(open=False, auth__login_failures=0)
    add(served, "kitchen")
    for clean in (True, False) * 250:
        assert (await greeted(served, "kitchen", clean, 60, "kitchen", b"wrong")).code == 4
    await eventually(lambda: served.server.lane.connections, lambda count: count == 0)
    assert not served.server.lane.sessions
    assert served.count("dropped", "connect_refused_bad_credentials") == 500


# ---- Whose session it is


async def test_a_wrong_password_touches_nothing_of_the_session_it_aims_at(serve: Serve) -> None:
    served = await serve(open=False, topics__read=["#"], topics__write=["#"])
    secret = add(served, "kitchen", rights=Rights(publish=("#",)))
    device = await served.device(
        "kitchen", clean=False, username="kitchen", password=secret.encode()
    )
    await device.subscribe()
    await device.frame()
    assert await device.peer.subscribe(("home", 1)) == (1,)
    forged = Will("home", b"forged")
    for clean in (True, False):
        for password in (b"wrong", None):
            connack = await greeted(served, "kitchen", clean, 60, "kitchen", password, forged)
            assert connack.code in {4, 5}
    await device.peer.ping()
    await device.peer.leave()
    for clean in (True, False):
        assert (await greeted(served, "kitchen", clean, 60, None, None)).code == 5
    again = await served.device(
        "kitchen", device.replica, clean=False, username="kitchen", password=secret.encode()
    )
    assert again.session_present
    await again.peer.publish("home", b"own")
    assert (await again.peer.expect(Publish)).payload == b"own"


async def test_two_users_with_one_client_id_have_two_sessions(serve: Serve) -> None:
    served = await serve(open=False, topics__read=["#"], topics__write=["#"])
    passwords = {name: add(served, name).encode() for name in ("anna", "ben")}

    async def connect(name: str) -> tuple[object, Connack]:
        peer = await served.peer()
        return peer, await peer.greet(Connect("desk", False, 60, name, passwords[name]))

    anna = await served.connect("desk", clean=False, username="anna", password=passwords["anna"])
    await anna.subscribe(("private", 1))
    ben = await served.peer()
    assert await ben.greet(Connect("desk", False, 60, "ben", passwords["ben"])) == Connack(False, 0)
    await anna.ping()
    await ben.publish("private", b"for anna's session alone")
    assert (await anna.expect(Publish)).payload == b"for anna's session alone"
    await ben.ping()
    await ben.leave()
    await anna.ping()


async def test_nobody_claims_the_client_id_of_a_device_with_credentials(serve: Serve) -> None:
    served = await serve(open=True)
    add(served, "kitchen")
    assert (await greeted(served, "kitchen")).code == 5
    assert (await greeted(served, "kitchen", True, 60, "somebody", b"x")).code == 5


async def test_a_publisher_reaches_its_channels_alone(serve: Serve) -> None:
    served = await serve(open=False)
    secret = add(served, "agency", rights=Rights(publish=("alerts/+/ca",)))
    peer = await served.connect("agency", username="agency", password=secret.encode())
    await peer.publish("items/alerts/fire/ca", b"smoke")
    await peer.publish("items/alerts/fire", b"not theirs")
    await peer.publish("items/news", b"not theirs either")
    assert served.count("items", "received") == 1
    assert served.count("dropped", "publish_not_permitted") == 2
    refused = await greeted(
        served, "agency", True, 60, "agency", secret.encode(), Will("items/news", b"x")
    )
    assert refused.code == 5


async def test_only_operators_read_sys(serve: Serve) -> None:
    served = await serve(open=False, topics__read=["#"])
    plain = add(served, "plain")
    chief = add(served, "chief", rights=Rights(operator=True))
    peer = await served.connect("plain", username="plain", password=plain.encode())
    assert await peer.subscribe(("$SYS/#", 0), ("#", 0)) == (0x80, 0)
    operator = await served.connect("chief", username="chief", password=chief.encode())
    assert await operator.subscribe(("$SYS/#", 0)) == (0,)


async def test_secrets_passwords_and_tokens_are_in_no_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve(open=False)
    secret = add(served, "kitchen")
    peer = await served.connect("kitchen", username="kitchen", password=secret.encode())
    await peer.leave()
    assert (await greeted(served, "kitchen", True, 60, "kitchen", b"guess-guess")).code == 4
    broken = await served.peer()
    broken.send(Connect("kitchen", True, 60, "kitchen", secret.encode()), b"\xf0\x00")
    await broken.expect_end()
    assert secret not in caplog.text
    assert "guess-guess" not in caplog.text
    assert secret not in repr(Connect("kitchen", password=secret.encode()))


async def test_a_device_has_one_connection_however_it_came_in(
    serve: Serve, authority: trustme.CA, tls_settings: dict[str, str]
) -> None:
    """In open registration a certificate is not needed, and makes another session."""
    served = await serve(**tls_settings, tls__client_certificate="optional", open=True)
    served.tls = client_context(authority)
    first = await served.subscribed("kitchen")
    served.tls = client_context(authority, "kitchen")
    second = await served.subscribed("kitchen")
    await first.peer.expect_closed()
    await served.publish(item("a", "for the newer one"))
    await second.shows("for the newer one")
    assert len(served.server.lane.sessions) == 1
