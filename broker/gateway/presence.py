"""Who is there, behind a broker that does not say.

No CONNECT, SUBSCRIBE or end of a connection is seen. A hello says that a device is connected and
subscribed; its bye, also as the will of its connection, that it is gone. A bye names the connection by the
number `c` of its hello: one with another `c` is late, as wills are when a device comes back before the broker
has noticed that it was gone, and is ignored. A device that left several frames unanswered counts as asleep
until an up message (PROTOCOL.md, delivery).

Who is there is stored with the profile, in the place where an embedded server notes a subscription. A
gateway that starts again goes on with all of them: they are connected to the broker and do not notice.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from broker.access.identity import Identity
from devices.frames import Ack, BadUp, Bye, Hello, decode_up
from devices.packets import Connect
from devices.profile import NO_RIGHTS, valid_device_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.config import Config
    from broker.counters import Counters
    from broker.gateway.gateway_service import GatewayService
    from broker.lane.session import Session
    from broker.roster import Live, Shelf
    from devices.ledger_outside import OutsideLedger
    from devices.up_messages import Up

QOS = 1
"""What frames go to the broker with at most; it lowers that to the device's subscription. QoS 2 there
would promise nothing that the `seq` of a frame does not."""

_CONNECT = Connect("", True, 0)

_AT_ONCE = 200
"""Devices that are restored before the loop gets its turn."""


class RemoteConnection:
    """A device's connection to the broker, as far as the service needs one.

    Attributes:
        identity: Whose it is: the broker's ACL lets nobody else publish to its topic.
        c: The number that its hello named the connection by; None if it named none.
        closed_for: Why it counts as ended, None while it does not.
    """

    __slots__ = ("ack_queue", "c", "closed_for", "identity", "row_key")

    connect = _CONNECT
    writing_paused = False
    session: Session | None = None

    def __init__(self, device: str, c: int | None) -> None:
        self.identity = Identity(device, device, device, NO_RIGHTS)
        self.c = c
        self.closed_for: str | None = None
        self.ack_queue: list[int] | None = None
        self.row_key = 0

    def sender(self) -> Callable[[bytes], int]:
        """Nothing is sent to a device directly; its frames go through the uplink."""
        return len

    def close(self, reason: str, *, keep_will: bool = True) -> None:
        """Another connection of the device has taken its place; there is nothing to close."""
        del keep_will
        self.closed_for = self.closed_for or reason

    abort = close


class Presence:
    """The devices that are there. It is what the service knows as its lane.

    Args:
        config: The settings.
        service: Takes what devices say.
        counters: What was dropped is counted here.
        resume_reading: Called when items can be taken in again.
    """

    def __init__(
        self,
        config: Config,
        service: GatewayService,
        counters: Counters,
        resume_reading: Callable[[], None],
    ) -> None:
        self.sessions: dict[tuple[str, str], Session] = {}
        # Of several workers: called with a device that has come, or gone.
        self.begins: Callable[[str], None] = _nothing
        self.ends: Callable[[str], None] = _nothing
        self.resume_paused = resume_reading
        self._settings = config.gateway
        self._service = service
        self._roster = service.roster
        self._counters = counters
        self._links: dict[str, RemoteConnection] = {}

    # ---- As the service's lane

    @property
    def connections(self) -> int:
        """Devices that are there."""
        return len(self._links)

    async def stop(self) -> None:
        """Nobody is sent away: devices stay connected to the broker."""

    def forget(self, name: str, reason: str, *, keep_will: bool = True) -> None:
        """The operator ends what somebody does here; the broker's own rules keep it out."""
        del keep_will
        live = self._roster.get(name)
        if live is not None and name in self._links:
            self._counters.closed[reason] += 1
            self._end(live)

    # ---- What devices say

    def up(self, device: str, payload: bytes, done: Callable[[], None]) -> None:
        """An up message of a device; `done` is called when it is carried out."""
        try:
            message = decode_up(payload)
        except BadUp as error:
            self._counters.dropped[f"up_{error.reason.value}"] += 1
            done()
            return
        profile = self._service.registry.get(device)
        if profile is not None and profile.revoked:
            self._counters.dropped["revoked"] += 1
            done()
        elif isinstance(message, Bye):
            self._bye(device, message)
            done()
        elif isinstance(message, Ack):
            self._ack(device, message)
            done()
        else:
            link = self._link(device, message)
            if link is None:
                self._counters.dropped["unknown_device"] += 1
                done()
            else:
                self._service.up(payload, link, done)  # type: ignore[arg-type] # all that it needs

    def _ack(self, device: str, message: Ack) -> None:
        self._counters.up["ack"] += 1
        live = self._roster.get(device)
        if live is not None and live.connection is not None:
            self._service.sending.confirmed(live, message.epoch, message.seq)
        elif self._link(device, message) is None:
            self._counters.dropped["unknown_device"] += 1

    def _bye(self, device: str, message: Bye) -> None:
        self._counters.up["bye"] += 1
        link, live = self._links.get(device), self._roster.get(device)
        if link is None or live is None or link.c != message.c:
            self._counters.dropped["late_bye"] += 1
            return
        self._end(live)

    def _link(self, device: str, message: Up) -> RemoteConnection | None:
        """The connection that a device speaks on, made now if this is the first that is heard of it.

        None if it is unknown and may not register itself.
        """
        hello = message if isinstance(message, Hello) else None
        c = hello.options.c if hello is not None and hello.options is not None else None
        link = self._links.get(device)
        if link is not None and (c is None or link.c in {None, c}):
            link.c = link.c if c is None else c
            return link
        if not valid_device_id(device):
            return None
        link = RemoteConnection(device, c)
        if hello is None and self._never_greeted(device):
            return self._aside(link)
        live = self._join(link)
        if live is not None and hello is None:
            # Asleep until now, or of before a restart: where it is, it said in its last ack.
            said = (message.epoch, message.seq) if isinstance(message, Ack) else None
            self._answer(live, said)
        return link if live is not None else None

    def _never_greeted(self, device: str) -> bool:
        """Whether a device was never sent anything, so that nobody knows what it can take.

        Its first hello may come behind other messages: brokers keep no order between QoS 0 and 1.
        """
        profile = self._service.registry.get(device)
        return profile is None or not profile.epoch

    def _aside(self, link: RemoteConnection) -> RemoteConnection | None:
        """What is said here is carried out, and nothing is sent; None if the device may not register itself."""
        link.close("no_hello")
        live = self._roster.enlist(link)  # type: ignore[arg-type] # all that it needs
        if live is None:
            return None
        self._roster.disconnect(live)
        return link

    # ---- Coming and going

    def _join(self, link: RemoteConnection) -> Live | None:
        """A device is there: connected and subscribed."""
        assert link.identity.device is not None
        live = self._roster.enlist(link)  # type: ignore[arg-type] # all that it needs
        if live is None:
            return None
        if link.identity.device not in self._links:
            self.begins(link.identity.device)
        self._links[link.identity.device] = link
        live.qos = QOS
        if live.profile.subscribed is None:
            live.profile.subscribed = QOS
            self._service.profiles.save(live.profile)
        return live

    def _end(self, live: Live) -> None:
        """A device is gone, or sleeps."""
        if live.profile.subscribed is not None:
            live.profile.subscribed = None
            self._service.profiles.save(live.profile)
        self.release(live.profile.device)

    def release(self, device: str) -> None:
        """Serves a device no more, whether it is there or not."""
        live = self._roster.get(device)
        if live is not None:
            self._service.sending.take_acks()
            self._roster.disconnect(live)
        if self._links.pop(device, None) is not None:
            self.ends(device)

    def devices(self) -> list[str]:
        """Who is there."""
        return list(self._links)

    def restore(self, device: str) -> None:
        """Goes on with a device that was there when its gateway ended, or lost it."""
        profile = self._service.registry.get(device)
        if profile is None or profile.subscribed is None or profile.revoked:
            return
        live = None if device in self._links else self._join(RemoteConnection(device, None))
        if live is not None:
            self._answer(live, None)

    async def restore_all(self) -> None:
        """Goes on with everybody, some at a time."""
        for number, device in enumerate([profile.device for profile in self._service.registry]):
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
            self.restore(device)

    def _answer(self, live: Live, position: tuple[int, int] | None) -> None:
        """Answers a device that said no hello, from the position that it has named or was known at."""
        if position is None:
            ledger = self._ledger(self._roster.shelves[live.seat.shelf])
            position = ledger.acknowledged(live.seat.row) if live.proven else (0, 0)
        self._service.positions.hello(live, Hello(*position))

    # ---- Silence

    def watch(self, now: float) -> None:
        """Answers anew who has not acknowledged for too long, or counts it as asleep."""
        for index, shelf in enumerate(self._roster.shelves):
            ledger = self._ledger(shelf)
            waiting = np.flatnonzero(ledger.inflight[: len(shelf.lives)]).astype(np.int32)
            silent = ledger.stalled(
                waiting[ledger.attached[waiting]], now - self._settings.ack_limit
            )
            if not len(silent):
                continue
            again, asleep = ledger.retry(silent, self._settings.ack_tries, now)
            for row in asleep.tolist():
                live = shelf.lives[row]
                assert live is not None
                self._counters.closed["asleep"] += 1
                self._end(live)
            self._counters.frames["answered_again"] += len(again)
            self._service.sending.push(index, again)

    def excuse(self, now: float) -> None:
        """The broker was away: nobody could answer, so nobody was silent."""
        for shelf in self._roster.shelves:
            shelf.ledger.waiting_since[:] = now

    def let_go(self, session: Session) -> None:
        """There are no sessions here."""

    @staticmethod
    def _ledger(shelf: Shelf) -> OutsideLedger:
        return shelf.ledger  # type: ignore[return-value] # as the service was told


def _nothing(device: str) -> None:
    """A gateway that is alone need not be told."""
