"""Judges the server: its version, settings, clock, connections, disk."""

from __future__ import annotations

from collections.abc import Sequence

from pgflow_cli.errors import PermissionDenied, PgflowError, Unadmitted
from pgflow_cli.formats.times import format_duration as length
from pgflow_cli.formats.words import some
from pgflow_cli.inspection.diagnosis.finding import (
    Finding,
    fail,
    ok,
    size,
    warn,
)
from pgflow_cli.models.diagnosis import (
    Clock,
    Connections,
    Disk,
    Honoured,
    Instance,
    LockHolder,
    Shadow,
)

OLDEST, NEWEST = 15, 18
SKEW_WARN, SKEW_FAIL = 1.0, 5.0
_CROWDED, _FULL = 0.8, 0.95
_DISK_WARN, _DISK_FAIL = 0.10, 0.03
_DROPPED = 20  # dropped functions or relations in one fix, so that it stays readable
# Seconds that a timeout must allow: a statement of pgflow, its waits for locks, or the
# pause between two statements may take as long.
_LEAST = {
    "statement_timeout": 10.0,
    "lock_timeout": 1.0,
    "idle_in_transaction_session_timeout": 10.0,
    "idle_session_timeout": 60.0,
    # One transaction holds the lock for a whole pass of maintain.
    "transaction_timeout": 300.0,
}
_TO_THE_PRIMARY = "set DATABASE_URL to the primary; several hosts are fine"
_RELOAD = "select pg_reload_conf();"


def version(instance: Instance) -> Finding:
    """Judge whether pgflow is tested on this version."""
    check, major = "server.version", instance.version_number // 10000
    if major < OLDEST:
        return fail(
            check,
            f"PostgreSQL {instance.version}; pgflow needs {OLDEST} or newer",
            command="upgrade the server: pg_upgrade, or pgflow backup and restore",
        )
    if major > NEWEST:
        return warn(
            check, f"PostgreSQL {instance.version}; tested on {OLDEST} to {NEWEST}"
        )
    return ok(check, f"PostgreSQL {instance.version}")


def recovery(instance: Instance) -> Finding:
    """Judge whether the server takes writes."""
    check = "server.recovery"
    if instance.in_recovery:
        return fail(
            check,
            "in recovery: a standby, or not started up yet; it takes no writes",
            command=_TO_THE_PRIMARY,
        )
    return ok(check, "takes writes")


def clock(seen: Clock) -> Finding:
    """Judge the difference of the clocks; half a round trip may be due to the
    network.
    """
    check = "server.clock-skew"
    certain = max(0.0, abs(seen.skew) - seen.round_trip / 2)
    detail = (
        f"the server's clock is {length(abs(seen.skew))} "
        f"{'ahead of' if seen.skew >= 0 else 'behind'} this host's "
        f"(round trip {seen.round_trip * 1000:.1f}ms)"
    )
    fix = "synchronise both hosts: timedatectl set-ntp true"
    if certain >= SKEW_FAIL:
        return fail(check, detail, command=fix)
    if certain >= SKEW_WARN:
        return warn(check, detail, command=fix)
    return ok(check, detail)


def fsync(instance: Instance) -> Finding:
    """Judge whether the database survives a crash of its host (fsync)."""
    check = "server.fsync"
    off = [
        name
        for name, on in (
            ("fsync", instance.fsync),
            ("full_page_writes", instance.full_page_writes),
        )
        if not on
    ]
    if off:
        return fail(
            check,
            f"{' and '.join(off)} off: a crash may destroy the database",
            sql=" ".join(f"alter system set {name} = on;" for name in off)
            + f" {_RELOAD}",
        )
    return ok(check, "on, and full_page_writes")


def synchronous_commit(instance: Instance) -> Finding:
    """Judge whether an acknowledged job survives a crash."""
    check, value = "server.synchronous-commit", instance.synchronous_commit
    if value != "off":
        return ok(check, value)
    where = {
        "database": f"alter database {instance.database} reset synchronous_commit;",
        "user": f"alter role {instance.role} reset synchronous_commit;",
        "database user": f"alter role {instance.role} in database "
        f"{instance.database} reset synchronous_commit;",
    }
    usual = f"alter system set synchronous_commit = on; {_RELOAD}"
    return warn(
        check,
        f"off ({instance.commit_source}): a crash may lose jobs that were acknowledged",
        sql=where.get(instance.commit_source, usual),
    )


def connections(seen: Connections) -> Finding:
    """Judge how near the nearest limit of connections is."""
    check = "server.connections"
    limits = [
        (seen.used, max(1, seen.allowed - seen.reserved), "the server"),
        (seen.role_used, seen.role_limit, "this role"),
        (seen.database_used, seen.database_limit, "this database"),
    ]
    used, most, whose = max(
        ((used, most, whose) for used, most, whose in limits if most is not None),
        key=lambda limit: limit[0] / max(limit[1], 1),
    )
    detail = f"{used} of {most} of {whose} in use, {seen.idle_in_transaction} "
    detail += "idle in transaction"
    if used < _CROWDED * most:
        return ok(check, detail)
    found = fail if used >= _FULL * most else warn
    return found(
        check,
        detail,
        sql=f"alter system set max_connections = {2 * seen.allowed};"
        if whose == "the server"
        else "",
        command="run fewer worker processes (each has two) or add a pooler"
        + ("; the setting needs a restart" if whose == "the server" else ""),
    )


