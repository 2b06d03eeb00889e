"""All routes of the admin server, and the application that answers them."""

from __future__ import annotations

from functools import cache

from werkzeug.wrappers import Response

from pgflow_cli.admin import assets, openapi
from pgflow_cli.admin.application import Application
from pgflow_cli.admin.calls import Call
from pgflow_cli.admin.endpoints import (
    audit,
    changing,
    dead_letters,
    decisions,
    doctor,
    enqueueing,
    events,
    health,
    jobs,
    metrics,
    queues,
    replaying,
    replays,
    sessions,
    stories,
    workers,
)
from pgflow_cli.admin.pages import site
from pgflow_cli.admin.routes import Route
from pgflow_cli.admin.service import Service
from pgflow_cli.admin.tokens import Role
from pgflow_cli.formats import values

_NOUNS = (
    jobs,
    enqueueing,
    stories,
    dead_letters,
    replays,
    replaying,
    queues,
    changing,
    decisions,
    workers,
    audit,
    metrics,
    doctor,
    sessions,
    events,
    assets,
    site,
)
SHAPES = tuple(shape for noun in _NOUNS for shape in noun.SHAPES)


def _openapi(call: Call) -> Response:
    """Return this API as an OpenAPI document."""
    text = _document(guarded=not call.service.guard.keyring.is_empty)
    return Response(text, content_type="application/json")


@cache  # anybody may ask for it, and it takes a while to make
def _document(*, guarded: bool) -> str:
    return values.json_of(openapi.document(ROUTES, SHAPES, guarded=guarded))


ROUTES = (
    *health.ROUTES,
    *(route for noun in _NOUNS for route in noun.ROUTES),
    Route(
        "GET",
        "/openapi.json",
        _openapi,
        "This document.",
        role=Role.NOBODY,
    ),
)


def application(service: Service) -> Application:
    """Return what answers the requests of a server; a probe answers fewer."""
    routes = health.PROBES if service.plan.probe_only else ROUTES
    return Application(service, routes)
