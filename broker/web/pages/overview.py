"""The overview: how the server is, what it did in the last minutes, what was dropped, who does worst.

A look is taken each second whether or not anybody watches, for the charts; everything else is made while
somebody does, once for all of them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from broker.web import health
from broker.web.answers import Json
from broker.web.files import page
from broker.web.pages.history import History, number
from broker.web.pages.numbers import finite
from broker.web.pages.words import LEVELS, RUNGS
from broker.web.pages.worst import worst
from broker.web.streams import Audience, encode

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from broker.figures.reading import Reading
    from broker.web.subject import Subject

VIEWERS = 32
_EVENTS = 8
_DROPS = 40


def routes(subject: Subject) -> list[BaseRoute]:
    """The page, what feeds it, and what every page asks for its header."""
    pulse = Pulse(subject)
    pulse.start()

    async def now(_request: Request) -> Response:
        return Json({"now": pulse.now(), "history": pulse.history.columns()})

    async def events(_request: Request) -> Response:
        return pulse.audience.join(pulse.beginning())

    async def about(_request: Request) -> Response:
        return Json(
            {
                "version": subject.figures.read().version,
                "send": subject.may_send,
                "refresh": subject.config.http.refresh,
                "login": subject.config.http.token_file is not None,
            }
        )

    async def model_history(_request: Request) -> Response:
        return Json(finite(pulse.history.model_columns()))

    return [
        Route("/", page("overview.html")),
        Route("/events", events),
        Route("/api/v1/overview", now),
        Route("/api/v1/model/history", model_history),
        Route("/api/v1/page", about),
    ]


class Pulse:
    """Looks at a server again and again, and tells those who watch.

    It goes on until the server begins to end.

    Args:
        subject: What is looked at.

    Attributes:
        history: What was seen.
        audience: Who watches.
    """

    def __init__(self, subject: Subject) -> None:
        self.history = History()
        self.audience = Audience(VIEWERS)
        self._subject = subject
        self._beginning: tuple[Reading | None, bytes] = (None, b"")

    def start(self) -> None:
        """Looks, and will look again; needs a running loop."""
        if self._subject.stopping():
            return
        asyncio.get_running_loop().call_later(self._subject.config.http.refresh, self.start)
        fresh = self.history.take(self._subject.figures.read())
        if fresh and len(self.audience):
            self.audience.tell(encode(self.now()))

    def beginning(self) -> bytes:
        """What somebody who begins to watch is told: all of the history, encoded once for each look."""
        reading, encoded = self._beginning
        if reading is not self.history.last or not encoded:
            told = encode(self.history.columns(), "history") + encode(self.now())
            self._beginning = reading, encoded = self.history.last, told
        return encoded

    def now(self) -> dict[str, Any]:
        """How the server is, as JSON."""
        subject, history = self._subject, self.history
        reading = history.last or subject.figures.read()
        drops = history.drops()
        found = {
            "at": time.time(),
            "version": reading.version,
            "uptime": number(reading, "fleetfeed_uptime_seconds"),
            "ready": health.as_json(health.reasons(subject)),
            "cluster": _cluster(subject),
            "overload": _overload(reading),
            "ranking": _ranking(subject, reading),
            "devices": dict(reading.numbers["fleetfeed_devices"]),
            "waiting": number(reading, "fleetfeed_devices_waiting"),
            "items": {
                "live": number(reading, "fleetfeed_items_live"),
                "on_their_way": number(reading, "fleetfeed_items_waiting"),
                "rate": history.rate("items"),
            },
            "frames": {
                "rate": history.rate("frames"),
                "inflight": number(reading, "fleetfeed_frames_inflight"),
                "sent": number(reading, "fleetfeed_frames_total", "sent"),
            },
            "latency": {
                "frame": _latency(reading, "fleetfeed_publish_to_frame_seconds"),
                "ack": _latency(reading, "fleetfeed_publish_to_ack_seconds"),
            },
            "process": {
                "rss": number(reading, "fleetfeed_process_rss_bytes"),
                "rss_max": number(reading, "fleetfeed_process_rss_max_bytes"),
                "cpu": history.rate("cpu"),
                "files": number(reading, "fleetfeed_process_open_files"),
            },
            "drops": drops[:_DROPS],
            "more_drops": max(len(drops) - _DROPS, 0),
            "worst": self._worst(),
            "events": history.happened()[:_EVENTS],
            "point": asdict(history.points[-1]) if history.points else None,
        }
        checked: dict[str, Any] = finite(found)
        return checked

    def _worst(self) -> list[dict[str, Any]]:
        service = self._subject.service
        now = asyncio.get_running_loop().time()
        found = worst(service.roster.shelves, service.engine, now, service.config.feed.stall_after)
        return [asdict(each) for each in found]


def _overload(reading: Reading) -> dict[str, Any]:
    level = int(number(reading, "fleetfeed_overload_level"))
    return {
        "level": level,
        "words": LEVELS[level],
        "seconds": number(reading, "fleetfeed_overload_level_seconds"),
        "rises": number(reading, "fleetfeed_overload_rises_total"),
        "delays": dict(reading.numbers.get("fleetfeed_overload_delay_seconds", {})),
        "waiting_bytes": number(reading, "fleetfeed_overload_waiting_bytes"),
        "held": dict(reading.numbers.get("fleetfeed_overload_held", {})),
        "held_bytes": number(reading, "fleetfeed_overload_held_bytes"),
    }


def _ranking(subject: Subject, reading: Reading) -> dict[str, Any]:
    if "fleetfeed_ranking_rung" not in reading.numbers:
        return {"model": subject.config.ranking.model, "rung": None, "words": None, "version": None}
    rung = int(number(reading, "fleetfeed_ranking_rung"))
    version = number(reading, "fleetfeed_ranking_version")
    return {"model": "learned", "rung": rung, "words": RUNGS[rung], "version": version}


def _cluster(subject: Subject) -> dict[str, Any] | None:
    node = subject.node
    return None if node is None else {"node": node.name, "members": len(node.alive)}


def _latency(reading: Reading, name: str) -> dict[str, float | None]:
    """Of about the last minute; None if nothing was measured."""
    recent = reading.recent[name]
    if not recent.count:
        return {"p50": None, "p95": None, "p99": None}
    return {f"p{share * 100:g}": recent.quantile(share) for share in (0.5, 0.95, 0.99)}
