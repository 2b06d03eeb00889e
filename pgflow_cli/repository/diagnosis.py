"""Statements of `pgflow doctor`: each only reads, and each is bounded in time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from pgflow_cli.errors import DataDamaged, PgflowError, TryLater
from pgflow_cli.models.audit import Audit
from pgflow_cli.models.diagnosis import (
    Connections,
    Disk,
    DueQueue,
    DueType,
    ExpiredLeases,
    Honoured,
    Index,
    Instance,
    LockHolder,
    LongRun,
    Privileges,
    Reading,
    Shadow,
    Strays,
    TableVitals,
    UnreadableLetters,
    Upkeep,
    XminHolder,
)
from pgflow_cli.repository.base import Statements

_CANCELED = "57014"
# Classes of SQLSTATE that the bytes of another row cause in its types.
_NONSENSE = ("22", "XX")
_WAITING_LOOKED_AT = 1000  # due jobs that are read: they take a tenth of a second


class Diagnosis(Statements):
    """The questions of `doctor`."""

    @contextmanager
    def bounded(self, seconds: float) -> Iterator[None]:
        """Run the block's statements in one transaction, each for so long at most.

        Raises `TryLater` where one takes longer.
        """
        try:
            with self.transaction():
                milliseconds = max(1, round(seconds * 1000))
                self.link.limit_statements(milliseconds)
                yield
        except PgflowError as error:
            cause = error.__cause__
            if isinstance(cause, psycopg.Error) and cause.sqlstate == _CANCELED:
                raise TryLater(f"not done within {seconds:g}s") from error
            raise

    def inspect_instance(self) -> Instance:
        """Return the server's settings, and the role of this session."""
        return self.link.rows("inspect_instance", Instance)[0]

    def read_clock(self, *, timeout: float | None = None) -> float:
        """Return the server's clock in seconds since 1970."""
        return self.link.read_clock(timeout=timeout)

    def measure_connections(self) -> Connections:
        """Return the connections in use, and how many there may be."""
        return self.link.rows("measure_connections", Connections)[0]

    def measure_disk(self) -> Disk:
        """Return the space that the database takes."""
        return self.link.rows("measure_disk", Disk)[0]

    def list_privileges(self) -> list[Privileges]:
        """Return the privileges of the current role on each object of the schema."""
        return self.link.rows("list_privileges", Privileges)

    def list_indexes(self) -> list[Index]:
        """Return the indexes of the schema, and the invalid ones of partitions."""
        return self.link.rows("list_indexes", Index)

    def count_strays(self, *, limit: int) -> list[Strays]:
        """Count the rows of the default partitions, up to a limit and one more."""
        return self.link.rows("count_strays", Strays, {"limit": limit})

    def measure_expired_leases(self) -> ExpiredLeases:
        """Return how many leases have run out and are still there."""
        return self.link.rows("measure_expired_leases", ExpiredLeases)[0]

    def find_unreadable_letters(self) -> UnreadableLetters:
        """Return how many jobs have died because their row cannot be read, and will.

        In a transaction of the caller's: a small table would be read as a whole.
        """
        self.link.plan_by_index()
        wanted = {"limit": _WAITING_LOOKED_AT}
        return self.link.rows("find_unreadable_letters", UnreadableLetters, wanted)[0]

    def plan_reading(self, *, blocks: int) -> list[Reading]:
        """Return how to read all tables, some blocks at a time, and their indexes."""
        return self.link.rows("plan_reading", Reading, {"blocks": blocks})

    def read(self, part: Reading, *, seconds: float) -> None:
        """Read a part from end to end, for so long at most; raises `DataDamaged` if it
        cannot be read, `TryLater` if it takes longer.
        """
        try:
            with self.bounded(seconds):
                self.link.follow_indexes()
                self.link.run_text(part.statement)
        except PgflowError as error:
            cause = error.__cause__
            code = cause.sqlstate if isinstance(cause, psycopg.Error) else None
            if isinstance(error, DataDamaged) and error.relation:
                raise
            if not isinstance(error, DataDamaged) and not (code or "").startswith(
                _NONSENSE
            ):
                raise
            raise DataDamaged(
                f"{error.message}, found in {part.name}",
                relation=part.name,
                is_index=part.is_index,
            ) from error

    def list_long_runs(self) -> list[LongRun]:
        """Return jobs that run for much longer than their type's jobs do."""
        return self.link.rows("list_long_runs", LongRun)

    def list_due_queues(self) -> list[DueQueue]:
        """Return the oldest due job of each queue that has one."""
        return self.link.rows("list_due_queues", DueQueue)

    def list_due_types(self, *, limit: int) -> list[DueType]:
        """Return the types among the first due jobs of each queue and rank."""
        return self.link.rows("list_due_types", DueType, {"limit": limit})

    def list_shadows(self) -> list[Shadow]:
        """Return the functions, operators and relations that a session without a pinned
        path may use instead of the server's own, 100 at most.
        """
        return self.link.rows("list_shadows", Shadow)

    def list_honoured_timeouts(self) -> list[Honoured]:
        """Return the timeouts that the server, the database or the role has set."""
        return self.link.rows("list_honoured_timeouts", Honoured)

    def list_set_timeouts(self) -> list[Honoured]:
        """Return the timeouts that the database or the role sets for its sessions."""
        return self.link.rows("list_set_timeouts", Honoured)

    def list_lock_holders(self) -> list[LockHolder]:
        """Return the oldest sessions that keep others from tables of pgflow, at most
        three.
        """
        return self.link.rows("list_lock_holders", LockHolder)

    def list_xmin_holders(self) -> list[XminHolder]:
        """Return the holders of the xmin horizon, which hold back vacuum, the oldest
        first.
        """
        return self.link.rows("list_xmin_holders", XminHolder)

    def list_table_vitals(self) -> list[TableVitals]:
        """Return how vacuum keeps up with each table."""
        return self.link.rows("list_table_vitals", TableVitals)

    def measure_notify_queue(self) -> float:
        """Return how full the queue of notifications is, from 0 to 1."""
        return float(self.link.tuples("measure_notify_queue")[0][0])

    def plan_upkeep(self) -> tuple[list[Upkeep], Upkeep | None]:
        """Return when each task of maintenance and a backup last succeeded.

        Empty where an older schema has no table for it.
        """
        maintenance, backups = self.link.tuples("plan_upkeep")[0]
        tasks = [Upkeep(*row) for row in self._recorded(maintenance)]
        last = [Upkeep(*row) for row in self._recorded(backups)]
        return tasks, last[0] if last else None

    def _recorded(self, text: str | None) -> list[tuple[Any, ...]]:
        return self.link.run_text(text).fetchall() if text else []

    def list_unlisted_places(self) -> list[tuple[str, int]]:
        """Return queues and priorities where jobs wait that no lease finds."""
        return [(row[0], row[1]) for row in self.link.tuples("list_unlisted_places")]

    def audit_jobs(self) -> Audit:
        """Count jobs that are not in exactly one place; all is well if none is."""
        return self.link.rows("audit_jobs", Audit)[0]
