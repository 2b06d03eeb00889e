"""The executable: its commands, each loaded when it is called, and its exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from pgflow_cli.cli import errors, settings, startup
from pgflow_cli.cli.context import Group
from pgflow_cli.cli.settings.option import Session
from pgflow_cli.telemetry import streams

SECTIONS = {
    "Core": {
        "migrate": "Bring the database's schema up to date.",
        "work": "Lease and run jobs.",
        "serve-admin": "Serve the HTTP API, the operators' page and the metrics.",
        "maintain": "Archive, prune, reap: what the tables need from time to time.",
        "enqueue": "Add jobs to a queue.",
        "dlq": "Look at dead letters, export them, discard them.",
        "replay": "Run dead letters again, as new jobs.",
        "explain": "Explain why a job is where it is.",
        "backup": "Take a backup that is proven.",
    },
    "Inspect": {
        "jobs": "List jobs, wait for them, cancel them, run them now.",
        "queues": "See queues, limit them, pause them, empty them.",
        "workers": "See worker processes, empty one, forget dead ones.",
        "decisions": "See what policies held back and what the gate refused.",
        "metrics": "Print the metrics of every queue, also for Prometheus.",
        "top": "Watch queues, workers and the database.",
        "timeline": "Tell what happened to a job.",
    },
    "Operate": {
        "doctor": "Find what is wrong with a database, its jobs and their upkeep.",
        "health": "Say whether a worker, the database or a server is well.",
        "fence": "Keep a restored database from running finished work again.",
        "restore": "Restore a backup, behind the fence.",
        "config": "See which settings are in force and where they come from.",
        "audit": "See what operators have changed.",
    },
    "Try": {
        "demo": "Show pgflow at work on a private server, and leave nothing behind.",
        "dev": "Run a private server and a worker in this folder.",
    },
    "Meta": {
        "completion": "Print or install what a shell needs to complete names.",
        "help": "Explain a command, or a topic that concerns all of them.",
        "version": "Print the versions of everything that takes part.",
    },
}
EXIT_CODES = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused, 5 check failed,"
    " 69 database unavailable, 70 bug, 74 i/o, 75 try later, 77 permission,"
    " 78 configuration, 130 and 143 signals."
)
COMMANDS = {
    name: summary for section in SECTIONS.values() for name, summary in section.items()
}


class Program(Group):
    """A group whose commands are modules, each loaded when it is called."""

    hide_global_options = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command, in the order of the help."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command: `foo-bar` is `foo_bar` in commands/foo_bar.py."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        name = cmd_name.replace("-", "_")
        loaded: click.Command = getattr(
            import_module(f"pgflow_cli.commands.{name}"), name
        )
        return loaded

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands before the many options."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands without loading one."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the ones that are spelled alike."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            # Not at the top: every start would pay a millisecond for a rare mistake.
            from difflib import get_close_matches

            alike = get_close_matches(args[0], self.list_commands(ctx))
            meant = f" Did you mean {' or '.join(alike)}?" if alike else ""
            ctx.fail(f"there is no command {args[0]!r}.{meant}")
        name, found, rest = super().resolve_command(ctx, args)
        startup.heed_signals(name, rest)
        return name, found, rest

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Make the context, which may already print help."""
        with errors.pipes_told_apart():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with errors.pipes_told_apart():
            return super().invoke(ctx)

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run the program and end it with the documented exit code."""
        session = Session(settings.VARIABLES, arguments=_typed(*args, **extra))
        for stream in (sys.stdout, sys.stderr):
            streams.make_robust(stream)
        if "_PGFLOW_COMPLETE" in os.environ:
            # Only a shell sets it: every other start does without this module.
            import_module("pgflow_cli.cli.completion").register()
        try:
            extra.update(standalone_mode=False, obj=session)
            result = super().main(*args, **extra)
            sys.stdout.flush()
            code = result if type(result) is int else 0
        except BaseException as error:
            code = errors.explain(error, session.given)
        sys.exit(code)


def _typed(args: Sequence[str] | None = None, **_extra: Any) -> tuple[str, ...]:
    """Return the arguments that click is about to parse."""
    return tuple(sys.argv[1:] if args is None else args)


@click.group("pgflow", cls=Program, epilog=EXIT_CODES)
def program() -> None:
    """Operate pgflow, a PostgreSQL job queue, from a terminal.

    \b
    Examples:
      pgflow demo
      pgflow enqueue email_send '{"to": "a@example.org"}'
      pgflow explain 9c41e07b
    """


def main() -> None:
    """Run `pgflow`."""
    program(prog_name="pgflow")
