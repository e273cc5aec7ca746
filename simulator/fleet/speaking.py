"""What a device says on `u/<device>`, but for hellos: feedback of the person in front of it, bye."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devices.frames import Bye, Event, Feedback, Kind, encode_up
from devices.packets import publish_head, topic_field
from simulator.fleet.power import Powered
from simulator.fleet.spec import DeviceSpec, State

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from devices.frames import FeedItem
    from simulator.fleet.fleet import Fleet

_EVENTS = 32
"""Feedback events in one message."""
_UNSAID = 64
"""Feedback events that wait for a connection."""
_UNREAD = 1 << 16
"""Bytes that a server leaves unread before a device gives it up."""


class Speaker(Powered):
    """A device's voice, and the count of every byte."""

    __slots__ = ("_c", "_unsaid", "_up")

    def __init__(self, spec: DeviceSpec, fleet: Fleet) -> None:
        super().__init__(spec, fleet)
        self._up = topic_field(f"{fleet.prefix}u/{spec.device}")
        self._c = 0
        self._unsaid: list[tuple[float, Event]] = []

    @property
    def window(self) -> tuple[FeedItem, ...]:
        """What the device shows, best first; a hook."""
        return ()

    def send_up(self, message: bytes) -> int:
        """Sends an up message at QoS 1; its packet id."""
        packet_id = self.next_packet_id()
        if self._transport is not None and self._transport.get_write_buffer_size() > _UNREAD:
            self.abort(ConnectionError(f"{self.client_id}: the server does not read"))
        elif self.open:
            self.tally.messages_up += 1
            self.send(publish_head(self._up, len(message), qos=1, packet_id=packet_id) + message)
            self.spend()
        return packet_id

    def leave(self) -> None:
        """Disconnects in order; beside an outside broker it says bye, as DISCONNECT discards its will."""
        if self.subscribed and self._fleet.outside:
            self.send_up(encode_up(Bye(self._c)))
        self.close()

    def say_feedback(self, events: Sequence[Event], at: float) -> None:
        """Says what happened to items, now or when it is connected again.

        Args:
            events: Without age.
            at: When they happened, simulated seconds since the fleet's start.
        """
        if self.subscribed and self.state is State.UP:
            self._say([self._aged(event, at) for event in events])
            return
        room = max(_UNSAID - len(self._unsaid), 0)
        self._unsaid += [(at, event) for event in events[:room]]
        self.tally.feedback_lost += max(len(events) - room, 0)

    def react(self, rng: random.Random) -> None:
        """What a person in front of the device does now and then: look, open the best item, dismiss the worst."""
        window = self.window
        if not self.subscribed or not window:
            return
        rank = min(int(rng.expovariate(0.7)), len(window) - 1)
        events = [Event(window[rank].n, Kind.SHOWN, rank, 0)]
        if rng.random() < 0.3:
            events.append(Event(window[rank].n, Kind.OPENED, None, 0))
        elif rng.random() < 0.1:
            events.append(Event(window[rank].n, Kind.DISMISSED, None, 0))
        self._say(events)

    def _aged(self, event: Event, at: float) -> Event:
        # The server's clock runs in real seconds, whatever the speed of people.
        age = max(int((self._fleet.elapsed - at) / self._fleet.speed), 0)
        return Event(event.n, event.kind, event.value, age)

    def _say(self, events: Sequence[Event]) -> None:
        observer = self._fleet.observer
        for event in events:
            if observer is not None and event.kind is Kind.DISMISSED:
                observer.dismissed(self.client_id, event.n)
        for first in range(0, len(events), _EVENTS):
            self.send_up(encode_up(Feedback(tuple(events[first : first + _EVENTS]))))
        self.tally.feedback += len(events)

    def say_unsaid(self) -> None:
        """Says what has waited for a connection."""
        unsaid, self._unsaid = self._unsaid, []
        self._say([self._aged(event, at) for at, event in unsaid])

    # ---- Every byte

    def send(self, data: bytes) -> None:
        """Writes, and counts."""
        if self.open:
            self.tally.octets_up += len(data)
            if self.link is None:
                self.tally.plain_up += len(data)
            super().send(data)

    def data_received(self, data: bytes) -> None:
        """Reads, and counts."""
        self.tally.octets_down += len(data)
        if self.link is None:
            self.tally.plain_down += len(data)
        super().data_received(data)
