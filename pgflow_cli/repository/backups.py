"""Statements around pg_dump and pg_restore."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pgflow_cli.errors import DatabaseUnavailable, PermissionDenied
from pgflow_cli.models.backups import DumpSource, TableDigest, TablePlan
from pgflow_cli.models.schema import ReplacedSchema
from pgflow_cli.repository import remains
from pgflow_cli.repository.base import Statements
from pgflow_cli.repository.remains import Remains


class Backups(Statements):
    """Snapshots and digests of a database, and the table of backups that were taken."""

    def inspect_dump_source(self) -> DumpSource:
        """Return the facts of a database that a backup needs before pg_dump runs."""
        return self.link.rows("inspect_dump_source", DumpSource)[0]

    def begin_snapshot(self, *, lock_wait: float | None = None) -> None:
        """Begin a snapshot in which every row has the same text on every server.

        A statement that waits longer than `lock_wait` seconds for a lock fails.
        """
        self.link.execute("begin_backup_snapshot", None, None)
        self.link.tuples("fix_text_output")
        if lock_wait is not None:
            self.link.limit_lock_waits(round(lock_wait * 1000))

    def export_snapshot(self) -> str:
        """Return the name of the transaction's snapshot, for pg_dump."""
        return str(self.link.tuples("export_snapshot")[0][0])

    def lock_backups(self) -> bool | None:
        """Lock backups until the transaction ends; False if another session has the
        lock.

        None if this role, or a standby, cannot take the lock.
        """
        try:
            with self.transaction():
                return bool(self.link.tuples("lock_backups"))
        except (PermissionDenied, DatabaseUnavailable):
            return None

    def plan_digests(self) -> list[TablePlan]:
        """Return the tables of the schema that hold rows of their own."""
        return self.link.rows("plan_digests", TablePlan)

    def digest_tables(
        self,
        plans: list[TablePlan],
        *,
        hashes: bool,
        advance: Callable[[int], None] = lambda _: None,
    ) -> dict[str, TableDigest]:
        """Count the rows of tables; with `hashes`, sum their hashes too."""
        found = {}
        for plan in plans:
            text = plan.digest_statement if hashes else plan.count_statement
            row = self.link.run_text(text).fetchone()
            assert row is not None
            found[plan.name] = TableDigest(*row)
            advance(1)
        return found

    def digest_schema(self) -> dict[str, TableDigest]:
        """Count and digest every table of the schema, all of one instant."""
        with self.transaction():
            self.begin_snapshot()
            return self.digest_tables(self.plan_digests(), hashes=True)

    def record_backup(self, record: Mapping[str, object]) -> int:
        """Record a backup that was taken and checked."""
        return int(self.link.tuples("record_backup", record)[0][0])

    def count_live_workers(self) -> int:
        """Count the worker processes that were heard of within their lease."""
        return int(self.link.tuples("count_live_workers")[0][0])

    def has_database(self, name: str) -> bool:
        """Return whether the server has a database of this name."""
        return bool(self._plan_database(name)[2])

    def create_database(self, name: str) -> None:
        """Make an empty database."""
        self.link.run_text(self._plan_database(name)[0], alone=True)

    def drop_database(self, name: str) -> None:
        """Drop a database, and end all connections to it."""
        self.link.run_text(self._plan_database(name)[1], alone=True)

    def list_role_names(self) -> list[str]:
        """Return the roles that may own something or be granted it."""
        return [row[0] for row in self.link.tuples("list_role_names")]

    def create_roles(self, names: Sequence[str]) -> None:
        """Make the roles that the server does not have."""
        for text in self._plan_roles(names):
            self.link.run_text(text)

    def _plan_roles(self, names: Sequence[str]) -> list[str]:
        rows = self.link.tuples("plan_roles", {"names": list(names)})
        return [row[0] for row in rows]

    def list_replaced_schemas(self) -> list[ReplacedSchema]:
        """Return the schemas that restores have put aside and left, oldest first."""
        return remains.list_replaced_schemas(self.link)

    def inspect_remains(self) -> Remains:
        """Return the traces of a restore that was cut off, or still runs."""
        return remains.look(self.link)

    def mark_restore(self) -> None:
        """Mark the database as one in which a restore runs, until it has succeeded."""
        self.link.count("mark_restore")

    def unmark_restore(self) -> None:
        """Remove the mark: the restore has ended, or its changes were undone."""
        self.link.count("unmark_restore")

    def parking_statements(self, aside: str) -> str:
        """Return the statements that put the schema aside under another name, for a
        transaction: triggers of others are dropped, so that a load may replace what
        they call.
        """
        park, _, _, loosen = self._plan_replacement(aside)
        return loosen + park

    def park_schema(self, aside: str) -> None:
        """Rename the schema, to make place for the one that is restored."""
        self.link.run_text(self._plan_replacement(aside)[0])

    def unpark_schema(self, aside: str) -> None:
        """Drop a schema that was restored in part, and rename the old one back."""
        with self.transaction():
            self.link.run_text(self._plan_replacement(aside)[1])

    def drop_parked_schema(self, aside: str) -> None:
        """Drop the schema that was put aside."""
        self.link.run_text(self._plan_replacement(aside)[2])

    def analyze_schema(self) -> None:
        """Gather statistics of the schema's tables."""
        for text in self._plan_analysis():
            self.link.run_text(text)

    def _plan_analysis(self) -> list[str]:
        return [row[0] for row in self.link.tuples("plan_analysis")]

    def _plan_database(self, name: str) -> tuple[str, str, bool]:
        create, drop, exists = self.link.tuples("plan_database", {"name": name})[0]
        return create, drop, exists

    def _plan_replacement(self, aside: str) -> tuple[str, str, str, str]:
        [plan] = self.link.tuples("plan_replacement", {"aside": aside})
        park, undo, drop, loosen = plan
        return park, undo, drop, loosen
