"""Plans of replays: how far they are."""

from __future__ import annotations

from werkzeug.wrappers import Response

from pgflow_cli.admin import filters, kinds
from pgflow_cli.admin.calls import Call
from pgflow_cli.admin.fields import Field
from pgflow_cli.admin.pages import commands, frame
from pgflow_cli.admin.pages.pager import PAGE, next_page
from pgflow_cli.admin.routes import Route
from pgflow_cli.models.replays import ReplayPlan
from pgflow_cli.models.selection import Position
from pgflow_cli.operations import replays

PLAN = Field("plan_id", kinds.whole(1, 2_147_483_647), "The number of a plan.")
_FAILED = 20  # jobs that a plan's page names


def list_plans(call: Call) -> Response:
    """List plans of replays, the newest first."""
    page = filters.page(call.query, filters.number_of)
    with call.reading() as repository:

        def fetch(limit: int, after: Position | None) -> list[ReplayPlan]:
            return repository.list_replay_plans(limit=limit, after=after)

        rows, more = page.read(fetch, lambda plan: plan.position)
    return frame.page(
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
        jobs = repository.list_replays(plan_id, limit=_FAILED, after_place=0)
    return frame.page(
        call,
        "replay_plan.html",
        title=f"Replay {plan_id}",
        plan=plan,
        jobs=jobs,
        command=commands.line("replay", "status", str(plan_id)),
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
