"""What is counted of queues is right, bounded, and of one instant."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import NotFound
from pgflow_cli.inspection import prometheus
from pgflow_cli.inspection import queues as queue_report
from pgflow_cli.repository import Database, Repository
from pgflow_cli.telemetry.counters import Tally
from pgflow_cli.worker.heartbeat import Ledger
from tests.repository.test_audit import bury
from tests.repository.test_counters import lease
from tests.repository.test_cycle import settle, success
from tests.support.jobs import audit, new_worker, plant

Connection = psycopg.Connection[Any]


def look(repository: Repository, **more: Any) -> dict[str, Any]:
    return {
        status.queue: status for status in queue_report.take(repository, **more).queues
    }


def work(repository: Repository, queues: list[str] | None = None) -> None:
    """Make a worker known."""
    repository.leases.beat(
        supervisor_id=str(uuid.uuid4()),
        workers=[
            {
                "worker_id": new_worker(), "pid": 1, "slots": 8, "busy_slots": 3,
                "lease_seconds": 10, "quiet": False, "hushed": False,
                "retiring": False, "spare": False, "name": "w", "host": "h",
                "queues": queues,
            }
        ],
        lease_ids=[],
        lease_seconds=10,
        progress={},
    )  # fmt: skip


def count(
    repository: Repository,
    connection: Connection,
    queue: str,
    outcomes: dict[str, int],
    *,
    seconds: float = 0.2,
    again: bool = False,
    ago: int = 20,
) -> None:
    """Let attempts have ended some seconds ago."""
    tally = Tally()
    for outcome, number in outcomes.items():
        code = "" if outcome == "succeeded" else "TIMEOUT"
        tally.count([((queue, "send", outcome, code, again), seconds)] * number)
        tally.count_waits([(queue, 0.3)] * number)
    ledger = Ledger()
    ledger.add(tally)
    ledger.flush(repository, str(uuid.uuid4()))
    connection.execute(
        "update pgflow.queue_rates set since = since - %s * interval '1 second'"
        " where queue = %s and since > now() - interval '10 seconds'",
        (ago, queue),
    )


def test_each_place_is_counted(repository, connection):
    plant(connection, 3, queue="emails")
    plant(connection, 2, queue="emails", priority=5)
    plant(connection, 4, queue="emails", due_in="1 hour")
    plant(connection, 1, queue="other")
    lease(repository, new_worker(), "emails")
    plant(connection, 7, queue="emails")
    [dead] = plant(connection, queue="emails")
    connection.execute("delete from pgflow.pending where job_id = %s", (dead,))
    bury(connection, dead)
    connection.execute("update pgflow.dead_letters set queue = 'emails'")
    found = look(repository)
    emails = found["emails"]
    assert (emails.runnable, emails.scheduled, emails.running, emails.dlq) == (
        7, 4, 5, 1,
    )  # fmt: skip
    assert found["other"].runnable == 1
    assert emails.unserved
    assert audit(connection) == (0, 0)


def test_a_settled_job_of_a_lease_runs_no_more(repository, connection):
    plant(connection, 2)
    worker_id = new_worker()
    first, _ = lease(repository, worker_id)
    settle(repository, success(first), worker_id=worker_id)
    assert look(repository)["default"].running == 1
    assert audit(connection) == (0, 0)


def test_counts_end_at_their_limit_and_say_so(repository, connection):
    plant(connection, 12)
    plant(connection, 11, due_in="1 hour")
    plant(connection, 10, queue="small")
    found = look(repository, counted=10)
    assert found["default"].runnable_words == found["default"].scheduled_words == "10+"
    assert not found["default"].counts_are_exact
    assert found["small"].runnable_words == "10"
    assert found["small"].counts_are_exact


def test_the_oldest_due_job_is_found_in_any_rank(repository, connection):
    plant(connection, priority=3, due_in="-5 seconds")
    plant(connection, priority=-3, due_in="-2 minutes")
    plant(connection, due_in="1 hour")
    assert look(repository)["default"].oldest_age_seconds == pytest.approx(120, abs=5)


def test_rates_are_of_the_window(repository, connection):
    count(repository, connection, "emails", {"succeeded": 90, "retried": 20, "dlq": 10})
    count(repository, connection, "emails", {"succeeded": 30}, again=True, ago=30)
    connection.execute("insert into pgflow.queue_ranks values ('emails', 0)")
    emails = look(repository)["emails"]
    # The window is 50 to 60 s: whole steps of ten seconds, but for the last one.
    assert 130 / 60 <= emails.out_per_sec <= 130 / 49
    assert emails.error_percent == pytest.approx(20)
    assert emails.retry_percent == pytest.approx(20)
    assert emails.mean_ms == pytest.approx(200)
    assert 100 < emails.p95_ms <= 250
    assert sum(emails.steps) == 130
    connection.execute(
        "update pgflow.queue_rates set since = since - interval '5 minutes'"
    )
    assert look(repository)["emails"].error_percent is None
    assert look(repository, window=600.0)["emails"].out_per_sec > 0.2


def test_arrivals_are_sampled_and_the_span_is_told(repository, connection):
    plant(connection, 60)
    found = queue_report.take(repository)
    assert found.queues[0].in_per_sec == pytest.approx(1.0)
    rows = repository.link.tuples("measure_arrivals", {"window": 60, "limit": 20})
    spans = {covered for _, covered, _ in rows}
    assert len(spans) == 1
    [covered] = spans
    assert 0 < covered < 60
    assert sum(arrived for _, _, arrived in rows) >= 20


def test_jobs_of_the_past_and_of_the_future_have_not_just_arrived(
    repository, connection
):
    plant(connection, 5)
    connection.execute(
        "select pgflow.enqueue('noop', job_id => pgflow.uuid7_at("
        "pgflow.uuid7_ticks() + 4096000::bigint * 3600))"
    )
    connection.execute(
        "update pgflow.jobs set created_at = now() - interval '5 minutes'"
        " where id = (select min(id::text)::uuid from pgflow.jobs)"
    )
    assert look(repository)["default"].in_per_sec == pytest.approx(4 / 60)


def test_a_queue_that_grows_will_not_drain_and_needs_workers(repository, connection):
    work(repository)
    plant(connection, 120, queue="emails")
    count(repository, connection, "emails", {"succeeded": 30})
    emails = look(repository)["emails"]
    assert emails.forecast.verdict == "growing"
    assert emails.forecast.workers_needed >= 2
    assert emails.drain_words == "never"


def test_a_queue_that_is_worked_off_drains(repository, connection):
    work(repository)
    plant(connection, 60, queue="emails")
    connection.execute("update pgflow.jobs set created_at = now() - interval '1 hour'")
    count(repository, connection, "emails", {"succeeded": 60})
    emails = look(repository)["emails"]
    assert emails.forecast.verdict == "draining"
    assert emails.forecast.seconds == pytest.approx(55, abs=6)


def test_too_few_jobs_foretell_nothing(repository, connection):
    work(repository)
    plant(connection, 10, queue="emails")
    count(repository, connection, "emails", {"succeeded": 9})
    assert look(repository)["emails"].forecast.verdict == "unknown"
    assert look(repository)["emails"].drain_words == ""


def test_workers_are_those_that_serve_the_queue(repository, connection):
    plant(connection, queue="emails")
    plant(connection, queue="reports")
    work(repository, ["emails"])
    found = look(repository)
    assert (found["emails"].workers, found["reports"].workers) == (1, 0)
    assert found["reports"].hindrance == "NO WORKER"


def test_policy_and_pause_are_told(repository, connection):
    plant(connection, queue="emails")
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_in_flight,"
        " max_attempts_per_minute, paused_until, paused_by, pause_note)"
        " values ('emails', 10, 600, 'infinity', 'me', 'smtp'),"
        " ('later', null, null, now() + interval '1 hour', 'me', null),"
        " ('over', null, null, now() - interval '1 hour', 'me', null)"
    )
    found = look(repository)
    assert found["emails"].policy_words == "max 10, 600/min"
    assert found["emails"].paused == {"by": "me", "note": "smtp", "until": None}
    assert found["emails"].hindrance == "PAUSED"
    assert found["later"].paused["until"] is not None
    assert found["over"].paused is None


def test_an_unknown_queue_is_not_found(repository):
    with pytest.raises(NotFound):
        queue_report.take_one(repository, "nix", window=60)


def test_no_statement_of_a_census_scans_all_jobs(repository, connection):
    """By the plan: an index, also for arrivals, and no day but those of the window."""
    plant(connection, 300)
    connection.execute("analyze pgflow.jobs")
    from pgflow_cli.repository import sqlfiles  # noqa: PLC0415

    statement = sqlfiles.statement("measure_arrivals")
    values = {"window": 60.0, "limit": 20_000}
    text = statement.text.decode()
    for number, name in enumerate(statement.parameters, 1):
        text = text.replace(f"${number}", str(values[name]))
    with connection.transaction():
        connection.execute("set local enable_seqscan = off")
        plan = connection.execute("explain " + text).fetchall()
    lines = "\n".join(row[0] for row in plan)
    assert "Seq Scan on jobs" not in lines
    assert "Subplans Removed" in lines, "days before the window are not opened"


def test_queues_are_counted_by_their_indexes(connection):
    """A scan of the table looks cheap to the planner where most rows are counted."""
    from pgflow_cli.repository import sqlfiles  # noqa: PLC0415

    connection.execute(
        "insert into pgflow.pending (run_at, job_id, rank, queue, job_type)"
        " select now() - interval '1 hour', gen_random_uuid(), 0, 'deep', 't'"
        " from generate_series(1, 20000)"
    )
    connection.execute(
        "insert into pgflow.dead_letters (job_id, attempt_no, failed_attempts, queue,"
        " job_type, dlq_reason_code) select gen_random_uuid(), 1, 1, 'deep', 't', 'X'"
        " from generate_series(1, 20000)"
    )
    connection.execute("insert into pgflow.queue_ranks values ('deep', 0)")
    connection.execute("analyze pgflow.pending, pgflow.dead_letters")
    text = sqlfiles.statement("measure_queues").text.decode()
    for number, name in enumerate(sqlfiles.statement("measure_queues").parameters, 1):
        value = {"queues": "'{deep,rare}'", "limit": "10001"}[name]
        text = text.replace(f"${number}", value)
    plan = "\n".join(row[0] for row in connection.execute("explain " + text))
    assert "Seq Scan on pending" not in plan
    assert "Seq Scan on dead_letters" not in plan


# Metrics.


def samples(snapshot: prometheus.Snapshot) -> dict[tuple[str, ...], float]:
    """Return the value of each series, by its name and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in prometheus.metrics(snapshot)
        for sample in family.samples
    }


