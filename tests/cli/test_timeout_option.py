"""--timeout ends every statement of every command, also one that waits for a lock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import RunsPgflow
from tests.support.servers import Database

# What a pooler's sessions are like is looked at where poolers are.
pytestmark = [pytest.mark.direct, pytest.mark.timeout(300)]

ID = "01a23220-309b-7642-b0ea-062f1786be77"
LINE = json.dumps({"job_type": "a", "payload_json": {}})
# Without a bound, each would wait for the lock for as long as the test holds it.
LATE = [
    ("explain", ID),
    ("timeline", ID),
    *(("jobs", "list", *more) for more in ((), ("--slow",), ("-t", "a"))),
    *(
        ("jobs", "list", "--status", status)
        for status in ("queued", "scheduled", "running", "succeeded", "dlq", "canceled")
    ),
    ("jobs", "show", ID),
    ("jobs", "wait", ID),
    ("jobs", "cancel", ID, "--yes"),
    ("jobs", "run-now", ID, "--yes"),
    ("jobs", "reprioritize", ID, "5", "--yes"),
    ("jobs", "tail"),
    ("dlq", "list"),
    ("dlq", "list", "--group"),
    ("dlq", "show", ID),
    ("dlq", "export"),
    ("dlq", "discard", "--all", "--yes"),
    ("queues", "list"),
    ("queues", "show", "q"),
    ("queues", "purge", "q", "--confirm", "q"),
    ("replay", ID),
    ("replay", "--all", "--yes"),
    ("enqueue", "a"),
    ("enqueue", "a", "--dry-run"),
    ("enqueue", "--batch", "-"),
    ("enqueue", "--batch", "-", "--no-atomic"),
]
# Parts of what these show may be missing.
PARTIAL = [("metrics",), ("metrics", "--prom"), ("top", "--once"), ("dlq", "stats")]


@pytest.fixture(autouse=True)
def _locked(database: Database, connection: psycopg.Connection[Any]) -> Iterator[None]:
    connection.execute("select pgflow.enqueue('a', queue => 'q')")

    with database.connect(autocommit=False) as locker:
        locker.execute("lock table pgflow.jobs, pgflow.pending, pgflow.dead_letters")
        yield


@pytest.mark.parametrize("arguments", LATE, ids=" ".join)
def test_a_statement_that_waits_for_a_lock_ends(
    pgflow: RunsPgflow, arguments: tuple[str, ...]
) -> None:
    done = pgflow(*arguments, "--timeout", "300ms", "--no-input", input=LINE)
    assert done.returncode == 69, done.stderr
    assert "that of --timeout" in done.stderr


@pytest.mark.parametrize("arguments", PARTIAL, ids=" ".join)
def test_what_can_do_without_the_tables_ends_as_well(
    pgflow: RunsPgflow, arguments: tuple[str, ...]
) -> None:
    done = pgflow(*arguments, "--timeout", "300ms")
    assert done.returncode in (0, 69), done.stderr
