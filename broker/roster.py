"""The roster: devices that have a row, and everything that is kept by row.

A device has a row in the engine and, by the same number, in the ledger of its shelf, from its first
SUBSCRIBE or up message until it has been away for long. Its position is then packed into its profile.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from broker.overload.allowances import Allowances
from devices.frames import payload_capacity
from devices.ledger import Ledger
from devices.packets import remaining_length
from feedgen.engine import SHELVES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from broker.config import BudgetSettings, FeedSettings
    from broker.lane.connection import Connection
    from devices.ledger_rows import Rows
    from devices.profile import Profile
    from devices.registry import Registry
    from feedgen.engine import Engine, Seat


_FEW = 64


@dataclass(slots=True, eq=False)
class Live:
    """One device with a row.

    Attributes:
        profile: Who it is.
        seat: Its row in the engine and, by the same number, in its shelf's ledger.
        topic: The length-prefixed topic name of its frames, as it stands in a PUBLISH.
        connection: Its connection, if it has one.
        qos: The QoS of its subscription, None without one.
        position: The position to answer: (0, 0) is "I hold nothing"; None when nothing is asked.
        in_step: Whether what was in flight when it said that position brings it to the tip, so that there is
            nothing to answer.
        said_hello: Whether a hello came on this connection.
        proven: Whether everything that was ever sent in the current epoch is known. A server that
            was killed cannot prove it, and begins a new epoch before the next frame. So does one that
            has ended the session of its device.
        saving: Whether a new epoch is on its way to the store.
        session_ended: Whether the server ended its persistent session: its next CONNECT is told so.
        answered_at: When a hello was last answered.
        due: When a resumed session that stays silent counts as holding nothing; 0 if not waiting.
        away_since: When its connection ended.
    """

    profile: Profile
    seat: Seat
    topic: bytes
    connection: Connection | None = None
    qos: int | None = None
    position: tuple[int, int] | None = None
    in_step: bool = False
    said_hello: bool = False
    proven: bool = False
    saving: bool = False
    session_ended: bool = False
    answered_at: float = float("-inf")
    due: float = 0.0
    away_since: float = 0.0

    def state(self, position: tuple[int, int], *, in_step: bool = False) -> None:
        """The device says that it is here, or is taken to be."""
        self.position, self.in_step = position, in_step


@dataclass(slots=True, eq=False)
class Shelf:
    """The devices of one window class: their ledger and what is needed to write to them.

    Attributes:
        ledger: What the devices hold.
        lives: By row.
        sends: By row, what sends a packet at once and says how much of it went (`Connection.sender`).
        topics: By row, the length-prefixed topic name; also as a matrix, and its length.
        acks: PUBACKs to work off, as row << 16 | packet id.
        allowances: What the devices may still be sent; None = anything.
        stalled: Devices that have not acknowledged for long.
    """

    ledger: Ledger
    lives: list[Live | None] = field(default_factory=list)
    sends: list[Callable[[bytes], int]] = field(default_factory=list)
    topics: list[bytes] = field(default_factory=list)
    topic_matrix: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    topic_lengths: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    acks: list[int] = field(default_factory=list)
    allowances: Allowances | None = None
    stalled: int = 0

    def put(self, row: int, live: Live) -> None:
        """A device takes a row."""
        while len(self.lives) <= row:
            self.lives.append(None)
            self.sends.append(nowhere)
            self.topics.append(b"")
        self.lives[row] = live
        self.topics[row] = live.topic
        self.sends[row] = nowhere
        length = len(live.topic)
        rows, width = self.topic_matrix.shape
        if row >= rows or length > width:
            size = max(row + 1, 2 * rows if row >= rows else rows), max(width, length)
            matrix = np.zeros(size, np.uint8)
            matrix[:rows, :width] = self.topic_matrix
            self.topic_matrix = matrix
            self.topic_lengths = np.pad(self.topic_lengths, (0, size[0] - rows))
        self.topic_matrix[row, :length] = np.frombuffer(live.topic, np.uint8)
        self.topic_lengths[row] = length

    def leads(self, rows: Rows, qos: int, length: int) -> NDArray[np.uint8] | None:
        """What stands before `length` more bytes in PUBLISH packets to these rows, as a matrix.

        None where the topic names differ in length, or for a handful of rows: those packets are put
        together one by one.
        """
        if len(rows) < _FEW:
            return None
        lengths = self.topic_lengths.take(rows)
        topic = int(lengths[0])
        if (lengths != topic).any():
            return None
        head = publish_header(qos, topic + length)
        lead = np.empty((len(rows), len(head) + topic), np.uint8)
        lead[:, : len(head)] = np.frombuffer(head, np.uint8)
        lead[:, len(head) :] = self.topic_matrix.take(rows, axis=0)[:, :topic]
        return lead

    def forget_acks(self, row: int) -> None:
        """Drops PUBACKs that were not worked off."""
        self.acks[:] = [ack for ack in self.acks if ack >> 16 != row]

    def drop(self, row: int) -> None:
        """A device leaves its row."""
        self.lives[row] = None
        self.sends[row] = nowhere
        self.topics[row] = b""


def nowhere(data: bytes) -> int:
    """Where a device without a connection is sent to; never called, as its row is not ready."""
    return len(data)


class Roster:
    """All devices with a row.

    Args:
        feed: The settings of the feed.
        registry: All devices.
        engine: Where their windows are.
        dismissed: Device and item number of every dismissal that the store kept.
        wake: Called when the engine has windows to fill.
        ledger: What keeps what devices hold.
        budgets: What devices may be sent in an hour; None = anything.
        clock: Unix seconds.
    """

    def __init__(
        self,
        *,
        feed: FeedSettings,
        registry: Registry,
        engine: Engine,
        dismissed: Iterable[tuple[str, int]],
        wake: Callable[[], None],
        ledger: type[Ledger] = Ledger,
        budgets: BudgetSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._registry = registry
        self._engine = engine
        self._wake = wake
        self._lives: dict[str, Live] = {}
        self._away: dict[str, Live] = {}  # those without a connection, by the time when it ended
        self._dismissed: dict[str, set[int]] = {}
        self._dismissers: dict[int, set[str]] = {}
        for device, n in dismissed:
            self._bar(device, n)
        self.shelves = [
            Shelf(
                ledger(
                    columns,
                    max_inflight=feed.max_inflight,
                    qos_by_priority=feed.qos_by_priority,
                )
            )
            for columns in SHELVES
        ]
        for shelf in self.shelves:
            shelf.ledger.leads = shelf.leads
            if budgets is not None:
                shelf.allowances = Allowances(budgets)

    def adopt(self, budgets: BudgetSettings) -> None:
        """Other budgets of devices hold from now on."""
        for shelf in self.shelves:
            if shelf.allowances is not None and shelf.allowances.adopt(budgets, self._clock()):
                for live in filter(None, shelf.lives):
                    self.attributes_changed(live)

    def __len__(self) -> int:
        return len(self._lives)

    def __iter__(self) -> Iterator[Live]:
        return iter(list(self._lives.values()))

    def get(self, device: str) -> Live | None:
        """The device's row, if it has one."""
        return self._lives.get(device)

    def holds(self, live: Live) -> bool:
        """Whether this is still the device's row."""
        return self._lives.get(live.profile.device) is live

    def ledger(self, live: Live) -> Ledger:
        """The ledger that the device's row is in."""
        return self.shelves[live.seat.shelf].ledger

    # ---- Rows

    def seat(self, profile: Profile) -> Live:
        """Gives a device a row: the engine fills its window, the ledger knows what was packed."""
        seat = self._engine.seat(
            follow=profile.follow,
            attrs=profile.effective_attrs(),
            k=profile.k,
            capacity=self.capacity(profile),
            dismissed=self._dismissed.get(profile.device, ()),
            device=profile.device,
        )
        topic = f"{self._feed.prefix}f/{profile.device}".encode()
        live = Live(profile, seat, len(topic).to_bytes(2, "big") + topic)
        shelf = self.shelves[seat.shelf]
        shelf.put(seat.row, live)
        shelf.ledger.open(seat.row)
        if shelf.allowances is not None:
            attrs = profile.effective_attrs()
            shelf.allowances.seat(seat.row, profile.device, attrs, self._clock())
        self.fit(live)
        if profile.session is not None:
            shelf.ledger.unpack(seat.row, profile.session)
            shelf.ledger.failures[seat.row] = profile.failures
            profile.session, profile.failures = None, 0
            live.proven = True
        self._lives[profile.device] = live
        self._depart(live)
        self._wake()
        return live

    def unseat(self, live: Live) -> None:
        """Takes a device's row away; nothing of it may reach the row's next device."""
        shelf, row = self.shelves[live.seat.shelf], live.seat.row
        if live.connection is not None:
            live.connection.ack_queue = None
        shelf.forget_acks(row)
        shelf.ledger.detach(row)
        if shelf.allowances is not None:
            shelf.allowances.unseat(row, live.profile.device)
        shelf.drop(row)
        self._engine.unseat(live.seat)
        self._lives.pop(live.profile.device, None)
        self._away.pop(live.profile.device, None)

    def reseat(self, live: Live) -> Live:
        """Moves a device to the shelf of its new window length; its acknowledgements are worked off."""
        self.pack(live)
        connection = live.connection
        resending = self.ledger(live).resending(live.seat.row)
        self.unseat(live)
        moved = self.seat(live.profile)
        moved.proven, moved.saving = live.proven, live.saving
        if connection is not None:
            self.connect(moved, connection)
        self.ledger(moved).go_on_resending(moved.seat.row, resending)
        moved.qos, moved.said_hello, moved.answered_at = live.qos, live.said_hello, live.answered_at
        return moved

    def pack(self, live: Live) -> None:
        """Keeps a device's position in its profile."""
        if live.proven and not live.saving:
            live.profile.session = self.ledger(live).pack(live.seat.row)

    def capacity(self, profile: Profile) -> int:
        """Bytes of payload that always fit the device's budget."""
        return payload_capacity(profile.budget, profile.device, self._feed.prefix)

    def attributes_changed(self, live: Live) -> None:
        """The device says something else of itself, or the operator does of it."""
        allowances = self.shelves[live.seat.shelf].allowances
        if allowances is not None:
            allowances.change(live.seat.row, live.profile.effective_attrs(), self._clock())

    def budget(self, live: Live) -> dict[str, Any] | None:
        """What a device may still be sent, for people; None = anything."""
        allowances = self.shelves[live.seat.shelf].allowances
        return None if allowances is None else allowances.describe(live.seat.row, self._clock())

    def fit(self, live: Live) -> None:
        """Tells the ledger what the device can take."""
        profile = live.profile
        self.ledger(live).fit(
            live.seat.row,
            k=profile.k,
            frame_max=_frame_max(profile.budget, len(live.topic)),
            payload_max=self.capacity(profile),
            clock=profile.clock,
        )

    # ---- Connections

    def live_of(self, connection: Connection) -> Live | None:
        """The device that a connection is joined to."""
        identity = connection.identity
        if identity is None or identity.device is None:
            return None
        live = self._lives.get(identity.device)
        return live if live is not None and live.connection is connection else None

    def profile_of(self, connection: Connection) -> Profile | None:
        """The profile of the device that a connection may speak for."""
        identity = connection.identity
        if identity is None or identity.device is None:
            return None
        return self._registry.get(identity.device)

    def enlist(self, connection: Connection) -> Live | None:
        """Joins a connection to its device; None if that is unknown and registration is closed.

        A connection that has ended (its will speaks) gets the device but is not joined to it: it is
        sent no frames.
        """
        identity = connection.identity
        if identity is None or identity.device is None:
            return None
        live = self._lives.get(identity.device)
        if live is None:
            profile = self._registry.enroll(identity.device)
            if profile is None:
                return None
            live = self.seat(profile)
        former = live.connection
        if former is not connection and connection.closed_for is None:
            if former is not None:
                # Of another session: the device came in with and without a proof of who it is.
                former.close("taken_over")
            self.connect(live, connection)
        return live

    def connect(self, live: Live, connection: Connection) -> None:
        """Joins a device and its connection."""
        shelf, row = self.shelves[live.seat.shelf], live.seat.row
        self._away.pop(live.profile.device, None)
        live.connection = connection
        live.said_hello = live.session_ended = False
        live.position = None
        live.answered_at = float("-inf")
        shelf.sends[row] = connection.sender()
        shelf.ledger.block(row, blocked=connection.writing_paused)
        connection.ack_queue = shelf.acks
        connection.row_key = row << 16
        assert connection.connect is not None
        keep = not connection.connect.clean_session
        if not keep:
            shelf.ledger.forget_inflight(row)
        shelf.ledger.keep[row] = keep

    def disconnect(self, live: Live) -> None:
        """The device's connection is gone; its acknowledgements are worked off."""
        shelf, row = self.shelves[live.seat.shelf], live.seat.row
        shelf.ledger.disconnect(row)
        shelf.sends[row] = nowhere
        if live.connection is not None:
            live.connection.ack_queue = None
        live.connection = live.position = None
        live.due = 0.0
        self._depart(live)
        if not shelf.ledger.keep[row]:
            live.qos = None

    def _depart(self, live: Live) -> None:
        live.away_since = asyncio.get_running_loop().time()
        self._away[live.profile.device] = live

    def away_since(self, before: float) -> list[Live]:
        """Devices that have had no connection since before that time."""
        found = takewhile(lambda live: live.away_since < before, self._away.values())
        return [live for live in found if not live.saving]

    # ---- Dismissals

    def dismiss(self, live: Live, n: int) -> None:
        """An item never returns to this device's window."""
        self._bar(live.profile.device, n)
        self._engine.dismiss(live.seat, n)

    def bar(self, device: str, ns: Iterable[int]) -> None:
        """Items never return to a device that has no row yet."""
        for n in ns:
            self._bar(device, n)

    def barred(self, device: str) -> list[int]:
        """Numbers of the items that never return to this device: dismissed, or poison to it."""
        return sorted(self._dismissed.get(device, ()))

    def _bar(self, device: str, n: int) -> None:
        self._dismissed.setdefault(device, set()).add(n)
        self._dismissers.setdefault(n, set()).add(device)

    def forget_items(self, ns: Iterable[int]) -> None:
        """Items that are over need not be kept out any more."""
        for n in ns:
            for device in self._dismissers.pop(n, ()):
                self._undismiss(device, n)

    def forget_device(self, device: str) -> None:
        """The device is removed: its dismissals go with it."""
        for n in self._dismissed.pop(device, ()):
            devices = self._dismissers[n]
            devices.discard(device)
            if not devices:
                del self._dismissers[n]

    def _undismiss(self, device: str, n: int) -> None:
        numbers = self._dismissed[device]
        numbers.discard(n)
        if not numbers:
            del self._dismissed[device]


def publish_header(qos: int, length: int) -> bytes:
    """The fixed header of a PUBLISH with so many bytes behind it (MQTT 3.1.1, 3.3.1)."""
    return bytes((0x30 | qos << 1,)) + remaining_length(length)


def _frame_max(budget: int, topic: int) -> int:
    """Bytes of payload that a PUBLISH of QoS 1 or 2 has within a packet budget."""
    header = 2 if budget <= 2 + 0x7F else 3 if budget <= 3 + 0x3FFF else 4
    return budget - header - topic - 2
