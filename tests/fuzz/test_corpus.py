"""Every input that fuzzing starts from or once found, without a fuzzer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.run import NAMES
from tests.fuzz.seeds import CORPUS, seeds
from tests.fuzz.targets import TARGETS


def test_the_script_knows_every_target() -> None:
    assert list(NAMES) == list(TARGETS)


def test_every_file_of_the_corpus_belongs_to_a_target() -> None:
    assert {path.stem for path in CORPUS.iterdir()} <= set(TARGETS)


@pytest.mark.parametrize("target", NAMES)
def test_the_whole_corpus_passes(target: str) -> None:
    inputs = seeds(target)
    assert inputs
    for name, data in inputs:
        try:
            TARGETS[target](data)
        except Exception as error:
            error.add_note(f"the input is {name!r}: {data.hex()}")
            raise


@pytest.mark.parametrize("target", NAMES)
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_neighbours_of_the_corpus_pass(target: str, data: st.DataObject) -> None:
    _, found = data.draw(st.sampled_from(seeds(target)))
    changed = bytearray(found)
    at = data.draw(st.integers(0, len(changed)))
    changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    TARGETS[target](bytes(changed))
