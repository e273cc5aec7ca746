"""The port for operators of a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from tests.broker.gateway.stage import Beside
from tests.broker.support import PATIENCE, item
from tests.outside_brokers import OutsideBroker


async def test_a_gateway_shows_its_figures_and_is_not_ready_without_its_broker(
    broker: OutsideBroker, beside: Callable[..., Awaitable[Beside]]
) -> None:
    found = await beside(broker, http__bind="127.0.0.1:0")
    web = found.gateway.web
    assert web is not None
    async with httpx.AsyncClient(base_url=web.url, trust_env=False) as client:

        async def reasons() -> list[str]:
            answer = (await client.get("/readyz")).json()
            return [each["reason"] for each in answer["reasons"]]

        assert await reasons() == []
        await found.publish(item("a", "x"))
        metrics = (await client.get("/metrics")).text
        assert 'fleetfeed_uplink_up{link="frames"}' in metrics
        assert "fleetfeed_mqtt_" not in metrics  # those are the broker's
        tree = (await client.get("/api/v1/systree")).json()
        assert "$SYS/broker/feed/devices/total" in tree
        assert "$SYS/broker/clients/total" not in tree
        broker.kill()
        async with asyncio.timeout(PATIENCE):
            while await reasons() != ["broker_away"]:  # noqa: ASYNC110 (a request is no event)
                await asyncio.sleep(0.02)
        assert (await client.get("/healthz")).status_code == 200
