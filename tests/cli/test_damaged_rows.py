"""A row of before the checks, or of a table that has none, hides no other row."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import RunsPgflow
from tests.jobs import plant
from tests.repository.test_audit import attempt, lease, unqueue

Connection = psycopg.Connection[Any]

BEYOND = ["-infinity", "infinity", "4000-01-01 BC", "20000-01-01"]
COMMANDS = (
    ("queues", "list"),
    ("jobs", "list"),
    ("doctor",),
    ("metrics",),
    ("top", "--once"),
)


@pytest.fixture
def unchecked(connection: Connection) -> Connection:
    """Take the checks away, as a database has none that was migrated before them."""
    for table, name in connection.execute(
        "select conrelid::regclass::text, conname from pg_constraint"
        " where contype = 'c' and coninhcount = 0"
        "  and conname in ('run_at_and_attempt_no_are_in_range', 'run_at_is_finite',"
        "   'run_at_lies_between_2000_and_9998',"
        "   'duration_is_not_negative')"
    ).fetchall():
        connection.execute(f"alter table {table} drop constraint {name}")
    return connection


@pytest.mark.parametrize("instant", BEYOND)
def test_an_instant_beyond_the_calendar_breaks_no_list(
    pgflow: RunsPgflow, unchecked: Connection, instant: str
) -> None:
    moved, born, held, tried, healthy = plant(unchecked, 5)
    unqueue(unchecked, held)
    lease(unchecked, held)
    attempt(unchecked, tried, "failed")
    for change, job_id in (
        ("pending set run_at = %s where job_id = %s", moved),
        ("jobs set created_at = %s where id = %s", born),
        ("leases set expires_at = %s where %s::uuid = any(job_ids)", held),
        ("job_attempts set finished_at = %s where job_id = %s", tried),
    ):
        unchecked.execute(f"update pgflow.{change}", (instant, job_id))
    asked = [("explain", job) for job in (moved, born, held, tried)]
    for command in (*COMMANDS, *asked, ("timeline", born), ("timeline", tried)):
        result = pgflow(*command)
        assert result.returncode in (0, 5), (command, result.stderr)
    assert healthy[-8:] in pgflow("jobs", "list").stdout
