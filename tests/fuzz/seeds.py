"""Where fuzzing begins: the shared case tables as inputs of the targets, and what it found before.

The tables are turned into inputs each time, so they cannot fall behind. `corpus/<target>.txt` has what
no table has: what real clients send, and inputs that once broke something. One input a line, its name,
a tab and its bytes in hexadecimal, so that a change of it can be read.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack

from devices.frames import FeedItem, encode_frame
from devices.profile import Profile, Rights, shared_attrs, shared_follow, shared_rights
from feedgen.items import Record, decode_item, digest, pack_record
from tests import mqtt_cases, wire_cases
from tests.fuzz.targets import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CORPUS = Path(__file__).parent / "corpus"

_ITEMS: tuple[tuple[str, bytes], ...] = (
    ("the least", b'{"payload": "storm"}'),
    ("opaque text", b"storm"),
    ("opaque bytes", b"\xff\xd8\xff\xe0"),
    (
        "every key as JSON",
        json.dumps(
            {
                "id": "a1",
                "payload": {"head": "storm", "at": [1, -2.5, None, True]},
                "brief": "st\u00fcrm",
                "priority": 3,
                "ttl": 60,
                "rev": -7,
                "tags": ["wind", "ca"],
                "collapse": "wind",
                "where": {"region": ["ca", 7], "class": 2},
            }
        ).encode(),
    ),
    (
        "every key as msgpack",
        msgpack.packb(
            {
                "id": "a1",
                "payload": {"head": b"\x00\xff", "at": [1, 2.5, None]},
                "brief": b"\x00",
                "priority": 0,
                "ttl": 2_592_000,
                "rev": 1 << 63 >> 1,
                "tags": ["wind"],
                "where": {"region": "ca"},
            }
        ),
    ),
    ("a retraction", b'{"id": "a1", "retract": true}'),
    ("a retraction by its payload", b'{"payload": "storm", "retract": true}'),
    ("a key twice", b'{"id": "a", "id": "b", "payload": ""}'),
    ("a lone surrogate", b'{"payload": "\\ud800"}'),
    ("not finite", b'{"payload": {"x": 1e999}}'),
    ("more than 64 bits", b'{"payload": {"x": 36893488147419103232}}'),
    ("digits without end", b'{"rev": ' + b"9" * 5_000 + b"}"),
    ("deep JSON", b'{"payload": {"a":' + b"[" * 600 + b"]" * 600 + b"}}"),
    ("deep msgpack", b"\x81\xa7payload\x81\xa1a" + b"\x91" * 600 + b"\x01"),
    ("a map as its own key", b"\x81\x81\x01\x02\x03"),
    ("an ext type", b"\x81\xa7payload\xd4\x05\x00"),
    ("a timestamp", b"\x81\xa7payload\xd6\xff\x00\x00\x00\x00"),
    ("cut short", b"\x82\xa7payload\xa1x"),
)


def _packets() -> Iterator[tuple[str, bytes]]:
    cases: list[mqtt_cases.Valid | mqtt_cases.Malformed] = [
        *mqtt_cases.VALID,
        *mqtt_cases.MALFORMED,
    ]
    for case in cases:
        choices = bytes((4 | (case.role == "client"), 3))
        yield case.name, choices + case.data
        yield f"{case.name}, after an opening", choices + mqtt_cases.OPENING[case.role] + case.data


def _frames() -> Iterator[tuple[str, bytes]]:
    yield from ((case.name, case.data) for case in (*wire_cases.FRAMES, *wire_cases.BAD_FRAMES))


def _replica() -> Iterator[tuple[str, bytes]]:
    first = encode_frame(wire_cases.Snapshot(1, 1, 8, (FeedItem(9, 0, 1, "first"),)))
    for name, frame in _frames():
        if len(frame) < 256:
            yield name, bytes((len(first),)) + first + bytes((len(frame),)) + frame


def _up() -> Iterator[tuple[str, bytes]]:
    yield from ((case.name, case.data) for case in (*wire_cases.UPS, *wire_cases.BAD_UPS))


def _differences() -> Iterator[tuple[str, bytes]]:
    yield "nothing changes", bytes((7, 1, 2, 3, 1, 2, 3))
    yield "one put", bytes((7, 1, 2, 3, 4, 1, 2, 3))
    yield "turned over", bytes((7, *range(8), *reversed(range(8))))
    yield "all contents new", bytes((7, *range(8), *range(64, 72)))
    yield "nothing in common", bytes((31, *range(32), *range(32, 64)))


def _items() -> Iterator[tuple[str, bytes]]:
    for number in range(len(CHANNELS)):
        for name, item in _ITEMS:
            yield f"{name}, channel {number}", bytes((number,)) + item


def _records() -> Iterator[tuple[str, bytes]]:
    for name, payload in _ITEMS[:6]:
        item = decode_item("news", payload)
        record = Record(7, 3, item, 1_700_000_000_000, 1_700_000_060, digest(item), item.retract)
        yield name, pack_record(replace(record, publisher="ann"))


def _profiles() -> Iterator[tuple[str, bytes]]:
    yield "nothing known", Profile("kitchen").pack()
    rights = shared_rights(Rights(("a/#",), ("b",), ("c/+",), ("d",), operator=True))
    full = Profile(
        "kitchen",
        shared_follow(("alerts/#",)),
        shared_attrs({"region": "north", "class": 2}),
        secret_hash=bytes(32),
        rights=rights,
        subscribed=1,
        session=b"\x90",
        next_hash=bytes(32),
        password="$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA",
        revoked=True,
    )
    yield "everything known", full.pack()


def _topics() -> Iterator[tuple[str, bytes]]:
    yield "levels", b"a\na/b\na/b/c\n/\n//\na/\n/a\n+\n#\na/+\n+/b\na/#\n+/+\n/+\n/#\n+/#"
    yield "dollars", b"$SYS\n$SYS/a\n#\n+/a\n$SYS/#\n$SYS/+\n$\n$/#"
    yield "covered by two", b"a\na/b\na/b/c\na\na/+/#\na/#"
    yield "no filters", b"a#\n+a\n#/a\na/+b\n\0\n" + "\u00e4/\U0001f300/+".encode()
    yield "many levels", b"/" * 198 + b"\n" + b"/" * 199 + b"\n" + b"/" * 200 + b"\n#"


_TABLES: Mapping[str, Callable[[], Iterator[tuple[str, bytes]]]] = {
    "packets": _packets,
    "frames": _frames,
    "replica": _replica,
    "up": _up,
    "differences": _differences,
    "items": _items,
    "records": _records,
    "profiles": _profiles,
    "topics": _topics,
}


def seeds(target: str) -> list[tuple[str, bytes]]:
    """Name and bytes of every input that `target` starts from."""
    return [*_TABLES[target](), *found(target)]


def found(target: str) -> list[tuple[str, bytes]]:
    """The inputs of `corpus/<target>.txt`, none if there is no such file."""
    path = CORPUS / f"{target}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [(name, bytes.fromhex(data)) for name, data in rows]
