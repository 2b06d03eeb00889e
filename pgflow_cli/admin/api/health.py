"""Whether the process, its start and its database are well: for probes."""

from __future__ import annotations

import os
from http import HTTPStatus

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from werkzeug.wrappers import Response

from pgflow_cli.admin.problems import Problem
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.security import Role
from pgflow_cli.errors import PgflowError
from pgflow_cli.inspection import prometheus
from pgflow_cli.maintenance import migrations


def health(call: Call) -> Response:
    """Answer ok while the loop turns; the database is never asked."""
    if not call.service.is_turning():
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the supervisor's loop stands still",
            code="NOT_TURNING",
        )
    return _ok()


def started(call: Call) -> Response:
    """Answer ok once requests are answered at all."""
    return health(call)


def ready(call: Call) -> Response:
    """Answer ok if the database answers, takes writes and has our schema."""
    health(call)
    try:
        with call.service.probing.repository() as repository:
            migrations.require_current(repository)
            facts = repository.schema.inspect_server()
    except PgflowError as error:
        raise _not_ready(_reason(error)) from None
    if facts.in_recovery and not call.service.options.read_only:
        raise _not_ready("the database is in recovery")
    return _ok()


def process_metrics(_call: Call) -> Response:
    """Return the memory, time and descriptors of the process we belong to."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(pid=os.getppid, registry=registry)
    return Response(generate_latest(registry), content_type=prometheus.CONTENT_TYPE)


def _not_ready(why: str) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, why, code="NOT_READY")


def _reason(error: PgflowError) -> str:
    said = {
        69: "the database does not answer",
        77: "the database refuses this server's role",
        78: "the schema is not the one I need",
    }
    return said.get(error.exit_code, "the database cannot be used")


def _ok() -> Response:
    return Response("ok", content_type="text/plain; charset=utf-8")


def _route(path: str, handler: object, summary: str) -> Route:
    return Route(
        "GET",
        path,
        handler,  # type: ignore[arg-type]
        summary,
        answer="text/plain",
        errors={503: "It is not."},
        role=Role.ANONYMOUS,
        any_host=True,
    )


def _route_of_process() -> Route:
    return Route(
        "GET",
        "/metrics/prom",
        process_metrics,
        "Memory, time and descriptors of the supervisor, for Prometheus.",
        answer="text/plain",
        role=Role.ANONYMOUS,
        any_host=True,
    )


ROUTES = (
    _route("/health", health, "Whether the loop turns."),
    _route("/health/started", started, "Whether it has started."),
    _route("/health/ready", ready, "Whether database and schema are usable."),
)
# What a probe server answers: nothing of jobs.
PROBES = (*ROUTES, _route_of_process())