def test_metrics_have_what_was_counted(repository, connection):
    work(repository, ["emails"])
    plant(connection, 3, queue="emails")
    count(repository, connection, "emails", {"succeeded": 5, "dlq": 2})
    connection.execute(
        "insert into pgflow.ingest_decisions"
        " (queue, minute, decision, reason_code, count)"
        " values ('emails', now(), 'DENIED', 'PAYLOAD_TOO_LARGE', 4)"
    )
    found = samples(prometheus.collect(repository))
    assert found["pgflow_db_up",] == 1
    assert found["pgflow_queue_jobs", "emails", "runnable"] == 3
    assert found["pgflow_attempts_total", "emails", "send", "", "succeeded"] == 5
    assert found["pgflow_attempts_total", "emails", "send", "TIMEOUT", "dlq"] == 2
    assert found["pgflow_job_duration_seconds_bucket", "emails", "send", "0.1"] == 0
    assert found["pgflow_job_duration_seconds_bucket", "emails", "send", "0.25"] == 7
    assert found["pgflow_job_duration_seconds_count", "emails", "send"] == 7
    assert found["pgflow_job_wait_seconds_bucket", "emails", "+Inf"] == 7
    assert found["pgflow_workers", "emails"] == 1
    assert found["pgflow_worker_slots", "emails", "free"] == 5
    assert found["pgflow_worker_processes", "leasing"] == 1
    connection.execute("update pgflow.workers set retiring = true, quiet = true")
    found = samples(prometheus.collect(repository))
    assert found["pgflow_workers", "emails"] == 0
    assert found["pgflow_worker_processes", "leasing"] == 0
    assert found["pgflow_worker_processes", "retiring"] == 1
    assert found["pgflow_ingest_decisions_total", "emails", "PAYLOAD_TOO_LARGE"] == 4
    assert found["pgflow_queue_depth",] == 3
    assert found["pgflow_jobs_failed_last_60s",] == 2
    assert found["pgflow_fenced",] == 0


