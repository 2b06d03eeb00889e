"""Pages that are damaged: the check finds each, and what RUNBOOK says mends it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgflow_cli.inspection.diagnosis import checks, damage
from pgflow_cli.maintenance import MaintenancePlan, Pass
from pgflow_cli.repository import Database
from tests.support import executable
from tests.support.damage import damage as spoil
from tests.support.damage import last_blocks
from tests.support.days import plant_day
from tests.support.jobs import plant, plant_dead
from tests.support.private_servers import PrivateServer, migrated_server

pytestmark = pytest.mark.long
Connection = psycopg.Connection[Any]
RUNBOOK = Path(__file__).parents[2] / "RUNBOOK.md"
READING = ("unreadable",)


@pytest.fixture
def server() -> Iterator[PrivateServer]:
    with migrated_server() as started:
        yield started


@pytest.fixture
def filled(server: PrivateServer) -> PrivateServer:
    """Fill what the schema has: jobs that wait, have ended, are archived."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        plant_day(connection, 30, 600)
        archive = MaintenancePlan(sleep=0.0, tasks=("archive",))
        assert [task.result for task in Pass(Database(server.url), archive).run()]
        plant_day(connection, 3, 600)
        plant_dead(connection, 200)
        canceled = plant(connection, 200)
        connection.execute(
            "with taken as (delete from pgflow.pending where job_id = any(%s)"
            " returning job_id, queue) insert into pgflow.canceled_jobs"
            " (job_id, queue, canceled_by) select job_id, queue, 'me' from taken",
            (canceled,),
        )
        plant(connection, 400, payload=json.dumps({"text": "x" * 500}))
        connection.execute("vacuum")
    return server


def read(server: PrivateServer) -> list[checks.Finding]:
    return [
        *checks.examine(
            Database(server.url), READING, audit_seconds=120, reads_all=True
        )
    ]


