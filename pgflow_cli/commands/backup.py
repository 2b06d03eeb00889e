"""Take a backup that is proven."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli.changes import Change, change_options
from pgflow_cli.cli.context import command, pass_database
from pgflow_cli.cli.output import messages, records, reports, terminal
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.option import (
    OptionGroup,
    build,
    declared,
    option,
)
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


@dataclass(frozen=True)
class BackupOptions:
    """What `pgflow backup` was told, but for the file."""

    dump_format: str = option(
        "--format",
        "dump_format",
        type=Choice(("custom", "plain", "directory")),
        default="custom",
        show_default=True,
        help="What pg_dump writes.",
    )
    jobs: int = option(
        "--jobs",
        type=Number(1, 64),
        default=1,
        show_default=True,
        help="Dump so many tables at once; needs --format directory.",
    )
    compress: int | None = option(
        "--compress", type=Number(0, 9), help="How much to compress."
    )
    schema_only: bool = option("--schema-only", is_flag=True, help="No rows.")
    data_only: bool = option("--data-only", is_flag=True, help="Only rows.")
    exclude_archive: bool = option(
        "--exclude-archive", is_flag=True, help="Leave out archived jobs."
    )
    only_pgflow: bool = option(
        "--only-pgflow", is_flag=True, help="Only schema pgflow."
    )
    keep: int | None = option(
        "--keep",
        type=Number(1, 10_000),
        metavar="N",
        help="Afterwards remove all but the newest N of this database.",
    )
    verify: str = option(
        "--verify",
        type=Choice(("list", "restore", "off")),
        default="list",
        show_default=True,
        help="Read its list, or restore it elsewhere and compare every row.",
    )
    pg_dump: Path | None = option(
        "--pg-dump",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="The pg_dump to use, not the first that is new enough.",
    )
    max_runtime: float | None = option(
        "--max-runtime", type=Duration(0.1), help="Give up after so long."
    )
    no_record: bool = option(
        "--no-record", is_flag=True, help="Do not remember it in the database."
    )
    pg_bin: Path | None = declared(common.pg_bin)


@command("backup")
@click.argument("file", required=False, metavar="[FILE|-]")
@OptionGroup(BackupOptions)
@change_options(preview=False, yes=False)
@pass_database
def backup(
    database: Database, file: str | None, change: Change, options: BackupOptions
) -> None:
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

    to_stdout = file == "-"
    wanted = _wanted(file, options)
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


def _wanted(file: str | None, options: BackupOptions) -> Wanted:
    from pgflow_cli.backups import Wanted

    verify = options.verify
    if options.schema_only and options.data_only:
        raise UsageError("--schema-only and --data-only exclude each other")
    if options.jobs > 1 and options.dump_format != "directory":
        raise UsageError("--jobs needs --format directory")
    if options.data_only and verify == "restore":
        raise UsageError("rows alone cannot be restored: try --verify list")
    if file == "-":
        _require_stdout(options)
        verify = "off"
    content = "schema" if options.schema_only else "all"
    return build(
        Wanted,
        options,
        path=None if file in (None, "-") else Path(file),
        format=options.dump_format,
        content="data" if options.data_only else content,
        verify=verify,
        record=not options.no_record,
    )


def _require_stdout(options: BackupOptions) -> None:
    if options.dump_format == "directory":
        raise UsageError("a directory cannot go to stdout")
    if options.verify == "restore" or options.keep:
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
