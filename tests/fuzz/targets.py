"""What must hold of any bytes whatever: one function per decoder, shared by the fuzzer and pytest.

A target takes bytes and returns, or fails by whatever exception leaves it. The bytes are as a stranger
would send them; where a target needs choices besides (a role, how a stream is cut), the first bytes
make them, so that a fuzzer can learn those too.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import msgpack

from devices import mqtt_encode
from devices.difference import apply, difference
from devices.frames import (
    MAX_UP,
    BadFrame,
    BadUp,
    decode_frame,
    decode_up,
    encode_frame,
    encode_up,
)
from devices.packets import (
    Decoder,
    MalformedPacket,
    Packet,
    PacketError,
    Role,
    encode,
    valid_filter,
    valid_topic,
)
from devices.profile import BadProfile, Profile
from devices.registry import covers
from devices.replica import Received, Replica
from devices.slots import number, pack
from feedgen import channels
from feedgen.items import (
    MAX_ID,
    MAX_ITEM,
    MAX_TTL,
    BadRecord,
    InvalidItem,
    Item,
    Record,
    decode_item,
    digest,
    pack_record,
    unpack_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

LIMITS = (96, 2_304, 70_000)
"""Longest packets that the decoder is tried with: far too small, small, and the server's default."""


# ---- MQTT packets


def packets(data: bytes) -> None:
    """A stream of MQTT packets, whole and in pieces: `role + 2 · limit`, size of a piece, the stream."""
    if len(data) < 2:
        return
    role: Role = "client" if data[0] & 1 else "server"
    limit = LIMITS[(data[0] >> 1) % len(LIMITS)]
    stream = data[2:]
    read, reason = _read(role, limit, [stream])
    assert _read(role, limit, _pieces(stream, data[1])) == (read, reason)
    assert stream.startswith(b"".join(raw for _, raw in read))
    for packet, raw in read:
        assert len(raw) <= limit
        _survives(role, packet, raw)


def _read(
    role: Role, limit: int, pieces: Iterable[bytes]
) -> tuple[list[tuple[Packet, bytes]], PacketError | None]:
    """All that a decoder delivers, and why it stopped."""
    decoder = Decoder(role=role, max_packet=limit)
    read: list[tuple[Packet, bytes]] = []
    for piece in pieces:
        try:
            read += decoder.feed(piece)
        except MalformedPacket as error:
            _stays_broken(decoder, error.reason)
            return read + error.packets, error.reason
        assert len(decoder._tail) < limit
    return read, None


def _pieces(stream: bytes, size: int) -> Iterator[bytes]:
    size = size or 1
    return (stream[at : at + size] for at in range(0, len(stream), size))


def _stays_broken(decoder: Decoder, reason: PacketError) -> None:
    """What follows a malformed packet has no boundaries, so nothing of it may ever count."""
    for more in (mqtt_encode.PINGREQ, mqtt_encode.puback(1)):
        found: object = None
        try:
            found = decoder.feed(more)
        except MalformedPacket as error:
            found = error.reason, error.packets
        assert found == (reason, [])


def _survives(role: Role, packet: Packet, raw: bytes) -> None:
    """A packet has one encoding, but for a remaining length written longer than needed (2.2.3)."""
    encoded = encode(packet)
    assert Decoder(role=role, max_packet=len(encoded)).feed(encoded) == [(packet, encoded)]
    head = 2
    while raw[head - 1] & 0x80:
        head += 1
    body = raw[head:]
    assert encoded == raw[:1] + mqtt_encode.remaining_length(len(body)) + body


# ---- Frames and up messages


def frames(data: bytes) -> None:
    """One frame: read or refused, and what was read is written back in no more bytes."""
    try:
        frame = decode_frame(data)
    except BadFrame:
        return
    if frame is not None:
        encoded = encode_frame(frame)
        assert decode_frame(encoded) == frame
        assert len(encoded) <= len(data)


def replica(data: bytes) -> None:
    """Up to 32 frames one after the other, each behind a byte of length, on one device."""
    device = Replica()
    for frame in islice(_length_prefixed(data), 32):
        before, window = device.position, device.window
        received = device.receive(frame)
        if received is Received.APPLIED:
            assert device.position > before
        elif received is Received.IMPOSSIBLE:
            assert device.position == (0, 0)
            assert device.window == window
        else:
            assert (device.position, device.window) == (before, window)
        assert len(device.window) <= device.k <= 64
        assert len({item.n for item in device.window}) == len(device.window)
        assert repr(Replica.from_state(device.state())) == repr(device)
        decode_up(device.hello())


def _length_prefixed(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        yield data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]


