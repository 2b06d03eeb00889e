"""What a replay may ask for, and what excludes each other, in its sender's words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pgflow_cli.cli.changes import flag
from pgflow_cli.errors import UsageError
from pgflow_cli.formats.times import Instant
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.operations.replays import ReplayRequest

LATER = Instant(at=datetime(2031, 1, 1, tzinfo=UTC))
EMAILS = JobFilter(queues=("emails",))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "which jobs?"),
        ({"ids": ["a"], "all": True}, "not several of them"),
        ({"ids": [], "chosen": EMAILS}, "not several of them"),
        ({"all": True, "chosen": EMAILS}, "--all and a filter exclude each other"),
        ({"all": True, "any_status": True}, "--any-status takes ids"),
        ({"ids": ["a"], "oldest_first": True}, "in the order in which they are given"),
        (
            {"all": True, "run_at": LATER, "delay": 0.0},
            "--run-at and --in exclude each other",
        ),
        ({"all": True, "canary": 1, "delay": 0.0}, "--canary runs now"),
        ({"all": True, "canary": 1, "run_at": LATER}, "--canary runs now"),
        (
            {"all": True, "rate": 1.0, "spread": 1.0},
            "--rate and --spread exclude each other",
        ),
        ({"all": True, "patch": "{"}, "--patch"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_excludes_each_other_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ReplayRequest(**fields, name=flag)


def test_no_ids_from_a_pipe_are_a_choice() -> None:
    assert ReplayRequest(ids=[]).ids == []


@pytest.mark.parametrize(
    ("pace", "count", "apart"),
    [
        ({}, 5, 0.0),
        ({"rate": 20.0}, 5, 0.05),
        ({"spread": 80.0}, 8, 10.0),
        ({"spread": 80.0}, 0, 80.0),
    ],
)
def test_the_time_between_two_jobs(
    pace: dict[str, float], count: int, apart: float
) -> None:
    request = ReplayRequest(all=True, **pace)  # type: ignore[arg-type]
    assert request.options(count).seconds_apart == apart


def test_a_canary_must_be_able_to_end_in_time() -> None:
    request = ReplayRequest(all=True, canary=9, rate=0.01, name=flag)
    with pytest.raises(UsageError, match=r"after 800s; .* --canary-timeout"):
        request.options(100)
    at_last = ReplayRequest(all=True, canary=9, rate=0.01, canary_timeout=800.0)
    assert at_last.options(100).canary_seconds == 800.0


def test_a_time_from_now_is_a_delay_of_the_database() -> None:
    soon = Instant(offset=timedelta(hours=2))
    options = ReplayRequest(all=True, run_at=soon).options(1)
    assert (options.run_at, options.delay) == (None, 7200.0)
