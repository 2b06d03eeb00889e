"""Worker processes, alive or not."""

from __future__ import annotations

from functools import partial
from typing import Any

from pgflow_cli.admin import query_filters, shapes
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.shapes import ID, TEXT, TEXTS, TIME, WHOLE, Shape, maybe
from pgflow_cli.models.workers import STATES

WORKER = Shape(
    "Worker",
    {
        "worker_id": ID,
        "name": TEXT,
        "state": shapes.word(*STATES),
        "host": TEXT,
        "pid": WHOLE,
        "busy_slots": WHOLE,
        "slots": WHOLE,
        "held_jobs": WHOLE,
        "queues": maybe(TEXTS),
        "handlers": maybe(WHOLE),
        "job_types": maybe(TEXTS),
        "code_version": maybe(TEXT),
        "last_heartbeat": TIME,
        "last_leased_at": maybe(TIME),
        "started_at": TIME,
        "lease_seconds": WHOLE,
        "supervisor_id": ID,
    },
    {
        "state": " ".join(f"{word}: {means}." for word, means in STATES.items()),
        "queues": "Which it serves; null: all of them.",
        "job_types": "Which it has handlers for; null: all of them.",
    },
)


def list_workers(call: Call) -> Any:
    """List worker processes, the one started last first."""
    page = query_filters.page(call.query)
    with call.reading() as repository:
        chosen = repository.queues.resolve_queues(query_filters.job_filter(call.query))
        fetch = partial(repository.workers.list_newest_worker_processes, chosen)
        rows, more = page.read(fetch, lambda row: row.position)
        return shapes.page(WORKER, rows, more)


ROUTES = (
    Route(
        "GET",
        "/workers",
        list_workers,
        "List worker processes, the one started last first.",
        about="With queue, those that serve it; with since, those heard of since then.",
        query=(*query_filters.some("queue", "since"), *query_filters.PAGE),
        answer=shapes.page_of(WORKER),
    ),
)
SHAPES = (WORKER,)
