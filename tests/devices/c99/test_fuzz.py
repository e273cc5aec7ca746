"""The mutational fuzzer of feed.c, for some seconds. Longer: ``python -m tests.devices.c99.fuzz --seconds 600``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.devices.c99.fuzz import Broken, fuzz, write_corpus
from tests.devices.c99.toolchain import FEED, HERE, SANITIZED, STRICT, gcc

if TYPE_CHECKING:
    from pathlib import Path

SEED = 1
RESULTS = ("applied", "stale", "gap", "impossible", "unknown", "bad")


def test_no_frame_breaks_a_promise_and_every_result_is_reached(
    fuzzer: Path, tmp_path: Path
) -> None:
    counts = fuzz(fuzzer, write_corpus(tmp_path / "corpus"), seed=SEED, frames=1_000_000)
    assert sum(counts.values()) == 1_000_000
    assert all(counts[result] > 1_000 for result in RESULTS), counts


def test_the_same_seed_does_the_same_again(fuzzer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    first, again, other = (fuzz(fuzzer, corpus, seed=seed, frames=5_000) for seed in (7, 7, 8))
    assert first == again != other


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize(
    ("good", "broken"),
    [
        pytest.param("if (size > walk->left) {", "if (size > walk->left + 1) {", id="reads one past"),
        pytest.param("if (rank >= walk->k) {", "if (rank > walk->k) {", id="one item too many"),
        pytest.param("if (walk.bad) {", "if (walk.bad && walk.left > 0) {", id="bad frames apply"),
        pytest.param("if (rank >= walk->count) {", "if (rank > walk->count) {", id="removes what is not there"),
        pytest.param("item->length = put->length;", "item->length = (uint16_t)(put->length + 1);", id="shows one byte more"),
        pytest.param("> FEED_SLOT(walk->feed->config->budget)", "> 9999", id="payloads run over"),
        pytest.param("if (rank_of(walk, n) < walk->count) {", "if (n == 0) {", id="a number twice"),
    ],
)  # fmt: skip
def test_the_fuzzer_finds_it_where_feed_c_is_broken(tmp_path: Path, good: str, broken: str) -> None:  # fmt: skip
    source = FEED.read_text()
    assert good in source
    (tmp_path / "feed.c").write_text(source.replace(good, broken))
    program = tmp_path / "fuzz"
    gcc(*STRICT, *SANITIZED, HERE / "fuzz.c", tmp_path / "feed.c", "-o", program)
    with pytest.raises(Broken):
        fuzz(program, write_corpus(tmp_path / "corpus"), seed=SEED, frames=300_000)
