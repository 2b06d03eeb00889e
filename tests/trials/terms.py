"""Removes each AND-term of a statement in turn, by the parser of PostgreSQL itself.

A removed term is one that is always true: `(term or true)`. So every parameter keeps
its type, and the statement stays a statement.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol
from unittest import mock

import pglast
from pglast import ast
from pglast.enums import BoolExprType
from pglast.stream import RawStream
from pglast.visitors import Visitor

from pgflow_cli.repository import sqlfiles
from pgflow_cli.repository.sqlfiles import Statement
from tests.trials import gate, replaying, upkeep  # noqa: F401  (they register scenarios)
from tests.trials.scenarios import Bench, Scenario

# What writes leases, pending or attempts, and what locks for it.
STATEMENTS = (
    "settle_and_lease",
    "lock_leases",
    "take_over_job",
    "settle_and_enqueue",
    "lock_limited_queues",
    "lease_limited",
    "lock_leases_to_extend",
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
    "lock_dead_letters",
    "delete_dead_letters",
    "discard_dead_letters",
    "purge_dead_letters",
    "purge_pending",
    "archive_jobs_of_day",
    "archive_stray_jobs",
    "prune_archived_jobs",
    "prune_canceled_jobs",
    "lock_resolved_dead_letters",
    "prune_dead_letters",
    "remove_archived_copies",
    "remove_reloaded_jobs",
    "remove_second_entries",
    "trim_interrupted_leases",
)


# Functions that do so, and the statements that call them. The sentences by which those
# of producers refuse are no terms: tests/repository/test_enqueue.py has their promises.
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "enqueue": (),
    "enqueue_many": (),
    "hold_leases": ("settle_and_lease", "settle_and_enqueue"),
    "finish_turn": ("settle_and_lease",),
    "is_settled": ("settle_and_lease", "settle_and_enqueue"),
}


class Mutant(Protocol):
    """A statement or function without one of its terms."""

    @property
    def term(self) -> str: ...

    def in_force(self, bench: Bench) -> AbstractContextManager[None]:
        """Have it run meanwhile instead of the right one."""


@dataclass(frozen=True)
class StatementMutant:
    """What the repository sends instead of a statement."""

    term: str
    statement: Statement

    @contextmanager
    def in_force(self, _: Bench) -> Iterator[None]:
        real = sqlfiles.statement

        def chosen(name: str) -> Statement:
            return self.statement if name == self.statement.name else real(name)

        with mock.patch.object(sqlfiles, "statement", chosen):
            yield


@dataclass(frozen=True)
class FunctionMutant:
    """What replaces a function of the database; `right` puts it back."""

    term: str
    text: str
    right: str

    @contextmanager
    def in_force(self, bench: Bench) -> Iterator[None]:
        bench.sql(self.text)
        try:
            yield
        finally:
            bench.sql(self.right)


@cache
def mutants(name: str) -> tuple[Mutant, ...]:
    """Return a statement or function once without each of its terms."""
    if name in FUNCTIONS:
        right = _source(name)
        return tuple(
            FunctionMutant(term, text, right) for term, text in _mutate_function(right)
        )
    statement = sqlfiles.statement(name)
    return tuple(
        StatementMutant(term, Statement(name, text.encode(), statement.parameters))
        for term, text in _named(_mutate(statement.text.decode()))
    )


def _source(function: str) -> str:
    """Return what creates a function, or replaces it."""
    text = "\n".join(migration.text for migration in sqlfiles.migrations())
    [found] = re.findall(
        rf"^create( function pgflow\.{function}\(.*?^\$\$;)$",
        text,
        re.MULTILINE | re.DOTALL,
    )
    return f"create or replace{found}"


def _mutate_function(source: str) -> Iterator[tuple[str, str]]:
    pairs = []
    for query in _queries(pglast.parse_plpgsql(source)):
        for term, text in _mutate(query):
            [found] = _place(query).finditer(source)
            # At the end, wherever it stood.
            into = re.search(r"(?<!insert)\s+into \w+", found[0])
            changed = (
                found[1] + text[len(text.split()[0]) :] + (into[0] if into else "")
            )
            whole = f"{source[: found.start()]}{changed}{source[found.end() :]}"
            pairs.append((term, whole))
    return _named(pairs)


def _place(query: str) -> re.Pattern[str]:
    """Return what finds a statement in its function, as the parser does not tell it:
    without `into`, and what is performed as a select.
    """
    first, *words = map(re.escape, query.split())
    first = "perform" if first == "SELECT" else first
    into = r"(?:\s+into \w+)?"
    return re.compile(rf"\b({first}){into}\s+" + rf"{into}\s+".join(words) + into)


def _queries(tree: Any) -> Iterator[str]:
    """Yield the statements of a function, but not its expressions."""
    if isinstance(tree, list):
        for each in tree:
            yield from _queries(each)
    elif isinstance(tree, dict):
        query = tree.get("query")
        if isinstance(query, str) and tree["parseMode"] == 0:
            yield query
        for each in tree.values():
            yield from _queries(each)


def _named(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Number the terms that read alike."""
    alike = Counter[str]()
    for term, text in pairs:
        alike[term] += 1
        yield (term if alike[term] == 1 else f"{term} [{alike[term]}]"), text