def test_counters_never_fall_when_decisions_are_pruned(repository, connection):
    connection.execute(
        "insert into pgflow.policy_decisions"
        " (queue, minute, decision, reason_code, count)"
        " values ('emails', now(), 'HELD', 'QUEUE_PAUSED', 4)"
    )
    name = ("pgflow_policy_decisions_total", "emails", "QUEUE_PAUSED")
    before = samples(prometheus.collect(repository))[name]
    connection.execute("delete from pgflow.policy_decisions")
    assert samples(prometheus.collect(repository))[name] == before == 4


def test_a_database_that_is_away_is_a_metric():
    away = Repository.of(Database("postgresql://nobody@127.0.0.1:1/none"))
    text = prometheus.text(prometheus.collect(away)).decode()
    assert "pgflow_db_up 0.0" in text
    assert "pgflow_queue_jobs" not in text


def test_the_labels_seen_first_keep_their_series(repository, connection):
    for name in ("zzz", *(f"q{n:03}" for n in range(220))):
        connection.execute(
            "insert into pgflow.worker_counters (supervisor_id, metric, queue,"
            " job_type, outcome, count, first_at) values (gen_random_uuid(),"
            " 'attempts', %s, 't', 'succeeded', 1, clock_timestamp())",
            (name,),
        )
    found = samples(prometheus.collect(repository))
    assert found["pgflow_attempts_total", "zzz", "t", "", "succeeded"] == 1
    assert found["pgflow_attempts_total", "other", "t", "", "succeeded"] == 21
    assert sum(v for k, v in found.items() if k[0] == "pgflow_attempts_total") == 221


