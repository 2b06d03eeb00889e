"""Replays: of one dead letter at once, of many by a plan; plans, how far they are."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pgflow_cli.admin import query, query_filters, shapes
from pgflow_cli.admin.api.enqueue import MAX_ATTEMPTS, PRIORITY
from pgflow_cli.admin.api.jobs import ID_IN_PATH
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Answer, Call, Route
from pgflow_cli.admin.shapes import ID, NUMBER, TEXT, TEXTS, TIME, WHOLE, Shape, maybe
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.replays import MOST, MOST_CANARIES, RATES, USUAL_MOST
from pgflow_cli.operations import replay_plans, replay_preview
from pgflow_cli.operations.dead_letters import SelectedJobs
from pgflow_cli.operations.replay_preview import Preview
from pgflow_cli.operations.replays import ReplayRequest

PLAN_IN_PATH = Field(
    "plan", query.whole(1, query_filters.MOST_NUMBER), "The number of the plan."
)
NO_PLAN = {404: "There is no such plan."}
_COUNTED = 20_000  # jobs of all the plans of a page whose ends are counted
_ENDS = ("waiting", "succeeded", "failed")
PLAN = Shape(
    "ReplayPlan",
    {
        "plan_id": WHOLE,
        "state": shapes.one_of("running", "stopped", "finished", "undone"),
        "selected": WHOLE,
        "created": WHOLE,
        "waiting": WHOLE,
        "succeeded": WHOLE,
        "failed": WHOLE,
        "canary": WHOLE,
        "eta_seconds": maybe(NUMBER),
        "canary_state": maybe(
            shapes.one_of("waiting", "passed", "failed", "undecided")
        ),
        "created_at": TIME,
    },
    {
        "selected": "Dead letters that it is about.",
        "created": "Jobs that it has created and not undone.",
        "waiting": "Of those, how many have neither begun nor ended.",
        "canary": "How many jobs come first and must succeed.",
        "eta_seconds": "Until the last of its jobs is due.",
    },
)  # fmt: skip
LISTED_PLAN = Shape(
    "ListedReplayPlan",
    {
        name: maybe(schema) if name in _ENDS else schema
        for name, schema in PLAN.fields.items()
    },
    {
        **PLAN.help,
        "waiting": "Like succeeded and failed, null where a page has too many jobs to"
        " count; GET /replays/:plan has them.",
    },
)
_HOW = (
    Field("run_at", query.moment("future"), "Not before this time."),
    Field("max_attempts", MAX_ATTEMPTS, "Not what they had."),
    Field("priority", PRIORITY, "Not what they had."),
    Field(
        "patch",
        query.anything(),
        "Merged into each payload (RFC 7396): null removes a field.",
    ),
    Field("again", query.flag(), "Those that were replayed before, too.", False),
)
_FILTER = query_filters.some(
    "queue", "job_type", "error_code", "reason", "fingerprint", "since", "until",
    "match", "replay_of",
)  # fmt: skip
_WHICH = (
    Field("ids", query_filters.FULL_ID, "Full ids of jobs.", many=True),
    Field(
        "filter",
        query.part(_FILTER, what="filter"),
        "Instead of ids: the dead letters it fits.",
    ),
    Field("all", query.flag(), "Instead of both: every open dead letter.", False),
    Field("any_status", query.flag(), "With ids: ended jobs, too.", False),
    Field("oldest_first", query.flag(), "Of a filter; false: the latest death first."),
    Field("limit", query.whole(1, MOST), "Replay no more than this."),
    Field("max", query.whole(1, MOST), "Refuse to replay more than this.", USUAL_MOST),
)
_PACE = (
    Field("dry_run", query.flag(), "Change nothing; say what would be.", True),
    Field("rate", query.number(*RATES), "How many become due in a second."),
    Field("spread", query.length(1, 31_536_000), "Over how much time they do."),
    Field(
        "canary",
        query.whole(1, MOST_CANARIES),
        "Create so many first, and wait for them.",
    ),
    Field(
        "canary_timeout", query.length(0.1, 86_400), "How long they may take.", 120.0
    ),
    Field(
        "to_queue", query_filters.QUEUE_NAME, "Into this queue, not that they were in."
    ),
)
# Of them, those that a request has under the same name.
_NAMES = {each.name for each in (*_WHICH, *_PACE, *_HOW)} - {"ids", "filter", "dry_run"}
REPLAYED = Shape("Replayed", {"new_job_id": ID, "replay_of_job_id": ID})
TYPE = Shape(
    "ReplayedType",
    {
        "queue": TEXT,
        "job_type": TEXT,
        "jobs": WHOLE,
        "oldest_seconds": NUMBER,
        "newest_seconds": NUMBER,
    },
    {"oldest_seconds": "How long ago the first of them died."},
)
CHECKS = Shape(
    "ReplayChecks",
    {
        "without_handler": TEXTS,
        "payloads_too_large": WHOLE,
        "keys_taken": WHOLE,
        "queues_paused": TEXTS,
    },
    {"without_handler": "Types that no live worker of their queue takes."},
)
PREVIEW = Shape(
    "ReplayPreview",
    {
        "selected": WHOLE,
        "skipped": WHOLE,
        "failed": WHOLE,
        "types": shapes.array(TYPE.reference),
        "checks": CHECKS.reference,
        "eta_seconds": NUMBER,
        "lines": TEXTS,
        "problems": TEXTS,
    },
    {
        "skipped": "Of the ids: done already.",
        "failed": "Of the ids: no dead letters.",
        "eta_seconds": "From the first to the last of them.",
        "lines": "The same for a person to read.",
        "problems": "Why ids were left out; not all of them, if there are many.",
    },
)
STARTED = Shape(
    "StartedReplay",
    {"plan_id": WHOLE, "selected": WHOLE, "skipped": WHOLE, "failed": WHOLE},
)


def list_replays(call: Call) -> Any:
    """List plans of replays, newest first."""
    page = query_filters.page(call.query, query_filters.number_of)
    with call.reading() as repository:
        rows, more = page.read(
            lambda limit, after: repository.replays.list_replay_progress(
                limit=limit, after=after, counted=_COUNTED
            ),
            lambda row: row.position,
        )
        return shapes.page(LISTED_PLAN, rows, more)


def show_replay(call: Call) -> Any:
    """Tell how far a plan is and how its jobs have ended."""
    with call.reading() as repository:
        return PLAN.of(replay_plans.find(repository, call.path["plan"]))


def replay_job(call: Call) -> Any:
    """Replay one dead letter as a new job."""
    body = {**call.body, "to_queue": call.body["queue"]}
    request = _request(call, body, ids=[call.path["job_id"]])
    with call.writing() as repository:
        migrations.require_current(repository)
        new_job_id, source = request.replay_one(
            repository, operator=call.operator, pause=call.service.ending.wait
        )
    return REPLAYED.of({"new_job_id": new_job_id, "replay_of_job_id": source})


def start_replay(call: Call) -> Any:
    """Say what a replay of many would do, or begin it."""
    body = call.body
    request = _request(
        call,
        body,
        ids=body["ids"] or None,
        chosen=query_filters.job_filter(body["filter"] or {}),
    )
    with call.writing() as repository:
        migrations.require_current(repository)
        found = request.find(repository)
        if body["dry_run"]:
            return _preview(request.preview(repository, found), found)
        plan = call.service.runners.start(
            lambda: request.start(
                repository,
                found,
                operator=call.operator,
                pause=call.service.ending.wait,
            )
        )
    document = {
        "plan_id": plan.plan_id,
        "selected": len(found.job_ids),
        "skipped": len(found.skipped),
        "failed": len(found.failed),
    }
    return Answer(HTTPStatus.ACCEPTED, STARTED.of(document))


def stop_replay(call: Call) -> Any:
    """Let a plan create no more jobs; those it has created stay."""
    with call.writing() as repository:
        migrations.require_current(repository)
        replay_plans.stop(repository, call.path["plan"], operator=call.operator)
        return PLAN.of(replay_plans.find(repository, call.path["plan"]))


def resume_replay(call: Call) -> Any:
    """Go on with a plan that was stopped, or whose run was killed."""
    plan_id = call.path["plan"]
    with call.writing() as repository:
        migrations.require_current(repository)
        call.service.runners.start(
            lambda: replay_plans.take_over(repository, plan_id, operator=call.operator)
        )
        return PLAN.of(replay_plans.find(repository, plan_id))


def undo_replay(call: Call) -> Any:
    """Stop a plan, cancel its jobs that were not tried, and reopen their sources."""
    plan_id = call.path["plan"]
    with call.writing() as repository:
        migrations.require_current(repository)
        replay_plans.undo(repository, plan_id, operator=call.operator)
        return PLAN.of(replay_plans.find(repository, plan_id))


def _request(call: Call, given: Mapping[str, Any], **which: Any) -> ReplayRequest:
    """Return the replay of a body; `which` says which jobs."""
    return ReplayRequest(
        **which,
        **{name: given[name] for name in _NAMES & given.keys()},
        max_payload_bytes=call.service.options.max_payload_bytes,
    )


def _preview(facts: Preview, found: SelectedJobs) -> dict[str, Any]:
    return PREVIEW.of(
        {
            **replay_preview.record(facts),
            "lines": [*replay_preview.lines(facts)],
            "problems": [*found.complaints()],
        }
    )


_IN_ANOTHER_STATE = {409: "Its state does not allow it: PLAN_OVER."}
_BY_PLAN = {**NO_PLAN, **_IN_ANOTHER_STATE}
ROUTES = (
    Route(
        "GET",
        "/replays",
        list_replays,
        "List plans of replays, newest first.",
        query=query_filters.PAGE,
        answer=shapes.page_of(LISTED_PLAN),
    ),
    Route(
        "GET",
        "/replays/<plan>",
        show_replay,
        "Tell how far a plan is and how its jobs have ended.",
        parameters=(PLAN_IN_PATH,),
        answer=PLAN,
        errors=NO_PLAN,
    ),
    Route(
        "POST",
        "/jobs/<job_id>/replay",
        replay_job,
        "Replay a dead letter as a new job.",
        about="At once, and the same as before, unless the body says otherwise. What"
        " the job did before it died is unknown, and may happen again.",
        parameters=(ID_IN_PATH,),
        body=(
            Field("queue", query_filters.QUEUE_NAME, "Not the one it was in."),
            *_HOW,
        ),
        answer=REPLAYED,
        errors={
            404: "There is no such job.",
            409: "It has been replayed (ALREADY_REPLAYED, with replay_job_id), is no"
            " dead letter or was discarded (NOT_REPLAYABLE), or the id is ambiguous.",
            413: "Its payload is larger than the queue takes today. Or the body is.",
        },
    ),
    Route(
        "POST",
        "/replays",
        start_replay,
        "Say what a replay of many dead letters would do, or with dry_run false begin"
        " it.",
        about="A run goes on in the background; its plan outlives this server, and can"
        f" be stopped, resumed and undone. More than {USUAL_MOST:,} jobs are refused"
        f" unless max allows more, up to {MOST:,}.",
        body=(*_WHICH, *_PACE, *_HOW),
        answer=PREVIEW,
        others={202: STARTED},
        errors={
            404: "The one job that is named does not exist.",
            409: "More than max (TOO_MANY), none at all (NOTHING_TO_REPLAY), or the one"
            " job that is named cannot be replayed.",
            503: "The database does not answer, or this server runs as many plans as"
            " it may.",
        },
    ),
    Route(
        "POST",
        "/replays/<plan>/stop",
        stop_replay,
        "Let a plan create no more jobs; those it has created stay.",
        parameters=(PLAN_IN_PATH,),
        answer=PLAN,
        errors=_BY_PLAN,
    ),
    Route(
        "POST",
        "/replays/<plan>/resume",
        resume_replay,
        "Go on with a plan that was stopped, or whose run was killed.",
        about="This server runs it from now on; another's run of it ends.",
        parameters=(PLAN_IN_PATH,),
        answer=PLAN,
        errors={
            **_BY_PLAN,
            503: "The database does not answer, or this server runs as many plans as"
            " it may.",
        },
    ),
    Route(
        "POST",
        "/replays/<plan>/undo",
        undo_replay,
        "Stop a plan, cancel its jobs that were not tried, reopen their dead letters.",
        parameters=(PLAN_IN_PATH,),
        answer=PLAN,
        errors=NO_PLAN,
    ),
)
SHAPES = (PLAN, LISTED_PLAN, TYPE, CHECKS)
