"""What is on record: decisions of policies and the gate, changes by operators."""

from __future__ import annotations

from functools import partial

from werkzeug.wrappers import Response

from pgflow_cli.admin import filters, kinds
from pgflow_cli.admin.calls import Call
from pgflow_cli.admin.fields import Field
from pgflow_cli.admin.pages import commands, frame
from pgflow_cli.admin.pages.pager import PAGE, next_page
from pgflow_cli.admin.routes import Route

KINDS = ("all", "ingest", "policy")
_KIND = Field("kind", kinds.one_of(*KINDS), "Refused enqueues, jobs held back.", "all")
_ACTOR = Field("actor", kinds.text(most=200), "Only what this one has done.")
_ACTION = Field("action", kinds.text(most=64), "Only this action, or group of them.")
_OF_DECISIONS = ("queue", "reason", "since", "until")
_OF_ACTIONS = ("queue", "since", "until")


def list_decisions(call: Call) -> Response:
    """List what policies held back and what the gate refused."""
    kind = call.query["kind"]
    page = filters.page(call.query, filters.decision_of)
    typed = call.request.args
    with call.reading() as repository:
        chosen = repository.resolve_queues(filters.job_filter(call.query))
        groups = repository.group_decisions(chosen, kind)
        fetch = partial(repository.list_decisions, chosen, kind)
        rows, more = page.read(fetch, lambda decision: decision.position)
    return frame.page(
        call,
        "decisions.html",
        title="Decisions",
        held=groups,
        decisions=list(rows),
        more=next_page(call, more),
        typed=typed,
        kinds=KINDS,
        active=commands.given(typed, "kind", *_OF_DECISIONS),
        command=commands.line(
            "decisions",
            "list",
            **commands.given(typed, "kind", *_OF_DECISIONS),
        ),
        group_command=commands.line(
            "decisions",
            "list",
            group="reason",
            **commands.given(typed, "kind", *_OF_DECISIONS),
        ),
    )


def list_actions(call: Call) -> Response:
    """List what operators have changed."""
    page = filters.page(call.query, filters.number_of)
    typed = call.request.args
    with call.reading() as repository:
        chosen = repository.resolve_queues(filters.job_filter(call.query))
        fetch = partial(
            repository.list_actions,
            chosen,
            actor=call.query["actor"],
            action=call.query["action"],
        )
        rows, more = page.read(fetch, lambda action: action.position)
    names = ("actor", "action", *_OF_ACTIONS)
    return frame.page(
        call,
        "audit.html",
        title="Audit",
        actions=list(rows),
        more=next_page(call, more),
        typed=typed,
        active=commands.given(typed, *names),
        command=commands.line("audit", "list", **commands.given(typed, *names)),
    )


ROUTES = (
    Route(
        "GET",
        "/ui/decisions",
        list_decisions,
        "What was held back or refused.",
        query=(_KIND, *filters.some(*_OF_DECISIONS), *PAGE),
        of_page=True,
    ),
    Route(
        "GET",
        "/ui/audit",
        list_actions,
        "What operators have changed.",
        query=(_ACTOR, _ACTION, *filters.some(*_OF_ACTIONS), *PAGE),
        of_page=True,
    ),
)
