"""Before the first process starts: the database takes writes, and its schema fits."""

from __future__ import annotations

import logging
import math
import os
import random
import socket
import time
from dataclasses import replace

from pgflow_cli import errors
from pgflow_cli.maintenance import migrations
from pgflow_cli.operations import fence
from pgflow_cli.repository import Database, Repository
from pgflow_cli.telemetry import logs

log = logging.getLogger("pgflow.supervisor")

FIRST_CALL = 30.0  # seconds for a statement while no lease depends on it


def await_database(
    database: Database, *, migrate: bool, patience: float = math.inf
) -> None:
    """Wait until the database answers and takes writes, then see to its schema.

    Raises DatabaseUnavailable once `patience` seconds are over, ConfigurationError if
    the schema is missing or older than this program, or if the database is fenced.
    """
    deadline = time.monotonic() + patience
    repository = Repository.of(replace(database, call_timeout=FIRST_CALL))
    try:
        while True:
            try:
                if migrate:
                    migrations.migrate(repository)
                migrations.require_current(repository)
                _require_writes(repository)
                repository.backups.inspect_remains().require_whole()
                fence.require_open(repository)
            except errors.DatabaseUnavailable as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
                log.warning(
                    "database unavailable, waiting for it: %s",
                    error,
                    extra=logs.trouble("database_unavailable", error),
                )
                time.sleep(min(left, random.uniform(0.5, 1.0)))  # noqa: S311 - jitter
            else:
                return
    finally:
        repository.close()


def _require_writes(repository: Repository) -> None:
    """Raise `DatabaseUnavailable` on a standby: it answers, and nothing can be leased
    there before it is promoted.
    """
    facts = repository.schema.inspect_server()
    if facts.in_recovery:
        raise errors.DatabaseUnavailable(
            f'database "{facts.database}" is in recovery and takes no writes'
        )


def worker_name(given: str | None) -> str:
    """Return the name a worker goes by: as given, else host and process id."""
    return given or f"{socket.gethostname()}-{os.getpid()}"
