"""Each condition of the statements that move jobs makes a difference to a scenario."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgflow_cli.repository import sqlfiles
from tests.conftest import cloned
from tests.support.servers import Database, Server
from tests.trials import world
from tests.trials.scenarios import SCENARIOS, Bench
from tests.trials.terms import FUNCTIONS, STATEMENTS, mutants, unnoticed

# Terms without which everything still ends right, and what each is there for.
_INDEX = "the key of an index: without it the same row is sought among all rows"
_ORDER = "says what is locked first; the executor happens to do so anyway"
_WAITS = "says what comes first: tests/repository/test_successes.py"
_FIRST_ATTEMPT = "false for nearly every job: then no partition is opened"
_LOCKED = "no other leases than the locked ones: another order of sessions needs it"

_AGAIN = "asked while locking already; once more for the row as it is by now"
_COST = "only how much is read or written"
_DAYS = "names the partitions; which jobs they are is decided before"
_ALL_DAYS = "strays are of no day: the range that is sent has every id"
_LAST = f"{_COST}: of a row that keeps a job nothing goes"
_STRAYS = {
    "id >= CAST($4 AS uuid)": _ALL_DAYS,
    "id < CAST($5 AS uuid)": _ALL_DAYS,
    "job_id >= CAST($4 AS uuid)": _ALL_DAYS,
    "job_id < CAST($5 AS uuid)": _ALL_DAYS,
    "day = ANY(ARRAY(SELECT day FROM ripe))": _INDEX,
}
# The fragment that finds the success of a job.
_OF_A_JOB = {
    "success.day = made.milliseconds / 86400000": _INDEX,
    "success.id_times @> made.milliseconds": _INDEX,
}
# The fragment that takes successes out of their rows.
_SHRUNK = {
    "NOT bool_and(keeps.it)": f"{_COST}: such a row is written as it was",
    "rest.job_ids IS NOT NULL": "what is deleted is not written, whichever comes first",
}
_HAS_SUCCEEDED = next(
    mutant.term
    for mutant in mutants("undo_replays")
    if mutant.term.startswith("NOT EXISTS (SELECT FROM (SELECT sought.new_job_id")
)

# The fragment that finds the rows of jobs that wait.
_FINDS = {
    "job.status IN ('queued', 'scheduled')": "others have no row in pending",
    "overview.id = wanted.id": _INDEX,
    "ranks.queue = seen.queue": _INDEX,
    "pending.queue = ranks.queue": _INDEX,
    "pending.rank = ranks.rank": _INDEX,
    "pending.run_at = seen.run_at": _INDEX,
    "pending.queue = located.queue": _INDEX,
    "pending.rank = located.rank": _INDEX,
    "pending.run_at = located.run_at": _INDEX,
}
_MADE = f"{_COST}: an id that the database makes is new"
_UNDONE = "what it would write, the refusal undoes"
SPARED = {
    "enqueue_many": {
        "NOT EXISTS (SELECT FROM problems)": _UNDONE,
        "NOT EXISTS (SELECT FROM too_large)": _UNDONE,
        "NOT EXISTS (SELECT FROM charges WHERE room IS NOT NULL)": _UNDONE,
        "parsed.bytes > names.size_limit OR parsed.meta_bytes > 16384": (
            f"{_COST}: what exceeds no limit is not said to"
        ),
        "bytes <= 16777216": "of 16 MiB: tests/repository/test_enqueue_many.py",
        "id_is_given": _MADE,
        "pending.queue = jobs.queue": _INDEX,
        "pending.rank = - jobs.priority": _INDEX,
        "pending.run_at = jobs.run_at": _INDEX,
    },
    "settle_and_lease": {
        "taken.attempt_no > 0": _FIRST_ATTEMPT,
        "(SELECT count(*) FROM returned) >= 0": _WAITS,
        "(SELECT count(*) FROM buried) >= 0": _WAITS,
        "pending.rank = place.rank": _INDEX,
        "pending.rank = place.rank [2]": _INDEX,
    },
    "settle_and_enqueue": {"leased_at IS NOT NULL": "each has a lease here"},
    "is_settled": {
        "success.day = milliseconds / 86400000": _INDEX,
        "success.id_times @> milliseconds": _INDEX,
    },
    "lease_limited": {
        "taken.attempt_no > 0": _FIRST_ATTEMPT,
        "pending.rank = place.rank": _INDEX,
        "pending.rank = place.rank [2]": _INDEX,
    },
    "take_over_job": {"taken.attempt_no > 0": _FIRST_ATTEMPT},
    "beat": {"(SELECT count(*) FROM extended) >= 0": _ORDER},
    "end_leases": {
        "job_id IN (SELECT job_id FROM recorded) [2]": (
            "only interrupted leases are canceled, and of those every job has started"
        ),
    },
    "cancel_running_jobs": {
        "leases.lease_id = ANY(CAST(CAST($1 AS text) AS uuid[]))": _LOCKED,
        "held.lease_id = ANY(CAST(CAST($1 AS text) AS uuid[]))": _LOCKED,
    },
    "cancel_waiting_jobs": _FINDS,
    "reprioritize_jobs": _FINDS,
    "run_jobs_now": _FINDS,
    "create_replays": {
        "EXISTS (SELECT FROM plan)": f"{_COST}: without a plan nothing is made of it",
        "numbered.is_dead": "no dead letter has the id of a job that is none",
        "job_id = ANY(ARRAY(SELECT source_job_id FROM chunk))": (
            f"{_COST}: the others are joined with nothing"
        ),
        "problem IS NOT NULL": "null is in no list, nor out of one",
    },
    "undo_replays": {
        "queue IS NULL": f"{_COST}: found twice, removed once",
        **_OF_A_JOB,
        "wanted.id = ANY(success.job_ids)": f"{_COST}: it has no row in pending",
        _HAS_SUCCEEDED: f"{_COST}: such a job has no row in pending",
        **{
            f"NOT EXISTS (SELECT FROM pgflow.{there} OFFSET 0)": (
                f"{_COST}: such a job has no row in pending"
            )
            for there in (
                "job_attempts WHERE job_attempts.job_id = sought.new_job_id",
                "canceled_jobs WHERE canceled_jobs.job_id = sought.new_job_id",
                "leases WHERE leases.job_ids @> ARRAY[sought.new_job_id]",
            )
        },
        "queue IS NOT NULL": "a null key finds nothing",
        "EXISTS (SELECT FROM missing)": f"{_COST}: pending is not read for nothing",
        "missing.new_job_id = pending.job_id": f"{_COST}: `locked` asks for the key",
        **{
            f"pending.{column} = {where}.{column}": _INDEX
            for column in ("queue", "rank", "run_at")
            for where in ("locked", "found")
        },
        "pending.queue = ranks.queue": _INDEX,
        "pending.rank = ranks.rank": _INDEX,
        "pending.run_at = COALESCE(moved.run_at, job.run_at)": _INDEX,
        "ranks.queue = job.queue": _INDEX,
        "moved.job_id = job.id": f"{_COST}: what is not found so is searched for",
        "source.job_id = removed.source_job_id": _INDEX,
    },
    "lock_replay_items": {"(SELECT count(*) FROM siblings) >= 0": _ORDER},
    "delete_dead_letters": {
        "job_id = ANY(CAST($1 AS uuid[])) [2]": _INDEX,
        "id = ANY(CAST($1 AS uuid[]))": _INDEX,
    },
    "discard_dead_letters": {"dead.resolved_at IS NULL": _AGAIN},
    "purge_dead_letters": {"dead_letters.resolved_at IS NULL": _AGAIN},
    "purge_pending": {"pending.rank = places.rank": _INDEX},
    "archive_stray_jobs": _STRAYS,
    "archive_jobs_of_day": {
        "id >= CAST($5 AS uuid)": _DAYS,
        "id < CAST($6 AS uuid)": _DAYS,
        "job_id >= CAST($5 AS uuid)": _DAYS,
        "job_id < CAST($6 AS uuid)": _DAYS,
        "day = ANY(ARRAY(SELECT day FROM ripe))": _INDEX,
    },
    "prune_archived_jobs": {
        **_OF_A_JOB,
        "first_id < pgflow.least_id(CAST($2 AS timestamptz))": _INDEX,
        "removed.id = ANY(success.job_ids)": _LAST,
        "EXISTS (SELECT FROM removed WHERE removed.id = ANY(success.job_ids))": _LAST,
    },
    "prune_canceled_jobs": {
        "canceled_at < CAST(CAST($1 AS text) AS timestamptz) [2]": _AGAIN
    },
    "remove_archived_copies": _SHRUNK,
    "remove_reloaded_jobs": _SHRUNK,
    "trim_interrupted_leases": _OF_A_JOB,
    "remove_second_entries": {
        **_OF_A_JOB,
        "leases.job_ids @> ARRAY[entry.job_id]": _INDEX,
    },
}


@pytest.fixture(scope="module")
def bench(server: Server, template: Database) -> Iterator[Bench]:
    """A database of a world's own, for all these tests: each act plants the world."""
    with cloned(server, template) as database:
        with database.connect() as connection:
            world.prepare(connection)
            _drop_days(connection)
        made = Bench.of(database.url)
        yield made
        made.close()


