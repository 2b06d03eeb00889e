"""A value comes from the nearest place that has one; a bad one is named, not shown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgflow_cli import local
from pgflow_cli.cli import settings
from pgflow_cli.cli.settings import common, work
from pgflow_cli.cli.settings.option import Session, Setting
from pgflow_cli.errors import ConfigurationError, UsageError
from tests.cli.programs import calling, run, showing, where, write_file

WORK = {setting.name: setting for setting in work.WORK.settings}
LEASE = "PGFLOW_LEASE_SECONDS"
CANARY = "Zx9canary"
NOT_UTF8 = os.fsdecode(b"a\xff")


def shown(
    *arguments: str,
    setting: Setting = WORK["lease_seconds"],
    variables: dict[str, str] | None = None,
) -> dict[str, Any]:
    result = run("show", *arguments, commands=[showing(setting)], variables=variables)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def value(
    *arguments: str,
    setting: Setting = WORK["lease_seconds"],
    variables: dict[str, str] | None = None,
) -> Any:
    document = shown(*arguments, setting=setting, variables=variables)
    return document["options"][setting.name]


def levels(tmp_path: Path) -> Iterator[tuple[str, str, int]]:
    """Fill every level from the farthest to the nearest; yield origin, key, value."""
    user = tmp_path / "config" / "pgflow" / "config.toml"
    yield "default", "", 10
    write_file(user, "lease_seconds = 11\n")
    yield str(user), "lease_seconds", 11
    write_file(user, "lease_seconds = 11\n[profile.p]\nlease_seconds = 12\n")
    yield f"{user} [profile.p]", "lease_seconds", 12
    write_file(tmp_path / "pyproject.toml", "[tool.pgflow]\nlease-seconds = 13\n")
    yield "pyproject.toml [tool.pgflow]", "lease-seconds", 13
    write_file(tmp_path / "pgflow.toml", "lease_seconds = 14\n")
    yield "pgflow.toml", "lease_seconds", 14
    write_file(tmp_path / ".env", f"{LEASE}=15\n")
    yield ".env", LEASE, 15


def test_the_nearest_place_wins_and_is_remembered(tmp_path: Path) -> None:
    for origin, key, expected in levels(tmp_path):
        profile = ("--profile", "p") if expected >= 12 else ()
        document = shown(*profile)
        assert document["options"]["lease_seconds"] == expected
        if expected > 10:
            assert document["origins"]["lease_seconds"] == [key, origin]
    assert value(variables={LEASE: "16"}) == 16
    document = shown("--lease-seconds", "17", variables={LEASE: "16"})
    assert document["options"]["lease_seconds"] == 17
    assert document["origins"]["lease_seconds"] == ["--lease-seconds", "command line"]


def test_an_env_file_stands_in_for_the_one_of_the_folder(tmp_path: Path) -> None:
    write_file(tmp_path / ".env", f"{LEASE}=15\n")
    other = write_file(
        tmp_path / "prod.env", f"export {LEASE}='21' # quoted\nOTHER=1\n"
    )
    assert value("--env-file", str(other)) == 21


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("PGFLOW_APP=a", ["a"]),
        ("  export PGFLOW_APP = a # why", ["a"]),
        ('PGFLOW_APP="a#b"', ["a#b"]),
        ("PGFLOW_APP='a b'", ["a b"]),
        ("PGFLOW_APP=a#b", ["a#b"]),
        ("PGFLOW_APP=postgres://u:p@h/d?x=1", ["postgres://u:p@h/d?x=1"]),
        ("PGFLOW_APP=", []),
        ("PGFLOW_APP= # nothing", []),
        ("# PGFLOW_APP=a", []),
        ("what is this", []),
    ],
)
def test_lines_of_an_env_file(tmp_path: Path, line: str, expected: list[str]) -> None:
    write_file(tmp_path / ".env", f"{line}\n")
    assert value(setting=common.app) == expected


def test_the_profile_may_be_chosen_by_a_variable(tmp_path: Path) -> None:
    write_file(
        tmp_path / "config" / "pgflow" / "config.toml",
        "[profile.p]\nlease_seconds = 12\n",
    )
    assert value(variables={"PGFLOW_PROFILE": "p"}) == 12


def test_another_configuration_file_may_be_named(tmp_path: Path) -> None:
    path = write_file(tmp_path / "other.toml", "lease_seconds = 22\n")
    assert value("--config", str(path)) == 22
    assert value(variables={"PGFLOW_CONFIG": str(path)}) == 22


def test_empty_is_unset(tmp_path: Path) -> None:
    write_file(tmp_path / "pgflow.toml", "lease_seconds = 14\nqueue = []\n")
    assert value(variables={LEASE: ""}) == 14
    assert value(setting=WORK["queue"]) == ["default"]


@pytest.mark.parametrize("word", ["1", "true", "yes", "on", "TRUE", "On"])
def test_words_that_switch_on(word: str) -> None:
    assert value(setting=WORK["simulate"], variables={"PGFLOW_SIMULATE": word}) is True


@pytest.mark.parametrize("word", ["0", "false", "no", "off", "OFF", ""])
def test_words_that_switch_off(word: str) -> None:
    assert value(setting=WORK["simulate"], variables={"PGFLOW_SIMULATE": word}) is False


def test_a_list_has_commas_in_a_variable_and_is_a_list_in_a_file(
    tmp_path: Path,
) -> None:
    assert value(setting=WORK["queue"], variables={"PGFLOW_QUEUE": "a, b,a"}) == [
        "a",
        "b",
    ]
    assert value("-q", "a,b", "-q", "c", setting=WORK["queue"]) == ["a", "b", "c"]
    assert value("-q", "*", setting=WORK["queue"]) == ["*"]
    write_file(tmp_path / "pgflow.toml", 'queue = ["x", "y"]\n')
    assert value(setting=WORK["queue"]) == ["x", "y"]


def test_the_variable_of_the_reap_interval_counts_milliseconds() -> None:
    variables = {"PGFLOW_REAP_INTERVAL_MS": "2500"}
    assert value(setting=WORK["reap_interval"], variables=variables) == 2.5
    assert value("--reap-interval", "2s", setting=WORK["reap_interval"]) == 2.0


def test_the_variables_of_retention_count_days_and_take_no_unit() -> None:
    days = "ARCHIVE_SUCCEEDED_AFTER_DAYS"
    assert value(setting=work.archive_after) == 7 * 86_400
    assert value(setting=work.archive_after, variables={days: "3"}) == 3 * 86_400
    assert value("--archive-after", "12h", setting=work.archive_after) == 43_200
    result = run("show", commands=[showing(work.archive_after)], variables={days: "5m"})
    assert result.exit_code == 78, "not five months, nor 5md"
    assert "counts days" in result.stderr


def test_a_filter_has_no_variable() -> None:
    assert (
        value(setting=common.queue_name, variables={"PGFLOW_QUEUE": "emails"}) is None
    )


def test_variables_without_a_flag_have_values(tmp_path: Path) -> None:
    write_file(tmp_path / "pgflow.toml", "max_payload_bytes = 1000\n")
    seen: list[object] = []

    def look() -> None:
        seen.extend(
            [
                common.max_payload_bytes.value(),
                common.max_enqueue_per_minute.value(),
            ]
        )

    assert run("call", commands=[calling(look)]).exit_code == 0
    assert seen == [1000, 0]


BAD = [
    (WORK["lease_seconds"], LEASE, CANARY),
    (WORK["lease_seconds"], LEASE, "0"),
    (WORK["lease_seconds"], LEASE, "1.5"),
    (WORK["lease_seconds"], LEASE, "99999999999999999999"),
    (WORK["concurrency"], "PGFLOW_CONCURRENCY", "-1"),
    (WORK["concurrency"], "PGFLOW_CONCURRENCY", "8 8"),
    (WORK["shutdown_timeout"], "PGFLOW_SHUTDOWN_TIMEOUT", CANARY),
    (WORK["shutdown_timeout"], "PGFLOW_SHUTDOWN_TIMEOUT", "2d"),
    (WORK["reap_interval"], "PGFLOW_REAP_INTERVAL_MS", "5s"),
    (WORK["simulate"], "PGFLOW_SIMULATE", CANARY),
    (WORK["queue"], "PGFLOW_QUEUE", f"../{CANARY}"),
    (WORK["worker_id"], "PGFLOW_WORKER_ID", f"a b{CANARY}"),
    (WORK["code_version"], "PGFLOW_CODE_VERSION", "x" * 129),
    (WORK["lease_seconds"], "PGFLOW_LOG_FORMAT", CANARY),
    (WORK["lease_seconds"], "PGFLOW_LOG_LEVEL", CANARY),
]


@pytest.mark.parametrize(("setting", "variable", "bad"), BAD)
def test_a_bad_variable_is_exit_78_and_named_but_not_shown(
    setting: Setting, variable: str, bad: str
) -> None:
    result = run("show", commands=[showing(setting)], variables={variable: bad})
    assert result.exit_code == 78
    assert variable in result.stderr
    assert "environment" in result.stderr
    assert len(bad) < 4 or bad not in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "text",
    [
        f'lease_seconds = "{CANARY}"',
        "lease_seconds = true",
        "lease_seconds = [1]",
        "lease_seconds = {a = 1}",
        "lease_seconds = 2026-11-23",
        "lease_seconds = nan",
    ],
)
def test_a_bad_value_of_a_file_is_exit_78(tmp_path: Path, text: str) -> None:
    write_file(tmp_path / "pgflow.toml", text)
    result = run("show", commands=[showing(WORK["lease_seconds"])])
    assert result.exit_code == 78
    assert "lease_seconds (pgflow.toml)" in result.stderr
    assert CANARY not in result.output


@pytest.mark.parametrize("bad", [CANARY, "0", "1.5", ""])
def test_a_bad_option_is_exit_2(bad: str) -> None:
    result = run(
        "show", "--lease-seconds", bad, commands=[showing(WORK["lease_seconds"])]
    )
    assert result.exit_code == 2
    assert "--lease-seconds" in result.stderr
    assert "a whole number from 1 to 86400" in result.stderr


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("pgflow.toml", f"leese_seconds = '{CANARY}'", "unknown key 'leese_seconds'"),
        ("pyproject.toml", "[tool.pgflow]\nq = 1", "unknown key 'q'"),
        ("pgflow.toml", f"lease_seconds = {CANARY}", "is not valid TOML (at line 1"),
        ("config/pgflow/config.toml", "[profile.x]\nnope = 1", "unknown key 'nope'"),
        ("config/pgflow/config.toml", "nope = 1", "unknown key 'nope'"),
        ("config/pgflow/config.toml", "[profile.y]", "no profile of the chosen name"),
        ("config/pgflow/config.toml", "profile.x = 1", "no profile of the chosen name"),
    ],
)
def test_a_wrong_file_is_exit_78(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    write_file(tmp_path / name, text)
    result = run(
        "show",
        commands=[showing(WORK["lease_seconds"])],
        variables={"PGFLOW_PROFILE": "x"} if "config" in name else None,
    )
    assert result.exit_code == 78
    assert says in result.stderr
    assert CANARY not in result.output


def test_a_file_that_is_not_utf8_is_exit_78(tmp_path: Path) -> None:
    (tmp_path / "pgflow.toml").write_bytes(b"a = '\xff'")
    result = run("show", commands=[showing(WORK["lease_seconds"])])
    assert result.exit_code == 78
    assert "pgflow.toml is not UTF-8" in result.stderr


@pytest.mark.parametrize("option", ["--env-file", "--config"])
def test_a_named_file_must_be_there(option: str) -> None:
    result = run("show", option, "missing", commands=[showing(WORK["lease_seconds"])])
    assert result.exit_code == 78
    assert "there is no file missing" in result.stderr


def test_global_options_go_before_and_after_the_command_and_the_inner_one_wins() -> (
    None
):
    command = showing(WORK["lease_seconds"])

    def given(*arguments: str) -> Any:
        result = run(*arguments, commands=[command])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["given"]

    assert given("--time", "unix", "show")["time"] == "unix"
    assert given("show", "--time", "unix")["time"] == "unix"
    assert given("--time", "iso", "show", "--time", "unix")["time"] == "unix"
    assert given("--timeout", "2m", "--quiet", "show")["timeout"] == 120.0
    assert given("--quiet", "show")["quiet"] is True
    assert given("show")["timeout"] == 30.0


def test_an_outer_option_beats_a_variable() -> None:
    result = run(
        "--log-level",
        "debug",
        "show",
        commands=[showing(WORK["lease_seconds"])],
        variables={"PGFLOW_LOG_LEVEL": "error"},
    )
    document = json.loads(result.stdout)
    assert document["given"]["log_level"] == "debug"
    assert document["origins"]["log_level"] == ["--log-level", "command line"]


# The URL of the database.

URL = f"postgres://app:{CANARY}@db:5432/app"


def test_the_url_comes_from_its_variable_or_its_option() -> None:
    assert (
        run("where", commands=[where], variables={"DATABASE_URL": URL}).stdout
        == f"{URL}\n"
    )
    nearer = run(
        "--database-url",
        "postgres:///b",
        "where",
        commands=[where],
        variables={"DATABASE_URL": URL},
    )
    assert nearer.stdout == "postgres:///b\n"


def test_the_url_may_be_in_a_file_that_is_stripped(tmp_path: Path) -> None:
    path = write_file(tmp_path / "url", f"\n {URL} \n")
    result = run("where", commands=[where], variables={"DATABASE_URL_FILE": str(path)})
    assert result.stdout == f"{URL}\n"
    assert result.stderr == ""


def test_a_file_others_can_read_is_warned_of(tmp_path: Path) -> None:
    path = write_file(tmp_path / "url", URL, 0o644)
    result = run("where", "--database-url-file", str(path), commands=[where])
    assert result.exit_code == 0
    assert f"chmod o-r {path}" in result.stderr
    assert CANARY not in result.stderr


def test_the_nearer_of_url_and_file_wins_and_the_url_at_one_level(
    tmp_path: Path,
) -> None:
    path = str(write_file(tmp_path / "url", "postgres:///of-the-file"))
    write_file(tmp_path / ".env", "DATABASE_URL=postgres:///of-env")
    by_variable = run("where", commands=[where], variables={"DATABASE_URL_FILE": path})
    assert by_variable.stdout == "postgres:///of-the-file\n"
    both = {"DATABASE_URL_FILE": path, "DATABASE_URL": URL}
    assert run("where", commands=[where], variables=both).stdout == f"{URL}\n"
    options = ("--database-url", URL, "--database-url-file", path)
    assert run("where", *options, commands=[where]).exit_code == 2


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_or_missing_file_is_exit_78(tmp_path: Path, text: str) -> None:
    path = write_file(tmp_path / "url", text)
    for name in (str(path), str(tmp_path / "missing")):
        result = run("where", "--database-url-file", name, commands=[where])
        assert result.exit_code == 78
        assert name in result.stderr


def test_without_a_url_there_are_three_ways_out() -> None:
    result = run("where", commands=[where])
    assert result.exit_code == 78
    assert "no database URL is set" in result.stderr
    for way in ("DATABASE_URL", "pgflow dev", "pgflow demo"):
        assert way in result.stderr


def test_a_dev_server_that_runs_here_is_named_among_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = "export DATABASE_URL=$(pgflow dev --print-url)"
    (tmp_path / ".pgflow").mkdir()
    assert way not in run("where", commands=[where]).stderr
    # Whether one runs is local_server's to find out, and tested there.
    monkeypatch.setattr(local, "running_url", lambda folder: f"postgres:///{folder}")
    result = run("where", commands=[where])
    assert result.exit_code == 78
    assert way in result.stderr


def test_a_profile_that_is_not_heeded_is_warned_of(tmp_path: Path) -> None:
    write_file(
        tmp_path / "config" / "pgflow" / "config.toml",
        "[profile.prod]\ndatabase_url = 'postgres://prod/app'\n",
    )
    alone = run("where", "--profile", "prod", commands=[where])
    assert (alone.stdout, alone.stderr) == ("postgres://prod/app\n", "")
    beside = run(
        "where", "--profile", "prod", commands=[where], variables={"DATABASE_URL": URL}
    )
    assert beside.stdout == f"{URL}\n"
    assert "DATABASE_URL (environment), not the profile" in beside.stderr


def test_the_url_dev_is_refused_where_it_is_not_development() -> None:
    result = run(
        "where",
        commands=[where],
        variables={"DATABASE_URL": "dev:", "PGFLOW_ENV": "prod"},
    )
    assert result.exit_code == 78
    assert "PGFLOW_ENV" in result.stderr


def test_a_heartbeat_longer_than_a_third_of_the_lease_is_exit_2() -> None:
    assert settings.heartbeat_seconds(9, None) == 3
    assert settings.heartbeat_seconds(9, 3.0) == 3
    with pytest.raises(UsageError):
        settings.heartbeat_seconds(9, 3.1)


def test_every_variable_is_named_for_its_flag_or_by_the_documents() -> None:
    own_names = {
        "DATABASE_URL",
        "DATABASE_URL_FILE",
        "PGFLOW_DEQUEUE_BATCH_SIZE",
        "PGFLOW_DB_MAX_CONNECTIONS",
        "PGFLOW_REAP_INTERVAL_MS",
        "PGFLOW_MIGRATE_ON_STARTUP",
        "PGFLOW_VERBOSE_JOB_LOGS",
        "ARCHIVE_SUCCEEDED_AFTER_DAYS",
        "PRUNE_HISTORY_AFTER_DAYS",
        "MAINTENANCE_INTERVAL_SECS",
        "PGFLOW_ADMIN_ADDR",
        "PGFLOW_PROBE_ADDR",
        "PGFLOW_ADMIN_INSECURE",
        "PGFLOW_ADMIN_READ_ONLY",
        "PGFLOW_ADMIN_HOSTS",
    }
    for setting in settings.ALL:
        if setting.flags and setting.variable and setting.variable not in own_names:
            assert setting.variable == f"PGFLOW_{setting.name.upper()}"


@pytest.mark.parametrize("setting", settings.ALL, ids=lambda setting: setting.name)
def test_bytes_that_are_not_utf8_are_refused_but_in_names_of_files(
    monkeypatch: pytest.MonkeyPatch, setting: Setting
) -> None:
    if setting.variable is None or setting.is_eager:  # those say what to read
        return
    monkeypatch.setenv(setting.variable, NOT_UTF8)
    session = Session(settings.VARIABLES)
    if setting.names_files:
        assert NOT_UTF8 in setting.look_up(session)
        return
    with pytest.raises(ConfigurationError, match=r"\(environment\) is not UTF-8"):
        setting.look_up(session)


def test_an_option_that_is_not_utf8_is_exit_2() -> None:
    result = run("show", "--as", NOT_UTF8, commands=[showing(common.actor)])
    assert result.exit_code == 2
    assert "it is not UTF-8" in result.stderr
    url = run("--database-url", f"postgres:///{NOT_UTF8}", "where", commands=[where])
    assert url.exit_code == 2


@pytest.mark.parametrize("variable", ["PGHOST", "PGOPTIONS", "PGUSER"])
def test_a_variable_of_libpq_that_is_not_utf8_is_exit_78(variable: str) -> None:
    variables = {"DATABASE_URL": URL, variable: NOT_UTF8}
    result = run("where", commands=[where], variables=variables)
    assert result.exit_code == 78
    assert f"{variable} (environment) is not UTF-8" in result.stderr


def test_a_password_and_a_file_of_libpq_may_have_any_bytes() -> None:
    variables = {"DATABASE_URL": URL, "PGPASSWORD": NOT_UTF8, "PGPASSFILE": NOT_UTF8}
    assert run("where", commands=[where], variables=variables).exit_code == 0


def test_a_file_of_the_url_with_a_second_line_is_exit_78_and_not_shown(
    tmp_path: Path,
) -> None:
    path = write_file(tmp_path / "url", f"{URL}\n{CANARY}\n")
    result = run("where", commands=[where], variables={"DATABASE_URL_FILE": str(path)})
    assert result.exit_code == 78
    assert "has several lines" in result.stderr
    assert CANARY not in result.output


def test_a_question_creates_no_server_for_the_url_dev(tmp_path: Path) -> None:
    variables = {"DATABASE_URL": f"dev:{tmp_path / 'none'}"}
    result = run("where", commands=[where], variables=variables)
    assert result.exit_code == 78
    assert "pgflow dev" in result.stderr
    assert not any(f.path.exists() for f in local.folders(tmp_path / "none"))
