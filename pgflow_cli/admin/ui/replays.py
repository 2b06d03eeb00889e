"""Plans of replays: how far they are."""

from __future__ import annotations

from werkzeug.wrappers import Response

from pgflow_cli.admin import query, query_filters
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.ui import command_line, layout
from pgflow_cli.admin.ui.layout import PAGE, next_page
from pgflow_cli.models.replays import ReplayPlan
from pgflow_cli.models.selection import Position
from pgflow_cli.operations import replays

PLAN = Field("plan_id", query.whole(1, 2_147_483_647), "The number of a plan.")
_FAILED = 20  # jobs that a plan's page names


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
        plan = replays.find(repository, plan_id)
        jobs = repository.replays.list_replays(plan_id, limit=_FAILED, after_place=0)
    return layout.page(
        call,
        "replay_plan.html",
        title=f"Replay {plan_id}",
        plan=plan,
        jobs=jobs,
        command=command_line.line("replay", "status", str(plan_id)),
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
)
