"""Counters count once, never fall, and stay few."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pgflow_cli import App
from pgflow_cli.errors import DatabaseUnavailable
from pgflow_cli.models.jobs import LeaseRequest, Scan
from pgflow_cli.repository import Database, Repository
from pgflow_cli.telemetry.counters import Tally
from pgflow_cli.testing import drain
from pgflow_cli.worker.heartbeat import Ledger
from tests.support.jobs import audit, expire_leases, new_worker, plant

Connection = psycopg.Connection[Any]
NOBODY = uuid.UUID(int=0)


def tally(outcome="succeeded", queue="emails", count=1, seconds=0.2):
    made = Tally()
    for _ in range(count):
        made.count([((queue, "send", outcome, "", False), seconds)])
        made.count_waits([(queue, 1.5)])
    return made


def totals(connection: Connection) -> dict[tuple[str, str], int]:
    """Return the sum over all supervisors by metric and outcome."""
    rows = connection.execute(
        "select metric, outcome, sum(count)::bigint from pgflow.worker_counters"
        " where metric <> 'flushes' group by 1, 2"
    ).fetchall()
    return {(metric, outcome): count for metric, outcome, count in rows}


def rates(connection: Connection, column: str) -> int:
    [value] = connection.execute(
        f"select coalesce(sum({column}), 0)::bigint from pgflow.queue_rates"
    ).fetchone()
    return int(value)


def lease(repository: Repository, worker_id: str, queue: str = "default") -> list[Any]:
    request = LeaseRequest(
        worker_id=worker_id,
        worker_name="w",
        code_version=None,
        batch_id=str(uuid.uuid4()),
        lease_seconds=10,
        queues=[queue],
        job_types=None,
        room=10,
        scan=Scan(),
        settlements=[],
        closed=[],
    )
    return repository.leases.settle_and_lease(request).jobs


def test_what_is_flushed_is_added_up(repository, connection):
    ledger, supervisor = Ledger(), str(uuid.uuid4())
    for _ in range(2):
        ledger.add(tally(count=3))
        ledger.flush(repository, supervisor)
    ledger.flush(repository, supervisor)
    assert totals(connection) == {
        ("attempts", "succeeded"): 6,
        ("duration", ""): 6,
        ("wait", ""): 6,
    }
    row = connection.execute(
        "select seconds, buckets from pgflow.worker_counters where metric = 'duration'"
    ).fetchone()
    assert row[0] == pytest.approx(1.2)
    assert row[1][5] == 6
    assert rates(connection, "succeeded") == 6


class LosesReplies:
    """A repository whose statement happens and whose reply does not come."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.counters = self

    def add_counters(self, *args: Any, **more: Any) -> None:
        self._repository.counters.add_counters(*args, **more)
        raise DatabaseUnavailable("the reply was lost")


def test_a_lost_reply_neither_loses_nor_doubles_a_count(repository, connection):
    ledger, supervisor = Ledger(), str(uuid.uuid4())
    ledger.add(tally(count=2))
    with pytest.raises(DatabaseUnavailable):
        ledger.flush(LosesReplies(repository), supervisor)
    ledger.add(tally(count=5))
    ledger.flush(repository, supervisor)
    assert totals(connection)["attempts", "succeeded"] == 2
    ledger.flush(repository, supervisor)
    assert totals(connection)["attempts", "succeeded"] == 7
    assert rates(connection, "succeeded") == 7


def test_a_database_that_is_away_costs_no_count(database, connection):
    ledger, supervisor = Ledger(), str(uuid.uuid4())
    ledger.add(tally())
    away = Repository.of(Database("postgresql://nobody@127.0.0.1:1/none"))
    with pytest.raises(DatabaseUnavailable):
        ledger.flush(away, supervisor)
    back = Repository.of(Database(database.url))
    ledger.flush(back, supervisor)
    back.close()
    assert totals(connection)["attempts", "succeeded"] == 1


def test_many_supervisors_add_at_once_and_others_fold(database, connection):
    def work(_: int) -> None:
        repository, ledger = Repository.of(Database(database.url)), Ledger()
        supervisor = str(uuid.uuid4())
        for _ in range(10):
            ledger.add(tally())
            ledger.add(tally(queue="billing", outcome="retried"))
            ledger.flush(repository, supervisor)
            connection_of_its_own = repository
            connection_of_its_own.counters.fold_counters(limit=1000)
        repository.close()

    connection.execute(
        "alter table pgflow.worker_counters"
        " alter first_at set default now() - interval '1 hour'"
    )
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    found = totals(connection)
    assert found["attempts", "succeeded"] == found["attempts", "retried"] == 60
    assert found["duration", ""] == found["wait", ""] == 120
    assert rates(connection, "succeeded") == 60


def test_folding_keeps_the_sums_and_leaves_one_row_of_each(repository, connection):
    for _ in range(3):
        ledger = Ledger()
        ledger.add(tally(count=2))
        ledger.flush(repository, str(uuid.uuid4()))
    before = totals(connection)
    repository.counters.fold_counters(limit=1000)
    assert totals(connection) == before
    assert connection.execute(
        "select count(distinct supervisor_id) from pgflow.worker_counters"
    ).fetchone() == (3,), "they may only just have begun"
    connection.execute(
        "update pgflow.worker_counters set first_at = now() - interval '1 hour'"
    )
    repository.counters.fold_counters(limit=1000)
    assert totals(connection) == before
    rows = connection.execute(
        "select supervisor_id, metric, buckets from pgflow.worker_counters order by 2"
    ).fetchall()
    assert [(row[0], row[1]) for row in rows] == [
        (NOBODY, "attempts"), (NOBODY, "duration"), (NOBODY, "wait"),
    ]  # fmt: skip
    assert rows[1][2][5] == 6


