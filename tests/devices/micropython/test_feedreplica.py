"""The MicroPython replica against the Python one: whatever comes, both end up with the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.frames import (
    Delta,
    FeedItem,
    Frame,
    Move,
    Put,
    Remove,
    Snapshot,
    decode_frame,
    decode_up,
    encode_frame,
)
from devices.replica import Received, Replica
from devices.wire import unpack
from tests.devices.micropython.support import Program
from tests.wire_cases import BAD_FRAMES, FRAMES, UPS, Invalid, Valid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devices.up_messages import Up

HELD = tuple(FeedItem(100 + number, 0, 1, f"held {number}") for number in range(10))


class Twins:
    """A replica on MicroPython and one here, which take the same frames."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.here = Replica()

    def ask(self, line: str) -> Any:
        self._program.tell(line)
        return self._program.answer()

    def begin(self, k: int = 8) -> None:
        """Both hold nothing."""
        self.here = Replica(k)
        self.ask(f"new {k}")

    def take(self, frame: Frame | bytes) -> tuple[str, Received]:
        """Both take a frame; returns what each says. What they hold then must be the same."""
        data = frame if isinstance(frame, bytes) else encode_frame(frame)
        said = self.here.receive(data)
        word, *there = self.ask(f"frame {data.hex()}")
        if word == said:
            assert there == [*self.here.position, self.here.k, list(map(_plain, self.here.window))]
        return word, said

    def agree(self, frame: Frame | bytes) -> Received:
        """... and say the same of it."""
        word, said = self.take(frame)
        assert word == said, (frame, self.here)
        return said

    def agree_but_for_what_is_skipped(self, data: bytes) -> None:
        """... but for text that is no UTF-8 and for ext types: those that are skipped are not looked into."""
        word, said = self.take(data)
        if word != said:
            assert said is Received.BAD
            with pytest.raises(ValueError, match=r"utf-8|code must be|[Tt]imestamp|nanoseconds"):
                unpack(data)


def _plain(item: FeedItem) -> list[Any]:
    payload = item.payload
    kind, data = ("s", payload.encode()) if isinstance(payload, str) else ("b", payload)
    return [item.n, item.expires, item.priority, [kind, data.hex()]]


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Program("frames.py") as started:
        yield started


@pytest.fixture
def twins(program: Program) -> Twins:
    both = Twins(program)
    both.begin()
    return both


# ---- The shared cases


@pytest.mark.parametrize("case", FRAMES, ids=str)
def test_it_takes_every_frame_of_the_shared_cases(case: Valid[Frame | None], twins: Twins) -> None:
    if isinstance(case.value, Delta):
        twins.agree(Snapshot(case.value.epoch, case.value.start, 64, HELD))
    expected = Received.UNKNOWN if case.value is None else Received.APPLIED
    assert twins.agree(case.data) is expected


@pytest.mark.parametrize(
    "case", [case for case in BAD_FRAMES if case.name != "payload with a surrogate"], ids=str
)
def test_it_refuses_every_bad_frame_of_the_shared_cases(case: Invalid, twins: Twins) -> None:
    twins.agree(Snapshot(7, 2, 64, HELD))
    assert twins.agree(case.data) is Received.BAD


def test_only_a_surrogate_passes_as_the_runtime_itself_has_nothing_against_it(twins: Twins) -> None:
    case = next(case for case in BAD_FRAMES if case.name == "payload with a surrogate")
    assert twins.take(case.data) == ("applied", Received.BAD)


@pytest.mark.parametrize("case", [case for case in UPS if case.canonical], ids=str)
def test_it_writes_every_up_message_of_the_shared_cases(case: Valid[Up], twins: Twins) -> None:
    plain = msgpack.unpackb(case.data, strict_map_key=False)
    # The order of a map is MicroPython's own; all else is the shortest form.
    written = bytes.fromhex(twins.ask(f"encode {plain!r}"))
    assert decode_up(written) == case.value
    assert len(written) == len(case.data)


# ---- Sequences of frames

numbers = st.integers(1, 12)
payloads = st.one_of(st.text(max_size=20), st.binary(max_size=20), st.just("x" * 200))
payloads = payloads.filter(lambda payload: isinstance(payload, bytes) or payload.isprintable())
items = st.builds(FeedItem, numbers, st.sampled_from([0, 2**32 - 1]), st.integers(0, 3), payloads)
ranks = st.one_of(st.integers(0, 9), st.just(2**32 - 1))
ops = st.one_of(
    st.builds(Put, ranks, items), st.builds(Remove, ranks), st.builds(Move, ranks, ranks)
)
windows = st.lists(items, max_size=8, unique_by=lambda item: item.n).map(tuple)


@st.composite
def frames(draw: st.DrawFn) -> tuple[str, Any]:
    """A frame that fits where the replica is, mostly: said relative to its position."""
    kind = draw(st.sampled_from(["delta"] * 6 + ["snapshot", "old", "gap", "epoch"]))
    if kind in {"snapshot", "epoch"}:
        window = draw(windows)
        return kind, (draw(st.integers(max(1, len(window)), 9)), window)
    return kind, (draw(st.lists(ops, max_size=4).map(tuple)), draw(st.integers(1, 3)))


def _at(replica: Replica, kind: str, content: Any) -> Frame:
    epoch, seq = replica.epoch or 1, replica.seq
    if kind == "snapshot":
        return Snapshot(epoch, seq + 1, *content)
    if kind == "epoch":
        return Snapshot(epoch + 1, 0, *content)
    change, step = content
    if kind == "old":
        return Delta(epoch, max(1, seq), change)
    if kind == "gap":
        return Delta(epoch, seq + step + 1, change, seq + step)
    return Delta(epoch, seq + step, change, seq)


@given(sequence=st.lists(frames(), max_size=12))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_after_any_sequence_of_frames_it_holds_what_the_python_replica_holds(
    sequence: list[tuple[str, Any]], twins: Twins
) -> None:
    twins.begin()
    for kind, content in sequence:
        twins.agree(_at(twins.here, kind, content))
    # ... and what it keeps for a restart is that window.
    if twins.here.epoch:
        kept = decode_frame(bytes.fromhex(twins.ask("kept")))
        assert kept == Snapshot(*twins.here.position, twins.here.k, twins.here.window)


@given(
    valid=st.sampled_from([case.data for case in FRAMES]),
    at=st.integers(0, 60),
    damage=st.binary(max_size=4),
    cut=st.integers(0, 4),
)
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_frame_is_judged_as_the_python_replica_judges_it(
    valid: bytes, at: int, damage: bytes, cut: int, twins: Twins
) -> None:
    at = min(at, len(valid))
    data = valid[:at] + damage + valid[at + cut :]
    twins.begin()
    twins.take(Snapshot(7, 2, 64, HELD))
    twins.agree_but_for_what_is_skipped(data)


@given(data=st.binary(max_size=40))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_noise_is_judged_as_the_python_replica_judges_it(data: bytes, twins: Twins) -> None:
    twins.begin()
    twins.agree_but_for_what_is_skipped(data)
