"""Bytes on the wire, as the load writes and reads them: a few MQTT 3.1.1 packets, feed frames.

Written from the two contracts and sharing no code with the server, so that a mistake in our codec
cannot hide itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

#: Seconds; no client pings, so it has to outlast any run.
KEEP_ALIVE = 3600
#: Protocol name, level 4, clean session, keep alive (MQTT 3.1.1, 3.1.2).
_CONNECT_HEAD = b"\x00\x04MQTT\x04\x02" + KEEP_ALIVE.to_bytes(2, "big")


def varint(length: int) -> bytes:
    """Encode a remaining length (MQTT 3.1.1, 2.2.3)."""
    out = bytearray()
    while length > 127:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)


def text(value: str) -> bytes:
    """Encode a string with its two-byte length (MQTT 3.1.1, 1.5.3)."""
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


def packet(head: int, body: bytes) -> bytes:
    """Put the fixed header before a packet's body."""
    return bytes((head,)) + varint(len(body)) + body


def connect_packet(ident: str) -> bytes:
    """Encode the CONNECT of a client with a clean session."""
    return packet(0x10, _CONNECT_HEAD + text(ident))


def subscribe_packet(packet_id: int, filters: Sequence[str], qos: int) -> bytes:
    """Encode one SUBSCRIBE for all filters at one QoS."""
    wanted = b"".join(text(name) + bytes((qos,)) for name in filters)
    return packet(0x82, packet_id.to_bytes(2, "big") + wanted)


def publish_packet(topic: str, payload: bytes, qos: int, packet_id: int = 0) -> bytes:
    """Encode a PUBLISH; `packet_id` counts at QoS 1 only."""
    ident = packet_id.to_bytes(2, "big") if qos else b""
    return packet(0x30 | qos << 1, text(topic) + ident + payload)


def filler(topic: str, qos: int, size: int) -> bytes:
    """Make the payload with which a whole PUBLISH packet to `topic` is `size` bytes long.

    Where a longer remaining length makes `size` impossible, the packet is one byte shorter.
    """
    head = 1 + 2 + len(topic.encode()) + (2 if qos else 0)
    body = max(size - head - 1, 0)
    while body and head + body + len(varint(head - 1 + body)) > size:
        body -= 1
    return b"x" * body


def long_length(data: bytes, at: int) -> tuple[int, int]:
    """Decode a remaining length of several bytes: (length, where the body starts), 0 if cut off."""
    length = shift = 0
    while at < len(data):
        byte = data[at]
        length |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 128:
            return length, at
    return 0, 0


class RefusedError(RuntimeError):
    """The broker refused or dropped a client, stayed silent, or sent what no device can apply."""


def window_size(frames: Sequence[bytes]) -> int:
    """Apply feed frames the way a device does and count what it holds at the end.

    Raises:
        RefusedError: an op that no device could apply, or a delta without its base.
    """
    window: list[int] = []
    seq = k = 0
    for data in frames:
        frame: list[Any] = msgpack.unpackb(data)
        kind, _, number = frame[:3]
        if kind == 0:
            k, window = frame[3], [item[0] for item in frame[4]]
        else:
            base = frame[4] if len(frame) > 4 else number - 1
            if base != seq:
                raise RefusedError(f"a delta from {base} for a device at {seq}")
            for op in frame[3]:
                _apply(window, op, k)
        seq = number
    return len(window)


def _apply(window: list[int], op: Any, k: int) -> None:
    if isinstance(op, int):
        del window[op]
    elif isinstance(op[1], int):
        window.insert(op[1], window.pop(op[0]))
    else:
        rank, item = op
        if item[0] in window:
            window.remove(item[0])
        window.insert(rank, item[0])
        del window[k:]
