"""Dead letters: what they have in common first, then each of them."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Response

from pgflow_cli.admin import query, query_filters
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.ui import command_line, layout
from pgflow_cli.admin.ui.layout import PAGE, next_page
from pgflow_cli.models.dead_letters import KEYS, DeadLetter
from pgflow_cli.models.selection import JobFilter, Position
from pgflow_cli.operations import dead_letters
from pgflow_cli.repository import Repository

FILTERS = (
    "queue", "job_type", "error_code", "reason", "fingerprint", "since", "until",
    "match", "replay_of",
)  # fmt: skip
_BY = Field("by", query.one_of(*KEYS), "What they have in common.", KEYS[0])
_RESOLVED = Field("resolved", query.flag(), "Resolved ones, too.", False)
# Which filter narrows to a group; code versions have none.
NARROWS = {
    "fingerprint": "fingerprint",
    "error-code": "error_code",
    "reason": "reason",
    "type": "job_type",
    "queue": "queue",
}
_GROUPS = 50


def list_dead_letters(call: Call) -> Response:
    """List groups of dead letters, then the dead letters, the latest death first."""
    page, by = query_filters.page(call.query), call.query["by"]
    resolved = call.query["resolved"]
    with call.reading() as repository:
        chosen = repository.queues.resolve_queues(query_filters.job_filter(call.query))
        groups = repository.dead_letters.group_dead_letters(
            chosen, by=by, limit=_GROUPS, include_resolved=resolved
        )
        rows, more = page.read(
            lambda limit, after: _fetch(repository, chosen, limit, after, resolved),
            lambda dead_letter: dead_letter.position,
        )
        shown = list(rows)
        footer = list(
            dead_letters.footer(
                repository, chosen, len(shown), include_resolved=resolved
            )
        )
    return layout.page(
        call,
        "dlq.html",
        title="Dead letters",
        groups=groups,
        letters=shown,
        footer=footer,
        more=next_page(call, more),
        by=by,
        narrows=NARROWS.get(by),
        keys=KEYS,
        **_typed(call),
    )


def _typed(call: Call) -> dict[str, Any]:
    typed = call.request.args
    active = command_line.given(typed, *FILTERS)
    resolved = call.query["resolved"]
    return {
        "typed": typed,
        "active": active,
        "command": command_line.line(
            "dlq", "list", include_resolved=resolved, **active
        ),
        "group_command": command_line.line(
            "dlq",
            "list",
            group=call.query["by"],
            include_resolved=resolved,
            **active,
        ),
    }


def _fetch(
    repository: Repository,
    chosen: JobFilter,
    limit: int,
    after: Position | None,
    resolved: bool,
) -> list[DeadLetter]:
    return repository.dead_letters.list_dead_letters(
        chosen, limit=limit, after=after, include_resolved=resolved
    )


ROUTES = (
    Route(
        "GET",
        "/ui/dlq",
        list_dead_letters,
        "Dead letters.",
        query=(_BY, _RESOLVED, *query_filters.some(*FILTERS), *PAGE),
        of_page=True,
    ),
)
