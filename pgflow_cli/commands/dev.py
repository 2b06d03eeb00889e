"""Run a private server and a worker in this folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli.context import Group
from pgflow_cli.cli.output import messages, records
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.database import DEV_FOLDER
from pgflow_cli.errors import ConfigurationError

if TYPE_CHECKING:
    from pgflow_cli.local import Folder

STATUS = (
    Column("running"),
    Column("version"),
    Column("pid"),
    Column("owner"),
    Column("data"),
    Column("log"),
)


class WithDefault(Group):
    """A group that runs its command `run` unless another one is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` before what belongs to it."""
        named = args and (args[0] in self.commands or args[0] in ("-h", "--help"))
        return super().parse_args(ctx, args if named else ["run", *args])

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the options of `run`, then the other commands."""
        click.Command.format_options(self.commands["run"], ctx, formatter)
        self.format_commands(ctx, formatter)


def _data_dir(_ctx: click.Context, _param: click.Parameter, given: Path | None) -> Path:
    return given or DEV_FOLDER


data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    callback=_data_dir,
    show_default=str(DEV_FOLDER),
    help="Where the data are.",
)
user = click.option(
    "--user", is_flag=True, help="Use the data of your account, not of this folder."
)


@click.group("dev", cls=WithDefault)
def dev() -> None:
    """Run a private PostgreSQL, a worker and the admin page, until Ctrl-C.

    The server is reached by this user only, ends with this command and keeps its data
    in .pgflow. Where one runs already, this attaches to it.

    \b
    Examples:
      pgflow dev --app myapp.jobs
      export DATABASE_URL=$(pgflow dev --print-url)
      pgflow dev stop
    """


@dev.command("run", hidden=True)
@common.app
@data_dir
@user
@click.option("--ephemeral", is_flag=True, help="Fast, and forget the data at the end.")
@click.option("--no-worker", is_flag=True, help="Only the server.")
@click.option("--no-admin", is_flag=True, help="Neither the admin API nor its page.")
@click.option("--print-url", is_flag=True, help="Print the running server's URL.")
@common.pg_bin
def run(
    app: tuple[str, ...],
    data_dir: Path,
    pg_bin: Path | None,
    *,
    user: bool,
    ephemeral: bool,
    no_worker: bool,
    no_admin: bool,
    print_url: bool,
) -> int:
    """Run a private PostgreSQL and a worker in this folder, until Ctrl-C.

    \b
    Examples:
      pgflow dev --app myapp.jobs
    """
    from pgflow_cli.local import AlreadyRunning, LocalServer, find_running
    from pgflow_cli.local import dev as dev_server

    where = _chosen(data_dir, user=user)
    if print_url:
        click.echo(_running(where).url())
        return 0
    elsewhere = "" if where == DEV_FOLDER else f" --data-dir {where}"
    messages.hint(
        f"Elsewhere: export DATABASE_URL=$(pgflow dev --print-url{elsewhere})"
    )
    server = LocalServer(where, ephemeral=ephemeral, pg_bin=pg_bin, say=messages.say)

    def worker_options() -> list[str]:
        apps = [word for each in app for word in ("--app", each)]
        return [*apps, "--admin", "off" if no_admin else _free_address()]

    found = find_running(where)
    if found is None:
        try:
            worker = None if no_worker else worker_options
            return dev_server.run(server, worker, say=messages.say)
        except AlreadyRunning:
            found = _running(where)
    dev_server.follow(found, say=messages.say)
    return 0


def _free_address() -> str:
    """Return where the page goes: the usual port, or any, if that one is taken."""
    host, port = "127.0.0.1", 3003
    with socket.socket() as tried:
        taken = tried.connect_ex((host, port)) == 0
    return f"{host}:{0 if taken else port}"


@dev.command("stop")
@data_dir
@user
def stop(data_dir: Path, user: bool) -> None:
    """Stop the server and the worker, after the jobs that run.

    \b
    Examples:
      pgflow dev stop
    """
    from pgflow_cli.local import dev as dev_server

    stopped = dev_server.stop(_chosen(data_dir, user=user))
    messages.say("stopped" if stopped else "no server runs here")


@dev.command("status")
@data_dir
@user
def status(data_dir: Path, user: bool) -> None:
    """Show whether a server runs, and where its files are.

    \b
    Examples:
      pgflow dev status -o json
    """
    from pgflow_cli import local

    where = _chosen(data_dir, user=user)
    folder = local.find_running(where) or local.folders(where)[0]
    records.write_record(folder.status(), STATUS)


@dev.command("psql", context_settings={"ignore_unknown_options": True})
@data_dir
@user
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(data_dir: Path, user: bool, arguments: tuple[str, ...]) -> None:
    """Open psql on the running server; further arguments are psql's.

    \b
    Examples:
      pgflow dev psql
      pgflow dev psql -- -c 'select * from pgflow.job_overview'
    """
    from pgflow_cli import local

    found = _running(_chosen(data_dir, user=user))
    command, variables = local.psql(found)
    os.execve(command[0], [*command, *arguments], {**os.environ, **variables})  # noqa: S606


@dev.command("reset")
@data_dir
@user
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def reset(data_dir: Path, user: bool, yes: bool) -> None:
    """Delete the data of a server that does not run.

    \b
    Examples:
      pgflow dev reset --yes
    """
    from pgflow_cli.local import dev as dev_server

    where = _chosen(data_dir, user=user)
    messages.confirm(f"delete the jobs and all data in {where}", yes=yes)
    deleted = dev_server.reset(where)
    messages.say(
        "\n".join(f"deleted the data in {path}" for path in deleted) or "no data"
    )


def _chosen(data_dir: Path, *, user: bool) -> Path:
    from pgflow_cli import local

    return local.user_folder() if user else data_dir


def _running(where: Path) -> Folder:
    from pgflow_cli import local

    found = local.find_running(where)
    if found is None:
        raise ConfigurationError(
            f"no server runs for {where}", "Start one in another terminal: pgflow dev"
        )
    return found
