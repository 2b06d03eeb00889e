"""What explain tells beside its verdict: the story, similar errors, replays, rates."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from pgflow_cli.inspection import explanation
from pgflow_cli.inspection.explanation import document
from pgflow_cli.models.explanation import Backlog
from pgflow_cli.repository import sqlfiles
from tests.repository.test_audit import attempt, bury, cancel, lease, unqueue
from tests.repository.test_explanation import Worker, decide, explain
from tests.repository.test_overview import nodes
from tests.repository.test_policies import asking, limit
from tests.support.jobs import audit, plant

Connection = psycopg.Connection[Any]
ERROR = "f1-3ac91b20"


def act(
    connection: Connection,
    action: str,
    *,
    queue: str | None = None,
    job_ids: list[str] | None = None,
    ago: str = "0 s",
    details: dict[str, object] | None = None,
) -> int:
    row = connection.execute(
        "insert into pgflow.operator_actions"
        " (at, actor, action, queue, command, note, job_ids, details_json)"
        " values (now() - %s::interval, 'ann', %s, %s, 'pgflow', 'why', %s::uuid[], %s)"
        " returning id",
        (ago, action, queue, job_ids or [], json.dumps(details or {})),
    ).fetchone()
    assert row is not None
    return int(row[0])


def die(connection: Connection, job_id: str, *, ago: str = "0 s") -> None:
    unqueue(connection, job_id)
    attempt(connection, job_id, "failed")
    bury(connection, job_id)
    connection.execute(
        "update pgflow.dead_letters set error_fingerprint = %s, code_version = 'v2',"
        " died_at = now() - %s::interval where job_id = %s",
        (ERROR, ago, job_id),
    )


def events(explained: explanation.Explanation, kind: str) -> list[tuple[str, str]]:
    return [(e.event, e.detail) for e in explained.story if e.kind == kind]


def enqueued_ago(connection: Connection, job_id: str, ago: str) -> None:
    connection.execute(
        "update pgflow.jobs set created_at = now() - %s::interval,"
        " run_at = now() - %s::interval where id = %s",
        (ago, ago, job_id),
    )
    connection.execute(
        "update pgflow.pending set run_at = jobs.run_at from pgflow.jobs"
        " where jobs.id = pending.job_id and job_id = %s",
        (job_id,),
    )


def test_throttles_of_its_queue_while_it_waited_are_told(connection, repository):
    [job_id] = plant(connection)
    enqueued_ago(connection, job_id, "10 min")
    decide(connection, "IN_FLIGHT_EXCEEDED", ago="20 min")  # before it came
    decide(connection, "IN_FLIGHT_EXCEEDED", ago="5 min")
    connection.execute(
        "insert into pgflow.policy_decisions (queue, decision, reason_code, minute)"
        " values ('other', 'THROTTLED', 'IN_FLIGHT_EXCEEDED', now())"
    )
    [(event, detail)] = events(explain(repository, job_id), "PolicyDecision")
    assert event == "throttled"
    assert detail.startswith("IN_FLIGHT_EXCEEDED 10/10, 2s in all, to ")
    assert audit(connection) == (0, 0)


def test_minutes_of_one_throttle_are_one_line_unless_something_happened(
    connection, repository
):
    [job_id] = plant(connection)
    enqueued_ago(connection, job_id, "20 min")
    for minutes in (9, 8, 7, 3, 2):
        decide(connection, "IN_FLIGHT_EXCEEDED", ago=f"{minutes} min")
    decide(connection, "RETRY_RATE_EXCEEDED", ago="1 min")
    told = events(explain(repository, job_id), "PolicyDecision")
    assert [detail.split(",")[1].strip() for _, detail in told] == [
        "6s in all",
        "4s in all",
        "2s in all",
    ]
    act(connection, "queues.set-policy", queue="default", ago="8 min 30 s")
    assert len(events(explain(repository, job_id), "PolicyDecision")) == 4


def test_a_throttle_while_it_ran_or_was_not_due_held_nothing_up(connection, repository):
    [job_id] = plant(connection)
    enqueued_ago(connection, job_id, "20 min")
    unqueue(connection, job_id)
    connection.execute(
        "insert into pgflow.job_attempts (job_id, lease_id, attempt_no, status,"
        " worker_name, started_at, finished_at, next_run_at) values (%s,"
        " gen_random_uuid(), 1, 'failed', 'w', now() - interval '15 min',"
        " now() - interval '10 min', now() - interval '2 min')",
        (job_id,),
    )
    lease(connection, job_id, 2)
    decide(connection, "IN_FLIGHT_EXCEEDED", ago="12 min")  # it ran
    decide(connection, "IN_FLIGHT_EXCEEDED", ago="5 min")  # it was not due
    assert events(explain(repository, job_id), "PolicyDecision") == []
    decide(connection, "IN_FLIGHT_EXCEEDED", ago="1 min")
    assert len(events(explain(repository, job_id), "PolicyDecision")) == 1


def test_what_the_lease_itself_records_is_told(connection, repository):
    limit(connection, max_in_flight=1)
    first, second = plant(connection, 2)
    Worker().register(connection)
    assert [j.job_id for j in repository.leases.lease_limited(asking())] == [first]
    explained = explain(repository, second)
    assert explained.verdict == "IN_FLIGHT_EXCEEDED"
    assert events(explained, "PolicyDecision") == [
        ("throttled", "IN_FLIGHT_EXCEEDED 1/1")
    ]


def test_minutes_of_a_pause_are_one_line(connection, repository):
    [job_id] = plant(connection)
    enqueued_ago(connection, job_id, "20 min")
    for minutes in (9, 8, 7):
        decide(connection, "QUEUE_PAUSED", ago=f"{minutes} min")
    connection.execute(
        "update pgflow.policy_decisions set decision = 'HELD', count = 3112,"
        ' details_json = \'{"paused_by": "ann"}\''
    )
    [(event, detail)] = events(explain(repository, job_id), "PolicyDecision")
    assert event == "held"
    assert detail.startswith("QUEUE_PAUSED by ann, to ")


def test_what_operators_did_to_a_job_or_its_queue_is_told(connection, repository):
    [job_id] = plant(connection)
    enqueued_ago(connection, job_id, "1 hour")
    act(connection, "queues.pause", queue="default", ago="2 hours")  # before it came
    act(connection, "queues.pause", queue="other", ago="9 min")
    act(connection, "dlq.discard", queue="default", ago="9 min")  # of other jobs
    act(connection, "queues.pause", queue="default", ago="8 min")
    act(connection, "queues.resume", details={"queues": ["a", "default"]}, ago="7 min")
    act(connection, "fence.accept", ago="6 min")
    act(connection, "jobs.run-now", job_ids=[job_id], ago="5 min")
    explained = explain(repository, job_id)
    assert events(explained, "OperatorAction") == [
        (name, "by ann: why")
        for name in ("queues.pause", "queues.resume", "fence.accept", "jobs.run-now")
    ]
    story = document.timeline(explained)["story"]
    assert [entry["action"] for entry in story] == [
        "queues.pause", "queues.resume", "fence.accept", "jobs.run-now",
    ]  # fmt: skip
    assert set(story[0]) == {"kind", "at", "id", "actor", "action", "note"}


def test_what_ended_a_job_is_told_once_even_beyond_the_first_thousand(
    connection, repository
):
    canceled, discarded = plant(connection, 2)
    unqueue(connection, canceled)
    cancel(connection, canceled)
    number = act(connection, "jobs.cancel")
    connection.execute("update pgflow.canceled_jobs set action_id = %s", (number,))
    die(connection, discarded)
    number = act(connection, "dlq.discard")
    connection.execute(
        "update pgflow.dead_letters set action_id = %s, resolved_at = now(),"
        " resolution = 'discarded'",
        (number,),
    )
    explained = explain(repository, canceled)
    assert [e.event for e in explained.story] == ["enqueued", "canceled"]
    assert document.timeline(explained)["story"][0]["action"] == "jobs.cancel"
    explained = explain(repository, discarded)
    assert explained.story[-1].event == "resolved"
    assert explained.story[-1].detail == "discarded, by ann (why)"
    assert audit(connection) == (0, 0)


def test_who_paused_a_queue_and_when_is_what_the_audit_says(connection, repository):
    [job_id] = plant(connection)
    Worker().register(connection)
    connection.execute(
        "insert into pgflow.queue_policies (queue, paused_until, paused_by)"
        " values ('default', 'infinity', 'ann')"
    )
    act(connection, "queues.pause", queue="default", ago="2 days")
    row = connection.execute(
        "select to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
        " from pgflow.operator_actions"
    ).fetchone()
    assert row is not None
    assert f"by ann at {row[0]} UTC" in explain(repository, job_id).summary[0]


def test_jobs_that_died_of_the_same_error_are_counted(
    connection, repository, monkeypatch
):
    jobs = plant(connection, 5)
    for job_id, ago in zip(jobs, ("0 s", "1 min", "3 min", "3 h", "4 h"), strict=True):
        die(connection, job_id, ago=ago)
    connection.execute(
        "update pgflow.job_attempts set error_fingerprint = %s, code_version = 'v1',"
        " started_at = '2026-01-02 11:14+00', finished_at = '2026-01-02 11:14+00'"
        " where job_id = %s",
        (ERROR, jobs[2]),
    )
    assert explain(repository, jobs[0]).similar == (
        f"{ERROR}: 2 other jobs in the last 2h, 4 in all, "
        "first seen 2026-01-02 11:14 with version v1"
    )
    monkeypatch.setattr(Backlog, "LIMIT", 3)
    assert "2 other jobs in the last 2h, 3+ in all" in str(
        explain(repository, jobs[0]).similar
    )
    monkeypatch.setattr(Backlog, "LIMIT", 1)
    assert "1+ other jobs in the last 2h, first" in str(
        explain(repository, jobs[0]).similar
    )


def test_replays_are_told_both_ways_with_what_became_of_them(connection, repository):
    first, second, third = plant(connection, 3)
    connection.execute(
        "update pgflow.jobs set replay_of_job_id = case id when %s then %s::uuid"
        " else %s::uuid end where id in (%s, %s)",
        (second, first, second, second, third),
    )
    for source, replay in ((first, second), (second, third)):
        die(connection, source)
        connection.execute(
            "update pgflow.dead_letters set resolved_at = now(),"
            " resolution = 'replayed', replay_job_id = %s where job_id = %s",
            (replay, source),
        )
    kin = {
        job_id: [
            (each.is_source, each.step, each.job_id, each.status)
            for each in repository.explanation.describe_job(job_id).kin
        ]
        for job_id in (first, second, third)
    }
    assert kin == {
        first: [(False, 1, second, "dlq"), (False, 2, third, "queued")],
        second: [(True, 1, first, "dlq"), (False, 1, third, "queued")],
        third: [(True, 1, second, "dlq"), (True, 2, first, "dlq")],
    }
    explained = explain(repository, first)
    assert explained.next_commands == [f"pgflow explain {second}"]
    assert events(explained, "Replay") == [("resolved", f"replayed by {second}")]
    entry = document.timeline(explained)["story"][-1]
    assert (entry["kind"], entry["new_job_id"]) == ("Replay", second)
    assert audit(connection) == (0, 0)


def test_a_large_backlog_is_counted_by_its_index(connection, repository):
    """The planner read all of a million jobs to find that none stands ahead."""
    jobs = plant(connection, 20_000)
    connection.execute("analyze pgflow.pending")
    for place in (0, 9_999, 19_999):
        scans = scans_of_backlog(connection, repository, jobs[place])
        assert scans, place
        assert "Seq Scan" not in {n["Node Type"] for n in scans}, place
        assert sum(n.get("Rows Removed by Filter", 0) for n in scans) == 0, place


def scans_of_backlog(connection, repository, job_id):
    """Return how pending is read to measure what stands ahead of a job."""
    job = repository.explanation.describe_job(job_id).job
    statement = sqlfiles.statement("measure_backlog")
    values = {
        "queue": "default",
        "rank": job.rank,
        "run_at": job.run_at,
        "job_id": job.job_id,
        "job_types": None,
        "limit": Backlog.LIMIT,
    }
    cursor = psycopg.RawCursor(connection)
    cursor.execute(
        b"explain (analyze, format json, timing off) " + statement.text,
        [values[name] for name in statement.parameters],
    )
    row = cursor.fetchone()
    assert row is not None
    return [n for n in nodes(row[0][0]["Plan"]) if n.get("Relation Name") == "pending"]


def test_a_replay_of_what_did_not_die_is_known_by_its_plan(connection, repository):
    source, replay = plant(connection, 2)
    unqueue(connection, source)
    attempt(connection, source, "succeeded")
    row = connection.execute(
        "insert into pgflow.replay_plans (action_id, batch_size, max_payload_bytes,"
        " runner) values (1, 1, 9, 'me') returning id"
    ).fetchone()
    assert row is not None
    connection.execute(
        "insert into pgflow.replay_items (plan_id, place, source_job_id, new_job_id,"
        " state) values (%s, 1, %s, %s, 'created')",
        (row[0], source, replay),
    )
    explained = explain(repository, source)
    assert events(explained, "Replay") == [("replayed", f"by {replay}")]
    assert document.explanation(explained)["replays"]["by"] == replay
    assert audit(connection) == (0, 0)


def test_a_ring_of_replays_ends(connection, repository):
    [job_id] = plant(connection)
    die(connection, job_id)
    connection.execute("update pgflow.jobs set replay_of_job_id = id")
    connection.execute(
        "update pgflow.dead_letters set resolved_at = now(), resolution = 'replayed',"
        " replay_job_id = job_id"
    )
    assert len(repository.explanation.describe_job(job_id).kin) == 20


@pytest.mark.parametrize(
    ("arrived", "done", "verdict", "told"),
    [
        (3, 2, "unknown", "unknown (only 5 jobs came or went in the last 10m)"),
        (30, 400, "draining", "drains in ~"),
        (600, 2, "growing", "will not drain: +60/min"),
        (100, 100, "steady", "neither drains nor grows"),
    ],
)
def test_whoever_is_behind_learns_whether_the_queue_drains(
    connection, repository, arrived, done, verdict, told
):
    connection.execute(
        "insert into pgflow.queue_rates (queue, since, succeeded) values ('default',"
        " date_bin('10 seconds', now() - interval '5 min', '2000-01-01Z'), %s)",
        (done,),
    )
    jobs = plant(connection, arrived)
    Worker().register(connection)
    explained = explain(repository, jobs[-1])
    assert explained.verdict == "BEHIND"
    assert told in explained.summary[1]
    assert ("Its turn is in about" in explained.summary[1]) == (arrived != 3)
    assert document.explanation(explained)["drain"]["verdict"] == verdict
    assert audit(connection) == (0, 0)


def test_progress_of_a_running_job_is_told(connection, repository):
    [job_id] = plant(connection)
    unqueue(connection, job_id)
    lease(connection, job_id)
    connection.execute(
        "update pgflow.leases"
        " set progress = jsonb_build_object(%s::text, '[40, 100]'::jsonb)",
        (job_id,),
    )
    assert "Progress 40 of 100." in explain(repository, job_id).summary[1]


def test_the_jobs_that_use_up_a_limit_are_named(connection, repository):
    limit(connection, max_in_flight=2)
    held = plant(connection, 3)
    Worker().register(connection)
    assert len(repository.leases.lease_limited(asking())) == 2
    told = explain(repository, held[2]).summary
    assert "2/2 in flight (max_in_flight)" in told[0]
    for job_id in held[:2]:
        assert f"{job_id[-8:]} on trial for" in told[1]
    assert "Position 1 of 1" in told[1]
