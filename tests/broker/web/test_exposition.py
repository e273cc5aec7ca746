"""Figures in the form of Prometheus."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
from collections.abc import Awaitable, Callable

import httpx
import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from broker.figures.catalog import FIGURES, Kind
from broker.figures.reading import Figures
from broker.web.exposition import FiguresCollector
from tests.broker.support import Served, item
from tests.broker.web.conftest import looked_at

Open = Callable[..., Awaitable[httpx.AsyncClient]]


def exposed(figures: Figures) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FiguresCollector(figures.read))
    return generate_latest(registry)


def families_of(figures: Figures) -> dict[str, Metric]:
    return {each.name: each for each in parse_text(exposed(figures).decode())}


async def test_every_figure_of_a_reading_is_told_under_its_name_with_its_words(
    served: Served,
) -> None:
    await served.publish(item("a", "x"))
    figures = looked_at(served)
    reading, families = figures.read(), families_of(figures)
    # The parser leaves out what a type of metric has at its end.
    expected = {
        name.removesuffix("_total") if FIGURES[name].kind is Kind.COUNTER else name
        for name in (*reading.numbers, *reading.totals)
    }
    assert expected <= families.keys()
    assert families.keys() - expected == {"fleetfeed_build_info"}
    for name in (*reading.numbers, *reading.totals):
        figure = FIGURES[name]
        stem = name.removesuffix("_total") if figure.kind is Kind.COUNTER else name
        assert families[stem].documentation == figure.help
        assert families[stem].type == figure.kind.value


def test_counters_and_nothing_else_end_in_total() -> None:
    for figure in FIGURES.values():
        assert figure.name.endswith("_total") == (figure.kind is Kind.COUNTER), figure.name


async def test_numbers_are_those_of_the_reading(served: Served) -> None:
    for name in ("a", "b"):
        await served.publish(item(name, "x"))
    figures = looked_at(served)
    reading = figures.read()
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families_of(figures).values()
        for sample in family.samples
    }
    for name, values in reading.numbers.items():
        for of, value in values.items():
            assert samples[name, (of,) if FIGURES[name].label else ()] == value
    assert samples["fleetfeed_items_total", ("received",)] == 2


async def test_histograms_have_growing_buckets_that_end_with_everything(served: Served) -> None:
    await served.publish(item("a", "x"))
    figures = looked_at(served)
    reading, families = figures.read(), families_of(figures)
    for name, counted in reading.totals.items():
        by_kind: dict[str, list[tuple[float, float]]] = {}
        for sample in families[name].samples:
            bound = float(sample.labels.get("le", "nan"))
            by_kind.setdefault(sample.name.removeprefix(name), []).append((bound, sample.value))
        buckets = by_kind["_bucket"]
        assert all(
            low <= high and few <= many for (low, few), (high, many) in itertools.pairwise(buckets)
        )
        assert buckets[-1] == (float("inf"), counted.count)
        assert by_kind["_count"][0][1] == counted.count
        assert by_kind["_sum"][0][1] == pytest.approx(counted.sum)
    assert reading.totals["fleetfeed_commit_seconds"].count == 1


async def test_it_is_told_as_text_or_as_openmetrics_whichever_is_asked_for(
    open_page: Open,
) -> None:
    client = await open_page()
    plain = await client.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain; version=")
    assert plain.headers["Cache-Control"] == "no-store"
    families = {each.name for each in parse_text(plain.text)}
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    open_metrics = await client.get("/metrics", headers=wanted)
    assert open_metrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert {each.name for each in parse_openmetrics(open_metrics.text)} == {
        name.removesuffix("_info") for name in families
    }


async def test_prometheus_own_tool_finds_nothing_wrong_with_it(served: Served) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.fail("promtool is needed: apt-get install prometheus")
    await served.publish(item("a", "x"))
    done = await asyncio.to_thread(
        subprocess.run,
        [promtool, "check", "metrics"],
        input=exposed(looked_at(served)),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_a_name_with_quotes_and_line_ends_stays_one_value(served: Served) -> None:
    odd = 'a"b\\c\nd'
    served.server.counters.dropped[odd] += 3
    found = {
        sample.labels["reason"]: sample.value
        for sample in families_of(looked_at(served))["fleetfeed_dropped"].samples
    }
    assert found[odd] == 3
