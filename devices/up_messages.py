"""Up messages: what a device says on ``u/<device>``, as values and as msgpack.

`decode_up` either returns a value that keeps every bound of the protocol or raises `BadUp`: no other
exception leaves it, whatever the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import msgpack

from devices.packets import valid_filter
from devices.wire import MAX_K, MAX_UINT, UNPACK_ERRORS, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

MIN_BUDGET, MAX_BUDGET = 96, 65_536
"""A device's frame budget is within these, in bytes of a whole PUBLISH packet."""
MAX_UP = 2_048
"""The longest up message, in bytes."""
MAX_AGENT = 64
"""The longest agent text of a hello, in bytes; a longer one is cut."""
MAX_FILTERS, MAX_FILTER_LEVELS, MAX_FILTER_BYTES = 32, 8, 128
MAX_ATTRS, MAX_ATTR_BYTES = 16, 64


class Kind(IntEnum):
    """What a person did with an item."""

    SHOWN = 0
    OPENED = 1
    DISMISSED = 2
    DWELL = 3


@dataclass(frozen=True, slots=True)
class HelloOptions:
    """What a hello says about its device; None = not said, the last value stands.

    Attributes:
        k: window length, 1 to 64.
        budget: longest PUBLISH packet the device takes, 96 to 65 536 bytes.
        max_qos: highest QoS of a frame, 0 to 2.
        agent: name and version of the client software.
        c: a number drawn for this connection, repeated in its `Bye`.
        clock: whether the device can compare `FeedItem.expires` with the time.
    """

    k: int | None = None
    budget: int | None = None
    max_qos: int | None = None
    agent: str | None = None
    c: int | None = None
    clock: bool | None = None


