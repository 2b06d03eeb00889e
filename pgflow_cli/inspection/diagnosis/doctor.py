"""What `doctor` asks a database and this host; each answer is asked for once.

`checks` says which check wants which answer; the other modules judge them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pgflow_cli.errors import DatabaseUnavailable, DataDamaged, PgflowError, TryLater
from pgflow_cli.inspection.diagnosis import (
    OK,
    Finding,
    damage,
    jobs,
    maintenance,
    schema,
    server,
    vacuum,
)
from pgflow_cli.inspection.diagnosis.finding import warn
from pgflow_cli.local import clients
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.diagnosis import (
    AppliedStep,
    ClientTool,
    Clock,
    Disk,
    DueQueue,
    Instance,
    LockHolder,
    SecretFile,
    TableVitals,
    Upkeep,
    XminHolder,
)
from pgflow_cli.models.workers import WorkerProcess
from pgflow_cli.repository import Listener, Repository

# Seconds for one statement: a diagnosis must not load a database that is in trouble.
STATEMENT_SECONDS = 5.0
# Reads of the server's clock: the error of one is half its round trip, so the quickest
# of a few is the most exact.
_CLOCK_LOOKS = 5
# Seconds until a notification to ourselves counts as lost; one takes milliseconds.
_ECHO_SECONDS = 2.0
# Tomorrow's partition must be there; `maintain` makes more of them in advance.
_DAYS_AHEAD = 1

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Facts of this host: files with secrets, whether the password was typed, and where
    an admin server listens on the network without a token.
    """

    secrets: Sequence[SecretFile] = ()
    password_typed: bool = False
    open_address: str | None = None


