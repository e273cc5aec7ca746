"""Chosen passwords: hashes, and checks in threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from argon2 import extract_parameters

from broker.access.passwords import (
    PasswordChecker,
    check_password,
    hash_password,
    impossible_password,
)

ENCODED = hash_password("a good passphrase")


@pytest.fixture
def checker() -> Iterator[PasswordChecker]:
    checker = PasswordChecker(workers=1, queue=1)
    yield checker
    checker.close()


@pytest.mark.parametrize("wrong", [b"", b"a good passphras", b"a good passphrase ", b"\xff\0" * 50])
def test_only_the_password_that_was_hashed_passes(wrong: bytes):
    assert check_password(ENCODED, b"a good passphrase")
    assert not check_password(ENCODED, wrong)


def test_two_hashes_of_one_password_are_not_alike_and_tell_nothing():
    again = hash_password("a good passphrase")
    assert again != ENCODED
    assert again.startswith("$argon2id$")
    assert "good" not in again


@pytest.mark.parametrize(
    "damaged",
    ["", "x", "$argon2id$v=19$", pytest.param(ENCODED[:-20], id="cut short"), "plain text"],
)
def test_a_damaged_hash_lets_nobody_in(damaged: str):
    assert not check_password(damaged, b"a good passphrase")
    assert not check_password(damaged, b"")


def test_the_hash_that_no_password_has_costs_what_others_do():
    nobody = impossible_password()
    assert extract_parameters(nobody) == extract_parameters(ENCODED)
    assert not check_password(nobody, b"")
    assert impossible_password() != nobody


def test_a_name_that_nobody_has_takes_as_long_as_a_wrong_password():
    def took(encoded: str) -> float:
        start = time.process_time()
        check_password(encoded, b"wrong")
        return time.process_time() - start

    nobody = impossible_password()
    known, unknown = (min(took(each) for _ in range(5)) for each in (ENCODED, nobody))
    assert unknown == pytest.approx(known, rel=0.5)


async def test_a_check_answers_on_the_loop_while_the_loop_goes_on(checker: PasswordChecker):
    checking = checker.check(ENCODED, b"a good passphrase")
    assert checking is not None
    turns = 0
    while not checking.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 1
    assert checking.result()
    unknown = checker.check(None, b"a good passphrase")
    assert unknown is not None
    assert not await unknown


async def test_no_more_checks_wait_than_the_queue_has_room_for(checker: PasswordChecker):
    first, second = (checker.check(ENCODED, b"x") for _ in range(2))
    assert first is not None
    assert second is not None
    assert checker.check(ENCODED, b"x") is None
    assert not await first
    assert not await second
    third = checker.check(ENCODED, b"a good passphrase")
    assert third is not None
    assert await third


async def test_closing_cancels_what_waits(checker: PasswordChecker):
    first, second = (checker.check(ENCODED, b"x") for _ in range(2))
    assert first is not None
    assert second is not None
    checker.close()
    assert not await first
    with pytest.raises(asyncio.CancelledError):
        await second
