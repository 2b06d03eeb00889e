"""Statements that create and inspect the schema."""

from __future__ import annotations

import math
from collections.abc import Sequence

import psycopg

from pgflow_cli.errors import Contention, PgflowError
from pgflow_cli.models.schema import (
    AppliedMigration,
    PartitionPlan,
    SchemaLockHolder,
    ServerFacts,
)
from pgflow_cli.repository import remains
from pgflow_cli.repository.base import Statements

# SQLSTATEs that `if not exists` still raises when two sessions create the same object.
_MADE_BY_SOMEBODY_ELSE = {"23505", "40001", "42P06", "42P07", "42710"}
_WHY_NO_PARTITION = {
    "57014": "there are more rows to move than time",  # query_canceled
    "23514": "rows of its day were written meanwhile",  # check_violation
}


class Schema(Statements):
    """The statements of `migrate` and of the tasks that make partitions."""

    def inspect_server(self) -> ServerFacts:
        """Return the facts that decide whether a schema can be made here."""
        return remains.inspect_server(self.link)

    def create_schema(self) -> bool:
        """Make the schema; False if another session was making it: inspect again."""
        return self._made("create_schema")

    def create_migrations_table(self) -> bool:
        """Make the table of applied versions; False as in `create_schema`."""
        return self._made("create_migrations_table")

    def create_schema_lock(self) -> bool:
        """Make the row that each change of the schema locks."""
        return self._made("create_schema_lock")

    def begin_schema_change(self, *, lock_wait: float, lock_timeout: float) -> None:
        """Lock the schema against other changes until the transaction ends.

        It must be the first statement of its transaction. Raises `Contention` after
        `lock_wait` seconds. Later locks of the transaction may take `lock_timeout`
        seconds; statements have no time limit.
        """
        self.link.execute("begin_schema_change", None, None)
        self.limit_statements(0)
        self._limit_lock_waits(lock_wait)
        self.link.count("lock_schema")
        self._limit_lock_waits(lock_timeout)

    def find_schema_lock_holder(self) -> SchemaLockHolder | None:
        """Return the session that is changing the schema."""
        return next(
            iter(self.link.rows("find_schema_lock_holder", SchemaLockHolder)), None
        )

    def list_applied_migrations(self) -> list[AppliedMigration]:
        """Return the versions that have been applied, in order."""
        return remains.list_applied_migrations(self.link)

    def find_schema_version(self) -> int:
        """Return the newest version that has been applied."""
        return remains.find_schema_version(self.link)

    def run_migration(self, text: str) -> None:
        """Run the statements of a migration's file, however long they take.

        Its locks are waited for no longer than `begin_schema_change` allows.
        """
        self.link.run_text(text, timeout=math.inf)

    def record_migration(self, version: int, name: str, checksum: str) -> None:
        """Record that a version was applied, in the transaction that applied it."""
        self.link.count(
            "record_migration", {"version": version, "name": name, "checksum": checksum}
        )

    def plan_partitions(
        self, *, days_ahead: int, most_strays: int, name: str | None = None
    ) -> list[PartitionPlan]:
        """Return the day partitions that are missing, and how to make each."""
        return self.link.rows(
            "plan_partitions",
            PartitionPlan,
            {"days_ahead": days_ahead, "most_strays": most_strays, "name": name},
        )

    def make_partition(self, statements: Sequence[str], *, patience: float) -> None:
        """Run a partition's plan, each statement for at most `patience` seconds.

        Call it in a transaction that has begun a schema change. Raises `Contention`
        when time ran out, or when a row of that day was written meanwhile: then nothing
        was made.
        """
        self.limit_statements(patience)
        try:
            for statement in statements:
                self.link.run_text(statement)
        except PgflowError as error:
            reason = _WHY_NO_PARTITION.get(_sqlstate(error) or "")
            if reason is None:
                raise
            raise Contention(reason) from error

    def limit_statements(self, seconds: float) -> None:
        """Cancel statements of this transaction that take longer."""
        self.link.limit_statements(round(seconds * 1000))

    def _limit_lock_waits(self, seconds: float) -> None:
        self.link.limit_lock_waits(round(seconds * 1000))

    def _made(self, name: str) -> bool:
        try:
            self.link.count(name)
        except PgflowError as error:
            if _sqlstate(error) not in _MADE_BY_SOMEBODY_ELSE:
                raise
            return False
        return True


def _sqlstate(error: PgflowError) -> str | None:
    cause = error.__cause__
    return cause.sqlstate if isinstance(cause, psycopg.Error) else None