def test_queues_that_matter_have_their_label_before_all_others(repository, connection):
    count = (
        "insert into pgflow.worker_counters (supervisor_id, metric, queue, job_type,"
        " code, count, first_at) values (gen_random_uuid(), %s, %s, %s, %s, 1,"
        " clock_timestamp())"
    )
    made_up = [f"a{n:03}" for n in range(220)]
    for name in made_up:
        connection.execute("select pgflow.enqueue('t', queue => %s)", (name,))
        connection.execute(count, ("arrivals", name, f"type-{name}", ""))
        connection.execute(
            count, ("attempts", f"gone-{name}", f"bad-{name}", "UNKNOWN_JOB_TYPE")
        )
    plant(connection, 1, queue="worked")
    connection.execute(count, ("attempts", "worked", "handled", ""))
    connection.execute("insert into pgflow.queue_policies values ('ruled', 1)")
    found = samples(prometheus.collect(repository))
    shown = {k[1] for k in found if k[0] == "pgflow_queue_jobs"}
    assert len(shown) == 201
    assert shown - {*made_up} == {"worked", "ruled", "other"}
    assert found["pgflow_attempts_total", "worked", "handled", "", ""] == 1
    gone = [k for k in found if k[0] == "pgflow_attempts_total" and k[1] == "other"]
    assert sum(found[k] for k in gone) == 220


def test_a_queue_too_deep_to_count_is_estimated(repository, connection, monkeypatch):
    monkeypatch.setattr(prometheus, "COUNTED", 100)
    plant(connection, 1000, queue="deep")
    plant(connection, 50, queue="flat")
    connection.execute("analyze pgflow.pending")
    found = samples(prometheus.collect(repository))
    assert found["pgflow_queue_jobs", "deep", "runnable"] == pytest.approx(
        1000, rel=0.1
    )
    assert found["pgflow_queue_jobs", "flat", "runnable"] == 50


def test_the_document_has_the_names_of_the_http_api(repository, connection):
    plant(connection, 2)
    document = prometheus.document(queue_report.take(repository))
    [queue] = document["queues"]
    assert queue["runnable_queue_depth"] == 2
    assert set(queue) == {
        "at", "queue", "runnable_queue_depth", "jobs_per_sec", "success_rate",
        "retry_rate", "mean_latency_ms", "oldest_runnable_age_seconds", "scheduled",
        "running", "dlq", "drain", "counts_are_exact",
    }  # fmt: skip
