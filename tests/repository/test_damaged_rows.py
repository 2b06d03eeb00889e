"""A person changes a row by hand: what would stop a queue is refused by name."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from tests.support.jobs import plant

Connection = psycopg.Connection[Any]

BEYOND = ["-infinity", "infinity", "4000-01-01 BC", "20000-01-01"]
# Written by each lease or each enqueue, where a check costs more than it is worth, and
# only read: tests/cli/test_damaged_rows.py. `migrations` is made by no migration.
READ_ONLY = {
    *("jobs", "job_attempts", "job_successes", "leases"),
    *("jobs_archive", "job_attempts_archive", "job_successes_archive"),
}


@pytest.mark.parametrize("instant", BEYOND)
def test_no_entry_waits_for_an_instant_that_a_lease_cannot_compute_with(
    connection: Connection, instant: str
) -> None:
    (job_id,) = plant(connection)
    with pytest.raises(errors.CheckViolation) as refused:
        connection.execute(
            "update pgflow.pending set run_at = %s where job_id = %s",
            (instant, job_id),
        )
    assert refused.value.diag.constraint_name == "run_at_and_attempt_no_are_in_range"


@pytest.mark.parametrize("number", [2147483647, -1])
def test_no_entry_has_a_number_that_a_lease_cannot_count_on(
    connection: Connection, number: int
) -> None:
    (job_id,) = plant(connection)
    with pytest.raises(errors.CheckViolation) as refused:
        connection.execute(
            "update pgflow.pending set attempt_no = %s where job_id = %s",
            (number, job_id),
        )
    assert refused.value.diag.constraint_name == "run_at_and_attempt_no_are_in_range"


def test_every_other_instant_is_bounded_by_a_check(connection: Connection) -> None:
    columns = connection.execute(
        "select relname, attname, pg_get_expr(adbin, adrelid) from pg_class"
        " join pg_attribute on attrelid = pg_class.oid"
        " left join pg_attrdef on adrelid = attrelid and adnum = attnum"
        " where relnamespace = 'pgflow'::regnamespace and relkind in ('r', 'p')"
        "  and atttypid = 'timestamptz'::regtype and not relispartition"
        "  and relname <> 'migrations'"
    ).fetchall()
    bounded = {
        (table, column)
        for table, column in connection.execute(
            "select relname, attname from pg_constraint"
            " join pg_class on pg_class.oid = conrelid"
            " join pg_attribute on attrelid = conrelid and attnum = any(conkey)"
            " where contype = 'c'"
            "  and conname ~ 'lies?_(between|after)_2000|are_in_range'"
        ).fetchall()
    }
    wanted = {(table, column) for table, column, _ in columns if table not in READ_ONLY}
    assert wanted
    assert wanted <= bounded


@pytest.mark.parametrize(
    ("instant", "taken"),
    [("infinity", True), ("-infinity", False), ("20000-01-01", False)],
)
def test_a_pause_may_be_without_end_and_no_other_instant(
    connection: Connection, instant: str, *, taken: bool
) -> None:
    pause = sql.SQL(
        "insert into pgflow.queue_policies (queue, paused_until) values ('q', {})"
    ).format(instant)
    if taken:
        connection.execute(pause)
        return
    with pytest.raises(errors.CheckViolation, match="paused_until_lies_after_2000"):
        connection.execute(pause)