@pytest.mark.parametrize("kind", ["r", "i"], ids=["tables", "indexes"])
def test_damage_of_every_table_and_index_is_found(
    filled: PrivateServer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last block of each, which a look at the first jobs does not read."""
    monkeypatch.setattr(damage, "_MOST_TOLD", 1000)
    [well] = read(filled)
    assert well.result == "OK"
    with psycopg.connect(filled.url, autocommit=True) as connection:
        spoiled = last_blocks(connection, kind)
    assert len(spoiled) > (15 if kind == "r" else 25)
    spoil(filled, *spoiled)
    found = read(filled)
    for finding in found:
        assert "--check unreadable" not in finding.command or finding.sql
    told = [finding.detail for finding in found]
    # An index whose first page is damaged hides what else is damaged of its table.
    while kind == "i" and any(finding.result == "FAIL" for finding in found):
        mend(filled, [finding.sql for finding in found if finding.sql])
        before, found = found, read(filled)
        assert found != before
        told += [finding.detail for finding in found]
    text = "\n".join(told)
    missed = [name for name, _ in spoiled if not re.search(rf"\b{name}\b", text)]
    assert missed == []
    assert kind == "r" or [finding.result for finding in found] == ["OK"]


def test_no_check_names_itself_as_its_fix(filled: PrivateServer) -> None:
    """An index that leases and lists need; and what is not asked for by name."""
    spoil(filled, ("pgflow.pending_due", 0))
    for words in ((), ("jobs",), READING):
        found = checks.examine(
            Database(filled.url), words, reads_all=words == READING, audit_seconds=60
        )
        told = [each for each in found if "pending_due" in each.detail]
        assert told
        for finding in told:
            assert finding.sql == "reindex index pgflow.pending_due;"


def mend(server: PrivateServer, statements: list[str]) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for statement in dict.fromkeys(statements):
            connection.execute(statement)


def runbook_sql(table: str) -> list[str]:
    """Return the commands of RUNBOOK that give up a page of a table."""
    section = RUNBOOK.read_text(encoding="utf-8").split("## Pages that are damaged")[1]
    block, *_ = re.findall(r"```sql\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    lines = [line.split("--")[0].strip() for line in block.splitlines()]
    return [line.replace("pgflow.TABLE", table) for line in lines if line]


@pytest.mark.parametrize("zero", [False, True], ids=["nonsense", "zeros"])
def test_a_page_that_is_given_up_costs_no_job_in_the_end(
    server: PrivateServer, zero: bool, how_to_run: executable.Runs, tmp_path: Path
) -> None:
    """The page of `pending` and that of successes, as RUNBOOK says."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        plant_day(connection, 0, 600, together=20)
        waiting = plant(connection, 400)
        [successes] = connection.execute(
            "select tableoid::regclass::text from pgflow.job_successes limit 1"
        ).fetchone() or [""]
    spoil(server, ("pgflow.pending", 1), (successes, 1), zero=zero)

    def pgflow(*words: str, said: str | None = None) -> Any:
        return how_to_run(
            *words,
            environment={**os.environ, "DATABASE_URL": server.url},
            folder=tmp_path,
            input=said,
        )

    found = pgflow("doctor", "--check", "unreadable")
    assert found.returncode == (0 if zero else 5)  # zeros are an empty page
    if not zero:
        assert "RUNBOOK, Pages that are damaged" in found.stdout
        assert pgflow("doctor", "--check", "audit").returncode == 5
    for table in ("pgflow.pending", successes):
        mend(server, runbook_sql(table))
    assert pgflow("doctor", "--check", "unreadable").returncode == 0
    audit = pgflow("doctor", "--check", "audit")
    assert "in no place" in audit.stdout
    lost = pgflow("jobs", "list", "--status", "nowhere", "--all-pages", "-o", "ids")
    ids = lost.stdout.split()
    assert set(ids) & set(waiting)
    assert set(ids) - set(waiting)
    put_back = pgflow("jobs", "run-now", "-", "--nowhere", "--yes", said=lost.stdout)
    assert put_back.returncode == 0, put_back.stderr
    assert pgflow("doctor", "--check", "audit").returncode == 0
    with psycopg.connect(server.url) as connection:
        row = connection.execute(
            "select count(*) from pgflow.pending where job_id = any(%s::uuid[])",
            (ids,),
        ).fetchone()
        assert row == (len(ids),)


@pytest.mark.parametrize("zero", [False, True], ids=["nonsense", "zeros"])
def test_queues_of_a_page_that_is_given_up_are_recorded_again(
    server: PrivateServer, zero: bool, how_to_run: executable.Runs, tmp_path: Path
) -> None:
    """The page of `queue_ranks`, as RUNBOOK says: the jobs run in the end."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        waiting = plant(connection, 3, queue="emails")
    spoil(server, ("pgflow.queue_ranks", 0), zero=zero)

    def pgflow(*words: str) -> Any:
        return how_to_run(
            *words,
            environment={**os.environ, "DATABASE_URL": server.url},
            folder=tmp_path,
            input=None,
        )

    mend(server, runbook_sql("pgflow.queue_ranks"))
    audit = pgflow("doctor", "--check", "audit")
    assert audit.returncode == 5
    assert "no worker looks at 1 queues" in audit.stdout
    section = RUNBOOK.read_text(encoding="utf-8").split("## Pages that are damaged")[1]
    [command] = re.findall(r"\| `queue_ranks` \|.*\| `pgflow (.*)` \|", section)
    assert pgflow(*command.split()).returncode == 0
    assert pgflow("doctor", "--check", "audit").returncode == 0
    drained = pgflow("work", "-q", "*", "--exec", "noop=true", "--drain")
    assert drained.returncode == 0, drained.stderr
    with psycopg.connect(server.url) as connection:
        assert connection.execute("select job_id from pgflow.pending").fetchall() == []
    explained = pgflow("explain", waiting[0])
    assert "SUCCEEDED" in explained.stdout
