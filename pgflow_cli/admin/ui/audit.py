"""The audit: what operators have changed."""

from __future__ import annotations

from functools import partial

from werkzeug.wrappers import Response

from pgflow_cli.admin import query, query_filters
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.ui import command_line, layout
from pgflow_cli.admin.ui.layout import PAGE, next_page

_ACTOR = Field("actor", query.text(most=200), "Only what this one has done.")
_ACTION = Field("action", query.text(most=64), "Only this action, or group of them.")
_OF_ACTIONS = ("queue", "since", "until")


def list_actions(call: Call) -> Response:
    """List what operators have changed."""
    page = query_filters.page(call.query, query_filters.number_of)
    typed = call.request.args
    with call.reading() as repository:
        chosen = repository.queues.resolve_queues(query_filters.job_filter(call.query))
        fetch = partial(
            repository.audit.list_actions,
            chosen,
            actor=call.query["actor"],
            action=call.query["action"],
        )
        rows, more = page.read(fetch, lambda action: action.position)
    names = ("actor", "action", *_OF_ACTIONS)
    return layout.page(
        call,
        "audit.html",
        title="Audit",
        actions=list(rows),
        more=next_page(call, more),
        typed=typed,
        active=command_line.given(typed, *names),
        command=command_line.line("audit", "list", **command_line.given(typed, *names)),
    )


ROUTES = (
    Route(
        "GET",
        "/ui/audit",
        list_actions,
        "What operators have changed.",
        query=(_ACTOR, _ACTION, *query_filters.some(*_OF_ACTIONS), *PAGE),
        of_page=True,
    ),
)
