"""Every command that takes an id, with a job of the archive and one that is gone."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import RunsPgflow
from tests.repository.test_audit import attempt, unqueue
from tests.support.jobs import plant

Connection = psycopg.Connection[Any]

# What each exits with for an archived job, and what it says of one.
COMMANDS = {
    "explain {id}": (0, "Succeeded at attempt 1"),
    "timeline {id}": (0, "succeeded"),
    "jobs show {id}": (0, "someone@example.org"),
    "jobs wait {id}": (0, "succeeded"),
    "jobs cancel {id}": (4, "has succeeded; it was left alone"),
    "jobs cancel {id} --kill": (4, "has succeeded; it was left alone"),
    "jobs run-now {id}": (4, "has succeeded; it was left alone"),
    "jobs run-now {id} --nowhere": (4, "has succeeded; it was left alone"),
    "jobs reprioritize {id} 3": (4, "has succeeded; it was left alone"),
    "replay {id} --yes": (4, "has succeeded; only dead letters can be replayed"),
    "replay {id} --any-status --dry-run": (0, "1 job"),
    "dlq show {id}": (4, "has succeeded"),
    "dlq discard {id} --yes": (4, "has succeeded"),
}


@pytest.fixture
def archived(connection: Connection) -> str:
    [job] = plant(connection, payload='{"to": "someone@example.org"}')
    unqueue(connection, job)
    attempt(connection, job, "succeeded")
    connection.execute(
        "with gone as (delete from pgflow.jobs returning *)"
        " insert into pgflow.jobs_archive select * from gone"
    )
    connection.execute(
        "with gone as (delete from pgflow.job_successes returning *)"
        " insert into pgflow.job_successes_archive select * from gone"
    )
    return job


@pytest.mark.parametrize("command", COMMANDS)
def test_a_job_of_the_archive_is_known_by_its_id(
    pgflow: RunsPgflow, archived: str, command: str
) -> None:
    code, said = COMMANDS[command]
    result = pgflow(*command.format(id=archived).split())
    told = result.stdout + result.stderr
    assert result.returncode == code, told
    assert said in told


@pytest.mark.parametrize("command", COMMANDS)
def test_a_job_that_was_pruned_is_none(pgflow: RunsPgflow, command: str) -> None:
    gone = "01906a5f-8c00-7000-8000-000000000000"
    result = pgflow(*command.format(id=gone).split())
    assert result.returncode == 3, result.stderr
    assert gone in result.stderr
