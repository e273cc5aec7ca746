"""Who a virtual device is, and what it may be doing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from devices.frames import Profile
from simulator.connection import KEEP_ALIVE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.access import Login
    from simulator.fleet.schedule import Sleep
    from simulator.links.profiles import Profile as LinkProfile


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """Who a virtual device is.

    Attributes:
        device: Its id.
        follow: The filters it follows; None leaves the server's default.
        k: Window length.
        budget: The longest packet it takes.
        max_qos: The highest QoS that it takes.
        kind: Its class; what is counted is counted by class.
        attrs: What it says of itself.
        clean: Whether the broker forgets its session with each connection.
        clock: Whether it knows the time.
        link: Between it and the server; None: straight to the socket, and nothing is counted as a modem would.
        sleep: When it sleeps; None: never.
        messages: PUBLISHes sent and received until its battery is exhausted and it goes dark; None: no end.
        person: Who looks at it, a number of `simulator.people`; None: nobody.
        reads: False: once subscribed it reads no more, until the server ends the connection, and from then on again.
        stall: Real seconds that it takes before it reads, and answers, what has arrived.
        credentials: User name and password; None: neither.
        keep_alive: Seconds, of the MQTT connection; 0: none.
    """

    device: str
    follow: tuple[str, ...] | None = None
    k: int = 8
    budget: int = 256
    max_qos: int = 1
    kind: str = ""
    attrs: Mapping[str, str | int] = field(default_factory=dict, hash=False)
    clean: bool = False
    clock: bool = False
    link: LinkProfile | None = None
    sleep: Sleep | None = None
    messages: int | None = None
    person: int | None = None
    reads: bool = True
    stall: float = 0.0
    # Not in the repr: a spec may end up in an error.
    credentials: Login | None = field(default=None, repr=False)
    keep_alive: int = KEEP_ALIVE

    def profile(self) -> Profile | None:
        """What it tells the server of itself: the filters it follows in place of the default `#`, its attributes."""
        if self.follow is None and not self.attrs:
            return None
        follow = self.follow or ()
        unfollow = () if self.follow is None or "#" in follow else ("#",)
        return Profile(follow, unfollow, self.attrs)


class State(StrEnum):
    """What a device is doing.

    Attributes:
        UP: It is connected, or tries to be.
        ASLEEP: It disconnected in order, and will come back by its schedule.
        OFF: It was taken away, or has not been brought yet.
        DARK: Its battery is exhausted; it never comes back.
        REFUSED: The server said that it may never connect.
    """

    UP = "up"
    ASLEEP = "asleep"
    OFF = "off"
    DARK = "dark"
    REFUSED = "refused"


class FleetError(Exception):
    """A fleet that cannot start, or cannot do what is asked: the sentence says which devices and why."""
