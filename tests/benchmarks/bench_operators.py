"""What an operator waits for: every list and explanation on a large database.

Five million jobs of a week, a million of them waiting, a hundred thousand dead letters.
Each command runs as a whole program; the server tells what its statements took, how
many pages they touched, and whether one of them read a partition of `jobs` from end to
end.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database, Repository
from tests.benchmarks.durable import durable_server
from tests.support.jobs import audit
from tests.support.servers import Server

PGFLOW = str(Path(sys.executable).with_name("pgflow"))
DAYS = 7
COMMANDS = (
    "dlq list",
    "dlq list --limit 500 -q emails --since 3d",
    "dlq list --match refused --since 7d",
    "dlq list --group",
    "dlq list --group error-code --since 1d",
    "dlq stats --by error-code --bucket 1h --since 1d",
    "dlq show {dead}",
    "jobs list",
    "jobs list --status queued -q emails",
    "jobs list --status scheduled",
    "jobs list --status running",
    "jobs list --status succeeded",
    "jobs list --status dlq",
    "jobs list --status canceled",
    "jobs list -t email_send --since 1d",
    "jobs list -t no_such_type",
    "jobs list --error-code NO_SUCH_CODE",
    "jobs list --status queued -t no_such_type",
    "jobs list --status queued --match refused",
    "jobs list --status queued --status canceled",
    "jobs cancel --status queued -t email_send --max 100000 --dry-run",
    "jobs list --slow",
    "jobs list --stuck",
    "jobs show {queued}",
    "jobs tail",
    "explain {queued}",
    "explain {dead}",
    "explain {dead_suffix}",
    "explain {succeeded}",
    "explain {scheduled} --gates",
    "timeline {dead}",
    "queues list",
    "queues show emails",
    "workers list",
    "decisions list",
    "audit list",
    "replay list",
    "replay -q emails --error-code DEPENDENCY_DOWN --since 1d --max 100000 --dry-run",
    "metrics",
    "top --once",
    "doctor",
)
_PLAN = re.compile(r"duration: ([\d.]+) ms  plan:")
_BUFFERS = re.compile(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?")
_WHOLE = re.compile(r"Seq Scan on (jobs_\d{8})(?!.*never executed)")


def main(arguments: list[str]) -> None:
    """Load the database, run every command some times, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5_000_000)
    parser.add_argument("--pending", type=int, default=1_000_000)
    parser.add_argument("--dead", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="only commands with this text")
    options = parser.parse_args(arguments)
    with durable_server() as server:
        began = time.monotonic()
        url = load(server, options)
        print(f"loaded {options.jobs:,} jobs in {time.monotonic() - began:.0f} s")
        log = Path(server.url.rsplit("host=", 1)[1]) / "log"
        run_all(url, log, options)


