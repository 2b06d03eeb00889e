"""What is wrong with the database, its jobs and their upkeep."""

from __future__ import annotations

from typing import Any

from pgflow_cli.admin import shapes
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.service import READ_SECONDS
from pgflow_cli.admin.shapes import TEXT, Shape
from pgflow_cli.errors import TryLater
from pgflow_cli.inspection.diagnosis import FAIL, OK, WARN, Finding, checks

# Which files can be read is for the host's operators, not for all with a token.
_OF_THIS_HOST = {"upkeep.exposure"}
_CHECKS = tuple(name for name in checks.NAMES if name not in _OF_THIS_HOST)
FINDING = Shape(
    "Finding",
    {
        "check": TEXT,
        "result": shapes.one_of(OK, WARN, FAIL),
        "detail": TEXT,
        "fix": TEXT,
    },
    {"fix": "SQL or a command, to be copied as it stands; empty if all is well."},
)


def examine(call: Call) -> Any:
    """Run the checks of `pgflow doctor`."""
    return {"items": [FINDING.of(finding) for finding in findings(call)]}


def findings(call: Call) -> list[Finding]:
    """Return the findings of all checks that are not of this host.

    Each may wait seconds for a lock, and holds a thread of the server: so one
    examination at a time.
    """
    examining = call.service.examining
    if not examining.acquire(blocking=False):
        raise TryLater("another examination is under way")
    try:
        database = call.service.reading.database
        return [*checks.examine(database, _CHECKS, audit_seconds=READ_SECONDS)]
    finally:
        examining.release()


ROUTES = (
    Route(
        "GET",
        "/doctor",
        examine,
        "Find what is wrong with the database, its jobs and their upkeep.",
        about="Nothing is changed. An outage is a finding, too. One examination at a"
        " time; it takes seconds.",
        answer=shapes.list_of(FINDING),
    ),
)
SHAPES = (FINDING,)
