"""Decisions: what policies held back, and what the gate refused."""

from __future__ import annotations

from functools import partial

from werkzeug.wrappers import Response

from pgflow_cli.admin import query, query_filters
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.ui import command_line, layout
from pgflow_cli.admin.ui.layout import PAGE, next_page

KINDS = ("all", "ingest", "policy")
_KIND = Field("kind", query.one_of(*KINDS), "Refused enqueues, jobs held back.", "all")
_OF_DECISIONS = ("queue", "reason", "since", "until")


def list_decisions(call: Call) -> Response:
    """List what policies held back and what the gate refused."""
    kind = call.query["kind"]
    page = query_filters.page(call.query, query_filters.decision_of)
    typed = call.request.args
    with call.reading() as repository:
        chosen = repository.queues.resolve_queues(query_filters.job_filter(call.query))
        groups = repository.decisions.group_decisions(chosen, kind)
        fetch = partial(repository.decisions.list_decisions, chosen, kind)
        rows, more = page.read(fetch, lambda decision: decision.position)
    return layout.page(
        call,
        "decisions.html",
        title="Decisions",
        held=groups,
        decisions=list(rows),
        more=next_page(call, more),
        typed=typed,
        kinds=KINDS,
        active=command_line.given(typed, "kind", *_OF_DECISIONS),
        command=command_line.line(
            "decisions",
            "list",
            **command_line.given(typed, "kind", *_OF_DECISIONS),
        ),
        group_command=command_line.line(
            "decisions",
            "list",
            group="reason",
            **command_line.given(typed, "kind", *_OF_DECISIONS),
        ),
    )


ROUTES = (
    Route(
        "GET",
        "/ui/decisions",
        list_decisions,
        "What was held back or refused.",
        query=(_KIND, *query_filters.some(*_OF_DECISIONS), *PAGE),
        of_page=True,
    ),
)
