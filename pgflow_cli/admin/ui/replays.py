"""Replays: preview, canary, confirm; how far plans are; stop, resume, undo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from pgflow_cli.admin import query, query_filters
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.ui import command_line, layout
from pgflow_cli.admin.ui.dead_letters import FILTERS
from pgflow_cli.admin.ui.layout import PAGE, Flash, next_page, writing
from pgflow_cli.errors import Refused
from pgflow_cli.models.replays import (
    MOST,
    MOST_CANARIES,
    RATES,
    USUAL_MOST,
    ReplayPlan,
)
from pgflow_cli.models.selection import Position
from pgflow_cli.operations import replay_plans, replay_preview
from pgflow_cli.operations.dead_letters import SelectedJobs
from pgflow_cli.operations.replay_preview import Preview
from pgflow_cli.operations.replays import ReplayRequest

PLAN = Field("plan_id", query.whole(1, 2_147_483_647), "The number of a plan.")
_FAILED = 20  # jobs that a plan's page names
_SAFER = 5  # the canary that is proposed where many would be replayed
_HOW = ("canary", "rate", "to_queue", "patch", "again", "max")
_REQUEST = (
    Field("job_id", query_filters.JOB_ID, "Only these jobs.", many=True),
    Field("again", query.flag(), "Those that were replayed before, too.", False),
    Field("canary", query.whole(0, MOST_CANARIES), "Create so many and wait.", 0),
    Field("rate", query.number(*RATES), "So many become due in a second."),
    Field("to_queue", query_filters.QUEUE_NAME, "Into this queue."),
    Field("patch", query.text(most=65_536), "Merge this JSON into each payload."),
    Field("max", query.whole(1, MOST), "Refuse to replay more than this.", USUAL_MOST),
    *query_filters.some(*FILTERS),
)
_EXPECTED = Field("expected", query.whole(1, MOST), "What was shown.", required=True)


def list_plans(call: Call) -> Response:
    """List plans of replays, the newest first."""
    page = query_filters.page(call.query, query_filters.number_of)
    with call.reading() as repository:

        def fetch(limit: int, after: Position | None) -> list[ReplayPlan]:
            return repository.replays.list_replay_plans(limit=limit, after=after)

        rows, more = page.read(fetch, lambda plan: plan.position)
    return layout.page(
        call,
        "replays.html",
        title="Replays",
        plans=list(rows),
        more=next_page(call, more),
        typed=call.request.args,
        command="pgflow replay list",
    )


def show_plan(call: Call) -> Response:
    """Show how far a plan is and how its jobs have ended."""
    plan_id = int(call.path["plan_id"])
    with call.reading() as repository:
        plan = replay_plans.find(repository, plan_id)
        jobs = repository.replays.list_replays(plan_id, limit=_FAILED, after_place=0)
    return layout.page(
        call,
        "replay_plan.html",
        title=f"Replay {plan_id}",
        plan=plan,
        jobs=jobs,
        command=command_line.line("replay", "status", str(plan_id)),
    )


def preview(call: Call) -> Response:
    """Show what a replay would create; nothing is changed."""
    request, typed = _request(call, call.query), _typed(call.request.args)
    found, facts, too_many = SelectedJobs(), None, False
    with call.reading() as repository:
        try:
            found = request.find(repository)
            facts = request.preview(repository, found)
        except Refused as error:
            if error.reason_code != "TOO_MANY":
                raise
            too_many = True  # said where more can be allowed
    return layout.page(
        call,
        "replay_new.html",
        title="Replay: preview",
        facts=facts,
        sentences=[
            line.partition("  ")
            for line in (replay_preview.sentences(facts) if facts else ())
        ],
        warnings=list(replay_preview.warnings(facts)) if facts else [],
        complaints=list(found.complaints()),
        typed=typed,
        hidden=_hidden(typed, but=()),
        chosen=_hidden(typed, but=_HOW),
        count=len(found.job_ids),
        too_many=too_many,
        most=request.max,
        at_most=MOST,
        safer=_SAFER if facts and _wants_canary(facts) else None,
        command=_command(request, typed, dry_run=True),
        run_command=_command(request, typed),
    )


def start(call: Call) -> Response:
    """Make a plan of what was previewed, and run it behind this request."""
    request, typed = _request(call, call.body), _typed(call.request.form)
    with writing(call) as repository:
        found = request.find(repository)
        count = len(found.job_ids)
        if not count or count > call.body["expected"]:
            return _look_again(call, typed, count)
        plan = call.service.runners.start(
            lambda: request.start(
                repository,
                found,
                operator=call.operator,
                pause=call.service.ending.wait,
            )
        )
    what = "1 job" if count == 1 else f"{count:,} jobs"
    said = f"Replaying {what}. This page tells how it goes."
    return layout.go(call, f"/ui/replays/{plan.plan_id}", Flash(said))


def stop(call: Call) -> Response:
    """Let a plan create no more jobs."""
    with writing(call) as repository:
        replay_plans.stop(repository, call.path["plan_id"], operator=call.operator)
    return _back(call, "It creates no more jobs; those it has created stay.")


def resume(call: Call) -> Response:
    """Go on with a plan that was stopped, or whose run was killed."""
    plan_id = call.path["plan_id"]
    with writing(call) as repository:
        call.service.runners.start(
            lambda: replay_plans.take_over(repository, plan_id, operator=call.operator)
        )
    return _back(call, "It goes on.")


def undo(call: Call) -> Response:
    """Cancel the jobs of a plan that have not been tried, and reopen their sources."""
    with writing(call) as repository:
        done = replay_plans.undo(
            repository, call.path["plan_id"], operator=call.operator
        )
    return _back(call, f"Canceled {done.canceled:,} jobs that had not been tried.")


def _request(call: Call, values: Mapping[str, Any]) -> ReplayRequest:
    """Return the replay of a form: of jobs it names, else of all its filter fits."""
    ids, chosen = values["job_id"] or None, query_filters.job_filter(values)
    return ReplayRequest(
        ids=ids,
        chosen=chosen,
        all=ids is None and chosen.is_empty,
        **{name: values[name] for name in _HOW},
        max_payload_bytes=call.service.options.max_payload_bytes,
    )


def _typed(given: MultiDict[str, str]) -> dict[str, Any]:
    """Return the fields of a form, as they were typed."""
    typed = command_line.given(given, *FILTERS, *_HOW)
    ids = [job_id for job_id in given.getlist("job_id") if job_id]
    return {**typed, "job_id": ids} if ids else typed


def _command(request: ReplayRequest, typed: Mapping[str, Any], **more: Any) -> str:
    """Return the command that does the same."""
    how = {name: value for name, value in typed.items() if name != "job_id"}
    ids = request.ids or ()
    return command_line.line("replay", "run", *ids, all=request.all, **how, **more)


def _wants_canary(facts: Preview) -> bool:
    return facts.jobs > _SAFER and not facts.options.canary


def _hidden(typed: Mapping[str, Any], *, but: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the hidden fields that a form carries along, name by name."""
    return [
        (name, text)
        for name, value in typed.items()
        if name not in but
        for text in (value if isinstance(value, list) else [value])
    ]


