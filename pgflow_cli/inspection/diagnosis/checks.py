"""Runs the checks of `doctor`; each has a finding, also if it could not look."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from pgflow_cli.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DataDamaged,
    PermissionDenied,
    PgflowError,
    TryLater,
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
from pgflow_cli.inspection.diagnosis.doctor import (
    STATEMENT_SECONDS,
    Doctor,
    Surroundings,
)
from pgflow_cli.inspection.diagnosis.finding import fail, ok, warn
from pgflow_cli.repository import Database, Repository, sqlfiles

# Seconds beyond the longest statement after which a server that has accepted one, and
# says nothing more, counts as gone.
_SILENCE_SECONDS = 10.0
# Due jobs of each queue and rank whose types are looked at: a type that no worker
# handles stays at the front of its queue.
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
    Check("server.locks", lambda p: server.locks(p.lock_holders()), "server"),
    Check("server.session", lambda p: p.session(), "server"),
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
    # A server that stops answering must not keep the diagnosis waiting, either.
    longest = max(STATEMENT_SECONDS, audit_seconds) + _SILENCE_SECONDS
    repository = Repository.of(
        # The checks must be able to look where a timeout of the role's is deadly.
        replace(database, call_timeout=longest, server_timeout=longest, unhurried=True)
    )
    try:
        around = surroundings or Surroundings()
        doctor = Doctor(repository, around, audit_seconds, reads_all)
        reached = _reach(doctor)
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
                obstacle["schema"] = obstacle["schema"] or _schema_obstacle(doctor)
            why = obstacle[check.needs]
            if why and (words or reached.result != FAIL):
                yield _unseen(check, why)
            elif why:
                # The finding about the server says so; thirty more rows would hide it.
                continue
            else:
                yield from _run(check, doctor)
    finally:
        repository.close()


def _reach(doctor: Doctor) -> Finding:
    where = doctor.repository.database.display()
    began = time.monotonic()
    try:
        doctor.repository.diagnosis.read_clock()
    except UnknownDatabase as error:
        return fail(REACHABLE, error.message, command="create the database")
    except ConfigurationError as error:
        return fail(REACHABLE, error.message, command=" ".join(error.hints))
    except PgflowError as error:
        return fail(REACHABLE, _told(error), command=server.way_in(error))
    took = (time.monotonic() - began) * 1000
    return ok(REACHABLE, f"{where} answers (first answer after {took:.0f}ms)")


def _schema_obstacle(doctor: Doctor) -> str:
    try:
        facts = doctor.repository.schema.inspect_server()
        remains = doctor.repository.backups.inspect_remains()
    except (PermissionDenied, DataDamaged):
        return ""  # each check names what it lacks or cannot read
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


def _run(check: Check, doctor: Doctor) -> Iterator[Finding]:
    try:
        found = check.run(doctor)
        # A check may be a generator, which raises only while it is read: what it has
        # found before that counts.
        yield from [found] if isinstance(found, Finding) else found
    except PermissionDenied as error:
        role = doctor.instance.role
        yield warn(
            check.name,
            f"may not look: {_told(error)}",
            sql=check.grant.format(role),
        )
    except TryLater as error:
        yield _unseen(check, _told(error))
    except DatabaseUnavailable as error:
        yield fail(check.name, _told(error), command=server.way_back(error))
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
    """Return the command that repairs an incomplete schema, or tells how."""
    cut = "restore" in why or "list of versions" in why
    return "pgflow doctor --check schema" if cut else "pgflow migrate"


def _told(error: PgflowError) -> str:
    return safe_text.redact(error.message)
