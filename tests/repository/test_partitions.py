"""Day partitions: made beside those who write, whoever else makes them."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import TryLater
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.schema import PartitionPlan
from pgflow_cli.repository import Database, Repository
from tests.support.jobs import successes

DAY = timedelta(days=1)
Connection = psycopg.Connection[Any]


def id_of(instant: datetime) -> str:
    """Return a UUIDv7 of an instant."""
    milliseconds = int(instant.timestamp() * 1000)
    return str(
        uuid.UUID(
            int=(milliseconds << 80)
            | (7 << 76)
            | (2 << 62)
            | uuid.uuid4().int & (1 << 62) - 1
        )
    )


TABLES = ("jobs", "job_successes", "job_attempts")


def name_of(table: str, day: datetime) -> str:
    return f"{table}_{day:%Y%m%d}"


@pytest.fixture
def today(connection: Connection) -> datetime:
    row = connection.execute("select date_trunc('day', now() at time zone 'UTC')")
    return row.fetchone()[0].replace(tzinfo=UTC)  # type: ignore[index]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let partitions be made at leisure: a machine with more to do than it can has no
    time limit of a second or two.
    """
    monkeypatch.setattr(migrations, "_PARTITION_LOCK_TIMEOUT", 60)
    monkeypatch.setattr(migrations, "_PARTITION_PATIENCE", 60)


def insert(connection: Connection, job_id: str) -> None:
    connection.execute(
        "insert into pgflow.jobs (id, queue, job_type, payload)"
        " values (%s, 'default', 'noop', '{}')",
        (job_id,),
    )


def home_of(connection: Connection, table: str, job_id: str) -> str:
    key = {"jobs": "id", "job_attempts": "job_id"}.get(table, "first_id")
    row = connection.execute(
        f"select tableoid::regclass::text from pgflow.{table} where {key} = %s",
        (job_id,),
    ).fetchone()
    return str(row[0]).removeprefix("pgflow.")  # type: ignore[index]


def drop_partitions(connection: Connection, *days: datetime) -> None:
    for day in days:
        for table in TABLES:
            connection.execute(f"drop table pgflow.{name_of(table, day)}")


def test_there_is_a_partition_for_each_day_from_yesterday_on(
    connection: Connection, repository: Repository, today: datetime
) -> None:
    assert migrations.ensure_partitions(repository) == []
    for ahead in range(-1, migrations.DAYS_AHEAD + 1):
        last_moment = today + (ahead + 1) * DAY - timedelta(milliseconds=1)
        for instant in (today + ahead * DAY, last_moment):
            insert(connection, job_id := id_of(instant))
            assert home_of(connection, "jobs", job_id) == name_of("jobs", instant)
    for outside in (today - 2 * DAY, today + (migrations.DAYS_AHEAD + 1) * DAY):
        insert(connection, job_id := id_of(outside))
        assert home_of(connection, "jobs", job_id) == "jobs_default"


def test_a_partition_is_made_of_the_same_stuff_as_its_table(
    connection: Connection, today: datetime
) -> None:
    partition = f"pgflow.{name_of('jobs', today)}"
    with pytest.raises(psycopg.errors.CheckViolation, match="priority_is_in_range"):
        connection.execute(
            f"insert into {partition} (id, queue, job_type, payload, priority)"
            " values (%s, 'default', 'noop', '{}', 101)",
            (id_of(today),),
        )
    unattached = connection.execute(
        """
        select index.indexrelid::regclass::text
        from pg_index as index
        join pg_class as relation on relation.oid = index.indrelid
        where relation.relname ~ '^(jobs|job_attempts|job_successes)_[0-9]{8}$'
          and not exists (select from pg_inherits where inhrelid = index.indexrelid)
        """
    ).fetchall()
    assert unattached == [], "every index belongs to the table's own"


@pytest.mark.usefixtures("patient")
def test_rows_that_fell_into_the_default_partition_move_into_their_day(
    connection: Connection, repository: Repository, today: datetime
) -> None:
    drop_partitions(connection, today, today + DAY)
    jobs = [id_of(today), id_of(today + DAY), id_of(today + DAY / 2)]
    for job_id in jobs:
        insert(connection, job_id)
        connection.execute(
            "insert into pgflow.job_attempts (job_id, lease_id, started_at,"
            " attempt_no, status, worker_name)"
            " values (%s, gen_random_uuid(), now(), 1, 'failed', 'w')",
            (job_id,),
        )
        connection.execute(successes(f"select '{job_id}'::uuid as job_id"))
        assert home_of(connection, "jobs", job_id) == "jobs_default"
    made = migrations.ensure_partitions(repository)
    assert made == [
        name_of(table, day) for day in (today, today + DAY) for table in TABLES
    ]
    for table in TABLES:
        homes = [home_of(connection, table, job_id) for job_id in jobs]
        assert homes == [name_of(table, day) for day in (today, today + DAY, today)]


@pytest.mark.usefixtures("patient")
def test_an_open_producer_neither_blocks_a_partition_nor_is_blocked_by_it(
    connection: Connection, repository: Repository, today: datetime, database: Any
) -> None:
    drop_partitions(connection, today + DAY)
    producer = database.connect(autocommit=False)
    first = producer.execute("select pgflow.enqueue('noop', '{}')::text").fetchone()[0]
    assert len(migrations.ensure_partitions(repository)) == 3
    producer.execute("set local lock_timeout = '1s'")
    second = producer.execute("select pgflow.enqueue('noop', '{}')::text").fetchone()[0]
    producer.commit()
    assert {home_of(connection, "jobs", job_id) for job_id in (first, second)} == {
        name_of("jobs", today)
    }


