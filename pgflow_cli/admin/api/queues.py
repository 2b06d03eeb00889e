"""Queues: what waits, runs and has died, how fast; pauses and limits one."""

from __future__ import annotations

from typing import Any

from pgflow_cli.admin import query, query_filters, shapes
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.shapes import FLAG, NUMBER, TEXT, TIME, WHOLE, Shape, maybe
from pgflow_cli.errors import UsageError
from pgflow_cli.inspection import queues
from pgflow_cli.inspection.queue_status import QueueStatus
from pgflow_cli.inspection.queues import QueueReport
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.queues import COUNTED, MOST_QUEUES, QueuePolicy
from pgflow_cli.models.queues import LIMITS as BOUNDS
from pgflow_cli.operations import queues as queue_operations
from pgflow_cli.repository import Repository

NAME_IN_PATH = Field("name", query_filters.QUEUE_NAME, "The queue's name.")
WINDOW = Field(
    "window",
    query.length(20, 7200),
    "How far back rates look: 20s to 2h.",
    queues.WINDOW,
)
EXACT = (
    f"False where a count of more than {COUNTED:,} is the planner's estimate, or the"
    " limit if it has none; the limit is lower while more than 25 queues are so deep."
)
DRAIN = Shape(
    "Drain",
    {
        "verdict": shapes.one_of(
            "empty", "draining", "steady", "growing", "unknown", "unserved"
        ),
        "seconds": maybe(NUMBER),
        "workers_needed": maybe(WHOLE),
        "window_seconds": NUMBER,
        "samples": WHOLE,
    },
    {
        "seconds": "Until it is empty; null unless it drains.",
        "workers_needed": "How many more would let it drain; null unless it grows.",
        "samples": "Jobs that came or were done in the window: 20 or more tell.",
    },
)
_LIMIT = maybe(WHOLE)
LIMITS = Shape(
    "QueueLimits",
    {
        "max_in_flight": _LIMIT,
        "max_attempts_per_minute": _LIMIT,
        "throttle_delay_ms": _LIMIT,
        "max_payload_bytes": _LIMIT,
        "max_enqueue_per_minute": _LIMIT,
    },
)
PAUSE = Shape("Pause", {"by": maybe(TEXT), "note": maybe(TEXT), "until": maybe(TIME)})
QUEUE = Shape(
    "Queue",
    {
        "queue": TEXT,
        "runnable": WHOLE,
        "scheduled": WHOLE,
        "running": WHOLE,
        "dlq": WHOLE,
        "oldest_age_seconds": maybe(NUMBER),
        "in_per_sec": NUMBER,
        "out_per_sec": NUMBER,
        "drain": DRAIN.reference,
        "workers": WHOLE,
        "policy": LIMITS.reference,
        "paused": maybe(PAUSE.reference),
        "counts_are_exact": FLAG,
    },
    {
        "dlq": "Dead letters that are not resolved.",
        "oldest_age_seconds": "For how long the oldest runnable job has been due.",
        "policy": "Its limits; null: none of its own.",
        "counts_are_exact": EXACT,
    },
)
QUEUES = Shape(
    "QueuePage",
    {"items": shapes.array(QUEUE.reference), "next_after": maybe(TEXT)},
    {"next_after": "The `after` of the next page; null on the last one."},
)
PAGE = (
    Field(
        "limit",
        query.whole(1, MOST_QUEUES, clamped=True),
        f"How many at most; moved to 1 to {MOST_QUEUES}.",
        MOST_QUEUES,
    ),
    Field("after", query_filters.QUEUE_NAME, "next_after of the page before."),
)
POLICY = Shape("QueuePolicy", {"queue": TEXT, **LIMITS.fields})
_HELP = {
    "max_in_flight": "Jobs that run at once.",
    "max_attempts_per_minute": "Attempts that begin in any minute.",
    "throttle_delay_ms": "How long to leave it alone when a limit holds jobs back.",
    "max_payload_bytes": "The largest payload.",
    "max_enqueue_per_minute": "Jobs that producers may add in each minute of the"
    " server's clock; 0: no limit.",
}
_LIMITS = tuple(
    Field(name, query.whole(*bounds), _HELP[name]) for name, bounds in BOUNDS.items()
)
_FOR = Field("for", query.length(1, 31_536_000), "So long; else until it is resumed.")


def list_queues(call: Call) -> Any:
    """Return a page of queues with their depth, rates, forecast, limits and pause."""
    taken, last = page(call, window=call.query["window"])
    return {
        "items": [document(status) for status in taken.queues],
        "next_after": last,
    }


