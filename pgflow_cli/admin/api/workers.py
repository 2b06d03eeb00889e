"""Worker processes, alive or not; quiets and resumes one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pgflow_cli.admin import query, query_filters, shapes
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.shapes import ID, TEXT, TEXTS, TIME, WHOLE, Shape, maybe
from pgflow_cli.formats import payload_text
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.workers import STATES, ListedWorker
from pgflow_cli.operations import workers
from pgflow_cli.repository import Repository

WORKER = Shape(
    "Worker",
    {
        "worker_id": ID,
        "name": TEXT,
        "state": shapes.one_of(*STATES),
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
        "state": " ".join(f"{state}: {means}." for state, means in STATES.items()),
        "queues": "Which it serves; null: all of them.",
        "job_types": "Which it has handlers for; null: all of them.",
    },
)
WORKER_IN_PATH = Field(
    "worker_id",
    query.text(payload_text.JOB_TYPE, "a worker's name, or the end of an id", most=128),
    "A worker's name, for all of its processes, or the end of one process's id.",
)


def list_workers(call: Call) -> Any:
    """List worker processes, the one started last first."""
    page = query_filters.page(call.query)
    with call.reading() as repository:
        chosen = repository.queues.resolve_queues(query_filters.job_filter(call.query))
        fetch = partial(repository.workers.list_newest_worker_processes, chosen)
        rows, more = page.read(fetch, lambda row: row.position)
        return shapes.page(WORKER, rows, more)


def quiet_worker(call: Call) -> Any:
    """Have a worker lease nothing; what it runs goes on."""
    return _told(call, workers.quiet)


def resume_worker(call: Call) -> Any:
    """Have a quiet worker lease again."""
    return _told(call, workers.resume)


def _told(
    call: Call, tell: Callable[[Repository, Sequence[ListedWorker], Operator], int]
) -> Any:
    given = call.path["worker_id"]
    with call.writing() as repository:
        migrations.require_current(repository)
        tell(repository, workers.find(repository, given), call.operator)
        found = workers.find(repository, given)
    return {"items": [WORKER.of(process) for process in found]}


_NO_WORKER = {
    404: "There is no such worker.",
    409: "Several processes have an id that ends so.",
}
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
    Route(
        "POST",
        "/workers/<worker_id>/quiet",
        quiet_worker,
        "Have a worker lease nothing; what it runs goes on.",
        about="It learns of it within a third of its lease. It stays quiet, also when"
        " its process is replaced, until it is resumed or restarted.",
        parameters=(WORKER_IN_PATH,),
        answer=shapes.list_of(WORKER),
        errors=_NO_WORKER,
    ),
    Route(
        "POST",
        "/workers/<worker_id>/resume",
        resume_worker,
        "Have a quiet worker lease again.",
        about="It learns of it within a third of its lease.",
        parameters=(WORKER_IN_PATH,),
        answer=shapes.list_of(WORKER),
        errors=_NO_WORKER,
    ),
)
SHAPES = (WORKER,)