def _mutate(text: str) -> Iterator[tuple[str, str]]:
    """Yield each term of a statement, and the statement without it.

    Printed once, with a mark beside each term: to parse and to print is what costs.
    """
    tree = pglast.parse_sql(text)
    marker = _Marker()
    marker(tree)
    marked = RawStream()(tree)
    # Of what stands in the tree twice, `set (a, b) = (select …)`, one is printed.
    for mark in _MARK.finditer(marked):
        term = marker.terms[int(mark[1])]
        # A join `on true` has nothing to remove.
        if term != "TRUE":
            without = f"{marked[: mark.start()]} OR TRUE{marked[mark.end() :]}"
            yield term, _MARK.sub("", without)


_MARK = re.compile(r" OR '@(\d+)@'")


class _Marker(Visitor):
    """Notes the terms of all conditions, and marks each: `(term or '@0@')`."""

    _CONDITIONS: ClassVar = ("whereClause", "quals", "havingClause", "agg_filter")

    def __init__(self) -> None:
        super().__init__()
        self.terms: list[str] = []

    # What contains a term is visited before it: so a term is printed without marks.
    def visit(self, _: Any, node: Any) -> None:
        for name in self._CONDITIONS:
            if (condition := getattr(node, name, None)) is not None:
                self._look_at(node, name, condition)

    def _look_at(self, node: Any, name: str, condition: Any) -> None:
        if (
            isinstance(condition, ast.BoolExpr)
            and condition.boolop == BoolExprType.AND_EXPR
        ):
            condition.args = tuple(map(self._marked, condition.args or ()))
        else:
            setattr(node, name, self._marked(condition))

    def _marked(self, term: Any) -> Any:
        mark = ast.String(sval=f"@{len(self.terms)}@")
        self.terms.append(RawStream()(term))
        constant = ast.A_Const(isnull=False, val=mark)
        return ast.BoolExpr(boolop=BoolExprType.OR_EXPR, args=(term, constant))


def unnoticed(
    name: str, bench: Bench, scenarios: Iterable[Scenario], spared: Container[str]
) -> list[str]:
    """Return the terms of a statement, but the spared ones, that no scenario misses.

    The scenarios are those that end right as long as nothing is removed.
    """
    wanted = {name, *FUNCTIONS.get(name, ())}
    fresh = [scenario for scenario in scenarios if wanted & scenario.of]
    used: list[Scenario] = []
    missed = []
    for mutant in mutants(name):
        if mutant.term in spared:
            continue
        # What has noticed one term is likely to notice the next. If not, one that has
        # noticed none is, because it is there for one: they stand in the order of the
        # statement, more or less.
        order = [*used[:4], *fresh, *used[4:]]
        with mutant.in_force(bench):
            found = next((s for s in order if s.wrong(bench)), None)
        if found is None:
            missed.append(mutant.term)
        elif found in used:
            used.remove(found)
            used.insert(0, found)
        else:
            place = fresh.index(found)
            fresh = fresh[place + 1 :] + fresh[:place]
            used.insert(0, found)
    return missed