def test_a_living_supervisor_is_not_folded(repository, connection):
    supervisor = str(uuid.uuid4())
    repository.leases.beat(
        supervisor_id=supervisor,
        workers=[
            {
                "worker_id": new_worker(), "pid": 1, "slots": 1, "busy_slots": 0,
                "lease_seconds": 10, "quiet": False, "hushed": False,
                "retiring": False, "spare": False, "name": "w", "host": "h",
            }
        ],
        lease_ids=[],
        lease_seconds=10,
        progress={},
    )  # fmt: skip
    ledger = Ledger()
    ledger.add(tally())
    ledger.flush(repository, supervisor)
    connection.execute(
        "update pgflow.worker_counters set first_at = now() - interval '1 hour'"
    )
    repository.counters.fold_counters(limit=1000)
    assert connection.execute(
        "select distinct supervisor_id from pgflow.worker_counters"
    ).fetchall() == [(uuid.UUID(supervisor),)]


def test_what_a_reaper_settles_is_counted(repository, connection):
    plant(connection, 2)
    assert len(lease(repository, new_worker())) == 2
    expire_leases(connection)
    repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert totals(connection) == {
        ("attempts", "lost"): 2,
        ("leases_expired", ""): 1,
    }
    assert rates(connection, "lost") == 2
    for number, budget in ((1, 3), (2, 1)):
        connection.execute("update pgflow.pending set run_at = now()")
        assert len(lease(repository, new_worker())) == 2
        expire_leases(connection)
        repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=budget)
        assert totals(connection)["leases_expired", ""] == 1 + number
    found = totals(connection)
    assert (found["attempts", "lost"], found["attempts", "dlq"]) == (4, 2)
    assert rates(connection, "again") == 4
    assert audit(connection) == (0, 0)


def test_jobs_that_had_not_started_count_as_nothing(repository, connection):
    plant(connection, 3)
    worker = new_worker()
    jobs = lease(repository, worker)
    repository.unsettled_leases.end_worker(
        worker,
        status="released",
        started=[(jobs[0].job_id, 1)],
        crash_budget=3,
        error_code="WORKER_LOST",
        error_message="stopped",
    )
    assert totals(connection) == {("attempts", "released"): 1}
    assert audit(connection) == (0, 0)


def test_drain_counts_in_the_callers_transaction(connection):
    app = App()

    @app.handler("noop")
    def noop(_job: Any) -> None:
        return None

    plant(connection, 3)
    with connection.transaction(force_rollback=True):
        assert len(drain(connection, app)) == 3
        assert totals(connection)["attempts", "succeeded"] == 3
    assert totals(connection) == {}
    assert audit(connection) == (0, 0)


def test_rates_of_two_hours_ago_are_pruned_in_batches(repository, connection):
    connection.execute(
        "insert into pgflow.queue_rates (queue, since)"
        " select 'emails', now() - interval '2 hours' - n * interval '10 seconds'"
        " from generate_series(-1, 9) as n"
    )
    assert repository.counters.prune_queue_rates(limit=6) == 6
    assert repository.counters.prune_queue_rates(limit=6) in (3, 4)
    assert repository.counters.prune_queue_rates(limit=6) == 0


@pytest.mark.parametrize("table", ["ingest_decisions", "policy_decisions"])
def test_pruned_decisions_are_still_counted(table, connection):
    connection.execute(
        f"insert into pgflow.{table} (queue, minute, decision, reason_code, count)"
        " values ('emails', now(), 'DENIED', 'A', 3),"
        " ('emails', now() - interval '1 minute', 'DENIED', 'A', 4)"
    )
    connection.execute(f"delete from pgflow.{table} where count = 3")
    connection.execute(f"delete from pgflow.{table}")
    assert totals(connection) == {(table, ""): 7}


def test_a_pause_that_holds_jobs_back_is_recorded_once_a_minute(repository, connection):
    repository.counters.record_pauses()
    first, *_ = plant(connection, 3, queue="emails")
    plant(connection, 2, queue="reports", due_in="1 hour")
    plant(connection, 2, queue="billing")
    connection.execute(
        "insert into pgflow.queue_policies (queue, paused_until, paused_by, pause_note)"
        " values ('emails', 'infinity', 'me', 'smtp'),"
        " ('reports', 'infinity', 'me', ''),"
        " ('billing', now() - interval '1 second', 'me', '')"
    )
    repository.counters.record_pauses()
    repository.counters.record_pauses()
    rows = connection.execute(
        "select queue, decision, reason_code, count, sample_job_id::text,"
        " details_json->>'note' from pgflow.policy_decisions"
        " where minute = date_trunc('minute', now())"
        " or minute = date_trunc('minute', now()) - interval '1 minute'"
    ).fetchall()
    assert set(rows) == {("emails", "HELD", "QUEUE_PAUSED", 3, first, "smtp")}
    assert audit(connection) == (0, 0)
