"""A worker that runs while its jobs arrive: "worker first" and "steady rate".

First the jobs are there before the worker, as in a drain. Then as many arrive, a
thousand in a commit, while it runs and shares the machine with their producer. Then
they arrive at a quarter and at half of the rate of that drain, in forty commits a
second, and what each has waited counts: from the beginning of its producer's
transaction to the start of its handler; once more so while a snapshot is held. Rates
compare within one run; statements are the worker's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import psycopg

from tests.benchmarks.bench_work import Bench, snapshot_held, worker
from tests.benchmarks.durable import durable_server

BULK = 1_000
COMMITS = 40  # a second, at a steady rate


@dataclass(frozen=True)
class Measured:
    """What came of jobs that arrived while a worker ran; waits in milliseconds."""

    rate: float
    waits: list[float]
    statements: float  # for each job

    def __str__(self) -> str:
        p50, p95, p99 = (
            self.waits[int(len(self.waits) * part)] for part in (0.5, 0.95, 0.99)
        )
        return (
            f"wait p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms;"
            f" {self.statements * 1000:.1f} statements for 1,000 jobs"
        )


def produce(bench: Bench, jobs: int, *, each: int, rate: float = 0.0) -> int:
    """Enqueue jobs, so many in a commit and a second; return the number of commits."""
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


def transactions(bench: Bench) -> int:
    """Return how many the server has counted in the database."""
    time.sleep(1.2)  # a session reports its own once a second
    row = bench.connection.execute(
        "select xact_commit + xact_rollback from pg_stat_database"
        " where datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def waiting_worker(bench: Bench, *options: str) -> Iterator[None]:
    """Run a worker that is idle when the block begins."""
    with worker(bench, *options):
        while bench.connection.execute(
            "select coalesce(bool_and(idle), false) from pgflow.workers"
        ).fetchone() != (True,):
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


def worker_first(
    bench: Bench,
    jobs: int,
    *options: str,
    each: int = BULK,
    rate: float = 0.0,
    held: bool = False,
) -> Measured:
    """Measure a worker that runs while jobs arrive."""
    bench.renew()
    with (
        snapshot_held(bench) if held else nullcontext(),
        waiting_worker(bench, *options),
    ):
        before = transactions(bench)
        others = produce(bench, jobs, each=each, rate=rate) + 1
        settled = False
        while not settled:
            time.sleep(0.1)
            others += 1
            row = bench.connection.execute(
                "select not exists (select from pgflow.pending)"
                " and not exists (select from pgflow.leases)"
            ).fetchone()
            settled = row == (True,)
        statements = transactions(bench) - before - others
    bench.check(jobs)
    rows = bench.connection.execute(
        "select extract(epoch from started_at - created_at)::float8 * 1000"
        " from pgflow.any_attempts join pgflow.jobs on id = job_id"
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
        for processes in ("1", "2"):
            _run(bench, given, "--processes", processes)


def _run(bench: Bench, given: argparse.Namespace, *options: str) -> None:
    before, after = [], []
    for _ in range(given.rounds):
        before.append(jobs_first(bench, given.jobs, *options))
        after.append(worker_first(bench, given.jobs, *options))
    drain = statistics.median(before)
    ratio = statistics.median(a.rate / b for a, b in zip(after, before, strict=True))
    print(f"{' '.join(options)}: jobs first {drain:,.0f}/s", flush=True)
    middle = sorted(after, key=lambda m: m.rate)[given.rounds // 2]
    print(f"  worker first {middle.rate:,.0f}/s, {ratio:.2f} of it; {middle}")
    for rate in given.rates or (drain / 4, drain / 2):
        share = f"{rate:,.0f}/s, {rate / drain:.2f} of it"
        print(f"  steady {share}: {_steady(bench, given, rate, *options)}", flush=True)
        held = _steady(bench, given, rate, *options, held=True)
        print(f"  the same, a snapshot held: {held}", flush=True)


def _steady(
    bench: Bench,
    given: argparse.Namespace,
    rate: float,
    *options: str,
    held: bool = False,
) -> Measured:
    jobs, each = int(rate * given.seconds), int(rate / COMMITS)
    found = [
        worker_first(bench, jobs, *options, each=each, rate=rate, held=held)
        for _ in range(given.rounds)
    ]
    return sorted(found, key=lambda m: sum(m.waits))[given.rounds // 2]


if __name__ == "__main__":
    main(sys.argv[1:])
