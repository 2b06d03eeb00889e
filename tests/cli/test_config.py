"""`pgflow config` and `pgflow help`: what is in force, what is wrong, what it means."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from pgflow_cli import configuration, settings, topics
from tests.cli.programs import run, write_file
from tests.cli.test_readme import section

SECRET = "postgres://app:canary-pw@db/app"


def shown(*words: str, **more: Any) -> dict[str, dict[str, str]]:
    result = run("config", "show", "--origin", "-o", "json", *words, **more)
    assert result.exit_code == 0, result.output
    assert "canary-pw" not in result.output
    return {row["variable"]: row for row in json.loads(result.stdout)["items"]}


def test_every_setting_is_shown_with_its_default():
    rows = shown()
    assert set(rows) == settings.VARIABLES
    row = rows["PGFLOW_LEASE_SECONDS"]
    assert (row["value"], row["origin"], row["option"]) == (
        "10", "default", "--lease-seconds",
    )  # fmt: skip


def test_each_level_is_named_as_the_origin(tmp_path):
    write_file(tmp_path / ".env", "PGFLOW_POLL=1s\nPGFLOW_PROCESSES=2\n")
    write_file(tmp_path / "pgflow.toml", "concurrency = 3\nprocesses = 4\n")
    variables = {"PGFLOW_WORKER_ID": "w", "DATABASE_URL": SECRET}
    rows = shown("--log-level", "debug", variables=variables)
    assert rows["PGFLOW_WORKER_ID"]["origin"] == "environment"
    assert rows["PGFLOW_PROCESSES"]["value"] == "2"
    assert rows["PGFLOW_PROCESSES"]["origin"] == ".env"
    assert rows["PGFLOW_CONCURRENCY"]["origin"] == "pgflow.toml"
    assert rows["PGFLOW_LOG_LEVEL"]["origin"] == "--log-level"
    assert rows["DATABASE_URL"]["value"] == "postgres://app:***@db/app"


def test_check_names_every_bad_setting_and_no_value():
    variables = {
        "PGFLOW_LEASE_SECONDS": "canary1",
        "PGFLOW_MIGRATE_ON_STARTUP": "canary2",
        "PGFLOW_PROCESSES": "2",
    }
    result = run("config", "check", variables=variables)
    assert result.exit_code == 78
    assert "2 settings" in result.stderr
    assert "PGFLOW_LEASE_SECONDS (environment) is not" in result.stderr
    assert "PGFLOW_MIGRATE_ON_STARTUP" in result.stderr
    assert "canary" not in result.output
    assert run("config", "check").exit_code == 0


def test_a_file_that_is_begun_changes_nothing_and_holds_every_key(tmp_path):
    assert run("config", "init").exit_code == 0
    text = (tmp_path / "pgflow.toml").read_text()
    assert tomllib.loads(text) == {}
    keys = {configuration.key_of(str(variable)) for variable in settings.VARIABLES}
    lines = [line[2:] for line in text.splitlines() if " = " in line]
    assert {tomllib.loads(line).popitem()[0] for line in lines} == keys
    again = run("config", "init")
    assert again.exit_code == 4
    assert "nothing was written" in again.stderr


def test_the_paths_are_listed_nearest_first(tmp_path):
    write_file(tmp_path / ".env", "")
    result = run("config", "path", "-o", "json")
    rows = json.loads(result.stdout)["items"]
    assert [row["origin"] for row in rows][:4] == [
        "command line", "environment", ".env", "project",
    ]  # fmt: skip
    assert [row["found"] for row in rows][2:4] == [True, False]


@pytest.mark.parametrize("topic", topics.TOPICS)
def test_every_topic_fits_80_columns(topic):
    result = run("help", topic)
    assert result.exit_code == 0
    assert result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_the_topic_of_exit_codes_says_what_the_readme_says():
    result = " ".join(run("help", "exit-codes").stdout.split())
    for row in section("exit codes"):
        code, meaning = (cell.strip() for cell in row.strip("|").split("|"))
        assert f"{code} {meaning}" in result


def test_the_topic_of_the_environment_names_every_variable():
    text = run("help", "environment").stdout
    assert all(str(variable) in text for variable in settings.VARIABLES)


def test_help_of_a_command_is_its_help():
    assert run("help", "workers", "list").stdout == run("workers", "list", "-h").stdout
    assert "Topics:" in run("help").stdout
    assert run("help", "nonsense").exit_code == 3
    assert run("help", "migrate", "nonsense").exit_code == 3
