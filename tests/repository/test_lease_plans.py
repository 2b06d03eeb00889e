"""What a lease costs grows no faster than the number of queues, whatever the planner
believes of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pgflow_cli.models.jobs import LeaseReply, LeaseRequest, Scan
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository, literals, sqlfiles
from pgflow_cli.repository.session import STEADY, Sent
from tests.support.jobs import new_worker
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
NAMES = 300
# Nodes of the plan that each row passes, times two for those of the cursors. A join
# that compares each place with each cursor touches 90,000 rows and more.
MOST = 40 * NAMES
BEFORE = "analyze when the tables were empty"
AFTER = "analyze with the queues there"


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def touched(plan: dict[str, Any]) -> float:
    """Return how many rows the nodes of a plan gave or threw away."""
    seen = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    return sum(
        node.get(kind, 0) * node["Actual Loops"]
        for node in nodes(plan)
        for kind in seen
    )


def explain(connection: Connection, sent: Sent) -> float:
    """Return the rows that a worker's statement touches, and undo what it does."""
    statement = sqlfiles.statement(sent.name)
    given = [sent.parameters[name] for name in statement.parameters]
    # Nothing is settled: each binary array is an empty one.
    assert not any(isinstance(v, literals.BinaryArray) and any(v[:4]) for v in given)
    values = sql.SQL(", ").join(
        sql.Literal("{}" if isinstance(v, literals.BinaryArray) else v) for v in given
    )
    for name, value in STEADY.items():
        connection.execute(f"set {name} = {value}")
    with connection.transaction(force_rollback=True):
        connection.execute(b"prepare worked as " + statement.text, prepare=False)
        text = sql.SQL("explain (analyze, format json, timing off) execute worked({})")
        row = connection.execute(text.format(values), prepare=False).fetchone()
    connection.execute("deallocate worked")
    assert row is not None
    return touched(row[0][0]["Plan"])


@pytest.fixture(params=["never", BEFORE, AFTER])
def queues(request: pytest.FixtureRequest, connection: Connection) -> list[str]:
    """Queues of a job each, and limits or pauses of as many others."""
    tables = ("queue_ranks", "pending", "queue_policies")
    for table in tables:
        connection.execute(f"alter table pgflow.{table} set (autovacuum_enabled = off)")
    analyze = "analyze " + ", ".join(f"pgflow.{table}" for table in tables)
    if request.param == BEFORE:
        connection.execute(analyze)
    names = [f"q{n}" for n in range(NAMES)]
    connection.execute(
        "select pgflow.enqueue('noop', queue => name) from unnest(%s::text[]) as name",
        (names,),
    )
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_in_flight, paused_until)"
        " select 'other' || n, 1,"
        " case when mod(n, 2) = 0 then 'infinity'::timestamptz end"
        " from generate_series(1, %s) as n",
        (NAMES,),
    )
    if request.param == AFTER:
        connection.execute(analyze)
    return names


def test_a_lease_touches_each_of_many_queues_a_few_times(
    database: Database,
    connection: Connection,
    queues: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = Repository.of(DatabaseSettings(database.url, steady_plans=True))
    sent: list[Sent] = []
    together = repository.link.together

    def noted(statements: list[Sent], *rest: Any, **more: Any) -> Any:
        sent.extend(statements)
        return together(statements, *rest, **more)

    monkeypatch.setattr(repository.link, "together", noted)
    position = "2000-01-01 00:00:00.000000", str(uuid.UUID(int=0))
    cycle = LeaseRequest(
        worker_id=new_worker(),
        worker_name="worker-1",
        code_version="abc",
        batch_id=str(uuid.uuid4()),
        lease_seconds=10.0,
        queues=None,
        job_types=["noop"],
        room=10,
        scan=Scan({(queue, 0): position for queue in queues}, "q7"),
        settlements=[],
        closed=[],
    )
    repository.leases.look_behind(cycle)
    reply: LeaseReply = repository.leases.settle_and_lease(cycle)
    repository.close()
    assert len(reply.jobs) == 10
    found = {one.name: explain(connection, one) for one in sent}
    assert {name: rows for name, rows in found.items() if rows > MOST} == {}
    assert found.keys() == {"look_behind", "settle_and_lease"}
