"""What `maintain` moves and removes, and what it leaves alone."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import ConfigurationError, OutcomeUnknown, TryLater
from pgflow_cli.maintenance import (
    MaintenancePlan,
    Pass,
    archive,
    migrations,
    run_forever,
)
from pgflow_cli.maintenance.run import TASKS
from pgflow_cli.models.maintenance import TaskReport
from pgflow_cli.repository import Database, Repository
from tests.repository.test_audit import attempt, bury, cancel, lease, unqueue
from tests.support.days import Day, plant_day
from tests.support.jobs import (
    attempts_of,
    audit,
    expire_leases,
    plant,
    status_of,
    successes,
)

Connection = psycopg.Connection[Any]
A_WEEK = MaintenancePlan(sleep=0.0)
ARCHIVE = replace(A_WEEK, tasks=("archive",))
PRUNE = replace(A_WEEK, tasks=("prune",))


@pytest.fixture
def maintain(database: Any) -> Any:
    """Run a pass and return its reports by task; every one ends with the audit."""

    def run(plan: MaintenancePlan = A_WEEK) -> dict[str, TaskReport]:
        reports = Pass(Database(database.url), plan).run()
        assert audit(database.connect()) == (0, 0)
        return {report.task: report for report in reports}

    return run


def partitions(connection: Connection, parent: str) -> set[str]:
    rows = connection.execute(
        "select inhrelid::regclass::text from pg_inherits"
        " where inhparent = %s::regclass",
        (f"pgflow.{parent}",),
    )
    return {row[0].removeprefix(f"pgflow.{parent}_") for row in rows}


def unfinish(connection: Connection, job_id: str, how: str) -> None:
    """Take a job's success back, and put it in another place."""
    connection.execute(
        "delete from pgflow.job_successes where first_id = %s", (job_id,)
    )
    attempt(connection, job_id, "failed")
    if how == "dead":
        bury(connection, job_id)
    elif how == "canceled":
        cancel(connection, job_id)
    elif how == "leased":
        lease(connection, job_id, 2)
    else:
        connection.execute(
            "insert into pgflow.pending (queue, rank, run_at, job_id, attempt_no,"
            " job_type) values ('default', 0, now(), %s, 1, 'noop')",
            (job_id,),
        )


def succeed(connection: Connection, job_id: str, ago: str) -> None:
    """Let a job that waits have succeeded some time ago."""
    unqueue(connection, job_id)
    connection.execute(
        successes(
            f"select '{job_id}'::uuid as job_id",
            attempt_no=2,
            at=f"now() - interval '{ago}'",
        )
    )


def test_a_day_that_has_succeeded_goes_to_the_archive_as_a_whole(connection, maintain):
    day = plant_day(connection, 9, 100)
    recent = plant_day(connection, 3, 50)
    waiting = plant(connection, 5)
    report = maintain(ARCHIVE)["archive"]
    assert (report.result, report.rows) == ("ok", 100)
    assert "whole (100 jobs)" in report.detail
    assert day.ids(connection) == []
    assert day.ids(connection, "job_successes") == []
    assert len(day.ids(connection, "jobs_archive")) == 100
    assert len(day.ids(connection, "job_successes_archive")) == 100
    for table in ("jobs", "job_attempts", "job_successes"):
        assert day.name not in partitions(connection, table)
        assert day.name in partitions(connection, f"{table}_archive")
    assert len(recent.ids(connection)) == 50
    assert {status_of(connection, job) for job in waiting} == {"queued"}
    again = maintain(ARCHIVE)["archive"]
    assert (again.result, again.rows, again.batches) == ("ok", 0, None)


def test_an_archived_job_is_explained_found_and_read(connection, maintain, repository):
    day = plant_day(connection, 9, 3)
    job_id = day.ids(connection)[1]
    maintain(ARCHIVE)
    assert status_of(connection, job_id) == "succeeded"
    facts = repository.explanation.describe_job(job_id)
    assert facts.job.status == "succeeded"
    assert [a.status for a in facts.attempts] == ["succeeded"]
    assert "welcome" in repository.jobs.read_payload(job_id)
    assert repository.enqueue.has_job(job_id)
    assert repository.enqueue.list_outcomes([job_id])[0].status == "succeeded"


