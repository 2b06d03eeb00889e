"""Lists of jobs, one job, and why it is where it is."""

from __future__ import annotations

from typing import Any

from pgflow_cli import documents, explanation, joblists
from pgflow_cli.admin import filters, shapes
from pgflow_cli.admin.calls import Call
from pgflow_cli.admin.fields import Field
from pgflow_cli.admin.routes import Route
from pgflow_cli.admin.shapes import ID, TEXT, TIME, WHOLE, Shape, maybe

ID_IN_PATH = Field(
    "job_id", filters.JOB_ID, "A job's id, or its last 6 digits or more."
)

JOB = Shape(
    "Job",
    {
        "id": ID,
        "queue": TEXT,
        "job_type": TEXT,
        "status": maybe(shapes.word(*filters.STATUSES)),
        "run_at": maybe(TIME),
        "priority": maybe(WHOLE),
        "max_attempts": maybe(WHOLE),
        "last_error_code": maybe(TEXT),
        "last_error_message": maybe(TEXT),
        "dlq_reason_code": maybe(TEXT),
        "created_at": maybe(TIME),
        "updated_at": TIME,
        "short_id": TEXT,
        "attempt_no": WHOLE,
        "dlq_at": maybe(TIME),
        "fingerprint": maybe(TEXT),
        "resolved_at": maybe(TIME),
        "replay_of_job_id": maybe(ID),
        "worker_id": maybe(TEXT),
        "lease_expires_at": maybe(TIME),
    },
)
JOBS = shapes.page_of(JOB)


def list_jobs(call: Call) -> Any:
    """List jobs that fit a filter, newest first."""
    page = filters.page(call.query)
    with call.reading() as repository:
        chosen = repository.resolve_queues(filters.job_filter(call.query))
        listing = joblists.JobList(repository, chosen).page(page.limit, page.after)
    return shapes.page(JOB, listing.jobs, listing.more)


def explain_job(call: Call) -> Any:
    """Explain why a job is where it is."""
    with call.reading() as repository:
        job_id = repository.find_job(call.path["job_id"])
        facts = repository.describe_job(job_id, attempts=None)
    return documents.explanation(explanation.explain(facts))


def job_timeline(call: Call) -> Any:
    """Tell what has happened to a job."""
    with call.reading() as repository:
        job_id = repository.find_job(call.path["job_id"])
        facts = repository.describe_job(job_id, attempts=None)
    return documents.timeline(explanation.explain(facts))


ROUTES = (
    Route(
        "GET",
        "/jobs",
        list_jobs,
        "List jobs, newest first.",
        query=(
            *filters.some(
                "queue",
                "status",
                "job_type",
                "error_code",
                "reason",
                "fingerprint",
                "since",
                "until",
                "replay_of",
            ),
            *filters.PAGE,
        ),
        answer=JOBS,
    ),
    Route(
        "GET",
        "/jobs/<job_id>/explain",
        explain_job,
        "Explain why a job is where it is, and what to do.",
        parameters=(ID_IN_PATH,),
        errors={404: "There is no such job.", 409: "The id is ambiguous."},
    ),
    Route(
        "GET",
        "/jobs/<job_id>/timeline",
        job_timeline,
        "Tell what has happened to a job.",
        parameters=(ID_IN_PATH,),
        errors={404: "There is no such job.", 409: "The id is ambiguous."},
    ),
)
SHAPES = (JOB,)
