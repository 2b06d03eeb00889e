"""Builds metric families of prometheus-client, which is imported only when it is
needed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pgflow_cli.models.queues import CounterSum

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Series = tuple[tuple[str, ...], float]  # the values of the labels, and the value


def added(
    samples: Iterable[Series],
) -> dict[tuple[str, ...], float]:
    """Return the sum of each series; several may be called `other`."""
    sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for names, value in samples:
        sums[names] += value
    return sums


def gauge(name: str, words: str, value: float) -> Metric:
    """Return a gauge without labels."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    return GaugeMetricFamily(f"pgflow_{name}", words, value=float(value))


def known(
    gauges: Mapping[str, tuple[str, float | None]],
) -> Iterator[Metric]:
    """Return gauges without labels; a value that is None is unknown and left out."""
    for name, (words, value) in gauges.items():
        if value is not None:
            yield gauge(name, words, value)


def labeled(
    name: str,
    words: str,
    labels: Sequence[str],
    samples: Iterable[Series],
    merge: Callable[[list[float]], float] = math.fsum,
) -> Metric:
    """Return a gauge; values of the same labels are merged."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    family = GaugeMetricFamily(f"pgflow_{name}", words, labels=labels)
    series: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    for names, value in samples:
        series[names].append(float(value))
    for names, values in series.items():
        family.add_metric(names, merge(values))
    return family


def counter(
    name: str,
    words: str,
    labels: Sequence[str],
    series: Mapping[tuple[str, ...], float],
) -> Metric:
    """Return a counter; `_total` is added to its name."""
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415

    family = CounterMetricFamily(f"pgflow_{name}", words, labels=labels)
    for names, value in series.items():
        family.add_metric(names, value)
    return family


def histogram(
    name: str,
    words: str,
    labels: Sequence[str],
    bounds: Sequence[float],
    sums: Sequence[CounterSum],
    named: Callable[[CounterSum], tuple[str, ...]],
) -> Metric:
    """Return a histogram; sums of the same labels are added up."""
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415

    series: dict[tuple[str, ...], tuple[list[int], float]] = {}
    for each in sums:
        names, counts = named(each), each.buckets or [0] * (len(bounds) + 1)
        before, seconds = series.get(names, ([0] * len(counts), 0.0))
        added = [a + b for a, b in zip(before, counts, strict=True)]
        series[names] = added, seconds + each.seconds
    family = HistogramMetricFamily(f"pgflow_{name}", words, labels=labels)
    for names, (counts, seconds) in series.items():
        total, buckets = 0, []
        for bound, count in zip((*bounds, math.inf), counts, strict=True):
            total += count
            edge = "+Inf" if bound == math.inf else str(float(bound))
            buckets.append((edge, total))
        family.add_metric(names, buckets, sum_value=seconds)
    return family
