"""Whether a device is on, asleep, away or dark: its schedule and its battery."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from devices.packets import Connect
from simulator.fleet.reading import SlowReader
from simulator.fleet.spec import DeviceSpec, State

if TYPE_CHECKING:
    import random

    from simulator.fleet.fleet import Fleet
    from simulator.links.linked import Linked
    from simulator.tally import Tally

_BACKOFF = (0.5, 30.0)


class Powered(SlowReader):
    """A client with a switch, a schedule and a battery; what it says and hears is `Device`'s.

    Attributes:
        spec: Who it is.
        tally: Of its class.
        state: What it is doing.
        subscribed: SUBACK has come on the present connection.
        following: The server knows what it follows.
        dialling: A connection is being made, or waits for its turn.
        link: What it connects through; None: the socket.
        due: Loop time before which nothing is to be done unless something happens.
    """

    __slots__ = (
        "_attempts",
        "_fleet",
        "_left",
        "_wakes",
        "_woke",
        "dialling",
        "due",
        "following",
        "link",
        "spec",
        "state",
        "subscribed",
        "tally",
    )

    def __init__(self, spec: DeviceSpec, fleet: Fleet) -> None:
        user, password = spec.credentials or (None, None)
        super().__init__(
            Connect(
                spec.device,
                clean_session=spec.clean,
                keep_alive=spec.keep_alive,
                username=user,
                password=None if password is None else password.encode(),
            )
        )
        self.spec = spec
        self.tally: Tally = fleet.tallies[spec.kind]
        self.state = State.OFF
        self.subscribed = False
        self.following = spec.profile() is None
        self.dialling = False
        self.link: Linked | None = None
        self.due = 0.0
        self._fleet = fleet
        self._attempts = 0
        self._left = spec.messages
        self._woke = 0.0, 0.0  # simulated seconds, loop time
        self._wakes = 0.0

    # ---- What it is

    @property
    def lit(self) -> bool:
        """Whether its screen shows anything; a radio that sleeps leaves it on."""
        return self.state in {State.UP, State.ASLEEP}

    @property
    def ready(self) -> bool:
        """Whether it is subscribed and the server knows what it follows."""
        return self.subscribed and self.following

    @property
    def expected(self) -> bool:
        """Whether it should have its window now: it is up, has coverage, and reads."""
        covered = self.link is None or self.link.covered
        return self.state is State.UP and covered and self.spec.reads and not self.stalled

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wants no connection any more if it was switched off while that was made."""
        super().connection_made(transport)
        if self.state is not State.UP:
            self.abort(ConnectionError(f"{self.client_id}: switched off"))

    # ---- What `Device` does

    def leave(self) -> None:
        """Disconnects in order."""
        self.close()

    def dial(self) -> None:
        """Wants a connection."""

    def forget(self) -> None:
        """Loses what it holds."""

    # ---- On, off, asleep

    def bring(self) -> None:
        """Switches it on, whatever its schedule says; one that sleeps, is dark or was refused stays so."""
        if self.state in {State.OFF, State.UP}:
            self._go_up()

    def rouse(self) -> None:
        """Switches it on, or wakes it."""
        if self.state in {State.OFF, State.ASLEEP}:
            self._go_up()

    def begin(self) -> None:
        """Switches it on for the first time: it sleeps if its schedule says so."""
        sleep = self.spec.sleep
        if sleep is None or sleep.awake_at(self._fleet.elapsed):
            self.bring()
        else:
            self.state = State.ASLEEP
            self._wakes = sleep.wakes(self._fleet.elapsed)

    def drop(self, *, clean: bool, lose_flash: bool = False) -> None:
        """Takes it away until it is brought again.

        Args:
            clean: With DISCONNECT; otherwise as by a loss of power.
            lose_flash: It forgets its window and position.
        """
        if self.state in {State.UP, State.ASLEEP}:
            self.state = State.OFF
        if clean:
            self.leave()
        else:
            self.abort(ConnectionError(f"{self.client_id}: no power"))
        if lose_flash:
            self.forget()

    def wake_up(self) -> None:
        """Ends its sleep if it is time."""
        if self.state is State.ASLEEP and self._fleet.elapsed >= self._wakes:
            self._go_up()

    def backoff(self, rng: random.Random) -> float:
        """Seconds to wait before the next attempt: doubling, with jitter so that a fleet spreads out."""
        shortest, longest = _BACKOFF
        delay = min(shortest * 2.0**self._attempts, longest)
        self._attempts = min(self._attempts + 1, 16)
        return delay * rng.uniform(0.5, 1.0)

    def nod_off(self, now: float) -> None:
        """Goes to sleep, in order, if its schedule has one and says so. Loop time."""
        sleep, elapsed = self.spec.sleep, self._fleet.elapsed
        if sleep is None or self._fleet.sleepless:
            return
        woke, woke_real = self._woke
        quiet = now - self.heard if self.ready else 0.0
        if sleep.over(elapsed - woke, now - woke_real, quiet):
            self.state = State.ASLEEP
            self._wakes = sleep.wakes(elapsed)
            self.tally.sleeps += 1
            self.leave()

    def _go_up(self) -> None:
        self.state = State.UP
        self._woke = self._fleet.elapsed, asyncio.get_running_loop().time()
        self.dial()

    def spend(self) -> None:
        """One message less in the battery; with the last one it goes dark."""
        if self._left is None or self.state is State.DARK:
            return
        self._left -= 1
        if self._left <= 0:
            self.state = State.DARK
            self.tally.exhausted += 1
            self.abort(ConnectionError(f"{self.client_id}: its battery is exhausted"))
