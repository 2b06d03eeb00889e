"""`pgflow config` and `pgflow help`: what is in force, what is wrong, what it means."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest

from pgflow_cli.cli import settings, topics
from pgflow_cli.cli.settings import sources
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


def test_check_reads_every_file_to_its_end(tmp_path):
    write_file(tmp_path / "pgflow.toml", "nope = 'canary'\nlease_seconds = 0\nq = 1\n")
    write_file(
        tmp_path / "config/pgflow/config.toml", "other = 1\nlog_level = 'canary'\n"
    )
    write_file(tmp_path / ".env", "PGFLOW_CONCURRENCY=canary\n")
    variables = {"DATABASE_URL_FILE": str(tmp_path / "missing")}
    result = run("config", "check", variables=variables)
    assert result.exit_code == 78
    for word in (
        "unknown key 'nope'", "unknown key 'q'", "unknown key 'other'", "lease_seconds",
        "log_level", "PGFLOW_CONCURRENCY (.env)", "missing",
    ):  # fmt: skip
        assert word in result.stderr
    assert "canary" not in result.output
    write_file(tmp_path / "pgflow.toml", "lease = [")
    assert "not valid TOML" in run("config", "check").stderr


@pytest.mark.parametrize(
    "url", ["postgres://u:canary-pw%zz@h/d", "host=h port", "nonsense"]
)
def test_check_parses_the_url(url):
    result = run("config", "check", variables={"DATABASE_URL": url})
    assert result.exit_code == 78
    assert "canary" not in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("config", "path"), ("help", "environment"), ("help", "exit-codes"),
        ("completion", "zsh"), ("config", "init", "--file", "new.toml"),
    ],
)  # fmt: skip
def test_what_explains_settings_works_whatever_they_say(words, tmp_path):
    write_file(tmp_path / "pgflow.toml", "nope = 1\nlog_level = 'x'\n")
    assert run(*words, variables={"PGFLOW_PROFILE": "none"}).exit_code == 0
    assert run("config", "show").exit_code == 78


def test_every_line_of_a_new_file_is_acceptable(tmp_path):
    assert run("config", "init").exit_code == 0
    path = tmp_path / "pgflow.toml"
    lines = path.read_text().splitlines()
    keys = (line[2:] for line in lines if re.match(r"# [a-z_]+ = ", line))
    path.write_text("\n".join(keys))
    checked = run("config", "check")
    assert checked.exit_code == 0, checked.stderr
    counted = {each.variable for each in settings.ALL if each.unit}
    filled = shown()
    path.unlink()
    for name, row in shown().items():
        # A file counts in a unit, where the default names one.
        if name not in counted:
            assert filled[name]["value"] == row["value"]


def test_a_file_that_is_begun_changes_nothing_and_holds_every_key(tmp_path):
    assert run("config", "init").exit_code == 0
    text = (tmp_path / "pgflow.toml").read_text()
    assert tomllib.loads(text) == {}
    keys = {sources.key_of(str(variable)) for variable in settings.VARIABLES}
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
