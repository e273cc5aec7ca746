"""Evaluation: is the ranking good, better than simple ones, calibrated, and what would another one earn?

`events` reads a log of impressions; `progressive` predicts and learns it in the order of time, with any
`ranker` and the `baselines`; `metrics` judge what was predicted, `bootstrap` says how sure that is,
`offpolicy` what another policy would have earned; `report` puts it together and `plots` draws it.

Pure, like the rest of the engine: values in, values out, seeds passed in. Only `events` reads a stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feedgen.evaluate.ranker import Ranker

__all__ = ["event_ranker"]


def event_ranker() -> Ranker:
    """Return a new learned ranker, with the defaults that the server uses.

    It has `predict(events) -> probabilities`, which never learns, and `learn(events, labels)`; events
    are dicts as in `events.Event`.
    """
    from feedgen.ranking.event_ranker import event_ranker as make  # noqa: PLC0415 - only on use

    return make()
