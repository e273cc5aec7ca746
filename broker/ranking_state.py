"""The learned ranking between two runs of a server: made from the settings, read, and written."""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import TYPE_CHECKING

from feedgen.engine import SHELVES
from feedgen.ranking.following import Following
from feedgen.ranking.labelled import Settings as LabelSettings
from feedgen.ranking.ranking import Ranking
from feedgen.ranking.settings import RankingSettings, Worth
from feedgen.ranking.value import Settings as ValueSettings
from feedgen.store import state_file

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from broker.config import RankingSettings as Section
    from broker.counters import Counters

logger = logging.getLogger(__name__)

FILE = "ranking.state"
"""In the data directory."""

_BATCH = 400
"""Outcomes learned before the event loop has its turn."""
_KIND = "ranking"
_VERSION = 1
"""Of what `Ranking.state` returns."""


def value_settings(section: Section) -> ValueSettings:
    """The part of the settings that every ranking has."""
    return ValueSettings(tau=section.tau, offsets=section.priority_offsets)


def ranking_settings(section: Section, key: bytes) -> RankingSettings:
    """The settings of the learned ranking.

    Args:
        section: what the operator set.
        key: the store's own; where no seed is set, it is made from that. So it stays the same as long
            as the data does, and no two fleets try out the same.
    """
    seed = section.seed
    if seed is None:
        digest = blake2b(key=key[:64], digest_size=4, person=b"ranking seed").digest()
        seed = int.from_bytes(digest, "little")
    return RankingSettings(
        value=value_settings(section),
        worth=Worth(
            open=section.worth_open,
            dismiss=section.worth_dismiss,
            dwell=section.worth_dwell,
            dwell_seconds=section.dwell_seconds,
        ),
        explore=section.explore,
        fields=section.fields,
        holdout=section.holdout,
        refresh=section.refresh,
        batch=_BATCH,
        seed=seed,
        labels=LabelSettings(window=section.window),
    )


def load(settings: RankingSettings, data: Path, counters: Counters, now: float) -> Ranking:
    """The ranking as it was saved, or one that knows nothing; it knows what hour it is.

    A file that cannot be used is set aside, and counted.

    Raises:
        StoreError: the disk fails, or does not let us read; what is there may be good.
    """
    path = data / FILE
    ranking = Ranking(settings, shelves=len(SHELVES))
    try:
        state = state_file.load(path, _KIND, _VERSION)
        if state is not None:
            ranking.restore(state)
    except (state_file.StateError, ValueError) as error:
        aside = state_file.set_aside(path)
        counters.ranking["begun_anew"] += 1
        logger.warning("the ranking begins anew, its state is now in %s: %s", aside, error)
        ranking = Ranking(settings, shelves=len(SHELVES))
    ranking.turn(now)
    return ranking


def following(settings: RankingSettings, now: float) -> Following:
    """The ranking of a node, which serves what another one learns; it knows what hour it is."""
    ranking = Following(settings, shelves=len(SHELVES))
    ranking.tick(now)
    return ranking


def save(state: dict[str, Any], data: Path) -> None:
    """Put what `Ranking.state` returned in the place of what was saved before; for a thread.

    Raises:
        StoreError: the disk fails; the old state is still there.
    """
    state_file.save(data / FILE, _KIND, _VERSION, state)
