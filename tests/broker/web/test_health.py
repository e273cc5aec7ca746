"""Readiness, and the reasons against it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

import httpx
import pytest

from broker.web.health import OLD_ITEM, SLOW_LOOP, Situation, as_json, judge
from tests.broker.support import Served

WELL = Situation()
ILL = {
    "stopping": replace(WELL, stopping=True),
    "store_down": replace(WELL, store_up=False),
    "not_joined": replace(WELL, shared=True, member=False),
    "broker_away": replace(WELL, uplink_up=False),
    "loop_stalled": replace(WELL, loop_lag=SLOW_LOOP + 0.1),
    "engine_behind": replace(WELL, oldest_item=OLD_ITEM + 1),
}


def test_a_server_that_lacks_nothing_is_ready() -> None:
    assert judge(WELL) == ()
    assert judge(replace(WELL, uplink_up=True, loop_lag=SLOW_LOOP)) == ()
    assert as_json(()) == {"ready": True, "reasons": []}


@pytest.mark.parametrize("reason", ILL)
def test_each_thing_that_is_wrong_is_a_reason_with_words_on_what_to_do(reason: str) -> None:
    (found,) = judge(ILL[reason])
    assert found.reason == reason
    assert re.fullmatch(r"[^A-Z].*[^.]", found.detail)  # goes on in a sentence
    assert re.fullmatch(r"[A-Z].*\.", found.do)
    (told,) = as_json((found,))["reasons"]
    assert told == {"reason": reason, "detail": found.detail, "do": found.do}


def test_all_that_is_wrong_is_told_at_once() -> None:
    worst = Situation(
        stopping=True,
        store_up=False,
        member=False,
        uplink_up=False,
        loop_lag=9,
        oldest_item=99,
    )
    assert [each.reason for each in judge(worst)] == list(ILL)


async def test_a_running_server_is_alive_and_ready(
    open_page: Callable[..., Awaitable[httpx.AsyncClient]],
) -> None:
    client = await open_page()
    assert (await client.get("/healthz")).text == "ok\n"
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "reasons": []})


async def test_a_server_whose_store_fails_or_that_begins_to_end_is_alive_but_not_ready(
    serve: Callable[..., Awaitable[Served]], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serve(http__bind="127.0.0.1:0")
    server = served.server
    assert server.web is not None
    async with httpx.AsyncClient(base_url=server.web.url, trust_env=False) as client:
        with monkeypatch.context() as patch:
            patch.setattr(type(server.store), "up", property(lambda _: False))
            answer = await client.get("/readyz")
        assert answer.status_code == 503
        (reason,) = answer.json()["reasons"]
        assert reason["reason"] == "store_down"
        assert str(served.data) not in answer.text  # whoever asks is not known
        server.stopping = True
        (reason,) = (await client.get("/readyz")).json()["reasons"]
        assert reason["reason"] == "stopping"
        assert (await client.get("/healthz")).status_code == 200
