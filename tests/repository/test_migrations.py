"""Migrations: many at once, killed anywhere, refused where they would do harm."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pgflow_cli.errors import (
    CheckFailed,
    ConfigurationError,
    DatabaseUnavailable,
    TryLater,
    UsageError,
)
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.schema import ServerFacts
from pgflow_cli.repository import Database, Repository, sqlfiles
from tests.support.private_servers import pgbouncer
from tests.support.schemas import describe_schema

LATEST = sqlfiles.latest_version()


@pytest.fixture
def opened(empty_database):
    """A repository on a database that was never migrated."""
    repository = Repository.of(Database(empty_database.url))
    yield repository
    repository.close()


def test_migrating_twice_changes_nothing(opened, empty_database):
    assert [m.version for m in migrations.migrate(opened)] == [*range(1, LATEST + 1)]
    before = describe_schema(empty_database)
    assert migrations.migrate(opened) == []
    assert describe_schema(empty_database) == before


def test_twelve_at_once_apply_each_version_once(empty_database, template):
    start = threading.Barrier(12)

    def run(_: int) -> list[int]:
        repository = Repository.of(Database(empty_database.url))
        try:
            start.wait(timeout=30)
            return [m.version for m in migrations.migrate(repository)]
        finally:
            repository.close()

    with ThreadPoolExecutor(12) as pool:
        applied = sorted(v for done in pool.map(run, range(12)) for v in done)
    assert applied == [*range(1, LATEST + 1)]
    assert describe_schema(empty_database) == describe_schema(template)


def test_twelve_at_once_apply_each_version_once_under_serializable(empty_database):
    with empty_database.connect() as connection:
        connection.execute(
            f'alter database "{empty_database.name}" '
            "set default_transaction_isolation = 'serializable'"
        )
    test_twelve_at_once_apply_each_version_once(empty_database, empty_database)


class Severed(Exception):
    """The migrator was killed here."""


def test_killed_after_any_statement_and_run_again_it_is_the_same_schema(
    empty_database, template
):
    """Each run goes on where the last was killed, and is killed a statement later;
    from its first on again when a version more is there.
    """
    connection = empty_database.connect()
    boundary = version = kills = 0
    while not _migrate_but_die_at(Database(empty_database.url), boundary):
        kills += 1
        found = _version(connection)
        assert found in {version, version + 1}, f"killed at {boundary}"
        boundary = boundary + 1 if found == version else 0
        version = found
    # Those of the bootstrap and of each version, at the least.
    assert kills > 5 + 6 * LATEST
    assert version == LATEST
    assert describe_schema(empty_database) == describe_schema(template)


def _version(connection) -> int:
    there = connection.execute("select to_regclass('pgflow.migrations')").fetchone()
    if there == (None,):
        return 0
    row = connection.execute("select max(version) from pgflow.migrations").fetchone()
    return row[0] or 0


def _migrate_but_die_at(database: Database, boundary: int) -> bool:
    """Migrate, losing the connection after a statement; say if it ended before."""
    repository = Repository.of(database)
    passed = 0

    def die_here(call):
        def run(*arguments, **options):
            nonlocal passed
            result = call(*arguments, **options)
            if passed == boundary:
                repository.link.sever()
                raise Severed
            passed += 1
            return result

        return run

    repository.link.execute = die_here(repository.link.execute)
    repository.link.run_text = die_here(repository.link.run_text)
    try:
        migrations.migrate(repository)
    except (Severed, DatabaseUnavailable):
        return False
    finally:
        repository.close()
    return True


def test_the_commit_is_all_or_nothing(opened, empty_database):
    """A file whose last statement fails leaves nothing of the statements before it."""
    with pytest.raises(Exception, match="no_such_table"), opened.transaction():
        opened.schema.run_migration(
            "create table public.planted (); select 1 from no_such_table"
        )
    with empty_database.connect() as connection:
        assert connection.execute(
            "select to_regclass('public.planted')"
        ).fetchone() == (None,)


def test_who_waits_too_long_for_another_migrator_is_told_whom(opened, empty_database):
    migrations.migrate(opened, target=1)
    holder = empty_database.connect(autocommit=False)
    holder.execute("set application_name = 'the other one'")
    holder.execute("select from pgflow.migrations where version = 0 for update")
    said: list[str] = []
    with pytest.raises(TryLater) as caught:
        migrations.migrate(opened, lock_wait=1.5, say=said.append)
    assert caught.value.exit_code == 75
    assert f"pid {holder.info.backend_pid} (the other one) since 20" in str(
        caught.value
    )
    assert "waiting for" in said[0]
    holder.rollback()
    assert len(migrations.migrate(opened, lock_wait=1.5)) == LATEST - 1


def test_a_table_in_use_is_waited_for_again_and_again(
    opened, empty_database, monkeypatch
):
    migrations.migrate(opened)
    holder = empty_database.connect(autocommit=False)
    holder.execute("lock table pgflow.canceled_jobs in access share mode")
    step = sqlfiles.MigrationFile(
        LATEST + 1, "planted", "alter table pgflow.canceled_jobs add planted int", "-"
    )
    files = (*sqlfiles.migrations(), step)
    monkeypatch.setattr(sqlfiles, "migrations", lambda: files)
    with pytest.raises(TryLater, match="5 times"):
        migrations.migrate(opened, lock_timeout=0.01)
    release = threading.Timer(0.5, holder.rollback)
    release.start()
    assert migrations.migrate(opened, lock_timeout=0.2) == [step]
    release.join()


def test_an_edited_file_is_refused_by_its_checksums(
    repository, connection, monkeypatch
):
    version = sqlfiles.FIRST_RELEASE + 1
    step = sqlfiles.MigrationFile(version, "planted", "", "y")
    files = (*sqlfiles.migrations()[: sqlfiles.FIRST_RELEASE], step)
    monkeypatch.setattr(sqlfiles, "migrations", lambda: files)
    connection.execute(
        "insert into pgflow.migrations values (%s, 'planted', 'x')", [version]
    )
    for refused in (migrations.migrate, migrations.list_pending, migrations.check):
        with pytest.raises(ConfigurationError) as caught:
            refused(repository)
        assert f"migration {version:04d}_planted was edited" in caught.value.message
        assert caught.value.hints[:2] == ("recorded x", "found    y")
    drifted = [row.version for row in migrations.list_status(repository) if row.drift]
    assert drifted == [version]


# What the last version before the first release has recorded, and an earlier one.
_BEFORE = ("core", "enqueue", "overview", "operator_actions", "policies", "identity",
           "changed_jobs", "replays", "backups", "archive", "counters", "arrivals",
           "restores_and_ids")  # fmt: skip


@pytest.mark.parametrize("newest", [1, 5, len(_BEFORE)])
def test_a_schema_of_before_the_first_release_is_refused(
    repository, connection, newest
):
    """Whether its number is smaller than this program's or greater; and not because
    something were missing that its version never had.
    """
    connection.execute("delete from pgflow.migrations where version > 0")
    for version, name in enumerate(_BEFORE[:newest], start=1):
        repository.schema.record_migration(version, name, f"{name}'s")
    if newest < 3:
        connection.execute("drop view pgflow.job_overview")
    rows = connection.execute("select * from pgflow.migrations order by 1").fetchall()
    for refused in (
        migrations.migrate,
        migrations.list_pending,
        migrations.check,
        migrations.require_current,
    ):
        with pytest.raises(ConfigurationError) as caught:
            refused(repository)
        assert caught.value.exit_code == 78
        assert caught.value.message == (
            "the schema was made before pgflow 0.1 (its 0001_core is another), and "
            "cannot be migrated"
        )
        assert "pg_dump --schema=pgflow" in caught.value.hints[0]
        assert "drop schema pgflow cascade;" in caught.value.hints[1]
    assert rows == (
        connection.execute("select * from pgflow.migrations order by 1").fetchall()
    )
    status = migrations.list_status(repository)
    assert [row.name for row in status[:newest]] == [*_BEFORE[:newest]]
    assert status[0].drift


def test_a_part_of_the_first_release_that_was_edited_counts_as_before_it(
    repository, connection
):
    """Until it is out, the files that make it are edited in place."""
    connection.execute("update pgflow.migrations set checksum = 'x' where version = 2")
    for refused in (migrations.migrate, migrations.require_current):
        with pytest.raises(ConfigurationError, match=r"0\.1 \(its 0002_enqueue is"):
            refused(repository)


def test_a_newer_schema_is_refused(repository, connection):
    connection.execute(
        "insert into pgflow.migrations values (%s, 'later', 'x')", [LATEST + 1]
    )
    with pytest.raises(ConfigurationError, match=f"version {LATEST + 1}, newer than"):
        migrations.migrate(repository)
    later = migrations.list_status(repository)[-1]
    assert (later.version, later.name, later.pending) == (LATEST + 1, "later", False)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_is_not_utf8_is_refused_before_anything_is_made(
    server, encoding
):
    database = server.create(f"{encoding.lower()}_{id(server)}", encoding=encoding)
    repository = Repository.of(Database(database.url))
    try:
        with pytest.raises(ConfigurationError, match=encoding):
            migrations.migrate(repository)
        assert not repository.schema.inspect_server().has_schema
    finally:
        repository.close()
        server.drop(database)


@pytest.mark.parametrize(
    ("number", "in_recovery", "exit_code"), [(140012, False, 78), (150000, True, 69)]
)
def test_a_server_that_is_too_old_or_in_recovery_is_refused(
    opened, monkeypatch, number, in_recovery, exit_code
):
    facts = ServerFacts(number, "14.12", "app", "UTF8", in_recovery, False, False)
    monkeypatch.setattr(opened.schema, "inspect_server", lambda: facts)
    with pytest.raises((ConfigurationError, DatabaseUnavailable)) as caught:
        migrations.migrate(opened)
    assert caught.value.exit_code == exit_code


def test_versions_are_applied_up_to_the_target_and_never_back(opened):
    assert [m.version for m in migrations.migrate(opened, target=1)] == [1]
    assert [m.version for m in migrations.list_pending(opened)] == [
        *range(2, LATEST + 1)
    ]
    migrations.migrate(opened)
    with pytest.raises(UsageError, match="cannot go back to 1"):
        migrations.migrate(opened, target=1)
    for unknown in (0, LATEST + 1):
        with pytest.raises(UsageError, match=f"there is no version {unknown}"):
            migrations.migrate(opened, target=unknown)


def test_before_the_first_run_everything_is_pending(opened):
    status = migrations.list_status(opened)
    assert [row.version for row in status] == [*range(1, LATEST + 1)]
    assert all(row.pending and row.applied_at is None for row in status)
    with pytest.raises(CheckFailed, match="at version 0"):
        migrations.check(opened)
    assert not opened.schema.inspect_server().has_schema, "looking makes nothing"


def test_a_program_wants_its_own_version_or_a_newer_one(opened):
    with pytest.raises(ConfigurationError, match="schema is missing"):
        migrations.require_current(opened)
    migrations.migrate(opened, target=1)
    with pytest.raises(ConfigurationError, match=f"version 1, and .* needs {LATEST}"):
        migrations.require_current(opened)
    migrations.migrate(opened)
    migrations.require_current(opened)
    # The last release goes on while the new one is rolled out.
    opened.schema.record_migration(LATEST + 1, "later", "x")
    migrations.require_current(opened)


def test_the_printed_script_makes_the_same_schema(empty_database, template, repository):
    with empty_database.connect() as connection:
        # As the session of psql may be. (Its strings it reads statement by statement.)
        connection.execute("set search_path = public")
        connection.execute("set quote_all_identifiers = on")
        connection.execute(migrations.script().encode())
    assert describe_schema(empty_database) == describe_schema(template)
    opened = Repository.of(Database(empty_database.url))
    assert migrations.list_pending(opened) == []
    opened.close()
    assert migrations.script(after=LATEST).strip() == ""


def test_waiting_for_a_database_ends_when_it_answers(empty_database):
    begun = time.monotonic()
    migrations.wait_for_database(Database(empty_database.url), 60)
    assert time.monotonic() - begun < 30
    migrations.wait_for_database(Database("postgresql://localhost:1/nothing"), 0.3)
    assert time.monotonic() - begun > 0.3


def test_a_role_without_the_right_is_told_so(server, empty_database):
    role = f"stranger_{empty_database.name}"
    with empty_database.connect() as connection:
        connection.execute(f'create role "{role}" login')
        try:
            url = empty_database.url.replace("postgres@", f"{role}@")
            stranger = Repository.of(Database(url))
            with pytest.raises(Exception, match="permission denied") as caught:
                migrations.migrate(stranger)
            assert caught.value.exit_code == 77
            stranger.close()
        finally:
            connection.execute(f'drop role "{role}"')


def test_a_migration_is_not_cut_off_by_a_statement_timeout(empty_database):
    hasty = Repository.of(Database(empty_database.url, statement_timeout=0.05))
    patient = Repository.of(Database(empty_database.url))
    migrations._bootstrap(patient)
    patient.close()
    with hasty.transaction():
        hasty.schema.begin_schema_change(lock_wait=1, lock_timeout=1)
        hasty.schema.run_migration("select pg_sleep(0.1)")
    hasty.close()


def test_statement_errors_that_are_nobodys_fault_are_not_hidden(opened):
    with pytest.raises(Exception, match="syntax error") as caught:
        opened.schema.run_migration("alter tabel")
    assert isinstance(caught.value.__cause__, psycopg.errors.SyntaxError)


def test_eight_at_once_behind_a_pooler_in_transaction_mode(empty_database, template):
    with pgbouncer(empty_database) as url:
        start = threading.Barrier(8)

        def run(_: int) -> list[int]:
            repository = Repository.of(Database(url))
            try:
                start.wait(timeout=30)
                return [m.version for m in migrations.migrate(repository)]
            finally:
                repository.close()

        with ThreadPoolExecutor(8) as pool:
            applied = sorted(v for done in pool.map(run, range(8)) for v in done)
        repository = Repository.of(Database(url))
        assert len(migrations.ensure_partitions(repository)) == 15
        repository.close()
    assert applied == [*range(1, LATEST + 1)]
    assert describe_schema(empty_database) == describe_schema(template)
