"""How long a day takes to reach the archive, and that it does not depend on its size.

Days of several sizes, beside many jobs that wait, while a producer enqueues one job at
a time and notes the longest it had to wait. Run it with `python -m tests.benchmarks
archive`, or `… archive --sizes 200000 2000000 --pending 1000000`.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from typing import Any

import psycopg

from pgflow_cli.maintenance import MaintenancePlan, Pass, migrations
from pgflow_cli.models.maintenance import TaskReport
from pgflow_cli.repository import Database, Repository
from tests.benchmarks.durable import durable_server
from tests.support.days import Day, plant_day
from tests.support.jobs import audit

Connection = psycopg.Connection[Any]
DAY = 86_400.0
STRAGGLERS = 100

_PENDING = """
with made as (
  insert into pgflow.jobs (id, queue, job_type, payload, run_at)
  -- Each at its own time, as in life: the index of pending would let whoever looks for
  -- ids skip over entries of one and the same time (PostgreSQL 18).
  select pgflow.uuid7(), 'default', 'noop', '{}', now() + n * interval '1 ms'
  from generate_series(1, %s) as n
  returning id, queue, priority, run_at, job_type
)
insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
select queue, -priority, run_at, id, job_type from made
"""
_BURY = """
with undone as (
  delete from pgflow.job_successes
  where first_id = any(%s::uuid[])
  returning first_id as job_id
),
failed as (
  insert into pgflow.job_attempts
    (job_id, lease_id, started_at, attempt_no, status, worker_name)
  select job_id, gen_random_uuid(), now(), 1, 'failed', 'worker-1' from undone
  returning job_id
)
insert into pgflow.dead_letters
  (job_id, attempt_no, failed_attempts, queue, job_type, dlq_reason_code)
select job_id, 1, 1, 'default', 'noop', 'MAX_ATTEMPTS' from failed
"""


class Producer:
    """Enqueues one job at a time, and notes the longest it took."""

    def __init__(self, url: str) -> None:
        self.url, self.slowest, self.jobs = url, 0.0, 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Producer:
        self._thread.start()
        time.sleep(0.5)
        self.slowest = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self._stopped.is_set():
                began = time.perf_counter()
                connection.execute("select pgflow.enqueue('noop', '{}')")
                self.slowest = max(self.slowest, time.perf_counter() - began)
                self.jobs += 1


def main(arguments: list[str]) -> None:
    options = _options(arguments)
    with durable_server() as server:
        database = server.create("archive")
        repository = Repository.of(Database(database.url))
        migrations.migrate(repository)
        migrations.ensure_partitions(repository)
        repository.close()
        connection = database.connect()
        connection.execute(_PENDING, (options.pending,))
        connection.execute("vacuum analyze")
        say(f"PostgreSQL {server.version}, {options.pending:,} jobs wait")
        for number, size in enumerate(options.sizes):
            whole_day(connection, database.url, 9 + 2 * number, size, 0)
            whole_day(connection, database.url, 10 + 2 * number, size, STRAGGLERS)
        in_batches(connection, database.url, 30, options.batches)
        prune(connection, database.url)
        database.close()


def whole_day(
    connection: Connection, url: str, ago: int, size: int, stragglers: int
) -> None:
    # With stragglers one by one, so that one can be taken back.
    day = plant_day(connection, ago, size, together=1 if stragglers else 100)
    if stragglers:
        ids = day.ids(connection)[:: max(1, size // stragglers)]
        connection.execute(_BURY, (ids,))
    # As autovacuum has, a week later.
    connection.execute(f"vacuum analyze pgflow.jobs_{day.name}")
    connection.execute(f"vacuum analyze pgflow.job_successes_{day.name}")
    megabytes = size_of(connection, day)
    with Producer(url) as producer:
        report = run(url, "archive", archive_after=7 * DAY)
    say(
        f"{size:>9,} jobs, {megabytes:>5,} MB, {stragglers:>3} stay: archived in"
        f" {report.took_ms:>6.0f} ms; a producer waited {milliseconds(producer)} at"
        f" most   [{report.result}: {report.detail}]"
    )


def in_batches(connection: Connection, url: str, ago: int, size: int) -> None:
    plant_day(connection, ago, size, partitions=False, together=100)
    connection.execute("vacuum analyze pgflow.jobs_default")
    connection.execute("vacuum analyze pgflow.job_successes_default")
    with Producer(url) as producer:
        report = run(url, "archive", archive_after=7 * DAY, sleep=0.0)
    say(
        f"{report.rows:>9,} jobs row by row: {report.rows / report.took_ms * 1000:,.0f}"
        f" jobs/s; a producer waited {milliseconds(producer)} at most"
    )


def prune(connection: Connection, url: str) -> None:
    with Producer(url) as producer:
        report = run(url, "prune", archive_after=0.0, prune_after=8 * DAY)
    say(
        f"{report.rows:>9,} rows removed with their days in {report.took_ms:.0f} ms;"
        f" a producer waited {milliseconds(producer)} at most"
        f"   [{report.detail}]"
    )
    began = time.perf_counter()
    counts = audit(connection)
    say(f"audit {counts} in {time.perf_counter() - began:.1f} s")


def run(url: str, task: str, **plan: Any) -> TaskReport:
    [report] = Pass(
        Database(url), MaintenancePlan(tasks=(task,), max_runtime=3600, **plan)
    ).run()
    return report


def size_of(connection: Connection, day: Day) -> int:
    row = connection.execute(
        "select (pg_total_relation_size(%s) + pg_total_relation_size(%s)) / 1000000",
        (f"pgflow.jobs_{day.name}", f"pgflow.job_successes_{day.name}"),
    ).fetchone()
    assert row is not None
    return int(row[0])


def milliseconds(producer: Producer) -> str:
    return f"{producer.slowest * 1000:.0f} ms"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="archive", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200_000, 2_000_000])
    parser.add_argument("--pending", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=50_000)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
