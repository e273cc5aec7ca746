"""The decision log on real files: what is written, bounded, erased, and what a kill leaves of it."""

from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking.decisions import Admissions, Outcomes, encode
from feedgen.store import StoreError
from feedgen.store.decision_files import _PIECE, _contains
from feedgen.store.decision_log import DecisionLog, erase, join, read
from feedgen.store.decision_reading import MAGIC, numbered
from tests.broker.support import eventually
from tests.feedgen.decision_cases import admissions, bits, framed, outcomes, records

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30.0


def items(directory: Path) -> list[int]:
    """The items of all admissions in a log, in its order."""
    return [record.n for record in read(directory) if isinstance(record, Admissions)]


def devices(directory: Path) -> set[int]:
    """Whose rows a log has."""
    return {device for record in read(directory) for device in record.device.tolist()}


def last_file(directory: Path) -> Path:
    return list(numbered(directory).values())[-1]


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in numbered(directory).values())


def many(count: int, rows: int = 20) -> Iterator[Admissions]:
    """Items 0, 1, …, for devices 0 to `rows` - 1; some 600 bytes each."""
    for n in range(count):
        yield admissions(*range(rows), n=n, t=float(n), key=range(rows), bar=range(rows))


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Let every write past `limit` bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# What is written


def test_what_was_appended_is_read_in_its_order(tmp_path: Path):
    with DecisionLog(tmp_path / "log") as log:
        log.append([admissions(1, 2, n=3), outcomes(2, n=3, opened=True)])
        found = list(read(tmp_path / "log"))
    assert [bits(each) for each in found] == [
        bits(admissions(1, 2, n=3)),
        bits(outcomes(2, n=3, opened=True)),
    ]


def test_the_next_run_goes_on_in_the_same_file(tmp_path: Path):
    for n in range(3):
        with DecisionLog(tmp_path) as log:
            log.append([admissions(1, n=n)])
    assert items(tmp_path) == [0, 1, 2]
    assert len(numbered(tmp_path)) == 1


