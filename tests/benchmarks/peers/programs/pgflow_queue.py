"""pgflow: its client for producers, its executable for workers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import psycopg
from pgflow_handlers import JOB_TYPE
from python_side import (
    OPTIONS,
    QUEUES,
    URL,
    Payload,
    end_with_stdin,
    main,
    queue_of,
)

import pgflow_cli
from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database, Repository


class Pgflow:
    async def migrate(self) -> None:
        repository = Repository.of(Database(URL))
        migrations.migrate(repository)
        migrations.ensure_partitions(repository)
        repository.close()

    async def connect(self) -> None:
        self._connection = psycopg.connect(URL, autocommit=True)

    async def enqueue(self, payload: Payload) -> None:
        queue = queue_of(payload)
        pgflow_cli.enqueue(self._connection, JOB_TYPE, payload, queue=queue)

    async def enqueue_many(self, payloads: list[Payload]) -> None:
        jobs = (
            {"job_type": JOB_TYPE, "queue": queue_of(payload), "payload": payload}
            for payload in payloads
        )
        pgflow_cli.enqueue_many(self._connection, jobs)

    async def work(self, stopped: asyncio.Event) -> None:
        raise NotImplementedError


def work(processes: str) -> int:
    """Run `pgflow work` until SIGTERM, which it hears as well."""
    app = os.path.join(os.path.dirname(__file__), "pgflow_handlers.py")
    command = ["-m", "pgflow_cli", "work", "--app", app, "--processes", processes]
    command += ["--queue", ",".join(QUEUES)]
    for name, value in OPTIONS.items():
        command += [f"--{name}", str(value)]
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "DATABASE_URL": URL},
        stdin=subprocess.DEVNULL,
    )
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    end_with_stdin()
    return process.wait()


if sys.argv[1] == "work":
    sys.exit(work(sys.argv[2]))
main(Pgflow())
