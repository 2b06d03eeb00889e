"""One handler explains every error, with its exit code and without secrets."""

from __future__ import annotations

import stat
from pathlib import Path

import click
import pytest

from pgflow_cli import errors
from tests.cli.programs import calling, connecting, raising, run, where, write_file

CANARY = "Zx9canary"
CODES = [
    (errors.PgflowError, 1),
    (errors.UsageError, 2),
    (errors.NotFound, 3),
    (errors.Refused, 4),
    (errors.CheckFailed, 5),
    (errors.DatabaseUnavailable, 69),
    (errors.OutcomeUnknown, 69),
    (errors.SoftwareFault, 70),
    (errors.OutputFailed, 74),
    (errors.TryLater, 75),
    (errors.Contention, 75),
    (errors.PermissionDenied, 77),
    (errors.ConfigurationError, 78),
]


@pytest.mark.parametrize(("kind", "code"), CODES)
def test_an_error_is_told_with_its_hints_and_its_exit_code(
    kind: type[errors.PgflowError], code: int
) -> None:
    error = kind("the thing is not so", "Try: another thing")
    result = run("fail", commands=[raising(error)])
    assert result.exit_code == code
    assert result.stderr == "Error: the thing is not so\n  Try: another thing\n"
    assert result.stdout == ""


def test_debug_adds_the_traceback_before_and_after_the_command() -> None:
    command = raising(errors.NotFound("no such job"))
    for arguments in (("--debug", "fail"), ("fail", "--debug")):
        result = run(*arguments, commands=[command])
        assert result.exit_code == 3
        assert "Traceback (most recent call last)" in result.stderr
        assert result.stderr.endswith("Error: no such job\n")


def test_a_bug_saves_its_traceback_for_its_owner_only(tmp_path: Path) -> None:
    log = write_file(tmp_path / "state" / "pgflow" / "last-error.log", "older", 0o666)
    bug = RuntimeError(f"postgres://app:{CANARY}@db/app password={CANARY}")
    result = run("fail", commands=[raising(bug)])
    assert result.exit_code == 70
    assert str(log) in result.stderr
    assert "RuntimeError" in result.stderr
    text = log.read_text()
    assert "Traceback (most recent call last)" in text
    assert "older" not in text
    assert CANARY not in text + result.output
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_bug_whose_traceback_cannot_be_saved_is_told_all_the_same(
    tmp_path: Path,
) -> None:
    write_file(tmp_path / "state", "a file where the folder should be")
    result = run("fail", commands=[raising(ValueError("odd"))])
    assert result.exit_code == 70
    assert "ValueError: odd" in result.stderr


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound(f"cannot read postgres://u:{CANARY}@h/d", f"password={CANARY}"),
        click.UsageError(f"what is postgres://u:{CANARY}@h/d"),
    ],
)
def test_no_error_shows_a_password(error: Exception) -> None:
    for debug in ((), ("--debug",)):
        result = run("fail", *debug, commands=[raising(error)])
        assert CANARY not in result.output
        assert "***" in result.output


def test_no_error_sends_control_characters() -> None:
    result = run("fail", commands=[raising(errors.NotFound("\x1b]0;x\x07\x9b"))])
    assert result.stderr == "Error: \\x1b]0;x\\x07\\x9b\n"


def test_an_interrupt_is_130() -> None:
    assert run("fail", commands=[raising(KeyboardInterrupt())]).exit_code == 130
    assert run("fail", commands=[raising(click.Abort())]).exit_code == 130


def test_a_broken_pipe_is_silent() -> None:
    result = run("fail", commands=[raising(BrokenPipeError(32, "Broken pipe"))])
    assert (result.exit_code, result.stderr) == (141, "")


def test_a_command_may_return_its_exit_code() -> None:
    assert run("call", commands=[calling(lambda: 5)]).exit_code == 5
    assert run("call", commands=[calling(lambda: None)]).exit_code == 0
    assert run("call", commands=[calling(lambda: True)]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("wrok",), "Did you mean work?"),
        (("xyzzy",), "there is no command 'xyzzy'"),
        (("version", "--qiet"), "--quiet"),
        (("--otput", "json", "version"), "--output"),
        (("version", "-o", "yaml"), "'yaml' is not one of"),
        (("version", "surplus"), "unexpected extra argument"),
        (("version", "--timeout", "5"), "a duration from 1ms to 1d"),
    ],
)
def test_a_usage_error_is_exit_2_and_names_the_way(
    arguments: tuple[str, ...], says: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert "--help" in result.stderr
    assert result.stdout == ""


def test_a_group_without_arguments_shows_its_help_on_stderr() -> None:
    result = run()
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: pgflow")
    assert result.stdout == ""


def test_a_url_that_cannot_be_read_is_exit_78_and_not_repeated() -> None:
    result = run(
        "connect",
        "--debug",
        commands=[connecting],
        variables={"DATABASE_URL": f"postgres://app:{CANARY}%zz@db:5432/app"},
    )
    assert result.exit_code == 78
    assert CANARY not in result.output


def test_an_unreachable_server_is_tried_again_within_the_timeout(
    tmp_path: Path,
) -> None:
    result = run(
        "connect",
        "--connect-timeout",
        "300ms",
        commands=[connecting],
        variables={"DATABASE_URL": f"postgres://app:{CANARY}@/app?host={tmp_path}"},
    )
    assert result.exit_code == 69
    assert "tried 3 times in 0s" in result.stderr
    assert "No such file or directory" in result.stderr
    assert f"app@{tmp_path}:5432/app" in result.stderr
    assert CANARY not in result.output


def test_the_folder_of_the_state_defaults_to_the_home(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home"), "XDG_STATE_HOME": ""}
    result = run("fail", commands=[raising(ValueError("odd"))], variables=home)
    assert result.exit_code == 70
    assert (tmp_path / "home/.local/state/pgflow/last-error.log").is_file()


def test_where_is_not_connected() -> None:
    variables = {"DATABASE_URL": "postgres://nowhere.invalid/app"}
    assert run("where", commands=[where], variables=variables).exit_code == 0
