"""How many failed logins an address has left.

Pure: time is passed in. The limit is a token bucket per address, kept as the one number of the generic
cell rate algorithm (ITU-T I.371): the time at which the bucket will be full again.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

MAX_ADDRESSES = 10_000
"""Addresses remembered; above that the one that failed longest ago is forgotten."""


class LoginLimits:
    """Failed logins, by address.

    Only failures are charged, once they are known: many who come back at one time behind one address,
    with the right passwords, owe nothing. Checks that began before the last failure was known may fail
    too. They are charged like any other, so that guessing many at one time costs as much as guessing one
    after another; the address then waits the longer. A success forgives nothing: whoever owns one account
    could guess at the others without end.

    Args:
        failures: Failures that an address has at once; 0 = no limit.
        refill: Failures per minute that it gets back.
    """

    def __init__(self, *, failures: int, refill: float) -> None:
        self._cost = 60.0 / refill  # seconds
        self._depth = failures * self._cost
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def exhausted(self, address: str, now: float) -> bool:
        """Whether `address` has no failure left at `now`, in seconds."""
        if not self._depth:
            return False
        full_at = self._full_at.get(network_of(address), now)
        # The tolerance is for the sum of many rounded costs.
        return max(full_at, now) + self._cost - now > self._depth + 1e-6

    def charge(self, address: str, now: float) -> None:
        """Charge `address` with a failure at `now`, also where it has none left."""
        if not self._depth:
            return
        network = network_of(address)
        self._full_at[network] = max(self._full_at.get(network, now), now) + self._cost
        self._full_at.move_to_end(network)
        if len(self._full_at) > MAX_ADDRESSES:
            self._full_at.popitem(last=False)


def network_of(address: str) -> str:
    """What counts as one address: IPv4 as it is, of IPv6 the /64 that a host has to itself.

    Text that is no IP address stands for itself.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(found) >> 64 << 64))
