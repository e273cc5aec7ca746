"""The addresses that a client knows, as the usual client with several of them uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.faults.server import Address


class Route:
    """Where one client connects to: to the next address each time, round and round.

    Args:
        addresses: Asked each time, as a proxy has no address before it listens.
        first: The place of the one to begin with.

    Attributes:
        home: The place of the one to begin with.
        places: How many addresses there are.
        place: Of the address that was given out last.
    """

    def __init__(self, addresses: Sequence[Callable[[], Address]], first: int = 0) -> None:
        self._addresses = addresses
        self._next = first
        self.places = len(addresses)
        self.home = self.place = first % len(addresses)

    def __call__(self) -> Address:
        """The address to connect to now."""
        self.place = self._next % len(self._addresses)
        self._next += 1
        return self._addresses[self.place]()