def page(
    call: Call, *, window: float = queues.WINDOW
) -> tuple[QueueReport, str | None]:
    """Look at the page of queues that was asked for."""
    chosen = query_filters.job_filter({"queue": call.query["queue"]})
    with call.reading() as repository:
        return queues.take_page(
            repository,
            chosen,
            after=call.query["after"],
            limit=call.query["limit"],
            window=window,
        )


def show_queue(call: Call) -> Any:
    """Return one queue."""
    name, window = call.path["name"], call.query["window"]
    with call.reading() as repository:
        return document(queues.take_one(repository, name, window=window))


def document(status: QueueStatus) -> dict[str, Any]:
    """Return a queue as HTTP has it."""
    paused = status.paused
    return QUEUE.of(status) | {
        "drain": DRAIN.of(status.drain),
        "policy": LIMITS.of(status.policy),
        "paused": None if paused is None else PAUSE.of(paused),
    }


def pause_queue(call: Call) -> Any:
    """Lease nothing more from a queue; what runs goes on, producers go on."""
    name = call.path["name"]
    with call.writing() as repository:
        migrations.require_current(repository)
        queue_operations.require_known(repository, [name])
        queue_operations.pause(repository, [name], call.body["for"], call.operator)
        return _queue(repository, name)


def resume_queue(call: Call) -> Any:
    """Lease from a queue again."""
    name = call.path["name"]
    with call.writing() as repository:
        migrations.require_current(repository)
        queue_operations.require_known(repository, [name])
        queue_operations.resume(repository, [name], call.operator)
        return _queue(repository, name)


def set_policy(call: Call) -> Any:
    """Set the limits of a queue; those that are not named are removed."""
    limits = {name: call.body[name] for name in BOUNDS}
    if set(limits.values()) == {None}:
        raise UsageError("which limit? name one; DELETE removes all of them")
    with call.writing() as repository:
        migrations.require_current(repository)
        _, after = queue_operations.set_policy(
            repository, call.path["name"], limits, call.operator
        )
    return POLICY.of(after)


def clear_policy(call: Call) -> Any:
    """Remove every limit of a queue; a pause stays."""
    name = call.path["name"]
    with call.writing() as repository:
        migrations.require_current(repository)
        queue_operations.require_known(repository, [name])
        queue_operations.clear_policies(repository, [name], call.operator)
    return POLICY.of(QueuePolicy(name))


def _queue(repository: Repository, name: str) -> dict[str, Any]:
    return document(queues.take_one(repository, name, window=queues.WINDOW))


_NO_QUEUE = {404: "There is no queue of that name: no job, no policy."}
ROUTES = (
    Route(
        "GET",
        "/queues",
        list_queues,
        "List queues: what waits, runs and has died, how fast, and whether it drains.",
        about=f"By name. Above {COUNTED:,} a count is estimated. Rates: see window.",
        query=(query_filters.QUEUE, WINDOW, *PAGE),
        answer=QUEUES,
    ),
    Route(
        "GET",
        "/queues/<name>",
        show_queue,
        "Return one queue.",
        parameters=(NAME_IN_PATH,),
        query=(WINDOW,),
        answer=QUEUE,
        errors={404: "There is no queue of that name: no job, no policy."},
    ),
    Route(
        "POST",
        "/queues/<name>/pause",
        pause_queue,
        "Lease nothing more from a queue; what runs goes on, producers go on.",
        parameters=(NAME_IN_PATH,),
        body=(_FOR,),
        answer=QUEUE,
        errors=_NO_QUEUE,
    ),
    Route(
        "POST",
        "/queues/<name>/resume",
        resume_queue,
        "Lease from a queue again.",
        parameters=(NAME_IN_PATH,),
        answer=QUEUE,
        errors=_NO_QUEUE,
    ),
    Route(
        "PUT",
        "/queues/<name>/policy",
        set_policy,
        "Set the limits of a queue; those that are not named are removed.",
        about="The lease keeps them: they hold at every instant, whatever workers there"
        " are. A queue that was never used can be limited beforehand.",
        parameters=(NAME_IN_PATH,),
        body=_LIMITS,
        answer=POLICY,
    ),
    Route(
        "DELETE",
        "/queues/<name>/policy",
        clear_policy,
        "Remove every limit of a queue; a pause stays.",
        parameters=(NAME_IN_PATH,),
        answer=POLICY,
        errors=_NO_QUEUE,
    ),
)
SHAPES = (DRAIN, LIMITS, PAUSE, QUEUE)
