"""The model: what ranks and how right it is, who is shown how much, what has moved."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from broker.web.answers import Json
from broker.web.files import page
from broker.web.pages.numbers import finite
from broker.web.pages.words import RUNGS
from feedgen.ranking.rungs import Rung

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from broker.web.subject import Subject

_FRESH = 2.0
"""Seconds for which an answer is good enough for all who ask: it costs some milliseconds."""

_WORDS = {rung.name.lower(): words for rung, words in zip(Rung, RUNGS, strict=True)}


def routes(subject: Subject) -> list[BaseRoute]:
    """The page and what feeds it."""
    last: tuple[float, Any] = float("-inf"), None

    async def model(_request: Request) -> Response:
        nonlocal last
        if monotonic() - last[0] >= _FRESH:
            last = monotonic(), finite(await report(subject))
        return Json(last[1])

    return [Route("/model", page("model.html")), Route("/api/v1/model", model)]


async def report(subject: Subject) -> dict[str, Any]:
    """What `fleetfeed ranking status` says, with the rungs in words."""
    status = await subject.ask("ranking.status")
    reading = subject.figures.read()
    return {
        "status": status,
        "words": _WORDS,
        "counts": dict(reading.numbers.get("fleetfeed_ranking_total", {})),
        "feedback": reading.numbers.get("fleetfeed_feedback_total", {}).get("", 0),
    }