def test_jobs_that_were_settled_together_go_or_stay_together(connection, maintain):
    day = plant_day(connection, 9, 30, together=10)
    jobs = day.ids(connection)
    connection.execute(
        "update pgflow.job_successes set settled_at = now() where first_id = %s",
        (jobs[10],),
    )
    report = maintain(ARCHIVE)["archive"]
    assert "10 stay" in report.detail
    assert day.ids(connection) == jobs[10:20]
    assert day.ids(connection, "job_successes") == jobs[10:20]
    assert day.ids(connection, "jobs_archive") == [*jobs[:10], *jobs[20:]]
    assert day.ids(connection, "job_successes_archive") == [*jobs[:10], *jobs[20:]]
    assert {status_of(connection, job) for job in jobs} == {"succeeded"}
    connection.execute(
        "update pgflow.job_successes set settled_at = now() - interval '9 days'"
    )
    assert maintain(ARCHIVE)["archive"].rows == 10
    assert day.ids(connection, "job_successes_archive") == jobs
    assert audit(connection) == (0, 0)


def test_few_stragglers_stay_and_the_day_goes(connection, maintain):
    day = plant_day(connection, 9, 50)
    dead, canceled, leased, pending, *done = day.ids(connection)
    unfinish(connection, dead, "dead")
    unfinish(connection, canceled, "canceled")
    unfinish(connection, leased, "leased")
    unfinish(connection, pending, "pending")
    before = {
        job: (status_of(connection, job), attempts_of(connection, job))
        for job in (dead, canceled, leased, pending)
    }
    report = maintain(ARCHIVE)["archive"]
    assert "4 stay" in report.detail
    assert report.rows == 46
    assert day.ids(connection) == sorted(before)
    assert day.ids(connection, "job_attempts") == sorted(before)
    assert day.ids(connection, "jobs_archive") == done
    assert day.ids(connection, "job_successes_archive") == done
    assert day.name not in partitions(connection, "jobs")
    after = {
        job: (status_of(connection, job), attempts_of(connection, job))
        for job in before
    }
    assert after == before


def test_a_straggler_is_archived_when_its_own_success_has_rested(connection, maintain):
    day = plant_day(connection, 9, 5)
    late, lately, *_ = day.ids(connection)
    unfinish(connection, late, "pending")
    unfinish(connection, lately, "pending")
    maintain(ARCHIVE)
    succeed(connection, late, "8 days")
    succeed(connection, lately, "6 days")
    report = maintain(ARCHIVE)["archive"]
    assert (report.rows, report.batches) == (1, 1)
    assert day.ids(connection) == [lately]
    assert late in day.ids(connection, "jobs_archive")
    archived = connection.execute(
        "select (select array_agg(status) from pgflow.job_attempts_archive"
        "  where job_id = %s),"
        " (select attempt_nos from pgflow.job_successes_archive where first_id = %s)",
        (late, late),
    ).fetchone()
    assert archived == (["failed"], [2])


def test_a_day_of_many_stragglers_is_moved_in_batches(
    connection, maintain, monkeypatch
):
    monkeypatch.setattr(archive, "FEW", 3)
    day = plant_day(connection, 9, 40)
    staying = day.ids(connection)[::8]
    for job_id in staying:
        unfinish(connection, job_id, "dead")
    plan = replace(ARCHIVE, batch_size=10)
    report = maintain(plan)["archive"]
    assert (report.result, report.rows, report.batches) == ("ok", 35, 4)
    assert day.ids(connection) == staying
    assert day.ids(connection, "job_attempts") == staying
    assert len(day.ids(connection, "jobs_archive")) == 35
    assert len(day.ids(connection, "job_successes_archive")) == 35
    assert day.name in partitions(connection, "jobs"), "too many to put back"
    assert maintain(plan)["archive"].rows == 0
    for job_id in staying[:2]:
        connection.execute(
            "delete from pgflow.dead_letters where job_id = %s", [job_id]
        )
        succeed(connection, job_id, "8 days")
    assert maintain(plan)["archive"].rows == 0, "looked through within the hour"
    connection.execute(
        "update pgflow.archive_sweeps set swept_at = now() - interval '2 hours'"
    )
    assert maintain(plan)["archive"].rows == 2
    assert day.ids(connection) == staying[2:]
    for table in ("jobs", "job_attempts", "job_successes"):
        assert day.name not in partitions(connection, table), "the rest was put back"
        assert day.name in partitions(connection, f"{table}_archive")
    assert connection.execute("select from pgflow.archive_sweeps").fetchall() == []


