"""Passwords that people choose: argon2id, checked in a few threads beside the event loop.

A check costs tens of milliseconds and 64 MiB by intent (RFC 9106). So it never runs on the loop, and not
more than a stated number of logins wait for one.
"""

from __future__ import annotations

import asyncio
import base64
import os
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER = PasswordHasher()


def hash_password(password: str | bytes) -> str:
    """What is stored of a password: an encoded argon2id hash with a salt of its own. Slow by intent."""
    return _HASHER.hash(password)


def check_password(encoded: str, password: bytes) -> bool:
    """Whether `password` is the one that `encoded` was made from. Slow by intent."""
    try:
        return _HASHER.verify(encoded, password)
    except (VerificationError, InvalidHashError):
        return False


def impossible_password() -> str:
    """A hash that no password has, and that takes as long to check as any other.

    For names that nobody has: how long an answer takes must not say whether a name exists.
    """

    def text(size: int) -> str:
        return base64.b64encode(os.urandom(size)).decode().rstrip("=")

    cost = f"m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}"
    return f"$argon2id$v=19${cost}${text(_HASHER.salt_len)}${text(_HASHER.hash_len)}"


class PasswordChecker:
    """A bounded number of checks at one time.

    Args:
        workers: Threads that check.
        queue: Checks that may wait for one.
    """

    def __init__(self, *, workers: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="fleetfeed-password")
        self._limit = workers + queue
        self._under_way = 0
        self._nobody = impossible_password()

    def check(self, encoded: str | None, password: bytes) -> asyncio.Future[bool] | None:
        """Start a check on the running loop; None if too many are waiting.

        Args:
            encoded: From `hash_password`; None for a name that has no password.
            password: As the client sent it.
        """
        if self._under_way >= self._limit:
            return None
        self._under_way += 1
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, check_password, encoded or self._nobody, password)
        future.add_done_callback(self._done)
        return future

    def close(self) -> None:
        """Let go of the threads; checks that still wait are cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, _future: asyncio.Future[bool]) -> None:
        self._under_way -= 1
