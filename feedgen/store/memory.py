"""A store that lives as long as the process: the readable specification of `Store`."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from typing import TYPE_CHECKING

from feedgen.store.base import (
    Dismiss,
    DropDevice,
    DropItems,
    Loaded,
    Op,
    PutDevice,
    PutItem,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from feedgen.items import Record


class MemoryStore:
    """Keeps everything in dictionaries, and itself across `close` and `open`.

    A submission is applied at once, but its future resolves in a later turn of the loop, as with a
    disk: callers that only work when futures resolve early would pass every test otherwise.
    """

    def __init__(self) -> None:
        self._records: dict[int, Record] = {}
        self._devices: dict[str, bytes] = {}
        self._dismissed: defaultdict[int, set[str]] = defaultdict(set)
        self._next_n = 1
        self._clean = True
        self._key = secrets.token_bytes(32)
        self._is_open = False
        self._pending: set[asyncio.Future[None]] = set()

    @property
    def up(self) -> bool:
        """Always True: memory does not fail."""
        return True

    @property
    def fault(self) -> str | None:
        """Always None: memory does not fail."""
        return None

    @property
    def pending(self) -> int:
        """Submissions whose future has not resolved yet."""
        return len(self._pending)

    @property
    def errors(self) -> int:
        """Always 0: memory does not fail."""
        return 0

    def open(self) -> Loaded:
        """Return what is held; see `Store.open`.

        Raises:
            StoreError: It is open already.
        """
        if self._is_open:
            raise StoreError("This memory store is open already; close it first.")
        self._is_open = True
        for n in self._dismissed.keys() - self._records.keys():
            del self._dismissed[n]
        loaded = Loaded(
            records=[record for _, record in sorted(self._records.items())],
            devices=sorted(self._devices.items()),
            dismissed=sorted(
                (device, n) for n, devices in self._dismissed.items() for device in devices
            ),
            next_n=self._next_n,
            clean=self._clean,
            key=self._key,
        )
        self._clean = False
        return loaded

    def submit(
        self,
        ops: Sequence[Op],
        *,
        first: bool = False,  # noqa: ARG002 (nothing ever waits here)
        then: Callable[[], None] | None = None,
    ) -> asyncio.Future[None]:
        """Apply `ops` now and return a future that resolves soon; see `Store.submit`."""
        if not self._is_open:
            raise StoreError("The store is not open.")
        for op in ops:
            self._apply(op)
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._pending.add(future)
        loop.call_soon(self._resolve, future, then)
        return future

    async def close(self, clean: bool) -> None:
        """Wait for the futures and remember `clean`; see `Store.close`."""
        if not self._is_open:
            return
        last = self.submit(())
        self._is_open = False
        await last
        self._clean = clean

    def _resolve(self, future: asyncio.Future[None], then: Callable[[], None] | None) -> None:
        self._pending.discard(future)
        if then is not None:
            then()
        if not future.done():
            future.set_result(None)

    def _apply(self, op: Op) -> None:
        match op:
            case PutItem(record):
                self._records[record.n] = record
                self._next_n = max(self._next_n, record.n + 1)
            case DropItems(ns):
                for n in ns:
                    self._records.pop(n, None)
                    self._dismissed.pop(n, None)
            case PutDevice(device, blob):
                self._devices[device] = blob
            case DropDevice(device):
                self._devices.pop(device, None)
                for devices in self._dismissed.values():
                    devices.discard(device)
            case Dismiss(device, n):
                self._dismissed[n].add(device)