def test_jobs_without_a_day_of_their_own_are_moved_row_by_row(connection, maintain):
    day = plant_day(connection, 30, 12, partitions=False)
    dead, young, *done = day.ids(connection)
    unfinish(connection, dead, "dead")
    unfinish(connection, young, "pending")
    succeed(connection, young, "1 hour")
    report = maintain(replace(ARCHIVE, batch_size=3))["archive"]
    assert (report.rows, report.batches) == (10, 4)
    assert day.ids(connection) == [dead, young]
    assert day.ids(connection, "jobs_archive") == done


def test_a_day_waits_for_jobs_that_ended_after_it(connection, maintain):
    """A backlog at midnight is no straggler: the whole day goes a little later."""
    day = plant_day(connection, 8, 10)
    [since_midnight] = connection.execute(
        "update pgflow.job_successes set settled_at ="
        " date_trunc('day', now(), 'UTC') - interval '7 days' + interval '2 minutes'"
        " where first_id = %s"
        " returning date_part('epoch', now() - date_trunc('day', now(), 'UTC'))",
        (day.ids(connection)[-1],),
    ).fetchone()
    a_minute_past = replace(ARCHIVE, archive_after=7 * 86_400 + since_midnight - 60)
    assert maintain(a_minute_past)["archive"].rows == 0
    assert len(day.ids(connection)) == 10
    later = replace(ARCHIVE, archive_after=7 * 86_400 + since_midnight - 121)
    assert maintain(later)["archive"].rows == 10


def test_a_day_of_old_make_is_checked_first(connection, maintain):
    day = plant_day(connection, 9, 20)
    for table in ("jobs", "job_attempts", "job_successes"):
        connection.execute(
            f"alter table pgflow.{table}_{day.name} drop constraint id_is_of_its_day"
        )
    assert maintain(ARCHIVE)["archive"].rows == 20
    assert len(day.ids(connection, "job_successes_archive")) == 20


def test_what_was_left_half_way_is_finished(connection, maintain, repository):
    """Killed between the two tables: the jobs are archived, their attempts are not."""
    day = plant_day(connection, 9, 20)
    [plan_day] = [
        found
        for found in repository.archive.list_partition_days(
            before=repository.maintenance.find_cuts(
                archive_after=0, prune_after=0, dlq_retention=None, interval=0
            ).now
        )
        if found.day == day.name
    ]
    plan = repository.archive.plan_transfer("jobs", plan_day)
    with repository.transaction():
        repository.schema.begin_schema_change(lock_wait=1, lock_timeout=1)
        repository.schema.make_partition(plan.statements, patience=5)
    assert audit(connection) == (0, 0)
    assert status_of(connection, day.ids(connection, "jobs_archive")[0]) == "succeeded"
    maintain(ARCHIVE)
    assert day.ids(connection, "job_successes") == []
    assert len(day.ids(connection, "job_successes_archive")) == 20


def test_a_job_that_is_enqueued_into_the_old_day_at_last_stays(
    connection, maintain, database, wait_until
):
    """Its producer had not committed when the stragglers were looked for."""
    day = plant_day(connection, 9, 10)
    producer = database.connect(autocommit=False)
    [late] = producer.execute(
        "select pgflow.enqueue('noop', '{}', job_id => pgflow.uuid7_at("
        "  (date_part('epoch', now() - interval '9 days') * 4096000)::bigint))::text"
    ).fetchone()
    done: list[TaskReport] = []
    runs = threading.Thread(
        target=lambda: done.append(Pass(Database(database.url), ARCHIVE).run()[0])
    )
    runs.start()
    wait_until(
        lambda: connection.execute(
            "select 1 from pg_locks where not granted and relation = %s::regclass",
            (f"pgflow.jobs_{day.name}",),
        ).fetchone(),
        "maintain waits for the producer",
    )
    producer.commit()
    runs.join(30)
    assert done[0].result == "ok"
    assert day.ids(connection) == [late]
    assert status_of(connection, late) == "queued"
    assert audit(connection) == (0, 0)


