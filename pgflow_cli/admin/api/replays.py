"""Plans of replays, and how far they are."""

from __future__ import annotations

from typing import Any

from pgflow_cli.admin import query, query_filters, shapes
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.shapes import NUMBER, TIME, WHOLE, Shape, maybe
from pgflow_cli.operations import replays

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
        "state": shapes.word("running", "stopped", "finished", "undone"),
        "selected": WHOLE,
        "created": WHOLE,
        "waiting": WHOLE,
        "succeeded": WHOLE,
        "failed": WHOLE,
        "canary": WHOLE,
        "eta_seconds": maybe(NUMBER),
        "canary_state": maybe(
            shapes.word("waiting", "passed", "failed", "undecided")
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
        return PLAN.of(replays.find(repository, call.path["plan"]))


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
)
SHAPES = (PLAN, LISTED_PLAN)
