"""Each condition of the statements that move jobs makes a difference to a scenario."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Database
from tests.trials import world
from tests.trials.scenarios import SCENARIOS, Bench
from tests.trials.terms import STATEMENTS, mutants, unnoticed

# Terms without which everything still ends right, and what each is there for.
_INDEX = "the key of an index: without it the same row is sought among all rows"
_ORDER = "says what is locked first; the executor happens to do so anyway"
_FIRST_ATTEMPT = "false for nearly every job: then no partition is opened"
_LOCKED = "no other leases than the locked ones: another order of sessions needs it"

_AGAIN = "asked while locking already; once more for the row as it is by now"
_COST = "only how much is read or written"
_DAYS = "names the partitions; which jobs they are is decided before"
_ALL_DAYS = "strays are of no day: the range that is sent has every id"
_RANGE = ("job_id >= CAST($2 AS uuid)", "job_id < CAST($3 AS uuid)")
_STRAYS = {
    **dict.fromkeys(_RANGE, _ALL_DAYS),
    **dict.fromkeys([f"{term} [2]" for term in _RANGE], _ALL_DAYS),
    "id >= CAST($2 AS uuid)": _ALL_DAYS,
    "id < CAST($3 AS uuid)": _ALL_DAYS,
}

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
SPARED = {
    "settle_and_lease": {
        "taken.attempt_no > 0": _FIRST_ATTEMPT,
        "lease_id = ANY(CAST($11 AS uuid[]))": "of other leases no attempt is read",
        "pending.rank = place.rank": _INDEX,
        "pending.rank = place.rank [2]": _INDEX,
    },
    "lease_limited": {
        "taken.attempt_no > 0": _FIRST_ATTEMPT,
        "pending.rank = place.rank": _INDEX,
        "pending.rank = place.rank [2]": _INDEX,
    },
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
        "NOT EXISTS (SELECT FROM pgflow.queue_ranks AS known WHERE"
        " known.queue = places.queue AND known.rank = places.rank)": (
            f"{_COST}: `on conflict` would do"
        ),
        "problem IS NOT NULL": "null is in no list, nor out of one",
    },
    "undo_replays": {
        "queue IS NULL": f"{_COST}: found twice, removed once",
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
        "(SELECT count(*) FROM dead) > 0": _ORDER,
    },
    "delete_dead_letters": {
        "dead.resolved_at IS NULL": _AGAIN,
        "job_id = ANY(CAST($1 AS uuid[])) [2]": _INDEX,
        "id = ANY(CAST($1 AS uuid[]))": _INDEX,
    },
    "discard_dead_letters": {"dead.resolved_at IS NULL": _AGAIN},
    "purge_dead_letters": {"dead_letters.resolved_at IS NULL": _AGAIN},
    "purge_pending": {"pending.rank = places.rank": _INDEX},
    "archive_stray_jobs": _STRAYS,
    "archive_jobs_of_day": {
        "id >= CAST($2 AS uuid)": _DAYS,
        "id < CAST($3 AS uuid)": _DAYS,
        **{f"{term} [2]": _DAYS for term in _RANGE},
    },
    "prune_canceled_jobs": {
        "canceled_at < CAST(CAST($1 AS text) AS timestamptz) [2]": _AGAIN
    },
    "prune_dead_letters": {
        "resolved_at < CAST(CAST($1 AS text) AS timestamptz) [2]": _AGAIN
    },
    "remove_second_entries": {
        "leases.job_ids @> ARRAY[entry.job_id]": _INDEX,
    },
}


@pytest.fixture
def bench(database: Database) -> Iterator[Bench]:
    """A database of a world's own."""
    with database.connect() as connection:
        world.prepare(connection)
    made = Bench.of(database.url)
    yield made
    made.close()


def test_each_scenario_ends_right(bench: Bench) -> None:
    wrong = {one.name: found for one in SCENARIOS if (found := one.wrong(bench))}
    assert wrong == {}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_term_can_go_unnoticed(bench: Bench, name: str) -> None:
    missed = set(unnoticed(name, bench))
    assert missed - SPARED.get(name, {}).keys() == set()


@pytest.mark.parametrize("name", SPARED)
def test_a_term_that_is_spared_is_one_of_the_statement(name: str) -> None:
    assert SPARED[name].keys() <= {mutant.term for mutant in mutants(name)}