@pytest.mark.direct
def test_who_reads_for_long_holds_up_a_day_and_the_day_nobody(
    connection, maintain, database
):
    """A dump, say: maintain gives up each time, soon, and the next pass does it."""
    day = plant_day(connection, 9, 10)
    reader = database.connect(autocommit=False)
    reader.execute("select count(*) from pgflow.jobs")
    slowest = 0.0
    stop = threading.Event()

    def produce() -> None:
        nonlocal slowest
        with psycopg.connect(database.url, autocommit=True) as producer:
            while not stop.is_set():
                began = time.monotonic()
                producer.execute("select pgflow.enqueue('noop', '{}')")
                slowest = max(slowest, time.monotonic() - began)

    producing = threading.Thread(target=produce)
    producing.start()
    report = maintain(ARCHIVE)["archive"]
    stop.set()
    producing.join()
    assert report.result == "partial"
    assert "put off" in report.detail
    assert len(day.ids(connection)) == 10
    # Held up by the day's reader, it would have waited for that as long as maintain.
    assert slowest < 20
    reader.rollback()
    assert maintain(ARCHIVE)["archive"].rows == 10


def test_the_archive_is_pruned_by_whole_days(connection, maintain):
    old, young = plant_day(connection, 16, 30), plant_day(connection, 9, 20)
    maintain(ARCHIVE)
    report = maintain(PRUNE)["prune"]
    assert (report.rows, report.detail) == (60, "attempts 30, jobs 30")
    assert old.ids(connection, "jobs_archive") == []
    assert old.ids(connection, "job_successes_archive") == []
    assert old.name not in partitions(connection, "jobs_archive")
    assert len(young.ids(connection, "job_successes_archive")) == 20


def test_a_day_is_kept_in_the_archive_for_who_ended_late(connection, maintain):
    old = plant_day(connection, 16, 5)
    late = old.ids(connection)[2]
    unfinish(connection, late, "pending")
    succeed(connection, late, "9 days")
    maintain(replace(A_WEEK, tasks=("archive", "prune")))
    assert len(old.ids(connection, "jobs_archive")) == 5
    connection.execute(
        "update pgflow.job_successes_archive set leased_at = now() - interval '15 d',"
        " settled_at = now() - interval '15 days' where first_id = %s",
        (late,),
    )
    connection.execute(
        "update pgflow.job_attempts_archive set started_at = now() - interval '15 d',"
        " finished_at = now() - interval '15 days' where job_id = %s",
        (late,),
    )
    maintain(PRUNE)
    assert old.ids(connection, "jobs_archive") == []


def test_archived_jobs_without_a_day_are_pruned_in_batches(connection, maintain):
    strays = plant_day(connection, 30, 10, partitions=False)
    maintain(ARCHIVE)
    assert len(strays.ids(connection, "jobs_archive")) == 10
    assert maintain(replace(PRUNE, dry_run=True))["prune"].detail == "jobs 10"
    report = maintain(replace(PRUNE, batch_size=4))["prune"]
    assert (report.rows, report.batches) == (20, 3)
    assert strays.ids(connection, "jobs_archive") == []
    assert strays.ids(connection, "job_successes_archive") == []


def test_history_of_what_lives_is_never_pruned(connection, maintain):
    day = plant_day(connection, 60, 4)
    states = dict(
        zip(
            day.ids(connection),
            ("dead", "canceled", "leased", "pending"),
            strict=True,
        )
    )
    for job_id, how in states.items():
        unfinish(connection, job_id, how)
        connection.execute(
            "update pgflow.job_attempts set started_at = now() - interval '60 days',"
            " finished_at = now() - interval '60 days' where job_id = %s",
            (job_id,),
        )
    for _ in range(2):
        maintain(replace(A_WEEK, tasks=("archive", "prune"), dlq_retention=0.0))
    canceled = [job for job, how in states.items() if how == "canceled"]
    left = [job for job in states if job not in canceled]
    assert day.ids(connection) == left, "a canceled one is past its retention"
    assert day.ids(connection, "job_attempts") == left


