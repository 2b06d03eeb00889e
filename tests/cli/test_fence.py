"""`pgflow fence`: what it shows, asks and exits with."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.conftest import RunsPgflow
from tests.support.jobs import audit, plant

Connection = psycopg.Connection[Any]


@pytest.fixture
def clone(connection: Connection) -> Connection:
    """A database that is a clone of another."""
    connection.execute("update pgflow.database_identity set database_oid = 1")
    return connection


def test_the_status_of_an_open_database_is_quiet(pgflow: RunsPgflow) -> None:
    done = pgflow("fence", "status", "--exit-code", "-o", "json")
    assert done.returncode == 0
    assert done.stderr == ""
    shown = json.loads(done.stdout)
    assert shown["fenced"] is False
    assert shown["recorded_database_oid"] == shown["present_database_oid"]


def test_the_status_of_a_clone_says_why_and_what_next(
    pgflow: RunsPgflow, clone: Connection
) -> None:
    plain = pgflow("fence", "status")
    assert plain.returncode == 0
    assert "it is a copy of the database it was recorded in" in plain.stdout
    assert "pgflow fence accept" in plain.stderr
    assert pgflow("fence", "status", "--exit-code").returncode == 5


def test_a_worker_does_not_start_on_a_clone(
    pgflow: RunsPgflow, clone: Connection
) -> None:
    plant(clone)
    done = pgflow("work", "--simulate", "--drain")
    assert done.returncode == 78
    assert "is fenced" in done.stderr
    assert "Then: pgflow fence accept" in done.stderr
    assert audit(clone) == (0, 0)


def test_raise_asks_first(pgflow: RunsPgflow) -> None:
    refused = pgflow("fence", "raise")
    assert refused.returncode == 4
    assert json.loads(pgflow("fence", "status", "-o", "json").stdout)["fenced"] is False


def test_raise_and_accept_with_their_notes(
    pgflow: RunsPgflow, connection: Connection
) -> None:
    raised = pgflow("fence", "raise", "--yes", "--note", "recovered to 14:05")
    assert raised.returncode == 0, raised.stderr
    shown = json.loads(pgflow("fence", "status", "-o", "json").stdout)
    assert (shown["fenced"], shown["reason"]) == (True, "recovered to 14:05")
    name = connection.info.dbname
    accepted = pgflow("fence", "accept", "--confirm", name)
    assert accepted.returncode == 0, accepted.stderr
    assert "accepted: 0 interrupted jobs (dlq)" in accepted.stderr
    rows = connection.execute(
        "select action, note from pgflow.operator_actions order by id"
    ).fetchall()
    assert rows == [("fence.raise", "recovered to 14:05"), ("fence.accept", None)]


def test_accept_wants_the_name(pgflow: RunsPgflow, clone: Connection) -> None:
    assert pgflow("fence", "accept").returncode == 4
    wrong = pgflow("fence", "accept", "--confirm", "other")
    assert wrong.returncode == 4
    assert pgflow("fence", "status", "--exit-code").returncode == 5


def test_accept_without_a_fence_changes_nothing(pgflow: RunsPgflow) -> None:
    done = pgflow("fence", "accept")
    assert done.returncode == 0
    assert "nothing was changed" in done.stderr


def test_a_dry_run_prints_the_command_that_does_it(
    pgflow: RunsPgflow, clone: Connection
) -> None:
    done = pgflow("fence", "accept", "--interrupted", "cancel", "--dry-run")
    assert done.returncode == 0
    name = clone.info.dbname
    command = f"pgflow fence accept --interrupted cancel --confirm {name}"
    assert done.stdout == f"Run      {command}\n"
    assert pgflow("fence", "status", "--exit-code").returncode == 5
    assert pgflow(*command.split()[1:]).returncode == 0
    assert pgflow("fence", "status", "--exit-code").returncode == 0


def test_raise_dry_changes_nothing(pgflow: RunsPgflow) -> None:
    assert pgflow("fence", "raise", "-n").returncode == 0
    assert pgflow("fence", "status", "--exit-code").returncode == 0
