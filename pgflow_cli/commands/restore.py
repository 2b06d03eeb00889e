"""Restore a backup, behind the fence."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from pgflow_cli.cli import changes, context
from pgflow_cli.cli.changes import Change, change_options
from pgflow_cli.cli.context import command
from pgflow_cli.cli.output import messages, records, terminal
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.option import OptionGroup, declared, option
from pgflow_cli.cli.settings.types import Number

if TYPE_CHECKING:
    from pgflow_cli.backups.restore import Source, Target
    from pgflow_cli.repository import Database


@dataclass(frozen=True)
class RestoreOptions:
    """What `pgflow restore` was told, but for the file."""

    into: str | None = option(
        "--into", metavar="URL", help="The database to restore into, not DATABASE_URL."
    )
    create: bool = option(
        "--create", is_flag=True, help="Make the database if there is none."
    )
    clean: bool = option(
        "--clean", is_flag=True, help="Replace what is there by what the dump holds."
    )
    jobs: int = option(
        "--jobs",
        type=Number(1, 64),
        default=1,
        show_default=True,
        help="Restore so many tables at once; then not in one transaction.",
    )
    only_list: bool = option(
        "--list", "only_list", is_flag=True, help="Only list what it holds."
    )
    no_owner: bool = option(
        "--no-owner", is_flag=True, help="Leave out owners and grants."
    )
    force: bool = option("--force", is_flag=True, help="Although workers live there.")
    confirm: str | None = option(
        "--confirm", metavar="NAME", help="The database's name; do not ask."
    )
    pg_dump: Path | None = option(
        "--pg-dump",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="Use the pg_restore and psql beside this pg_dump.",
    )
    pg_bin: Path | None = declared(common.pg_bin)


@command("restore")
@click.argument("file", metavar="FILE|-")
@OptionGroup(RestoreOptions)
@change_options(yes=False, reported=False)
def restore(file: str, change: Change, options: RestoreOptions) -> None:
    """Restore a backup, custom, directory or plain SQL, into a database.

    Checksum and manifest are compared if they stand beside it. Then the fence is up:
    nothing runs until `pgflow fence accept`. What a failed restore replaced is back.

    \b
    Examples:
      pgflow restore backups/app.dump --into postgres://db/app --create
      pgflow restore app.dump --clean --confirm app
      gunzip -c app.sql.gz | pgflow restore -
    """
    from pgflow_cli.backups import restore as restoring

    path = None if file == "-" else Path(file)
    with terminal.progress("comparing checksums", _size(path)) as advance:
        stdin = cast(BufferedReader, sys.stdin.buffer)
        source = restoring.inspect_source(path, stdin, advance)
    if options.only_list:
        _list(source, options)
        return
    database = context.database(options.into)
    target = restoring.inspect_target(database, create=options.create)
    restoring.require_restorable(target, clean=options.clean, force=options.force)
    clients = restoring.find_clients(
        source, target, pg_dump=options.pg_dump, pg_bin=options.pg_bin
    )
    source.dump.require_loadable(
        clients,
        server=target.version_number,
        jobs=options.jobs,
        owners=not options.no_owner,
    )
    _preview(source, database, target)
    if change.dry_run:
        changes.tell_dry_run(
            confirm=target.name if options.clean else None,
            place=database.display(),
            asks=options.clean,
        )
        return
    if options.clean:
        messages.confirm_name(
            "Replace schema pgflow, and what else the dump holds, in "
            f"{database.display()}",
            target.name,
            given=options.confirm,
        )
    done = restoring.restore(
        source,
        database,
        target,
        change.operator,
        clients_=clients,
        clean=options.clean,
        jobs=options.jobs,
        owners=not options.no_owner,
        say=messages.say,
    )
    compared = ", as the manifest says" if done.compared else ""
    messages.say(f"restored {done.rows:,} rows in {done.tables} tables{compared}")
    if done.fenced:
        messages.say("The fence is up: nothing runs before it is accepted.")
        messages.hint("Next: pgflow fence status  |  pgflow fence accept --dry-run")


def _size(path: Path | None) -> int | None:
    return path.stat().st_size if path is not None and path.is_file() else None


def _list(source: Source, options: RestoreOptions) -> None:
    from pgflow_cli.backups import restore as restoring

    found = restoring.find_clients(
        source, pg_dump=options.pg_dump, pg_bin=options.pg_bin
    )
    records.write_text(source.dump.contents(found))


def _preview(source: Source, database: Database, target: Target) -> None:
    manifest = source.manifest
    messages.say(f"{source.dump.name} ({source.dump.kind}) into {database.display()}")
    if manifest is None:
        messages.warn("no manifest or checksum stands beside it: nothing is compared")
    else:
        messages.say(
            f"of database {manifest.database}, {manifest.started_at[:19]} UTC, schema "
            f"{manifest.schema_version}, {sum(manifest.tables.values()):,} rows; its "
            "checksum is right"
        )
    if not target.exists:
        messages.say(f"database {target.name} is made first")
