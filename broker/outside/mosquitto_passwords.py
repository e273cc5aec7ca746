"""The text of Mosquitto's password file (mosquitto_passwd(1), form 7: PBKDF2 with SHA-512).

The registry keeps hashes of secrets, and nobody can make a line of this file from those. So a line is made
once, when a secret is given in plain text, and kept as long as it holds. Whether it does can be seen from its
salt, which we choose: half of it is random, the other half is an HMAC of that under the hash that the registry
has. When a secret is rotated or a password changed, the hash is another, and the line of before is found out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.access.passwords import check_password
from devices.registry import Match, check_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from broker.outside.secrets_table import Given
    from devices.profile import Profile

SECRET_ITERATIONS = 101
"""As many rounds as `mosquitto_passwd` 2.0 uses. Few, on purpose: a generated secret cannot be guessed with
any number of them, and Mosquitto hashes in its only thread, where a fleet that reconnects waits in line."""

PASSWORD_ITERATIONS = 20_000
"""Rounds for a password that somebody chose: some 15 ms of that thread at each login."""

_NONCE_BYTES = _TAG_BYTES = 6  # together the 12 bytes of salt that all versions of Mosquitto take
_FORM_7 = re.compile(r"\$7\$[1-9][0-9]*\$([A-Za-z0-9+/=]+)\$[A-Za-z0-9+/=]+")


def hash_password(secret: str, *, salt: bytes | None = None, iterations: int) -> str:
    """What stands behind `name:` in a password file."""
    salt = secrets.token_bytes(_NONCE_BYTES + _TAG_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, iterations)
    return f"$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def prove(secret: str, profile: Profile, key: bytes) -> str | None:
    """The hash of a secret or password for a line, if it is one of the profile's; None if it is not.

    Slow by intent where the profile has a password that somebody chose.

    Args:
        secret: In plain text.
        profile: Whose it is said to be.
        key: The store's key of the hashed secrets.
    """
    match = check_secret(secret, profile, key)
    if match is not None:
        proof = profile.secret_hash if match is Match.CURRENT else profile.next_hash
        assert proof is not None
        return hash_password(secret, salt=_salt(proof), iterations=SECRET_ITERATIONS)
    if profile.password is not None and check_password(profile.password, secret.encode()):
        proof = profile.password.encode()
        return hash_password(secret, salt=_salt(proof), iterations=PASSWORD_ITERATIONS)
    return None


def still_holds(hashed: str, profile: Profile) -> bool:
    """Whether a hash is from `prove`, for a secret or password that the profile still has."""
    return _age(hashed, profile) < len(_proofs(profile))


def parse(text: str) -> dict[str, str]:
    """Name and hash of every line of a password file; others are passed over."""
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: hashed for name, _, hashed in lines if hashed}


def render(hashes: Mapping[str, str]) -> str:
    """A password file with these lines, by name."""
    return "".join(f"{name}:{hashes[name]}\n" for name in sorted(hashes))


@dataclass(slots=True)
class Passwords:
    """A password file in the making.

    Attributes:
        hashes: Its lines, by name.
        given: How many are from secrets that were given now.
        left_out: How many secrets belong to names that nobody has, or that are revoked.
        faults: What is wrong with what was given: number of its line, and a sentence.
        missing: Names that could log in to a server of ours, and have no line here.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    given: int = 0
    left_out: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def renew(
    profiles: Mapping[str, Profile], key: bytes, old: Mapping[str, str], given: Iterable[Given]
) -> Passwords:
    """Make the lines of everybody: of the secrets given, and of before as far as they hold.

    A device that was given a next secret has a line of that one from when it is given here, whatever
    else is: going back to the present one would lock out a device that has changed over.

    Args:
        profiles: Who there is, by name.
        key: The store's key of the hashed secrets.
        old: The lines of before, by name.
        given: Secrets in plain text.
    """
    made = Passwords()
    in_force = {name: each for name, each in profiles.items() if not each.revoked}
    for name, hashed in old.items():
        if name in in_force and still_holds(hashed, in_force[name]):
            made.hashes[name] = hashed
    for each in given:
        profile = in_force.get(each.name)
        if profile is None:
            made.left_out += 1
        else:
            _take(made, each, profile, key)
    made.missing = [
        name for name, each in in_force.items() if name not in made.hashes and _proofs(each)
    ]
    return made


def _take(made: Passwords, given: Given, profile: Profile, key: bytes) -> None:
    if ":" in given.name:
        fault = f"{given.name} has a colon, which in Mosquitto's file ends a name"
        made.faults.append((given.line, fault))
        return
    hashed = prove(given.secret, profile, key)
    if hashed is None:
        made.faults.append((given.line, f"this is not the secret of {given.name}"))
        return
    made.given += 1
    before = made.hashes.get(given.name)
    if before is None or _age(hashed, profile) <= _age(before, profile):
        made.hashes[given.name] = hashed


def _salt(proof: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _tag(nonce, proof)


def _tag(nonce: bytes, proof: bytes) -> bytes:
    return hmac.digest(proof, nonce, hashlib.sha256)[:_TAG_BYTES]


def _age(hashed: str, profile: Profile) -> int:
    """Which of the profile's proofs a hash was made for, 0 the newest; their number if for none."""
    proofs = _proofs(profile)
    salt = _salt_of(hashed)
    nonce, tag = salt[:_NONCE_BYTES], salt[_NONCE_BYTES:]
    matches = (
        age for age, each in enumerate(proofs) if hmac.compare_digest(tag, _tag(nonce, each))
    )
    return next(matches, len(proofs))


def _salt_of(hashed: str) -> bytes:
    """The salt of a hash in form 7; none of a text that is no such hash."""
    found = _FORM_7.fullmatch(hashed)
    try:
        return b"" if found is None else base64.b64decode(found[1], validate=True)
    except binascii.Error:
        return b""


def _proofs(profile: Profile) -> list[bytes]:
    """What the registry has of the profile's secrets, the newest first."""
    password = None if profile.password is None else profile.password.encode()
    return [each for each in (profile.next_hash, profile.secret_hash, password) if each is not None]
