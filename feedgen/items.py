"""Items: what publishers send, what the feed makes of it, and both as bytes.

`decode_item` turns the payload of a PUBLISH on `items/<channel>` into an `Item` or says why not.
An item that the catalog accepted is a `Record`: it has a number, a content version and an expiry.
Stores keep records as the bytes of `pack_record`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

import msgpack

from feedgen.channels import valid_channel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_ITEM = 64 * 1024
"""Bytes of the largest item, as sent and as the msgpack of a map payload."""
MAX_ID = 64
MAX_TAGS = 16
MAX_TAG = 64
MAX_ATTRIBUTES = 8
MAX_VALUES = 64
MAX_DEPTH = 32
"""Levels of maps and lists in a map payload, the map itself included.

Far more than any payload needs, and far below what the decoders themselves give up at, which for
JSON depends on how deep the caller's stack is.
"""
MAX_TTL = 30 * 86_400
DEFAULT_TTL = 86_400
DEFAULT_PRIORITY = 1
URGENT = 3
"""The highest priority: what nothing holds back."""

_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class Item:
    """One item as its publisher sent it, valid and with the defaults filled in.

    Attributes:
        channel: where it was published, without the leading `items/`.
        id: the publisher's key, unique within the channel.
        payload: what the device shows; empty for a retraction.
        brief: a shorter payload for devices that the full one does not fit.
        priority: 0 low, 1 normal, 2 high, 3 urgent.
        ttl: seconds from acceptance until it leaves every feed.
        rev: the publisher's revision of this id.
        tags: ranking features, in the publisher's order.
        collapse: within one window only the newest item of a collapse key stays.
        where: device attributes and the values of which one must match, both sorted (whole numbers
            before strings), without repetition.
        retract: remove the item with this id from every feed.
        opaque: the packet was neither JSON nor a msgpack map and is the payload itself.
    """

    channel: str
    id: str
    payload: str | bytes
    brief: str | bytes | None = None
    priority: int = DEFAULT_PRIORITY
    ttl: int = DEFAULT_TTL
    rev: int | None = None
    tags: tuple[str, ...] = ()
    collapse: str | None = None
    where: tuple[tuple[str, tuple[str | int, ...]], ...] = ()
    retract: bool = False
    opaque: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """An accepted item.

    Attributes:
        n: the item number, 1 to 2**32 - 1, never reused, kept by updates.
        version: content version, uint16, one more (wrapping) with every accepted change.
        item: the content. Its `rev` is the highest accepted under this id, also where the packet
            that brought the content had none.
        published_ms: Unix milliseconds of the acceptance of this content.
        expires: Unix seconds; the item is over at `expires`, not before.
        digest: content hash, see `digest`.
        retracted: a tombstone.
        earlier: digests of contents accepted before under this id, newest last, bounded; by them
            redeliveries are known, also after a restart.
        publisher: the authenticated user that published the content, "" where nobody vouched for
            one. As long as that name may be, and the same string for all records of one publisher.
    """

    n: int
    version: int
    item: Item
    published_ms: int
    expires: int
    digest: bytes
    retracted: bool = False
    earlier: tuple[bytes, ...] = ()
    publisher: str = ""


class ItemError(StrEnum):
    """Why an item is refused; the words are counted under `items/rejected` and logged."""

    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    BAD_CHANNEL = "bad_channel"
    BAD_JSON = "bad_json"
    BAD_MSGPACK = "bad_msgpack"
    DUPLICATE_KEY = "duplicate_key"
    UNKNOWN_KEY = "unknown_key"
    BAD_TYPE = "bad_type"
    BAD_VALUE = "bad_value"
    MISSING_PAYLOAD = "missing_payload"
    MISSING_ID = "missing_id"


class InvalidItem(Exception):  # noqa: N818 -- it names the finding; ItemError names the reasons
    """The publisher's item breaks a rule: its fault, never the feed's.

    Attributes:
        reason: one word of a closed set.
        detail: a sentence for the log; what it quotes of the item is cut short.
    """

    def __init__(self, reason: ItemError, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BadRecord(ValueError):  # noqa: N818 -- named as InvalidItem is
    """Stored bytes that `pack_record` of this or an older release did not write."""


def decode_item(channel: str, payload: bytes) -> Item:
    """Decode what a publisher sent on `items/<channel>`.

    The first byte decides: `{` begins JSON, a map marker begins msgpack, and both must then decode.
    Anything else is an opaque payload with all defaults.

    Raises:
        InvalidItem: the item breaks a rule. Nothing else is raised, whatever the bytes.
    """
    if len(payload) > MAX_ITEM:
        _refuse(ItemError.TOO_LARGE, f"{len(payload)} bytes, at most {MAX_ITEM}")
    if not valid_channel(channel):
        _refuse(ItemError.BAD_CHANNEL, f"no topic name: {_quote(channel)}")
    if not payload:
        # Also what clears a retained message: never meant to be shown.
        _refuse(ItemError.MISSING_PAYLOAD, "the packet is empty")
    channel = sys.intern(channel)  # held by every record of the channel
    first = payload[0]
    if first == 0x7B:
        return _from_map(channel, _decode_json(payload))
    if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
        return _from_map(channel, _decode_msgpack(payload))
    return Item(channel, _default_id(channel, payload), payload, opaque=True)


def digest(item: Item) -> bytes:
    """Hash the content of an item, all fields but `rev`, into 16 bytes."""
    content = (
        item.channel,
        item.id,
        item.payload,
        item.brief,
        item.priority,
        item.ttl,
        item.tags,
        item.collapse,
        item.where,
        item.retract,
        item.opaque,
    )
    return blake2b(msgpack.packb(content), digest_size=16).digest()


_RECORD_FORMAT = 2
_WITHOUT_PUBLISHER = 1
"""The older format: the same fields without the publisher, who is then unknown."""


def pack_record(record: Record) -> bytes:
    """Encode a record for a store."""
    item = record.item
    packed: bytes = msgpack.packb(
        (
            _RECORD_FORMAT,
            record.publisher,
            record.n,
            record.version,
            record.published_ms,
            record.expires,
            record.digest,
            record.retracted,
            record.earlier,
            item.channel,
            item.id,
            item.payload,
            item.brief,
            item.priority,
            item.ttl,
            item.rev,
            item.tags,
            item.collapse,
            item.where,
            item.retract,
            item.opaque,
        )
    )
    return packed


def unpack_record(data: bytes) -> Record:
    """Decode what `pack_record` of this or an older release made.

    Raises:
        BadRecord: the bytes are damaged or of a newer release.
    """
    try:
        form, *fields = msgpack.unpackb(data, use_list=False)
        if form == _RECORD_FORMAT:
            return _record(*fields)
        if form == _WITHOUT_PUBLISHER:
            return _record("", *fields)
    except (ValueError, TypeError) as error:
        raise BadRecord(f"not a record: {error}") from error
    raise BadRecord(f"a record of format {form!r}, known are up to {_RECORD_FORMAT}")


def _record(
    publisher: str,
    n: int,
    version: int,
    published_ms: int,
    expires: int,
    content: bytes,
    retracted: bool,
    earlier: tuple[bytes, ...],
    channel: str,
    *item: Any,
) -> Record:
    """Take the fields in the order of `pack_record`."""
    kept, publisher = Item(sys.intern(channel), *item), sys.intern(publisher)
    return Record(n, version, kept, published_ms, expires, content, retracted, earlier, publisher)


def _from_map(channel: str, sent: dict[str, Any]) -> Item:
    fields: dict[str, Any] = {}
    for key, value in sent.items():
        check = _FIELDS.get(key)
        if check is None:
            _refuse(ItemError.UNKNOWN_KEY, f"{_quote(key)} is no key of an item")
        fields[key] = check(key, value)
    retract = fields.get("retract", False)
    payload = fields.get("payload")
    if payload is None and not retract:
        _refuse(ItemError.MISSING_PAYLOAD, "payload is required unless the item is retracted")
    if "id" not in fields:
        if payload is None:
            _refuse(ItemError.MISSING_ID, "a retraction names the item by its id or its payload")
        fields["id"] = _default_id(channel, payload)
    if retract:
        # A tombstone shows nothing, so it keeps nothing to show.
        fields |= {"payload": "", "brief": None}
    return Item(channel=channel, **fields)


def _default_id(channel: str, payload: str | bytes) -> str:
    return blake2b(msgpack.packb((channel, payload)), digest_size=16).hexdigest()


# Bytes to maps


def _decode_json(data: bytes) -> dict[str, Any]:
    try:
        # The text is decoded here as json.loads would guess UTF-16 and UTF-32 from zero bytes.
        decoded: dict[str, Any] = _JSON.decode(data.decode())
    except RecursionError:
        raise InvalidItem(ItemError.TOO_DEEP, "JSON nested too deep") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidItem(ItemError.BAD_JSON, str(error)) from None
    except ValueError:  # int() takes at most 4 300 digits
        raise InvalidItem(ItemError.BAD_VALUE, "a number has too many digits") from None
    return decoded


def _decode_msgpack(data: bytes) -> dict[str, Any]:
    try:
        decoded: dict[str, Any] = msgpack.unpackb(
            data, object_pairs_hook=_unique, ext_hook=_no_ext, max_ext_len=0
        )
    except msgpack.StackError:
        raise InvalidItem(ItemError.TOO_DEEP, "msgpack nested too deep") from None
    except ValueError as error:
        # Also what is cut off, has bytes left over, or holds text that is not UTF-8.
        raise InvalidItem(ItemError.BAD_MSGPACK, _clip(str(error) or repr(error))) from None
    return decoded


def _unique(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Make a map of pairs as decoders meet them; repeated keys would be lost silently."""
    unique = dict(pairs)
    if len(unique) != len(pairs):
        _refuse(ItemError.DUPLICATE_KEY, "a key stands twice in one map")
    return unique


