"""The port for operators of a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from broker.run.reload import GatewayTarget
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


async def test_the_token_of_a_gateways_page_changes_with_its_file(
    broker: OutsideBroker, beside: Callable[..., Awaitable[Beside]], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("the-first-token-of-this-page")
    found = await beside(broker, http__bind="127.0.0.1:0", http__token_file=str(file))
    gateway = found.gateway
    assert gateway.web is not None
    bearer = {"Authorization": "Bearer the-first-token-of-this-page"}
    async with httpx.AsyncClient(base_url=gateway.web.url, trust_env=False) as client:
        assert (await client.get("/metrics", headers=bearer)).status_code == 200
        file.write_text("another-token-of-this-page")
        GatewayTarget(gateway).prepare(gateway.config)()
        assert (await client.get("/metrics", headers=bearer)).status_code == 401
