"""The named wire cases: what every codec and every client of the protocol is tested on.

The bytes are written by hand from the protocol, not by the code under test. `canonical` cases are the
shortest form, which encoders must produce; the others only decode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from devices.frames import (
    Ack,
    Bye,
    Delta,
    Event,
    Feedback,
    FeedItem,
    Frame,
    Hello,
    HelloOptions,
    Kind,
    Move,
    Profile,
    Put,
    Remove,
    Snapshot,
    Up,
    UpError,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Valid(Generic[T]):
    """Bytes and what they mean; None = a frame type to be ignored."""

    name: str
    hex: str
    value: T
    canonical: bool = True

    @property
    def data(self) -> bytes:
        return bytes.fromhex(self.hex)

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


@dataclass(frozen=True)
class Invalid:
    """Bytes that must be refused, and the word that says why (for a frame: words for the reader)."""

    name: str
    hex: str
    reason: str

    @property
    def data(self) -> bytes:
        return bytes.fromhex(self.hex)

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


HI = FeedItem(1, 0, 1, "hi")
BIN = FeedItem(2, 0, 0, b"\x00\xff")
LAST = FeedItem(0xFFFFFFFF, 0xFFFFFFFF, 3, "ü")
LONG = FeedItem(70_000, 1_800_000_000, 2, "x" * 40)

FRAMES: tuple[Valid[Frame | None], ...] = (
    Valid("empty snapshot", "95 00 01 01 08 90", Snapshot(1, 1, 8, ())),
    Valid("snapshot at seq 0", "95 00 07 00 40 90", Snapshot(7, 0, 64, ())),
    Valid(
        "snapshot of a text and a binary item",
        "95 00 07 02 08 92 94 01 00 01 a2 6869 94 02 00 00 c4 02 00ff",
        Snapshot(7, 2, 8, (HI, BIN)),
    ),
    Valid(
        "snapshot with every integer at its longest",
        "95 00 ce ffffffff ce ffffffff 01 91 94 ce ffffffff ce ffffffff 03 a2 c3bc",
        Snapshot(0xFFFFFFFF, 0xFFFFFFFF, 1, (LAST,)),
    ),
    Valid(
        "snapshot of sixteen items",
        "95 00 01 05 10 dc 0010" + "".join(f"94 {n:02x} 00 01 a0" for n in range(1, 17)),
        Snapshot(1, 5, 16, tuple(FeedItem(n, 0, 1, "") for n in range(1, 17))),
    ),
    Valid(
        "delta with one put",
        "94 01 07 03 91 92 00 94 01 00 01 a2 6869",
        Delta(7, 3, (Put(0, HI),)),
    ),
    Valid(
        "delta with a long text",
        "94 01 07 03 91 92 03 94 ce 00011170 ce 6b49d200 02 d9 28" + "78" * 40,
        Delta(7, 3, (Put(3, LONG),)),
    ),
    Valid("delta with a remove", "94 01 07 04 91 02", Delta(7, 4, (Remove(2),))),
    Valid("delta with a move", "94 01 07 05 91 92 03 00", Delta(7, 5, (Move(3, 0),))),
    Valid(
        "delta with all ops and an older base",
        "95 01 07 09 93 92 01 02 92 00 94 01 00 01 a2 6869 07 05",
        Delta(7, 9, (Move(1, 2), Put(0, HI), Remove(7)), 5),
    ),
    Valid("delta without ops", "94 01 07 06 90", Delta(7, 6, ())),
    Valid("delta from seq 0", "94 01 07 01 90", Delta(7, 1, ())),
    Valid("delta with a base of 0", "95 01 07 02 90 00", Delta(7, 2, (), 0)),
    Valid("delta with integers of two bytes", "94 01 cc 80 cc ff 90", Delta(128, 255, ())),
    Valid("delta with integers of three bytes", "94 01 cd 0100 cd ffff 90", Delta(256, 65_535, ())),
    Valid(
        "delta with integers of five bytes",
        "94 01 ce 00010000 ce ffffffff 90",
        Delta(65_536, 0xFFFFFFFF, ()),
    ),
    Valid(
        "base spelled out though it is seq - 1",
        "95 01 07 03 91 02 02",
        Delta(7, 3, (Remove(2),)),
        canonical=False,
    ),
    Valid(
        "integers longer than needed",
        "95 00 cc 01 cd 0001 08 90",
        Snapshot(1, 1, 8, ()),
        canonical=False,
    ),
    Valid(
        "array heads longer than needed",
        "dc 0005 00 01 01 08 dd 00000000",
        Snapshot(1, 1, 8, ()),
        canonical=False,
    ),
    Valid(
        "payload header longer than needed",
        "94 01 07 03 91 92 00 94 01 00 01 da 0002 6869",
        Delta(7, 3, (Put(0, HI),)),
        canonical=False,
    ),
    Valid(
        "unknown trailing element of a snapshot",
        "96 00 01 01 08 90 a3 6e6577",
        Snapshot(1, 1, 8, ()),
        canonical=False,
    ),
    Valid(
        "unknown trailing element of a delta",
        "96 01 07 09 91 02 05 81 01 c3",
        Delta(7, 9, (Remove(2),), 5),
        canonical=False,
    ),
    Valid(
        "unknown trailing elements of a put, its item and a move",
        "94 01 07 03 92 93 00 95 01 00 01 a2 6869 07 c0 93 03 00 00",
        Delta(7, 3, (Put(0, HI), Move(3, 0))),
        canonical=False,
    ),
    Valid("unknown frame type", "92 02 c0", None, canonical=False),
    Valid("unknown frame type without elements", "91 cc c8", None, canonical=False),
)

BAD_FRAMES: tuple[Invalid, ...] = (
    Invalid("nothing", "", "no msgpack"),
    Invalid("cut short", "95 00 01 01", "no msgpack"),
    Invalid("reserved byte", "c1", "no msgpack"),
    Invalid("array longer than the message", "dd ffffffff 00", "no msgpack"),
    Invalid("bytes after the frame", "95 00 01 01 08 90 00", "bytes after the frame"),
    Invalid("payload of invalid UTF-8", "95 00 01 01 08 91 94 01 00 01 a1 ff", "no UTF-8"),
    Invalid("payload with a surrogate", "95 00 01 01 08 91 94 01 00 01 a3 eda080", "no UTF-8"),
    Invalid("not an array", "01", "no array"),
    Invalid("a map", "81 00 01", "no array"),
    Invalid("empty array", "90", "no type"),
    Invalid("type is a string", "91 a1 30", "type"),
    Invalid("type is false", "95 c2 01 01 08 90", "type"),
    Invalid("type is a float", "95 ca 00000000 01 01 08 90", "type"),
    Invalid("negative type", "91 ff", "type"),
    Invalid("snapshot without items", "94 00 01 01 08", "too short"),
    Invalid("snapshot of epoch 0", "95 00 00 01 08 90", "value"),
    Invalid("snapshot with k 0", "95 00 01 01 00 90", "value"),
    Invalid("snapshot with k 65", "95 00 01 01 41 90", "value"),
    Invalid("snapshot with more items than k", "95 00 01 01 01 92 94 01 00 01 a0 94 02 00 01 a0", "more than k"),
    Invalid("snapshot with a number twice", "95 00 01 01 08 92 94 01 00 01 a0 94 01 00 02 a0", "number twice"),
    Invalid("snapshot with items that are a map", "95 00 01 01 08 80", "type"),
    Invalid("epoch is true", "95 00 c3 01 08 90", "type"),
    Invalid("epoch is a float", "95 00 ca 3f800000 01 08 90", "type"),
    Invalid("epoch of 33 bits", "95 00 cf 0000000100000000 01 08 90", "value"),
    Invalid("negative seq", "95 00 01 ff 08 90", "value"),
    Invalid("delta without ops", "93 01 07 03", "too short"),
    Invalid("delta of epoch 0", "94 01 00 01 90", "value"),
    Invalid("delta to seq 0", "94 01 07 00 90", "value"),
    Invalid("delta that stands still", "95 01 07 03 90 03", "value"),
    Invalid("delta that leads back", "95 01 07 03 90 04", "value"),
    Invalid("base is nil", "95 01 07 03 90 c0", "type"),
    Invalid("ops are an integer", "94 01 07 03 00", "type"),
    Invalid("negative rank", "94 01 07 03 91 ff", "value"),
    Invalid("op of one element", "94 01 07 03 91 91 00", "too short"),
    Invalid("op is nil", "94 01 07 03 91 c0", "type"),
    Invalid("move to a string", "94 01 07 03 91 92 00 a0", "type"),
    Invalid("item of three elements", "94 01 07 03 91 92 00 93 01 00 01", "too short"),
    Invalid("item number 0", "94 01 07 03 91 92 00 94 00 00 01 a0", "value"),
    Invalid("item of priority 4", "94 01 07 03 91 92 00 94 01 00 04 a0", "value"),
    Invalid("payload is an integer", "94 01 07 03 91 92 00 94 01 00 01 05", "type"),
    Invalid("payload is an ext", "94 01 07 03 91 92 00 94 01 00 01 d4 05 00", "type"),
    Invalid("payload is a map", "94 01 07 03 91 92 00 94 01 00 01 80", "type"),
)  # fmt: skip

UPS: tuple[Valid[Up], ...] = (
    Valid("hello from nothing", "93 00 00 00", Hello(0, 0)),
    Valid("hello from a position", "93 00 07 cd 0100", Hello(7, 256)),
    Valid(
        "hello with every option",
        "94 00 07 03 86 01 10 02 cd 0200 03 02 04 a3 652f31 05 ce deadbeef 06 01",
        Hello(7, 3, HelloOptions(16, 512, 2, "e/1", 0xDEADBEEF, True)),
    ),
    Valid("hello with one option", "94 00 00 00 81 01 05", Hello(0, 0, HelloOptions(k=5))),
    Valid("hello without a clock", "94 00 00 00 81 06 00", Hello(0, 0, HelloOptions(clock=False))),
    Valid("hello with no options", "94 00 00 00 80", Hello(0, 0, HelloOptions())),
    Valid("ack", "93 01 07 03", Ack(7, 3)),
    Valid("opened", "92 02 91 92 01 01", Feedback((Event(1, Kind.OPENED),))),
    Valid("shown at a rank", "92 02 91 93 01 00 02", Feedback((Event(1, Kind.SHOWN, 2),))),
    Valid(
        "dwell and dismissed some time ago",
        "92 02 92 94 01 03 2d cd 0e10 94 cd 0100 02 c0 05",
        Feedback((Event(1, Kind.DWELL, 45, 3600), Event(256, Kind.DISMISSED, None, 5))),
    ),
    Valid("no feedback", "92 02 90", Feedback(())),
    Valid(
        "profile",
        "92 03 83 a6 666f6c6c6f77 91 a3 612f2b a8 756e666f6c6c6f77 91 a1 23"
        " a5 6174747273 82 a2 747a a3 555443 a5 636c617373 02",
        Profile(("a/+",), ("#",), {"tz": "UTC", "class": 2}),
    ),
    Valid("empty profile", "92 03 80", Profile()),
    Valid("bye", "92 04 ce deadbeef", Bye(0xDEADBEEF)),
    Valid("unknown trailing element", "94 01 07 03 c0", Ack(7, 3), canonical=False),
    Valid("unknown trailing element of an event", "92 02 91 95 01 01 c0 c0 c3", Feedback((Event(1, Kind.OPENED),)), canonical=False),
    Valid("unknown hello options", "94 00 00 00 84 07 01 a1 78 01 c3 05 01 05", Hello(0, 0, HelloOptions(k=5)), canonical=False),
    Valid("unknown part of a profile", "92 03 82 a1 78 01 01 02", Profile(), canonical=False),
    Valid(
        "hello options below their range",
        "94 00 00 00 82 01 00 02 00",
        Hello(0, 0, HelloOptions(k=1, budget=96)),
        canonical=False,
    ),
    Valid(
        "hello options above their range",
        "94 00 00 00 84 01 cf ffffffffffffffff 02 ce 00010001 03 03 06 02",
        Hello(0, 0, HelloOptions(k=64, budget=65_536, max_qos=2, clock=True)),
        canonical=False,
    ),
    Valid(
        "agent text longer than taken",
        "94 00 00 00 81 04 d9 41" + "61" * 63 + "c3bc",
        Hello(0, 0, HelloOptions(agent="a" * 63)),
        canonical=False,
    ),
)  # fmt: skip

_FOLLOW = "92 03 81 a6 666f6c6c6f77"
_ATTRS = "92 03 81 a5 6174747273"

BAD_UPS: tuple[Invalid, ...] = (
    Invalid("nothing", "", UpError.BAD_MSGPACK),
    Invalid("cut short", "93 00 00", UpError.BAD_MSGPACK),
    Invalid("reserved byte", "c1", UpError.BAD_MSGPACK),
    Invalid("agent of invalid UTF-8", "94 00 00 00 81 04 a1 ff", UpError.BAD_MSGPACK),
    Invalid("longer than 2 KiB", "93 01 07 c5 0800" + "00" * 2048, UpError.TOO_LARGE),
    Invalid("bytes after the message", "93 00 00 00 00", UpError.TRAILING_BYTES),
    Invalid("text", "68 65", UpError.TRAILING_BYTES),
    Invalid("not an array", "05", UpError.NOT_AN_ARRAY),
    Invalid("a map", "81 00 00", UpError.NOT_AN_ARRAY),
    Invalid("empty array", "90", UpError.TOO_SHORT),
    Invalid("type unknown", "91 05", UpError.UNKNOWN_TYPE),
    Invalid("type true", "93 c3 07 03", UpError.BAD_TYPE),
    Invalid("type a string", "91 a1 30", UpError.BAD_TYPE),
    Invalid("type negative", "91 ff", UpError.BAD_VALUE),
    Invalid("hello without a seq", "92 00 07", UpError.TOO_SHORT),
    Invalid("hello with a negative epoch", "93 00 ff 00", UpError.BAD_VALUE),
    Invalid("hello with an epoch of 33 bits", "93 00 cf 0000000100000000 00", UpError.BAD_VALUE),
    Invalid("hello with a float", "93 00 ca 3f800000 00", UpError.BAD_TYPE),
    Invalid("hello with options in an array", "94 00 00 00 91 08", UpError.BAD_TYPE),
    Invalid("k is a float", "94 00 00 00 81 01 ca 41000000", UpError.BAD_TYPE),
    Invalid("k is true", "94 00 00 00 81 01 c3", UpError.BAD_TYPE),
    Invalid("k is nil", "94 00 00 00 81 01 c0", UpError.BAD_TYPE),
    Invalid("k is negative", "94 00 00 00 81 01 ff", UpError.BAD_VALUE),
    Invalid("clock is true", "94 00 00 00 81 06 c3", UpError.BAD_TYPE),
    Invalid("agent is bytes", "94 00 00 00 81 04 c4 01 61", UpError.BAD_TYPE),
    Invalid("c of 33 bits", "94 00 00 00 81 05 cf 0000000100000000", UpError.BAD_VALUE),
    Invalid("ack without a seq", "92 01 07", UpError.TOO_SHORT),
    Invalid("ack with nil", "93 01 07 c0", UpError.BAD_TYPE),
    Invalid("feedback without events", "91 02", UpError.TOO_SHORT),
    Invalid("feedback that is one event", "93 02 01 01", UpError.BAD_TYPE),
    Invalid("event without a kind", "92 02 91 91 01", UpError.TOO_SHORT),
    Invalid("event about item 0", "92 02 91 92 00 01", UpError.BAD_VALUE),
    Invalid("event of an unknown kind", "92 02 91 92 01 04", UpError.BAD_VALUE),
    Invalid("event with a float", "92 02 91 93 01 03 cb 3ff0000000000000", UpError.BAD_TYPE),
    Invalid("event of a negative age", "92 02 91 94 01 03 01 ff", UpError.BAD_VALUE),
    Invalid("one bad event after a good one", "92 02 92 92 01 01 92 01 c2", UpError.BAD_TYPE),
    Invalid("profile without a map", "91 03", UpError.TOO_SHORT),
    Invalid("profile that is an array", "92 03 90", UpError.BAD_TYPE),
    Invalid("follow is one string", _FOLLOW + "a1 23", UpError.BAD_TYPE),
    Invalid("follow with bytes", _FOLLOW + "91 c4 01 23", UpError.BAD_TYPE),
    Invalid("follow of 33 filters", _FOLLOW + "dc 0021" + "a1 61" * 33, UpError.TOO_MANY_FILTERS),
    Invalid("follow of an empty filter", _FOLLOW + "91 a0", UpError.BAD_FILTER),
    Invalid("follow of a misplaced wildcard", _FOLLOW + "91 a5 612f232f62", UpError.BAD_FILTER),
    Invalid("follow of a wildcard within a level", _FOLLOW + "91 a2 612b", UpError.BAD_FILTER),
    Invalid("follow of nine levels", _FOLLOW + "91 b1 61" + "2f61" * 8, UpError.BAD_FILTER),
    Invalid("follow of 129 bytes", _FOLLOW + "91 d9 81" + "61" * 129, UpError.BAD_FILTER),
    Invalid("attributes in an array", _ATTRS + "90", UpError.BAD_TYPE),
    Invalid("17 attributes", _ATTRS + "de 0011" + "".join(f"a1 {97 + i:02x} 01" for i in range(17)), UpError.TOO_MANY_ATTRS),
    Invalid("attribute without a name", _ATTRS + "81 a0 01", UpError.BAD_ATTR),
    Invalid("attribute name of 65 bytes", _ATTRS + "81 d9 41" + "61" * 65 + "01", UpError.BAD_ATTR),
    Invalid("attribute value of 65 bytes", _ATTRS + "81 a1 61 d9 41" + "61" * 65, UpError.BAD_ATTR),
    Invalid("attribute name is an integer", _ATTRS + "81 01 01", UpError.BAD_TYPE),
    Invalid("attribute value is a list", _ATTRS + "81 a1 61 90", UpError.BAD_TYPE),
    Invalid("attribute value is a float", _ATTRS + "81 a1 61 ca 3f800000", UpError.BAD_TYPE),
    Invalid("attribute value is negative", _ATTRS + "81 a1 61 ff", UpError.BAD_VALUE),
    Invalid("bye without c", "91 04", UpError.TOO_SHORT),
    Invalid("bye with a string", "92 04 a1 31", UpError.BAD_TYPE),
)  # fmt: skip