def load(server: Server, options: argparse.Namespace) -> str:
    """Make the database and return its URL; jobs are spread over a week, in order."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("create database operators")
        for name, value in (
            ("session_preload_libraries", "auto_explain"),
            ("auto_explain.log_min_duration", "0"),
            ("auto_explain.log_analyze", "on"),
            ("auto_explain.log_buffers", "on"),
            ("auto_explain.log_timing", "off"),
            ("auto_explain.log_nested_statements", "on"),
        ):
            admin.execute(f"alter database operators set {name} = '{value}'")
    url = server.url_of("operators")
    repository = Repository.of(Database(url))
    migrations.migrate(repository)
    migrations.ensure_partitions(repository)
    repository.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set auto_explain.log_min_duration = -1")
        connection.execute("set synchronous_commit = off")
        connection.execute("set session_replication_role = replica")
        add_days(connection)
        add_jobs(connection, options)
        connection.execute("vacuum analyze")
    return url


def add_days(connection: psycopg.Connection[Any]) -> None:
    """Make the partitions of the days before yesterday."""
    connection.execute(
        """
        do $$
        declare day timestamptz; parent text; low uuid; high uuid;
        begin
          for day in select generate_series(
            date_trunc('day', now(), 'UTC') - interval '9 days',
            date_trunc('day', now(), 'UTC') - interval '2 days', interval '1 day'
          ) loop
            low := rpad(
              lpad(to_hex((extract(epoch from day) * 1000)::bigint), 12, '0'), 32, '0'
            )::uuid;
            high := rpad(
              lpad(
                to_hex((extract(epoch from day) * 1000)::bigint + 86400000), 12, '0'
              ), 32, '0'
            )::uuid;
            foreach parent in array array['jobs', 'job_attempts'] loop
              execute format(
                'create table pgflow.%I partition of pgflow.%I for values'
                  ' from (%L) to (%L)',
                parent || to_char(day at time zone 'UTC', '_YYYYMMDD'), parent,
                low, high
              );
            end loop;
            execute format(
              'create table pgflow.%I partition of pgflow.job_successes for values'
                ' from (%s) to (%s)',
              'job_successes' || to_char(day at time zone 'UTC', '_YYYYMMDD'),
              (day at time zone 'UTC')::date - date '1970-01-01',
              (day at time zone 'UTC')::date - date '1970-01-01' + 1
            );
          end loop;
        end $$
        """
    )


def add_jobs(connection: psycopg.Connection[Any], options: argparse.Namespace) -> None:
    """Plant the jobs: the oldest have succeeded, the newest wait, some are dead."""
    connection.execute(
        """
        create unlogged table planted as
        select
          n, pgflow.uuid7_at((extract(epoch from at) * 4096000)::bigint) as id, at,
          (array['emails', 'billing', 'reports', 'default'])[1 + n %% 4] as queue,
          (array['email_send', 'invoice_pdf', 'report_build', 'noop'])[1 + n %% 4]
            as job_type,
          case
            when n > %(jobs)s - %(pending)s then 'pending'
            when n %% greatest((%(jobs)s - %(pending)s) / %(dead)s, 1) = 0 then 'dead'
            when n %% 5000 = 1 then 'canceled'
            else 'succeeded'
          end as place
        from (
          select n, now() - interval '7 days' * (1 - n / (%(jobs)s + 1.0)) as at
          from generate_series(1, %(jobs)s) as n
        ) as numbered
        """,
        vars(options),
    )
    for statement in (
        """
        insert into pgflow.jobs (id, queue, job_type, payload, run_at, created_at)
        select id, queue, job_type, jsonb_build_object('n', n, 'to', 'a@example.org'),
          case when place = 'pending' and n % 10 = 0 then now() + interval '1 hour' * n
            / 1000000 else at end, at
        from planted
        """,
        """
        insert into pgflow.job_attempts (
          job_id, lease_id, started_at, finished_at, attempt_no, status, worker_name,
          error_code, error_message, error_fingerprint, code_version
        )
        select id, '00000000-0000-0000-0000-000000000001', at, at + interval '20 ms', 1,
          'failed', 'worker-' || n % 5, 'DEPENDENCY_DOWN',
          'smtp.example: connection refused ' || n,
          'f1-' || lpad(to_hex(n % 40), 8, '0'), '4f2a9c'
        from planted where place = 'dead'
        """,
        # A hundred at a time, as two connections of a worker take turns.
        """
        insert into pgflow.job_successes (
          day, first_id, lease_id, leased_at, settled_at, id_times, worker_name,
          code_version, job_ids, attempt_nos, started_ago, ended_ago
        )
        select
          day, (array_agg(id order by id))[1], gen_random_uuid(), max(at),
          max(at) + interval '20 ms', int8range(min(ms), max(ms), '[]'),
          'worker-' || part, '4f2a9c', array_agg(id order by id), array_agg(1),
          array_agg(0.02::real), array_agg(0::real)
        from (
          select n / 200 as batch, n % 2 as part, id, at, made.ms,
            made.ms / 86400000 as day
          from planted
          cross join lateral (
            select ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint as ms
          ) as made
          where place = 'succeeded'
        ) as numbered
        group by day, batch, part
        """,
        """
        insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
        select queue, 0, jobs.run_at, id, job_type
        from planted join pgflow.jobs using (id, queue, job_type)
        where place = 'pending'
        """,
        """
        insert into pgflow.queue_ranks (queue, rank)
        select distinct queue, 0 from planted
        """,
        """
        insert into pgflow.dead_letters (job_id, died_at, attempt_no, failed_attempts,
          queue, job_type, dlq_reason_code, error_code, error_message,
          error_fingerprint, code_version)
        select id, at + interval '20 ms', 1, 1, queue, job_type,
          'MAX_ATTEMPTS_EXCEEDED', 'DEPENDENCY_DOWN',
          'smtp.example: connection refused ' || n,
          'f1-' || lpad(to_hex(n % 40), 8, '0'), '4f2a9c'
        from planted where place = 'dead'
        """,
        """
        insert into pgflow.canceled_jobs (job_id, canceled_at, queue, canceled_by)
        select id, at, queue, 'bench@host' from planted where place = 'canceled'
        """,
    ):
        connection.execute(statement)
    assert audit(connection) == (0, 0)


def run_all(url: str, log: Path, options: argparse.Namespace) -> None:
    """Time each command; the least of the runs is the server's warm time."""
    ids = some_ids(url)
    head = f"{'COMMAND':<66} {'WALL':>7} {'SERVER':>9} {'PAGES':>9}  WHOLE PARTITIONS"
    print(head, flush=True)
    for template in COMMANDS:
        if options.only not in template:
            continue
        walls, servers, pages, whole = [], [], [], set[str]()
        for _ in range(options.runs):
            offset = log.stat().st_size
            began = time.monotonic()
            done = subprocess.run(
                [PGFLOW, *template.format(**ids).split(), "--quiet"],
                env={**os.environ, "DATABASE_URL": url},
                capture_output=True,
                encoding="utf-8",
                check=False,
            )
            walls.append(time.monotonic() - began)
            if done.returncode not in (0, 4, 5):
                print(f"{template:<66} exit {done.returncode}: {done.stderr[-300:]}")
                break
            with log.open(encoding="utf-8", errors="replace") as lines:
                lines.seek(offset)
                text = lines.read()
            servers.append(sum(map(float, _PLAN.findall(text))))
            pages.append(touched(text))
            whole |= set(_WHOLE.findall(text))
        else:
            print(
                f"{template:<66} {statistics.median(walls):6.2f}s"
                f" {min(servers):7.1f}ms {min(pages):>9,}  {len(whole) or 'none'}",
                flush=True,
            )


def touched(text: str) -> int:
    """Return the pages that statements touched: of each plan the first figure."""
    total = 0
    for plan in _PLAN.split(text)[2::2]:
        found = _BUFFERS.search(plan)
        if found:
            total += int(found[1] or 0) + int(found[2] or 0)
    return total


def some_ids(url: str) -> dict[str, str]:
    """Return a job of each kind, from the middle of its kind."""
    with psycopg.connect(url) as connection:
        connection.execute("set auto_explain.log_min_duration = -1")

        def one(query: str) -> str:
            row = connection.execute(query).fetchone()
            assert row is not None
            return str(row[0])

        dead = one(
            "select job_id from pgflow.dead_letters order by died_at desc limit 1"
        )
        return {
            "dead": dead,
            "dead_suffix": dead[-8:],
            "queued": one(
                "select job_id from pgflow.pending where queue = 'emails'"
                " and run_at < now() order by run_at offset 1000 limit 1"
            ),
            "scheduled": one(
                "select job_id from pgflow.pending where run_at > now() limit 1"
            ),
            "succeeded": one(
                "select id from planted where place = 'succeeded'"
                " order by n desc limit 1"
            ),
        }
