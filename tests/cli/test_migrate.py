"""The command `migrate`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pgflow_cli.repository import sqlfiles

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
    assert "applied 0001_core" in first.stderr
    assert "made 10 day partitions, jobs_" in first.stderr
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
        assert "overview" in result.stdout


def test_the_script_needs_no_database(pgflow):
    printed = pgflow("migrate", "sql", "--from", "1", env={"DATABASE_URL": ""})
    assert printed.returncode == 0
    assert "create view pgflow.job_overview" in printed.stdout
    assert "create table pgflow.jobs (" not in printed.stdout
    unknown = pgflow("migrate", "sql", "--to", str(LATEST + 1))
    assert (unknown.returncode, unknown.stdout) == (2, "")


def test_an_edited_migration_is_exit_78(pgflow, connection):
    connection.execute("update pgflow.migrations set checksum = 'x' where version = 2")
    for arguments in ((), ("--check",), ("--dry-run",)):
        refused = pgflow("migrate", *arguments)
        assert refused.returncode == 78
        assert "migration 0002_" in refused.stderr
        assert "recorded x" in refused.stderr


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
