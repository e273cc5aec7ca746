"""Streams of events, and what a viewer can hold of the server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from broker.web import streams
from broker.web.streams import Audience, EventStream, encode
from tests.broker.support import PATIENCE, eventually


class Browser:
    """Takes a stream as a server hands it over (ASGI)."""

    def __init__(self, stream: EventStream, method: str = "GET") -> None:
        self.heard = b""
        self.headers: dict[bytes, bytes] = {}
        self._gone = asyncio.Event()
        self._reads = asyncio.Event()
        self._reads.set()
        self.task = asyncio.create_task(stream({"method": method}, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self._reads.wait()
        if message["type"] == "http.response.start":
            self.headers = dict(message["headers"])
        else:
            self.heard += message["body"]

    def stop_reading(self) -> None:
        self._reads.clear()

    def read_again(self) -> None:
        self._reads.set()

    async def leave(self) -> None:
        self._gone.set()
        async with asyncio.timeout(PATIENCE):
            await self.task


def test_an_event_is_one_line_of_json_with_the_name_that_it_is_known_by() -> None:
    assert encode({"a": "line\nend", "b": b"\0"}) == (
        b'data: {"a":"line\\nend","b":{"b64":"AA=="}}\n\n'
    )
    assert encode([1], "history") == b"event: history\ndata: [1]\n\n"


async def test_everybody_hears_what_is_told_after_what_they_were_told_first() -> None:
    audience = Audience()
    browsers = [Browser(audience.join(encode(n))) for n in range(3)]
    await eventually(lambda: len(audience) == 3)
    audience.tell(encode("all"))
    for n, browser in enumerate(browsers):
        expected = encode(n) + encode("all")
        await eventually(lambda browser=browser, expected=expected: browser.heard == expected)
        assert browser.headers[b"content-type"].startswith(b"text/event-stream")
        assert browser.headers[b"cache-control"] == b"no-store"
        await browser.leave()
    assert len(audience) == 0


async def test_who_hears_nothing_for_long_is_sent_a_comment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.01)
    browser = Browser(Audience().join())
    await eventually(lambda: browser.heard.count(b": still here\n\n") >= 2)
    await browser.leave()


async def test_a_viewer_that_does_not_read_is_dropped_and_the_others_are_not() -> None:
    audience = Audience(room=3)
    slow, quick = Browser(audience.join()), Browser(audience.join())
    await eventually(lambda: len(audience) == 2)
    slow.stop_reading()
    for n in range(8):
        audience.tell(encode(n))
        await eventually(lambda n=n: quick.heard.endswith(encode(n)))
    slow.read_again()
    async with asyncio.timeout(PATIENCE):
        await slow.task
    assert slow.heard in (b"", encode(0))  # what was on its way when it stopped
    assert list(audience)
    assert quick.heard == b"".join(encode(n) for n in range(8))
    await quick.leave()


async def test_no_more_than_so_many_may_watch() -> None:
    changes: list[int] = []
    audience = Audience(limit=1, on_change=lambda: changes.append(len(audience)))
    browser = Browser(audience.join())
    await eventually(lambda: len(audience) == 1)
    with pytest.raises(HTTPException) as refused:
        audience.join()
    assert refused.value.status_code == 503
    assert "1 are watching already" in refused.value.detail
    await browser.leave()
    await Browser(audience.join()).leave()
    assert changes[:2] == [1, 0]


async def test_who_ends_its_viewer_ends_the_stream_in_order() -> None:
    audience = Audience()
    browser = Browser(audience.join())
    await eventually(lambda: len(audience) == 1)
    for viewer in list(audience):
        viewer.end()
    async with asyncio.timeout(PATIENCE):
        await browser.task
    assert len(audience) == 0


async def test_what_a_viewer_was_told_before_it_was_finished_is_sent() -> None:
    audience = Audience()
    browser = Browser(audience.join())
    await eventually(lambda: len(audience) == 1)
    audience.tell(encode("the last word"))
    for viewer in list(audience):
        viewer.finish()
    audience.tell(encode("too late"))
    async with asyncio.timeout(PATIENCE):
        await browser.task
    assert browser.heard == encode("the last word")


async def test_who_asks_for_the_head_alone_is_no_viewer() -> None:
    came: list[None] = []
    audience = Audience(on_change=lambda: came.append(None))
    browser = Browser(audience.join(encode(1)), "HEAD")
    async with asyncio.timeout(PATIENCE):
        await browser.task
    assert (came, browser.heard) == ([], b"")
    assert browser.headers[b"content-type"].startswith(b"text/event-stream")
