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
_ORDER = "says that leases are locked first; the executor happens to do so anyway"
_FIRST_ATTEMPT = "false for nearly every job: then no partition is opened"
_LOCKED = "no other leases than the locked ones: another order of sessions needs it"

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
