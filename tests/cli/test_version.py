"""`version` tells what takes part, with or without a database."""

from __future__ import annotations

import json
import platform
from pathlib import Path

from pgflow_cli.repository import Repository, sqlfiles
from tests.cli.programs import run
from tests.conftest import RunsPgflow
from tests.support.servers import Database


def test_without_a_database_its_versions_are_left_out() -> None:
    result = run("version", "-o", "json")
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert document["pgflow"] == "0.1.0"
    assert document["schema_expected"] == sqlfiles.latest_version()
    assert document["python"] == platform.python_version()
    assert document["server"] is None
    assert document["schema_found"] is None


def test_a_database_that_does_not_answer_is_a_warning(tmp_path: Path) -> None:
    url = f"postgres://app:secret@/app?host={tmp_path}"
    result = run(
        "version", "--connect-timeout", "100ms", variables={"DATABASE_URL": url}
    )
    assert result.exit_code == 0
    assert "Warning: cannot connect to app@" in result.stderr
    assert "secret" not in result.output


def test_a_schema_of_before_the_first_release_is_a_warning(
    pgflow: RunsPgflow, database: Database
) -> None:
    with database.connect() as connection:
        connection.execute(
            "update pgflow.migrations set checksum = 'x' where version = 1"
        )
    result = pgflow("version", "-o", "json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["schema_found"] == sqlfiles.latest_version()
    assert "the schema was made before pgflow 0.1" in result.stderr


def test_the_server_and_its_schema_are_told(
    pgflow: RunsPgflow, repository: Repository
) -> None:
    result = pgflow("version", "-o", "json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    facts = repository.schema.inspect_server()
    found = repository.schema.find_schema_version() if facts.has_migrations else None
    assert document["server"] == facts.version
    assert document["schema_found"] == found
    [dump] = json.loads(pgflow("doctor", "--check", "pg-dump", "-o", "json").stdout)[
        "items"
    ]
    assert document["pg_dump"] is None or document["pg_dump"] in dump["detail"]
