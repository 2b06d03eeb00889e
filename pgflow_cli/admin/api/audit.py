"""What operators have changed."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from pgflow_cli.admin import query, query_filters, shapes
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.shapes import OBJECT, TEXT, TIME, WHOLE, Shape, maybe

_ACTION = re.compile(r"[a-z_]+(?:\.[a-z_-]+)*")
ACTION = Shape(
    "OperatorAction",
    {
        "id": TEXT,
        "created_at": TIME,
        "actor": TEXT,
        "role": TEXT,
        "action": TEXT,
        "queue": maybe(TEXT),
        "jobs": WHOLE,
        "state": shapes.one_of("done", "unfinished"),
        "finished_at": maybe(TIME),
        "note": maybe(TEXT),
        "plan_id": maybe(WHOLE),
        "command": TEXT,
        "details_json": OBJECT,
    },
    {
        "actor": "Who the client said it was.",
        "role": "The PostgreSQL role that did it.",
        "jobs": "How many jobs it touched.",
        "state": "unfinished: it is still running, or was interrupted.",
        "plan_id": "The replay plan that it is about.",
    },
)


def list_actions(call: Call) -> Any:
    """List what operators have changed, newest first."""
    page = query_filters.page(call.query, query_filters.number_of)
    with call.reading() as repository:
        fetch = partial(
            repository.audit.list_actions,
            repository.queues.resolve_queues(query_filters.job_filter(call.query)),
            actor=call.query["actor"],
            action=call.query["action"],
        )
        rows, more = page.read(fetch, lambda row: row.position)
        return shapes.page(ACTION, rows, more)


ROUTES = (
    Route(
        "GET",
        "/audit",
        list_actions,
        "List what operators have changed, newest first.",
        query=(
            *query_filters.some("queue", "since", "until"),
            Field("actor", query.text(most=128), "Only changes by this actor."),
            Field(
                "action",
                query.text(_ACTION, "an action such as queues.pause", most=128),
                "Only this action, or group of actions: queues.pause, jobs.",
            ),
            *query_filters.PAGE,
        ),
        answer=shapes.page_of(ACTION),
    ),
)
SHAPES = (ACTION,)
