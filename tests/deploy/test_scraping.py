"""A real Prometheus scrapes a real server: what arrives there, and what rules and dashboard find in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.figures.catalog import FIGURES
from tests.broker.support import ServerProcess, eventually, item
from tests.deploy.prometheus import Prometheus, prometheus
from tests.deploy.promql import INFO, figure_of, selectors
from tests.deploy.test_alerts import ALERTS, RULES
from tests.deploy.test_dashboard import TARGETS, filled_in

NOT_HERE = re.compile(
    # Of several servers, and of gateways,
    r"fleetfeed_(cluster_\w+|uplink_\w+|ranking_age_seconds"
    # known later,
    r"|ranking_(calibration|normalised_entropy|drift|shift|lift|opening_rate)"
    r"|publisher_(exposure|merit|correction)|exposure_cost"
    # or by reasons, none of which has occurred.
    r"|closed_total)"
)
"""Figures that a server alone, without a past, has no numbers of."""


@pytest.fixture
async def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server with a port for operators, and an item that a device has."""
    process = ServerProcess(
        tmp_path / "data", ranking__model="learned", http__bind="127.0.0.1:0", loop="asyncio"
    ).start()
    device = await process.subscribed("kitchen")
    await process.publish(item("a", "one"))
    await device.shows("one")
    yield process
    await process.drop_peers()
    process.close()


@pytest.fixture
def scraped(server: ServerProcess, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that looks at it."""
    page = re.search(r"page http://([^/\s,)]+)", server.ready)
    assert page is not None, server.ready
    with prometheus(tmp_path, page[1], ALERTS) as found:
        yield found


async def test_every_figure_arrives_every_query_is_answered_and_no_alert_fires(
    scraped: Prometheus,
) -> None:
    # Twice, as one look has no rate.
    looks = 'count_over_time(fleetfeed_uptime_seconds{job="fleetfeed"}[1m]) > 1'
    await eventually(lambda: scraped.query(looks), within=30)
    assert scraped.query('fleetfeed_publish_to_ack_seconds_count{job="fleetfeed"} == 1')

    series = {*scraped.ask("label/__name__/values")}
    figures = {figure_of(name) for name in series if name.startswith("fleetfeed_")} - {INFO}
    assert figures <= FIGURES.keys()
    assert [name for name in FIGURES.keys() - figures if not NOT_HERE.fullmatch(name)] == []

    for panel, target in TARGETS:
        names = {name for name, _ in selectors(target["expr"])}
        found = scraped.query(filled_in(target["expr"]))
        assert found or not names <= series, panel["title"]

    (groups,) = scraped.ask("rules").values()
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(RULES)
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    assert scraped.query('ALERTS{alertstate="firing"}') == []
