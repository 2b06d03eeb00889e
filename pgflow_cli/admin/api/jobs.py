"""Jobs: lists, one with its payload, why it is where it is; cancels one."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Response

from pgflow_cli.admin import query, query_filters, shapes
from pgflow_cli.admin.api import dead_letters, job_shapes
from pgflow_cli.admin.api.job_shapes import (
    ATTEMPT,
    CANCELED,
    EXPLANATION,
    JOB,
    RELATED,
    REPLAYS,
    STORY,
    TIMELINE,
    WHOLE_JOB,
)
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.formats import values
from pgflow_cli.inspection import explanation, job_list
from pgflow_cli.inspection.explanation import Explanation, document
from pgflow_cli.maintenance import migrations
from pgflow_cli.operations import jobs

ID_IN_PATH = Field(
    "job_id",
    query_filters.JOB_ID,
    "A job's id, or its last 6 or more digits. Those are looked up among dead letters,"
    " running and waiting jobs, then among all jobs of the last day.",
)
NOT_ONE_JOB = {
    404: "There is no such job.",
    409: "Several ids end like that; `candidates` has them.",
}
_KILL = Field("kill", query.flag(), "A running one, too; its worker stops it.", False)


def list_jobs(call: Call) -> Any:
    """List jobs that fit a filter, newest first."""
    page = query_filters.page(call.query)
    with call.reading() as repository:
        chosen = repository.queues.resolve_queues(query_filters.job_filter(call.query))
        if chosen.statuses == ("dlq",):
            return dead_letters.listed(repository, chosen, page, resolved=False)
        found = job_list.JobList(repository, chosen, newest=True)
        listing = found.page(page.limit, page.after)
    return shapes.page(JOB, listing.jobs, listing.more)


def show_job(call: Call) -> Response:
    """Return one job with its payload and meta."""
    with call.reading() as repository:
        found = repository.jobs.find_listed_job(
            repository.jobs.find_job(call.path["job_id"])
        )
        payload, meta = repository.jobs.read_job_body(found.id)
    # As PostgreSQL has written it: Python would round a number that is long enough.
    body = f', "payload_json": {payload}, "meta": {meta or "null"}}}'
    text = values.json_of(JOB.of(found)).removesuffix("}") + body
    return Response(text, content_type="application/json")


def explain_job(call: Call) -> Any:
    """Explain why a job is where it is."""
    found = EXPLANATION.of(document.explanation(_explained(call)))
    replays = REPLAYS.of(found["replays"])
    replays["chain"] = [RELATED.of(job) for job in replays["chain"]]
    return found | {"replays": replays}


def job_timeline(call: Call) -> Any:
    """Tell what has happened to a job."""
    found = TIMELINE.of(document.timeline(_explained(call)))
    return found | {
        "attempts": [ATTEMPT.of(attempt) for attempt in found["attempts"]],
        "story": [STORY[entry["kind"]].of(entry) for entry in found["story"]],
    }


def _explained(call: Call) -> Explanation:
    with call.reading() as repository:
        job_id = repository.jobs.find_job(call.path["job_id"])
        facts = repository.explanation.describe_job(job_id, attempts=None)
    return explanation.explain(facts)


def cancel_job(call: Call) -> Any:
    """Cancel a job: it never runs again."""
    with call.writing() as repository:
        migrations.require_current(repository)
        job_id = repository.jobs.find_job(call.path["job_id"])
        change = jobs.cancellation(repository, call.operator, kill=call.body["kill"])
        done = change.run([job_id], batch_size=1)
    if done.left:
        raise jobs.why_left(done, "canceled", insist='"kill": true')
    return CANCELED.of({"job_id": job_id, "status": "canceled"})


ROUTES = (
    Route(
        "GET",
        "/jobs",
        list_jobs,
        "List jobs, newest first.",
        about="Sorted by the time in the id, whatever the state, so a job never changes"
        " its place. since and until mean that time (with status=dlq, the time of"
        " death). A job is nowhere if what said where it is has been lost. With a"
        " status, resolved dead letters are left out. A page looks at 10,000 to 50,000"
        " jobs and no further: where few of them fit the filter it may hold fewer than"
        " limit, even none, and still have a cursor to go on with. The list ends where"
        " the cursor is null.",
        query=(
            *query_filters.some(
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
            *query_filters.PAGE,
        ),
        answer=shapes.page_of(JOB),
    ),
    Route(
        "GET",
        "/jobs/<job_id>",
        show_job,
        "Return one job with its payload and meta.",
        parameters=(ID_IN_PATH,),
        answer=WHOLE_JOB,
        errors=NOT_ONE_JOB,
    ),
    Route(
        "GET",
        "/jobs/<job_id>/explain",
        explain_job,
        "Explain why a job is where it is, and what to do.",
        parameters=(ID_IN_PATH,),
        answer=EXPLANATION,
        errors=NOT_ONE_JOB,
    ),
    Route(
        "GET",
        "/jobs/<job_id>/timeline",
        job_timeline,
        "Tell what has happened to a job.",
        parameters=(ID_IN_PATH,),
        answer=TIMELINE,
        errors=NOT_ONE_JOB,
    ),
    Route(
        "POST",
        "/jobs/<job_id>/cancel",
        cancel_job,
        "Cancel a job that waits, with kill a running one, too.",
        parameters=(ID_IN_PATH,),
        body=(_KILL,),
        answer=CANCELED,
        errors={
            404: "There is no such job.",
            409: "It is in another state (WRONG_STATE), or the id is ambiguous.",
        },
    ),
)
SHAPES = job_shapes.SHAPES
