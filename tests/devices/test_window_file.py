from __future__ import annotations

from pathlib import Path

import pytest

from devices.frames import FeedItem, Snapshot
from devices.window_file import WindowFile, WindowFileError

WINDOW = Snapshot(5, 10, 8, (FeedItem(1, 0, 1, "hi"), FeedItem(70_000, 9, 3, b"\x00\xff")))


@pytest.fixture
def file(tmp_path: Path) -> WindowFile:
    return WindowFile(tmp_path / "kitchen.feed", "kitchen")


def test_no_file_is_no_window(file: WindowFile) -> None:
    assert file.load() is None


def test_what_is_saved_is_loaded(file: WindowFile) -> None:
    file.save(WINDOW)
    assert file.load() == WINDOW


def test_only_the_last_window_stays_and_no_other_file(file: WindowFile) -> None:
    file.save(WINDOW)
    file.save(Snapshot(6, 1, 8, ()))
    assert file.load() == Snapshot(6, 1, 8, ())
    assert list(file.path.parent.iterdir()) == [file.path]


def test_a_file_cut_anywhere_is_noticed(file: WindowFile) -> None:
    file.save(WINDOW)
    whole = file.path.read_bytes()
    for length in range(len(whole)):
        file.path.write_bytes(whole[:length])
        with pytest.raises(WindowFileError, match="damaged"):
            file.load()


def test_any_flipped_bit_is_noticed(file: WindowFile) -> None:
    file.save(WINDOW)
    whole = file.path.read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        file.path.write_bytes(flipped)
        with pytest.raises(WindowFileError, match="damaged"):
            file.load()


def test_the_window_of_another_device_is_not_taken(file: WindowFile) -> None:
    file.save(WINDOW)
    with pytest.raises(WindowFileError, match="not a window of 'hall'"):
        WindowFile(file.path, "hall").load()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WindowFileError, match="cannot read"):
        WindowFile(tmp_path, "kitchen").load()


def test_a_window_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WindowFileError, match="cannot keep"):
        WindowFile(tmp_path / "gone" / "kitchen.feed", "kitchen").save(WINDOW)


def test_a_save_that_fails_leaves_the_last_window(file: WindowFile) -> None:
    file.save(WINDOW)
    file.path.with_name("kitchen.feed.new").mkdir()
    with pytest.raises(WindowFileError):
        file.save(Snapshot(6, 1, 8, ()))
    assert file.load() == WINDOW


@pytest.mark.parametrize("frame", [b"\xc1", bytes.fromhex("94010701 90")], ids=["none", "delta"])
def test_another_frame_behind_a_right_checksum_is_no_window(file: WindowFile, frame: bytes) -> None:
    file.path.write_bytes(file._head(frame) + frame)
    with pytest.raises(WindowFileError, match="holds"):
        file.load()