def test_the_retention_of_dead_letters_spares_unresolved_ones(connection, maintain):
    resolved, young, unresolved, canceled = plant(connection, 4)
    for job_id in (resolved, young, unresolved, canceled):
        unqueue(connection, job_id)
        attempt(connection, job_id, "failed")
    for job_id in (resolved, young, unresolved):
        bury(connection, job_id)
    cancel(connection, canceled)
    connection.execute(
        "update pgflow.dead_letters set died_at = now() - interval '99 days'"
    )
    for job_id, ago in ((resolved, "91 days"), (young, "89 days")):
        connection.execute(
            "update pgflow.dead_letters set resolution = 'discarded',"
            " resolved_at = now() - %s::interval where job_id = %s",
            (ago, job_id),
        )
    connection.execute(
        "update pgflow.canceled_jobs set canceled_at = now() - interval '91 days'"
    )
    assert maintain(PRUNE)["prune"].rows == 0, "off unless it is asked for"
    report = maintain(replace(PRUNE, dlq_retention=90 * 86_400.0))["prune"]
    assert report.detail == "attempts 2, dead letters 1, canceled jobs 1"
    kept = connection.execute("select id::text from pgflow.jobs order by 1").fetchall()
    assert [row[0] for row in kept] == sorted([young, unresolved])


def test_decisions_and_the_audit_are_pruned_by_their_own_time(connection, maintain):
    for table in ("policy_decisions", "ingest_decisions"):
        connection.execute(
            f"insert into pgflow.{table} (minute, queue, decision, reason_code)"
            " select now() - n * interval '1 hour', 'default', 'throttled', 'X'"
            " from generate_series(1, 200) as n"
        )
    connection.execute(
        "insert into pgflow.operator_actions (at, finished_at, actor, action, command)"
        " select now() - n * interval '1 day', now(), 'me', 'jobs.cancel', 'x'"
        " from generate_series(1, 100) as n"
    )
    report = maintain(replace(PRUNE, batch_size=10))["prune"]
    assert report.detail == (
        "policy decisions 33, ingest decisions 33, operator actions 11"
    )
    assert (report.rows, report.batches) == (77, 4 + 4 + 2)
    [oldest] = connection.execute(
        "select min(minute) > now() - interval '169 hours' from pgflow.policy_decisions"
    ).fetchone()
    assert oldest


def test_counters_that_no_limit_looks_at_are_removed(connection, maintain):
    connection.execute(
        "insert into pgflow.enqueue_counters (queue, minute, count)"
        " select queue, date_trunc('minute', now()) - n * interval '1 minute', 1"
        " from unnest(array['a', 'b', 'c']) as queue, generate_series(0, 99) as n"
    )
    connection.execute(
        "insert into pgflow.attempt_counters (queue, second, count)"
        " select 'a', date_trunc('second', now()) - n * interval '1 minute', 1"
        " from generate_series(0, 99) as n"
    )
    plan = replace(A_WEEK, tasks=("rate-counters",), batch_size=50)
    assert maintain(plan)["rate-counters"].rows == 4 * 40
    left = connection.execute(
        "select queue, count(*) from pgflow.enqueue_counters group by 1 order by 1"
    ).fetchall()
    assert left == [("a", 60), ("b", 60), ("c", 60)]


def test_expired_leases_are_reaped_and_their_workers_named(connection, maintain):
    jobs = plant(connection, 3)
    for job_id in jobs:
        unqueue(connection, job_id)
        lease(connection, job_id)
    expire_leases(connection)
    report = maintain(replace(A_WEEK, tasks=("reap",), batch_size=2))["reap"]
    assert (report.rows, report.batches) == (3, 2)
    assert report.detail == "1 workers gone: w"
    assert {status_of(connection, job) for job in jobs} == {"queued"}


def test_partitions_statistics_and_workers_are_seen_to(
    connection, maintain, repository
):
    # Those of the template were made up to yesterday, where midnight has passed since.
    migrations.ensure_partitions(repository)
    tomorrow = "select to_char(now() at time zone 'UTC' + interval '1 d', 'YYYYMMDD')"
    [name] = connection.execute(tomorrow).fetchone()
    connection.execute(f"drop table pgflow.jobs_{name}")
    connection.execute(
        "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
        " lease_seconds, name, host, last_heartbeat) values (gen_random_uuid(),"
        " gen_random_uuid(), 1, 1, 10, 'worker-9', 'h', now() - interval '1 day')"
    )
    done = maintain()
    assert done["partitions"].rows == 1
    assert done["partitions"].detail.startswith("created up to ")
    assert done["workers"].detail == "forgotten: worker-9"
    assert "jobs" in done["analyze"].detail.split(", ")
    assert {report.result for report in done.values()} == {"ok"}
    assert maintain()["analyze"].rows == 0