@dataclass(frozen=True, slots=True)
class Hello:
    """The position a device resumes from; (0, 0) = it holds nothing."""

    epoch: int
    seq: int
    options: HelloOptions | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """Everything up to this position is applied."""

    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Event:
    """One feedback event.

    Attributes:
        n: the item's number.
        kind: what happened.
        value: the rank for SHOWN, seconds for DWELL.
        age: seconds since it happened.
    """

    n: int
    kind: Kind
    value: int | None = None
    age: int | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What people did with items of this device."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """A change of what the device follows (`unfollow` first) and of its attributes."""

    follow: tuple[str, ...] = ()
    unfollow: tuple[str, ...] = ()
    attrs: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bye:
    """The device goes to sleep; `c` names the connection it says so about."""

    c: int


Up: TypeAlias = Hello | Ack | Feedback | Profile | Bye


class UpError(StrEnum):
    """Why an up message is dropped; the server counts by these words."""

    TOO_LARGE = "too_large"
    BAD_MSGPACK = "bad_msgpack"
    TRAILING_BYTES = "trailing_bytes"
    NOT_AN_ARRAY = "not_an_array"
    TOO_SHORT = "too_short"
    UNKNOWN_TYPE = "unknown_type"
    BAD_TYPE = "bad_type"
    BAD_VALUE = "bad_value"
    TOO_MANY_FILTERS = "too_many_filters"
    BAD_FILTER = "bad_filter"
    TOO_MANY_ATTRS = "too_many_attrs"
    BAD_ATTR = "bad_attr"


class BadUp(ValueError):  # noqa: N818 (said of the bytes, not of this program)
    """The bytes are no up message of this protocol.

    Attributes:
        reason: one word of a closed set, to be counted.
        detail: a sentence for the log.
    """

    def __init__(self, reason: UpError, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


_HELLO, _ACK, _FEEDBACK, _PROFILE, _BYE = range(5)


def encode_up(message: Up) -> bytes:
    """The bytes of an up message, in their shortest form.

    Raises:
        ValueError: the message is longer than `MAX_UP`; split it.
    """
    data: bytes = msgpack.packb(_up_array(message))
    if len(data) > MAX_UP:
        raise ValueError(f"an up message of {len(data)} bytes; at most {MAX_UP} are taken")
    return data


def _up_array(message: Up) -> list[Any]:
    match message:
        case Hello(epoch, seq, options):
            return [_HELLO, epoch, seq, *([] if options is None else [_options_map(options)])]
        case Ack(epoch, seq):
            return [_ACK, epoch, seq]
        case Feedback(events):
            return [_FEEDBACK, [event_array(event) for event in events]]
        case Profile(follow, unfollow, attrs):
            parts = {"follow": follow, "unfollow": unfollow, "attrs": dict(attrs)}
            return [_PROFILE, {name: part for name, part in parts.items() if part}]
        case Bye(c):
            return [_BYE, c]


def event_array(event: Event) -> list[int | None]:
    """An event as it stands in a feedback message, without the optional values it does not have."""
    if event.age is not None:
        return [event.n, int(event.kind), event.value, event.age]
    if event.value is not None:
        return [event.n, int(event.kind), event.value]
    return [event.n, int(event.kind)]


def _options_map(options: HelloOptions) -> dict[int, int | str]:
    clock = None if options.clock is None else int(options.clock)
    values = (options.k, options.budget, options.max_qos, options.agent, options.c, clock)
    return {key: value for key, value in enumerate(values, start=1) if value is not None}


def decode_up(data: bytes) -> Up:
    """The up message in `data`; hello options out of range are clamped.

    Raises:
        BadUp: anything that is no up message, with the reason to count.
    """
    if len(data) > MAX_UP:
        raise BadUp(UpError.TOO_LARGE, f"{len(data)} bytes; at most {MAX_UP} are taken")
    try:
        array = unpack(data)
    except msgpack.ExtraData:
        raise BadUp(UpError.TRAILING_BYTES, "bytes after the message") from None
    except UNPACK_ERRORS as error:
        raise BadUp(UpError.BAD_MSGPACK, repr(error)) from None
    if type(array) is not list:
        raise BadUp(UpError.NOT_AN_ARRAY, f"an up message is an array, not {type(array).__name__}")
    if not array:
        raise BadUp(UpError.TOO_SHORT, "an up message starts with its type")
    kind = _uint(array[0], "the type of an up message")
    if kind >= len(_UP_DECODERS):
        raise BadUp(UpError.UNKNOWN_TYPE, f"{kind} is no type of an up message")
    decoder, least = _UP_DECODERS[kind]
    if len(array) < least:
        raise BadUp(UpError.TOO_SHORT, f"{len(array)} elements; this type has at least {least}")
    return decoder(array)


def _hello(array: list[Any]) -> Hello:
    options = _hello_options(array[3]) if len(array) > 3 else None
    return Hello(_uint(array[1], "epoch"), _uint(array[2], "seq"), options)


def _hello_options(pairs: Any) -> HelloOptions:
    _expect(pairs, tuple, "hello options are a map")
    k = budget = max_qos = agent = c = clock = None
    for key, value in pairs:
        if type(key) is not int:
            continue
        match key:
            case 1:
                k = _clamped(value, 1, MAX_K)
            case 2:
                budget = _clamped(value, MIN_BUDGET, MAX_BUDGET)
            case 3:
                max_qos = _clamped(value, 0, 2)
            case 4:
                _expect(value, str, "the agent is a string")
                agent = value.encode()[:MAX_AGENT].decode(errors="ignore")
            case 5:
                c = _uint(value, "c")
            case 6:
                clock = _clamped(value, 0, 1) == 1
    return HelloOptions(k, budget, max_qos, agent, c, clock)


def _ack(array: list[Any]) -> Ack:
    return Ack(_uint(array[1], "epoch"), _uint(array[2], "seq"))


def _feedback(array: list[Any]) -> Feedback:
    _expect(array[1], list, "the events are an array")
    return Feedback(tuple([_event(event) for event in array[1]]))


_KINDS = tuple(Kind)


def _event(event: Any) -> Event:
    _expect(event, list, "an event is an array")
    if len(event) < 2:
        raise BadUp(UpError.TOO_SHORT, "an event has at least a number and a kind")
    n = _uint(event[0], "an item number")
    kind = _uint(event[1], "the kind of an event")
    if n == 0 or kind >= len(_KINDS):
        raise BadUp(UpError.BAD_VALUE, f"no event has number {n} and kind {kind}")
    value, age = (*event[2:4], None, None)[:2]
    return Event(
        n,
        _KINDS[kind],
        None if value is None else _uint(value, "the value of an event"),
        None if age is None else _uint(age, "the age of an event"),
    )


def _profile(array: list[Any]) -> Profile:
    _expect(array[1], tuple, "a profile is a map")
    follow: tuple[str, ...] = ()
    unfollow: tuple[str, ...] = ()
    attrs: dict[str, str | int] = {}
    for key, value in array[1]:
        if key == "follow":
            follow = _filters(value)
        elif key == "unfollow":
            unfollow = _filters(value)
        elif key == "attrs":
            attrs = _attrs(value)
    return Profile(follow, unfollow, attrs)


def _filters(filters: Any) -> tuple[str, ...]:
    _expect(filters, list, "filters are an array")
    if len(filters) > MAX_FILTERS:
        raise BadUp(UpError.TOO_MANY_FILTERS, f"{len(filters)}; at most {MAX_FILTERS} are taken")
    for text in filters:
        _expect(text, str, "a filter is a string")
        if (
            len(text.encode()) > MAX_FILTER_BYTES
            or text.count("/") >= MAX_FILTER_LEVELS
            or not valid_filter(text)
        ):
            raise BadUp(UpError.BAD_FILTER, repr(text))
    return tuple(filters)


def _attrs(pairs: Any) -> dict[str, str | int]:
    _expect(pairs, tuple, "attributes are a map")
    if len(pairs) > MAX_ATTRS:
        raise BadUp(UpError.TOO_MANY_ATTRS, f"{len(pairs)}; at most {MAX_ATTRS} are taken")
    attrs: dict[str, str | int] = {}
    for name, value in pairs:
        _expect(name, str, "an attribute name is a string")
        if not 1 <= len(name.encode()) <= MAX_ATTR_BYTES:
            raise BadUp(UpError.BAD_ATTR, f"the name {name!r} has not 1 to {MAX_ATTR_BYTES} bytes")
        if type(value) is str and len(value.encode()) > MAX_ATTR_BYTES:
            raise BadUp(UpError.BAD_ATTR, f"{name!r} is longer than {MAX_ATTR_BYTES} bytes")
        attrs[name] = value if type(value) is str else _uint(value, "an attribute")
    return attrs


def _bye(array: list[Any]) -> Bye:
    return Bye(_uint(array[1], "c"))


_UP_DECODERS = ((_hello, 3), (_ack, 3), (_feedback, 2), (_profile, 2), (_bye, 2))
"""By type: the decoder, and how many elements it needs."""


def _uint(value: Any, what: str) -> int:
    _expect(value, int, f"{what} is an integer")
    number: int = value
    if not 0 <= number <= MAX_UINT:
        raise BadUp(UpError.BAD_VALUE, f"{what} is a 32-bit unsigned integer, not {number}")
    return number


def _clamped(value: Any, low: int, high: int) -> int:
    _expect(value, int, "a hello option is an integer")
    number: int = value
    if number < 0:
        raise BadUp(UpError.BAD_VALUE, f"a hello option is no negative number such as {number}")
    return max(low, min(high, number))


def _expect(value: Any, kind: type, sentence: str) -> None:
    # type(...) is, not isinstance: true and false are ints in Python and are none on the wire.
    if type(value) is not kind:
        raise BadUp(UpError.BAD_TYPE, f"{sentence}, not {type(value).__name__}")
