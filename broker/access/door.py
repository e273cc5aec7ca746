"""The one place where a CONNECT becomes an identity.

Who is who, in this order: a verified certificate names the user; a token names its subject; a generated
secret, or else a chosen password, proves the name that comes with it. A name that has credentials needs
them always, and without open registration everybody needs some.

Devices log in with generated secrets: one HMAC, on the event loop, so that a fleet that reconnects does
not queue. Only chosen passwords are slow on purpose, and those go to threads. What such a check found is
no verdict yet: who is revoked, changed or removed meanwhile must not get in, so the verdict is given in
the very step of the loop in which the client is let in.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from broker.access.credentials import (
    BAD_CREDENTIALS,
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
    UNAVAILABLE,
    Attempt,
    Proof,
    Refused,
    RightsOfAll,
    claim_of,
    device_of,
    has_credentials,
    objection,
)
from broker.access.identity import Identity
from broker.access.login_limits import LoginLimits
from broker.access.passwords import PasswordChecker
from broker.access.tokens import BadToken, TokenVerifier
from devices.registry import Match, check_secret, promote

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from broker.config import Config
    from broker.counters import Counters
    from devices.profile import Profile
    from devices.registry import Registry

    Verdict: TypeAlias = Identity | Refused

__all__ = [
    "BAD_CREDENTIALS",
    "IDENTIFIER_REJECTED",
    "NOT_AUTHORIZED",
    "UNAVAILABLE",
    "Attempt",
    "Door",
    "Refused",
]

_LOOK_AGAIN = 60.0
"""Seconds between two looks for a profile with a password, as long as there was none."""


class Door:
    """Lets clients in, or says why not.

    Everything is decided at once but for chosen passwords, which are checked in threads.

    Args:
        config: The settings.
        registry: Who there is.
        key: The server's key of the stored secrets.
        counters: What happened; `secrets_promoted` is counted here, refusals by whoever refuses.
        on_promoted: Called with a profile whose next secret was used for the first time, and so has
            replaced the one before: it has to be stored.
        passwords_exist: Whether to reckon with chosen passwords though the registry has none, as it
            does not have everybody.
        clock: Seconds, for the limits on failures.

    Raises:
        TokenKeyError: The key of the tokens cannot be used.
    """

    def __init__(
        self,
        config: Config,
        *,
        registry: Registry,
        key: bytes,
        counters: Counters,
        on_promoted: Callable[[Profile], object],
        passwords_exist: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._key = key
        self._counters = counters
        self._on_promoted = on_promoted
        self._clock = clock
        self._opened = config.open_mode
        self._limited_by: tuple[int, float] | None = None
        self.adopt(config, token_verifier(config))
        auth = config.auth
        self._passwords = PasswordChecker(workers=auth.password_workers, queue=auth.password_queue)
        self._passwords_exist = passwords_exist
        self._look_at = float("-inf")

    def admit(self, attempt: Attempt) -> Verdict | asyncio.Future[Callable[[], Verdict]]:
        """Decide on a client.

        Where it has sent a password that takes time to check, the answer is a future. What this brings
        gives the verdict when it is called, as things stand by then: call it once, and let the client
        in before anything else has its turn.
        """
        claim = claim_of(attempt, tokens=self._tokens is not None)
        if isinstance(claim, Refused):
            return claim
        match claim.proof:
            case Proof.CERTIFICATE:
                return self._proven(attempt, claim.name)
            case Proof.TOKEN:
                return self._by_token(attempt)
            case Proof.SECRET:
                return self._by_secret(attempt, claim.name)
            case Proof.NONE:
                return self._unproven(attempt, claim.name)

    def adopt(self, config: Config, tokens: TokenVerifier | None) -> None:
        """Go by other rights of all, tokens and limits from now on; who is in already stays in."""
        self._rights = RightsOfAll(config)
        self._tokens = tokens
        limited_by = (config.auth.login_failures, config.auth.login_refill)
        if limited_by != self._limited_by:  # else nobody is forgiven
            self._limited_by = limited_by
            self._limits = LoginLimits(failures=limited_by[0], refill=limited_by[1])

    def close(self) -> None:
        """Let go of the threads. Whoever waits for a password is refused."""
        self._passwords.close()

    # ---- The proofs

    def _by_token(self, attempt: Attempt) -> Verdict:
        assert self._tokens is not None
        assert attempt.connect.password is not None
        if self._limits.exhausted(attempt.address, self._clock()):
            return _LIMITED
        try:
            token = self._tokens.verify(attempt.connect.password)
        except BadToken as error:
            return self._failed(attempt, Refused(BAD_CREDENTIALS, error.reason))
        if attempt.connect.username and attempt.connect.username != token.user:
            return self._failed(attempt, Refused(BAD_CREDENTIALS, "token_of_another"))
        return self._proven(attempt, token.user, expires=token.expires)

    def _by_secret(
        self, attempt: Attempt, name: str
    ) -> Verdict | asyncio.Future[Callable[[], Verdict]]:
        password = attempt.connect.password
        assert password is not None
        profile = self._registry.get(name)
        if profile is None or not has_credentials(profile):
            if self._opened:
                return self._unproven(attempt, name)
            # Nobody, or somebody who comes in by other means. The answer does not tell, and neither
            # does its time from that to a wrong password. A device's wrong secret is answered sooner:
            # device ids are no secret, and must not cost a thread each time that a fleet has old ones.
            return (
                self._by_password(attempt, None)
                if self._any_password()
                else self._wrong_secret(attempt)
            )
        match = check_secret(password, profile, self._key)
        if match is not None:
            verdict = self._proven(attempt, name)
            if match is Match.NEXT and isinstance(verdict, Identity):
                self._promote(profile)
            return verdict
        return (
            self._wrong_secret(attempt)
            if profile.password is None
            else self._by_password(attempt, profile)
        )

    def _by_password(
        self, attempt: Attempt, profile: Profile | None
    ) -> Refused | asyncio.Future[Callable[[], Verdict]]:
        """Check a chosen password; without a profile, only for the time that it takes."""
        assert attempt.connect.password is not None
        if self._limits.exhausted(attempt.address, self._clock()):
            return _LIMITED
        encoded = None if profile is None else profile.password
        checking = self._passwords.check(encoded, attempt.connect.password)
        if checking is None:
            return Refused(UNAVAILABLE, "login_busy")
        answer: asyncio.Future[Callable[[], Verdict]] = asyncio.get_running_loop().create_future()

        def checked(done: asyncio.Future[bool]) -> None:
            # Charged here, and so also to a client that did not wait for its answer.
            if not done.cancelled() and not done.result():
                self._failed(attempt)
            if not answer.done():  # else the client has gone meanwhile
                answer.set_result(partial(self._after_password, attempt, profile, encoded, done))

        checking.add_done_callback(checked)
        return answer

    def _after_password(
        self,
        attempt: Attempt,
        profile: Profile | None,
        encoded: str | None,
        done: asyncio.Future[bool],
    ) -> Verdict:
        """The verdict of a check that is over, by what is in the registry now."""
        if done.cancelled():
            return Refused(UNAVAILABLE, "server_stopped")
        if profile is None or not done.result():
            return _WRONG
        if self._registry.get(profile.device) is not profile or profile.password != encoded:
            return _WRONG  # removed or changed since the check began
        return self._proven(attempt, profile.device)

    # ---- The verdict

    def _proven(self, attempt: Attempt, user: str, *, expires: float | None = None) -> Verdict:
        """Let in a client that has proven to be `user`."""
        profile = self._registry.get(user)
        claimed = self._registry.get(attempt.connect.client_id)
        refused = objection(attempt, user, profile, claimed, opened=self._opened)
        return refused or self._identity(attempt, user, profile, expires)

    def _unproven(self, attempt: Attempt, name: str) -> Verdict:
        """Let in a client that nobody vouches for, where registration is open."""
        profile = self._registry.get(name)
        if not self._opened or has_credentials(profile):
            return Refused(NOT_AUTHORIZED, "no_credentials")
        claimed = self._registry.get(attempt.connect.client_id)
        refused = objection(attempt, "", profile, claimed, opened=True)
        return refused or self._identity(attempt, "", None, None)

    def _identity(
        self, attempt: Attempt, user: str, profile: Profile | None, expires: float | None
    ) -> Identity:
        return Identity(
            attempt.connect.client_id,
            user,
            device_of(attempt, user),
            self._rights.with_those_of(profile),
            expires,
        )

    def _wrong_secret(self, attempt: Attempt) -> Refused:
        """Answer a wrong secret, which is checked whatever the limits say, as all others are.

        What is answered as limited is not charged: a device that goes on with an old secret must not
        put off for ever the passwords of those behind the same address.
        """
        if self._limits.exhausted(attempt.address, self._clock()):
            return _LIMITED
        return self._failed(attempt)

    def _failed(self, attempt: Attempt, answer: Refused | None = None) -> Refused:
        """Charge a failure; returns what to answer, `_WRONG` unless said."""
        self._limits.charge(attempt.address, self._clock())
        return answer or _WRONG

    def _promote(self, profile: Profile) -> None:
        promote(profile)
        self._counters.connections["secrets_promoted"] += 1
        self._on_promoted(profile)

    def _any_password(self) -> bool:
        """Whether there is any chosen password; looked up rarely, as it takes a walk over all."""
        if not self._passwords_exist and self._clock() >= self._look_at:
            self._look_at = self._clock() + _LOOK_AGAIN
            self._passwords_exist = any(each.password is not None for each in self._registry)
        return self._passwords_exist


def token_verifier(config: Config) -> TokenVerifier | None:
    """What checks tokens by these settings; None without any.

    Raises:
        TokenKeyError: The key of the tokens cannot be used.
    """
    return None if config.token.key is None else TokenVerifier(config.token)


_WRONG = Refused(BAD_CREDENTIALS, "bad_credentials")
_LIMITED = Refused(UNAVAILABLE, "login_limited")