@dataclass
class Doctor:
    """Asks a database for the facts that the checks judge; each fact is read once."""

    repository: Repository
    surroundings: Surroundings = field(default_factory=Surroundings)
    audit_seconds: float = STATEMENT_SECONDS
    reads_all: bool = False

    @cached_property
    def instance(self) -> Instance:
        return self.ask(self.repository.diagnosis.inspect_instance)

    @cached_property
    def steps(self) -> list[AppliedStep]:
        listed = self.ask(lambda: migrations.list_status(self.repository))
        return [
            AppliedStep(s.version, s.applied_at, s.drift, s.pending) for s in listed
        ]

    @cached_property
    def due(self) -> list[DueQueue]:
        return self.ask(self.repository.diagnosis.list_due_queues)

    @cached_property
    def workers(self) -> list[WorkerProcess]:
        return self.ask(self.repository.workers.list_workers)

    @cached_property
    def holders(self) -> list[XminHolder]:
        return self.ask(self.repository.diagnosis.list_xmin_holders)

    @cached_property
    def tables(self) -> list[TableVitals]:
        return self.ask(self.repository.diagnosis.list_table_vitals)

    @cached_property
    def recorded(self) -> tuple[list[Upkeep], Upkeep | None]:
        return self.ask(self.repository.diagnosis.plan_upkeep)

    def clock(self) -> Clock:
        """Compare clocks; the read with the shortest round trip is the most exact."""
        return min(
            (self._look() for _ in range(_CLOCK_LOOKS)),
            key=lambda look: look.round_trip,
        )

    def disk(self) -> Disk:
        """Return the space taken, and the free space if the server is on this host."""
        seen = self.ask(self.repository.diagnosis.measure_disk)
        folder = self.instance.data_directory
        if not folder or not self.repository.database.on_socket:
            return seen
        try:
            if not (Path(folder) / "PG_VERSION").exists():
                return seen
            stats = os.statvfs(folder)
        except (OSError, AttributeError):  # no permission; Windows has no statvfs
            return seen
        return replace(
            seen,
            free=stats.f_bavail * stats.f_frsize,
            total=stats.f_blocks * stats.f_frsize,
        )

    def hears_itself(self) -> bool:
        """Return whether a notification reaches its own session."""
        listener = Listener(self.repository.database)
        try:
            return listener.hears_itself(_ECHO_SECONDS)
        finally:
            listener.close()

    def pooler(self) -> Finding:
        """Judge whether notifications arrive; a standby sends none."""
        if self.instance.in_recovery:
            return server.silent_standby()
        return server.pooler(self.hears_itself())

    def session(self) -> Finding:
        """Judge the timeouts of a session that sets none of its own. They may end even
        that one at once; then read what is set for the role and the database.
        """
        plain = Repository.of(self.repository.database.unbounded())
        try:
            return server.session(
                plain.diagnosis.list_honoured_timeouts(), self.instance.database
            )
        except DatabaseUnavailable as error:
            found = server.session(
                self.ask(self.repository.diagnosis.list_set_timeouts),
                self.instance.database,
            )
            if found.result != OK:
                return found
            return server.cut_short(error, self.instance.role)
        finally:
            plain.close()

    def lock_holders(self) -> list[LockHolder]:
        """Return the sessions that keep others from tables of pgflow."""
        return self.ask(self.repository.diagnosis.list_lock_holders)

    def partitions(self) -> Iterator[Finding]:
        """Judge whether partitions are missing, and the rows in default partitions."""
        missing = self.ask(
            lambda: self.repository.schema.plan_partitions(
                days_ahead=_DAYS_AHEAD, most_strays=schema.MOST_STRAYS
            )
        )
        strays = self.ask(
            lambda: self.repository.diagnosis.count_strays(limit=schema.MOST_STRAYS)
        )
        return schema.partitions(missing, strays)

    def audit(self) -> Iterator[Finding]:
        """Judge whether leases look wherever jobs wait, and whether every job is in
        exactly one table, if the time limit allows.
        """
        diagnosis = self.repository.diagnosis
        try:
            unlisted = jobs.unlisted_places(self.ask(diagnosis.list_unlisted_places))
            if unlisted:
                yield unlisted
            with diagnosis.bounded(self.audit_seconds):
                yield jobs.audit(diagnosis.audit_jobs())
        except TryLater as error:
            if holders := self.lock_holders():
                yield server.locks(holders, check="jobs.audit")
                return
            yield warn(
                "jobs.audit",
                f"too many jobs to look at each, or a lock was in the way: {error}",
                command="pgflow doctor --check audit --timeout 30m",
            )

    def unreadable(self) -> Iterator[Finding]:
        """Judge what cannot be read: jobs; if it is asked for that, everything."""
        if self.reads_all:
            yield from damage.everything(self.repository, self.audit_seconds)
        with suppress(*([DataDamaged] if self.reads_all else [])):  # that is told then
            seen = self.ask(self.repository.diagnosis.find_unreadable_letters)
            if seen.letters or seen.waiting or not self.reads_all:
                yield jobs.unreadable(seen)

    def xmin(self) -> Iterator[Finding]:
        """Judge who holds back vacuum."""
        return vacuum.xmin_holders(
            self.holders,
            sees_all=self.instance.sees_all_sessions,
            role=self.instance.role,
            database=self.instance.database_name,
        )

    def held_back(self) -> Iterator[Finding]:
        """Judge dead rows that cannot be removed."""
        return vacuum.held_back(self.tables, self.holders, self.instance.database_name)

    def pg_dump(self) -> Finding:
        """Judge the pg_dump of this host, as far as the server is known."""
        tools = [
            ClientTool(str(found.pg_dump), found.version, found.major)
            for found in clients.installed()
        ]
        try:
            major = self.instance.version_number // 10000
        except PgflowError:
            major = None
        return maintenance.pg_dump(tools, major)

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Ask the database, for a few seconds at most."""
        with self.repository.diagnosis.bounded(STATEMENT_SECONDS):
            return question()

    def _look(self) -> Clock:
        wall, began = time.time(), time.monotonic()
        theirs = self.repository.diagnosis.read_clock()
        round_trip = time.monotonic() - began
        return Clock(theirs - wall - round_trip / 2, round_trip)
