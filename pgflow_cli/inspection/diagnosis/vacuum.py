"""Judges vacuum: what holds it back, where it is switched off, and bloat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgflow_cli.formats.times import format_duration as length
from pgflow_cli.inspection.diagnosis.finding import (
    Finding,
    fail,
    literal,
    ok,
    size,
    warn,
)
from pgflow_cli.models.diagnosis import Instance, TableVitals, XminHolder

IDLE_WARN, BUSY_WARN, HOLDER_FAIL = 5.0, 60.0, 600.0
# Bytes of WAL that a replication slot may hold back before its disk is in danger.
RETAINED_FAIL = 10 * 1024**3
HELD_ROWS = 1_000  # dead rows below which a table is small enough to ignore
_BEHIND = 5  # times the threshold of autovacuum: then it does not keep up
_BLOATED_BYTES, _BLOATED_SHARE = 50 * 1024**2, 0.3
_PAGE_USE, _ROW_HEADER = 0.9, 28
_INDEX_PER_ROW = 400  # bytes of all index entries of one row, estimated high
_FILLED_WARN, _FILLED_FAIL = 0.1, 0.5


def xmin_holders(
    seen: Sequence[XminHolder], *, sees_all: bool, role: str, database: str
) -> Iterator[Finding]:
    """Judge the sessions, slots and prepared transactions that keep vacuum from
    removing dead rows.
    """
    check = "vacuum.xmin"
    bad = [(holder, _holds(holder)) for holder in seen]
    told = [(holder, result) for holder, result in bad if result]
    for holder, result in told[:10]:
        yield Finding(
            check,
            result,
            _described(holder),
            release(holder, database),
            _advice(holder),
        )
    if len(told) > 10:
        yield warn(check, f"and {len(told) - 10} more")
    if not sees_all:
        yield blindness(check, role)
    elif not told:
        oldest = max((h.seconds for h in seen if h.seconds is not None), default=0.0)
        yield ok(check, f"the oldest transaction is {length(oldest)} old")


def blindness(check: str, role: str) -> Finding:
    """Return the finding that other roles' sessions are hidden from this role."""
    return warn(
        check,
        f"role {role} cannot see the sessions of other roles",
        sql=f"grant pg_read_all_stats to {role};",
    )


def held_back(
    tables: Sequence[TableVitals], holders: Sequence[XminHolder], database: str
) -> Iterator[Finding]:
    """Judge dead rows that vacuum may not remove."""
    check = "vacuum.held-back"
    guilty = [holder for holder in holders if holder.data and _holds(holder)]
    oldest = max(guilty, key=lambda holder: holder.xids, default=None)
    held = [
        table
        for table in tables
        if table.dead_rows >= HELD_ROWS
        and (
            oldest is not None
            # Vacuum ran lately, and could not remove these rows.
            or (table.dead_rows >= _BEHIND * table.threshold and _lately(table))
        )
    ]
    for table in sorted(held, key=lambda table: -table.dead_rows)[:10]:
        by = f" because of {_whom(oldest)}" if oldest else ", vacuumed as it was"
        yield warn(
            check,
            f"{table.name}: up to {table.dead_rows:,} dead rows cannot be removed{by}",
            sql=(f"{release(oldest, database)} " if oldest else "").lstrip()
            + f"vacuum pgflow.{table.name};",
        )
    if not held:
        dead = sum(table.dead_rows for table in tables)
        yield ok(check, f"{dead:,} dead rows in all tables, none held back")


def autovacuum(instance: Instance, tables: Sequence[TableVitals]) -> Iterator[Finding]:
    """Judge whether autovacuum is on, and whether it keeps up."""
    check = "vacuum.autovacuum"
    off = [
        name
        for name, on in (
            ("autovacuum", instance.autovacuum),
            ("track_counts", instance.track_counts),
        )
        if not on
    ]
    if off:
        yield fail(
            check,
            f"{' and '.join(off)} off for the whole server: tables grow without end",
            sql=" ".join(f"alter system set {name} = on;" for name in off)
            + " select pg_reload_conf();",
        )
    for table in tables:
        if not table.autovacuum_enabled:
            yield fail(
                check,
                f"off for {table.name}",
                sql=f"alter table pgflow.{table.name} reset (autovacuum_enabled);",
            )
    late = [t for t in tables if _is_behind(t) and not _lately(t)]
    for table in late[:5]:
        ago = table.vacuumed_ago
        when = "never" if ago is None else f"{length(ago)} ago"
        yield warn(
            check,
            f"{table.name}: {table.dead_rows:,} dead rows, last vacuumed {when}",
            sql=f"vacuum (analyze) pgflow.{table.name};",
        )
    if not off and not late and all(table.autovacuum_enabled for table in tables):
        last = [t.vacuumed_ago for t in tables if t.vacuumed_ago is not None]
        when = f"last ran {length(min(last))} ago" if last else "nothing to do so far"
        yield ok(check, f"on everywhere; {when}")


