"""What was enqueued is counted once: late or early, by whoever looks, for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pgflow_cli.maintenance import MaintenancePlan, Pass
from pgflow_cli.operations.enqueue import new_job_id
from pgflow_cli.repository import Database, Repository, counters
from tests.repository.test_replays import replay
from tests.support import servers
from tests.support.days import plant_day
from tests.support.jobs import plant, plant_dead

Connection = psycopg.Connection[Any]
__all__ = ["replay"]  # a fixture


@pytest.fixture(autouse=True)
def looks_begin_an_hour_ago(connection: Connection) -> None:
    begin_looks(connection, "1 hour")


def begin_looks(connection: Connection, ago: str) -> None:
    connection.execute(
        "update pgflow.arrival_looks set until = "
        "date_bin('10 seconds', now() - %s::interval, '2000-01-01 00:00:00+00')",
        (ago,),
    )


def enqueue(
    connection: Connection,
    count: int = 1,
    *,
    ago: float = 1800.0,
    queue: str = "emails",
    job_type: str = "send",
    apart: float = 0.001,
) -> list[str]:
    """Enqueue jobs with ids of some seconds ago; each was made so much after the one
    before.
    """
    rows = connection.execute(
        """
        select pgflow.enqueue(%s, '{}', queue => %s, job_id => pgflow.uuid7_at(
          pgflow.uuid7_ticks() - ((%s::float8 - n * %s::float8) * 4096000)::bigint
        ))::text
        from generate_series(0, %s - 1) as n
        """,
        (job_type, queue, ago, apart, count),
    ).fetchall()
    return [row[0] for row in rows]


def look(repository: Repository, **more: Any) -> None:
    while repository.counters.count_arrivals(**more):
        pass


def counted(connection: Connection) -> dict[tuple[str, str], int]:
    rows = connection.execute(
        "select queue, job_type, sum(count)::bigint from pgflow.worker_counters"
        " where metric = 'arrivals' group by 1, 2"
    ).fetchall()
    return {(queue, job_type): count for queue, job_type, count in rows}


def test_each_job_is_counted_by_queue_and_type(repository, connection):
    enqueue(connection, 30, apart=7)
    enqueue(connection, 20, queue="reports", job_type="build")
    look(repository)
    assert counted(connection) == {("emails", "send"): 30, ("reports", "build"): 20}


def test_looking_again_and_at_greater_age_counts_nothing_twice(repository, connection):
    enqueue(connection, 30, apart=40)
    for _ in range(6):
        look(repository)
    assert counted(connection) == {("emails", "send"): 30}
    passed = connection.execute("select until from pgflow.arrival_looks").fetchall()
    assert len(passed) == 4


def test_what_is_committed_late_is_counted_by_a_later_look(
    database, repository, connection
):
    # First: whoever uses a queue for the first time makes others wait for its commit.
    enqueue(connection, 3)
    late = database.connect(autocommit=False)
    enqueue(late, 5)
    look(repository)
    look(repository)
    assert counted(connection) == {("emails", "send"): 3}
    late.commit()
    # The looks of the first two ages have passed it; that of an hour has not.
    begin_later_looks(connection, "40 minutes")
    look(repository)
    look(repository)
    assert counted(connection) == {("emails", "send"): 8}


def begin_later_looks(connection: Connection, ago: str) -> None:
    """Let the looks but the first stand before the ids, as they do in their time."""
    connection.execute(
        "update pgflow.arrival_looks set until ="
        " date_bin('10 seconds', now() - %s::interval, '2000-01-01 00:00:00+00')"
        " where age > interval '2 seconds'",
        (ago,),
    )


def test_a_slice_is_not_counted_before_it_is_over(repository, connection):
    begin_looks(connection, "10 seconds")
    plant(connection, 4)
    look(repository)
    begun, until = connection.execute(
        "select now(), until from pgflow.arrival_looks order by age limit 1"
    ).fetchone()
    assert until <= begun
    assert sum(counted(connection).values()) in {0, 4}, "a whole slice or none of it"


def test_an_id_of_the_future_is_counted_in_its_time(repository, connection):
    enqueue(connection, 2, ago=-600)
    enqueue(connection, 1)
    look(repository)
    assert counted(connection) == {("emails", "send"): 1}


def test_however_many_look_at_once_each_job_counts_once(database, connection):
    enqueue(connection, 400, apart=4)

    def work(_: int) -> None:
        own = Repository.of(Database(database.url))
        for _ in range(40):
            own.counters.count_arrivals(limit=20)
        own.close()

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))
    last = Repository.of(Database(database.url))
    for _ in range(5):
        look(last)
    last.close()
    assert counted(connection) == {("emails", "send"): 400}


def test_whoever_is_killed_while_looking_has_counted_nothing(
    database, repository, connection, wait_until
):
    enqueue(connection, 5)
    half_way = database.connect(autocommit=False)
    half_way.execute("select")
    Repository.over(half_way).counters.count_arrivals()
    assert not repository.counters.count_arrivals(), "another session looks"
    assert counted(connection) == {}
    session = half_way.info.backend_pid
    half_way.close()
    wait_until(
        lambda: (
            not connection.execute(
                "select from pg_stat_activity where pid = %s", (session,)
            ).rowcount
        ),
        "the server has noticed, and let go of its lock",
    )
    look(repository)
    assert counted(connection) == {("emails", "send"): 5}


def test_a_look_reads_so_many_jobs_and_goes_on_where_it_ended(repository, connection):
    enqueue(connection, 100, apart=5)
    calls = 1
    while repository.counters.count_arrivals(limit=10):
        calls += 1
    assert 9 <= calls <= 12
    assert counted(connection) == {("emails", "send"): 100}


def test_a_slice_with_more_jobs_than_a_look_reads_is_counted_whole(
    repository, connection
):
    enqueue(connection, 50, apart=0.0)
    enqueue(connection, 50, ago=1000, apart=0.0)
    look(repository, limit=10)
    assert counted(connection) == {("emails", "send"): 100}


def test_ids_made_up_for_one_slice_are_counted_up_to_a_limit(
    repository, connection, monkeypatch
):
    monkeypatch.setattr(counters, "_ARRIVALS_OF_A_SLICE", 20)
    enqueue(connection, 50, apart=0.0)
    look(repository, limit=10)
    look(repository, limit=10)
    assert counted(connection) == {("emails", "send"): 20}


def test_series_are_limited_and_the_rest_is_other(repository, connection, monkeypatch):
    monkeypatch.setattr(counters, "_ARRIVAL_SERIES", 3)
    for number in range(5):
        enqueue(connection, queue=f"q{number}")
    look(repository)
    enqueue(connection, queue="q0", ago=1700)
    enqueue(connection, 2, queue="q9", ago=1700)
    begin_looks(connection, "1 hour")
    look(repository)
    assert counted(connection) == {
        ("q0", "send"): 2, ("q1", "send"): 1, ("q2", "send"): 1, ("other", "other"): 4,
    }  # fmt: skip


def test_slices_are_forgotten_after_their_last_look(repository, connection):
    begin_looks(connection, "3 hours")
    enqueue(connection, 40, ago=9000, apart=60)
    for _ in range(4):
        look(repository)
    assert connection.execute(
        "select count(*) > 0 from pgflow.arrival_slices"
    ).fetchone() == (True,)
    # What the last look has passed is forgotten with the next one.
    begin_later_looks(connection, "1 hour 1 minute")
    begin_looks(connection, "1 hour 1 minute")
    look(repository)
    [oldest] = connection.execute(
        "select now() - min(slice) < interval '1 hour 2 minutes'"
        " from pgflow.arrival_slices"
    ).fetchone()
    assert oldest in {None, True}
    assert counted(connection) == {("emails", "send"): 40}


def test_a_sum_does_not_fall_when_jobs_are_archived_or_removed(
    database, repository, connection
):
    begin_looks(connection, "10 days")
    plant_day(connection, ago=9, count=25)
    [key] = counted_after(repository, connection)
    assert counted(connection)[key] == 25
    plan = MaintenancePlan(sleep=0.0, tasks=("archive", "prune"), prune_after=1.0)
    Pass(Database(database.url), plan).run()
    begin_looks(connection, "10 days")
    for _ in range(4):
        look(repository)
    assert counted(connection) == {key: 25}


def counted_after(repository: Repository, connection: Connection) -> list[Any]:
    look(repository)
    return list(counted(connection))


def test_archived_jobs_that_nobody_had_counted_are_counted(
    database, repository, connection
):
    begin_looks(connection, "10 days")
    plant_day(connection, ago=9, count=25)
    plan = MaintenancePlan(sleep=0.0, tasks=("archive",))
    Pass(Database(database.url), plan).run()
    [row] = connection.execute("select count(*) from pgflow.jobs_archive").fetchall()
    assert row[0] > 0
    look(repository)
    assert sum(counted(connection).values()) == 25


def test_maintain_counts_where_no_worker_does(database, connection):
    enqueue(connection, 7)
    plan = MaintenancePlan(sleep=0.0, tasks=("rate-counters",))
    Pass(Database(database.url), plan).run()
    assert counted(connection) == {("emails", "send"): 7}


def test_a_dry_run_counts_nothing(database, connection):
    enqueue(connection, 7)
    plan = MaintenancePlan(dry_run=True, tasks=("rate-counters",))
    Pass(Database(database.url), plan).run()
    assert counted(connection) == {}


def test_nothing_on_the_way_of_an_enqueue_knows_of_it(connection):
    """No trigger, no column, no index: enqueue is what it was."""
    assert connection.execute(
        "select count(*) from pg_trigger where not tgisinternal"
        " and tgrelid in ('pgflow.jobs'::regclass, 'pgflow.pending'::regclass)"
    ).fetchone() == (0,)
    assert connection.execute(
        "select count(*) from pg_proc where pronamespace = 'pgflow'::regnamespace"
        " and proname in ('enqueue', 'enqueue_many')"
        " and prosrc ~ 'arrival|worker_counters'"
    ).fetchone() == (0,)


def test_a_producers_own_ids_are_counted_like_the_gates(repository, connection):
    given = new_job_id()
    [(gates,)] = connection.execute("select pgflow.uuid7()::text").fetchall()
    milliseconds = [int(each.replace("-", "")[:12], 16) for each in (given, gates)]
    assert abs(milliseconds[0] - milliseconds[1]) < 60_000


def test_replays_are_counted_in_the_transaction_that_makes_them(
    replay, repository, connection
):
    ids = plant_dead(connection, 5)
    replay(ids, batch_size=2)
    replay(ids)
    replay(ids[:2], again=True, to_queue="slow")
    connection.execute("delete from pgflow.replay_items")
    connection.execute("delete from pgflow.replay_plans")
    rows = connection.execute(
        "select queue, count from pgflow.worker_counters where metric = 'replays'"
        " order by queue"
    ).fetchall()
    assert rows == [("emails", 5), ("slow", 2)]


def test_a_series_is_as_old_as_its_first_decision_though_that_is_pruned(connection):
    connection.execute(
        "insert into pgflow.ingest_decisions"
        " (queue, minute, decision, reason_code, first_at) values"
        " ('emails', now() - interval '8d', 'DENIED', 'A', now() - interval '8d'),"
        " ('emails', now() - interval '7d', 'DENIED', 'A', now() - interval '7d')"
    )
    connection.execute("delete from pgflow.ingest_decisions where minute < now()")
    assert connection.execute(
        "select now() - first_at > interval '7 days 23 hours'"
        " from pgflow.worker_counters"
    ).fetchall() == [(True,)]


def test_the_looks_go_by_index_however_old_statistics_are(
    database: servers.Database, connection: Connection
) -> None:
    """A partition that has filled up since it was analysed looks small to a plan."""
    connection.execute("analyze pgflow.jobs")
    enqueue(connection, 3000, ago=3000, apart=0.9)
    connection.execute("update pgflow.arrival_looks set until = until")
    repository = Repository.of(Database(database.url))
    with repository.transaction():
        repository.link.tuples("plan_by_index")
        plan = explained(repository)
    repository.close()
    assert "Seq Scan on jobs" not in plan
    assert "Bitmap Heap Scan on jobs" not in plan


def explained(repository: Repository) -> str:
    from pgflow_cli.repository import sqlfiles  # noqa: PLC0415

    statement = sqlfiles.statement("count_arrivals")
    given = {"limit": 100, "most_of_a_slice": 1000, "most_series": 10}
    cursor = psycopg.RawCursor(repository.link.raw())
    cursor.execute(
        "explain (analyze, costs off) " + statement.text.decode(),
        [given[name] for name in statement.parameters],
    )
    return "\n".join(row[0] for row in cursor.fetchall())
