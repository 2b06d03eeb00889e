"""Jobs: lists of them, the story of one, what can be done about it."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Response

from pgflow_cli.admin import query, query_filters
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.ui import command_line, layout
from pgflow_cli.admin.ui.layout import PAGE, Flash, next_page, writing
from pgflow_cli.formats.words import short_id
from pgflow_cli.inspection import explanation, job_list
from pgflow_cli.models.selection import STATUSES
from pgflow_cli.operations import jobs
from pgflow_cli.operations.jobs import Changed

ID = Field("job_id", query_filters.JOB_ID, "A job's id, or its last 6 digits or more.")
FILTERS = (
    "queue", "status", "job_type", "error_code", "reason", "fingerprint", "since",
    "until", "replay_of",
)  # fmt: skip
_SLOW = Field("slow", query.flag(), "Running jobs, the longest first.", False)
_STUCK = Field("stuck", query.flag(), "Those whose lease has run out.", False)
_OF_RUNNING = ("slow", "stuck")
_PAYLOAD = Field("payload", query.one_of("shown", "all"), "Show the payload, too.")
_KILL = Field("kill", query.flag(), "A running job, too.", False)


def list_jobs(call: Call) -> Response:
    """List jobs that fit a filter, newest first."""
    page = query_filters.page(call.query)
    with call.reading() as repository:
        chosen = repository.queues.resolve_queues(query_filters.job_filter(call.query))
        wanted = job_list.JobList(
            repository, chosen, slow=call.query["slow"], stuck=call.query["stuck"]
        )
        listing = wanted.page(page.limit, page.after)
    typed = call.request.args
    active = {
        **command_line.given(typed, *FILTERS),
        **{name: "true" for name in _OF_RUNNING if call.query[name]},
    }
    return layout.page(
        call,
        "jobs.html",
        title="Jobs",
        jobs=listing.jobs,
        extent=listing.extent,
        more=next_page(call, listing.more),
        typed=typed,
        active=active,
        running=wanted.status == "running",
        statuses=STATUSES,
        command=command_line.line(
            "jobs",
            "list",
            **{k: True if k in _OF_RUNNING else v for k, v in active.items()},
        ),
    )


def show_job(call: Call) -> Response:
    """Show why a job is where it is, what happened to it, and what can be done."""
    asked = call.query["payload"]
    with call.reading() as repository:
        job_id = repository.jobs.find_job(call.path["job_id"])
        facts = repository.explanation.describe_job(job_id, attempts=None)
        body = repository.jobs.read_job_body(job_id) if asked else None
    explained = explanation.explain(facts)
    return layout.page(
        call,
        "job.html",
        title=f"Job {short_id(job_id)}",
        job=facts.job,
        facts=facts,
        explained=explained,
        body=body,
        asked=asked,
        can_be_canceled=facts.job.status in jobs.cancelable(kill=True),
        can_be_replayed=facts.job.status == "dlq" and not facts.job.resolved_at,
        command=command_line.line("explain", job_id, gates=True, payload=bool(asked)),
        story_command=command_line.line("timeline", job_id),
        cancel_command=command_line.line(
            "jobs", "cancel", job_id, kill=facts.job.status == "running"
        ),
    )


def cancel(call: Call) -> Response:
    """Cancel a job that waits or, if that is said, runs."""
    with writing(call) as repository:
        job_id = repository.jobs.find_job(call.path["job_id"])
        change = jobs.cancellation(repository, call.operator, kill=call.body["kill"])
        done = change.run([job_id], batch_size=1)
    return _told(call, job_id, done, "canceled", "It is canceled.")


def run_now(call: Call) -> Response:
    """Let a scheduled job be due now."""
    with writing(call) as repository:
        job_id = repository.jobs.find_job(call.path["job_id"])
        done = jobs.hastening(repository, call.operator).run([job_id], batch_size=1)
    return _told(call, job_id, done, "hastened", "It is due now.")


def _told(call: Call, job_id: str, done: Changed, verb: str, said: str) -> Response:
    left: Any = jobs.why_left(done, verb) if done.left else None
    flash = Flash(left.message, "bad") if left else Flash(said)
    return layout.go(call, f"/ui/jobs/{job_id}", flash)


ROUTES = (
    Route(
        "GET",
        "/ui/jobs",
        list_jobs,
        "Jobs.",
        query=(*query_filters.some(*FILTERS), _SLOW, _STUCK, *PAGE),
        of_page=True,
    ),
    Route(
        "GET",
        "/ui/jobs/<job_id>",
        show_job,
        "One job.",
        parameters=(ID,),
        query=(_PAYLOAD,),
        of_page=True,
    ),
    Route(
        "POST",
        "/ui/jobs/<job_id>/cancel",
        cancel,
        "Cancel a job.",
        parameters=(ID,),
        body=(_KILL,),
        of_page=True,
    ),
    Route(
        "POST",
        "/ui/jobs/<job_id>/run-now",
        run_now,
        "Let a scheduled job be due now.",
        parameters=(ID,),
        of_page=True,
    ),
)
