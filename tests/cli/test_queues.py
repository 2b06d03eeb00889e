"""`pgflow queues`: limits, pauses, purges; what is asked, and what the audit keeps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.repository.test_audit import bury, unqueue
from tests.support.jobs import audit, plant, status_of


def policy(connection: Any, queue: str = "emails") -> Any:
    return connection.execute(
        "select max_in_flight, max_attempts_per_minute, throttle_delay_ms,"
        " max_payload_bytes, max_enqueue_per_minute, paused_until::text, pause_note"
        " from pgflow.queue_policies where queue = %s",
        (queue,),
    ).fetchone()


def actions(connection: Any) -> list[Any]:
    return connection.execute(
        "select action, queue, jobs, note, finished_at is not null, details_json"
        " from pgflow.operator_actions order by id"
    ).fetchall()


def test_limits_are_set_changed_and_removed_one_by_one(pgflow, connection):
    first = pgflow(
        "queues", "set-policy", "emails", "--max-in-flight", "10",
        "--throttle-delay", "2s", "--note", "smtp allows ten", "--yes",
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    assert policy(connection) == (10, None, 2000, None, None, None, None)
    more = pgflow(
        "queues", "set-policy", "emails", "--max-in-flight", "20", "-o", "json"
    )
    assert json.loads(more.stdout)["max_in_flight"] == 20
    gone = pgflow("queues", "set-policy", "emails", "--max-in-flight", "none")
    assert gone.returncode == 0
    assert policy(connection)[:3] == (None, None, 2000)
    changed = [row[5]["changed"] for row in actions(connection)]
    assert changed[1] == {"max_in_flight": [10, 20]}
    assert changed[2] == {"max_in_flight": [20, None]}
    assert actions(connection)[0][:5] == (
        "queues.set-policy", "emails", 0, "smtp allows ten", True,
    )  # fmt: skip


def test_a_lowered_limit_asks_and_a_raised_one_does_not(pgflow, connection):
    lower = ("queues", "set-policy", "emails", "--max-in-flight")
    assert pgflow(*lower, "5").returncode == 4
    assert policy(connection) is None
    assert pgflow(*lower, "5", "--yes").returncode == 0
    assert pgflow(*lower, "4").returncode == 4
    assert pgflow(*lower, "6").returncode == 0
    assert len(actions(connection)) == 2


@pytest.mark.parametrize(
    "limits",
    [
        (),
        ("--max-in-flight", "-1"),
        ("--max-payload-bytes", "1"),
        ("--max-payload-bytes", "16777217"),
        ("--throttle-delay", "2h"),
        ("--max-enqueue-per-minute", "many"),
    ],
)
def test_limits_out_of_bounds_are_exit_2(pgflow, connection, limits):
    assert pgflow("queues", "set-policy", "emails", *limits, "--yes").returncode == 2
    assert policy(connection) is None


def test_a_dry_run_changes_nothing_and_prints_the_command(pgflow, connection):
    done = pgflow("queues", "set-policy", "emails", "--max-in-flight", "3", "-n")
    assert (
        "Run      pgflow queues set-policy emails --max-in-flight 3 --yes"
        in done.stdout
    )
    assert policy(connection) is None
    assert actions(connection) == []


def test_clear_policy_keeps_the_pause(pgflow, connection):
    pgflow("queues", "set-policy", "emails", "--max-in-flight", "3", "--yes")
    pgflow("queues", "pause", "emails", "--yes")
    assert pgflow("queues", "clear-policy", "emails").returncode == 0
    assert policy(connection)[0] is None
    assert policy(connection)[5] == "infinity"
    assert pgflow("queues", "clear-policy", "nobody").returncode == 3


def test_a_pause_asks_lasts_and_ends(pgflow, connection):
    plant(connection, queue="emails")
    assert pgflow("queues", "pause", "emails").returncode == 4
    paused = pgflow("queues", "pause", "emails", "--for", "30m", "--note", "n", "-y")
    assert paused.returncode == 0
    [(left,)] = connection.execute(
        "select paused_until - now() between interval '29 min' and interval '30 min'"
        " from pgflow.queue_policies"
    )
    assert left
    resumed = pgflow("queues", "resume", "emails")
    assert "resumed emails" in resumed.stderr
    assert policy(connection)[5:] == (None, None)
    assert "was not paused" in pgflow("queues", "resume", "emails").stderr
    assert [row[0] for row in actions(connection)] == [
        "queues.pause", "queues.resume", "queues.resume",
    ]  # fmt: skip
    assert pgflow("queues", "resume", "nobody").returncode == 3


def test_a_queue_may_be_paused_before_its_first_job(pgflow, connection):
    done = pgflow("queues", "pause", "new", "other", "--yes")
    assert done.returncode == 0
    assert 'queue "new" has had no job yet' in done.stderr
    assert actions(connection)[0][5]["queues"] == ["new", "other"]


@pytest.mark.parametrize("status", ["queued", "scheduled", "dlq"])
def test_a_purge_takes_its_status_and_nothing_else(pgflow, connection, status):
    queued = plant(connection, 5, queue="emails")
    scheduled = plant(connection, 4, queue="emails", due_in="1 hour")
    other = plant(connection, 2, queue="other")
    dead = plant(connection, 3, queue="emails", due_in="2 hours")
    for job in dead:
        unqueue(connection, job)
        bury(connection, job)
    connection.execute("update pgflow.dead_letters set queue = 'emails'")
    count = {"queued": 5, "scheduled": 4, "dlq": 3}[status]
    purge = ("queues", "purge", "emails", "--status", status, "--batch-size", "2")
    assert pgflow(*purge).returncode == 4
    assert pgflow(*purge, "--confirm", "other").returncode == 4
    assert pgflow(*purge, "--confirm", "emails", "--max", "2").returncode == 4
    dry = pgflow(*purge, "-n")
    assert f"{count} {status} jobs of emails" in dry.stderr
    assert "--confirm emails" in dry.stdout
    assert actions(connection) == []

    done = pgflow(*purge, "--confirm", "emails", "--note", "too late")
    assert done.returncode == 0, done.stderr
    [(name, queue, jobs, note, finished, _)] = actions(connection)
    assert (name, queue, jobs, note, finished) == (
        "queues.purge", "emails", count, "too late", True,
    )  # fmt: skip
    ended = {"queued": queued, "scheduled": scheduled, "dlq": dead}[status]
    for job in [*queued, *scheduled, *other]:
        assert (status_of(connection, job) == "canceled") == (job in ended)
    [(left,)] = connection.execute(
        "select count(*) from pgflow.dead_letters where resolved_at is null"
    )
    assert left == (0 if status == "dlq" else 3)
    assert audit(connection) == (0, 0)
