"""A page of successes that cannot be read: upkeep goes on elsewhere and names it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from pgflow_cli.maintenance import MaintenancePlan, Pass
from pgflow_cli.maintenance.run import TASKS
from pgflow_cli.models.maintenance import TaskReport
from pgflow_cli.repository import Database
from tests.support.days import plant_day
from tests.support.jobs import audit
from tests.support.private_servers import PrivateServer, migrated_server

BLOCK = 1
RUNBOOK = Path(__file__).parents[2] / "RUNBOOK.md"


@pytest.fixture
def server() -> Iterator[PrivateServer]:
    with migrated_server() as started:
        yield started


@contextmanager
def connected(server: PrivateServer) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        yield connection


def damage(server: PrivateServer, *tables: str) -> None:
    """Write nonsense over the second page of each table."""
    with connected(server) as connection:
        files = [
            connection.execute(
                "select pg_relation_filepath(%s::regclass)", (table,)
            ).fetchone()
            for table in tables
        ]
    server.stop("fast")
    for (file,) in filter(None, files):
        with (server.folder / "data" / Path(file)).open("r+b") as opened:
            opened.seek(8192 * BLOCK)
            opened.write(b"\xee" * 24)
    # Fails if there are none: they are the default from PostgreSQL 18 on.
    subprocess.run(
        [server.binaries / "pg_checksums", "--disable", "-D", server.folder / "data"],
        check=False,
        capture_output=True,
        cwd="/",
    )
    server.start()


def maintain(server: PrivateServer, *tasks: str) -> dict[str, TaskReport]:
    plan = MaintenancePlan(sleep=0.0, tasks=tasks or TASKS)
    return {report.task: report for report in Pass(Database(server.url), plan).run()}


def test_upkeep_goes_on_beside_a_damaged_page_of_successes(
    server: PrivateServer,
) -> None:
    """Other days are archived and pruned, other tasks done; the damage is named."""
    with connected(server) as connection:
        # Of two days each, one that is archived already and one that is to be.
        days = {ago: plant_day(connection, ago, 600, together=20) for ago in (30, 29)}
        assert maintain(server, "archive")["archive"].result == "ok"
        days |= {ago: plant_day(connection, ago, 600, together=20) for ago in (10, 9)}
    archived = f"pgflow.job_successes_archive_{days[30].name}"
    settled = f"pgflow.job_successes_{days[10].name}"
    damage(server, archived, settled)
    reports = maintain(server)
    assert {task for task, report in reports.items() if report.result != "ok"} == {
        "archive",
        "prune",
        "analyze",
    }
    for task, table in (
        ("archive", settled),
        ("prune", archived),
        ("analyze", settled),
    ):
        assert reports[task].result == "failed", task
        told = f"invalid page in block {BLOCK} of relation"
        assert told in reports[task].detail, task
        assert f"which is {table}" in reports[task].detail, task
    with connected(server) as connection:
        assert len(days[9].ids(connection, "jobs_archive")) == 600, "is archived"
        assert days[29].ids(connection, "jobs_archive") == [], "is gone"
        gone = "select to_regclass('pgflow.job_successes_archive_' || %s)"
        assert connection.execute(gone, (days[29].name,)).fetchone() == (None,)
        assert len(days[30].ids(connection, "jobs_archive")) == 600, "is kept"
        found = connection.execute("select result from pgflow.maintenance_tasks")
        assert len(found.fetchall()) == len(TASKS)


@pytest.mark.parametrize("archive", ["", "_archive"])
def test_the_commands_of_the_runbook_mend_a_page_of_successes(
    server: PrivateServer, archive: str
) -> None:
    with connected(server) as connection:
        day = plant_day(connection, 10, 600, together=20)
        if archive:
            assert maintain(server, "archive")["archive"].result == "ok"
    damage(server, f"pgflow.job_successes{archive}_{day.name}")
    rewrite, enter = commands(day.name, archive)
    with connected(server) as connection:
        with pytest.raises(psycopg.errors.DataCorrupted):
            audit(connection)
        for statement in rewrite.split(";"):
            connection.execute(statement.encode())
        in_no_place, in_two_places = audit(connection)
        assert in_two_places == 0
        if archive:
            assert in_no_place == 0, "what is archived has succeeded"
        else:
            assert 0 < in_no_place < 600
            assert connection.execute(enter.encode()).rowcount == in_no_place
            assert connection.execute(enter.encode()).rowcount == 0, "once"
        assert audit(connection) == (0, 0)
    reports = maintain(server)
    assert {report.result for report in reports.values()} == {"ok"}


def commands(day: str, archive: str) -> list[str]:
    """Return the SQL of the runbook, for another day."""
    text = RUNBOOK.read_text(encoding="utf-8")
    text = text[text.index("### Successes that cannot be read") :]
    found = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)[:2]
    begins = date.fromisoformat(day)
    changed = []
    for command in found:
        dated = command.replace("20261121", day)
        dated = dated.replace("2026-11-22", str(begins + timedelta(days=1)))
        dated = dated.replace("2026-11-21", str(begins))
        # Of a day, or of all.
        names = r"pgflow\.(jobs|job_successes)(?=_\d|\b)"
        changed.append(re.sub(names, rf"pgflow.\1{archive}", dated))
    return changed
