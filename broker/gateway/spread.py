"""Which worker a device belongs to: rendezvous hashing (Thaler & Ravishankar, 1998).

Each worker has a weight for each device, made from both names; the heaviest one that is alive has the device.
When a worker goes, only its devices move, and when one comes, only those that it gets.
"""

from __future__ import annotations

from hashlib import blake2b

_REMEMBERED = 200_000
"""Devices whose worker is remembered; a weight costs a microsecond for each worker."""


class Spread:
    """The workers that are alive, and which of them has a device.

    Args:
        workers: Their names; not none.
    """

    def __init__(self, workers: frozenset[str]) -> None:
        self._keys: list[tuple[str, bytes]] = []
        self._found: dict[str, str] = {}
        self.change(workers)

    def change(self, workers: frozenset[str]) -> None:
        """Other workers are alive.

        Raises:
            ValueError: None is.
        """
        if not workers:
            raise ValueError("devices need at least one worker")
        self._keys = [
            (name, blake2b(name.encode(), digest_size=16).digest()) for name in sorted(workers)
        ]
        self._found.clear()

    def worker(self, device: str) -> str:
        """The name of the worker that a device belongs to."""
        found = self._found.get(device)
        if found is None:
            data = device.encode()
            weights = (
                (blake2b(data, digest_size=8, key=key).digest(), name) for name, key in self._keys
            )
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            found = self._found[device] = max(weights)[1]
        return found
