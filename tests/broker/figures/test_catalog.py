"""The catalog: names that every consumer takes, each once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.figures.catalog import FIGURES, Figure, Kind, Root

ROOT = Path(__file__).parents[3]

ours = pytest.mark.parametrize("figure", FIGURES.values(), ids=lambda figure: figure.name)

DIRECTIONS = ("received", "sent")
MOSQUITTO = {
    "uptime",
    *(f"{kind}/{way}" for kind in ("bytes", "messages") for way in DIRECTIONS),
    *(f"publish/{kind}/{way}" for kind in ("bytes", "messages") for way in DIRECTIONS),
    "publish/messages/dropped",
    *(
        f"clients/{which}"
        for which in (
            *("connected", "disconnected", "maximum", "total", "expired"),
            *("active", "inactive"),
        )
    ),
    *("subscriptions/count", "shared_subscriptions/count", "retained messages/count"),
    *("store/messages/count", "store/messages/bytes", "messages/stored"),
    *("connections/socket/count", "heap/current", "heap/maximum", "packet/out/bytes"),
    *(
        f"load/{rate}/{window}"
        for rate in (
            *(f"{kind}/{way}" for kind in ("bytes", "messages", "publish") for way in DIRECTIONS),
            *("publish/dropped", "connections", "sockets"),
        )
        for window in ("1min", "5min", "15min")
    ),
}
"""What `sys_tree.c` sends, but `version`, which is no number, what it has of bridges, and how many packets
wait: to know that, every connection would have to be looked at."""


@ours
def test_names_are_those_that_prometheus_takes(figure: Figure) -> None:
    assert re.fullmatch(r"fleetfeed_[a-z0-9_]+", figure.name)
    assert figure.name.endswith("_total") == (figure.kind is Kind.COUNTER)
    assert figure.kind is not Kind.HISTOGRAM or figure.name.endswith("_seconds")
    assert figure.help.endswith(".")
    assert figure.label or not figure.values


@ours
def test_a_leaf_takes_what_its_figure_has(figure: Figure) -> None:
    for leaf in figure.leaves:
        assert (leaf.quantile is not None) == (figure.kind is Kind.HISTOGRAM)
        assert not leaf.per_minute or figure.kind is Kind.COUNTER
        assert not leaf.of or leaf.of in figure.values
        if leaf.root is Root.FEED:
            assert all(re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+)*", path) for path in leaf.paths)


def paths(root: Root) -> list[str]:
    leaves = [leaf for figure in FIGURES.values() for leaf in figure.leaves if leaf.root is root]
    return [path for leaf in leaves for path in leaf.paths]


def test_no_two_leaves_have_one_topic() -> None:
    every = [root + path for root in Root for path in paths(root)]
    assert len(every) == len(set(every))


def test_ours_are_less_than_60_beside_ranking_overload_store_and_other_servers() -> None:
    apart = {"ranking", "overload", "store", "cluster", "uplink"}
    fixed = [path for path in paths(Root.FEED) if path.split("/")[0] not in apart]
    assert len(fixed) < 60


def test_the_runbook_names_every_leaf_of_ours_and_no_other() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    told = {"uplink/unacknowledged", "uplink/bytes", "uplink/items_paused"}  # by a gateway alone
    assert all(f"`{path}`" in (ROOT / "docs/outside-brokers.md").read_text() for path in told)
    for below, leaves in re.findall(r"^\| `(\w+/)`[^|]*\| (.*) \|$", page, re.MULTILINE):
        prefix = "" if below == "feed/" else below
        told |= {prefix + leaf for leaf in re.findall(r"`([a-z0-9_/]+)`", leaves)}
    windows = {"load/1min", "load/5min", "load/15min"}
    ours = {re.sub(r"/1?[15]min$", "", path) for path in paths(Root.FEED)}
    assert told - windows == ours | {"version"}


def test_mosquittos_names_are_its_own_and_all_of_them() -> None:
    assert sorted(paths(Root.MOSQUITTO)) == sorted(MOSQUITTO)
