"""The door of a node: what is known of a client is asked of the store, and its device is claimed.

All of it happens before CONNACK, while the connection is not read (MQTT 3.1.1, 3.1): first the profiles
that the door decides by, then the door's decision, then the claim, so that nobody can take a device away
from another node without proving to be it. The questions of one turn of the loop travel together.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from broker.access.credentials import UNAVAILABLE, Refused
from broker.cluster.entries import Elsewhere
from devices.profile import valid_device_id
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.access.credentials import Attempt
    from broker.access.door import Door
    from broker.access.identity import Identity
    from broker.cluster.directory import Directory
    from feedgen.store.shared import SharedStore

    Verdict: TypeAlias = Identity | Refused

_PATIENCE = 2.0
"""Seconds beyond the wait for a holder that a client waits for the store."""

_ROUNDS = 8
"""How often a decision is made anew, as a profile was changed while its device was claimed: by an operator, or
by the device's own last connection, which is let go at another node. Who does not prove anything is refused in the first."""

AWAY = Refused(UNAVAILABLE, "store_away")
_DRAINING = Refused(UNAVAILABLE, "draining")
_LATE = Refused(UNAVAILABLE, "after_standstill")
_ELSEWHERE = Refused(UNAVAILABLE, "connected_elsewhere")


class Arrivals:
    """Lets clients in at one of several nodes.

    Args:
        door: Who decides.
        directory: Profiles and claims.
        store: What all nodes share.
        wait: Seconds that the present holder of a device has to let go.
        stood_still: Whether this process stood still a moment ago, see `pulse`: then a client that comes may
            have come long ago, and be at another node by now.

    Attributes:
        closed: Whether nobody is let in any more.
    """

    def __init__(
        self,
        door: Door,
        directory: Directory,
        store: SharedStore,
        *,
        wait: float,
        stood_still: Callable[[], bool] = lambda: False,
    ) -> None:
        self.closed = False
        self._stood_still = stood_still
        self._door = door
        self._directory = directory
        self._store = store
        self._patience = wait + _PATIENCE
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[None]] = set()

    def admit(self, attempt: Attempt) -> Verdict | asyncio.Future[Callable[[], Verdict]]:
        """See `Door.admit`: the answer is a future, unless it is a refusal."""
        if self.closed:
            return _DRAINING
        if not self._store.up:
            return AWAY
        if self._stood_still():
            return _LATE
        answer: asyncio.Future[Callable[[], Verdict]] = self._loop.create_future()
        task = self._loop.create_task(self._arrive(attempt, answer))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        return answer

    async def _arrive(
        self, attempt: Attempt, answer: asyncio.Future[Callable[[], Verdict]]
    ) -> None:
        names = _names(attempt)
        for name in names:
            self._directory.use(name)
        verdict: Callable[[], Verdict] = partial(_is, AWAY)
        try:
            verdict = await self._decided(attempt, names)
        except Elsewhere:
            # What it has sent behind its CONNECT may contradict what it has said since where it is now.
            verdict = partial(_is, _ELSEWHERE)
        except (StoreError, TimeoutError):
            pass  # away
        finally:
            if not answer.done():
                answer.set_result(verdict)
            # After whoever waits for the answer has let the client in.
            self._loop.call_soon(self._leave, names)

    def _leave(self, names: list[str]) -> None:
        for name in names:
            self._directory.leave(name)

    async def _decided(self, attempt: Attempt, names: list[str]) -> Callable[[], Verdict]:
        """The verdict, with the device held if there is one.

        Raises:
            Elsewhere: The client was let in at another node after it had come here.
            StoreError: The store has closed.
            TimeoutError: It does not answer.
        """
        async with asyncio.timeout(self._patience):
            await self._directory.look_up(names)
        for _ in range(_ROUNDS):
            seen = self._versions(names)
            found = self._door.admit(attempt)
            verdict = (await found)() if isinstance(found, asyncio.Future) else found
            if isinstance(verdict, Refused):
                return partial(_is, verdict)
            if verdict.device is not None:
                async with asyncio.timeout(self._patience):
                    await self._directory.claim(verdict.device, attempt.came)
            if self._versions(names) == seen:
                return partial(self._still, attempt, verdict, names, seen)
        return partial(_is, _CHANGING)

    def _still(
        self, attempt: Attempt, verdict: Identity, names: list[str], seen: list[int]
    ) -> Verdict:
        """The verdict in the step that lets the client in."""
        if self._stood_still():
            return _LATE
        if verdict.device is not None and not self._directory.holds(verdict.device):
            return _CHANGING
        if self._versions(names) == seen:
            return verdict
        again = self._door.admit(attempt)
        if isinstance(again, Refused):
            return again
        # A password that takes long to check, or another device, cannot be decided on in this step.
        return (
            _CHANGING
            if isinstance(again, asyncio.Future) or again.device != verdict.device
            else again
        )

    def _versions(self, names: list[str]) -> list[int]:
        return [self._directory.version(name) for name in names]


_CHANGING = Refused(UNAVAILABLE, "profile_changing")


def _is(verdict: Verdict) -> Verdict:
    return verdict


def _names(attempt: Attempt) -> list[str]:
    """Whose profiles the door may look at: the name that the client goes by, and its client id."""
    connect = attempt.connect
    names = [attempt.certificate, connect.username, None if attempt.assigned else connect.client_id]
    return list(dict.fromkeys(name for name in names if name and valid_device_id(name)))
