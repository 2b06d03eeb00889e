"""A worker that runs while its jobs arrive: "worker first" and "steady rate".

First the jobs are there before the worker, as in a drain; then the same jobs arrive, a
thousand in a commit, while it runs; then they arrive at a quarter and a half of the rate
of that drain, and each one's wait counts: from the beginning of its producer's
transaction to the start of its handler. `statements` are those of the worker.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from tests.benchmarks.bench_work import Bench, snapshot_held, worker
from tests.benchmarks.durable import durable_server

BULK = 1_000
TRICKLE = 40  # commits a second at a steady rate


@dataclass(frozen=True)
class Measured:
    """What came of jobs that arrived while a worker ran; waits in milliseconds."""

    rate: float
    waits: list[float]
    statements: float

    def __str__(self) -> str:
        p50, p95, p99 = (
            self.waits[int(len(self.waits) * part)] for part in (0.5, 0.95, 0.99)
        )
        return (
            f"wait p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms;"
            f" {self.statements * 1000:.1f} statements per 1,000 jobs"
        )


def produce(bench: Bench, jobs: int, *, each: int, rate: float = 0.0) -> int:
    """Enqueue jobs, so many in a commit and a second; return how many commits."""
    with psycopg.connect(bench.url, autocommit=True) as connection:
        began = time.monotonic()
        for done in range(0, jobs, each):
            if rate:
                time.sleep(max(0.0, began + done / rate - time.monotonic()))
            bodies = [
                {"job_type": "noop", "payload_json": {"n": n, "body": "x" * 120}}
                for n in range(done, min(done + each, jobs))
            ]
            connection.execute(
                "select pgflow.enqueue_many(%s::jsonb)", (json.dumps(bodies),)
            )
    return -(-jobs // each)


def count(bench: Bench) -> int:
    """Return how many transactions of the database the server has counted."""
    time.sleep(1.2)  # a session counts once a second
    row = bench.connection.execute(
        "select xact_commit + xact_rollback from pg_stat_database"
        " where datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def idle_worker(bench: Bench, *options: str) -> Iterator[None]:
    """Run a worker that is already waiting when the block begins."""
    with worker(bench, *options):
        while not bench.connection.execute(
            "select 1 from pgflow.workers having bool_and(idle)"
        ).fetchone():
            time.sleep(0.05)
        yield


def jobs_first(bench: Bench, jobs: int, *options: str) -> float:
    """Return jobs per second of a worker that finds them all."""
    bench.renew()
    produce(bench, jobs, each=BULK)
    with worker(bench, "--drain", *options) as process:
        process.wait()
    bench.check(jobs)
    return bench.rate()


def arriving(
    bench: Bench, jobs: int, *options: str, each: int, rate: float = 0.0
) -> Measured:
    """Measure a worker that runs while jobs arrive."""
    bench.renew()
    with idle_worker(bench, *options):
        before = count(bench)
        sent = produce(bench, jobs, each=each, rate=rate) + 1
        while True:
            sent += 1
            row = bench.connection.execute(
                "select not exists (select from pgflow.pending)"
                " and not exists (select from pgflow.leases)"
            ).fetchone()
            if row == (True,):
                break
            time.sleep(0.1)
        statements = count(bench) - before - sent
    bench.check(jobs)
    rows = bench.connection.execute(
        "select extract(epoch from started_at - created_at)::float8 * 1000"
        " from pgflow.job_attempts join pgflow.jobs on id = job_id"
    ).fetchall()
    waits = sorted(row[0] for row in rows)
    return Measured(bench.rate(), waits, statements / jobs)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a steady rate")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many")
    parser.add_argument("--rates", type=int, nargs="*", help="instead of 25 and 50 %%")
    given = parser.parse_args(arguments)
    with durable_server() as server:
        bench = Bench(server)
        for processes in (1, 2):
            _run(bench, given, "--processes", str(processes))
        bench.renew()
        with snapshot_held(bench):
            pass


def _run(bench: Bench, given: argparse.Namespace, *options: str) -> None:
    name = f"{options[1]} process{'es' if options[1] != '1' else ''}"
    before, after = [], []
    for _ in range(given.rounds):
        before.append(jobs_first(bench, given.jobs, *options))
        after.append(arriving(bench, given.jobs, *options, each=BULK))
    drain = statistics.median(before)
    ratios = [a.rate / b for a, b in zip(after, before, strict=True)]
    print(f"{name}: jobs first {drain:,.0f}/s", flush=True)
    middle = sorted(after, key=lambda measured: measured.rate)[len(after) // 2]
    print(
        f"{name}: worker first {middle.rate:,.0f}/s,"
        f" {statistics.median(ratios):.2f} of jobs first; {middle}",
        flush=True,
    )
    for rate in given.rates or (drain / 4, drain / 2):
        jobs = int(rate * given.seconds)
        found = [
            arriving(bench, jobs, *options, each=int(rate / TRICKLE), rate=rate)
            for _ in range(given.rounds)
        ]
        middle = sorted(found, key=lambda measured: statistics.mean(measured.waits))[
            len(found) // 2
        ]
        print(
            f"{name}: steady {rate:,.0f}/s ({rate / drain:.2f} of jobs first): {middle}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
