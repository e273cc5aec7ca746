"""Tokens in the place of a password: JWTs that somebody else has signed (RFC 7519)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt

from broker.access.identity import MAX_NAME_BYTES
from broker.config_layers import InvalidConfig

if TYPE_CHECKING:
    from pathlib import Path

    from broker.config import TokenSettings

MAX_TOKEN = 8_192
"""Bytes of the longest token that is looked at."""

MIN_SHARED_SECRET = 32
"""Bytes of the shortest secret for HS256 (RFC 7518, 3.2)."""

# Three parts in base64url, the first of which begins with '{"'. No generated secret has a full stop.
_FORM = re.compile(rb"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class TokenKeyError(InvalidConfig):
    """The key of the tokens cannot be used; one sentence that names the setting."""

    def __init__(self, sentence: str) -> None:
        super().__init__((sentence,))


class BadToken(Exception):  # noqa: N818 - named for the fault, which is the client's
    """A token that proves nothing; `reason` is one word for a counter and says nothing of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Token:
    """What a valid token says.

    Attributes:
        user: Its subject, `sub`.
        expires: Unix seconds from which on it is not accepted any more: `exp` and the leeway.
    """

    user: str
    expires: float


def looks_like_token(password: bytes) -> bool:
    """Whether a password has the form of a token."""
    return len(password) <= MAX_TOKEN and _FORM.fullmatch(password) is not None


class TokenVerifier:
    """Checks tokens with one key and one algorithm.

    The algorithm is configured and never taken from the token, or a token could choose to be checked
    with a public key as if that were a shared secret (RFC 8725, 3.1).

    Args:
        settings: With a key and an algorithm.

    Raises:
        TokenKeyError: The key cannot be read, or is not one for the algorithm.
    """

    def __init__(self, settings: TokenSettings) -> None:
        if settings.key is None or settings.algorithm is None:
            raise TokenKeyError("Tokens need token.key and token.algorithm.")
        self._key = _load_key(settings.key, settings.algorithm)
        self._algorithm = settings.algorithm
        self._issuer = settings.issuer
        self._audience = settings.audience
        self._leeway = settings.leeway

    def verify(self, token: bytes) -> Token:
        """What `token` says, by the clock of this machine.

        Raises:
            BadToken: It is not signed by the key, or not for now, or not for this server.
        """
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway,
                options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            )
            return _token(claims, self._leeway)
        except jwt.ExpiredSignatureError:
            raise BadToken("token_expired") from None
        except Exception:  # noqa: BLE001 - a library parses what anybody may send: its failures are one
            raise BadToken("bad_token") from None


def _token(claims: dict[str, Any], leeway: float) -> Token:
    user = claims["sub"]
    if not 0 < len(user.encode()) <= MAX_NAME_BYTES:
        raise ValueError("sub is no name")
    return Token(user, int(claims["exp"]) + leeway)


def read_key(file: Path) -> bytes:
    """What is in the file of `token.key`, less a final line break, which editors add.

    Raises:
        OSError: It cannot be read.
    """
    return file.read_bytes().removesuffix(b"\n").removesuffix(b"\r")


def _load_key(file: Path, algorithm: str) -> Any:
    try:
        key = read_key(file)
    except OSError as error:
        raise TokenKeyError(
            f"token.key = {file} cannot be read: {error.strerror or error}."
        ) from error
    if algorithm == "HS256" and len(key) < MIN_SHARED_SECRET:
        raise TokenKeyError(
            f"token.key = {file} has {len(key)} bytes: a shared secret for HS256 needs"
            f" {MIN_SHARED_SECRET} at least (RFC 7518, 3.2)."
        )
    if b"PRIVATE KEY-----" in key:
        raise TokenKeyError(
            f"token.key = {file} is a private key, which belongs to whoever issues the tokens alone: give"
            " the public one."
        )
    try:
        return jwt.PyJWS().get_algorithm_by_name(algorithm).prepare_key(key)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        what = "shared secret" if algorithm == "HS256" else "key in PEM form"
        raise TokenKeyError(f"token.key = {file} is no {what} for {algorithm}.") from error
