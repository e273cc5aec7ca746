"""What the page of the model is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from devices.frames import Event, Feedback, Kind
from tests.broker.support import PATIENCE, Served, eventually, item

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LEARNED = {"http__bind": "127.0.0.1:0", "ranking__model": "learned", "topics__sys_interval": 0}


async def ask(served: Served, path: str) -> Any:
    """The JSON of a path."""
    assert served.server.web is not None
    async with httpx.AsyncClient(base_url=served.server.web.url, timeout=PATIENCE) as client:
        response = await client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_server_that_learns_nothing_says_by_what_it_ranks(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    served = await serve(**{**LEARNED, "ranking__model": "newest"})

    assert (await ask(served, "/api/v1/model"))["status"] == {"model": "newest"}
    assert (await ask(served, "/api/v1/model/history"))["at"] == []


async def test_the_rungs_have_words_and_one_of_them_serves(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    served = await serve(**LEARNED)

    found = await ask(served, "/api/v1/model")
    assert list(found["words"].values()) == [
        "learned",
        "a former version",
        "popularity",
        "newest first",
    ]
    assert found["status"]["rung"] in found["words"]
    assert set(found["status"]["rungs"]) == set(found["words"])


async def test_what_devices_show_is_the_exposure_of_its_publishers(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    served = await serve(**LEARNED)
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "one"))
    await device.frame()
    device.say(Feedback((Event(device.number("one"), Kind.SHOWN, 0, None),)))
    await served.counted("up", "events_counted")

    learning = served.server.service.learning
    assert learning is not None
    await eventually(lambda: learning.status()["publishers"]["shares"])
    found = await ask(served, "/api/v1/model")
    (share,) = found["status"]["publishers"]["shares"]
    assert share["exposure"] == 1.0


async def test_the_model_over_time_begins_with_the_server(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    served = await serve(**LEARNED)

    history = await ask(served, "/api/v1/model/history")
    assert len(history["at"]) == len(history["drift"]) == 1
