"""feed.c against the named wire cases, against `devices.replica` frame by frame, and against its own bounds."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.frames import (
    MAX_BUDGET,
    Ack,
    Bye,
    Delta,
    Event,
    Feedback,
    FeedItem,
    Frame,
    Kind,
    Move,
    Op,
    Put,
    Remove,
    Snapshot,
    decode_frame,
    encode_frame,
    encode_up,
    payload_capacity,
)
from devices.packets import Publish, encode
from devices.replica import HelloPacer, Replica
from devices.window_file import WindowFile, WindowFileError
from devices.wire import UNPACK_ERRORS, unpack
from tests.devices.c99.toolchain import (
    FEED,
    SMALL,
    SOURCES,
    STRICT,
    Driver,
    Reply,
    compiles_for_32_bits,
    gcc,
    state_of,
)
from tests.wire_cases import BAD_FRAMES, BAD_UPS, FRAMES, UPS, Invalid, Valid

if TYPE_CHECKING:
    from pathlib import Path

MOST = 4096
"""Bytes of code that decoder and replica may have."""


def item(n: int, payload: str | bytes = "") -> FeedItem:
    return FeedItem(n, 0, 1, payload or f"{n}")


def snapshot(epoch: int, seq: int, *numbers: int, k: int = 4) -> bytes:
    return encode_frame(Snapshot(epoch, seq, k, tuple(item(n) for n in numbers)))


def delta(epoch: int, seq: int, *ops: Op, base: int | None = None) -> bytes:
    return encode_frame(Delta(epoch, seq, ops, base))


def held(replica: Replica) -> str:
    return state_of(replica.epoch, replica.seq, replica.k, replica.window)


@pytest.fixture
def feed(driver: Driver) -> Driver:
    """At position 5.10 with the items 1 2 3 4 and no room for more."""
    assert driver.new(k=4)
    assert driver.receive(snapshot(5, 10, 1, 2, 3, 4)).result == "applied"
    return driver


AT_5_10 = state_of(5, 10, 4, [item(n) for n in (1, 2, 3, 4)])


# ---- The named wire cases


@pytest.mark.parametrize("case", FRAMES, ids=str)
def test_every_named_frame_does_to_an_empty_feed_what_it_does_to_the_replica(
    driver: Driver, case: Valid[Frame | None]
) -> None:
    driver.new(k=64)
    replica = Replica(k=64)
    assert driver.receive(case.data) == Reply(replica.receive(case.data).value, held(replica))


@pytest.mark.parametrize(
    "case", [case for case in FRAMES if isinstance(case.value, Delta)], ids=str
)
def test_every_named_delta_applies_where_it_starts(driver: Driver, case: Valid[Frame | None]) -> None:  # fmt: skip
    assert isinstance(case.value, Delta)
    window = tuple(item(n) for n in range(11, 19))
    start = encode_frame(Snapshot(case.value.epoch, case.value.start, 16, window))
    driver.new(k=16)
    replica = Replica(k=16)
    for frame in (start, case.data):
        assert driver.receive(frame) == Reply(replica.receive(frame).value, held(replica))
    assert replica.position == (case.value.epoch, case.value.seq)


@pytest.mark.parametrize("case", BAD_FRAMES, ids=str)
def test_what_is_no_frame_changes_nothing(feed: Driver, case: Invalid) -> None:
    assert feed.receive(case.data) == Reply("bad", AT_5_10)


@pytest.mark.parametrize("case", [*FRAMES, *BAD_FRAMES, *UPS, *BAD_UPS], ids=str)
def test_every_beginning_of_a_named_message_is_judged_as_by_the_replica(
    driver: Driver, case: Valid[Frame | None] | Invalid
) -> None:
    data = case.data[:300]
    for end in range(len(data) + 1):
        driver.new(k=64)
        assert driver.receive(data[:end]).result == Replica(k=64).receive(data[:end]).value


# ---- Random sequences

_RANKS = st.integers(0, 9)
_TEXTS = st.sampled_from(["", "a", "ü€😀", "x" * 40]) | st.text(max_size=6)
_ITEMS = st.builds(
    FeedItem,
    st.integers(1, 12) | st.sampled_from([0x1_0000, 0xFFFF_FFFF]),
    st.sampled_from([0, 1, 1_800_000_000, 0xFFFF_FFFF]),
    st.integers(0, 3),
    _TEXTS | st.binary(max_size=6),
)
_PUTS = st.builds(Put, _RANKS, _ITEMS)
_OPS = _PUTS | _PUTS | st.builds(Remove, _RANKS) | st.builds(Move, _RANKS, _RANKS)
_MOSTLY_0 = st.sampled_from([0] * 12 + [1, -1])


@dataclass(frozen=True)
class Replace:
    """A snapshot, relative to the position that is held then."""

    later: int
    on: int
    k: int
    items: tuple[FeedItem, ...]

    def frame(self, replica: Replica, _last: bytes) -> bytes:
        epoch, seq = max(0, replica.epoch + self.later), max(0, replica.seq + self.on)
        return encode_frame(Snapshot(epoch, seq, self.k, self.items))


@dataclass(frozen=True)
class Change:
    """A delta from about the position that is held then, with ranks of about its window."""

    later: int
    off: int
    steps: int
    ops: tuple[Op, ...]

    def frame(self, replica: Replica, _last: bytes) -> bytes:
        epoch, start = max(0, replica.epoch + self.later), max(0, replica.seq + self.off)
        length = len(replica.window)
        ops = tuple(_near(op, max(1, length), length + 2) for op in self.ops)
        return encode_frame(Delta(epoch, start + self.steps, ops, start))


def _near(op: Op, length: int, ranks: int) -> Op:
    """The same op, with ranks that mostly exist."""
    match op:
        case Put(rank, put):
            return Put(rank % ranks, put)
        case Remove(rank):
            return Remove(rank % length)
        case Move(source, target):
            return Move(source % length, target % length)


@dataclass(frozen=True)
class Mutate:
    """The frame before, with one byte set, inserted or everything behind it cut off."""

    at: int
    how: str
    byte: int

    def frame(self, _replica: Replica, last: bytes) -> bytes:
        at = self.at % (len(last) or 1)
        if self.how == "cut":
            return last[:at]
        return last[:at] + bytes((self.byte,)) + last[at + (self.how == "set") :]


_SNAPSHOTS = st.builds(
    Replace, _MOSTLY_0, st.integers(-1, 4), st.integers(1, 9), st.lists(_ITEMS, max_size=9).map(tuple)
)  # fmt: skip
_DELTAS = st.builds(
    Change, _MOSTLY_0, _MOSTLY_0, st.integers(0, 3), st.lists(_OPS, max_size=6).map(tuple)
)
_MUTATIONS = st.builds(
    Mutate, st.integers(0, 999), st.sampled_from(["set", "insert", "cut"]), st.integers(0, 255)
)
_STEPS = st.lists(_SNAPSHOTS | _DELTAS | _DELTAS | _DELTAS | _MUTATIONS, max_size=24)


def _by_extension_alone(data: bytes) -> bool:
    """Whether the reference refuses this for the inside of an ext or for nesting, which frames do not have.

    `msgpack` reads ext types, checks timestamps, and stops at 1,024 levels; feed.c passes over them.
    """
    try:
        unpack(data)
    except UNPACK_ERRORS as error:
        words = repr(error)
        return "timestamp" in words or "code" in words or "nanosec" in words or "Stack" in words
    return False


@settings(max_examples=300, deadline=None)
@given(steps=_STEPS)
def test_any_sequence_of_frames_leaves_it_where_the_replica_is(
    driver: Driver, steps: list[Replace | Change | Mutate]
) -> None:
    driver.new(k=64)
    replica = Replica(k=64)
    frame = snapshot(3, 3, 1, 2, 3, k=8)
    for step in (None, *steps):
        frame = frame if step is None else step.frame(replica, frame)
        if not _by_extension_alone(frame):
            assert driver.receive(frame) == Reply(replica.receive(frame).value, held(replica))


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=60) | st.builds(lambda tail: b"\x94\x01\x07\x03\x90" + tail, st.binary(max_size=20)))  # fmt: skip
def test_any_bytes_are_judged_as_by_the_replica(driver: Driver, data: bytes) -> None:
    driver.new(k=64)
    replica = Replica(k=64)
    if not _by_extension_alone(data):
        assert driver.receive(data) == Reply(replica.receive(data).value, held(replica))


_POINTS = (0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x1_0000, 0x10_FFFF)
_NO_UTF8 = ("80", "bf", "c0 80", "c1 bf", "c2", "c2 41", "e0 9f bf", "e1 80", "ed a0 80", "ed bf bf", "ef bf", "f0 8f bf bf", "f1 80 80", "f4 90 80 80", "f5 80 80 80", "ff", "fe")  # fmt: skip


@pytest.mark.parametrize("text", [chr(point).encode() for point in _POINTS], ids=bytes.hex)
def test_text_up_to_the_limits_of_utf8_is_taken(feed: Driver, text: bytes) -> None:
    data = delta(5, 11, Put(0, item(9, text.decode())))
    assert feed.receive(data).state.split()[3] == f"9:0:1:t:{text.hex()}"


@pytest.mark.parametrize("text", _NO_UTF8)
def test_text_that_is_no_utf8_is_no_frame_wherever_it_stands(feed: Driver, text: str) -> None:
    raw = bytes.fromhex(text)
    packed = bytes((0xA0 | len(raw),)) + raw
    for data in (
        bytes.fromhex("9401050b91920094090001") + packed,
        bytes.fromhex("9601050b900a") + packed,
    ):
        assert feed.receive(data) == Reply("bad", AT_5_10)
        assert Replica().receive(data) == "bad"


_ANYTHING = (
    *(None, True, False, -1, -33, -200, -40_000, -(2**31), -(2**63), 200, 70_000, 2**32, 2**64 - 1, 1.5),
    *("x" * length for length in (0, 31, 32, 255, 256, 65_536)),
    *(b"x" * length for length in (0, 255, 256, 65_536)),
    *(msgpack.ExtType(5, b"x" * length) for length in (0, 1, 2, 3, 4, 8, 16, 17, 255, 256, 65_536)),
    *([[]] * length for length in (15, 16, 65_536)),
    *(dict.fromkeys(range(length)) for length in (1, 15, 16, 65_536)),
    {"a": [1.5, {"b": [[], {}]}], "c": {}},
)  # fmt: skip


@pytest.mark.parametrize(
    "value", _ANYTHING, ids=lambda value: f"{type(value).__name__} {repr(value)[:12]}"
)
def test_a_trailing_element_of_any_type_is_passed_over_and_no_byte_more(
    driver: Driver, value: object
) -> None:
    whole = bytes.fromhex("960107039002") + msgpack.packb(value)
    for data, result in ((whole, "applied"), (whole[:-1], "bad"), (whole + b"\0", "bad")):
        driver.new()
        replica = Replica()
        for frame in (snapshot(7, 2, k=8), data):
            said = driver.receive(frame)
            assert said == Reply(replica.receive(frame).value, held(replica))
        assert said.result == result


@pytest.mark.parametrize("large", ["cf 00000001 00000005", "d3 00000001 00000005", "cf ffffffff ffffffff", "d3 ffffffff ffffffff"])  # fmt: skip
def test_an_integer_of_more_than_32_bits_is_none_of_a_frame(driver: Driver, large: str) -> None:
    driver.new()
    for before, after in (("95 00", "01 08 90"), ("95 00 05", "08 90"), ("94 01 05 01 91 92 00 94", "00 01 a0")):  # fmt: skip
        assert driver.receive(bytes.fromhex(before + large + after)).result == "bad"
    unknown = bytes.fromhex("92" + large + "c0")
    assert driver.receive(unknown).result == Replica().receive(unknown).value


@pytest.mark.parametrize("head", ["d3", "cf"])
@pytest.mark.parametrize("value", [0, 1, 127, 0xFFFF_FFFF])
def test_an_integer_may_have_eight_bytes_if_its_value_has_four(
    driver: Driver, head: str, value: int
) -> None:
    driver.new()
    frame = bytes.fromhex(f"950005{head}{value:016x}0890")
    assert driver.receive(frame) == Reply("applied", f"5 {value} 8")


def test_elements_nested_deeper_than_any_stack_are_passed_over(feed: Driver) -> None:
    deep = b"\x91" * 200_000 + b"\xc0"
    assert feed.receive(b"\x96\x01\x05\x0b\x90\x0a" + deep).result == "applied"
    assert feed.receive(b"\x96\x01\x05\x0c\x90\x0b" + deep[:-1]).result == "bad"


# ---- All or nothing


@pytest.mark.parametrize("op", [Remove(4), Move(4, 0), Move(0, 4)], ids=str)
def test_an_impossible_op_gives_the_position_up_and_changes_nothing_shown(
    feed: Driver, op: Op
) -> None:
    data = delta(5, 11, Remove(0), Put(0, item(9)), op, Put(1, item(8)))
    assert feed.receive(data) == Reply("impossible", AT_5_10.replace("5 10", "0 0"))
    assert feed.receive(delta(5, 12)).result == "gap"
    assert feed.receive(snapshot(5, 12, 8)) == Reply("applied", state_of(5, 12, 4, [item(8)]))


def test_a_frame_that_turns_out_bad_in_its_last_byte_has_changed_nothing(feed: Driver) -> None:
    ops = tuple(Put(0, item(n)) for n in range(20, 26))
    good = encode_frame(Delta(5, 12, ops, 10))
    assert feed.receive(good[:-1] + b"\xc0") == Reply("bad", AT_5_10)
    assert feed.receive(good).result == "applied"


def test_a_bad_frame_is_bad_even_after_an_impossible_op(feed: Driver) -> None:
    data = bytes.fromhex("9401050b92 07 c0")
    assert feed.receive(data) == Reply("bad", AT_5_10)


@pytest.mark.parametrize("rank", [1, 2, 3, 0xFFFF_FFFF])
def test_a_put_past_the_end_appends(driver: Driver, rank: int) -> None:
    driver.new(k=4)
    driver.receive(snapshot(5, 10, 1))
    data = delta(5, 11, Put(rank, item(9)))
    assert driver.receive(data).state == state_of(5, 11, 4, [item(1), item(9)])


def test_an_item_that_is_put_twice_in_a_frame_has_its_last_content(feed: Driver) -> None:
    twice = delta(5, 11, Put(0, item(2, "a")), Put(3, item(2, "b")), Remove(0))
    assert feed.receive(twice).state == state_of(5, 11, 4, [item(3), item(4), item(2, "b")])


# ---- The memory that it was given


def test_a_snapshot_for_a_longer_window_than_there_is_memory_for_is_impossible(
    feed: Driver,
) -> None:
    nothing = AT_5_10.replace("5 10", "0 0")
    assert feed.receive(snapshot(5, 9, 1, k=5)) == Reply("stale", AT_5_10)
    assert feed.receive(snapshot(6, 1, 1, k=5)) == Reply("impossible", nothing)
    assert feed.receive(snapshot(6, 1, 1, k=4)).result == "applied"


@pytest.mark.parametrize("budget", [96, 128, 256, 300, 2_000, MAX_BUDGET])
def test_whatever_fits_a_packet_within_the_budget_fits_the_memory(
    driver: Driver, budget: int
) -> None:
    driver.new(k=2, budget=budget)

    def packet(length: int) -> bytes:
        return encode(Publish("f/x", snapshot_of(length), 0, 0))

    def snapshot_of(length: int) -> bytes:
        return encode_frame(Snapshot(1, 1, 2, (item(1, "x" * length),)))

    longest = next(length for length in range(budget, 0, -1) if len(packet(length)) <= budget)
    assert longest >= payload_capacity(budget, "x")
    assert driver.receive(snapshot_of(longest)).result == "applied"


def test_a_payload_longer_than_any_within_the_budget_is_impossible(driver: Driver) -> None:
    driver.new(k=2, budget=96)
    assert driver.receive(snapshot(1, 1, 7, k=2)).result == "applied"
    largest, more = (delta(1, 2, Put(0, item(1, "x" * (96 - spare)))) for spare in (18, 17))
    assert driver.receive(more) == Reply("impossible", state_of(0, 0, 2, [item(7)]))
    driver.receive(snapshot(1, 1, 7, k=2))
    assert driver.receive(largest).result == "applied"


@pytest.mark.parametrize(
    "config",
    [{"k": 0}, {"k": 65}, {"budget": 95}, {"budget": 65_537}, {"max_qos": 3}, {"agent": "a" * 65}],
    ids=str,
)
def test_a_config_out_of_bounds_is_refused(driver: Driver, config: dict[str, int]) -> None:
    assert not driver.new(**config)  # type: ignore[arg-type]
    assert driver.new()


# ---- Up messages


@pytest.mark.parametrize("agent", [None, "e/1", "a" * 31, "a" * 32, "ü" * 32])
@pytest.mark.parametrize("c", [None, 1, 127, 128, 0xFF, 0x100, 0xFFFF, 0x1_0000, 0xFFFF_FFFF])
def test_a_hello_has_the_bytes_of_the_replicas(
    driver: Driver, agent: str | None, c: int | None
) -> None:
    clock = agent is not None
    driver.new(16, 512, max_qos=2, clock=clock, agent=agent or "-")
    replica = Replica(16, 512, 2, agent or "", clock=clock)
    for frame in (b"", snapshot(200, 70_000, 1, k=2)):
        driver.receive(frame)
        replica.receive(frame)
        assert driver.written(f"hello {c or 0}") == replica.hello(c)


def test_ack_and_bye_have_the_bytes_of_the_codec(feed: Driver) -> None:
    assert feed.written("ack") == encode_up(Ack(5, 10))
    assert feed.written("bye 3735928559") == encode_up(Bye(0xDEADBEEF))


@pytest.mark.parametrize(
    "case", [case for case in UPS if isinstance(case.value, Feedback) and case.canonical], ids=str
)
def test_every_named_feedback_is_written_as_it_stands_there(
    driver: Driver, case: Valid[Feedback]
) -> None:
    assert driver.feedback(*case.value.events) == case.data


_NUMBERS = st.none() | st.integers(0, 300) | st.integers(0, 0xFFFF_FFFE)
_EVENTS = st.builds(
    Event, st.integers(1, 0xFFFF_FFFF), st.sampled_from(list(Kind)), _NUMBERS, _NUMBERS
)


@settings(max_examples=100, deadline=None)
@given(events=st.lists(_EVENTS, max_size=120))
def test_feedback_has_the_bytes_of_the_codec(driver: Driver, events: list[Event]) -> None:
    assert driver.feedback(*events) == encode_up(Feedback(tuple(events)))


def test_120_events_always_fit_a_message_and_none_is_longer_than_the_protocol_allows(
    driver: Driver,
) -> None:
    longest = Event(0xFFFF_FFFF, Kind.DWELL, 0xFFFF_FFFE, 0xFFFF_FFFE)
    assert len(driver.feedback(*[longest] * 120)) <= 2_048
    assert driver.feedback(*[longest] * 121) == b""


@pytest.mark.parametrize("event", ["0:1:1:1", "1:4:1:1"])
def test_an_event_that_the_server_would_drop_is_not_written(driver: Driver, event: str) -> None:
    assert driver.written(f"feedback 1:1:1:1 {event}") == b""


@pytest.mark.parametrize("command", ["hello 5", "ack", "bye 5", "save"])
def test_a_message_is_written_whole_or_not_at_all(feed: Driver, command: str) -> None:
    whole = feed.written(command)
    for size in range(len(whole)):
        assert feed.written(f"{command} {size}") == b""
    assert feed.written(f"{command} {len(whole)}") == whole


# ---- When to ask again


@pytest.mark.parametrize("start", [0, 1_000_000, 2**32 - 10_000])
def test_hellos_wait_30_s_then_twice_as_long_up_to_an_hour_and_at_most_half_as_long_again(
    driver: Driver, start: int
) -> None:
    driver.new()
    assert driver.ask(f"may {start}") == "true"
    now = start
    for pause in (30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600):
        for random, wait in ((0, pause), (0xFFFF_FFFF, None)):
            driver.ask(f"sent {now} {random}") if random == 0 else None
            if wait is not None:
                before, after = (now + wait * 1_000 - 1) % 2**32, (now + wait * 1_000) % 2**32
                assert (driver.ask(f"may {before}"), driver.ask(f"may {after}")) == (
                    "false",
                    "true",
                )
        now = (now + pause * 1_000) % 2**32


def test_a_pause_is_lengthened_by_up_to_half_at_random(driver: Driver) -> None:
    random = Random(1)
    for _ in range(50):
        driver.new()
        drawn = random.getrandbits(32)
        driver.ask(f"sent 0 {drawn}")
        wait = 30_000 + drawn % 15_001
        assert (driver.ask(f"may {wait - 1}"), driver.ask(f"may {wait}")) == ("false", "true")
        assert HelloPacer.FIRST * 1_000 <= wait <= 1.5 * HelloPacer.FIRST * 1_000


def test_a_frame_that_applies_ends_the_pause(feed: Driver) -> None:
    for now in (0, 100_000):
        feed.ask(f"sent {now} 0")
    assert feed.receive(delta(5, 10)).result == "stale"
    assert feed.ask("may 101000") == "false"
    assert feed.receive(delta(5, 11)).result == "applied"
    assert feed.ask("may 101000") == "true"
    feed.ask("sent 101000 0")
    assert feed.ask("may 131000") == "true"


# ---- Kept over a loss of power


def test_the_python_client_reads_what_is_saved_and_the_other_way_round(
    driver: Driver, tmp_path: Path
) -> None:
    file = WindowFile(tmp_path / "window", "kitchen")
    window = (item(1, "ü" * 20), item(2, b"\x00\xff"), FeedItem(70_000, 0xFFFF_FFFF, 3, "x" * 40))
    there = Snapshot(7, 300, 8, window)
    driver.new()
    driver.receive(encode_frame(there))
    file.path.write_bytes(driver.written("save"))
    assert file.load() == there

    back = Snapshot(8, 0, 4, window[1:])
    file.save(back)
    driver.new()
    assert driver.load(file.path.read_bytes())
    assert driver.state() == state_of(8, 0, 4, back.items)


def test_a_window_of_another_device_is_not_loaded(driver: Driver, tmp_path: Path) -> None:
    driver.new(device="kitchen")
    driver.receive(snapshot(5, 1, 1))
    saved = driver.written("save")
    driver.new(device="kitcheN")
    assert not driver.load(saved)
    assert driver.state() == "0 0 8"
    (tmp_path / "window").write_bytes(saved)
    with pytest.raises(WindowFileError):
        WindowFile(tmp_path / "window", "kitcheN").load()


def test_any_bit_that_flips_in_what_is_saved_is_noticed(driver: Driver) -> None:
    driver.new()
    driver.receive(snapshot(5, 1, 1, 2))
    saved = driver.written("save")
    for bit in range(8 * len(saved)):
        damaged = bytearray(saved)
        damaged[bit // 8] ^= 1 << bit % 8
        driver.new()
        assert not driver.load(bytes(damaged))
        assert driver.state() == "0 0 8"
    for end in range(len(saved)):
        assert not driver.load(saved[:end])


def test_a_longer_window_than_there_is_memory_for_is_not_loaded(driver: Driver) -> None:
    driver.new(k=8)
    driver.receive(snapshot(5, 1, 1, k=8))
    saved = driver.written("save")
    driver.new(k=4)
    assert not driver.load(saved)
    assert driver.state() == "0 0 4"


def test_without_a_position_there_is_nothing_to_save(feed: Driver) -> None:
    feed.receive(delta(5, 11, Remove(9)))
    assert feed.written("save") == b""


# ---- The sources


@pytest.mark.parametrize("source", ["feed.c", "example_posix.c"])
@pytest.mark.parametrize("optimise", ["-O0", "-O2", "-O3", "-Os"])
def test_the_sources_compile_without_a_warning(build: Path, source: str, optimise: str) -> None:
    gcc(*STRICT, optimise, "-c", SOURCES / source, "-o", build / "object.o")


def test_the_header_stands_alone_and_is_cpp_as_well(build: Path) -> None:
    for language in ("c", "c++"):
        unit = build / f"unit.{language}"
        unit.write_text('#include "feed.h"\n')
        gcc("-x", language, "-fsyntax-only", *(("-std=c99",) if language == "c" else ()), unit)


@pytest.mark.parametrize("flag", ["-m64", "-m32"])
def test_decoder_and_replica_take_at_most_4_kib_of_code(build: Path, flag: str) -> None:
    if flag == "-m32" and not compiles_for_32_bits():
        pytest.skip("this gcc makes no code of 32 bits")
    assert linked_size(build, flag, "feed_init", "feed_receive", "feed_item") <= MOST


def linked_size(build: Path, flag: str, *needed: str) -> int:
    """Bytes of code and constants that a firmware has which calls these functions and no others."""
    program = build / f"linked{flag}"
    wanted = [word for name in needed for word in ("-Wl,-u," + name,)]
    gcc(
        *(*STRICT, *SMALL, flag, "-nostdlib", "-static", "-Wl,--gc-sections", *wanted),
        *(f"-Wl,-e,{needed[0]}", "-Wl,--build-id=none", FEED, "-o", program),
    )
    said = subprocess.run(["size", program], capture_output=True, text=True, check=True).stdout
    text, data, bss = (int(word) for word in said.splitlines()[1].split()[:3])
    assert bss == 0, "no globals"
    return text + data


def test_a_frame_of_the_reference_is_one_here(feed: Driver) -> None:
    """The driver is no oracle of its own: what it is compared with is decoded by msgpack."""
    data = delta(5, 11, Put(0, item(9)))
    assert msgpack.unpackb(data) == [1, 5, 11, [[0, [9, 0, 1, "9"]]]]
    assert decode_frame(data) == Delta(5, 11, (Put(0, item(9)),))
    assert feed.receive(data).result == "applied"
