"""How fast jobs are enqueued, against bare inserts and COPY on the same server.

Run it with `python -m tests.benchmarks.bench_enqueue`. The ratios of one run are what
counts: another machine, or a neighbour, changes every absolute figure. The server is a
private one with its usual durability (fsync on).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

import pgflow_cli
from pgflow_cli.operations.enqueue import new_job_id, new_job_ids
from pgflow_cli.repository import sqlfiles
from tests.benchmarks.durable import durable_server
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
JOB_TYPE = "email_send"

# What the gate does at least, without checks, guards, policy, wake-up and same-id rule.
BARE_ONE = """
with job as (
  insert into pgflow.jobs (id, queue, job_type, payload)
  values (%s, 'default', %s, %s::jsonb)
  returning id, queue, priority, run_at, job_type
)
insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
select queue, -priority, run_at, id, job_type from job
"""
BARE_MANY = """
with given as materialized (
  select job_type, payload_json, id
  from rows from (
    jsonb_to_recordset(%s::jsonb) as (job_type text, payload_json jsonb),
    unnest(%s::text::uuid[])
  ) as given (job_type, payload_json, id)
),
job as (
  insert into pgflow.jobs (id, queue, job_type, payload)
  select id, 'default', job_type, payload_json from given
  returning id, queue, priority, run_at, job_type
)
insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
select queue, -priority, run_at, id, job_type from job
"""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def payload(n: int) -> dict[str, object]:
    return {"to": f"user{n}@example.org", "template": "welcome", "n": n}


def bodies(first: int, size: int) -> str:
    jobs = (
        {"job_type": JOB_TYPE, "payload_json": payload(n)}
        for n in range(first, first + size)
    )
    return json.dumps(list(jobs))


def per_second(jobs: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return jobs / (time.perf_counter() - began)


def singly(connection: Connection, jobs: int, *, bare: bool) -> float:
    def work() -> None:
        for n in range(jobs):
            text = json.dumps(payload(n))
            if bare:
                connection.execute(BARE_ONE, (new_job_id(), JOB_TYPE, text))
            else:
                connection.execute(
                    "select pgflow.enqueue(%s, %s::jsonb)", (JOB_TYPE, text)
                )

    return per_second(jobs, work)


def through_client(connection: Connection, jobs: int) -> float:
    def work() -> None:
        for n in range(jobs):
            pgflow_cli.enqueue(connection, JOB_TYPE, payload(n))

    return per_second(jobs, work)


def in_calls(connection: Connection, jobs: int, size: int, *, bare: bool) -> float:
    calls = [bodies(first, size) for first in range(0, jobs, size)]

    def work() -> None:
        for text in calls:
            ids = f"{{{','.join(new_job_ids(size))}}}"
            if bare:
                connection.execute(BARE_MANY, (text, ids))
            else:
                connection.execute(
                    "select cardinality(pgflow.enqueue_many("
                    "%s::jsonb, job_ids => %s::text::uuid[]))",
                    (text, ids),
                )

    return per_second(len(calls) * size, work)


def client_in_calls(connection: Connection, jobs: int) -> float:
    given = [{"job_type": JOB_TYPE, "payload": payload(n)} for n in range(jobs)]
    return per_second(jobs, lambda: pgflow_cli.enqueue_many(connection, given))


def copied(connection: Connection, jobs: int) -> float:
    """COPY into a bare table without an index: what the server takes at most."""
    connection.execute("create table bare (job_type text, payload jsonb)")

    def work() -> None:
        with connection.cursor() as cursor:
            text = "copy bare (job_type, payload) from stdin"
            with cursor.copy(text) as copy:
                for n in range(jobs):
                    copy.write_row((JOB_TYPE, json.dumps(payload(n))))

    rate = per_second(jobs, work)
    connection.execute("drop table bare")
    return rate


def from_a_file(database: Database, jobs: int, *options: str) -> tuple[float, float]:
    """Return jobs a second of the command, its start included, and its peak in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "jobs.jsonl")
        with file.open("w") as lines:
            for n in range(jobs):
                body = {"job_type": JOB_TYPE, "payload_json": payload(n)}
                lines.write(json.dumps(body) + "\n")
        program = str(Path(sys.executable).with_name("pgflow"))
        began = time.perf_counter()
        process = subprocess.Popen(
            [program, "enqueue", "--batch", str(file), *options],
            env={**os.environ, "DATABASE_URL": database.url},
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, "the command failed"
    return jobs / took, _mebibytes(usage)


def _mebibytes(usage: resource.struct_rusage) -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 1024 / 1024


def median(measure: Callable[[], float], rounds: int) -> float:
    found = sorted(measure() for _ in range(rounds))
    return found[len(found) // 2]


def measured(
    database: Database, *, jobs: int, rounds: int
) -> Iterator[tuple[str, float, str]]:
    """Measure in turn: figure, jobs a second, and what it is held against."""
    connection = database.connect()
    ones, calls = max(200, jobs // 50), max(5000, jobs // 5)

    def reset() -> None:
        connection.execute("truncate pgflow.jobs, pgflow.pending")

    def fresh(measure: Callable[[], float]) -> float:
        def once() -> float:
            reset()
            return measure()

        return median(once, rounds)

    yield "bare 1", fresh(lambda: singly(connection, ones, bare=True)), ""
    yield "enqueue 1", fresh(lambda: singly(connection, ones, bare=False)), "bare 1"
    yield "Python 1", fresh(lambda: through_client(connection, ones)), "bare 1"
    for size in (100, 1000):
        bare = fresh(lambda s=size: in_calls(connection, calls, s, bare=True))
        gate = fresh(lambda s=size: in_calls(connection, calls, s, bare=False))
        yield f"bare {size}", bare, ""
        yield f"enqueue_many {size}", gate, f"bare {size}"
    yield "Python many", fresh(lambda: client_in_calls(connection, calls)), "bare 1000"
    yield "copy", fresh(lambda: copied(connection, jobs)), ""
    peaks: list[float] = []

    def file(*options: str) -> float:
        rate, peak = from_a_file(database, jobs, *options)
        peaks.append(peak)
        return rate

    yield "file, atomic", fresh(file), "copy"
    yield "file, --no-atomic", fresh(lambda: file("--no-atomic")), "copy"
    few = from_a_file(database, 1000)[1]
    reset()
    say(f"peak memory of the command: {max(peaks):.0f} MiB; of 1,000 lines {few:.0f}")


def main(arguments: list[str]) -> None:
    """Print figures and their ratios in one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    with durable_server() as server:
        database = server.create(f"pgflow_bench_{os.getpid()}")
        try:
            with database.connect() as connection, connection.transaction():
                connection.execute("create schema pgflow")
                for migration in sqlfiles.migrations():
                    connection.execute(migration.text.encode())
            rates: dict[str, float] = {}
            for name, rate, other in measured(
                database, jobs=given.jobs, rounds=given.rounds
            ):
                rates[name] = rate
                ratio = f"{rate / rates[other]:5.2f} × {other}" if other else ""
                say(f"{name:20}{rate:10,.0f} jobs/s  {ratio}")
        finally:
            server.drop(database)


if __name__ == "__main__":
    main(sys.argv[1:])
