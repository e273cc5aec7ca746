"""Tokens: what is accepted, and everything else that is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.access.tokens import (
    BadToken,
    Token,
    TokenKeyError,
    TokenVerifier,
    looks_like_token,
)
from broker.config import TokenSettings
from broker.config_layers import InvalidConfig

SECRET = "a shared secret of 32 bytes or so"
PRIVATE = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa.generate_private_key(65_537, 2_048),
}


def pem(algorithm: str) -> bytes:
    public = PRIVATE[algorithm].public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(algorithm: str) -> bytes:
    return PRIVATE[algorithm].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def verifier(tmp_path: Path):
    """A verifier of EdDSA tokens, or as said."""

    def make(algorithm: str = "EdDSA", **options) -> TokenVerifier:
        file = tmp_path / "key"
        file.write_bytes(f"{SECRET}\n".encode() if algorithm == "HS256" else pem(algorithm))
        return TokenVerifier(TokenSettings(key=file, algorithm=algorithm, **options))

    return make


def token(algorithm: str = "EdDSA", *, key=None, lasts: float = 60, **claims) -> bytes:
    signer = key or PRIVATE.get(algorithm, SECRET)
    content = {"sub": "kitchen", "exp": int(time.time() + lasts)} | claims
    content = {name: value for name, value in content.items() if value is not None}
    return jwt.encode(content, signer, algorithm).encode()


def raw(header: object, claims: object, signature: bytes = b"x") -> bytes:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256", "HS256"])
def test_a_token_of_the_configured_algorithm_names_its_subject(verifier, algorithm: str):
    found = verifier(algorithm, leeway=5).verify(token(algorithm, exp=4_000_000_000))
    assert found == Token("kitchen", 4_000_000_005)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"lasts": -10}, "token_expired"),
        ({"exp": None}, "bad_token"),
        ({"exp": "tomorrow"}, "bad_token"),
        ({"exp": float("inf")}, "bad_token"),
        ({"exp": float("nan")}, "bad_token"),
        ({"exp": 10**400}, "bad_token"),
        ({"exp": "9" * 5_000}, "bad_token"),
        ({"sub": None}, "bad_token"),
        ({"sub": 7}, "bad_token"),
        ({"sub": ["kitchen"]}, "bad_token"),
        ({"sub": ""}, "bad_token"),
        ({"sub": "ü" * 129}, "bad_token"),
        ({"sub": "\ud800"}, "bad_token"),
        ({"nbf": 4_000_000_000}, "bad_token"),
        ({"iss": "somebody"}, "bad_token"),
        ({"iss": None}, "bad_token"),
        ({"aud": "another"}, "bad_token"),
        ({"aud": None}, "bad_token"),
    ],
)
def test_a_token_that_is_not_for_now_or_not_for_this_server_is_bad(verifier, claims, reason):
    ours = {"iss": "login", "aud": ["x", "fleetfeed"]}
    checking = verifier(issuer="login", audience="fleetfeed", leeway=0)
    checking.verify(token(**ours))
    with pytest.raises(BadToken) as caught:
        checking.verify(token(**ours | claims))
    assert caught.value.reason == reason


def test_issuer_and_audience_count_only_where_they_are_set(verifier):
    assert verifier().verify(token(iss="anybody", aud="anything")).user == "kitchen"


def test_the_leeway_goes_both_ways(verifier):
    checking = verifier(leeway=30)
    now = int(time.time())
    assert checking.verify(token(lasts=-10, nbf=now + 10)).expires == pytest.approx(now + 20, abs=2)
    for late in ({"lasts": -40}, {"nbf": now + 60}):
        with pytest.raises(BadToken):
            checking.verify(token(**late))


def test_another_key_or_algorithm_is_never_accepted(verifier):
    eddsa, shared = verifier(), verifier("HS256")
    foreign = ed25519.Ed25519PrivateKey.generate()
    public = pem("EdDSA")
    header, claims = {"alg": "HS256", "typ": "JWT"}, {"sub": "kitchen", "exp": 4_000_000_000}
    signing = raw(header, claims).rpartition(b".")[0]
    # The public key used as if it were a shared secret.
    confused = signing + b"." + base64.urlsafe_b64encode(hmac_sha256(public, signing)).rstrip(b"=")
    unsigned = raw({"alg": "none"}, claims, b"")
    for forged in (token(key=foreign), token("ES256"), token("HS256"), confused, unsigned):
        with pytest.raises(BadToken, match="bad_token"):
            eddsa.verify(forged)
    for forged in (token("HS256", key="another secret of 32 bytes, too!"), token(), unsigned):
        with pytest.raises(BadToken, match="bad_token"):
            shared.verify(forged)
    with pytest.raises(BadToken):
        verifier("RS256").verify(token("ES256"))


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)


def test_every_changed_byte_breaks_a_token(verifier):
    checking, good = verifier(), token()
    # The last character of a part may hold bits that nobody reads.
    for at in range(0, len(good) - 1, 3):
        flipped = bytes([good[at] ^ 1])
        if good[at : at + 1] == b"." or good[at + 1 : at + 2] == b".":
            continue
        with pytest.raises(BadToken):
            checking.verify(good[:at] + flipped + good[at + 1 :])


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=60)
    | st.builds(raw, st.dictionaries(st.text(max_size=4), st.integers()), st.lists(st.integers()))
    | st.builds(raw, st.fixed_dictionaries({"alg": st.text(max_size=6)}), st.integers())
)
def test_no_bytes_raise_anything_but_bad_token(tmp_path_factory, data: bytes):
    file = tmp_path_factory.getbasetemp() / "fuzz-key"
    file.write_bytes(pem("EdDSA"))
    checking = TokenVerifier(TokenSettings(key=file, algorithm="EdDSA"))
    with pytest.raises(BadToken):
        checking.verify(data)


# Numbers of every size, text that is none, and containers where names are expected.
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**320), 10**320)
    | st.floats()
    | st.text(max_size=8)
    | st.just("9" * 5_000)
    | st.sampled_from(["\ud800", "kitchen", "login", "fleetfeed"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)
CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "exp", "nbf", "iat", "iss", "aud", "jti", "crit"]), ANYTHING
)


@settings(max_examples=300, deadline=None)
@given(CLAIMS, st.booleans())
def test_no_claims_however_well_signed_raise_anything_but_bad_token(
    tmp_path_factory, claims: dict[str, object], strict: bool
):
    file = tmp_path_factory.getbasetemp() / "shared-secret"
    file.write_text(SECRET)
    checked = {"issuer": "login", "audience": "fleetfeed"} if strict else {}
    checking = TokenVerifier(TokenSettings(key=file, algorithm="HS256", **checked))
    content = {"sub": "kitchen", "exp": 4_000_000_000} | claims
    signing = raw({"alg": "HS256"}, content).rpartition(b".")[0]
    signature = base64.urlsafe_b64encode(hmac_sha256(SECRET.encode(), signing)).rstrip(b"=")
    try:
        found = checking.verify(signing + b"." + signature)
    except BadToken:
        return
    assert found.user == content["sub"] != ""
    assert found.expires > time.time()


def test_claims_that_are_nested_too_deeply_are_bad(verifier):
    deep = b'{"sub":' + b"[" * 1_500 + b"]" * 1_500 + b"}"
    signing = b".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=") for part in (b'{"alg":"HS256"}', deep)
    )
    signature = base64.urlsafe_b64encode(hmac_sha256(SECRET.encode(), signing)).rstrip(b"=")
    with pytest.raises(BadToken):
        verifier("HS256").verify(signing + b"." + signature)


def test_a_bad_token_says_nothing_of_the_token(verifier):
    with pytest.raises(BadToken) as caught:
        verifier().verify(token(lasts=-1000))
    assert "kitchen" not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("password", "is_token"),
    [
        (token(), True),
        (raw({"alg": "none"}, {}, b""), True),
        (b"", False),
        (b"eyJhbGciOiJIUzI1NiJ9", False),
        (b"one.two.three", False),
        (b"eyJ.a.b.c", False),
        (b"eyJhbGci.a b.c", False),
        (b"eyJhbGci.a.b\n", False),
        (b"eyJ" + b"a" * 10_000 + b".a.b", False),
    ],
)
def test_a_token_is_known_by_its_form(password: bytes, is_token: bool):
    assert looks_like_token(password) is is_token


@pytest.mark.parametrize(
    ("algorithm", "content", "says"),
    [
        ("EdDSA", b"nonsense", "is no key in PEM form for EdDSA"),
        ("EdDSA", b"", "is no key in PEM form for EdDSA"),
        ("EdDSA", pem("RS256"), "is no key in PEM form for EdDSA"),
        ("RS256", b"\xff\xfe", "is no key in PEM form for RS256"),
        ("ES256", pem("EdDSA"), "is no key in PEM form for ES256"),
        ("HS256", b"short\n", "has 5 bytes: a shared secret for HS256 needs 32"),
        ("HS256", pem("RS256"), "is no shared secret for HS256"),
        ("HS256", b"", "has 0 bytes"),
    ],
)
def test_a_key_that_is_none_for_the_algorithm_is_said_to_be_so(
    tmp_path: Path, algorithm: str, content: bytes, says: str
):
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(TokenKeyError) as caught:
        TokenVerifier(TokenSettings(key=file, algorithm=algorithm))
    assert str(caught.value).startswith(f"token.key = {file} ")
    assert says in str(caught.value)


def test_a_missing_key_is_the_operators_fault(tmp_path: Path):
    with pytest.raises(InvalidConfig, match=r"token\.key = .*none cannot be read: No such file"):
        TokenVerifier(TokenSettings(key=tmp_path / "none", algorithm="HS256"))
    with pytest.raises(TokenKeyError, match=r"token\.key and token\.algorithm"):
        TokenVerifier(TokenSettings())


def test_a_private_key_is_refused_for_a_public_one_is_all_that_is_needed(tmp_path: Path):
    file = tmp_path / "key"
    for algorithm in PRIVATE:
        file.write_bytes(private_pem(algorithm))
        with pytest.raises(TokenKeyError, match="private key"):
            TokenVerifier(TokenSettings(key=file, algorithm=algorithm))