def test_a_dry_run_says_what_would_be_and_changes_nothing(
    connection, maintain, monkeypatch
):
    monkeypatch.setattr(archive, "FEW", 3)
    whole, heavy = plant_day(connection, 9, 20), plant_day(connection, 10, 10)
    plant_day(connection, 30, 5, partitions=False)
    for job_id in heavy.ids(connection)[:4]:
        unfinish(connection, job_id, "dead")
    connection.execute(
        "update pgflow.dead_letters set resolution = 'discarded',"
        " resolved_at = now() - interval '9 days'"
    )
    connection.execute(
        "insert into pgflow.policy_decisions (minute, queue, decision, reason_code)"
        " values (now() - interval '9 days', 'default', 'throttled', 'X')"
    )
    described = _everything(connection)
    done = maintain(replace(A_WEEK, dry_run=True, dlq_retention=86_400.0))
    assert _everything(connection) == described
    assert done["archive"].rows == 20 + 5
    assert "whole (20 jobs, 0 stay)" in done["archive"].detail
    assert "in batches" in done["archive"].detail
    assert done["prune"].detail == "policy decisions 1, dead letters 4"
    assert len(whole.ids(connection)) == 20


def _everything(connection: Connection) -> list[tuple[Any, ...]]:
    """Return each table of the schema with the number and newest xmin of its rows."""
    tables = connection.execute(
        "select oid::regclass::text from pg_class where relkind = 'r'"
        " and relnamespace = 'pgflow'::regnamespace order by 1"
    ).fetchall()
    return [
        (
            name,
            *connection.execute(
                f"select count(*), max(xmin::text::bigint), max(xmax::text::bigint)"
                f" from {name}"
            ).fetchone(),
        )  # type: ignore[misc]
        for (name,) in tables
    ]


def test_time_and_signals_end_a_pass_between_two_batches(connection, database):
    day = plant_day(connection, 30, 30, partitions=False)
    plan = replace(ARCHIVE, batch_size=10, sleep=0.2, max_runtime=0.1)
    [report] = Pass(Database(database.url), plan).run()
    assert (report.result, report.rows) == ("partial", 10)
    assert "--max-runtime" in report.detail
    stopped = threading.Event()
    threading.Timer(0.3, stopped.set).start()
    [report] = Pass(
        Database(database.url), replace(plan, sleep=5.0, max_runtime=60), stopped
    ).run()
    assert (report.result, report.rows) == ("partial", 10)
    assert "signal" in report.detail
    assert len(day.ids(connection)) == 10
    assert audit(connection) == (0, 0)


def test_each_task_remembers_when_it_last_succeeded(connection, maintain):
    plant_day(connection, 9, 10)
    maintain()
    maintain()
    rows = connection.execute(
        "select task, last_success_at >= last_started_at, rows_total, result"
        " from pgflow.maintenance_tasks"
    ).fetchall()
    found = {row[0]: row[1:] for row in rows}
    assert len(found) == len(TASKS)
    assert found["archive"] == (True, 10, "ok")


def test_a_task_that_fails_stops_no_other(connection, database):
    connection.execute("drop table pgflow.policy_decisions")
    done = {r.task: r for r in Pass(Database(database.url), A_WEEK).run()}
    assert done["prune"].result == "failed"
    assert "policy_decisions" in done["prune"].detail
    assert {r.result for r in done.values() if r.task != "prune"} == {"ok"}
    row = connection.execute(
        "select last_success_at, result from pgflow.maintenance_tasks"
        " where task = 'prune'"
    ).fetchone()
    assert row == (None, "failed")


def test_one_maintains_at_a_time_and_the_other_is_told_who(database, connection):
    holder = Pass(Database(database.url), A_WEEK)
    with holder._elected():
        with pytest.raises(TryLater, match=rf"pid \d+ \({holder.runner}\) since"):
            Pass(Database(database.url), A_WEEK).run()
        began = time.monotonic()
        with pytest.raises(TryLater):
            Pass(Database(database.url), replace(A_WEEK, lock_wait=1.5)).run()
        assert time.monotonic() - began >= 1.4


