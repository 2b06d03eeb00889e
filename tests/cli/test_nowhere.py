"""Jobs that are nowhere: what said where they are has been lost with a page."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.conftest import RunsPgflow
from tests.repository.test_audit import attempt, lease, unqueue
from tests.support.jobs import plant, status_of

Connection = psycopg.Connection[Any]


@pytest.fixture
def lost(connection: Connection) -> list[str]:
    """Return two jobs that are nowhere; the second has failed once."""
    jobs = plant(connection, 2, queue="emails", priority=7)
    for job in jobs:
        unqueue(connection, job)
    attempt(connection, jobs[1], "failed")
    return jobs


@pytest.fixture
def others(connection: Connection) -> list[str]:
    """Return a job of each other kind of place: none of them is to be changed."""
    queued, scheduled, running, done = [plant(connection)[0] for _ in range(4)]
    for job in (running, done):
        unqueue(connection, job)
    lease(connection, running)
    attempt(connection, done, "succeeded")
    connection.execute(
        "update pgflow.pending set run_at = now() + interval '1 hour'"
        " where job_id = %s",
        (scheduled,),
    )
    return [queued, scheduled, running, done]


def entries(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select job_id::text, queue, rank, attempt_no, run_at <= now()"
        " from pgflow.pending where queue = 'emails' order by attempt_no"
    ).fetchall()


def test_every_surface_says_nowhere(
    pgflow: RunsPgflow, connection: Connection, lost: list[str], others: list[str]
) -> None:
    job = lost[0]
    shown = json.loads(pgflow("jobs", "show", job, "-o", "json").stdout)
    assert shown["status"] == "nowhere"
    listed = pgflow("jobs", "list", "--status", "nowhere", "-o", "ids").stdout.split()
    assert listed == sorted(lost, reverse=True)
    one_of_two = pgflow("jobs", "list", "--status", "nowhere", "--limit", "1").stderr
    assert "--cursor" in one_of_two
    states = json.loads(pgflow("jobs", "list", "-q", "emails", "-o", "json").stdout)
    assert {item["status"] for item in states["items"]} == {"nowhere"}
    explained = json.loads(pgflow("explain", job, "-o", "json").stdout)
    assert (explained["verdict"], explained["status"]) == ("NOWHERE", "nowhere")
    assert f"pgflow jobs run-now {job[-8:]} --nowhere" in explained["next_commands"]
    told = pgflow("timeline", job, "-o", "json")
    assert json.loads(told.stdout)["status"] == "nowhere"
    found = pgflow("doctor", "--check", "audit")
    assert found.returncode == 5
    assert "pgflow jobs list --status nowhere" in found.stdout
    for words in (("run-now", job), ("reprioritize", job, "3")):
        refused = pgflow("jobs", *words)
        assert refused.returncode == 4, words
        assert "is nowhere; it was left alone" in refused.stderr
        assert "--nowhere" in refused.stderr
    refused = pgflow("replay", job, "--any-status", "--yes")
    assert refused.returncode == 4
    assert "is nowhere; only dead letters can be replayed" in refused.stderr
    assert f"pgflow jobs run-now {job} --nowhere" in refused.stderr


def test_an_operator_puts_them_back_after_a_preview(
    pgflow: RunsPgflow, connection: Connection, lost: list[str], others: list[str]
) -> None:
    before = [status_of(connection, job) for job in others]
    for words in (["--dry-run"], ["--yes"]):
        ids = "\n".join([*lost, *others])
        done = pgflow("jobs", "run-now", "-", "--nowhere", *words, input=ids)
        if words == ["--dry-run"]:
            assert "2 nowhere" in done.stderr
            assert entries(connection) == []
    assert entries(connection) == [
        (lost[0], "emails", -7, 0, True),
        (lost[1], "emails", -7, 1, True),
    ]
    now = [status_of(connection, job) for job in others]
    assert [*now[:1], *now[2:]] == [*before[:1], *before[2:]]
    [(jobs, details)] = connection.execute(
        "select jobs, details_json from pgflow.operator_actions"
    ).fetchall()
    assert jobs == 3  # with the one that was scheduled
    assert details["nowhere"] is True
    assert pgflow("doctor", "--check", "audit").returncode == 0
    assert pgflow("explain", lost[1]).returncode == 0


def test_an_operator_cancels_them(
    pgflow: RunsPgflow, connection: Connection, lost: list[str], others: list[str]
) -> None:
    chosen = ("--status", "nowhere")
    preview = pgflow("jobs", "cancel", *chosen, "--dry-run")
    assert "2 nowhere" in preview.stderr
    assert pgflow("jobs", "cancel", *chosen, "--yes").returncode == 0
    assert {status_of(connection, job) for job in lost} == {"canceled"}
    assert "canceled" not in {status_of(connection, job) for job in others}
    assert pgflow("doctor", "--check", "audit").returncode == 0


def test_two_operators_put_a_job_back_once(
    connection: Connection, repository: Any, lost: list[str]
) -> None:
    with repository.transaction():
        assert repository.jobs.put_back_jobs(lost) == lost
    with repository.transaction():
        assert repository.jobs.put_back_jobs(lost) == []
    assert len(entries(connection)) == 2


def test_who_waits_for_it_is_told(
    pgflow: RunsPgflow, connection: Connection, lost: list[str]
) -> None:
    waited = pgflow("jobs", "wait", lost[0], "--wait-timeout", "1h", "-o", "json")
    assert waited.returncode == 1
    [item] = json.loads(waited.stdout)["items"]
    assert item["status"] == "nowhere"
    assert f"pgflow jobs run-now {lost[0]} --nowhere" in waited.stderr


def test_what_was_archived_has_succeeded(
    pgflow: RunsPgflow, connection: Connection
) -> None:
    """Also if what told so has been lost: nothing else is archived."""
    [job] = plant(connection)
    unqueue(connection, job)
    connection.execute(
        "with gone as (delete from pgflow.jobs returning *)"
        " insert into pgflow.jobs_archive select * from gone"
    )
    assert pgflow("doctor", "--check", "audit").returncode == 0
    assert pgflow("jobs", "wait", job, "--wait-timeout", "1h").returncode == 0
    assert pgflow("jobs", "list", "--status", "nowhere", "-o", "ids").stdout == ""
