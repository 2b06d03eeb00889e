"""Drain, idle pick-up, memory and WAL of `pgflow work`, beside pgbench.

Both send the same settle-and-lease statement to the same server in the same run, so the
ratio holds on any machine. Jobs do nothing: what is measured is the queue.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database, Repository
from tests.benchmarks import pgbench
from tests.benchmarks.durable import durable_server
from tests.support.jobs import audit
from tests.support.servers import Server

APP = Path(__file__).with_name("noop_handlers.py")
Connection = psycopg.Connection[Any]


class Bench:
    """A server of the benchmark's own, and what has been measured on it."""

    def __init__(self, server: Server) -> None:
        self.binaries = server.binaries
        self._admin = server.url
        self.url = server.url_of("bench")
        self.connection: Connection

    def renew(self) -> None:
        """Begin with an empty, migrated database."""
        with psycopg.connect(self._admin, autocommit=True) as admin:
            admin.execute("drop database if exists bench with (force)")
            admin.execute("create database bench")
        repository = Repository.of(Database(self.url))
        migrations.migrate(repository)
        migrations.ensure_partitions(repository)
        repository.close()
        self.connection = psycopg.connect(self.url, autocommit=True)

    def load(self, jobs: int) -> None:
        """Plant jobs past the gate, with COPY, as many a second as the server takes."""
        self.connection.execute(
            """
            with planted as (
              insert into pgflow.jobs (id, queue, job_type, payload)
              select pgflow.uuid7(), 'default', 'noop', jsonb_build_object(
                'user_id', n, 'email', 'user' || n || '@example.com',
                'template', 'welcome_v2', 'body', repeat('x', 120)
              )
              from generate_series(1, %s) as n
              returning id, run_at
            )
            insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
            select 'default', 0, run_at, id, 'noop' from planted
            """,
            (jobs,),
        )
        self.connection.execute(
            "insert into pgflow.queue_ranks values ('default', 0)"
            " on conflict do nothing"
        )
        self.connection.execute("vacuum analyze")
        self.connection.execute("checkpoint")

    def wal(self) -> int:
        row = self.connection.execute(
            "select (pg_current_wal_insert_lsn() - '0/0')::bigint"
        ).fetchone()
        assert row is not None
        return int(row[0])

    def check(self, jobs: int) -> None:
        """Nothing was lost and nothing ran twice."""
        row = self.connection.execute(
            "select count(*), count(distinct job_id) from pgflow.any_attempts"
            " where status = 'succeeded'"
        ).fetchone()
        assert row == (jobs, jobs), row
        assert audit(self.connection) == (0, 0)

    def rate(self) -> float:
        """Return jobs per second from the first start to the last settlement."""
        row = self.connection.execute(
            "select count(*) / extract(epoch from max(finished_at) - min(started_at))"
            " from pgflow.any_attempts"
        ).fetchone()
        assert row is not None
        return float(row[0])


