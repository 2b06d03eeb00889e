"""Lists of dead letters, and groups of those that died of the same cause."""

from __future__ import annotations

from typing import Any

from pgflow_cli.admin import query, query_filters, shapes
from pgflow_cli.admin.api.job_shapes import JOB
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.shapes import ID, NUMBER, TEXT, TIME, WHOLE, Shape, maybe
from pgflow_cli.models.dead_letters import KEYS, DeadLetter
from pgflow_cli.models.jobs import time_of
from pgflow_cli.models.selection import MOST_ROWS, JobFilter, Page, Position
from pgflow_cli.repository import Repository

GROUP = Shape(
    "DeadLetterGroup",
    {
        "key": maybe(TEXT),
        "count": WHOLE,
        "share": NUMBER,
        "first_at": TIME,
        "last_at": TIME,
        "job_type": TEXT,
        "error_code": maybe(TEXT),
        "sample_job_id": ID,
        "message": maybe(TEXT),
    },
    {"share": "Its share of all of them, 0 to 1.", "sample_job_id": "The latest."},
)
_RESOLVED = {"false": False, "true": True, "any": None}


def list_dead_letters(call: Call) -> Any:
    """List dead letters that fit a filter, newest first."""
    page = query_filters.page(call.query)
    with call.reading() as repository:
        chosen = repository.queues.resolve_queues(query_filters.job_filter(call.query))
        resolved = _RESOLVED[call.query["resolved"]]
        return listed(repository, chosen, page, resolved=resolved)


def group_dead_letters(call: Call) -> Any:
    """Group open dead letters by what they have in common."""
    with call.reading() as repository:
        chosen = repository.queues.resolve_queues(query_filters.job_filter(call.query))
        by = call.query["by"]
        groups = repository.dead_letters.group_dead_letters(
            chosen, by=by, limit=MOST_ROWS
        )
    return {"items": [GROUP.of(group) for group in groups]}


def listed(
    repository: Repository, chosen: JobFilter, page: Page, *, resolved: bool | None
) -> Any:
    """Return a page of dead letters, as lists have jobs."""

    def fetch(limit: int, after: Position | None) -> list[DeadLetter]:
        return repository.dead_letters.list_newest_dead_letters(
            chosen, limit=limit, after=after, resolved=resolved
        )

    rows, more = page.read(fetch, _position)
    return shapes.page(JOB, rows, more)


def _position(job: DeadLetter) -> Position:
    return job.created_at or time_of(job.id), job.id


ROUTES = (
    Route(
        "GET",
        "/dlq",
        list_dead_letters,
        "List dead letters, newest first.",
        about="Sorted by the time in the job's id. since and until mean the time of"
        " death. Only open ones, unless resolved says otherwise.",
        query=(
            *query_filters.some(
                "queue",
                "job_type",
                "error_code",
                "reason",
                "fingerprint",
                "since",
                "until",
                "replay_of",
            ),
            Field(
                "resolved",
                query.one_of(*_RESOLVED),
                "Whether they have been replayed or discarded.",
                "false",
            ),
            *query_filters.PAGE,
        ),
        answer=shapes.page_of(JOB),
    ),
    Route(
        "GET",
        "/dlq/groups",
        group_dead_letters,
        "Group open dead letters by what they have in common.",
        about=f"The largest group first, {MOST_ROWS} at most.",
        query=(
            Field("by", query.one_of(*KEYS), "What they have in common.", KEYS[0]),
            *query_filters.some("queue", "since"),
        ),
        answer=shapes.list_of(GROUP),
    ),
)
SHAPES = (GROUP,)
