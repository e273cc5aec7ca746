"""Dismissals that become durable after their device went to another node.

A device dismisses an item at a node that does not reach the store, goes elsewhere, and is served there by what
the store knows: without the dismissal. It becomes durable when the store is reached again. Then its node looks who
holds the device, and tells; whoever claims the device after that look reads it from the store.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgpack

from broker.acceptance import failed
from feedgen.store.base import Dismiss, StoreError

if TYPE_CHECKING:
    import asyncio

    from broker.service import Service
    from feedgen.store.shared import SharedStore

DISMISSED = "dismissed"
"""Kind of what is told."""


class Dismissals:
    """Stores the dismissals of one node's devices, and hears of those of others.

    Args:
        node: The name of this node.
        store: What the nodes share, joined.
        service: Who serves devices.
    """

    def __init__(self, node: str, store: SharedStore, service: Service) -> None:
        self._node = node
        self._store = store
        self._service = service

    def keep(self, device: str, n: int) -> None:
        """A device of this node has dismissed an item."""
        self._store.submit((Dismiss(device, n),)).add_done_callback(partial(self._kept, device, n))

    def told(self, kind: str, body: bytes) -> None:
        """Another node tells of a dismissal; whom it does not concern forgets it."""
        if kind != DISMISSED:
            return
        try:
            device, n = msgpack.unpackb(body)
        except ValueError:
            self._service.counters.dropped["dismissal_unreadable"] += 1
            return
        self._service.dismissed_elsewhere(device, n)

    def _kept(self, device: str, n: int, done: asyncio.Future[None]) -> None:
        if failed(done):
            return
        try:
            looking = self._store.fetch((device,))
        except StoreError:  # it is closed, and this server ends
            return
        looking.add_done_callback(partial(self._looked, device, n))

    def _looked(self, device: str, n: int, looked: asyncio.Future[dict[str, Any]]) -> None:
        if failed(looked) or looked.result()[device].holder in {"", self._node}:
            return
        try:
            self._store.tell(DISMISSED, msgpack.packb([device, n]))
        except StoreError:
            return
