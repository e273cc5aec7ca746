"""The learned ranking from settings, and the seed that a data directory has for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker import ranking_state
from broker.config import Config
from broker.counters import Counters
from feedgen.ranking.settings import RankingSettings
from feedgen.store.base import StoreError

KEY = b"k" * 32
SETTINGS = ranking_state.ranking_settings(Config().ranking, KEY)


def section(**values: object) -> object:
    return Config(ranking=values).ranking


def test_the_defaults_of_the_settings_are_those_of_the_ranking():
    plain = RankingSettings(seed=SETTINGS.seed, batch=SETTINGS.batch)
    assert plain == SETTINGS
    assert SETTINGS.batch < RankingSettings().batch, "the event loop has its turn in between"


def test_what_the_operator_sets_arrives():
    made = ranking_state.ranking_settings(
        section(
            tau=100,
            worth_open=2,
            worth_dismiss=3,
            worth_dwell=4,
            dwell_seconds=5,
            window=60,
            refresh=7,
            explore=0.5,
            holdout=0.1,
            fields=("kind",),
            seed=11,
        ),
        KEY,
    )
    assert made.value.tau == 100
    assert (made.worth.open, made.worth.dismiss, made.worth.dwell) == (2, 3, 4)
    assert (made.worth.dwell_seconds, made.labels.window, made.refresh) == (5, 60, 7)
    assert (made.explore, made.holdout, made.fields, made.seed) == (0.5, 0.1, ("kind",), 11)


def test_the_seed_is_that_of_the_data_directory():
    again = ranking_state.ranking_settings(Config().ranking, KEY)
    other = ranking_state.ranking_settings(Config().ranking, b"o" * 32)
    assert again.seed == SETTINGS.seed != other.seed


def test_without_a_file_nothing_is_known_and_nothing_is_wrong(tmp_path: Path):
    counters = Counters()
    ranking = ranking_state.load(SETTINGS, tmp_path, counters, 1e9)
    assert ranking.status()["learned"] == 0
    assert not counters.ranking
    assert list(tmp_path.iterdir()) == []


def test_a_saved_ranking_is_read_again(tmp_path: Path):
    ranking = ranking_state.load(SETTINGS, tmp_path, Counters(), 1e9)
    ranking_state.save(ranking.state(), tmp_path)
    assert ranking_state.load(SETTINGS, tmp_path, Counters(), 1e9).version == ranking.version + 1


def test_a_state_of_another_layout_is_set_aside(tmp_path: Path):
    ranking_state.save({"something": "else"}, tmp_path)
    counters = Counters()
    ranking_state.load(SETTINGS, tmp_path, counters, 1e9)
    assert counters.ranking["begun_anew"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ranking.state.damaged"]


def test_a_state_that_cannot_be_read_is_not_taken_for_a_damaged_one(tmp_path: Path):
    (tmp_path / ranking_state.FILE).mkdir()
    with pytest.raises(StoreError, match="Cannot read"):
        ranking_state.load(SETTINGS, tmp_path, Counters(), 1e9)
