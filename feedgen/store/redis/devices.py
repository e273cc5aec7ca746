"""Devices: who holds them, their profiles, and what they dismissed."""

from __future__ import annotations

import asyncio
from heapq import merge
from itertools import islice
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from feedgen.items import MAX_TTL
from feedgen.store.base import StoreError
from feedgen.store.redis import scripts
from feedgen.store.redis.session import answer, nothing
from feedgen.store.shared import Claim, Conflict, Fenced, Found, Late, Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedgen.store.redis.link import Command
    from feedgen.store.redis.session import Session
    from feedgen.store.redis.words import Words
    from feedgen.store.shared import Answer

FIRST_LOOK = 0.005
"""Seconds until a claim looks for the first time whether the holder has let go; then twice as long."""
LAST_LOOK = 0.1

_LATE = 2
"""How `claim.lua` begins where another run has claimed the device since."""


class Devices:
    """The devices of one node, as the store has them."""

    def __init__(self, session: Session, words: Words) -> None:
        self._session = session
        self._words = words
        self._tasks: set[asyncio.Task[None]] = set()

    def fetch(self, devices: Sequence[str]) -> asyncio.Future[dict[str, Found]]:
        """See `SharedStore.fetch`."""
        unique = list(dict.fromkeys(devices))
        asked = [self._fetch_one(device) for device in unique]
        return _all(asked, lambda found: dict(zip(unique, found, strict=True)))

    def claim(self, device: str, wait: float, waited: float) -> asyncio.Future[Claim | Late]:
        """See `SharedStore.claim`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Claim | Late] = loop.create_future()
        name, since = self._session.name(), monotonic() - waited
        asked = self._ask_claim(device, name, since, passing_by=wait <= 0)

        def answered(asked: asyncio.Future[Any]) -> None:
            if (error := asked.exception()) is not None:
                if not future.done():
                    future.set_exception(error)
            elif asked.result()[0]:
                answer(future, asked.result(), self._claimed(device))
            else:
                holder = _text(asked.result()[1])
                self._start(self._wait(device, name, since, wait, holder, future))

        asked.add_done_callback(answered)
        return future

    def put(
        self,
        device: str,
        blob: bytes | None,
        *,
        version: int | None,
        token: int | None,
        release: bool = False,
        notice: str = "",
    ) -> asyncio.Future[Answer]:
        """See `SharedStore.put_device`; version None for whatever is there."""
        keys = self._session.keys.device(device)
        command = scripts.PUT_DEVICE.call(
            [keys.device(device), keys.dismissed(device), keys.all, keys.count],
            device,
            "remove" if blob is None else "put",
            blob or b"",
            "*" if version is None else version,
            "" if token is None else token,
            int(release),
            self._session.name(),
            keys.held,
        )
        is_told = token is None or bool(notice)

        def parse(reply: list[Any]) -> Answer:
            result = _answer(reply)
            if is_told and isinstance(result, Written) and self._session.node:
                self._words.changed(device, notice)
            return result

        return self._session.ask(keys.slot, command, parse, size=len(blob or b"") + 300)

    def dismiss(self, device: str, n: int) -> asyncio.Future[None]:
        """See `base.Dismiss`."""
        keys, now = self._session.keys.device(device), round(self._session.clock())
        command = scripts.DISMISS.call([keys.dismissed(device)], n, now, MAX_TTL)
        return self._session.ask(keys.slot, command, nothing)

    def forgive(self, device: str, n: int) -> asyncio.Future[None]:
        """Undo a dismissal, of an item that is gone."""
        keys = self._session.keys.device(device)
        return self._session.ask(keys.slot, ("ZREM", keys.dismissed(device), n), nothing)

    def still_held(self, device: str, token: int) -> asyncio.Future[float | None]:
        """See `SharedStore.still_held`."""
        keys = self._session.keys.device(device)
        command = scripts.STILL_HELD.call([keys.device(device)], token)
        return self._session.ask(keys.slot, command, _held_for)

    def all(self, after: str, limit: int) -> asyncio.Future[list[str]]:
        """See `SharedStore.devices`."""
        low = f"({after}" if after else "-"
        asked = [
            self._session.ask(
                keys.slot,
                ("ZRANGEBYLEX", keys.all, low, "+", "LIMIT", 0, limit),
                _texts,
                writes=False,
            )
            for keys in self._session.keys.devices
        ]
        return _all(asked, lambda found: list(islice(merge(*found), limit)))

    def held_by(self, node: str) -> asyncio.Future[list[str]]:
        """See `SharedStore.held_by`."""
        asked = [
            self._session.ask(keys.slot, ("SMEMBERS", keys.held_by(node)), _texts, writes=False)
            for keys in self._session.keys.devices
        ]
        return _all(asked, lambda found: sorted(device for some in found for device in some))

    def stop(self) -> None:
        """Give up the claims that wait."""
        for task in self._tasks:
            task.cancel()

    # ---- Claims

    def _ask_claim(
        self, device: str, name: str, since: float, *, passing_by: bool
    ) -> asyncio.Future[list[Any]]:
        keys, node = self._session.keys.device(device), self._session.node

        def command() -> Command:
            return scripts.CLAIM.call(
                [keys.device(device), keys.dismissed(device), keys.held_by(node), keys.count],
                node,
                device,
                name,
                f",{','.join(self._session.alive)},",
                int(passing_by),
                round(self._session.clock()),
                len(keys.held),
                round((monotonic() - since) * 1e6),
            )

        return self._session.ask(keys.slot, command, list)

    def _claimed(self, device: str) -> Any:
        def parse(reply: list[Any]) -> Claim | Late:
            if reply[0] == _LATE:
                return Late(_seconds(reply[1]))
            _, token, version, blob, clean, before, dismissed, ago = reply
            holder = _text(before)
            if holder and holder != self._session.node:
                # Also who counts as dead: it may have come back, or just come.
                self._words.taken(device, holder)
            never = tuple(sorted(map(int, dismissed)))
            return Claim(token, version, blob, bool(clean), never, _seconds(ago))

        return parse

    async def _wait(
        self,
        device: str,
        name: str,
        since: float,
        wait: float,
        holder: str,
        future: asyncio.Future[Claim | Late],
    ) -> None:
        """Ask the holder to let go, look whether it has, and pass it by when the time is over."""
        loop = asyncio.get_running_loop()
        deadline, pause, told = loop.time() + wait, FIRST_LOOK, ""
        try:
            while not future.done():
                if holder != told:
                    self._words.taken(device, holder)
                    told = holder
                await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
                pause = min(2 * pause, LAST_LOOK)
                is_over = loop.time() >= deadline
                reply = await self._ask_claim(device, name, since, passing_by=is_over)
                if reply[0]:
                    answer(future, reply, self._claimed(device))
                else:
                    holder = _text(reply[1])
        except StoreError as error:
            answer(future, error, self._claimed(device))
        except asyncio.CancelledError:
            lost = StoreError("The store was closed before the device was claimed.")
            answer(future, lost, self._claimed(device))
            raise

    def _start(self, waiting: Any) -> None:
        task = asyncio.create_task(waiting)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fetch_one(self, device: str) -> asyncio.Future[Found]:
        keys = self._session.keys.device(device)
        command = ("HMGET", keys.device(device), "version", "blob", "holder")
        return self._session.ask(keys.slot, command, _found, writes=False)


def _all(asked: list[asyncio.Future[Any]], parse: Any) -> asyncio.Future[Any]:
    """One future for several; there is at least none of them."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    left = len(asked)

    def answered(_: object) -> None:
        nonlocal left
        left -= 1
        if left <= 0 and not future.done():
            error = next((each.exception() for each in asked if each.exception()), None)
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(parse([each.result() for each in asked]))

    for each in asked:
        each.add_done_callback(answered)
    if not asked:
        asyncio.get_running_loop().call_soon(answered, None)
    return future


def _found(reply: list[Any]) -> Found:
    version, blob, holder = reply
    return Found(int(version or 0), blob, _text(holder))


def _answer(reply: list[Any]) -> Answer:
    match reply[0]:
        case b"written":
            return Written(reply[1])
        case b"conflict":
            return Conflict(reply[1], reply[2])
    return Fenced()


def _seconds(ago: int) -> float:
    """Microseconds of the store; -1 where it has nothing to tell."""
    return inf if ago < 0 else ago / 1e6


def _held_for(since: int) -> float | None:
    return None if since < 0 else since / 1e6


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()


def _texts(reply: list[bytes]) -> list[str]:
    return sorted(value.decode() for value in reply)
