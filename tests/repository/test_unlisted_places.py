"""Jobs whose queue is lost from queue_ranks with a damaged page: told, and mended."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

import pgflow_cli
from pgflow_cli.repository import Repository, sqlfiles
from tests.conftest import RunsPgflow
from tests.support.jobs import plant
from tests.support.servers import Database

pytestmark = pytest.mark.usefixtures("every_job_in_one_place")
Connection = psycopg.Connection[Any]


def places(connection: Connection) -> list[tuple[str, int]]:
    rows = connection.execute("select queue, rank from pgflow.queue_ranks").fetchall()
    return sorted(rows)


def told(pgflow: RunsPgflow) -> list[dict[str, str]]:
    found = pgflow("doctor", "--check", "audit", "-o", "json").stdout
    return [each for each in json.loads(found)["items"] if each["result"] == "FAIL"]


def test_doctor_tells_of_them_and_maintain_has_them_run(
    connection: Connection, pgflow: RunsPgflow
) -> None:
    for queue, priority in (("default", 0), ("emails", 5), ("emails", 0)):
        pgflow_cli.enqueue(connection, "noop", queue=queue, priority=priority)
    connection.execute("delete from pgflow.queue_ranks where queue = 'emails'")
    [finding] = told(pgflow)
    assert "looks at 2 queues and priorities" in finding["detail"]
    assert "emails at priority 5, emails at priority 0" in finding["detail"]
    rehearsed = pgflow("maintain", "--task", "queues", "--dry-run", "-o", "json")
    assert json.loads(rehearsed.stdout)["items"][0]["rows"] == 2
    assert places(connection) == [("default", 0)]
    program, *words = finding["fix"].split()
    assert program == "pgflow"
    mended = pgflow(*words)
    assert mended.returncode == 0, mended.stderr
    assert "recorded again: emails" in mended.stdout
    assert told(pgflow) == []
    assert places(connection) == [("default", 0), ("emails", -5), ("emails", 0)]
    drained = pgflow("work", "--exec", "noop=true", "--drain", "-q", "*")
    assert drained.returncode == 0, drained.stderr
    assert connection.execute("select job_id from pgflow.pending").fetchall() == []


def test_no_producer_waits_and_none_is_waited_for(
    connection: Connection, repository: Repository, database: Database
) -> None:
    """What it brings itself is not missing, before and after it commits."""
    pgflow_cli.enqueue(connection, "noop", queue="lost")
    connection.execute("delete from pgflow.queue_ranks")
    repository.link.raw().execute("set lock_timeout = '1ms'")
    with psycopg.connect(database.url) as held:
        held.execute("set lock_timeout = '1ms'")
        for queue in ("lost", "new"):
            pgflow_cli.enqueue(held, "noop", queue=queue)
        assert repository.maintenance.record_places() == [("lost", 0)]
        pgflow_cli.enqueue(held, "noop", queue="lost")
        held.commit()
    assert {*places(connection)} == {("lost", 0), ("new", 0)}
    assert repository.maintenance.record_places() == []
    repository.maintenance.renew_places()
    assert places(connection) == [("lost", 0), ("new", 0)]


def test_a_retired_place_is_still_looked_at(
    connection: Connection, repository: Repository
) -> None:
    pgflow_cli.enqueue(connection, "noop")
    connection.execute("update pgflow.queue_ranks set retired = true")
    assert repository.diagnosis.list_unlisted_places() == []
    assert repository.maintenance.record_places() == []


def test_it_takes_a_step_for_each_place_and_not_for_each_job(
    connection: Connection,
) -> None:
    for queue in ("a", "b", "c"):
        plant(connection, 5000, queue=queue)
    connection.execute("vacuum analyze pgflow.pending")
    statement = sqlfiles.statement("list_unlisted_places").text
    [(plan,)] = connection.execute(
        b"explain (analyze, buffers, format json) " + statement
    ).fetchall()
    top = plan[0]["Plan"]
    [(whole,)] = connection.execute(
        "select pg_relation_size('pgflow.pending') / 8192"
    ).fetchall()
    assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < min(60, whole)
