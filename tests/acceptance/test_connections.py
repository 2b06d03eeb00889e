"""How many connections `pgflow work` opens, as RUNBOOK says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.support.jobs import plant
from tests.support.servers import THROUGH_A_POOLER

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]

RUNBOOK = Path(__file__).parents[2] / "RUNBOOK.md"
APP = """
from pgflow_cli import App

app = App()


@app.handler("quick")
def quick(job):
    pass


@app.handler("enqueues")
def enqueues(job):
    job.enqueue("quick", {}, now=True)
"""


def connections(connection: Connection) -> dict[str, int]:
    """Return how many sessions each process of the worker has in this database."""
    rows = connection.execute(
        "select application_name, count(*)::integer from pg_stat_activity"
        " where datname = current_database() and application_name like 'pgflow _%'"
        " group by 1"
    ).fetchall()
    # Passes of upkeep are named after host and process.
    return {re.sub(r"(maintain) .*", r"\1", name): count for name, count in rows}


@pytest.mark.skipif(THROUGH_A_POOLER, reason="there, sessions are the pooler's")
def test_a_worker_opens_as_many_connections_as_the_runbook_says(
    connection: Connection, start_worker: Start, wait_until: Wait, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    options = ("--app", str(tmp_path / "app.py"), "--worker-id", "w")
    limits = ("--processes", "2", "--batch-size", "16")
    start_worker(*options, *limits, "--maintenance-interval", "1s", app=False)

    def seen(**wanted: int) -> Callable[[], bool]:
        """Say whether just these are open; passes of upkeep come and go."""

        def look() -> bool:
            found = connections(connection)
            upkeep = found.pop("pgflow maintain", 0)
            return upkeep <= 2 and found == {
                "pgflow supervisor w": 3,
                "pgflow work w.0": wanted["each"],
                "pgflow work w.1": wanted["each"],
            }

        return look

    wait_until(seen(each=1), "at first: N + 3")
    wait_until(
        lambda: connections(connection).get("pgflow maintain") == 2, "and 2 for upkeep"
    )

    def under_load(job_type: str, each: int) -> bool:
        plant(connection, 500, job_type=job_type)
        return seen(each=each)()

    wait_until(lambda: under_load("quick", 2), "under load: 2 N + 3")
    wait_until(lambda: under_load("enqueues", 3), "with now=True: 3 N + 3")
    text = RUNBOOK.read_text(encoding="utf-8")
    assert "begins with N + 3, has 2 N + 3 under load" in text
