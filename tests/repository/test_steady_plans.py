"""Statements whose planning takes longer than running them are planned once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pgflow_cli.errors import TooSlow
from pgflow_cli.inspection.job_list import JobList
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository
from pgflow_cli.repository.jobs import window
from tests.support.jobs import plant
from tests.support.private_servers import pgbouncer

SETTINGS = (
    "select current_setting('plan_cache_mode'), current_setting('enable_seqscan'),"
    " current_setting('jit')"
)


def ids(repository: Repository, **conditions: Any) -> list[str]:
    listing = JobList(repository, JobFilter(**conditions)).page(10, None)
    return [job.id for job in listing.jobs]


@pytest.mark.direct
def test_a_list_is_planned_once_and_not_for_its_parameters(connection, repository):
    jobs = plant(connection, 3)
    before = repository.link.raw().execute(SETTINGS).fetchone()
    for _ in range(7):
        assert ids(repository) == jobs[::-1]
    for queue in ("default", "none"):
        assert ids(repository, queues=(queue,)) == jobs[::-1][: 3 * (queue != "none")]
    made = repository.link.raw().execute(
        "select generic_plans, custom_plans from pg_prepared_statements"
        " where statement like '%job_overview%'"
    )
    # One for each set of types: null is of another than a list.
    assert sorted(made) == [(2, 0), (7, 0)]
    assert repository.link.raw().execute(SETTINGS).fetchone() == before


def test_other_statements_are_planned_for_their_parameters(connection, repository):
    plant(connection)
    for _ in range(7):
        repository.workers.list_workers()
        repository.queues.list_queue_names()
    made = repository.link.raw().execute("select name from pg_prepared_statements")
    assert made.fetchall() == []


@pytest.mark.direct
def test_a_list_that_takes_too_long_is_given_up_and_the_next_one_works(
    database, connection
):
    jobs = plant(connection, 2)
    settings = DatabaseSettings(database.url, server_timeout=1.0)
    repository = Repository.of(settings)
    assert ids(repository) == jobs[::-1]
    blocker = database.connect(autocommit=False)
    blocker.execute("lock table pgflow.dead_letters")
    with pytest.raises(TooSlow, match="statement timeout"):
        ids(repository)
    blocker.rollback()
    assert ids(repository) == jobs[::-1]
    repository.close()


def test_a_pooler_that_knows_no_prepared_statements_does_not_stop_lists(
    database, connection
):
    """Two clients take turns on the same server connections."""
    jobs = plant(connection, 2)
    with pgbouncer(database) as url:
        settings = replace(DatabaseSettings(database.url), url=url)
        several = [Repository.of(settings) for _ in range(3)]
        for _ in range(3):
            for repository in several:
                assert ids(repository) == jobs[::-1]
                assert repository.jobs.find_listed_job(jobs[0]).id == jobs[0]
        for repository in several:
            repository.close()


def test_in_a_transaction_a_list_is_planned_like_the_rest(connection, repository):
    jobs = plant(connection, 2)
    with repository.transaction():
        assert ids(repository) == jobs[::-1]
        of = window(JobFilter(), limit=1, most=1, after=None)
        assert [job.id for job in repository.jobs.list_jobs(of)] == [jobs[1]]
        assert repository.link.raw().execute("show plan_cache_mode").fetchone() == (
            "auto",
        )
