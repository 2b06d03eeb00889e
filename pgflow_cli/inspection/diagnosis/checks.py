"""Runs the checks of `doctor` and says what each found, or why it could not look."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pgflow_cli.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DataDamaged,
    PermissionDenied,
    PgflowError,
    TryLater,
    Unadmitted,
    UnknownDatabase,
    UsageError,
)
from pgflow_cli.formats import safe_text
from pgflow_cli.inspection.diagnosis import (
    FAIL,
    Finding,
    damage,
    jobs,
    maintenance,
    schema,
    server,
    vacuum,
)
from pgflow_cli.inspection.diagnosis.finding import fail, ok, warn
from pgflow_cli.local import clients
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.diagnosis import (
    AppliedStep,
    ClientTool,
    Clock,
    Disk,
    DueQueue,
    Instance,
    SecretFile,
    TableVitals,
    Upkeep,
    XminHolder,
)
from pgflow_cli.models.workers import WorkerProcess
from pgflow_cli.repository import Database, Listener, Repository, sqlfiles

STATEMENT_SECONDS = 5.0
_CLOCK_LOOKS = 5
_ECHO_SECONDS = 2.0
_DAYS_AHEAD = 1

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of this host: files with secrets, what was typed, and where an
    admin server listens for others without asking for a token.
    """

    secrets: Sequence[SecretFile] = ()
    password_typed: bool = False
    open_address: str | None = None


