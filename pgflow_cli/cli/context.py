"""Hands each command the global options, the database, an open repository."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from pgflow_cli.cli import settings
from pgflow_cli.cli.output import terminal
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.database import database_url, require_connection_text
from pgflow_cli.cli.settings.option import Session, require_text
from pgflow_cli.errors import DatabaseUnavailable, TooSlow, Unadmitted

if TYPE_CHECKING:
    from pgflow_cli.repository import Database, Repository

_SHORTEST_CONNECT = 2.0  # libpq's own least
_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 80}


class _BaseCommand(click.Command):
    """A command with the global options; they are listed by `pgflow --help` only."""

    hide_global_options = True
    reads_settings = True

    def __init__(self, *args: Any, **attributes: Any) -> None:
        attributes["context_settings"] = {
            **_HELP,
            **(attributes.get("context_settings") or {}),
        }
        super().__init__(*args, **attributes)
        own = {
            flag
            for param in self.params
            for flag in (*param.opts, *param.secondary_opts)
        }
        for setting in common.GLOBAL:
            if not own.intersection(setting.flags):
                self.params.append(setting.option(hidden=self.hide_global_options))
        self.params.append(_version_option(hidden=self.hide_global_options))

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Make the context; the outermost one begins the session."""
        if parent is None:
            extra.setdefault("obj", Session(settings.VARIABLES))
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what was typed; some commands must work whatever the files say."""
        session = ctx.find_object(Session)
        if session is not None and not self.reads_settings:
            session.ignores_sources = True
        rest = super().parse_args(ctx, args)
        for parameter in self.params:  # a setting has looked at its own by now
            require_text(ctx, parameter, ctx.params.get(str(parameter.name)))
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with its output set up as the global options say."""
        session = ctx.find_object(Session)
        if session is not None and not isinstance(self, click.Group):
            _display(session).keep(ctx)
            ctx.color = terminal.colored(
                sys.stdout, session.given.get("color") or "auto"
            )
        return super().invoke(ctx)

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the command's own options; a line points to the others."""
        super().format_options(ctx, formatter)
        if self.hide_global_options:
            with formatter.section("Global options"):
                formatter.write_text(
                    "-o/--output, --database-url [DATABASE_URL], --quiet, --debug and"
                    " the others that `pgflow --help` lists go here, too."
                )


class Command(_BaseCommand):
    """A command of pgflow."""


class SettingsFreeCommand(Command):
    """A command that works whatever variables and files say: it explains them."""

    reads_settings = False


class Group(_BaseCommand, click.Group):
    """A group of commands; without arguments its help goes to stderr, exit 2."""

    command_class = Command


class GroupWithDefault(Group):
    """A group whose arguments belong to one command unless they name another."""

    def __init__(self, *args: Any, default: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command where the name of a command should stand."""
        place = self._first_word(args)
        known = {*self.commands, *ctx.help_option_names, "-V", "--version"}
        if not known.intersection(args[place : place + 1]):
            args.insert(place, self.default)
        return super().parse_args(ctx, args)

    def _first_word(self, args: list[str]) -> int:
        """Return the place of the first word that is none of the global options'."""
        takes_a_value = {
            flag: not getattr(option, "is_flag", False) and option.nargs == 1
            for option in self.params
            for flag in option.opts
            if flag not in ("-V", "--version")
        }
        place = 0
        while place < len(args):
            flag, equals, _ = args[place].partition("=")
            if flag not in takes_a_value:
                break
            place += 2 if takes_a_value[flag] and not equals else 1
        return place


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a command; its docstring is the help."""
    attributes.setdefault("cls", Command)
    return click.command(name, **attributes)


def group(
    name: str, *, default: str | None = None, **attributes: Any
) -> Callable[[Callable[..., Any]], Group]:
    """Make a function a group of commands; `default` is what it does without a name."""
    if default is not None:
        return click.group(name, cls=GroupWithDefault, default=default, **attributes)
    return click.group(name, cls=Group, **attributes)


def database(url: str | None = None) -> Database:
    """Return where the database is and how long to wait for it, not connected."""
    from pgflow_cli.repository import Database

    if url is None:
        url = database_url()
    require_connection_text()
    return Database(
        url,
        connect_timeout=settings.given("connect_timeout"),
        statement_timeout=settings.given("timeout"),
    )


@contextmanager
def open_repository(*, tries: int = 3) -> Iterator[Repository]:
    """Hand out a repository that is connected, and close it afterwards."""
    repository = _connected(database(), tries)
    try:
        yield repository
    finally:
        repository.close()


def pass_repository(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call the command with an open repository first, closed afterwards.

    Raises ConfigurationError if the schema is older than this program.
    """
    return _with_repository(function, any_schema=False)


def pass_any_repository(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call the command as `pass_repository` does, whatever version the schema has.

    For `enqueue`, which takes one round trip, and for a database that was restored
    (`fence`) or is to be migrated.
    """
    return _with_repository(function, any_schema=True)


def _with_repository(
    function: Callable[..., Any], *, any_schema: bool
) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        from pgflow_cli.maintenance import migrations

        with open_repository() as repository:
            if not any_schema:
                migrations.require_current(repository)
            return function(repository, *args, **options)

    return wrapped


def pass_database(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call the command with the database first, not connected."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        return function(database(), *args, **options)

    return wrapped


def _connected(wanted: Database, tries: int) -> Repository:
    """Connect within --connect-timeout; the last reason is the one to tell."""
    from pgflow_cli.repository import Repository

    budget = wanted.connect_timeout
    began = time.monotonic()
    patience = replace(wanted, connect_timeout=max(_SHORTEST_CONNECT, budget / tries))
    for attempt in range(1, tries + 1):
        repository = Repository.of(patience)
        try:
            repository.link.raw()
        except TooSlow:
            raise  # the server answers: no other try would take less time
        except DatabaseUnavailable as error:
            took = time.monotonic() - began
            pause = attempt * budget / 5
            if attempt == tries or took + pause > budget:
                raise _unreachable(error, attempt, took) from None
            time.sleep(pause)
        else:
            repository.link.database = wanted
            return repository
    raise AssertionError("the last attempt returns or raises")


def _unreachable(
    error: DatabaseUnavailable, tries: int, took: float
) -> DatabaseUnavailable:
    often = "once" if tries == 1 else f"{tries} times"
    said = (
        "The server answers, but takes no connection"
        if isinstance(error, Unadmitted)
        else "The server is not reachable from this host"
    )
    tried = f"{said} (tried {often} in {took:.0f}s)."
    return type(error)(error.message, tried, *error.hints)


def _display(session: Session) -> terminal.Display:
    given = session.given
    columns = given.get("columns") or ""
    command = common.pager.value()
    return terminal.Display(
        format=given.get("output"),
        times=given.get("time"),
        color=given.get("color") or "auto",
        columns=tuple(name for name in columns.split(",") if name.strip()),
        headers=not given.get("no_headers"),
        sort=given.get("sort"),
        pager=None
        if given.get("no_pager") or command in ("off", "0", "no")
        else command,
        quiet=bool(given.get("quiet")),
        ask=not given.get("no_input"),
    )


def _version_option(*, hidden: bool) -> click.Option:
    def show(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            from importlib.metadata import version

            click.echo(f"pgflow {version('pgflow')}")
            ctx.exit()

    return click.Option(
        ["-V", "--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        hidden=hidden,
        callback=show,
        help="Print the version of the program and exit.",
    )
