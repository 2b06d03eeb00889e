"""What the gate refused, and what policies held back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from werkzeug.wrappers import Response

from pgflow_cli.admin import query_filters, shapes
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.shapes import ID, OBJECT, TEXT, TIME, WHOLE, Shape, array, maybe
from pgflow_cli.formats import values
from pgflow_cli.models.decisions import Decision
from pgflow_cli.models.selection import Position

_DECISION = {
    "id": TEXT,
    "queue": TEXT,
    "decision": TEXT,
    "reason_code": TEXT,
    "details_json": OBJECT,
    "created_at": TIME,
    "count": WHOLE,
}
INGEST_DECISION = Shape(
    "IngestDecision",
    {**_DECISION, "decision": shapes.one_of("DENIED")},
    {"count": "How many enqueues were refused in that minute."},
)
POLICY_DECISION = Shape(
    "PolicyDecision",
    {**_DECISION, "last_at": TIME, "sample_job_id": maybe(ID)},
    {
        "decision": "THROTTLED by a limit, or HELD by a pause.",
        "count": "In how many seconds of that minute a limit held jobs back; how many"
        " jobs a pause held.",
    },
)
_REASON_CODE = Field("reason_code", query_filters.CODE, "Only this reason.")
_CURSORS = {"cursor_created_at", "cursor_id"}


def list_ingest_decisions(call: Call) -> Response:
    """List enqueues that were refused, newest first."""
    rows, more = _decisions(call, "ingest")
    response = Response(
        values.json_of([INGEST_DECISION.of(row) for row in rows]),
        content_type="application/json",
    )
    if more is not None:
        response.headers["Link"] = f'<?{_next(call, more)}>; rel="next"'
    return response


def list_policy_decisions(call: Call) -> Any:
    """List what policies held back, newest first."""
    rows, more = _decisions(call, "policy")
    return shapes.page(POLICY_DECISION, rows, more)


def _decisions(call: Call, kind: str) -> tuple[Sequence[Decision], Position | None]:
    page = query_filters.page(call.query, query_filters.decision_of)
    chosen = query_filters.job_filter(
        {**call.query, "reason": call.query["reason_code"]}
    )
    with call.reading() as repository:
        chosen = repository.queues.resolve_queues(chosen)
        fetch = partial(repository.decisions.list_decisions, chosen, kind)
        rows, more = page.read(fetch, lambda row: row.position)
    return [*rows], more


def _next(call: Call, more: Position) -> str:
    """Return the query of the next page: the same, from there on."""
    kept = [
        (name, value)
        for name, value in call.request.args.items(multi=True)
        if name not in _CURSORS
    ]
    at, identity = more
    cursor = [("cursor_created_at", values.text_of(at)), ("cursor_id", identity)]
    return urlencode([*kept, *cursor])


ROUTES = (
    Route(
        "GET",
        "/ingest/decisions",
        list_ingest_decisions,
        "List enqueues that were refused, newest first.",
        about="One row for each queue, reason and minute. The Link header leads to the"
        " next page; created_at and id of the last row are its cursor as well.",
        query=(
            *query_filters.some("queue", "since"),
            _REASON_CODE,
            *query_filters.PAGE,
        ),
        answer=array(INGEST_DECISION.reference),
        headers={"Link": 'Where the next page is: `<URL>; rel="next"`. On the last page'
                 " there is none."},
    ),
    Route(
        "GET",
        "/policy/decisions",
        list_policy_decisions,
        "List what limits and pauses held back, newest first.",
        about="A row for each queue, reason and minute.",
        query=(
            *query_filters.some("queue", "since"),
            _REASON_CODE,
            *query_filters.PAGE,
        ),
        answer=shapes.page_of(POLICY_DECISION),
    ),
)  # fmt: skip
SHAPES = (INGEST_DECISION, POLICY_DECISION)