def test_what_was_offered_is_written_by_the_time_the_log_is_closed(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        assert all(log.offer(record) for record in many(500))
    assert items(tmp_path) == list(range(500))
    assert log.counts["rows"] == 500 * 20
    assert log.counts["bytes"] == size(tmp_path)
    assert log.waiting == 0
    assert not log.dropped


async def test_what_is_offered_is_written_without_being_asked_for(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        log.offer(admissions(1, n=7))
        await eventually(lambda: log.counts["rows"])
        assert items(tmp_path) == [7]


def test_appending_keeps_the_order_of_what_was_offered_before(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        for n in range(100):
            log.offer(admissions(1, n=n))
        log.append([admissions(1, n=100)])
        assert items(tmp_path) == list(range(101))


def test_records_without_rows_leave_nothing_in_the_log(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        log.append([admissions()])
        assert log.offer(outcomes())
    assert list(read(tmp_path)) == []


def test_nobody_else_may_read_the_files(tmp_path: Path):
    with DecisionLog(tmp_path / "log") as log:
        log.append([admissions(1)])
        assert (tmp_path / "log").stat().st_mode & 0o077 == 0
        log.erase(2)
        assert [path.stat().st_mode & 0o077 for path in (tmp_path / "log").iterdir()] == [0, 0]


# Who offers never waits


def test_offers_beyond_the_bound_are_dropped_and_counted_while_the_disk_is_slow(tmp_path: Path):
    with DecisionLog(tmp_path, max_waiting=20_000) as log:
        with log._writing:  # as long as a write takes
            taken = [log.offer(record) for record in many(100)]
        log.flush()
        assert 5 < sum(taken) < 30
        assert log.dropped == {"queue_full": 20 * taken.count(False)}
        assert items(tmp_path) == [n for n, kept in enumerate(taken) if kept]
        assert log.offer(admissions(1, n=1000))
    assert items(tmp_path)[-1] == 1000


def test_flushing_waits_for_a_write_that_has_begun(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        flushed = threading.Event()
        flushing = threading.Thread(target=lambda: (log.flush(), flushed.set()))
        with log._writing:
            flushing.start()
            assert not flushed.wait(0.05)
        assert flushed.wait(PATIENCE)
        flushing.join(PATIENCE)


def test_what_is_offered_to_a_closed_log_is_counted(tmp_path: Path):
    log = DecisionLog(tmp_path)
    assert not log.offer(admissions(1, 2, 3))
    with log:
        log.append([admissions(1)])
    assert not log.offer(admissions(1, 2))
    assert log.dropped == {"closed": 5}
    with pytest.raises(StoreError, match="not open"):
        log.append([admissions(1)])
    with pytest.raises(StoreError, match="not open"):
        log.erase(1)
    log.close()


@pytest.mark.logs_errors
def test_a_record_that_cannot_be_encoded_does_not_cost_the_others(tmp_path: Path):
    wrong = Admissions(**{
        **{name: getattr(admissions(1, 2), name) for name in (*Admissions.SCALARS, *Admissions.COLUMNS)},
        "sd": np.zeros(3, np.float32),
    })  # fmt: skip
    with DecisionLog(tmp_path) as log:
        for record in (admissions(1, n=1), wrong, admissions(1, n=2)):
            assert log.offer(record)
    assert items(tmp_path) == [1, 2]
    assert log.dropped == {"unencodable": 2}


def test_a_record_longer_than_a_file_is_dropped_and_counted(tmp_path: Path):
    with DecisionLog(tmp_path, max_bytes=2000, file_bytes=1000) as log:
        log.append([admissions(*range(100), key=range(100)), admissions(1, n=7)])
    assert items(tmp_path) == [7]
    assert log.dropped == {"too_large": 100}


# A full disk


def test_on_a_full_disk_decisions_are_dropped_and_counted_until_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    with DecisionLog(tmp_path) as log:
        log.append([admissions(1, n=0)])
        with file_size_limit(last_file(tmp_path).stat().st_size + 10):
            for n in (1, 2, 3):
                assert log.offer(admissions(1, 2, n=n))
                log.flush()
            assert log.fault is not None
            assert "make room on the disk" in log.fault
            with pytest.raises(StoreError, match="make room"):
                log.append([admissions(1)])
            assert items(tmp_path) == [0]
        log.append([admissions(1, n=4)])
        assert log.fault is None
    assert items(tmp_path) == [0, 4]
    assert log.dropped == {"disk": 7}
    said = [record.levelname for record in caplog.records if "decision log" in record.message]
    assert said == ["WARNING", "INFO"]


def test_a_disk_that_takes_no_byte_of_a_new_file_leaves_no_heap_of_empty_ones(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        with file_size_limit(0):
            for n in range(5):
                log.offer(admissions(1, n=n))
                log.flush()
        assert not numbered(tmp_path)
        log.append([admissions(1, n=9)])
    assert items(tmp_path) == [9]


def test_a_file_that_cannot_even_be_cut_is_left_for_the_next_one(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        log.append([admissions(1, n=0)])
        # A descriptor that can neither be written nor cut.
        os.close(log._files._descriptor)
        log._files._descriptor = os.open(last_file(tmp_path), os.O_RDONLY)
        with pytest.raises(StoreError, match="check the disk"):
            log.append([admissions(1, n=1)])
        log.append([admissions(1, n=2)])
        assert items(tmp_path) == [0, 2]
        assert len(numbered(tmp_path)) == 2


# Bounds


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(records(), max_size=6), max_size=12))
def test_the_log_never_exceeds_its_bound_and_keeps_the_latest(
    tmp_path_factory: pytest.TempPathFactory, runs
):
    directory = tmp_path_factory.mktemp("log")
    wanted = []
    deleted = 0
    for batch in runs:
        with DecisionLog(directory, max_bytes=6000, file_bytes=1500) as log:
            for record in batch:
                log.append([record])
                wanted += [bits(record)] if len(record) else []
                assert size(directory) <= 6000
                assert all(path.stat().st_size <= 1500 for path in numbered(directory).values())
        deleted += log.counts["files_deleted"]
        assert not log.dropped
    found = [bits(record) for record in read(directory)]
    assert found == wanted[len(wanted) - len(found) :]
    # Only as much is deleted as must be: the rest would not have fit.
    assert (len(found) == len(wanted)) == (deleted == 0)


def test_the_oldest_files_are_deleted_and_counted(tmp_path: Path):
    with DecisionLog(tmp_path, max_bytes=20_000, file_bytes=5000) as log:
        for record in many(100):
            log.append([record])
    assert size(tmp_path) > 14_000
    assert log.counts["files_deleted"] > 5
    assert log.counts["bytes"] == size(tmp_path) + log.counts["bytes_deleted"]
    assert items(tmp_path) == list(range(100 - len(items(tmp_path)), 100))


def test_a_batch_is_spread_over_as_many_files_as_it_needs(tmp_path: Path):
    with DecisionLog(tmp_path, max_bytes=1 << 20, file_bytes=5000) as log:
        log.append(many(100))
    assert items(tmp_path) == list(range(100))
    assert len(numbered(tmp_path)) > 8


def test_files_that_somebody_deleted_are_not_missed(tmp_path: Path):
    with DecisionLog(tmp_path, max_bytes=20_000, file_bytes=5000) as log:
        log.append(many(30))
        for path in numbered(tmp_path).values():
            path.unlink()
        for record in many(100):
            log.append([record])
        log.erase(3)
    assert items(tmp_path)[-1] == 99
    assert size(tmp_path) <= 20_000


@pytest.mark.parametrize(("most", "each"), [(100, 200), (100, 0), (8, 8)])
def test_bounds_that_cannot_be_kept_are_refused(tmp_path: Path, most: int, each: int):
    with pytest.raises(ValueError, match="file_bytes"):
        DecisionLog(tmp_path, max_bytes=most, file_bytes=each)


# Who may write


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        with pytest.raises(StoreError, match="A server writes"):
            DecisionLog(tmp_path).open()
        with pytest.raises(StoreError, match="A server writes"):
            erase(tmp_path, 1)
        with pytest.raises(StoreError, match="open already"):
            log.open()
    with DecisionLog(tmp_path):
        pass


def test_a_directory_that_is_a_file_is_said_to_be_unusable(tmp_path: Path):
    (tmp_path / "log").write_text("mine")
    with pytest.raises(StoreError, match="Cannot write the decision log"):
        DecisionLog(tmp_path / "log").open()


def test_what_another_version_wrote_is_not_touched(tmp_path: Path):
    (tmp_path / "decisions-00000001.log").write_bytes(MAGIC[:-1] + b"\x09" + b"new form")
    with pytest.raises(StoreError, match="another version"):
        DecisionLog(tmp_path).open()
    assert last_file(tmp_path).read_bytes().endswith(b"new form")


# Kills


def test_a_tail_that_is_cut_at_any_byte_costs_only_the_record_in_it(tmp_path: Path):
    frames = [encode(admissions(1, n=1)), encode(outcomes(2)), encode(admissions(1, 2, n=3))]
    data = MAGIC + b"".join(frames)
    ends = np.cumsum([len(MAGIC), *map(len, frames)]).tolist()
    path = tmp_path / "decisions-00000001.log"
    for length in range(len(data)):
        for other in numbered(tmp_path).values():
            other.unlink()
        path.write_bytes(data[:length])
        left = sum(end <= length for end in ends[1:])
        assert len(list(read(tmp_path))) == left
        with DecisionLog(tmp_path) as log:
            log.append([admissions(9, n=9)])
        found = list(read(tmp_path))
        assert len(found) == left + 1
        assert bits(found[-1]) == bits(admissions(9, n=9))
        assert log.counts["bytes_cut"] == (length - ends[left] if length >= len(MAGIC) else 0)


WRITER = """
import sys
from feedgen.store.decision_files import _PIECE, _contains
from feedgen.store.decision_log import DecisionLog
from tests.broker.support import eventually
from tests.feedgen.decision_cases import admissions, outcomes

with DecisionLog(sys.argv[1], max_bytes=10**7, file_bytes=10**5) as log:
    for n in range(1_000_000):
        log.offer(admissions(*range(50), n=n, key=range(50)))
        log.offer(outcomes(n, n=n))
        if n % 10 == 0:
            log.flush()
            print(n, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_flushed_and_the_next_goes_on(tmp_path: Path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(40):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split()
    flushed = int(said[-1]) if said else 390
    numbers = items(tmp_path)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > flushed
    with DecisionLog(tmp_path) as log:
        log.append([admissions(1, n=-1)])
    assert items(tmp_path) == [*numbers, -1]
    assert any(isinstance(record, Outcomes) for record in read(tmp_path))


# Erasing


@pytest.mark.parametrize("running", [True, False])
def test_an_erased_device_has_no_row_left_and_all_others_have_theirs(tmp_path: Path, running: bool):
    with DecisionLog(tmp_path, max_bytes=10**6, file_bytes=5000) as log:
        log.append(many(50))
        log.append([outcomes(3), outcomes(3, 4)])
        if running:
            assert log.erase(3) == 52
            assert log.counts["rows_erased"] == 52
    if not running:
        assert erase(tmp_path, 3) == 52
    assert devices(tmp_path) == {*range(20)} - {3}
    assert items(tmp_path) == list(range(50))
    assert sum(map(len, read(tmp_path))) == 50 * 19 + 1
    assert not list(tmp_path.glob("*.tmp"))
    assert not list(tmp_path.glob("erase-*"))
    # Not one byte of it either, in no file.
    assert not any((3).to_bytes(8, "little") in path.read_bytes() for path in tmp_path.iterdir())


def test_what_waits_of_an_erased_device_is_erased_as_well(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        with log._writing:
            log.offer(admissions(1, 2, n=1))
            assert log.erase(1) == 1
        assert devices(tmp_path) == {2}


def test_the_log_goes_on_in_its_file_after_an_erasure(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        log.append([admissions(1, 2, n=1)])
        log.erase(1)
        log.append([admissions(3, n=2)])
    assert items(tmp_path) == [1, 2]
    assert devices(tmp_path) == {2, 3}
    assert len(numbered(tmp_path)) == 1


def test_the_room_of_erased_rows_is_used_again(tmp_path: Path):
    with DecisionLog(tmp_path, max_bytes=4000, file_bytes=2000) as log:
        for _ in range(10):
            log.append([admissions(1, *[2] * 40, key=range(41), bar=range(41))])
            log.erase(2)
        assert len(list(read(tmp_path))) == 10
        assert log.counts["files_deleted"] == 0


@pytest.mark.parametrize("before", range(9))
def test_a_device_is_found_wherever_the_pieces_of_a_search_meet(tmp_path: Path, before: int):
    path = tmp_path / "file"
    path.write_bytes(b"\0" * (_PIECE - before) + b"devicexy" + b"\0" * _PIECE)
    assert _contains(path, b"devicexy")
    assert not _contains(path, b"devicexz")


def test_a_copy_that_a_kill_left_behind_is_removed(tmp_path: Path):
    (tmp_path / "decisions-00000007.log.tmp").write_bytes(MAGIC)
    (tmp_path / "notes.tmp").write_text("not ours")
    with DecisionLog(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["decisions.lock", "notes.tmp"]


def test_a_device_that_is_not_in_the_log_costs_no_rewriting(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        log.append([admissions(1, 2)])
        before = last_file(tmp_path).stat().st_ino
        assert log.erase(3) == 0
        assert last_file(tmp_path).stat().st_ino == before
    assert erase(tmp_path / "nothing", 3) == 0


def test_a_torn_tail_that_may_be_of_the_device_goes_with_it(tmp_path: Path):
    torn = encode(admissions(1, 2, n=2))[:-20]
    with DecisionLog(tmp_path, max_bytes=10**6, file_bytes=300) as log:
        log.append([admissions(2, n=1)])
        log.append([admissions(4, n=3), admissions(4, n=4)])
    first = next(iter(numbered(tmp_path).values()))
    first.write_bytes(first.read_bytes() + torn)
    assert erase(tmp_path, 1) == 0
    assert items(tmp_path) == [1, 3, 4]
    assert torn not in first.read_bytes()


def test_a_frame_that_nobody_can_read_goes_when_it_may_be_of_the_device(tmp_path: Path):
    bad = framed(["no map", (1).to_bytes(8, "little")])
    path = tmp_path / "decisions-00000001.log"
    path.write_bytes(MAGIC + encode(admissions(2, n=1)) + bad + encode(admissions(1, 2, n=2)))
    assert erase(tmp_path, 1) == 1
    assert items(tmp_path) == [1, 2]
    assert bad not in path.read_bytes()


def test_an_erasure_that_the_disk_does_not_let_happen_is_finished_by_the_next_run(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        log.append(many(50))
        with file_size_limit(100), pytest.raises(StoreError, match="make room on the disk"):
            log.erase(3)
        assert items(tmp_path) == list(range(50))
        assert not list(tmp_path.glob("*.tmp"))
    with file_size_limit(100), DecisionLog(tmp_path):
        pass  # no reason not to run
    assert 3 in devices(tmp_path)
    with DecisionLog(tmp_path):
        assert devices(tmp_path) == {*range(20)} - {3}
    assert items(tmp_path) == list(range(50))


# Dies at a chosen call of the operating system, as a kill may come at any of them.
ERASER = """
import os, sys
from feedgen.store.decision_files import _PIECE, _contains
from feedgen.store.decision_log import erase

left = int(sys.argv[2])

def mortal(call):
    def counted(*args, **kwargs):
        global left
        if left == 0:
            os.kill(os.getpid(), 9)
        left -= 1
        return call(*args, **kwargs)
    return counted

os.fsync, os.replace, os.rename, os.unlink = map(mortal, (os.fsync, os.replace, os.rename, os.unlink))
erase(sys.argv[1], 3)
"""


def test_a_kill_at_any_step_of_an_erasure_loses_nobody_else_and_the_next_run_finishes_it(
    tmp_path: Path,
):
    finished, step = False, 0
    while not finished:
        directory = tmp_path / str(step)
        with DecisionLog(directory, max_bytes=10**6, file_bytes=2000) as log:
            log.append(many(9))
        assert len(numbered(directory)) == 3
        done = subprocess.run([sys.executable, "-c", ERASER, directory, str(step)], check=False)
        finished = done.returncode == 0
        assert finished or done.returncode == -signal.SIGKILL
        assert items(directory) == list(range(9))
        assert devices(directory) >= {*range(20)} - {3}
        if step % 2:
            erase(directory, 99)
        else:
            with DecisionLog(directory):
                pass
        assert devices(directory) == {*range(20)} - {3}
        assert items(directory) == list(range(9))
        assert sorted(path.suffix for path in directory.iterdir()) == [
            ".lock",
            ".log",
            ".log",
            ".log",
        ]
        step += 1
    assert step > 8


# Readers beside a writer


def test_a_reader_beside_a_writer_that_rotates_deletes_and_erases_sees_whole_records(
    tmp_path: Path,
):
    done = threading.Event()

    def write() -> None:
        with DecisionLog(tmp_path, max_bytes=50_000, file_bytes=5000) as log:
            for n, record in enumerate(many(3000)):
                log.offer(record)
                if n % 100 == 0:
                    log.erase(n // 100 % 20)
        done.set()

    (tmp_path / "decisions-00000001.log").write_bytes(MAGIC)
    thread = threading.Thread(target=write)
    thread.start()
    looks = 0
    while not done.is_set():
        numbers = items(tmp_path)
        # Between two files the older may be deleted or shortened, never another put in its place.
        assert numbers == sorted(set(numbers))
        looks += 1
    thread.join(PATIENCE)
    assert looks > 3
    assert items(tmp_path)[-1] == 2999


def test_a_log_is_joined_with_admissions_from_before_the_time_of_interest(tmp_path: Path):
    with DecisionLog(tmp_path) as log:
        log.append([
            admissions(1, 2, n=5, t=10.0, propensity=0.25, model=3),
            outcomes(1, n=5, shown=15.0, t=20.0),
            outcomes(2, n=5, shown=25.0, t=40.0, opened=True),
        ])  # fmt: skip
    found = join(tmp_path, since=30.0)
    assert (found.device.tolist(), found.opened.tolist()) == ([2], [True])
    assert (found.propensity.tolist(), found.model.tolist()) == ([0.25], [3])
    assert len(join(tmp_path)) == 2
