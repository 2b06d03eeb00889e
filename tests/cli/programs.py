"""Programs with throw-away commands, for the tests of the machinery itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from pgflow_cli.cli import program as cli
from pgflow_cli.cli.context import command, pass_database, pass_repository
from pgflow_cli.cli.output import records
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.program import Program
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.option import Session, Setting


def run(
    *arguments: str,
    commands: Sequence[click.Command] = (),
    variables: Mapping[str, str] | None = None,
    typed: str | None = None,
) -> Result:
    """Run the program, or one that has these commands besides its own."""
    program = Program("pgflow", commands=commands) if commands else cli.program
    runner = CliRunner()
    return runner.invoke(
        program, arguments, env=dict(variables or {}), input=typed, prog_name="pgflow"
    )


def showing(*wanted: Setting) -> click.Command:
    """Make a command that prints its options, and where each came from, as JSON."""

    @command("show")
    def show(**options: Any) -> None:
        """Print what the command was given."""
        session = Session.current()
        places = {
            name: [found.key, found.origin] for name, found in session.origins.items()
        }
        document = {"options": options, "given": session.given, "origins": places}
        click.echo(json.dumps(document, default=str))

    for setting in wanted:
        setting(show.callback)
    memo = getattr(show.callback, "__click_params__", [])
    show.params[:0] = reversed(memo)
    return show


def raising(error: BaseException) -> click.Command:
    """Make a command that raises."""

    @command("fail")
    def fail() -> None:
        """Raise."""
        raise error

    return fail


def writing(
    rows: Sequence[Any], columns: Sequence[Column], **more: Any
) -> click.Command:
    """Make a command that writes rows."""

    @command("list")
    @common.list_options
    def list_() -> None:
        """Write rows."""
        records.write(iter(rows), columns, **more)

    return list_


def calling(function: Callable[[], Any]) -> click.Command:
    """Make a command that calls a function."""

    @command("call")
    def call() -> Any:
        """Call it."""
        return function()

    return call


@command("where")
@pass_database
def where(database: Any) -> None:
    """Print the URL of the database."""
    click.echo(database.url)


def write_file(path: Path, text: str, mode: int = 0o600) -> Path:
    """Write a file of a mode, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


@command("connect")
@pass_repository
def connecting(repository: Any) -> None:
    """Connect and print the schema's version."""
    click.echo(repository.schema.find_schema_version())
