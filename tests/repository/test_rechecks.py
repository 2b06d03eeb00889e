"""No statement decides by partitions after it has waited for a row that others change.

PostgreSQL evaluates a row once more that changed while it was waited for
(EvalPlanQual). Since version 18 that spoils the run-time partition pruning of the whole
statement: what follows finds no rows where there are some, or ends the server.
"""

from __future__ import annotations

import re
from typing import Any

import pglast
import pytest
from pglast import ast
from pglast.enums import OnConflictAction
from pglast.visitors import Ancestor, Visitor

from pgflow_cli.repository import Repository, sqlfiles
from tests.support.servers import Database
from tests.trials import world
from tests.trials.orders import OPERATIONS, Operation, Theatre, while_held

# Statements that do so, and what keeps their rows from changing meanwhile.
LOCKED_BEFORE = "the statement before it, in its transaction, has locked the rows"
MAINTAINS = "who maintains, alone by the maintenance lock"
EXCEPTIONS = {
    "cancel_running_jobs": LOCKED_BEFORE,
    "create_replays": LOCKED_BEFORE,
    "delete_dead_letters": LOCKED_BEFORE,
    "end_leases": LOCKED_BEFORE,
    "lease_limited": LOCKED_BEFORE,
    "undo_replays": LOCKED_BEFORE,
    "prune_dead_letters": LOCKED_BEFORE,
    "trim_interrupted_leases": LOCKED_BEFORE,
    "count_arrivals": "one at a time, by the lock of the statement before it",
    "archive_jobs_of_day": MAINTAINS,
    "archive_stray_jobs": MAINTAINS,
    "prune_archived_jobs": MAINTAINS,
    "prune_canceled_jobs": MAINTAINS,
    "take_over_job": LOCKED_BEFORE,
    "remove_archived_copies": "behind a closed fence, and its jobs are no one's",
    "remove_reloaded_jobs": "behind a closed fence, and its jobs had been pruned",
}


class _Touched(Visitor):
    """What a statement reads, and which rows it may wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[str] = set()
        self.waited: set[str] = set()
        self.updated: set[str] = set()

    @classmethod
    def by(cls, text: str) -> _Touched:
        touched = cls()
        touched(pglast.parse_sql(text))
        return touched

    def visit_RangeVar(self, _: Ancestor, node: ast.RangeVar) -> None:
        self.read.add(node.relname)

    def visit_UpdateStmt(self, _: Ancestor, node: ast.UpdateStmt) -> None:
        self.updated.add(node.relation.relname)
        self.waited.add(node.relation.relname)

    def visit_DeleteStmt(self, _: Ancestor, node: ast.DeleteStmt) -> None:
        self.waited.add(node.relation.relname)

    def visit_InsertStmt(self, _: Ancestor, node: ast.InsertStmt) -> None:
        # Which waits, but takes the newest row as it is, without evaluating it.
        conflict = node.onConflictClause
        if conflict and conflict.action == OnConflictAction.ONCONFLICT_UPDATE:
            self.updated.add(node.relation.relname)

    def visit_SelectStmt(self, _: Ancestor, node: ast.SelectStmt) -> None:
        if node.lockingClause:
            self.waited |= _Touched._relations(node.fromClause or ())

    @staticmethod
    def _relations(node: Any) -> set[str]:
        inner = _Touched()
        for item in node:
            inner(item)
        return inner.read


def _names() -> list[str]:
    return sorted(path.stem for path in sqlfiles.queries().values())


def _partitioned() -> set[str]:
    """Return the partitioned tables, and the views that read them."""
    text = "\n".join(migration.text for migration in sqlfiles.migrations())
    tables = [part.split("\n\n")[0] for part in text.split("create table pgflow.")[1:]]
    found = {part.split()[0] for part in tables if "partition by" in part}
    for name, body in re.findall(r"view pgflow\.(\w+) as\n([^;]*);", text):
        if found & set(re.findall(r"pgflow\.(\w+)", body)):
            found.add(name)
    return found


def _changed_by_functions() -> set[str]:
    text = "\n".join(migration.text for migration in sqlfiles.migrations())
    return set(re.findall(r"^  +update pgflow\.(\w+)", text, re.MULTILINE))


def test_no_statement_prunes_after_it_has_waited_for_rows_that_change() -> None:
    touched = {n: _Touched.by(sqlfiles.statement(n).text.decode()) for n in _names()}
    partitioned = _partitioned()
    assert {"jobs", "job_attempts", "jobs_archive", "job_overview"} <= partitioned
    changing = set.union(*(each.updated for each in touched.values()))
    changing |= _changed_by_functions()
    assert {"leases", "workers", "dead_letters"} <= changing
    found = {
        name: each.waited & changing
        for name, each in touched.items()
        if each.read & partitioned and each.waited & changing
    }
    assert found.keys() == EXCEPTIONS.keys(), found
    # Each lease skips what is locked, and a row that was updated is evaluated again.
    assert "pending" not in changing


_IDLE_WORKER = f"""
insert into pgflow.workers (
  worker_id, supervisor_id, pid, slots, lease_seconds, idle, name, host
)
values ('{world.WORKER}', '{world.SUPERVISOR}', 1, 8, 10, true, 'worker-1', 'here')
"""


def _touch_worker(repository: Repository) -> None:
    """As a heartbeat of no leases does."""
    repository.leases.beat(**world.heartbeat([]))


def _settle_and_lease(repository: Repository) -> None:
    """Settle, give back and leave behind: each looks its jobs up by their ids."""
    turn = world.cycle(
        world.retry("first"),
        world.death("second"),
        world.unstarted("third"),
        world.success("fourth", status="released", delay=0.0),
        closed=[world.LEASE],
        room=3,
    )
    assert len(repository.leases.settle_and_lease(turn).jobs) == 2


_OPERATIONS = {
    **{operation.name: operation for operation in OPERATIONS},
    "worker": Operation("worker", _touch_worker),
    "turn": Operation("turn", _settle_and_lease),
}


@pytest.mark.direct
@pytest.mark.parametrize(
    "names",
    [
        ("cancel running", "leave again", "settle all"),
        ("cancel running", "leave again", "settle and enqueue"),
        ("cancel running", "leave again", "beat"),
        ("beat", "leave again", "turn"),
        ("worker", "beat", "turn"),
    ],
    ids=", ".join,
)
def test_who_waits_for_two_finds_what_it_looks_for(
    database: Database, names: tuple[str, ...]
) -> None:
    """Several times: statements that waited in their own plan ended the server then."""
    with database.connect() as connection:
        world.prepare(connection)
    three = [_OPERATIONS[name] for name in names]
    theatre = Theatre(database.url, sessions=3)
    try:
        for _ in range(5):
            assert theatre.play(three, while_held(three), planted=_IDLE_WORKER) == []
    finally:
        theatre.close()
