"""The commands `decisions list` and `audit list`."""

from __future__ import annotations

import json

import pytest

from tests.jobs import plant

DECISION = {
    "minute", "kind", "queue", "reason_code", "count", "last_at", "sample_job_id", "id",
    "decision", "created_at", "details_json",
}  # fmt: skip
ACTION = {
    "id", "at", "actor", "action", "queue", "jobs", "state", "note", "role", "command",
    "finished_at", "plan_id", "details_json",
}  # fmt: skip


@pytest.fixture
def decided(connection) -> str:
    """Three minutes of a policy in emails, two of refusals in reports; return a job."""
    [job] = plant(connection, queue="emails")
    plant(connection, queue="reports")
    connection.execute(
        """
        insert into pgflow.policy_decisions (minute, first_at, last_at, count,
          sample_job_id, queue, decision, reason_code, details_json)
        select at, at, at + interval '50 seconds', 10, %s, 'emails', 'THROTTLED',
          'IN_FLIGHT_EXCEEDED', '{"max_in_flight": 3}'
        from generate_series(1, 3) as n,
          lateral (select date_trunc('minute', now()) - n * interval '1 min') as m (at)
        """,
        (job,),
    )
    connection.execute(
        """
        insert into pgflow.ingest_decisions (minute, first_at, last_at, count, queue,
          decision, reason_code)
        select at, at, at, 5, 'reports', 'DENIED', 'PAYLOAD_TOO_LARGE'
        from generate_series(2, 3) as n,
          lateral (select date_trunc('minute', now()) - n * interval '1 min') as m (at)
        """
    )
    return job


def rows(result) -> list[dict]:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["items"]


def test_decisions_of_both_kinds_are_listed_by_the_minute(pgflow, decided):
    found = rows(pgflow("decisions", "list", "-o", "json"))
    assert set(found[0]) == DECISION
    kinds = [row["kind"] for row in found]
    assert kinds == ["policy", "policy", "ingest", "policy", "ingest"]
    assert found[0]["sample_job_id"] == decided
    assert found[0]["details_json"] == {"max_in_flight": 3}
    assert (found[2]["decision"], found[2]["count"]) == ("DENIED", 5)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("--kind", "ingest"), 2),
        (("--kind", "policy"), 3),
        (("-q", "rep*"), 2),
        (("--reason", "IN_FLIGHT_EXCEEDED"), 3),
        (("--since", "30s"), 0),
        (("--until", "1h"), 0),
        (("--since", "1h"), 5),
    ],
)
def test_filters_narrow_decisions(pgflow, decided, words, count):
    assert len(rows(pgflow("decisions", "list", "-o", "json", *words))) == count


def test_pages_visit_each_decision_once(pgflow, decided):
    every = rows(pgflow("decisions", "list", "-o", "json"))
    found, cursor = [], []
    while True:
        result = pgflow("decisions", "list", "--limit", "2", "-o", "json", *cursor)
        found += rows(result)
        if not result.stderr:
            break
        cursor = ["--cursor", result.stderr.split()[-1]]
    assert found == every
    streamed = pgflow("decisions", "list", "--all-pages", "-o", "jsonl").stdout
    assert len(streamed.splitlines()) == 5


def test_decisions_are_grouped_by_reason(pgflow, decided):
    found = rows(pgflow("decisions", "list", "--group", "reason", "-o", "json"))
    shown = [(r["queue"], r["reason_code"], r["count"], r["minutes"]) for r in found]
    assert shown == [
        ("emails", "IN_FLIGHT_EXCEEDED", 30, 3),
        ("reports", "PAYLOAD_TOO_LARGE", 10, 2),
    ]
    assert found[0]["sample_job_id"] == decided


def test_no_decisions_is_an_empty_list(pgflow):
    assert rows(pgflow("decisions", "list", "-o", "json")) == []
    assert rows(pgflow("decisions", "list", "--group", "reason", "-o", "json")) == []


def test_the_audit_says_who_did_what_with_which_command(pgflow, connection):
    first, second = plant(connection, 2, queue="emails")
    for job in (first, second):
        pgflow("jobs", "cancel", job, "--as", "ann", "--note", "by hand")
    found = rows(pgflow("audit", "list", "-o", "json"))
    assert set(found[0]) == ACTION
    assert [row["id"] for row in found] == [2, 1]
    newest = found[0]
    assert (newest["actor"], newest["note"], newest["state"]) == (
        "ann",
        "by hand",
        "done",
    )
    assert newest["command"].startswith(f"pgflow jobs cancel {second}")
    assert newest["role"]
    ids = pgflow("audit", "list", "-o", "ids").stdout.split()
    assert ids == ["2", "1"]


def test_filters_narrow_the_audit(pgflow, connection):
    mine, other = plant(connection, 2, queue="emails")
    pgflow("jobs", "cancel", mine, "--as", "ann")
    pgflow("jobs", "cancel", "-q", "emails", "--yes", "--as", "bob")
    connection.execute("update pgflow.operator_actions set job_ids = '{}' where id = 2")
    for words, wanted in (
        (("--actor", "ann"), [1]),
        (("--action", "jobs"), [2, 1]),
        (("--action", "queues"), []),
        (("-q", "emails"), [2]),
        (("--job", mine), [1]),
        (("--job", other), [2]),
        (("--until", "1h"), []),
    ):
        found = rows(pgflow("audit", "list", "-o", "json", *words))
        assert [row["id"] for row in found] == wanted, words


def test_an_action_that_was_ended_half_way_is_unfinished(pgflow, connection):
    connection.execute(
        "insert into pgflow.operator_actions (actor, action, command)"
        " values ('ann', 'jobs.cancel', 'pgflow jobs cancel --all')"
    )
    [row] = rows(pgflow("audit", "list", "-o", "json"))
    assert row["state"] == "unfinished"


def test_pages_visit_each_action_once(pgflow, connection):
    connection.execute(
        "insert into pgflow.operator_actions (actor, action, command)"
        " select 'ann', 'jobs.cancel', 'x' from generate_series(1, 5)"
    )
    first = pgflow("audit", "list", "--limit", "3", "-o", "ids")
    cursor = first.stderr.split()[-1]
    rest = pgflow("audit", "list", "--limit", "3", "-o", "ids", "--cursor", cursor)
    assert (first.stdout + rest.stdout).split() == ["5", "4", "3", "2", "1"]