def pooler(hears_itself: bool) -> Finding:
    """Judge whether notifications arrive."""
    check = "server.pooler"
    if hears_itself:
        return ok(check, "notifications arrive: no transaction pooler in between")
    return warn(
        check,
        "a NOTIFY to ourselves did not arrive: a pooler in transaction mode; workers "
        "poll instead of being woken",
        command="let workers connect directly, or: pgflow work --no-listen",
    )


def silent_standby() -> Finding:
    """Return the finding for a standby, on which no session may listen or notify."""
    return warn(
        "server.pooler",
        "not looked at: this server is a standby, which takes no LISTEN",
        command=_TO_THE_PRIMARY,
    )


def shadows(seen: Sequence[Shadow]) -> Finding:
    """Judge whether functions, operators or relations shadow those of the server."""
    check = "server.shadows"
    if not seen:
        return ok(check, "nothing bears the name of one of the server's own")
    names = some([f"{each.kind} {each.name} of {each.owner}" for each in seen], 3)
    return warn(
        check,
        f"named like the server's own: {names}; pgflow does not run them, but other"
        " programs of this database may, as their own role",
        sql=" ".join(f"drop {each.kind} {each.name};" for each in seen[:_DROPPED])
        + " revoke create on schema public from public;",
    )


def locks(seen: Sequence[LockHolder], check: str = "server.locks") -> Finding:
    """Judge whether a session keeps others from tables of pgflow.

    It may be a migration or a vacuum full, so ending it is the operator's decision.
    """
    if not seen:
        return ok(check, "no session keeps others from a table of pgflow")
    told = "; ".join(f"{each.words} holds {each.tables}" for each in seen)
    first = seen[0].pid
    return warn(
        check,
        f"locked for other sessions: {told}",
        command="wait for its end; or end it, in psql: "
        f"select pg_cancel_backend({first}), and if it is idle: "
        f"select pg_terminate_backend({first})",
    )


def session(seen: Sequence[Honoured], database: str) -> Finding:
    """Judge what the role, the database or a service file sets and pgflow honours."""
    check = "server.session"
    harmful = [each for each in seen if 0 < each.seconds < _LEAST[each.name]]
    if not harmful:
        return ok(check, "no timeout is too short; the rest is pinned by pgflow")
    told = [f"{each.name} {length(each.seconds)} ({each.source})" for each in harmful]
    from_client = [each.name for each in harmful if each.source == "client"]
    return warn(
        check,
        f"too short for pgflow's longest statements: {some(told)}",
        sql=" ".join(
            _longer(each.name, each.role, database, each.source)
            for each in harmful
            if each.source != "client"
        ),
        command=f"take {some(from_client)} out of the URL, service file or PGOPTIONS"
        if from_client
        else "",
    )


def _longer(name: str, role: str, database: str = "", source: str = "") -> str:
    """Return the SQL that lengthens a timeout where it wins over what is set now: for
    the role, and in this database alone if that is its source.
    """
    where = f" in database {database}" if source == "database user" else ""
    return f"alter role {role}{where} set {name} = '{_LEAST[name]:g}s';"


def way_in(error: PgflowError) -> str:
    """Return the next step of who cannot connect."""
    if isinstance(error, Unadmitted) or _cutter(error):
        return " ".join(error.hints)
    if isinstance(error, PermissionDenied):
        return (
            "check user and password of the URL, the right to connect, and pg_hba.conf"
            " of the server"
        )
    return "check that the server runs, the host and port of the URL, and the network"


def way_back(error: PgflowError) -> str:
    """Return the next step of a check whose connection has ended."""
    return " ".join(error.hints) if _cutter(error) else "pgflow doctor"


def _cutter(error: PgflowError) -> str | None:
    """Return the timeout that has ended a statement or a session, if one has."""
    told = " ".join(error.hints)
    return next((name for name in _LEAST if name in told), None)


def cut_short(error: PgflowError, role: str) -> Finding:
    """Judge a session that its timeouts have ended before it could tell them."""
    check, name = "server.session", _cutter(error)
    if name is None:
        return fail(check, error.message, command="pgflow doctor --check reachable")
    return warn(
        check,
        f"{name} is so short that it has ended this look: {error.message}",
        sql=_longer(name, role),
    )


def disk(seen: Disk) -> Finding:
    """Judge the disk space; SQL does not tell how much is free."""
    check = "server.disk"
    taken = f"database {size(seen.database_bytes)}, schema pgflow "
    taken += size(seen.schema_bytes)
    if seen.free is None or not seen.total:
        return ok(check, f"{taken}; free space is not visible from here")
    detail = f"{taken}, {size(seen.free)} of {size(seen.total)} free"
    share = seen.free / seen.total
    if share >= _DISK_WARN:
        return ok(check, detail)
    found = fail if share < _DISK_FAIL else warn
    return found(check, detail, command="pgflow maintain --task archive --task prune")
