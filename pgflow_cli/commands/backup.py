"""Take a backup that is proven."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgflow_cli.cli.changes import Change, change_options
from pgflow_cli.cli.context import command, pass_database
from pgflow_cli.cli.output import messages, records, reports, terminal
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.types import Choice, Duration, Number
from pgflow_cli.errors import UsageError

if TYPE_CHECKING:
    from pgflow_cli.backups import Taken, Wanted
    from pgflow_cli.repository import Database

TAKEN = (
    Column("path", "FILE"),
    Column("bytes", kind="number"),
    Column("rows", kind="number"),
    Column("verified"),
    Column("verified_on"),
    Column("schema_version", "SCHEMA", kind="number"),
    Column("server_version", "SERVER"),
    Column("pg_dump_version", "PG_DUMP"),
    Column("sha256"),
)


@command("backup")
@click.argument("file", required=False, metavar="[FILE|-]")
@click.option(
    "--format",
    "dump_format",
    type=Choice(("custom", "plain", "directory")),
    default="custom",
    show_default=True,
    help="What pg_dump writes.",
)
@click.option(
    "--jobs",
    type=Number(1, 64),
    default=1,
    show_default=True,
    help="Dump so many tables at once; needs --format directory.",
)
@click.option("--compress", type=Number(0, 9), help="How much to compress.")
@click.option("--schema-only", is_flag=True, help="No rows.")
@click.option("--data-only", is_flag=True, help="Only rows.")
@click.option("--exclude-archive", is_flag=True, help="Leave out archived jobs.")
@click.option("--only-pgflow", is_flag=True, help="Only schema pgflow.")
@click.option(
    "--keep",
    type=Number(1, 10_000),
    metavar="N",
    help="Afterwards remove all but the newest N of this database.",
)
@click.option(
    "--verify",
    type=Choice(("list", "restore", "off")),
    default="list",
    show_default=True,
    help="Read its list, or restore it elsewhere and compare every row.",
)
@click.option(
    "--pg-dump",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The pg_dump to use, not the first that is new enough.",
)
@click.option("--max-runtime", type=Duration(0.1), help="Give up after so long.")
@click.option("--no-record", is_flag=True, help="Do not remember it in the database.")
@common.pg_bin
@change_options(preview=False, yes=False)
@pass_database
def backup(database: Database, change: Change, **options: Any) -> None:
    """Take a backup: dumped, counted, checked, and only then under its name.

    It goes to backups/DATABASE-TIME.dump, its manifest and its checksum beside it. With
    --verify restore it is restored into a scratch server and every row compared.

    \b
    Examples:
      pgflow backup --verify restore --keep 7
      pgflow backup --format directory --jobs 4 /srv/backups/app
      pgflow backup - | ssh vault 'cat > app.dump'
    """
    from pgflow_cli import backups

    wanted = _wanted(options)
    to_stdout = wanted.path is None and options["file"] == "-"
    teller = backups.Teller(
        messages.say, messages.warn, messages.hint, terminal.progress
    )
    taken = backups.take(
        replace(database, application_name="pgflow backup"),
        wanted,
        change.operator,
        teller,
        stdout=sys.stdout.buffer if to_stdout else None,
    )
    _tell(taken, to_stdout=to_stdout)


def _wanted(options: dict[str, Any]) -> Wanted:
    from pgflow_cli.backups import Wanted

    chosen, file, verify = options["dump_format"], options["file"], options["verify"]
    if options["schema_only"] and options["data_only"]:
        raise UsageError("--schema-only and --data-only exclude each other")
    if options["jobs"] > 1 and chosen != "directory":
        raise UsageError("--jobs needs --format directory")
    if options["data_only"] and verify == "restore":
        raise UsageError("rows alone cannot be restored: try --verify list")
    if file == "-":
        _require_stdout(chosen, options)
        verify = "off"
    content = "schema" if options["schema_only"] else "all"
    return Wanted(
        path=None if file in (None, "-") else Path(file),
        format=chosen,
        content="data" if options["data_only"] else content,
        verify=verify,
        pg_bin=Path(options["pg_bin"]) if options["pg_bin"] else None,
        record=not options["no_record"],
        **{name: options[name] for name in _PASSED_ON},
    )


_PASSED_ON = (
    "jobs",
    "compress",
    "exclude_archive",
    "only_pgflow",
    "keep",
    "pg_dump",
    "max_runtime",
)


def _require_stdout(chosen: str, options: dict[str, Any]) -> None:
    if chosen == "directory":
        raise UsageError("a directory cannot go to stdout")
    if options["verify"] == "restore" or options["keep"]:
        raise UsageError("--verify restore and --keep need a file")
    if terminal.is_terminal(sys.stdout):
        raise UsageError("a dump does not belong on a terminal: name a file")


def _tell(taken: Taken, *, to_stdout: bool) -> None:
    manifest = taken.manifest
    rows = sum(manifest.tables.values())
    if to_stdout:
        messages.say(f"dumped {rows:,} rows, {manifest.bytes:,} bytes")
        return
    row = {name: getattr(manifest, name, None) for name in (c.field for c in TAKEN)}
    with reports.after(f"the backup is complete at {taken.path}", "its record"):
        records.write_record({**row, "path": taken.path, "rows": rows}, TAKEN)
    for path in taken.removed:
        messages.say(f"removed {path}")
    if manifest.verified != "restore":
        messages.hint(
            "Proven is a backup that was restored: pgflow backup --verify restore"
        )