def bloat(tables: Sequence[TableVitals]) -> Iterator[Finding]:
    """Judge by an estimate whether tables and indexes are much larger than their
    rows.
    """
    check = "vacuum.bloat"
    swollen = 0
    for table in tables:
        rows = table.live_rows + table.dead_rows
        width = (table.row_bytes or 0) + _ROW_HEADER
        needed = rows * width / _PAGE_USE
        if _is_swollen(table.heap_bytes, needed) and table.row_bytes is not None:
            swollen += 1
            yield warn(
                check,
                f"{table.name}: {size(table.heap_bytes)} for about {size(needed)} of "
                "rows; the fix locks the table while it runs",
                sql=f"vacuum (full, analyze) pgflow.{table.name};",
            )
        elif _is_swollen(table.index_bytes, rows * _INDEX_PER_ROW):
            swollen += 1
            yield warn(
                check,
                f"{table.name}: {size(table.index_bytes)} of indexes for {rows:,} rows",
                sql=f"reindex table concurrently pgflow.{table.name};",
            )
    if not swollen:
        total = sum(table.heap_bytes + table.index_bytes for table in tables)
        yield ok(check, f"{size(total)} in {len(tables)} tables, none swollen")


def notify_queue(usage: float) -> Finding:
    """Judge how full the queue of notifications is: a full one stops every commit that
    notifies.
    """
    check = "vacuum.notify-queue"
    detail = f"{usage:.1%} of the NOTIFY queue in use"
    if usage < _FILLED_WARN:
        return ok(check, detail)
    found = fail if usage >= _FILLED_FAIL else warn
    return found(
        check,
        f"{detail}: a session that listens is in a long transaction",
        sql="select pg_terminate_backend(pid) from pg_stat_activity where "
        "xact_start < now() - interval '1 minute' and query ilike 'listen%';",
    )


def release(holder: XminHolder, database: str) -> str:
    """Return the SQL that ends what holds vacuum back."""
    if holder.kind == "prepared":
        # Only from its own database.
        if holder.database is not None and holder.database != database:
            return ""
        return f"rollback prepared {literal(holder.name)};"
    if holder.kind == "slot":
        end = f"select pg_terminate_backend({holder.pid}, 5000); " if holder.pid else ""
        return f"{end}select pg_drop_replication_slot({literal(holder.name)});"
    if holder.kind == "standby":
        return ""
    # Waits until the session has ended: the SQL after it needs that.
    return f"select pg_terminate_backend({holder.pid}, 5000);"


def _advice(holder: XminHolder) -> str:
    if holder.kind == "prepared":
        return (
            ""
            if holder.database is None
            else "or, if it is still wanted: commit prepared"
        )
    if holder.kind == "standby":
        return "on the standby: alter system set hot_standby_feedback = off; reload"
    if holder.kind == "pg_dump":
        return "or let it end; dump from a standby"
    return ""


def _holds(holder: XminHolder) -> str:
    """Return the result, or None if it is not worth a finding."""
    age, idle = holder.seconds or 0.0, holder.idle_seconds or 0.0
    if holder.kind == "slot":
        if (holder.retained_bytes or 0) >= RETAINED_FAIL:
            return "FAIL"
        return "" if holder.active else "WARN"
    if age >= HOLDER_FAIL and holder.kind != "pg_dump":
        return "FAIL"
    patience = IDLE_WARN if holder.kind == "prepared" or idle else BUSY_WARN
    waited = age if holder.kind == "prepared" or not idle else idle
    return "WARN" if waited >= patience or age >= BUSY_WARN else ""


def _described(holder: XminHolder) -> str:
    age = "" if holder.seconds is None else f" for {length(holder.seconds)}"
    since = f"{holder.xids:,} transactions ago"
    if holder.kind == "slot":
        what = "dead rows" if holder.data else "dead rows of the catalogs"
        kept = (
            f" and {size(holder.retained_bytes)} of WAL"
            if holder.retained_bytes
            else ""
        )
        state = "active" if holder.active else "inactive"
        return f"{_whom(holder)} ({state}) holds back {what}{kept}, from {since}"
    where = f" in database {holder.database}" if holder.database else ""
    return f"{_whom(holder)}{where} holds back vacuum{age}, from {since}"


def _whom(holder: XminHolder) -> str:
    name = f" {holder.name}" if holder.name else ""
    if holder.kind in ("prepared", "slot"):
        kind = (
            "prepared transaction" if holder.kind == "prepared" else "replication slot"
        )
        owner = f" of {holder.role}" if holder.role else ""
        return f"{kind}{name}{owner}"
    who = [
        holder.role or "unknown",
        f"application {holder.name}" if holder.name else "",
        f"from {holder.client}" if holder.client else "",
        holder.state or "",
    ]
    kind = "standby, pid" if holder.kind == "standby" else "pid"
    return f"{kind} {holder.pid} ({', '.join(filter(None, who))})"


def _is_behind(table: TableVitals) -> bool:
    return table.dead_rows >= max(HELD_ROWS, _BEHIND * table.threshold)


def _lately(table: TableVitals) -> bool:
    return table.vacuumed_ago is not None and table.vacuumed_ago < 600


def _is_swollen(found: float, needed: float) -> bool:
    return found >= _BLOATED_BYTES and needed < _BLOATED_SHARE * found
