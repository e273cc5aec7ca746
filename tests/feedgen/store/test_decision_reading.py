from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from feedgen.ranking.decisions import encode
from feedgen.store import StoreError
from feedgen.store.decision_reading import FORM, MAGIC, named, numbered, read
from tests.feedgen.decision_cases import admissions, bits, framed, outcomes


def test_files_are_in_the_order_of_their_numbers_and_others_are_none(tmp_path: Path):
    for number in (100_000_000, 9, 10, 2):
        (tmp_path / named(number)).touch()
    for name in ("decisions-1.log", "decisions-00000003.log.tmp", "x-00000004.log", "notes.txt"):
        (tmp_path / name).touch()
    assert list(numbered(tmp_path)) == [2, 9, 10, 100_000_000]


def test_no_directory_is_said_to_be_none(tmp_path: Path):
    with pytest.raises(StoreError, match="no directory"):
        list(read(tmp_path / "nothing"))
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="no directory"):
        list(read(tmp_path / "file"))


def test_records_before_a_time_are_left_out(tmp_path: Path):
    frames = [encode(admissions(1, t=float(t), n=t)) for t in (10, 20, 30)]
    (tmp_path / named(1)).write_bytes(MAGIC + b"".join(frames))
    assert [record.t for record in read(tmp_path, since=20.0)] == [20.0, 30.0]


def test_what_cannot_be_read_is_passed_over_and_counted(tmp_path: Path):
    one = encode(admissions(1))
    unknown = framed({"kind": "regrets", "rows": 0, "columns": {}})
    bad = framed(["no", "map"])
    (tmp_path / named(1)).write_bytes(MAGIC + one + unknown + bad + one + one[:-1])
    (tmp_path / named(2)).write_bytes(MAGIC + encode(outcomes(2)))
    (tmp_path / named(3)).write_bytes(b"flee")
    unread: Counter[str] = Counter()
    found = [bits(record) for record in read(tmp_path, unread=unread)]
    assert found == [bits(admissions(1)), bits(admissions(1)), bits(outcomes(2))]
    torn = len(one) - 1 + 4
    assert unread == {"records_unknown": 1, "records_bad": 1, "bytes_torn": torn}


def test_nothing_is_counted_of_a_log_that_is_whole(tmp_path: Path):
    unread: Counter[str] = Counter()
    (tmp_path / named(1)).write_bytes(MAGIC)
    (tmp_path / named(2)).write_bytes(MAGIC + encode(admissions(1)))
    assert len(list(read(tmp_path, unread=unread))) == 1
    assert not unread


def test_a_file_of_another_form_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / named(1)).write_bytes(MAGIC[:-1] + bytes((FORM + 1,)) + encode(admissions(1)))
    with pytest.raises(StoreError, match=r"decisions-00000001\.log was written by another version"):
        list(read(tmp_path))