@dataclass
class Doctor:
    """A database under examination; what several checks want is asked once."""

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
        """Compare clocks; the quickest of a few looks knows best."""
        return min(
            (self._look() for _ in range(_CLOCK_LOOKS)),
            key=lambda look: look.round_trip,
        )

    def disk(self) -> Disk:
        """Return the space taken, and the free one if the disk is of this host."""
        seen = self.ask(self.repository.diagnosis.measure_disk)
        folder = self.instance.data_directory
        if not folder or not self.repository.database.on_socket:
            return seen
        try:
            if not (Path(folder) / "PG_VERSION").exists():
                return seen
            stats = os.statvfs(folder)
        except (OSError, AttributeError):  # not ours to see; Windows has no statvfs
            return seen
        return replace(
            seen,
            free=stats.f_bavail * stats.f_frsize,
            total=stats.f_blocks * stats.f_frsize,
        )

    def hears_itself(self) -> bool:
        """Say whether a notification comes through."""
        listener = Listener(self.repository.database)
        try:
            return listener.hears_itself(_ECHO_SECONDS)
        finally:
            listener.close()

    def pooler(self) -> Finding:
        """Judge whether notifications arrive, where any are sent."""
        if self.instance.in_recovery:
            return server.silent_standby()
        return server.pooler(self.hears_itself())

    def partitions(self) -> Iterator[Finding]:
        """Judge partitions ahead and rows in the net."""
        missing = self.ask(
            lambda: self.repository.schema.plan_partitions(
                days_ahead=_DAYS_AHEAD, most_strays=schema.MOST_STRAYS
            )
        )
        strays = self.ask(
            lambda: self.repository.diagnosis.count_strays(limit=schema.MOST_STRAYS)
        )
        return schema.partitions(missing, strays)

    def audit(self) -> Finding:
        """Judge whether every job is in one place, if there is time to look."""
        try:
            with self.repository.diagnosis.bounded(self.audit_seconds):
                return jobs.audit(self.repository.diagnosis.audit_jobs())
        except TryLater as error:
            return warn(
                "jobs.audit",
                f"too many jobs to look at each: {error}",
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


_SILENCE_SECONDS = 10.0  # of a server that has accepted a statement
_FIRST_DUE = 200

# What a role needs to look; {0} is its name.
_READ = (
    "grant usage on schema pgflow to {0}; "
    "grant select on all tables in schema pgflow to {0};"
)
_MONITOR = "grant pg_monitor to {0};"

Findings = Finding | Iterable[Finding]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `needs` is nothing, server or schema; `grant` lets a role look."""

    name: str
    run: Callable[[Doctor], Findings]
    needs: str = "schema"
    grant: str = _READ

    def names(self) -> set[str]:
        """Return the words that choose it: its area, its own name, both."""
        area, _, own = self.name.partition(".")
        return {area, own, self.name}


REACHABLE = "server.reachable"
CHECKS = (
    Check("server.version", lambda p: server.version(p.instance), "server"),
    Check("server.recovery", lambda p: server.recovery(p.instance), "server"),
    Check("server.clock-skew", lambda p: server.clock(p.clock()), "server"),
    Check("server.fsync", lambda p: server.fsync(p.instance), "server"),
    Check(
        "server.synchronous-commit",
        lambda p: server.synchronous_commit(p.instance),
        "server",
    ),
    Check(
        "server.connections",
        lambda p: server.connections(p.ask(p.repository.diagnosis.measure_connections)),
        "server",
        _MONITOR,
    ),
    Check("server.pooler", lambda p: p.pooler(), "server"),
    Check(
        "server.shadows",
        lambda p: server.shadows(p.ask(p.repository.diagnosis.list_shadows)),
        "server",
    ),
    Check(
        "server.session",
        lambda p: server.session(p.ask(p.repository.diagnosis.list_honoured_timeouts)),
        "server",
    ),
    Check("server.disk", lambda p: server.disk(p.disk()), grant=_MONITOR),
    Check(
        "schema.version", lambda p: schema.version(p.steps, sqlfiles.latest_version())
    ),
    Check("schema.drift", lambda p: schema.drift(p.steps)),
    Check(
        "schema.replaced",
        lambda p: schema.replaced(p.ask(p.repository.backups.list_replaced_schemas)),
        "server",
    ),
    Check(
        "schema.complete",
        lambda p: schema.complete(p.ask(p.repository.backups.inspect_remains)),
        "server",
    ),
    Check(
        "schema.privileges",
        lambda p: schema.privileges(
            p.ask(p.repository.diagnosis.list_privileges), p.instance.role
        ),
    ),
    Check(
        "schema.indexes",
        lambda p: schema.indexes(
            p.ask(p.repository.diagnosis.list_indexes),
            [file.text for file in sqlfiles.migrations()],
        ),
    ),
    Check("schema.partitions", lambda p: p.partitions()),
    Check(
        "schema.fence",
        lambda p: schema.fence(p.ask(p.repository.fence.read_identity)),
        grant=f"{_READ} grant execute on function pgflow.system_identifier() to {{0}};",
    ),
    Check(
        "jobs.expired-leases",
        lambda p: jobs.expired_leases(
            p.ask(p.repository.diagnosis.measure_expired_leases)
        ),
    ),
    Check("jobs.unreadable", lambda p: p.unreadable()),
    Check(
        "jobs.long-running",
        lambda p: jobs.long_runs(p.ask(p.repository.diagnosis.list_long_runs)),
    ),
    Check("jobs.oldest-runnable", lambda p: jobs.oldest_runnable(p.due)),
    Check("jobs.no-worker", lambda p: jobs.queue_workers(p.due, p.workers)),
    Check("jobs.stalled-workers", lambda p: jobs.stalled_workers(p.workers)),
    Check(
        "jobs.no-handler",
        lambda p: jobs.type_handlers(
            p.ask(lambda: p.repository.diagnosis.list_due_types(limit=_FIRST_DUE)),
            p.workers,
        ),
    ),
    Check("jobs.audit", lambda p: p.audit()),
    Check("vacuum.xmin", lambda p: p.xmin(), "server", _MONITOR),
    Check("vacuum.held-back", lambda p: p.held_back(), grant=_MONITOR),
    Check("vacuum.autovacuum", lambda p: vacuum.autovacuum(p.instance, p.tables)),
    Check("vacuum.bloat", lambda p: vacuum.bloat(p.tables)),
    Check(
        "vacuum.notify-queue",
        lambda p: vacuum.notify_queue(
            p.ask(p.repository.diagnosis.measure_notify_queue)
        ),
        "server",
    ),
    Check("upkeep.maintain", lambda p: maintenance.maintain(p.recorded[0])),
    Check("upkeep.backup", lambda p: maintenance.backup(p.recorded[1])),
    Check("upkeep.pg-dump", lambda p: p.pg_dump(), "nothing"),
    Check(
        "upkeep.exposure",
        lambda p: maintenance.exposure(
            p.surroundings.secrets,
            password_typed=p.surroundings.password_typed,
            open_address=p.surroundings.open_address,
        ),
        "nothing",
    ),
)
NAMES = (REACHABLE, *(check.name for check in CHECKS))


def chosen(words: Collection[str]) -> list[Check]:
    """Return the checks of these names or areas; all of them without any."""
    known = set().union(*(check.names() for check in CHECKS), {REACHABLE, "reachable"})
    if unknown := sorted(set(words) - known):
        raise UsageError(
            f"there is no check {unknown[0]}", f"Checks: {', '.join(NAMES)}"
        )
    return [check for check in CHECKS if not words or check.names() & set(words)]


def examine(
    database: Database,
    words: Collection[str] = (),
    *,
    surroundings: Surroundings | None = None,
    audit_seconds: float = STATEMENT_SECONDS,
    reads_all: bool = False,
) -> Iterator[Finding]:
    """Yield what each check finds; a check that cannot look says so, and why.

    `audit_seconds` is for checks that look at each job; `reads_all`: jobs.unreadable
    reads every table and index, for as long as that.

    Nothing is raised but for an unknown name: an outage is a finding, too.
    """
    checks = chosen(words)
    # A server that falls silent must not keep us, either.
    longest = max(STATEMENT_SECONDS, audit_seconds) + _SILENCE_SECONDS
    repository = Repository.of(replace(database, call_timeout=longest))
    try:
        around = surroundings or Surroundings()
        patient = Doctor(repository, around, audit_seconds, reads_all)
        reached = _reach(patient)
        if (
            not words
            or reached.result == FAIL
            or {"server", "reachable", REACHABLE} & {*words}
        ):
            yield reached
        obstacle = {"server": "", "schema": "", "nothing": ""}
        if reached.result == FAIL:
            obstacle |= dict.fromkeys(("server", "schema"), "no connection")
        for check in checks:
            if not obstacle["server"] and check.needs == "schema":
                obstacle["schema"] = obstacle["schema"] or _schema_obstacle(patient)
            why = obstacle[check.needs]
            if why and (words or reached.result != FAIL):
                yield _unseen(check, why)
            elif why:
                continue  # said once, where the server is: thirty rows would hide it
            else:
                yield from _run(check, patient)
    finally:
        repository.close()


def _reach(patient: Doctor) -> Finding:
    where = patient.repository.database.display()
    began = time.monotonic()
    try:
        patient.repository.diagnosis.read_clock()
    except UnknownDatabase as error:
        return fail(REACHABLE, error.message, command="create the database")
    except ConfigurationError as error:
        return fail(REACHABLE, error.message, command=" ".join(error.hints))
    except PgflowError as error:
        return fail(REACHABLE, _told(error), command=_way_in(error))
    took = (time.monotonic() - began) * 1000
    return ok(REACHABLE, f"{where} answers (first answer after {took:.0f}ms)")


def _way_in(error: PgflowError) -> str:
    if isinstance(error, Unadmitted):
        return " ".join(error.hints)
    if isinstance(error, PermissionDenied):
        return (
            "check user and password of the URL, the right to connect, and pg_hba.conf"
            " of the server"
        )
    return "check that the server runs, the host and port of the URL, and the network"


def _schema_obstacle(patient: Doctor) -> str:
    try:
        facts = patient.repository.schema.inspect_server()
        remains = patient.repository.backups.inspect_remains()
    except (PermissionDenied, DataDamaged):
        return ""  # each check says itself which right it needs, or what it cannot read
    except PgflowError as error:
        return _told(error)
    if remains.version or (facts.has_migrations and not remains.partial):
        return ""
    if remains.aside is not None:
        name = remains.aside.name
        return f"there is no schema: a killed restore has put {name} aside"
    if remains.partial:
        return remains.message
    return "there is no schema; try: pgflow migrate"


def _run(check: Check, patient: Doctor) -> Iterator[Finding]:
    try:
        found = check.run(patient)
        # Findings may be made one by one: what goes wrong goes wrong here.
        yield from [found] if isinstance(found, Finding) else found
    except PermissionDenied as error:
        role = patient.instance.role
        yield warn(
            check.name,
            f"may not look: {_told(error)}",
            sql=check.grant.format(role),
        )
    except TryLater as error:
        yield _unseen(check, _told(error))
    except DatabaseUnavailable as error:
        yield fail(check.name, _told(error), command="pgflow doctor")
    except DataDamaged as error:
        yield damage.found(check.name, error)
    except ConfigurationError as error:
        yield warn(
            check.name, f"not looked at: {_told(error)}", command=_way_on(error.message)
        )


def _unseen(check: Check, why: str) -> Finding:
    found = fail if check.name == "schema.version" else warn
    command = _way_on(why) if "schema" in why else ""
    return found(check.name, f"not looked at: {why}", command=command)


def _way_on(why: str) -> str:
    """Return the way back from a schema that is incomplete."""
    cut = "restore" in why
    return "pgflow doctor --check schema" if cut else "pgflow migrate"


def _told(error: PgflowError) -> str:
    return safe_text.redact(error.message)
