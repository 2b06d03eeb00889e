"""The commands of `pgflow workers`."""

from __future__ import annotations

import json
import uuid

import pytest

FIELDS = {
    "incarnation", "worker_id", "state", "busy_slots", "slots", "queues",
    "last_heartbeat", "code_version", "host", "pid", "job_types", "last_leased_at",
    "started_at", "lease_seconds", "supervisor_id",
}  # fmt: skip


@pytest.fixture
def know(connection):
    """Make a row of a worker, silent for so many seconds."""

    def add(name: str, *, silent: int = 0, supervisor: str | None = None) -> str:
        row = connection.execute(
            "insert into pgflow.workers (worker_id, supervisor_id, last_heartbeat, pid,"
            " slots, lease_seconds, name, host) values (gen_random_uuid(), %s,"
            " now() - %s * interval '1 second', 1, 8, 10, %s, 'h')"
            " returning worker_id::text",
            (supervisor or str(uuid.uuid4()), silent, name),
        ).fetchone()
        return str(row[0])

    return add


def quiet_ones(connection) -> set[str]:
    rows = connection.execute("select worker_id::text from pgflow.workers where quiet")
    return {row[0] for row in rows}


def actions(connection) -> list[tuple[str, str]]:
    return connection.execute(
        "select action, details_json ->> 'workers' from pgflow.operator_actions"
        " where finished_at is not null order by id"
    ).fetchall()


def test_workers_are_listed_with_their_state(pgflow, connection, know):
    alive, silent = know("a"), know("b", silent=60)
    hushed = know("c")
    connection.execute(
        "update pgflow.workers set quiet = true where worker_id = %s", (hushed,)
    )
    items = json.loads(pgflow("workers", "list", "-o", "json").stdout)["items"]
    assert set(items[0]) == FIELDS
    states = {item["incarnation"]: item["state"] for item in items}
    assert states == {alive: "alive", silent: "silent", hushed: "quiet"}
    ids = pgflow("workers", "list", "-o", "ids").stdout.split()
    assert ids == [alive, silent, hushed]
    assert json.loads(pgflow("workers", "list", "-o", "jsonl").stdout.splitlines()[0])


def test_no_workers_is_an_empty_list(pgflow):
    result = pgflow("workers", "list", "-o", "json")
    assert (result.returncode, json.loads(result.stdout)["items"]) == (0, [])


def test_a_worker_is_quieted_by_its_name_with_all_its_processes(
    pgflow, connection, know
):
    one = str(uuid.uuid4())
    both = {know("w.0", supervisor=one), know("w.1", supervisor=one)}
    know("w2")
    result = pgflow("workers", "quiet", "w", "--note", "deploy", "--as", "ann")
    assert result.returncode == 0, result.stderr
    assert quiet_ones(connection) == both
    assert actions(connection) == [("workers.quiet", "w.0, w.1")]
    again = pgflow("workers", "quiet", "w")
    assert (again.returncode, "quiet already" in again.stderr) == (0, True)
    assert len(actions(connection)) == 1


def test_a_process_is_quieted_by_the_end_of_its_id(pgflow, connection, know):
    mine = know("w")
    know("w")
    assert pgflow("workers", "quiet", "w").returncode == 3, "two of that name"
    assert pgflow("workers", "quiet", mine[-8:]).returncode == 0
    assert quiet_ones(connection) == {mine}


def test_a_living_namesake_of_a_dead_worker_is_meant(pgflow, connection, know):
    dead, alive = know("w", silent=60), know("w")
    assert pgflow("workers", "quiet", "w").returncode == 0
    assert quiet_ones(connection) == {alive}
    assert pgflow("workers", "forget", dead[-8:]).returncode == 0
    assert actions(connection)[-1] == ("workers.forget", "w")


def test_the_dead_cannot_be_told_and_the_living_not_forgotten(pgflow, connection, know):
    know("dead", silent=60)
    know("alive")
    assert pgflow("workers", "quiet", "dead").returncode == 4
    assert pgflow("workers", "forget", "alive").returncode == 4
    assert pgflow("workers", "forget", "nobody").returncode == 3
    assert pgflow("workers", "forget", "dead", "--dry-run").returncode == 0
    assert actions(connection) == []
    assert pgflow("workers", "forget", "dead").returncode == 0
    assert "dead" not in pgflow("workers", "list").stdout
    assert actions(connection) == [("workers.forget", "dead")]


def test_production_asks(pgflow, connection, know):
    know("w")
    result = pgflow("workers", "quiet", "w", env={"PGFLOW_PRODUCTION": "1"})
    assert result.returncode == 4
    assert quiet_ones(connection) == set()