def _look_again(call: Call, typed: Mapping[str, Any], count: int) -> Response:
    now = "none is left" if count == 0 else f"there are {count:,} now"
    said = f"Nothing was replayed: {now}. Look again before you confirm."
    return layout.go(call, "/ui/replays/new", Flash(said, "bad"), **typed)


def _back(call: Call, text: str) -> Response:
    return layout.go(call, f"/ui/replays/{call.path['plan_id']}", Flash(text))


def _change(verb: str, handler: Callable[[Call], Any], summary: str) -> Route:
    return Route(
        "POST",
        f"/ui/replays/<plan_id>/{verb}",
        handler,
        summary,
        parameters=(PLAN,),
        of_page=True,
    )


ROUTES = (
    Route(
        "GET",
        "/ui/replays",
        list_plans,
        "Plans of replays.",
        query=PAGE,
        of_page=True,
    ),
    Route(
        "GET",
        "/ui/replays/<plan_id>",
        show_plan,
        "How far a plan is.",
        parameters=(PLAN,),
        of_page=True,
    ),
    Route(
        "GET",
        "/ui/replays/new",
        preview,
        "What a replay would create.",
        query=_REQUEST,
        of_page=True,
    ),
    Route(
        "POST",
        "/ui/replays",
        start,
        "Replay what was previewed.",
        body=(*_REQUEST, _EXPECTED),
        of_page=True,
    ),
    _change("stop", stop, "Let a plan create no more jobs."),
    _change("resume", resume, "Go on with a plan."),
    _change("undo", undo, "Undo a plan."),
)
