"""Every command explains itself, quickly, and shows nothing of the environment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pgflow_cli.cli import program as cli
from pgflow_cli.cli import settings
from pgflow_cli.cli.settings import work
from tests.cli.programs import run, showing

CANARY = "Zx9canary"
HEAVY = {"psycopg", "rich", "tabulate", "werkzeug", "waitress", "prometheus_client"}


def every_command() -> Iterator[tuple[str, ...]]:
    """Name every command and sub-command there is."""
    yield ()
    for name in cli.COMMANDS:
        yield from below((name,), found((name,)))


def below(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from below((*path, name), inner)


def found(path: tuple[str, ...]) -> click.Command:
    command: click.Command = cli.program
    for name in path:
        assert isinstance(command, click.Group)
        inner = command.get_command(click.Context(command), name)
        assert inner is not None
        command = inner
    return command


@pytest.fixture(params=list(every_command()), ids=" ".join)
def path(request: pytest.FixtureRequest) -> tuple[str, ...]:
    words: tuple[str, ...] = request.param
    return words


def test_every_help_has_an_example_and_fits_80_columns(path: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        result = run(*path, flag)
        assert result.exit_code == 0
        assert "\nExample" in result.stdout or "\n  Example" in result.stdout
        assert f"pgflow {' '.join(path)}".strip() in result.stdout
        too_wide = [line for line in result.stdout.splitlines() if len(line) > 80]
        assert not too_wide


def test_every_option_has_a_help_text_and_names_its_variable(
    path: tuple[str, ...],
) -> None:
    text = " ".join(run(*path, "--help").stdout.split())
    for parameter in found(path).params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.opts
            assert parameter.opts[-1] in text
            setting = getattr(parameter, "setting", None)
            if setting is not None and setting.variable:
                assert f"[{setting.variable}]" in text


def test_no_help_shows_a_value_of_the_environment(path: tuple[str, ...]) -> None:
    variables = dict.fromkeys(settings.VARIABLES, CANARY)
    result = run(*path, "--help", variables=variables)
    assert result.exit_code == 0
    assert CANARY not in result.output


def test_the_options_of_work_are_explained() -> None:
    result = run("show", "--help", commands=[showing(*work.WORK.settings)])
    text = " ".join(result.stdout.split())
    for setting in work.WORK.settings:
        assert setting.flags[0].replace("/", " / ") in text
        if setting.variable:
            assert f"[{setting.variable}]" in text
    assert "[default: 8]" in text
    assert "[default: hostname-pid]" in text
    assert "[default: listen]" in text


def test_every_listed_command_loads_and_its_summary_fits_a_line() -> None:
    for name, summary in cli.COMMANDS.items():
        assert found((name,)).name == name
        assert summary.endswith(".")
        assert len(f"  {name:10}  {summary}") <= 80


def test_every_module_of_commands_is_listed() -> None:
    folder = Path(cli.__file__).parents[1] / "commands"
    modules = {path.stem.replace("_", "-") for path in folder.glob("*.py")}
    assert modules - {"--init--"} == set(cli.COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    """In one process: what one of them has loaded stays, and is named with it."""
    calls = [
        ["--help"],
        ["--version"],
        [],
        ["nonsense"],
        *([*path, "--help"] for path in every_command() if path),
    ]
    program = f"""
import sys
from pgflow_cli.cli.program import program
for arguments in {calls!r}:
    try:
        program(arguments, prog_name="pgflow")
    except SystemExit:
        pass
    loaded = {{name.split(".")[0] for name in sys.modules}}
    assert "click" in loaded
    assert not loaded & {HEAVY!r}, (arguments, loaded & {HEAVY!r})
print("ALL", {len(calls)})
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith(f"ALL {len(calls)}\n")


def test_the_version_of_the_program() -> None:
    for arguments in (("--version",), ("-V",), ("version", "-V")):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (0, "pgflow 0.1.0\n")
