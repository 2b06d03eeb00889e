"""Lists of jobs, and one job with its payload."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Response

from pgflow_cli.admin import query_filters, shapes
from pgflow_cli.admin.api import dead_letters
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.shapes import ANY, OBJECT, Shape, maybe
from pgflow_cli.formats import values
from pgflow_cli.inspection import job_list

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

JOB = dead_letters.JOB
WHOLE_JOB = Shape(
    "JobWithPayload",
    {**JOB.fields, "payload_json": ANY, "meta": maybe(OBJECT)},
    {**JOB.help, "payload_json": "Any JSON, digit by digit as it is stored."},
)


def list_jobs(call: Call) -> Any:
    """List jobs that fit a filter, newest first."""
    page = query_filters.page(call.query)
    with call.reading() as repository:
        chosen = repository.queues.resolve_queues(query_filters.job_filter(call.query))
        if chosen.statuses == ("dlq",):
            return dead_letters.listed(repository, chosen, page, resolved=False)
        jobs = job_list.JobList(repository, chosen, newest=True)
        listing = jobs.page(page.limit, page.after)
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


ROUTES = (
    Route(
        "GET",
        "/jobs",
        list_jobs,
        "List jobs, newest first.",
        about="Sorted by the time in the id, whatever the state, so a job never changes"
        " its place. since and until mean that time (with status=dlq, the time of"
        " death). A job in no state has the status null. With a status, resolved dead"
        " letters are left out. A page looks at 10,000 to 50,000 jobs and no further:"
        " where few of them fit the filter it may hold fewer than limit, even none, and"
        " still have a cursor to go on with. The list ends where the cursor is null.",
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
)
SHAPES = (JOB,)