@contextmanager
def worker(bench: Bench, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `pgflow work` for the block."""
    command = [sys.executable, "-m", "pgflow_cli", "work", "--app", str(APP), *options]
    process = subprocess.Popen(
        command,
        env={**os.environ, "DATABASE_URL": bench.url},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def memory(process: subprocess.Popen[bytes]) -> list[str]:
    """Return resident memory of the supervisor and its worker processes, in MiB."""
    parent = psutil.Process(process.pid)
    found = [parent, *parent.children()]
    return [
        f"{p.memory_info().rss / 2**20:.0f}"
        for p in found
        if "resource_tracker" not in " ".join(p.cmdline())
    ]


def settled(bench: Bench) -> int:
    row = bench.connection.execute(
        "select count(*) from pgflow.any_attempts"
    ).fetchone()
    assert row is not None
    return int(row[0])


def drain(
    bench: Bench, jobs: int, *options: str, backlog: int = 0
) -> tuple[float, int]:
    """Return jobs per second and WAL bytes per job of a worker that drains a queue."""
    bench.renew()
    bench.load(jobs + backlog)
    before = bench.wal()
    limit = ["--max-jobs", str(jobs)] if backlog else ["--drain"]
    with worker(bench, *limit, *options) as process:
        process.wait()
    used = (bench.wal() - before) // jobs
    bench.check(jobs)
    return bench.rate(), used


def held_against_pgbench(bench: Bench, jobs: int) -> float:
    """Return the best rate of pgbench, of two shapes."""
    best = 0.0
    for clients, batch in ((2, 256), (4, 100)):
        bench.renew()
        bench.load(jobs)
        rate = pgbench.drain(
            str(bench.binaries), bench.url, jobs=jobs, batch=batch, clients=clients
        )
        print(f"pgbench, {clients} clients x batches of {batch:<4} {rate:>10,.0f}/s")
        best = max(best, rate)
    return best


def pick_up(bench: Bench, samples: int) -> None:
    """Measure an idle worker: from the enqueue's return to the handler's start."""
    bench.renew()
    with worker(bench) as process:
        while not bench.connection.execute(
            "select 1 from pgflow.workers where idle"
        ).fetchone():
            time.sleep(0.05)
        time.sleep(2)  # until it listens
        before = memory(process)
        committed = {}
        for n in range(samples):
            row = bench.connection.execute("select pgflow.enqueue('noop')").fetchone()
            assert row is not None
            committed[row[0]] = time.time()
            time.sleep(0.02 + n % 7 / 300)
        while settled(bench) < samples:
            time.sleep(0.01)
        after = memory(process)
    rows = bench.connection.execute(
        "select job_id, extract(epoch from started_at)::float8 from pgflow.any_attempts"
    ).fetchall()
    # One host, one clock: the server's is also this process's.
    took = sorted((at - committed[job]) * 1000 for job, at in rows)
    p99 = took[int(len(took) * 0.99)]
    print(
        f"idle pick-up, {samples} jobs: p50 {statistics.median(took):.1f} ms,", end=" "
    )
    print(f"p99 {p99:.1f} ms, longest {took[-1]:.1f} ms")
    print(f"resident MiB, supervisor and process: {before} idle, {after} afterwards")


def memory_over_time(bench: Bench, jobs: int) -> None:
    """Measure resident memory before and after a drain."""
    bench.renew()
    with worker(bench) as process:
        while not bench.connection.execute("select 1 from pgflow.workers").fetchone():
            time.sleep(0.05)
        before = memory(process)
        bench.load(jobs)
        while settled(bench) < jobs:
            time.sleep(0.2)
        print(
            f"resident MiB, supervisor and process: {before} before,"
            f" {memory(process)} after {jobs:,} jobs"
        )


@contextmanager
def snapshot_held(bench: Bench) -> Iterator[None]:
    """Hold a transaction with an id open, so that vacuum can remove nothing."""
    with psycopg.connect(bench.url) as holder:
        holder.execute("set transaction isolation level repeatable read")
        holder.execute("select txid_current()")
        yield


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=400)
    given = parser.parse_args(arguments)
    with durable_server() as server:
        _run(Bench(server), given)


def _run(bench: Bench, given: argparse.Namespace) -> None:
    jobs = given.jobs
    reference = held_against_pgbench(bench, jobs)

    def show(name: str, measured: tuple[float, int]) -> None:
        rate, wal = measured
        share = rate / reference
        print(f"{name:<38} {rate:>8,.0f}/s  {share:>5.2f} of pgbench", end="")
        print(f"  {wal} WAL bytes a job", flush=True)

    one = drain(bench, jobs)
    show("drain, 1 process", one)
    show("drain, 2 processes", drain(bench, jobs, "--processes", "2"))
    held = _drain_with_snapshot(bench, jobs)
    show(f"the same, snapshot held ({held[0] / one[0]:.2f} of it)", held)
    deep = drain(bench, jobs, backlog=given.backlog)
    show(f"the same, {given.backlog:,} behind ({deep[0] / one[0]:.2f})", deep)
    memory_over_time(bench, jobs)
    pick_up(bench, given.samples)


def _drain_with_snapshot(bench: Bench, jobs: int) -> tuple[float, int]:
    bench.renew()
    bench.load(jobs)
    before = bench.wal()
    with snapshot_held(bench), worker(bench, "--drain") as process:
        process.wait()
    used = (bench.wal() - before) // jobs
    bench.check(jobs)
    return bench.rate(), used


if __name__ == "__main__":
    main(sys.argv[1:])