def _no_ext(code: int, data: bytes) -> NoReturn:
    _refuse(ItemError.BAD_MSGPACK, f"ext type {code} of {len(data)} bytes")


def _no_constant(name: str) -> NoReturn:
    _refuse(ItemError.BAD_JSON, f"{name} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


# Values of the keys: each function takes key and value, and returns what the Item holds


def _key(key: str, value: Any) -> str:
    text = _text(key, value)
    if not 0 < _size(text) <= MAX_ID:
        _refuse(ItemError.BAD_VALUE, f"{key} has {_size(text)} bytes, not 1 to {MAX_ID}")
    return text


def _content(key: str, value: Any) -> str | bytes:
    if type(value) is dict:
        return _packed(key, value)
    return _short_content(key, value)


def _short_content(key: str, value: Any) -> str | bytes:
    return value if type(value) is bytes else _text(key, value)


def _flag(key: str, value: Any) -> bool:
    if type(value) is not bool:
        _wrong_type(key, "true", value)
    return value


def _within(low: int, high: int) -> Callable[[str, Any], int]:
    def check(key: str, value: Any) -> int:
        if type(value) is not int:  # neither 3.0 nor true
            _wrong_type(key, "an integer", value)
        if not low <= value <= high:
            _refuse(ItemError.BAD_VALUE, f"{key} is not {low} to {high}")
        return value

    return check


_int64 = _within(-_INT64, _INT64 - 1)


def _tags(key: str, value: Any) -> tuple[str, ...]:
    for tag in _list(key, value, MAX_TAGS):
        if _size(_text(key, tag)) > MAX_TAG:
            _refuse(ItemError.BAD_VALUE, f"{key} has one of more than {MAX_TAG} bytes")
    return tuple(value)


def _where(key: str, value: Any) -> tuple[tuple[str, tuple[str | int, ...]], ...]:
    if type(value) is not dict:
        _wrong_type(key, "a map", value)
    if len(value) > MAX_ATTRIBUTES:
        _refuse(ItemError.BAD_VALUE, f"{key} has more than {MAX_ATTRIBUTES} attributes")
    wanted = {_text(key, name): _wanted(key, values) for name, values in value.items()}
    return tuple(sorted(wanted.items()))


def _wanted(key: str, value: Any) -> tuple[str | int, ...]:
    values = _list(key, value, MAX_VALUES) if type(value) is list else [value]
    if not values:
        _refuse(ItemError.BAD_VALUE, f"{key} has an attribute without values: no device matches")
    numbers: set[int] = set()
    texts: set[str] = set()
    for wanted in values:
        if type(wanted) is int:
            numbers.add(_int64(key, wanted))
        elif type(wanted) is str:
            texts.add(_text(key, wanted))
        else:
            _wrong_type(key, "strings and integers", wanted)
    return (*sorted(numbers), *sorted(texts))


def _text(key: str, value: Any) -> str:
    if type(value) is not str:
        _wrong_type(key, "a string", value)
    _size(value)
    return value


def _list(key: str, value: Any, most: int) -> Sequence[Any]:
    if type(value) is not list:
        _wrong_type(key, "a list", value)
    if len(value) > most:
        _refuse(ItemError.BAD_VALUE, f"{key} has {len(value)} values, at most {most}")
    return value


def _size(text: str) -> int:
    """Return the bytes of `text` as UTF-8; JSON escapes can write what UTF-8 cannot."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidItem(ItemError.BAD_VALUE, "a lone surrogate") from None


_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "id": _key,
    "payload": _content,
    "brief": _short_content,
    "priority": _within(0, URGENT),
    "ttl": _within(1, MAX_TTL),
    "rev": _int64,
    "tags": _tags,
    "collapse": _text,
    "where": _where,
    "retract": _flag,
}


def _packed(key: str, value: dict[str, Any]) -> bytes:
    """Encode a map payload as the msgpack that travels in its place."""
    _check_nested(key, value, MAX_DEPTH)
    try:
        packed: bytes = msgpack.packb(value)
    except UnicodeEncodeError:
        raise InvalidItem(ItemError.BAD_VALUE, f"{key} holds a lone surrogate") from None
    except OverflowError:
        raise InvalidItem(ItemError.BAD_VALUE, f"{key} holds more than 64 bits") from None
    if len(packed) > MAX_ITEM:
        _refuse(ItemError.TOO_LARGE, f"{key} becomes {len(packed)} bytes, at most {MAX_ITEM}")
    return packed


def _check_nested(key: str, value: Any, depth: int) -> None:
    if type(value) is float and not isfinite(value):
        # msgpack can say it and JSON can reach it by 1e999, but no device should meet it.
        _refuse(ItemError.BAD_VALUE, f"{key} holds a number that is not finite")
    if type(value) is dict or type(value) is list:
        if not depth:
            _refuse(ItemError.TOO_DEEP, f"{key} has more than {MAX_DEPTH} levels")
        for inner in value.values() if type(value) is dict else value:
            _check_nested(key, inner, depth - 1)


# Refusals


def _refuse(reason: ItemError, detail: str) -> NoReturn:
    raise InvalidItem(reason, detail)


def _wrong_type(key: str, wanted: str, value: Any) -> NoReturn:
    _refuse(ItemError.BAD_TYPE, f"{key} must be {wanted}, not {type(value).__name__}")


def _quote(text: Any) -> str:
    return _clip(repr(text))


def _clip(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
