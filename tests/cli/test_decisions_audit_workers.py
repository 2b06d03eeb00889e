"""`pgflow workers`, `decisions`, `audit`: lists of what is not a job."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.cli.programs import run


@pytest.fixture
def worker(connection) -> str:
    """A worker process that is alive."""
    identity = str(uuid.uuid4())
    connection.execute(
        "insert into pgflow.workers (worker_id, supervisor_id, pid, slots, busy_slots,"
        " lease_seconds, name, host, queues) values"
        " (%s, %s, 7, 8, 3, 60, 'worker-1', 'host', '{emails}')",
        (identity, uuid.uuid4()),
    )
    return identity


def items(result: Any) -> list[dict[str, Any]]:
    assert result.returncode == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)["items"]
    return found


def actions(connection: Any) -> list[str]:
    rows = connection.execute("select action from pgflow.operator_actions order by id")
    return [row[0] for row in rows]


def silence(connection: Any) -> None:
    connection.execute(
        "update pgflow.workers set last_heartbeat = now() - interval '10 minutes'"
    )


def test_workers_are_listed_with_what_they_do(pgflow, connection, worker):
    [row] = items(pgflow("workers", "list", "-o", "json"))
    assert (row["worker_id"], row["state"], row["queues"]) == (
        worker,
        "busy",
        ["emails"],
    )
    assert "3/8" in pgflow("workers", "list").stdout
    silence(connection)
    [row] = items(pgflow("workers", "list", "-o", "json"))
    assert row["state"] == "silent"
    assert pgflow("workers", "list", "-o", "ids").stdout.strip() == worker


@pytest.mark.parametrize("by", ["name", "suffix", "id"])
def test_a_worker_is_quieted_once(pgflow, connection, worker, by):
    given = {"name": "worker-1", "suffix": worker[-8:], "id": worker}[by]
    assert "1 of 1" in pgflow("workers", "quiet", given).stderr
    assert connection.execute("select quiet from pgflow.workers").fetchone() == (True,)
    assert "0 of 1" in pgflow("workers", "quiet", given).stderr
    assert actions(connection) == ["workers.quiet", "workers.quiet"]


@pytest.mark.parametrize("by", ["name", "suffix", "id"])
def test_a_quiet_worker_is_resumed(pgflow, connection, worker, by):
    given = {"name": "worker-1", "suffix": worker[-8:], "id": worker}[by]
    assert "0 of 1" in pgflow("workers", "resume", given).stderr
    assert pgflow("workers", "quiet", given).returncode == 0
    assert pgflow("workers", "resume", given, "--dry-run").returncode == 0
    assert connection.execute("select quiet from pgflow.workers").fetchone() == (True,)
    assert "1 of 1" in pgflow("workers", "resume", given, "--note", "over").stderr
    assert connection.execute("select quiet from pgflow.workers").fetchone() == (False,)
    assert actions(connection) == ["workers.resume", "workers.quiet", "workers.resume"]
    assert pgflow("workers", "resume", "nobody").returncode == 3


@pytest.fixture
def several(connection) -> None:
    """Processes of one worker, and those of others whose names begin alike."""
    for name in ("w2.0", "w2.1", "w2.spare", "w2.new", "w20.0"):
        connection.execute(
            "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
            " lease_seconds, name, host) values (%s, %s, 7, 8, 60, %s, 'host')",
            (uuid.uuid4(), uuid.uuid4(), name),
        )


@pytest.mark.parametrize("given", ["w2", "w2.1"])
def test_a_workers_name_means_all_of_its_processes(pgflow, connection, several, given):
    named = {"w2": ["w2.0", "w2.1", "w2.spare"], "w2.1": ["w2.1"]}[given]
    told = f"{len(named)} of {len(named)}"
    quiet = "select name from pgflow.workers where quiet order by name"
    assert told in pgflow("workers", "quiet", given).stderr
    assert [row[0] for row in connection.execute(quiet)] == named
    assert told in pgflow("workers", "resume", given).stderr
    assert connection.execute(quiet).fetchall() == []
    silence(connection)
    assert f"forgot {told}" in pgflow("workers", "forget", given).stderr
    left = {row[0] for row in connection.execute("select name from pgflow.workers")}
    assert left == {"w2.0", "w2.1", "w2.spare", "w2.new", "w20.0"} - set(named)


@pytest.mark.parametrize(
    ("columns", "state"),
    [
        ("quiet = true", "quiet"),
        ("retiring = true", "retiring"),
        ("retiring = true, quiet = true", "retiring"),
        ("spare = true", "spare"),
        ("deaths = 0", "starting"),
        ("deaths = 3", "restarting"),
        ("stalled_since = now()", "stalled"),
        ("stalled_since = now(), quiet = true", "quiet"),
    ],
)
def test_why_a_worker_leases_nothing_is_its_state(
    pgflow, connection, worker, columns, state
):
    connection.execute(f"update pgflow.workers set {columns}")
    [row] = items(pgflow("workers", "list", "-o", "json"))
    assert row["state"] == state


def test_only_a_silent_worker_is_forgotten(pgflow, connection, worker):
    assert pgflow("workers", "forget", "worker-1").returncode == 4
    silence(connection)
    assert pgflow("workers", "forget", "worker-1", "-n").returncode == 0
    assert pgflow("workers", "forget", "worker-1").returncode == 0
    assert items(pgflow("workers", "list", "-o", "json")) == []
    assert actions(connection) == ["workers.forget"]


def test_a_worker_that_is_none_or_several_is_exit_3(pgflow, connection, worker):
    assert pgflow("workers", "quiet", "nobody").returncode == 3
    twin = worker[:-12][::-1][:0] + "ffffffff" + worker[8:]
    connection.execute(
        "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
        " lease_seconds, name, host) values (%s, %s, 8, 8, 60, 'twin', 'host')",
        (twin, uuid.uuid4()),
    )
    ambiguous = pgflow("workers", "quiet", worker[-8:])
    assert ambiguous.returncode == 3
    assert "twin" in ambiguous.stderr


@pytest.fixture
def decided(connection) -> None:
    """Decisions of both kinds in three minutes, and one of long ago."""
    connection.execute("insert into pgflow.queue_policies (queue) values ('emails')")
    for table, columns, values in (
        ("policy_decisions", "sample_job_id,", "pgflow.uuid7(),"),
        ("ingest_decisions", "", ""),
    ):
        connection.execute(
            f"""
            insert into pgflow.{table} (
              queue, minute, first_at, last_at, count, {columns} decision, reason_code
            )
            select queue, at, at, at + interval '9 s', 2, {values} 'X', reason
            from (
              select date_trunc('minute', now()) - n * interval '1 minute' as at,
                queue, reason
              from unnest(array[1, 2, 3, 5000]) as n,
                unnest(array['emails', 'other']) as queue,
                unnest(array['ONE', 'TWO']) as reason
            ) as rows
            """
        )


def test_decisions_are_listed_newest_first_by_kind_queue_and_reason(pgflow, decided):
    every = items(pgflow("decisions", "list", "-o", "json"))
    assert len(every) == 32
    minutes = [row["minute"] for row in every]
    assert minutes == sorted(minutes, reverse=True)
    ingest = ("decisions", "list", "--kind", "ingest", "-o", "json")
    assert {row["kind"] for row in items(pgflow(*ingest))} == {"ingest"}
    narrow = items(pgflow(*ingest, "-q", "em*", "--reason", "ONE", "--since", "1h"))
    assert len(narrow) == 3
    assert {row["queue"] for row in narrow} == {"emails"}
    assert narrow[0]["count"] == 2


def test_decisions_are_grouped_by_reason(pgflow, decided):
    groups = items(pgflow("decisions", "list", "--group", "reason", "-o", "json"))
    assert len(groups) == 8
    assert {group["count"] for group in groups} == {8}
    policy = next(group for group in groups if group["kind"] == "policy")
    assert policy["sample_job_id"]


def test_pages_of_decisions_have_every_row_once(pgflow, decided):
    seen: list[str] = []
    cursor: tuple[str, ...] = ()
    for _ in range(10):
        page = pgflow("decisions", "list", "--limit", "5", "-o", "jsonl", *cursor)
        seen += [json.loads(line)["id"] for line in page.stdout.splitlines()]
        if "--cursor" not in page.stderr:
            break
        cursor = ("--cursor", page.stderr.split("--cursor ")[1].split()[0])
    assert len(seen) == len(set(seen)) == 32
    whole = pgflow("decisions", "list", "--all-pages", "-o", "jsonl")
    assert [json.loads(line)["id"] for line in whole.stdout.splitlines()] == seen


def test_the_audit_lists_who_did_what_with_what_words(pgflow, connection):
    pgflow("queues", "pause", "emails", "--yes", "--note", "why", "--as", "eve")
    pgflow("queues", "resume", "emails")
    newest, oldest = items(pgflow("audit", "list", "-o", "json"))
    assert newest["action"] == "queues.resume"
    assert (oldest["actor"], oldest["note"], oldest["queue"]) == (
        "eve",
        "why",
        "emails",
    )
    assert oldest["command"] == "pgflow queues pause emails --yes --note why --as eve"
    assert oldest["state"] == "done"
    assert len(items(pgflow("audit", "list", "--actor", "eve", "-o", "json"))) == 1
    assert len(items(pgflow("audit", "list", "--action", "queues", "-o", "json"))) == 2
    assert items(pgflow("audit", "list", "--action", "queue", "-o", "json")) == []
    assert items(pgflow("audit", "list", "-q", "none", "-o", "json")) == []
    first = pgflow("audit", "list", "--limit", "1", "-o", "ids")
    cursor = first.stderr.split("--cursor ")[1].split()[0]
    second = pgflow("audit", "list", "--limit", "1", "--cursor", cursor, "-o", "ids")
    assert first.stdout != second.stdout
    assert "--cursor" not in second.stderr


def test_an_action_that_was_ended_half_way_says_so(pgflow, connection):
    connection.execute(
        "insert into pgflow.operator_actions (actor, action, command, jobs)"
        " values ('eve', 'jobs.cancel', 'pgflow jobs cancel --all', 500)"
    )
    [row] = items(pgflow("audit", "list", "-o", "json"))
    assert (row["state"], row["jobs"]) == ("unfinished", 500)


@pytest.mark.parametrize(
    "words", [("workers",), ("decisions",), ("audit",), ("queues",)]
)
def test_a_group_without_arguments_is_its_help_and_exit_2(words):
    result = run(*words)
    assert result.exit_code == 2
    assert "Examples:" in result.stderr
