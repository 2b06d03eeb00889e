"""Removes each AND-term of a statement in turn, by the parser of PostgreSQL itself.

A removed term is one that is always true: `(term or true)`. So every parameter keeps
its type, and the statement stays a statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from unittest import mock

import pglast
from pglast import ast
from pglast.enums import BoolExprType
from pglast.stream import RawStream
from pglast.visitors import Visitor

from pgflow_cli import sqlfiles
from pgflow_cli.sqlfiles import Statement
from tests.trials import replaying, upkeep  # noqa: F401  (scenarios that register)
from tests.trials.scenarios import SCENARIOS, Bench

# What writes leases, pending or attempts, and what locks for it.
STATEMENTS = (
    "settle_and_lease",
    "lock_leases",
    "take_over_job",
    "settle_and_enqueue",
    "lock_limited_queues",
    "lease_limited",
    "beat",
    "lock_expired_leases",
    "lock_worker_leases",
    "lock_interrupted_leases",
    "end_leases",
    "lock_leases_of_jobs",
    "cancel_running_jobs",
    "cancel_waiting_jobs",
    "reprioritize_jobs",
    "run_jobs_now",
    "create_replays",
    "undo_replays",
    "lock_replay_items",
    "delete_dead_letters",
    "discard_dead_letters",
    "purge_dead_letters",
    "purge_pending",
    "archive_jobs_of_day",
    "archive_stray_jobs",
    "prune_archived_jobs",
    "prune_canceled_jobs",
    "prune_dead_letters",
    "remove_archived_copies",
    "remove_reloaded_jobs",
    "remove_second_entries",
    "trim_interrupted_leases",
)


@dataclass(frozen=True)
class Mutant:
    """A statement without one of its terms."""

    statement: Statement
    term: str

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Have the repository send it instead of the statement."""
        real = sqlfiles.statement

        def chosen(name: str) -> Statement:
            return self.statement if name == self.statement.name else real(name)

        with mock.patch.object(sqlfiles, "statement", chosen):
            yield


def mutants(name: str) -> Iterator[Mutant]:
    """Yield the statement once without each of its terms."""
    statement = sqlfiles.statement(name)
    whole = _Terms.of(statement)
    seen = {whole.text}
    alike: Counter[str] = Counter()
    for number in range(whole.count):
        without = _Terms.of(statement, removed=number)
        term, text = without.term, without.text
        # A join `on true` has nothing to remove.
        if term != "TRUE" and text not in seen:
            seen.add(text)
            alike[term] += 1
            called = term if alike[term] == 1 else f"{term} [{alike[term]}]"
            yield Mutant(Statement(name, text.encode(), statement.parameters), called)


class _Terms(Visitor):
    """Counts the terms of all conditions, and makes one of them always true."""

    _CONDITIONS: ClassVar = ("whereClause", "quals", "havingClause", "agg_filter")

    def __init__(self, removed: int | None) -> None:
        super().__init__()
        self.count, self.term, self.text, self._removed = 0, "", "", removed

    @classmethod
    def of(cls, statement: Statement, removed: int | None = None) -> _Terms:
        # Parsed anew each time: a tree cannot be copied.
        tree = pglast.parse_sql(statement.text.decode())
        visitor = cls(removed)
        visitor(tree)
        visitor.text = RawStream()(tree)
        return visitor

    def visit(self, _: Any, node: Any) -> None:
        for name in self._CONDITIONS:
            if (condition := getattr(node, name, None)) is not None:
                self._look_at(node, name, condition)

    def _look_at(self, node: Any, name: str, condition: Any) -> None:
        is_and = (
            isinstance(condition, ast.BoolExpr)
            and condition.boolop == BoolExprType.AND_EXPR
        )
        for place, term in enumerate(condition.args if is_and else [condition]):
            if self.count == self._removed:
                self.term = RawStream()(term)
                gone = _always_true(term)
                if is_and:
                    args = list(condition.args)
                    args[place] = gone
                    condition.args = tuple(args)
                else:
                    setattr(node, name, gone)
            self.count += 1


def _always_true(term: Any) -> Any:
    true = ast.A_Const(isnull=False, val=ast.Boolean(boolval=True))
    return ast.BoolExpr(boolop=BoolExprType.OR_EXPR, args=(term, true))


def unnoticed(name: str, bench: Bench) -> list[str]:
    """Return the terms of a statement that no scenario of it misses."""
    scenarios = [scenario for scenario in SCENARIOS if name in scenario.of]
    missed = []
    for mutant in mutants(name):
        with mutant.in_force():
            found = next((s for s in scenarios if s.wrong(bench)), None)
        if found is None:
            missed.append(mutant.term)
        else:
            # What has noticed one term is likely to notice the next.
            scenarios.remove(found)
            scenarios.insert(0, found)
    return missed
