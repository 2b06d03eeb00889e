"""Each fault that is planted is found by doctor, and its fix ends it."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgflow_cli import repository
from pgflow_cli.inspection.diagnosis import checks
from pgflow_cli.inspection.diagnosis.doctor import Doctor
from tests.conftest import RunsPgflow
from tests.repository.test_audit import attempt, lease, unqueue
from tests.support import executable
from tests.support.jobs import audit, expire_leases, plant
from tests.support.private_servers import a_standby, pgbouncer
from tests.support.servers import Database, Server

Connection = psycopg.Connection[Any]
Look = Callable[..., list[dict[str, str]]]
CANARY = "Zx9canary"


@pytest.fixture
def look(pgflow: RunsPgflow) -> Look:
    """Return what a check finds."""

    def looking(check: str, *words: str, **more: Any) -> list[dict[str, str]]:
        result = pgflow("doctor", "--check", check, "-o", "json", *words, **more)
        assert result.returncode in (0, 5), result.stderr
        assert "Traceback" not in result.stderr
        found: list[dict[str, str]] = json.loads(result.stdout)["items"]
        failed = any(each["result"] == "FAIL" for each in found)
        assert result.returncode == (5 if failed else 0)
        return found

    return looking


@pytest.fixture
def mended(
    pgflow: RunsPgflow, connection: Connection, look: Look
) -> Callable[[str], None]:
    """Run the SQL that --fix-sql prints, as psql would; then the check is content."""

    def mend(check: str) -> None:
        script = pgflow("doctor", "--check", check, "--fix-sql").stdout
        statements = [
            part.strip()
            for line in script.splitlines()
            if not line.startswith("--")
            for part in line.split(";")
            if part.strip()
        ]
        assert statements, "there is no fix"
        for statement in statements:
            connection.execute(statement)
        assert {each["result"] for each in look(check)} == {"OK"}

    return mend


def bad(findings: list[dict[str, str]]) -> list[dict[str, str]]:
    return [each for each in findings if each["result"] != "OK"]


def test_a_new_database_is_well_but_for_what_nobody_has_done_yet(
    pgflow: RunsPgflow,
) -> None:
    result = pgflow("doctor", "-o", "json")
    rows = json.loads(result.stdout)["items"]
    assert [row["check"] for row in rows] == list(checks.NAMES)
    # The servers of these tests run without fsync.
    odd = {row["check"] for row in rows if row["result"] != "OK"}
    assert odd <= {
        "server.fsync",
        "upkeep.maintain",
        "upkeep.backup",
        "upkeep.pg-dump",
        "vacuum.autovacuum",
        "server.disk",
    }
    assert "OK" in result.stderr


def test_each_finding_that_is_bad_says_what_to_do(pgflow: RunsPgflow) -> None:
    rows = json.loads(pgflow("doctor", "-o", "json").stdout)["items"]
    assert all(row["fix"] for row in bad(rows))


def test_warnings_fail_only_where_that_is_wanted(pgflow: RunsPgflow) -> None:
    assert pgflow("doctor", "--check", "backup").returncode == 0
    assert pgflow("doctor", "--check", "backup", "--strict").returncode == 5


def test_an_unknown_check_is_a_usage_error_that_names_those_there_are(
    pgflow: RunsPgflow,
) -> None:
    result = pgflow("doctor", "--check", "nonsense")
    assert result.returncode == 2
    assert "vacuum.xmin" in result.stderr


@pytest.mark.parametrize("name", ["jobs", "expired-leases", "jobs.expired-leases"])
def test_a_check_is_chosen_by_area_or_by_name(look: Look, name: str) -> None:
    assert "jobs.expired-leases" in {each["check"] for each in look(name)}


def test_a_transaction_that_idles_is_named_and_ended_by_the_fix(
    database: Database,
    look: Look,
    mended: Callable[[str], None],
    wait_until: Callable[..., Any],
) -> None:
    holder = psycopg.connect(database.url, application_name="forgotten")
    pid = holder.info.backend_pid
    holder.execute("select pg_current_xact_id()")
    [found] = wait_until(lambda: bad(look("xmin")), "the idle transaction is named")
    for word in (str(pid), "forgotten", "idle in transaction", holder.info.user):
        assert word in found["detail"]
    mended("xmin")
    with pytest.raises(psycopg.OperationalError):
        holder.execute("select 1")
    holder.close()


def test_a_prepared_transaction_is_named_and_rolled_back_by_the_fix(
    connection: Connection,
    look: Look,
    mended: Callable[[str], None],
    wait_until: Callable[..., Any],
) -> None:
    gid = f"it's-{os.getpid()}"
    quoted = gid.replace("'", "''")
    with connection.transaction():
        connection.execute("create temp table of_two_phases ()", prepare=False)
        connection.execute("drop table of_two_phases")
    connection.execute("create table public.prepared_one (n integer)")
    connection.execute("begin")
    connection.execute("insert into public.prepared_one values (1)")
    connection.execute(f"prepare transaction '{quoted}'")
    try:
        [found] = wait_until(lambda: bad(look("xmin")), "the prepared one is named")
        assert f"prepared transaction {gid}" in found["detail"]
        assert "prepared transaction" in found["detail"]
        mended("xmin")
    finally:
        left = connection.execute(
            "select gid from pg_prepared_xacts where database = current_database()"
        ).fetchall()
        if left:
            connection.execute(f"rollback prepared '{quoted}'")


def test_a_forgotten_replication_slot_is_named_and_dropped_by_the_fix(
    connection: Connection, look: Look, mended: Callable[[str], None]
) -> None:
    slot = f"forgotten_{os.getpid()}"
    connection.execute(
        "select pg_create_logical_replication_slot(%s, 'test_decoding')", (slot,)
    )
    try:
        [found] = bad(look("xmin"))
        assert f"replication slot {slot}" in found["detail"]
        mended("xmin")
    finally:
        connection.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
            " where slot_name = %s",
            (slot,),
        )


def test_dead_rows_that_are_held_back_are_counted_and_freed_by_the_fix(
    database: Database,
    connection: Connection,
    look: Look,
    mended: Callable[[str], None],
    wait_until: Callable[..., Any],
) -> None:
    connection.execute("alter table pgflow.pending set (autovacuum_enabled = false)")
    holder = psycopg.connect(database.url)
    holder.execute("select pg_current_xact_id()")
    plant(connection, 1500)
    connection.execute("delete from pgflow.pending")
    connection.execute("vacuum pgflow.pending")
    [found] = wait_until(lambda: bad(look("held-back")), "held-back rows are told")
    # They count twice until the statistics of the vacuum have come, too.
    assert re.search("pending: up to [13],[05]00 dead rows", found["detail"])
    assert str(holder.info.backend_pid) in found["detail"]
    connection.execute("delete from pgflow.jobs")
    mended("held-back")
    holder.close()
    assert audit(connection) == (0, 0)


def test_autovacuum_that_is_off_for_a_table_is_put_on_by_the_fix(
    connection: Connection, look: Look, mended: Callable[[str], None]
) -> None:
    connection.execute("alter table pgflow.leases set (autovacuum_enabled = false)")
    assert "off for leases" in bad(look("autovacuum"))[0]["detail"]
    mended("autovacuum")
    options = connection.execute(
        "select reloptions::text from pg_class where oid = 'pgflow.leases'::regclass"
    ).fetchone()
    assert options is not None
    assert "autovacuum_vacuum_threshold" in options[0], "our own settings stay"


def test_asynchronous_commit_of_a_database_is_undone_by_the_fix(
    connection: Connection,
    database: Database,
    look: Look,
    mended: Callable[[str], None],
) -> None:
    connection.execute(f"alter database {database.name} set synchronous_commit = off")
    [found] = bad(look("synchronous-commit"))
    assert "off (database)" in found["detail"]
    mended("synchronous-commit")


def test_what_is_named_like_the_servers_own_is_found_and_dropped(
    connection: Connection,
    database: Database,
    look: Look,
    mended: Callable[[str], None],
) -> None:
    role = f"planter_{database.name}"
    connection.execute(f"create role {role}")
    connection.execute(f"grant create on schema public to {role}")
    connection.execute(f"set role {role}")
    connection.execute(
        "create function public.unnest(text[]) returns setof text"
        " language sql as 'select null::text'"
    )
    connection.execute(
        "create function public.is_less(text, text) returns boolean"
        " language sql as 'select true'"
    )
    connection.execute(
        "create operator public.< (leftarg = text, rightarg = text,"
        " function = public.is_less)"
    )
    connection.execute("create view public.pg_class as select 1 as oid")
    connection.execute("create domain public.uuid as text")
    connection.execute("create function public.ours() returns int return 1")
    connection.execute("reset role")
    try:
        [found] = bad(look("shadows"))
        assert f"function public.unnest(pg_catalog.text[]) of {role}" in found["detail"]
        assert "and 1 more" in found["detail"], "is_less and ours shadow nothing"
        mended("shadows")
    finally:
        connection.execute(f"drop owned by {role} cascade")
        connection.execute(f"drop role {role}")


@pytest.mark.direct
def test_a_lock_in_the_way_is_named_with_its_holder(
    pgflow: RunsPgflow, database: Database, look: Look
) -> None:
    """Not as too many jobs, which no longer time would help."""
    assert not bad(look("locks"))
    with database.connect(autocommit=False) as other:
        other.execute("lock table pgflow.jobs in access exclusive mode")
        pid = other.info.backend_pid
        for name in ("locks", "audit"):
            [found] = bad(look(name, "--timeout", "300ms"))
            assert f"pid {pid} " in found["detail"], name
            assert "holds jobs" in found["detail"]
            assert f"pg_terminate_backend({pid})" in found["fix"]
            assert "too many" not in found["detail"]
        told = pgflow("jobs", "list", "--timeout", "300ms")
        assert told.returncode == 69
        assert "pgflow doctor --check locks" in told.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("statement_timeout", "1ms"),
        ("statement_timeout", "900ms"),
        ("idle_session_timeout", "1ms"),
        ("idle_session_timeout", "200ms"),
        ("idle_in_transaction_session_timeout", "1ms"),
    ],
)
def test_a_timeout_that_ends_every_statement_is_named_with_its_fix(
    connection: Connection, database: Database, look: Look, name: str, value: str
) -> None:
    """Whether it can be read in time, or has ended the session that would read it."""
    connection.execute(f"alter database {database.name} set {name} = '{value}'")
    [found] = bad(look("session"))
    assert found["check"] == "server.session"
    assert found["result"] == "WARN"
    assert name in found["detail"]
    assert f"set {name} = '" in found["fix"]
    assert all(each["result"] == "OK" for each in look("reachable"))


def test_a_timeout_that_cuts_statements_short_is_undone_by_the_fix(
    connection: Connection,
    database: Database,
    look: Look,
    mended: Callable[[str], None],
) -> None:
    connection.execute(f"alter database {database.name} set lock_timeout = '200ms'")
    connection.execute(f"alter database {database.name} set idle_session_timeout = 1e9")
    [found] = bad(look("session"))
    assert "lock_timeout 200ms (database)" in found["detail"]
    assert "idle_session" not in found["detail"]
    try:
        mended("session")
    finally:
        connection.execute("alter role current_user reset lock_timeout")


@pytest.mark.parametrize(
    ("drop", "name"),
    [
        ("drop index pgflow.dead_letters_open", "dead_letters_open"),
        ("drop index pgflow.job_attempts_by_time", "job_attempts_by_time"),
        ("alter table pgflow.pending drop constraint pending_due", "pending_due"),
        ("alter table pgflow.leases drop constraint leases_pkey", "leases_pkey"),
        (
            "alter table pgflow.policy_decisions"
            " drop constraint policy_decisions_one_a_minute",
            "policy_decisions_one_a_minute",
        ),
    ],
)
def test_a_missing_index_is_found_and_made_anew_by_the_fix(
    connection: Connection,
    look: Look,
    mended: Callable[[str], None],
    drop: str,
    name: str,
) -> None:
    before = _indexes(connection)
    connection.execute(drop)
    [found] = look("indexes")
    assert found["result"] == "FAIL"
    assert f"index {name} is missing" in found["detail"]
    mended("indexes")
    assert _indexes(connection) == before


def test_an_invalid_index_is_built_again_by_the_fix(
    connection: Connection, look: Look, mended: Callable[[str], None]
) -> None:
    connection.execute(
        "update pg_index set indisvalid = false"
        " where indexrelid = 'pgflow.dead_letters_open'::regclass"
    )
    [found] = look("indexes")
    assert "dead_letters_open of dead_letters is invalid" in found["detail"]
    mended("indexes")


def test_an_index_that_an_aborted_build_left_behind_is_found(
    connection: Connection, look: Look
) -> None:
    plant(connection, 2)
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(
            "create unique index concurrently left_behind on pgflow.pending (job_type)"
        )
    [found] = look("indexes")
    assert "left_behind of pending is invalid" in found["detail"]
    assert audit(connection) == (0, 0)


def test_an_expired_lease_is_found_and_reaped_by_the_fix(
    connection: Connection, look: Look, pgflow: RunsPgflow
) -> None:
    [job_id] = plant(connection)
    unqueue(connection, job_id)
    lease(connection, job_id)
    expire_leases(connection)
    [found] = look("expired-leases")
    assert found["result"] == "FAIL"
    assert "1 leases of 1 jobs" in found["detail"]
    assert found["fix"] == "pgflow maintain --task reap"
    assert run_fix(pgflow, found["fix"]).returncode == 0
    assert look("expired-leases")[0]["result"] == "OK"
    assert audit(connection) == (0, 0)


def test_a_job_that_runs_much_longer_than_its_type_is_named(
    connection: Connection, look: Look
) -> None:
    for job_id in plant(connection, 20):
        unqueue(connection, job_id)
        attempt(connection, job_id, "succeeded")
    [slow, fresh, other] = [*plant(connection, 2), *plant(connection, job_type="rare")]
    for job_id in (slow, fresh, other):
        unqueue(connection, job_id)
        lease(connection, job_id)
    connection.execute(
        "update pgflow.leases set leased_at = now() - interval '11 seconds',"
        " expires_at = now() + interval '1 minute' where job_ids <> array[%s::uuid]",
        (fresh,),
    )
    [found] = look("long-running")
    assert slow in found["detail"], "and no type with too few samples"
    assert slow in found["fix"]
    assert audit(connection) == (0, 0)


def test_a_queue_without_a_worker_and_a_type_without_a_handler_are_found(
    connection: Connection, look: Look
) -> None:
    [job_id] = plant(connection, queue="emails", job_type="email_send")
    connection.execute(
        "update pgflow.pending set run_at = now() - interval '6 minutes'"
    )
    [found] = look("no-worker")
    assert (found["result"], found["fix"]) == ("FAIL", "pgflow work -q emails")
    [found] = look("oldest-runnable")
    assert (found["result"], found["fix"]) == ("WARN", f"pgflow explain {job_id}")
    assert look("no-handler")[0]["result"] == "OK"
    connection.execute(
        "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
        " lease_seconds, name, host, queues, job_types) values (gen_random_uuid(),"
        " gen_random_uuid(), 1, 8, 600, 'w', 'h', array['emails'], array['other'])"
    )
    assert look("no-worker")[0]["result"] == "OK"
    [found] = look("no-handler")
    assert "email_send" in found["detail"]
    connection.execute("update pgflow.workers set job_types = null")
    assert look("no-handler")[0]["result"] == "OK"
    assert audit(connection) == (0, 0)


def test_a_queue_that_is_paused_is_left_alone(
    connection: Connection, look: Look
) -> None:
    plant(connection, queue="emails")
    connection.execute("update pgflow.pending set run_at = now() - interval '2 hours'")
    connection.execute(
        "insert into pgflow.queue_policies (queue, paused_until)"
        " values ('emails', 'infinity')"
    )
    for check in ("no-worker", "no-handler", "oldest-runnable"):
        assert look(check)[0]["result"] == "OK"


def test_a_job_in_no_place_is_found(connection: Connection, look: Look) -> None:
    [job_id] = plant(connection)
    unqueue(connection, job_id)
    [found] = look("audit")
    assert found["result"] == "FAIL"
    assert "1 jobs in no place" in found["detail"]


def test_a_missing_partition_is_found_and_made_by_the_fix(
    connection: Connection, look: Look, pgflow: RunsPgflow
) -> None:
    [name] = connection.execute(
        "select 'jobs_' || to_char(now() at time zone 'UTC' + interval '1 day',"
        " 'YYYYMMDD')"
    ).fetchone() or [""]
    connection.execute(f"drop table pgflow.{name}")
    [found] = look("partitions")
    assert found["result"] == "WARN"
    assert name in found["detail"]
    assert run_fix(pgflow, found["fix"]).returncode == 0
    assert look("partitions")[0]["result"] == "OK"


def test_rows_in_a_default_partition_are_counted(
    connection: Connection, look: Look
) -> None:
    connection.execute(
        "select pgflow.enqueue('noop', '{}', job_id => %s)",
        ("00000000-0000-7000-8000-000000000001",),
    )
    [found] = look("partitions")
    assert "1 rows in jobs_default" in found["detail"]
    assert audit(connection) == (0, 0)


def test_a_raised_fence_is_found_and_lowered_by_the_fix(
    look: Look, pgflow: RunsPgflow, database: Database
) -> None:
    assert pgflow("fence", "raise", "--yes").returncode == 0
    [found] = look("fence")
    assert found["result"] == "FAIL"
    accepted = run_fix(pgflow, f"{found['fix']} --confirm {database.name}")
    assert accepted.returncode == 0, accepted.stderr
    assert look("fence")[0]["result"] == "OK"


def test_a_schema_of_before_the_first_release_is_found(
    connection: Connection, look: Look
) -> None:
    connection.execute(
        "update pgflow.migrations set checksum = 'other' where version = 2"
    )
    [found] = look("drift")
    assert (found["result"], "0002" in found["detail"]) == ("FAIL", True)
    [found] = look("schema.version")
    assert (found["result"], "before pgflow 0.1" in found["detail"]) == ("FAIL", True)
    assert "drop schema pgflow cascade" in found["fix"]
    [found] = look("complete")
    assert found["result"] == "WARN"


def test_a_database_without_a_schema_is_told_to_migrate(
    empty_database: Database, pgflow: RunsPgflow
) -> None:
    env = {"DATABASE_URL": empty_database.url}
    result = pgflow("doctor", "-o", "json", env=env)
    assert result.returncode == 5, result.stderr
    rows = {row["check"]: row for row in json.loads(result.stdout)["items"]}
    assert rows["schema.version"]["result"] == "FAIL"
    assert rows["schema.version"]["fix"] == "pgflow migrate"
    assert rows["server.version"]["result"] == "OK"
    assert run_fix(pgflow, "pgflow migrate", env).returncode == 0
    again = pgflow("doctor", "--check", "schema", env=env)
    assert again.returncode == 0, again.stdout


def test_an_older_schema_is_a_finding_and_no_crash(
    empty_database: Database, pgflow: RunsPgflow
) -> None:
    env = {"DATABASE_URL": empty_database.url}
    assert pgflow("migrate", "up", "--target", "1", env=env).returncode == 0
    result = pgflow("doctor", "-o", "json", env=env)
    assert result.returncode == 5, result.stderr
    rows = {row["check"]: row for row in json.loads(result.stdout)["items"]}
    assert rows["schema.version"]["detail"].startswith("at version 1")
    assert "not looked at" in rows["schema.fence"]["detail"]
    assert rows["jobs.expired-leases"]["result"] == "OK"


@pytest.fixture
def stranger(server: Server, database: Database) -> Iterator[str]:
    """Return the URL of a role that may connect and nothing else."""
    name = f"stranger_{os.getpid()}"
    with database.connect() as connection:
        connection.execute(f"create role {name} login")
    yield database.url.replace("postgres@", f"{name}@", 1)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(f"drop owned by {name}")
        connection.execute(f"drop role {name}")


@pytest.mark.parametrize("check", ["maintain", "backup"])
def test_upkeep_that_was_never_done_is_done_by_the_fix(
    check: str, look: Look, pgflow: RunsPgflow
) -> None:
    [found] = look(check)
    assert found["result"] == "WARN"
    done = run_fix(pgflow, found["fix"])
    assert done.returncode == 0, done.stderr
    assert look(check)[0]["result"] == "OK"


@pytest.mark.parametrize(
    ("check", "age"),
    [("maintain", "2 hours"), ("maintain", "2 days"), ("backup", "2 days")],
)
def test_upkeep_that_was_done_long_ago_is_done_again_by_the_fix(
    check: str, age: str, look: Look, pgflow: RunsPgflow, connection: Connection
) -> None:
    assert pgflow(check).returncode == 0
    table, column = {
        "maintain": ("maintenance_tasks", "last_success_at"),
        "backup": ("backups", "finished_at"),
    }[check]
    connection.execute(f"update pgflow.{table} set {column} = now() - interval '{age}'")
    [found] = look(check)
    assert found["result"] == (
        "FAIL" if (check, age) == ("maintain", "2 days") else "WARN"
    )
    assert run_fix(pgflow, found["fix"]).returncode == 0
    assert look(check)[0]["result"] == "OK"


def test_a_role_without_rights_is_told_which_it_needs(
    stranger: str, pgflow: RunsPgflow, connection: Connection
) -> None:
    env = {"DATABASE_URL": stranger}
    result = pgflow("doctor", "-o", "json", env=env)
    assert result.returncode in (0, 5), result.stderr
    assert "Traceback" not in result.stderr
    rows = json.loads(result.stdout)["items"]
    blind = [row for row in rows if "may not look" in row["detail"]]
    assert blind
    assert {row["result"] for row in blind} == {"WARN"}
    script = pgflow("doctor", "--fix-sql", env=env).stdout
    for line in script.splitlines():
        if line.startswith("grant"):
            connection.execute(line)
    rows = json.loads(pgflow("doctor", "-o", "json", env=env).stdout)["items"]
    assert not [row for row in rows if "may not look" in row["detail"]]
    assert [r["result"] for r in rows if r["check"] == "schema.privileges"] == ["OK"]


def test_a_server_that_does_not_answer_is_a_finding(tmp_path: Path) -> None:
    url = f"postgres://app:{CANARY}@/app?host={tmp_path}"
    result = run_bare("doctor", "-o", "json", DATABASE_URL=url)
    assert result.returncode == 5
    assert CANARY not in result.stdout + result.stderr
    rows = {row["check"]: row for row in json.loads(result.stdout)["items"]}
    assert rows["server.reachable"]["result"] == "FAIL"
    assert {*rows} == {"server.reachable", "upkeep.pg-dump", "upkeep.exposure"}
    chosen = run_bare("doctor", "--check", "audit", "-o", "json", DATABASE_URL=url)
    assert "not looked at: no connection" in chosen.stdout, "what was asked for"


def test_a_connection_that_is_set_up_wrongly_is_named(tmp_path: Path) -> None:
    database = repository.Database(f"postgres:///?host={tmp_path}&sslmode=x")
    found = checks._reach(Doctor(repository.Repository.of(database)))
    assert found.detail.startswith("sslmode in the database URL is wrong")
    assert found.command == "Correct sslmode in the database URL, or leave it out."


def test_one_check_of_a_server_that_does_not_answer_fails_all_the_same(
    tmp_path: Path,
) -> None:
    url = f"postgres:///app?host={tmp_path}"
    assert run_bare("doctor", "--check", "audit", DATABASE_URL=url).returncode == 5


def test_a_transaction_pooler_is_found(database: Database, pgflow: RunsPgflow) -> None:
    with pgbouncer(database) as url:
        result = pgflow("doctor", "-o", "json", env={"DATABASE_URL": url})
    rows = {row["check"]: row for row in json.loads(result.stdout)["items"]}
    assert rows["server.pooler"]["result"] == "WARN"
    assert rows["jobs.audit"]["result"] == "OK"


def test_a_pooler_in_statement_mode_is_one_finding(
    database: Database, pgflow: RunsPgflow
) -> None:
    with pgbouncer(database, "pool_mode = statement") as url:
        result = pgflow("doctor", "-o", "json", env={"DATABASE_URL": url})
    rows = json.loads(result.stdout)["items"]
    about_it = [row for row in rows if not row["check"].startswith("upkeep.")]
    assert [row["result"] for row in about_it] == ["FAIL"]
    assert "statement mode" in about_it[0]["detail"]
    assert "pool_mode" in about_it[0]["fix"]


def test_a_standby_is_named_and_not_taken_for_a_pooler(pgflow: RunsPgflow) -> None:
    with a_standby() as (_, url, _):
        result = pgflow("doctor", "-o", "json", env={"DATABASE_URL": url})
    rows = {row["check"]: row for row in json.loads(result.stdout)["items"]}
    assert rows["server.recovery"]["result"] == "FAIL"
    assert "this server is a standby" in rows["server.pooler"]["detail"]
    assert "pgflow doctor" not in {row["fix"] for row in rows.values()}


def test_a_check_that_takes_too_long_gives_up_and_names_who_holds_it_up(
    database: Database, pgflow: RunsPgflow
) -> None:
    with database.connect(autocommit=False) as blocker:
        blocker.execute("lock table pgflow.canceled_jobs")
        pid = blocker.info.backend_pid
        result = pgflow(
            "doctor", "--check", "jobs.audit", "--timeout", "2s", "-o", "json"
        )
        blocker.rollback()
    [found] = json.loads(result.stdout)["items"]
    assert found["result"] == "WARN"
    assert f"pid {pid} " in found["detail"]
    assert "holds canceled_jobs" in found["detail"]


def test_files_of_secrets_that_others_may_read_are_closed_by_the_fix(
    database: Database, tmp_path: Path
) -> None:
    secret = tmp_path / "url"
    secret.write_text(database.url)
    secret.chmod(0o644)
    (tmp_path / ".env").write_text(f"DATABASE_URL={database.url}\n")
    (tmp_path / ".env").chmod(0o640)
    words = ("doctor", "--check", "exposure", "-o", "json")
    result = run_bare(*words, DATABASE_URL_FILE=str(secret))
    found = json.loads(result.stdout)["items"]
    assert {each["result"] for each in found} == {"WARN"}
    for each in found:
        subprocess.run(shlex.split(each["fix"]), check=True)
    again = run_bare(*words, DATABASE_URL_FILE=str(secret))
    assert [each["result"] for each in json.loads(again.stdout)["items"]] == ["OK"]


def test_a_password_on_the_command_line_is_found(tmp_path: Path) -> None:
    url = f"postgres://app:{CANARY}@/app?host={tmp_path}"
    result = run_bare("doctor", "--check", "exposure", "--database-url", url)
    assert "--database-url-file" in result.stdout
    assert CANARY not in result.stdout + result.stderr


@pytest.mark.parametrize("suffix", ["zip", "json"])
def test_a_bundle_has_findings_and_settings_and_no_secret(
    suffix: str, tmp_path: Path, connection: Connection, pgflow: RunsPgflow
) -> None:
    plant(connection, payload=json.dumps({"secret": CANARY}))
    info = connection.info
    url = f"postgresql://{info.user}:{CANARY}@/{info.dbname}?host={info.host}"
    path = tmp_path / f"report.{suffix}"
    result = pgflow("doctor", "--bundle", str(path), env={"DATABASE_URL": url})
    assert result.returncode in (0, 5), result.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if suffix == "zip":
        with zipfile.ZipFile(path) as archive:
            text = "".join(archive.read(name).decode() for name in archive.namelist())
    else:
        text = path.read_text()
        json.loads(text)
    assert CANARY not in text + result.stdout + result.stderr
    for word in ("vacuum.xmin", "PGFLOW_LEASE_SECONDS", "schema_expected", ":***@"):
        assert word in text
    assert audit(connection) == (0, 0)


def test_a_bundle_that_cannot_be_written_is_exit_74(
    tmp_path: Path, pgflow: RunsPgflow
) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "report.zip")
    assert pgflow("doctor", "--bundle", path).returncode == 74


def test_a_screen_has_areas_and_whole_fixes(pgflow: RunsPgflow) -> None:
    result = pgflow("doctor", "-o", "table", env={"COLUMNS": "80"})
    lines = result.stdout.splitlines()
    assert lines[0] == "server"
    assert any(line.startswith("  OK    pooler") for line in lines)
    assert "        fix: pgflow backup" in lines
    long = [line for line in lines if len(line) > 80 and "fix:" not in line]
    assert not [
        line for line in long if "reachable" not in line and " " in line.strip()
    ]
    assert "\x1b[" not in result.stdout
    coloured = pgflow("doctor", "-o", "table", "--color", "always").stdout
    assert "\x1b[33m\x1b[1mWARN\x1b[0m" in coloured


def run_fix(
    pgflow: RunsPgflow, fix: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    words = shlex.split(fix)
    assert words[0] == "pgflow"
    return pgflow(*words[1:], env=env)


def run_bare(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the executable without the URL of the test's database."""
    environment = {**os.environ, **variables}
    return executable.fork(
        *arguments, environment=environment, folder=Path.cwd(), input=None
    )


def _indexes(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select relname::text, pg_get_indexdef(oid) from pg_class"
        " where relnamespace = 'pgflow'::regnamespace and relkind in ('i', 'I')"
        " and not relispartition order by 1"
    ).fetchall()