def test_who_loses_the_lock_ends_and_who_waits_gets_it(database, connection):
    holder = Pass(Database(database.url), A_WEEK)
    waiting = Pass(Database(database.url), replace(A_WEEK, lock_wait=20.0))
    threading.Timer(0.5, holder.abandon).start()

    def work_on() -> None:
        with holder._elected():
            assert len(waiting.run()) == len(TASKS)
            holder._keep_lock()

    with pytest.raises(OutcomeUnknown):
        work_on()


def test_a_loop_whose_schema_once_fitted_outlives_what_comes_after(
    database, connection
):
    """Though its first pass did nothing, because another one maintained."""
    with ExitStack() as maintained:
        maintained.enter_context(Pass(Database(database.url), A_WEEK)._elected())
        stopped, begun = threading.Event(), []

        def begin(current: Pass) -> None:
            begun.append(current)
            if len(begun) == 2:
                maintained.close()
                connection.execute("alter schema pgflow rename to elsewhere")
            elif len(begun) == 3:
                connection.execute("alter schema elsewhere rename to pgflow")

        run_forever(
            Database(database.url),
            A_WEEK,
            every=0.0,
            stopped=stopped,
            begin=begin,
            tell=lambda _: stopped.set(),
        )
    assert [len(each.reports) for each in begun] == [0, 0, len(TASKS)]


def test_a_loop_without_a_schema_ends_at_once(database, connection):
    connection.execute("alter schema pgflow rename to elsewhere")
    with pytest.raises(ConfigurationError):
        run_forever(
            Database(database.url), A_WEEK, every=0.0, stopped=threading.Event()
        )


def test_the_lock_holds_back_no_vacuum_and_no_reader(database, connection):
    with Pass(Database(database.url), A_WEEK)._elected():
        held = connection.execute(
            "select backend_xid, backend_xmin, state from pg_stat_activity"
            " where application_name like 'pgflow maintain%'"
        ).fetchall()
        assert held == [(None, None, "idle in transaction")]
        connection.execute("select from pgflow.maintenance_lock")


def test_a_role_that_ends_idle_transactions_does_not_end_the_lock(database, connection):
    connection.execute(
        f'alter database "{database.name}"'
        " set idle_in_transaction_session_timeout = '200ms'"
    )
    holder = Pass(Database(database.url), A_WEEK)
    with holder._elected():
        time.sleep(0.5)
        holder._keep_lock()


@pytest.mark.parametrize("table", ["jobs", "job_attempts", "job_successes"])
def test_an_archive_has_the_columns_and_rules_of_what_it_keeps(connection, table):
    columns, rules = (
        [
            connection.execute(query, (f"pgflow.{name}",)).fetchall()
            for name in (table, f"{table}_archive")
        ]
        for query in (
            "select attname, format_type(atttypid, atttypmod), attnotnull"
            " from pg_attribute where attrelid = %s::regclass and attnum > 0"
            " and not attisdropped order by attname",
            "select conname, pg_get_constraintdef(oid) from pg_constraint"
            " where conrelid = %s::regclass and contype = 'c' order by conname",
        )
    )
    assert columns[0] == columns[1]
    assert rules[0] == rules[1]


def test_a_new_partition_proves_its_range(connection):
    """Else the archive would read every row of it while everybody waits."""
    row = connection.execute(
        "select count(*) filter (where convalidated), count(*)"
        " from pg_inherits left join pg_constraint on conrelid = inhrelid"
        " and conname = 'id_is_of_its_day'"
        " where inhparent in ('pgflow.jobs'::regclass,"
        " 'pgflow.job_attempts'::regclass, 'pgflow.job_successes'::regclass)"
    ).fetchone()
    assert row == (3 * (migrations.DAYS_AHEAD + 2), 3 * (migrations.DAYS_AHEAD + 3))


def test_days_and_repository_agree(connection, repository: Repository):
    day: Day = plant_day(connection, 9, 1)
    cuts = repository.maintenance.find_cuts(
        archive_after=7 * 86_400, prune_after=0, dlq_retention=None, interval=0
    )
    [found] = repository.archive.list_partition_days(before=cuts.archive)
    assert (found.day, found.first_id, found.end_id) == (
        day.name,
        day.first_id,
        day.end_id,
    )
    assert f"{found.ends_at:%Y%m%d%H}" > f"{day.name}00"
