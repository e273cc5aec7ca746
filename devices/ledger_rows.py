"""The ledger's storage: one record per device and one per window of its ring, in arrays.

A record keeps all small facts of a device side by side, because a frame needs nearly all of them: one
gather brings them in and one scatter puts them back, where a column each would cost some thirty, and as
many cache misses. Single facts are reached through views that look like columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int32]
Windows = NDArray[np.int64]
Records = NDArray[np.void]

_DEVICE = np.dtype(
    [
        # Position: the tip's (epoch, seq), and the seq that the device is at before the next frame.
        ("epoch", np.uint32),
        ("seq", np.uint32),
        ("base", np.uint32),
        # The seq of the last snapshot sent, 0 if none was in this epoch.
        ("snapshot_seq", np.uint32),
        ("waiting_since", np.float64),  # for an acknowledgement, on the caller's clock
        # What the device can take.
        ("frame_max", np.int32),
        ("payload_max", np.int32),
        # The identifier of the newest frame of QoS 1 or 2.
        ("packet_id", np.uint16),
        # The newest frame that was sent again on this connection, 0 if none was.
        ("resent", np.uint16),
        ("recent_at", np.uint16),  # where the next number sent goes among the recent ones
        # The ring of windows: `head` is the tip, `depth` older ones are valid behind it.
        ("head", np.uint8),
        ("depth", np.uint8),
        # The unacknowledged frames are the `inflight` newest of the ring, with consecutive packet
        # identifiers; bit i of `early`: the i-th oldest of them was acknowledged out of order.
        ("inflight", np.uint8),
        ("early", np.uint8),
        # Connections in a row that ended without an acknowledgement of what was sent again.
        ("failures", np.uint8),
        ("k", np.uint8),
        ("cap", np.int8),  # the highest QoS that subscription and device allow
        ("last_qos", np.int8),  # of the newest frame
        ("fresh", np.bool_),  # the next frame must be a snapshot
        ("clock", np.bool_),  # the device wants to know when items expire
        ("keep", np.bool_),  # a persistent session: unacknowledged frames are kept to resend
        # Frames may be sent: attached, not blocked, and none is sent again alone.
        ("attached", np.bool_),
        ("blocked", np.bool_),
        ("alone", np.bool_),  # frames are sent again one at a time, and nothing else
        ("ready", np.bool_),
        ("behind", np.bool_),  # the feed is known to differ from the tip
    ],
    align=True,
)


class LedgerRows:
    """The records of all rows, and views of single facts of them.

    Args:
        columns: The longest window, K.
        ring: Windows kept per device.
        recent: Numbers of sent items kept per device.
        size: Rows allotted at first.
    """

    epoch: NDArray[np.uint32]
    seq: NDArray[np.uint32]
    base: NDArray[np.uint32]
    snapshot_seq: NDArray[np.uint32]
    waiting_since: NDArray[np.float64]
    frame_max: NDArray[np.int32]
    payload_max: NDArray[np.int32]
    packet_id: NDArray[np.uint16]
    resent: NDArray[np.uint16]
    recent_at: NDArray[np.uint16]
    head: NDArray[np.uint8]
    depth: NDArray[np.uint8]
    inflight: NDArray[np.uint8]
    early: NDArray[np.uint8]
    failures: NDArray[np.uint8]
    k: NDArray[np.uint8]
    cap: NDArray[np.int8]
    last_qos: NDArray[np.int8]
    fresh: NDArray[np.bool_]
    clock: NDArray[np.bool_]
    keep: NDArray[np.bool_]
    attached: NDArray[np.bool_]
    blocked: NDArray[np.bool_]
    alone: NDArray[np.bool_]
    ready: NDArray[np.bool_]
    behind: NDArray[np.bool_]

    def __init__(self, columns: int, ring: int, recent: int, size: int) -> None:
        self.columns = columns
        self.ring = ring
        self.recent_length = recent
        # The ring: windows as slots, each with the seq and QoS of the frame that led to it.
        self.held: Windows = np.zeros((0, columns), np.int64)
        self.held_seq: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self.held_qos: NDArray[np.int8] = np.zeros(0, np.int8)
        # The number of the one item that this frame put; 0 where that shows only by the windows.
        self.carried: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self.tails: NDArray[np.object_] = np.zeros(0, object)
        self.recent: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self.mark: NDArray[np.int32] = np.zeros(0, np.int32)
        self._devices: Records = np.zeros(0, _DEVICE)
        self.grow(size)

    @property
    def size(self) -> int:
        """Rows allotted."""
        return len(self._devices)

    def grow(self, size: int) -> None:
        """Allots more rows; what there is keeps its place."""
        self._devices = _longer(self._devices, size)
        self.held = _longer(self.held, size * self.ring)
        self.held_seq = _longer(self.held_seq, size * self.ring)
        self.held_qos = _longer(self.held_qos, size * self.ring)
        self.carried = _longer(self.carried, size * self.ring)
        self.tails = _longer(self.tails, size * self.ring)
        self.recent = _longer(self.recent, size * self.recent_length)
        self.mark = _longer(self.mark, size)
        for name in _DEVICE.names or ():
            setattr(self, name, self._devices[name])
        self._raw_devices = _raw(self._devices)
        self._raw_held = _raw(self.held)

    def clear(self, row: int) -> None:
        """Forgets everything about a row."""
        self._devices[row] = np.zeros((), _DEVICE)
        ring = slice(row * self.ring, (row + 1) * self.ring)
        self.held[ring] = 0
        self.held_seq[ring] = self.held_qos[ring] = self.carried[ring] = 0
        self.tails[ring] = None
        self.recent[row * self.recent_length : (row + 1) * self.recent_length] = 0

    def state(self, rows: Rows) -> Records:
        """Copies of the records of these rows."""
        found: Records = self._raw_devices.take(rows).view(_DEVICE)
        return found

    def put_state(self, rows: Rows, state: Records) -> None:
        """Puts changed copies back."""
        np.put(self._raw_devices, rows, _raw(state))

    def put_windows(self, at: Rows, windows: Windows) -> None:
        """Puts windows into the ring; `windows` is contiguous."""
        np.put(self._raw_held, at, _raw(windows))


def every(column: NDArray[Any]) -> bool:
    """Whether nothing in it is false or 0; of a few rows `all` takes three times as long."""
    return int(np.count_nonzero(column)) == len(column)


def _raw(array: NDArray[Any]) -> Records:
    """Rows of an array as opaque bytes.

    Gathering and scattering records field by field costs numpy forty times as much as moving them
    whole.
    """
    width = array.dtype.itemsize if array.ndim == 1 else array.dtype.itemsize * array.shape[1]
    return array.view(np.dtype((np.void, width))).reshape(len(array))


def _longer(array: NDArray[Any], size: int) -> NDArray[Any]:
    new = np.zeros((size, *array.shape[1:]), array.dtype)
    new[: len(array)] = array
    return new
