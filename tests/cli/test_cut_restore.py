"""A dump that psql has loaded in part: every command says so, and how it goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import psycopg
import pytest

from pgflow_cli.local.clients import Clients
from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository
from tests.conftest import RunsPgflow
from tests.support.backup_tools import another, dump_plain, found_clients
from tests.support.jobs import plant
from tests.support.servers import Database, Server

COMMANDS = (
    ["migrate"],
    ["migrate", "--check"],
    ["work", "--simulate", "--drain"],
    ["work", "--simulate", "--drain", "--migrate"],
    ["fence", "accept", "--no-pause"],
    ["backup", "b.dump", "--verify", "off"],
)
# Psql ends before the first, or the last, line that begins so.
CUTS = [
    ("CREATE FUNCTION", 1),
    ("CREATE TABLE", 0),
    ("CREATE TABLE", 1),
    ("CREATE VIEW", -1),
    ("COPY pgflow.database_identity", 0),
    ("COPY pgflow.jobs", -1),
    ("COPY pgflow.workers", 0),
    ("ALTER TABLE ONLY pgflow.database_identity", 0),
    ("ALTER TABLE ONLY pgflow.leases", 0),
    ("CREATE INDEX", -1),
    ("ALTER INDEX", -1),
    ("CREATE TRIGGER", 0),
    ("CREATE TRIGGER", -1),
]


@pytest.fixture
def real(server: Server) -> Clients:
    return found_clients(server)


@pytest.fixture(scope="module")
def dump(server: Server, template: Database) -> bytes:
    """A plain dump of a database with two jobs, taken once."""
    name = f"{template.name}_to_cut"
    with another(server, name, template=template.name) as made:
        plant(made.connect(), 2)
        return dump_plain(found_clients(server), made)


@pytest.fixture
def copy(server: Server, database: Database) -> Iterator[Database]:
    with another(server, f"{database.name}_copy") as made:
        yield made


def load(real: Clients, database: Database, dump: bytes) -> None:
    psql = [real.program("psql"), "-X", "-q", "-d", database.url]
    subprocess.run(psql, input=dump, check=True, capture_output=True)


def cut(dump: bytes, words: str, place: int) -> bytes:
    lines = dump.splitlines(keepends=True)
    found = [n for n, line in enumerate(lines) if line.startswith(words.encode())]
    return b"".join(lines[: found[place]])


def refused(pgflow: RunsPgflow, database: Database) -> None:
    """Expect 78 of every command that would make something of it."""
    for command in COMMANDS:
        confirm = ["--confirm", database.name] if command[0] == "fence" else []
        done = pgflow(*command, *confirm, env={"DATABASE_URL": database.url})
        assert done.returncode == 78, (command, done.stderr)
        assert "a restore was cut off here" in done.stderr, (command, done.stderr)
        assert "drop schema if exists pgflow cascade;" in done.stderr, command
        assert "Try: pgflow migrate" not in done.stderr, command


@pytest.mark.parametrize(("words", "place"), CUTS)
def test_what_psql_has_loaded_in_part_is_used_by_no_command(
    pgflow: RunsPgflow, real: Clients, empty_database: Database, dump: bytes,
    words: str, place: int,
) -> None:  # fmt: skip
    load(real, empty_database, cut(dump, words, place))
    refused(pgflow, empty_database)
    seen = pgflow("doctor", env={"DATABASE_URL": empty_database.url})
    assert seen.returncode == 5
    assert "incomplete" in seen.stdout
    assert "pgflow migrate\n" not in seen.stdout


@pytest.mark.parametrize(("words", "place"), [CUTS[0], CUTS[5], CUTS[-1]])
def test_what_was_cut_off_can_be_loaded_again(
    pgflow: RunsPgflow, real: Clients, copy: Database, dump: bytes,
    words: str, place: int,
) -> None:  # fmt: skip
    """As every command says: drop what is there, and load it all."""
    load(real, copy, cut(dump, words, place))
    on = {"DATABASE_URL": copy.url}
    assert pgflow("doctor", "--check", "complete", env=on).returncode == 5
    load(real, copy, b"drop schema if exists pgflow cascade;")
    load(real, copy, dump)
    assert pgflow("migrate", env=on).returncode == 0
    accepted = pgflow("fence", "accept", "--confirm", copy.name, env=on)
    assert accepted.returncode == 0, accepted.stderr
    assert pgflow("doctor", "--check", "complete", env=on).returncode == 0


def test_a_part_of_an_older_schema_is_not_migrated(
    pgflow: RunsPgflow, real: Clients, empty_database: Database, copy: Database
) -> None:
    repository = Repository.of(DatabaseSettings(empty_database.url))
    migrations.migrate(repository, target=6)
    repository.close()
    dump = dump_plain(real, empty_database)
    load(real, copy, cut(dump, "ALTER TABLE ONLY pgflow.leases", 0))
    refused(pgflow, copy)
    load(real, copy, b"drop schema pgflow cascade")
    load(real, copy, dump)
    assert pgflow("migrate", env={"DATABASE_URL": copy.url}).returncode == 0


@pytest.mark.parametrize("lost", [range(9), [0], [2, 3], [7, 8]])
def test_versions_that_the_list_has_lost_are_recorded_again_and_nothing_is_dropped(
    pgflow: RunsPgflow, real: Clients, copy: Database, dump: bytes, lost: list[int]
) -> None:
    """As when a page of pgflow.migrations is damaged: no restore has run, and what
    doctor prints keeps every job.
    """
    load(real, copy, dump)
    on = {"DATABASE_URL": copy.url}
    connection = copy.connect()
    whole = connection.execute("select version, name, checksum from pgflow.migrations")
    before = sorted(whole)
    connection.execute(
        "delete from pgflow.migrations where version = any(%s)", [[*lost]]
    )
    if [*lost] != [0]:
        for command in COMMANDS[0], COMMANDS[1], COMMANDS[5]:
            told = pgflow(*command, env=on)
            assert told.returncode == 78, (command, told.stderr)
            assert "the list of versions is incomplete" in told.stderr
            assert "Keep the schema" in told.stderr
            assert "drop" not in told.stderr
            assert "restore" not in told.stderr
        fix = pgflow("doctor", "--check", "complete", "--fix-sql", env=on)
        assert fix.returncode == 5
        assert "drop" not in fix.stdout
        load(real, copy, fix.stdout.encode())
    assert pgflow("migrate", env=on).returncode == 0
    after = connection.execute("select version, name, checksum from pgflow.migrations")
    assert sorted(after) == before
    [count] = connection.execute("select count(*) from pgflow.jobs").fetchone() or [0]
    assert count == 2
    assert pgflow("doctor", "--check", "complete", env=on).returncode == 0


def test_the_fix_of_an_incomplete_schema_is_no_drop_where_no_restore_has_left_its_mark(
    pgflow: RunsPgflow, real: Clients, copy: Database, dump: bytes
) -> None:
    load(real, copy, cut(dump, "CREATE TRIGGER", -1))
    on = {"DATABASE_URL": copy.url}
    assert "drop" not in pgflow("doctor", "--fix-sql", env=on).stdout
    told = pgflow("migrate", env=on).stderr
    assert told.index("keep it") < told.index("drop schema")


def test_what_operators_add_or_drop_for_speed_is_theirs(
    pgflow: RunsPgflow, connection: psycopg.Connection
) -> None:
    connection.execute(
        "create table pgflow.notes (id int primary key);"
        "create index mine on pgflow.pending (job_type);"
        "drop index pgflow.job_attempts_by_time"
    )
    assert pgflow("migrate", "--check").returncode == 0
    assert pgflow("doctor", "--check", "complete").returncode == 0
