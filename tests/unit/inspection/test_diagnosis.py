"""What facts mean, at each limit and beyond it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from pgflow_cli.inspection.diagnosis import (
    Finding,
    jobs,
    maintenance,
    schema,
    server,
    vacuum,
)
from pgflow_cli.models.audit import Audit
from pgflow_cli.models.diagnosis import (
    AppliedStep,
    ClientTool,
    Clock,
    Connections,
    Disk,
    DueQueue,
    DueType,
    ExpiredLeases,
    Honoured,
    Index,
    Instance,
    LongRun,
    Privileges,
    SecretFile,
    Strays,
    TableVitals,
    UnreadableLetters,
    Upkeep,
    XminHolder,
)
from pgflow_cli.models.schema import AppliedMigration, PartitionPlan
from pgflow_cli.models.workers import WorkerProcess
from pgflow_cli.repository import sqlfiles
from pgflow_cli.repository.remains import Remains

INSTANCE = Instance(
    version_number=170006,
    version="17.6",
    role="app",
    database="app",
    database_name="app",
    in_recovery=False,
    fsync=True,
    full_page_writes=True,
    synchronous_commit="on",
    commit_source="default",
    autovacuum=True,
    track_counts=True,
    sees_all_sessions=True,
    data_directory=None,
)
CONNECTIONS = Connections(10, 1, 100, 3, 5, None, 8, None)
WORKER = WorkerProcess("w", "h", 1, True, 0.1, False, 8, 0, ["a"], ["noop"], None)
TABLE = TableVitals("pending", 100, 0, 30.0, True, 50.0, 8192, 16384, 40.0)
HOLDER = XminHolder(
    "transaction",
    42,
    "psql",
    "ann",
    None,
    "app",
    "active",
    7,
    1.0,
    None,
    True,
    True,
    None,
)


def result(finding: Finding) -> str:
    return finding.result


def only(findings: Finding | Iterable[Finding]) -> Finding:
    [finding] = [findings] if isinstance(findings, Finding) else list(findings)
    return finding


@pytest.mark.parametrize(
    ("number", "expected"),
    [(140012, "FAIL"), (150000, "OK"), (180003, "OK"), (190000, "WARN")],
)
def test_versions_15_to_18_are_fine(number: int, expected: str) -> None:
    assert result(server.version(replace(INSTANCE, version_number=number))) == expected


def test_a_standby_takes_no_writes() -> None:
    assert result(server.recovery(INSTANCE)) == "OK"
    assert result(server.recovery(replace(INSTANCE, in_recovery=True))) == "FAIL"


@pytest.mark.parametrize(
    ("skew", "round_trip", "expected"),
    [
        (0.999, 0.0, "OK"),
        (1.0, 0.0, "WARN"),
        (-1.0, 0.0, "WARN"),
        (4.999, 0.0, "WARN"),
        (5.0, 0.0, "FAIL"),
        (-3600.0, 0.01, "FAIL"),
        (1.2, 0.5, "OK"),
        (5.2, 0.5, "WARN"),
    ],
)
def test_clock_skew_counts_only_as_far_as_it_is_certain(
    skew: float, round_trip: float, expected: str
) -> None:
    found = server.clock(Clock(skew, round_trip))
    assert found.result == expected
    assert ("ahead of" if skew > 0 else "behind") in found.detail
    assert bool(found.fix) == (expected != "OK")


def test_what_a_crash_may_cost_is_told() -> None:
    assert result(server.fsync(INSTANCE)) == "OK"
    off = server.fsync(replace(INSTANCE, fsync=False, full_page_writes=False))
    assert off.result == "FAIL"
    assert off.sql.count("alter system set") == 2
    for value in ("on", "local", "remote_write", "remote_apply"):
        fine = replace(INSTANCE, synchronous_commit=value)
        assert result(server.synchronous_commit(fine)) == "OK"


@pytest.mark.parametrize(
    ("source", "sql"),
    [
        ("default", "alter system set"),
        ("configuration file", "alter system set"),
        ("user", "alter role app reset"),
        ("database", "alter database app reset"),
        ("database user", "alter role app in database app reset"),
    ],
)
def test_asynchronous_commit_is_undone_where_it_was_set(source: str, sql: str) -> None:
    found = server.synchronous_commit(
        replace(INSTANCE, synchronous_commit="off", commit_source=source)
    )
    assert found.result == "WARN"
    assert found.sql.startswith(sql)


@pytest.mark.parametrize(
    ("changes", "expected", "whose"),
    [
        ({}, "OK", ""),
        ({"used": 77}, "OK", "server"),
        ({"used": 78}, "WARN", "server"),
        ({"used": 93}, "FAIL", "server"),
        ({"role_used": 8, "role_limit": 10}, "WARN", "role"),
        ({"database_used": 10, "database_limit": 10}, "FAIL", "database"),
    ],
)
def test_the_nearest_limit_of_connections_counts(
    changes: dict[str, Any], expected: str, whose: str
) -> None:
    found = server.connections(replace(CONNECTIONS, **changes))
    assert found.result == expected
    assert whose in found.detail


def test_notifications_that_do_not_arrive_mean_a_pooler() -> None:
    assert result(server.pooler(True)) == "OK"
    assert "--no-listen" in server.pooler(False).fix


@pytest.mark.parametrize(
    ("free", "expected"), [(None, "OK"), (10, "OK"), (9, "WARN"), (2, "FAIL")]
)
def test_a_disk_is_judged_where_it_can_be_seen(free: int | None, expected: str) -> None:
    found = server.disk(Disk(5000, 1024, free, 100))
    assert found.result == expected
    assert ("not visible" in found.detail) == (free is None)


def test_pending_newer_and_edited_migrations_are_told() -> None:
    applied = AppliedStep(1, "2026-11-24T00:00:00Z", False, False)
    pending = AppliedStep(2, None, False, True)
    assert result(schema.version([applied], 1)) == "OK"
    assert schema.version([applied, pending], 2).command == "pgflow migrate"
    newer = AppliedStep(3, "2026-11-24T00:00:00Z", False, False)
    assert result(schema.version([applied, newer], 2)) == "WARN"
    assert result(schema.drift([applied])) == "OK"
    after = replace(applied, version=sqlfiles.FIRST_RELEASE + 1, drift=True)
    edited = schema.drift([applied, after])
    assert edited.detail.endswith(f"applied: migrations {after.version:04d}")
    assert result(schema.version([applied, after], after.version)) == "OK"


@pytest.mark.parametrize("newest", [1, 13])
def test_a_schema_of_before_the_first_release_is_neither_older_nor_newer(
    newest: int,
) -> None:
    at = "2026-11-24T00:00:00Z"
    other = AppliedStep(1, at, True, False)
    steps = [other, AppliedStep(2, at, False, False)]
    steps += [AppliedStep(13, at, False, False)] if newest == 13 else []
    steps += [AppliedStep(3, None, False, True)] if newest == 1 else []
    found = schema.version(steps, 8)
    assert (found.result, "made before pgflow 0.1" in found.detail) == ("FAIL", True)
    assert "pgflow migrate" in found.command
    assert "drop schema pgflow cascade" in found.command
    assert schema.drift(steps).detail == "not those of this program: migrations 0001"
    remains = Remains(
        newest, (), False, None, AppliedMigration(1, "core", "x", at, "a")
    )
    assert result(schema.complete(remains)) == "WARN"


def test_each_missing_privilege_is_granted_by_the_fix() -> None:
    everything = Privileges("pending", "table", True, True, True, True, True)
    assert result(schema.privileges([everything], "app")) == "OK"
    nothing = replace(everything, may_read=False, may_insert=False)
    reader = Privileges("migrations", "table", False, False, False, False, False)
    gate = Privileges("enqueue(text)", "function", False, False, False, False, False)
    place = Privileges("pgflow", "schema", False, False, False, False, False)
    found = schema.privileges([nothing, reader, gate, place], "app")
    assert found.result == "WARN"
    assert "grant select, insert on pgflow.pending to app;" in found.sql
    assert "grant select on pgflow.migrations to app;" in found.sql
    assert "grant execute on function pgflow.enqueue(text) to app;" in found.sql
    assert "grant usage on schema pgflow to app;" in found.sql
    assert "work" in found.detail
    assert "operate" in found.detail


MIGRATION = """
create table pgflow.a (
  id uuid primary key,  -- the key
  b text not null,
  c text,
  unique (b, c)
);
create table pgflow.p (
  id uuid not null,
  constraint p_key primary key (id)
) partition by range (id);
create index a_by_b on pgflow.a (b) where b is not null;
create index p_by_id on pgflow.p using brin (id);
create index gone on pgflow.a (c);
drop index pgflow.gone;
"""


def test_what_the_migrations_make_is_known_by_name_and_by_statement() -> None:
    made = schema.expected([MIGRATION])
    assert {name: entry[0] for name, entry in made.items()} == {
        "a_pkey": "a",
        "a_b_c_key": "a",
        "p_key": "p",
        "a_by_b": "a",
        "p_by_id": "p",
    }
    assert made["a_by_b"][2] == (
        "create index concurrently a_by_b on pgflow.a (b) where b is not null;"
    )
    # A partitioned index cannot be made concurrently.
    assert made["p_by_id"][2] == "create index p_by_id on pgflow.p using brin (id);"


def test_a_missing_and_an_invalid_index_are_found() -> None:
    fine = [
        Index(name, table, primary, True, table == "p", f"create index {name}")
        for name, (table, primary, _) in schema.expected([MIGRATION]).items()
    ]
    assert result(only(schema.indexes(fine, [MIGRATION]))) == "OK"
    for index in fine:
        left = [other for other in fine if other is not index]
        found = only(schema.indexes(left, [MIGRATION]))
        assert (found.result, index.name in found.detail) == ("FAIL", True)
        broken = [*left, replace(index, valid=False)]
        found = only(schema.indexes(broken, [MIGRATION]))
        assert "invalid" in found.detail
        assert ("reindex" in found.sql) == (not index.partitioned)


def test_every_index_of_the_migrations_is_expected() -> None:
    texts = [file.text for file in sqlfiles.migrations()]
    made = schema.expected(texts)
    assert {"pending_due", "leases_pkey", "dead_letters_open"} <= made.keys()


def test_partitions_ahead_and_strays() -> None:
    strays = [Strays("jobs", 0)]
    assert result(only(schema.partitions([], strays))) == "OK"
    plan = PartitionPlan("jobs_20261125", 0, [])
    assert "jobs_20261125" in only(schema.partitions([plan], strays)).detail
    assert "3 rows" in only(schema.partitions([], [Strays("jobs", 3)])).detail
    many = [Strays("jobs", schema.MOST_STRAYS + 1)]
    assert "more than 10,000" in only(schema.partitions([], many)).detail


def test_expired_leases_warn_and_then_fail() -> None:
    seen = ExpiredLeases(1, 3, 59.0, "w", "id")
    assert result(jobs.expired_leases(ExpiredLeases(0, 0, None, None, None))) == "OK"
    assert result(jobs.expired_leases(seen)) == "WARN"
    assert result(jobs.expired_leases(replace(seen, oldest_seconds=60.0))) == "FAIL"


def test_long_runs_are_named_and_counted() -> None:
    runs = [LongRun(f"id{n}", "q", "t", "w", 100.0, 1.0) for n in range(7)]
    assert result(only(jobs.long_runs([]))) == "OK"
    found = list(jobs.long_runs(runs))
    assert len(found) == 6
    assert "id0 --kill" in found[0].command
    assert found[-1].detail == "and 2 more"


@pytest.mark.parametrize(
    ("seconds", "paused", "expected"),
    [
        (299, False, "OK"),
        (300, False, "WARN"),
        (3600, False, "FAIL"),
        (9e6, True, "OK"),
    ],
)
def test_the_oldest_due_job_of_a_queue_that_is_not_paused(
    seconds: float, paused: bool, expected: str
) -> None:
    queue = DueQueue("a", "id", seconds, paused, False)
    assert result(only(jobs.oldest_runnable([queue]))) == expected


@pytest.mark.parametrize(
    ("worker", "expected"),
    [
        (WORKER, "OK"),
        (replace(WORKER, queues=None), "OK"),
        (replace(WORKER, alive=False), "FAIL"),
        (replace(WORKER, quiet=True), "FAIL"),
        (replace(WORKER, retiring=True), "FAIL"),
        (replace(WORKER, spare=True), "FAIL"),
        (replace(WORKER, deaths=5), "FAIL"),
        (replace(WORKER, queues=["b"]), "FAIL"),
    ],
)
def test_a_queue_with_due_jobs_needs_a_worker_that_leases(
    worker: WorkerProcess, expected: str
) -> None:
    queue = DueQueue("a", "id", 61.0, False, False)
    assert result(only(jobs.queue_workers([queue], [worker]))) == expected
    assert result(only(jobs.queue_workers([replace(queue, paused=True)], []))) == "OK"
    young = replace(queue, waits_seconds=1.0)
    assert result(only(jobs.queue_workers([young], []))) == "WARN"


def test_who_made_a_queue_stand_still_is_told_with_the_way_back() -> None:
    queue = DueQueue("a", "id", 61.0, False, False)
    found = only(jobs.queue_workers([queue], [replace(WORKER, quiet=True)]))
    assert "none of 1 live workers leases from it: w is quiet" in found.detail
    assert "pgflow workers resume w" in str(found)


def test_a_worker_whose_processes_die_at_once_is_there_and_says_so() -> None:
    queue = DueQueue("a", "id", 61.0, False, False)
    found = only(jobs.queue_workers([queue], [replace(WORKER, deaths=5)]))
    assert "none of 1 live workers leases from it: w is restarting: 5 processes" in (
        found.detail
    )
    assert "process_died" in found.detail
    assert "pgflow work -q" not in str(found), "another one would die, too"


def test_a_worker_that_leases_nothing_though_it_could_is_a_failure() -> None:
    stalled = replace(WORKER, stalled_for=35.0)
    [found] = jobs.stalled_workers([WORKER, stalled])
    assert result(found) == "FAIL"
    assert "w is stalled: it has leased nothing for 35s" in found.detail
    for well in (WORKER, replace(stalled, quiet=True), replace(stalled, alive=False)):
        assert result(only(jobs.stalled_workers([well]))) == "OK"


def test_a_type_needs_a_handler_where_its_queue_has_workers() -> None:
    due = DueType("a", "other", 3, 61.0)
    assert result(only(jobs.type_handlers([due], [WORKER]))) == "FAIL"
    assert result(only(jobs.type_handlers([due], []))) == "OK", "NO_WORKER comes first"
    able = replace(WORKER, job_types=None)
    assert result(only(jobs.type_handlers([due], [able]))) == "OK"


def test_each_timeout_that_is_asked_for_has_a_least_value() -> None:
    """On every server: the newest timeouts are of PostgreSQL 17 and 18."""
    asked = re.findall(
        r"'(\w+_timeout)'", sqlfiles.statement("list_honoured_timeouts").text.decode()
    )
    assert {*asked} >= {"transaction_timeout", "statement_timeout"}
    for name in asked:
        found = server.session([Honoured(name, 0.5, "database", "app")], "shop")
        assert (found.result, name in found.detail) == ("WARN", True), name


@pytest.mark.parametrize(
    ("source", "sql"),
    [
        ("database", "alter role app set lock_timeout = '1s';"),
        ("user", "alter role app set lock_timeout = '1s';"),
        ("database user", "alter role app in database shop set lock_timeout = '1s';"),
        ("client", ""),
    ],
)
def test_a_short_timeout_is_lengthened_where_it_wins(source: str, sql: str) -> None:
    """What is set for a role in one database wins over what is set for the role."""
    found = server.session([Honoured("lock_timeout", 0.5, source, "app")], "shop")
    assert found.sql == sql
    assert ("PGOPTIONS" in found.command) == (source == "client")


def test_damaged_rows_are_told() -> None:
    assert result(jobs.unreadable(UnreadableLetters(0, 0, None, []))) == "OK"
    damage = "invalid page in block 13, which is pgflow.jobs_20261201"
    for seen in (
        UnreadableLetters(3, 0, "a-job", [damage]),
        UnreadableLetters(0, 3, "a-job", [damage]),
    ):
        found = jobs.unreadable(seen)
        assert found.result == "FAIL"
        assert "the rows of 3 " in found.detail
        assert found.detail.endswith(damage)


def test_the_audit_names_what_is_wrong() -> None:
    assert result(jobs.audit(Audit(0, 0, 0))) == "OK"
    found = jobs.audit(Audit(1, 2, 3))
    assert found.result == "FAIL"
    assert "1 jobs in no place" in found.detail
    assert "3 jobs named by a place" in found.detail


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seconds": 59.0}, "OK"),
        ({"seconds": 60.0}, "WARN"),
        ({"seconds": 600.0}, "FAIL"),
        ({"seconds": 4.0, "idle_seconds": 4.0}, "OK"),
        ({"seconds": 5.0, "idle_seconds": 5.0}, "WARN"),
        ({"kind": "pg_dump", "seconds": 9000.0}, "WARN"),
        ({"kind": "prepared", "seconds": 4.9}, "OK"),
        ({"kind": "prepared", "seconds": 5.0}, "WARN"),
        ({"kind": "prepared", "seconds": 600.0}, "FAIL"),
        ({"kind": "standby", "seconds": 601.0}, "FAIL"),
        ({"kind": "slot", "seconds": None}, "OK"),
        ({"kind": "slot", "seconds": None, "active": False}, "WARN"),
        (
            {"kind": "slot", "seconds": None, "retained_bytes": vacuum.RETAINED_FAIL},
            "FAIL",
        ),
    ],
)
def test_who_holds_back_vacuum(changes: dict[str, Any], expected: str) -> None:
    holder = replace(HOLDER, **changes)
    found = only(
        vacuum.xmin_holders([holder], sees_all=True, role="app", database="app")
    )
    assert found.result == expected
    if expected != "OK":
        assert holder.name in found.detail
        assert found.fix


def test_a_role_that_sees_too_little_says_so() -> None:
    found = only(vacuum.xmin_holders([], sees_all=False, role="app", database="app"))
    assert found.result == "WARN"
    assert found.sql == "grant pg_read_all_stats to app;"


def test_names_in_a_fix_are_literals() -> None:
    for name in ("it's", "back\\slash", "x'; drop table jobs; --"):
        holder = replace(HOLDER, kind="prepared", name=name)
        sql = vacuum.release(holder, "app")
        quoted = name.replace("\\", "\\\\").replace("'", "''")
        mark = "e" if "\\" in name else ""
        assert sql == f"rollback prepared {mark}'{quoted}';"
    elsewhere = replace(HOLDER, kind="prepared", database="other")
    assert vacuum.release(elsewhere, "app") == ""


def test_dead_rows_are_held_back_by_a_holder_or_in_spite_of_vacuum() -> None:
    dead = replace(TABLE, dead_rows=vacuum.HELD_ROWS, threshold=50.0)
    idle = replace(HOLDER, seconds=99.0, idle_seconds=99.0)
    found = only(vacuum.held_back([dead], [idle], "app"))
    assert "pid 42" in found.detail
    assert found.sql == "select pg_terminate_backend(42, 5000); vacuum pgflow.pending;"
    vacuumed = only(vacuum.held_back([dead], [], "app"))
    assert vacuumed.result == "WARN"
    few = replace(dead, dead_rows=vacuum.HELD_ROWS - 1)
    assert result(only(vacuum.held_back([few], [idle], "app"))) == "OK"
    catalogs = replace(HOLDER, kind="slot", active=False, data=False)
    patient = replace(dead, threshold=1e6)
    assert result(only(vacuum.held_back([patient], [catalogs], "app"))) == "OK"


def test_autovacuum_off_and_behind() -> None:
    assert result(only(vacuum.autovacuum(INSTANCE, [TABLE]))) == "OK"
    off = only(vacuum.autovacuum(replace(INSTANCE, autovacuum=False), [TABLE]))
    assert off.result == "FAIL"
    one = only(vacuum.autovacuum(INSTANCE, [replace(TABLE, autovacuum_enabled=False)]))
    assert one.sql == "alter table pgflow.pending reset (autovacuum_enabled);"
    late = replace(TABLE, dead_rows=1000, vacuumed_ago=None)
    assert "never" in only(vacuum.autovacuum(INSTANCE, [late])).detail
    assert result(
        only(vacuum.autovacuum(INSTANCE, [replace(late, dead_rows=999)]))
    ) == ("OK")


def test_bloat_is_estimated_for_rows_and_for_indexes() -> None:
    big = 200 * 1024**2
    assert result(only(vacuum.bloat([TABLE]))) == "OK"
    heap = only(vacuum.bloat([replace(TABLE, heap_bytes=big)]))
    assert heap.sql == "vacuum (full, analyze) pgflow.pending;"
    unknown = replace(TABLE, heap_bytes=big, row_bytes=None)
    assert result(only(vacuum.bloat([unknown]))) == "OK"
    index = only(vacuum.bloat([replace(TABLE, index_bytes=big)]))
    assert index.sql == "reindex table concurrently pgflow.pending;"
    full = replace(TABLE, heap_bytes=big, live_rows=2_000_000)
    assert result(only(vacuum.bloat([full]))) == "OK"


@pytest.mark.parametrize(
    ("usage", "expected"), [(0.0, "OK"), (0.099, "OK"), (0.1, "WARN"), (0.5, "FAIL")]
)
def test_the_queue_of_notifications_fills(usage: float, expected: str) -> None:
    assert result(vacuum.notify_queue(usage)) == expected


def test_maintenance_is_as_old_as_its_oldest_task() -> None:
    assert "no run" in maintenance.maintain([]).detail
    young, old = Upkeep("reap", 10.0), Upkeep("archive", 3600.0)
    assert result(maintenance.maintain([young])) == "OK"
    assert (
        maintenance.maintain([young, old]).command == "pgflow maintain --task archive"
    )
    assert result(maintenance.maintain([Upkeep("reap", 86_400.0)])) == "FAIL"
    never = maintenance.maintain([young, Upkeep("prune", None)])
    assert never.command == "pgflow maintain --task prune"
    assert result(never) == "WARN"


@pytest.mark.parametrize(
    ("age", "expected"),
    [(None, "WARN"), (86_399.0, "OK"), (86_400.0, "WARN"), (604_800.0, "FAIL")],
)
def test_a_backup_grows_old(age: float | None, expected: str) -> None:
    assert result(maintenance.backup(Upkeep("f.dump", age, "list"))) == expected
    assert result(maintenance.backup(None)) == "WARN"


def test_pg_dump_must_not_be_older_than_the_server() -> None:
    old, new = ClientTool("/a", "15.1", 15), ClientTool("/b", "17.1", 17)
    assert result(maintenance.pg_dump([new], 17)) == "OK"
    assert result(maintenance.pg_dump([new], 16)) == "OK"
    assert result(maintenance.pg_dump([old], 17)) == "FAIL"
    assert "/b" in maintenance.pg_dump([old, new], 17).detail
    assert result(maintenance.pg_dump([old], None)) == "OK"
    assert result(maintenance.pg_dump([], 17)) == "WARN"


@pytest.mark.parametrize(
    ("mode", "expected", "who"),
    [
        (0o600, "OK", ""),
        (0o400, "OK", ""),
        (0o640, "WARN", "its group"),
        (0o604, "WARN", "every account"),
        (0o666, "FAIL", "every account"),
    ],
)
def test_files_with_secrets_belong_to_their_owner(
    mode: int, expected: str, who: str
) -> None:
    file = SecretFile("/x y", "the URL", mode)
    found = only(maintenance.exposure([file], password_typed=False, open_address=None))
    assert found.result == expected
    assert who in found.detail
    assert (found.command == "chmod 600 '/x y'") == (expected != "OK")


def test_an_admin_server_that_whoever_reaches_it_may_use_is_told() -> None:
    found = only(
        maintenance.exposure([], password_typed=False, open_address="0.0.0.0:3003")
    )
    assert found.result == "WARN"
    assert "0.0.0.0:3003" in found.detail


def test_a_typed_password_is_seen_by_everybody() -> None:
    found = only(maintenance.exposure([], password_typed=True, open_address=None))
    assert "--database-url-file" in found.command
