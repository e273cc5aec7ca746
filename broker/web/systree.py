"""The `$SYS` tree as one JSON object, as Mosquitto 2.1 tells it at `/api/v1/systree` (its `http_api.c`).

Values are numbers there, not the texts that are published, and whole where they are whole; Mosquitto's
own dashboard reads the version from it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from broker.figures import tree
from broker.web.answers import Json

if TYPE_CHECKING:
    from starlette.requests import Request

    from broker.figures.reading import Reading
    from broker.web.subject import Subject

_VERSION = "/version"


def systree(reading: Reading) -> dict[str, int | float | str]:
    """Every topic of `$SYS`, and its value."""
    return {
        topic: text if topic.endswith(_VERSION) else _number(text)
        for topic, text in tree.topics(reading)
    }


def routes(subject: Subject) -> list[Route]:
    """`/api/v1/systree`."""

    async def endpoint(_request: Request) -> Json:
        return Json(systree(subject.figures.read()))

    return [Route("/api/v1/systree", endpoint)]


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)