def test_while_today_is_missing_an_open_producer_is_left_in_peace(
    connection: Connection, repository: Repository, today: datetime, database: Any
) -> None:
    """Its row is in the default partition, uncommitted: nobody can move it yet."""
    drop_partitions(connection, today)
    producer = database.connect(autocommit=False)
    job_id = producer.execute("select pgflow.enqueue('noop', '{}')::text").fetchone()[0]
    begun = time.monotonic()
    with pytest.raises(TryLater, match=name_of("jobs", today)):
        migrations.ensure_partitions(repository)
    assert time.monotonic() - begun < 30
    producer.commit()
    assert len(migrations.ensure_partitions(repository)) == 3
    assert home_of(connection, "jobs", job_id) == name_of("jobs", today)


def make(repository: Repository, plan: PartitionPlan) -> None:
    with repository.transaction():
        repository.schema.make_partition(plan.statements, patience=60)


def test_a_row_that_came_after_the_strays_were_counted_moves_too(
    connection: Connection, repository: Repository, today: datetime
) -> None:
    drop_partitions(connection, today)
    plans = repository.schema.plan_partitions(days_ahead=0, most_strays=10)
    assert [plan.strays for plan in plans] == [0, 0, 0]
    insert(connection, job_id := id_of(today))
    for plan in plans:
        make(repository, plan)
    assert home_of(connection, "jobs", job_id) == name_of("jobs", today)


def test_a_row_of_a_later_day_that_comes_meanwhile_puts_its_partition_off(
    connection: Connection, repository: Repository, today: datetime
) -> None:
    drop_partitions(connection, today + DAY)
    plans = repository.schema.plan_partitions(days_ahead=1, most_strays=10)
    insert(connection, job_id := id_of(today + DAY))
    with pytest.raises(TryLater, match="rows of its day were written meanwhile"):
        make(repository, next(plan for plan in plans if "jobs" in plan.name))
    assert len(migrations.ensure_partitions(repository)) == 3
    assert home_of(connection, "jobs", job_id) == name_of("jobs", today + DAY)


@pytest.mark.direct
def test_producers_go_on_while_the_missing_day_is_made(
    connection: Connection, repository: Repository, today: datetime, database: Any
) -> None:
    """No row is refused, though its writer had chosen the default partition before."""
    drop_partitions(connection, today)
    stop = threading.Event()

    def produce(_: int) -> int:
        count = 0
        with psycopg.connect(database.url, autocommit=True) as producer:
            while not stop.is_set():
                producer.execute("select pgflow.enqueue('noop', '{}')")
                count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        producing = [pool.submit(produce, number) for number in range(4)]
        made = False
        try:
            while not made:
                with suppress(TryLater):
                    migrations.ensure_partitions(repository)
                    made = True
        finally:
            stop.set()
        enqueued = sum(done.result() for done in producing)
    row = connection.execute(
        f"select count(*), (select count(*) from pgflow.{name_of('jobs', today)}),"
        " (select count(*) from pgflow.jobs_default) from pgflow.jobs"
    ).fetchone()
    assert row == (enqueued, enqueued, 0)


@pytest.mark.usefixtures("patient")
def test_two_runners_at_once_make_each_partition_once(
    connection: Connection, database: Any, today: datetime
) -> None:
    drop_partitions(connection, *(today + n * DAY for n in range(-1, 4)))
    start = threading.Barrier(4)

    def run(_: int) -> list[str]:
        repository = Repository.of(Database(database.url))
        try:
            start.wait(timeout=30)
            return migrations.ensure_partitions(repository)
        except TryLater:
            return []
        finally:
            repository.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    repository = Repository.of(Database(database.url))
    migrations.ensure_partitions(repository)
    repository.close()
    made = connection.execute(
        "select count(*) from pg_inherits where inhparent = 'pgflow.jobs'::regclass"
    ).fetchone()
    assert made == (6,)


@pytest.mark.usefixtures("patient")
def test_a_day_with_too_many_strays_stays_in_the_default_partition(
    connection: Connection, repository: Repository, today: datetime, monkeypatch: Any
) -> None:
    drop_partitions(connection, today)
    for _ in range(3):
        insert(connection, id_of(today))
    monkeypatch.setattr(migrations, "MOST_STRAYS", 2)
    assert migrations.ensure_partitions(repository) == [
        name_of(table, today) for table in ("job_successes", "job_attempts")
    ]
    monkeypatch.setattr(migrations, "MOST_STRAYS", 3)
    assert migrations.ensure_partitions(repository) == [name_of("jobs", today)]


def test_a_distant_run_at_makes_no_partition(
    connection: Connection, repository: Repository
) -> None:
    connection.execute(
        "select pgflow.enqueue('noop', '{}', run_at => now() + n * interval '1 day')"
        " from generate_series(1, 400) as n"
    )
    assert migrations.ensure_partitions(repository) == []
    assert connection.execute(
        "select count(*) from pgflow.jobs_default"
    ).fetchone() == (0,)