def up(data: bytes) -> None:
    """One up message: read or refused, and what was read is written back in no more bytes."""
    try:
        message = decode_up(data)
    except BadUp:
        return
    assert len(data) <= MAX_UP
    encoded = encode_up(message)
    assert decode_up(encoded) == message
    assert len(encoded) <= len(data)


def differences(data: bytes) -> None:
    """Two windows, as bytes: every prefix of what leads from one to the other is a valid change."""
    if not data:
        return
    k = data[0] % 64 + 1
    middle = 1 + len(data) // 2
    old, new = _window(data[1:middle], k), _window(data[middle:], k)
    ops = difference(old, new, k)
    window = old
    for op in ops:
        window = apply(window, [op], k)
        assert len(window) <= k
        assert len(set(map(number, window))) == len(window)
    assert window == new
    stay = set(old) & set(new)
    assert not stay & {op.slot for op in ops if op.kind == "put"}


def _window(data: bytes, k: int) -> list[int]:
    """At most `k` slots, no number twice; two bits of each byte are the content's version."""
    slots = {byte & 63: pack((byte & 63) + 1, byte >> 6, 1) for byte in data}
    return list(slots.values())[:k]


# ---- Items and records

CHANNELS = ("news", "alerts/weather/ca", "a//b", "$a", "+", "")


def items(data: bytes) -> None:
    """One item: the first byte chooses the channel, the rest is what a publisher sent."""
    if not data:
        return
    channel, payload = CHANNELS[data[0] % len(CHANNELS)], data[1:]
    try:
        item = decode_item(channel, payload)
    except InvalidItem:
        return
    assert decode_item(channel, payload) == item
    _is_bounded(item)
    _is_kept(item)
    _is_the_same_as_a_map(item)


def _is_bounded(item: Item) -> None:
    assert 0 < len(item.id.encode()) <= MAX_ID
    assert 0 <= item.priority <= 3
    assert 1 <= item.ttl <= MAX_TTL
    for content in (item.payload, item.brief or ""):
        size = len(content.encode() if isinstance(content, str) else content)
        assert size <= MAX_ITEM


def _is_kept(item: Item) -> None:
    record = Record(1, 0, item, 1, 2, digest(item), item.retract, (digest(item),), "ann")
    assert unpack_record(pack_record(record)) == record


def _is_the_same_as_a_map(item: Item) -> None:
    """Written out as a msgpack map with every default, an item means the same."""
    fields = {
        "id": item.id,
        "payload": item.payload,
        "brief": item.brief,
        "priority": item.priority,
        "ttl": item.ttl,
        "rev": item.rev,
        "tags": list(item.tags),
        "collapse": item.collapse,
        "where": {name: list(values) for name, values in item.where},
        "retract": item.retract,
    }
    written: bytes = msgpack.packb(
        {key: value for key, value in fields.items() if value is not None}
    )
    if len(written) <= MAX_ITEM:
        assert decode_item(item.channel, written) == replace(item, opaque=False)


def records(data: bytes) -> None:
    """One stored record, as a damaged disk may return it."""
    try:
        record = unpack_record(data)
    except BadRecord:
        return
    # Bytes are compared, for a damaged number may be NaN, which equals nothing.
    packed = pack_record(record)
    assert pack_record(unpack_record(packed)) == packed


def profiles(data: bytes) -> None:
    """One stored profile of a device, as a damaged disk may return it."""
    try:
        profile = Profile.unpack("kitchen", data)
    except BadProfile:
        return
    packed = profile.pack()
    assert Profile.unpack("kitchen", packed).pack() == packed


# ---- Topics and filters


def topics(data: bytes) -> None:
    """Lines of text as topics and filters: all who match must agree, and `covers` must never grant more."""
    lines = data.decode(errors="replace").split("\n")[:12]
    names = [line for line in lines if valid_topic(line)]
    filters = [line for line in lines if valid_filter(line)]
    for line in lines:
        assert valid_topic(line) <= channels.valid_channel(line)
        assert valid_filter(line) <= channels.valid_filter(line)
    trie: channels.FilterTrie[str] = channels.FilterTrie(str)
    for topic_filter in filters:
        trie.add(topic_filter)
    for name in names:
        plainly = {one for one in filters if channels.matches(one, name)}
        assert set(trie.match(name)) == plainly
        assert name not in filters or name in plainly
    for count, wanted in enumerate(filters):
        permitted = filters[:count]
        assert covers([wanted], wanted)
        if covers(permitted, wanted):
            for name in names:
                reached = any(channels.matches(one, name) for one in permitted)
                assert reached or not channels.matches(wanted, name)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        packets,
        frames,
        replica,
        up,
        differences,
        items,
        records,
        profiles,
        topics,
    )
}
