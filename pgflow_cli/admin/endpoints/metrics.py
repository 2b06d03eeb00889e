"""The metrics of queues as JSON, and everything there is for Prometheus."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Response

from pgflow_cli import census, metrics
from pgflow_cli.admin import filters
from pgflow_cli.admin.calls import Call
from pgflow_cli.admin.routes import Route
from pgflow_cli.admin.tokens import Role


def queue_metrics(call: Call) -> Any:
    """Return depth, rates and times of each queue over the last minute."""
    with call.reading() as repository:
        taken = census.take(repository, filters.job_filter(call.query))
    return metrics.document(taken)


def prometheus(call: Call) -> Response:
    """Return every metric in Prometheus' text format."""
    return Response(call.service.scraper.text(), content_type=metrics.CONTENT_TYPE)


ROUTES = (
    Route(
        "GET",
        "/metrics",
        queue_metrics,
        "Depth, rates and times of each queue; rates are of the last minute.",
        query=(filters.QUEUE,),
    ),
    Route(
        "GET",
        "/metrics/prom",
        prometheus,
        "Everything, for Prometheus; of the whole cluster, so scrape one server.",
        answer="text/plain",
        role=Role.METRICS,
        any_host=True,
    ),
)
SHAPES = ()