def _drop_days(connection: psycopg.Connection[Any]) -> None:
    """Leave the default partitions: no job is of a day, and to plan for each of them
    takes as long as the rest.
    """
    days = connection.execute(
        "select inhrelid::regclass::text from pg_inherits"
        " join pg_class on pg_class.oid = inhrelid"
        " where relkind = 'r' and relname !~ '_default$'"
    ).fetchall()
    for (name,) in days:
        connection.execute(f"drop table {name}".encode())


@pytest.fixture(scope="module")
def wrong(bench: Bench) -> dict[str, str]:
    """The scenarios that end wrong though nothing is removed: they notice nothing."""
    return {one.name: found for one in SCENARIOS if (found := one.wrong(bench))}


def test_each_scenario_ends_right(wrong: dict[str, str]) -> None:
    assert wrong == {}


@pytest.mark.parametrize("name", [*STATEMENTS, *FUNCTIONS])
def test_no_term_can_go_unnoticed(
    bench: Bench, wrong: dict[str, str], name: str
) -> None:
    right = [one for one in SCENARIOS if one.name not in wrong]
    assert unnoticed(name, bench, right, SPARED.get(name, {})) == []


def test_a_statement_without_a_term_is_still_one(bench: Bench) -> None:
    """Otherwise each scenario would fail, and nothing be learnt from it."""
    for name in STATEMENTS:
        for mutant in mutants(name):
            with mutant.in_force(bench):
                text = sqlfiles.statement(name).text
            bench.connection.execute(b"prepare mutant as " + text)
            bench.connection.execute("deallocate mutant")


@pytest.mark.parametrize("name", SPARED)
def test_a_term_that_is_spared_is_one_of_the_statement(name: str) -> None:
    assert SPARED[name].keys() <= {mutant.term for mutant in mutants(name)}
