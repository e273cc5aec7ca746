"""A reading in the form of Prometheus: the same figures as in `$SYS`, with all their labels and buckets."""

from __future__ import annotations

import platform
from math import inf
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.routing import Route

from broker.figures.catalog import FIGURES, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric
    from starlette.requests import Request

    from broker.figures.catalog import Figure
    from broker.figures.histogram import Distribution
    from broker.figures.reading import Reading
    from broker.web.subject import Subject


class FiguresCollector(Collector):
    """Makes metric families of a reading, each time that somebody asks.

    Args:
        read: The reading to be told.
    """

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Every figure that the server has, in the order of the catalog."""
        reading = self._read()
        build = {"version": reading.version, "python": platform.python_version()}
        yield InfoMetricFamily("fleetfeed_build", "What runs.", value=build)
        for figure in FIGURES.values():
            if figure.name in reading.numbers:
                yield _numbers(figure, reading.numbers[figure.name])
            elif figure.name in reading.totals:
                yield _histogram(figure, reading.totals[figure.name])


def routes(subject: Subject) -> list[Route]:
    """`/metrics`, as plain text or OpenMetrics, whichever is asked for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FiguresCollector(subject.figures.read))
    encoded: dict[str, bytes] = {}
    of: Reading | None = None

    async def endpoint(request: Request) -> Response:
        nonlocal of
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        reading = subject.figures.read()
        if reading is not of:
            encoded.clear()
            of = reading
        # Some milliseconds of work, once for all who ask within the second that a reading is good for.
        if content_type not in encoded:
            encoded[content_type] = encode(registry)
        return Response(
            encoded[content_type],
            headers={"Content-Type": content_type, "Cache-Control": "no-store"},
        )

    return [Route("/metrics", endpoint)]


def _numbers(figure: Figure, values: Mapping[str, float]) -> Metric:
    labels = [figure.label] if figure.label else []
    family: CounterMetricFamily | GaugeMetricFamily
    if figure.kind is Kind.COUNTER:
        family = CounterMetricFamily(figure.name, figure.help, labels=labels)
    else:
        family = GaugeMetricFamily(figure.name, figure.help, labels=labels)
    for of, value in values.items():
        family.add_metric([of] if labels else [], value)
    return family


def _histogram(figure: Figure, counted: Distribution) -> Metric:
    buckets = [
        ("+Inf" if bound == inf else str(bound), count) for bound, count in counted.cumulative()
    ]
    return HistogramMetricFamily(figure.name, figure.help, buckets=buckets, sum_value=counted.sum)
