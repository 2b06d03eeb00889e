"""The command `migrate`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pgflow_cli.repository import sqlfiles
from tests.support.backup_tools import found_clients

LATEST = sqlfiles.latest_version()
PROGRAM = str(Path(sys.executable).with_name("pgflow"))


def on(database):
    return {"DATABASE_URL": database.url}


def versions(result) -> list[int]:
    assert result.returncode == 0, result.stderr
    return [row["version"] for row in json.loads(result.stdout)["items"]]


def test_it_applies_everything_once_and_says_what(pgflow, empty_database):
    first = pgflow("migrate", "-o", "json", env=on(empty_database))
    assert versions(first) == [*range(1, LATEST + 1)]
    assert "applied 0001_jobs" in first.stderr
    assert "made 15 day partitions, jobs_" in first.stderr
    again = pgflow("migrate", "up", "-o", "json", env=on(empty_database))
    assert versions(again) == []
    assert again.stderr == ""


def test_a_dry_run_lists_and_changes_nothing(pgflow, empty_database):
    for arguments in (("-n",), ("up", "--dry-run"), ("--dry-run", "--target", "1")):
        listed = versions(
            pgflow("migrate", *arguments, "-o", "json", env=on(empty_database))
        )
        assert listed == [1] if "--target" in arguments else [*range(1, LATEST + 1)]
    checked = pgflow("migrate", "--check", env=on(empty_database))
    assert checked.returncode == 5
    assert f"at version 0, and this program needs {LATEST}" in checked.stderr


def test_a_migrated_database_passes_the_check(pgflow):
    assert pgflow("migrate", "--check").returncode == 0


def test_the_status_is_written_in_every_format(pgflow):
    document = json.loads(pgflow("migrate", "status", "-o", "json").stdout)["items"]
    assert [row["version"] for row in document] == [*range(1, LATEST + 1)]
    assert document[0].keys() == {
        "version", "name", "applied_at", "drift", "pending", "applied_by",
    }  # fmt: skip
    assert not any(row["drift"] or row["pending"] for row in document)
    for form in ("table", "plain", "wide", "jsonl", "csv", "tsv", "md"):
        result = pgflow("migrate", "status", "-o", form)
        assert result.returncode == 0
        assert len(result.stdout.splitlines()) >= LATEST
        assert "archive" in result.stdout


def test_the_script_needs_no_database(pgflow):
    printed = pgflow("migrate", "sql", "--from", "1", env={"DATABASE_URL": ""})
    assert printed.returncode == 0
    assert "create view pgflow.job_overview" in printed.stdout
    assert "create table pgflow.jobs (" not in printed.stdout
    unknown = pgflow("migrate", "sql", "--to", str(LATEST + 1))
    assert (unknown.returncode, unknown.stdout) == (2, "")


def test_a_schema_of_before_the_first_release_is_exit_78(pgflow, connection):
    connection.execute("update pgflow.migrations set checksum = 'x' where version = 2")
    for command in ("migrate", "migrate --check", "migrate --dry-run", "jobs list",
                    "maintain", "backup", "work --once"):  # fmt: skip
        refused = pgflow(*command.split())
        assert refused.returncode == 78, command
        assert "made before pgflow 0.1 (its 0002_enqueue is another)" in refused.stderr
    assert pgflow("migrate", "status").returncode == 0


def test_what_it_holds_is_kept_by_the_command_that_is_told(
    pgflow, connection, database, server, empty_database, tmp_path
):
    """Each step as it is printed: dump, drop, migrate; and the dump brings it back."""
    for number in range(3):
        assert pgflow("enqueue", "noop", f'{{"n": {number}}}').returncode == 0
    connection.execute("update pgflow.migrations set checksum = 'x' where version = 1")
    kept = rows_of(connection)
    told = pgflow("migrate").stderr.splitlines()
    [dump] = [line.partition(": ")[2] for line in told if "pg_dump" in line]
    [drop] = re.findall(r"drop schema [^;]*;", "\n".join(told))
    tools = found_clients(server)
    program, *options = dump.replace("URL", database.url).split()
    assert program == "pg_dump"
    subprocess.run([tools.program(program), *options], check=True, cwd=tmp_path)
    connection.execute(drop)
    assert pgflow("migrate").returncode == 0
    assert pgflow("enqueue", "noop").returncode == 0
    psql = [tools.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1"]
    psql += ["-d", empty_database.url, "-f", "before-0.1.sql"]
    done = subprocess.run(psql, check=True, capture_output=True, cwd=tmp_path)
    assert done.stderr == b""
    with empty_database.connect() as other:
        assert rows_of(other) == kept


def rows_of(connection):
    tables = ("jobs", "pending", "migrations", "queue_ranks", "database_identity")
    return [
        sorted(connection.execute(f"select t::text from pgflow.{name} as t").fetchall())
        for name in tables
    ]


def test_a_lock_that_is_held_is_exit_75_and_names_its_holder(pgflow, database):
    holder = database.connect(autocommit=False)
    holder.execute("select from pgflow.migrations where version = 0 for update")
    refused = pgflow("migrate", "--lock-wait", "300ms")
    assert refused.returncode == 75
    assert f"pid {holder.info.backend_pid}" in refused.stderr


def test_no_server_is_exit_69_after_the_wait(pgflow):
    nowhere = {"DATABASE_URL": "postgresql://localhost:1/nothing"}
    refused = pgflow(
        "migrate", "--wait-for-db", "1s", "--connect-timeout", "1s", env=nowhere
    )
    assert refused.returncode == 69
    assert "cannot connect" in refused.stderr


def test_twelve_executables_at_once_all_succeed(empty_database):
    environment = {**os.environ, "DATABASE_URL": empty_database.url}
    running = [
        subprocess.Popen(
            [PROGRAM, "migrate", "-o", "json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for _ in range(12)
    ]
    applied = []
    for process in running:
        printed, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        applied += [row["version"] for row in json.loads(printed)["items"]]
    assert sorted(applied) == [*range(1, LATEST + 1)]


@pytest.mark.parametrize("words", ["explain ffffff", "queues list", "metrics"])
def test_an_older_schema_is_exit_78_with_both_versions(pgflow, empty_database, words):
    assert pgflow("migrate", "--target", "7", env=on(empty_database)).returncode == 0
    refused = pgflow(*words.split(), env=on(empty_database))
    assert refused.returncode == 78
    assert f"at version 7, and this program needs {LATEST}" in refused.stderr


def test_a_producer_and_the_fence_do_not_ask_for_the_version(pgflow, connection):
    connection.execute("delete from pgflow.migrations where version > 1")
    assert pgflow("enqueue", "ok", "{}").returncode == 0
    assert pgflow("fence", "status").returncode == 0
