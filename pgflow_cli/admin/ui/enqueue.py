"""A form that enqueues a job."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Any

from werkzeug.wrappers import Response

from pgflow_cli.admin import problems, query, query_filters
from pgflow_cli.admin.problems import Problem
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.ui import command_line, layout
from pgflow_cli.admin.ui.layout import Flash, writing
from pgflow_cli.errors import PgflowError, UsageError
from pgflow_cli.formats import payload_text
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.operations import delivery
from pgflow_cli.operations.enqueue import new_job_id

_LONGEST = 1_048_576
# What is typed, read by the handler so that the form can say what is wrong and keep it.
_TYPED = ("job_type", "queue", "when", "priority", "max_attempts", "job_id")
_KINDS = {
    "job_type": query_filters.JOB_TYPE,
    "queue": query_filters.QUEUE_NAME,
    "when": query.moment("future"),
    "priority": query.whole(-100, 100),
    "max_attempts": query.whole(1, 10_000),
}
_EMPTY = {"queue": "default", "payload": "{}"}


def form(call: Call) -> Response:
    """Show the form; its first values may stand in the URL."""
    given = {name: value for name, value in call.query.items() if value}
    return _form(call, {**_EMPTY, **given, "job_id": new_job_id()})


def enqueue(call: Call) -> Response:
    """Enqueue the job; what is wrong is said with what was typed."""
    typed = {name: value or "" for name, value in call.body.items()}
    try:
        job_id = _enqueued(call, typed)
    except Problem as problem:
        return _form(call, typed, problem)
    except (PgflowError, ValueError) as error:
        if not isinstance(error, PgflowError):
            error = UsageError(str(error))
        return _form(call, typed, problems.of_error(error))
    queue = typed["queue"] or "default"
    return layout.go(call, f"/ui/jobs/{job_id}", Flash(f"Enqueued in {queue}."))


def _enqueued(call: Call, typed: dict[str, str]) -> str:
    read = {
        name: Field(name, kind).read(kind.of_text(typed[name]))
        for name, kind in _KINDS.items()
        if typed[name]
    }
    if "job_type" not in read:
        raise problems.bad_request("job_type is required")
    payload = typed["payload"] or "{}"
    payload_text.check_payload(payload)
    # The form brings the id: sent twice, it is one job.
    job_id = typed["job_id"] or new_job_id()
    payload_text.check_job_id(job_id)
    settings = call.service.options
    options = JobOptions(
        queue=read.get("queue"),
        priority=read.get("priority"),
        max_attempts=read.get("max_attempts"),
        max_payload_bytes=settings.max_payload_bytes,
        max_enqueue_per_minute=settings.max_enqueue_per_minute,
    )
    options = delivery.starting(options, read.get("when"))
    with writing(call) as repository:
        return delivery.enqueue_once(
            repository.enqueue,
            read["job_type"],
            payload,
            options=options,
            job_id=job_id,
            send=partial(delivery.by_hand, repository, operator=call.operator),
            pause=call.service.ending.wait,
        )


def _form(
    call: Call, typed: dict[str, Any], problem: Problem | None = None
) -> Response:
    queues = sorted(s.queue for s in call.service.reports.latest().queues)
    said = problem.error if problem else None
    return layout.page(
        call,
        "enqueue.html",
        title="Enqueue",
        status=problem.status if problem else HTTPStatus.OK,
        typed={name: typed.get(name, "") for name in (*_TYPED, "payload")},
        queues=queues,
        error=said,
        command=command_line.line(
            "enqueue",
            typed.get("job_type") or "demo_ok",
            typed.get("payload") or "{}",
            **command_line.given(typed, "queue", "priority", "max_attempts"),
        ),
    )


_PAYLOAD = Field("payload", query.text(most=_LONGEST), "The payload, JSON.")

ROUTES = (
    Route(
        "GET",
        "/ui/enqueue",
        form,
        "A form that enqueues a job.",
        query=(
            Field("job_type", query_filters.JOB_TYPE, "The job type."),
            Field("queue", query_filters.QUEUE_NAME, "The queue."),
        ),
        of_page=True,
    ),
    Route(
        "POST",
        "/ui/enqueue",
        enqueue,
        "Enqueue a job.",
        body=(*(Field(name, query.text()) for name in _TYPED), _PAYLOAD),
        of_page=True,
    ),
)
