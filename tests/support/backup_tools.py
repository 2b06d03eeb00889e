"""What the tests of backups share: digests, a slow pg_dump, dumps made by hand."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from pgflow_cli.local import clients
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository
from tests.support import executable
from tests.support.jobs import plant
from tests.support.servers import Database, Server

Connection = psycopg.Connection[Any]

# What a backup or a restore writes into the database itself.
THEIR_OWN = {"operator_actions", "backups", "database_identity"}


def digests(database: Database) -> dict[str, Any]:
    """Return rows and hashes of every table but those that backups write to."""
    repository = Repository.of(DatabaseSettings(database.url))
    found = repository.backups.digest_schema()
    repository.close()
    return {name: each for name, each in found.items() if name not in THEIR_OWN}


def found_clients(server: Server) -> clients.Clients:
    """Return client programs that are new enough for the tests' server."""
    return clients.find(server.version * 10000)


def slow_pg_dump(
    folder: Path, real: clients.Clients, *, before: str = "", after: str = ""
) -> Path:
    """Make a pg_dump that runs shell commands before and after the real one.

    `$OUT` is where it writes to; the real one's neighbours stand beside it.
    """
    folder.mkdir()
    for name in ("pg_restore", "psql"):
        (folder / name).symlink_to(real.folder / name)
    script = folder / "pg_dump"
    script.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = --version ]; then exec {real.pg_dump} --version; fi\n'
        'OUT=; for word in "$@"; do case $word in --file=*) OUT=${word#--file=};; esac;'
        "done\n"
        f'{before}\n{real.pg_dump} "$@"\ncode=$?\n{after}\nexit $code\n'
    )
    script.chmod(0o755)
    return script


def dump_plain(real: clients.Clients, database: Database, *options: str) -> bytes:
    """Dump a database as the runbook does: pg_dump DATABASE > file."""
    command = [str(real.pg_dump), database.url, *options]
    return subprocess.run(command, check=True, capture_output=True).stdout


def take(
    server: Server, template: Database, folder: Path, *, jobs: int
) -> dict[str, Any]:
    """Take a backup `a.dump` of a database with jobs; return its digests."""
    name = f"{template.name}_backed_up"
    with another(server, name, template=template.name) as made:
        plant(made.connect(), jobs)
        done = executable.fork(
            *("backup", "a.dump", "--no-record"),
            environment={**os.environ, "DATABASE_URL": made.url},
            folder=folder,
            input=None,
        )
        assert done.returncode == 0, done.stderr
        return digests(made)


@contextmanager
def another(
    server: Server, name: str, template: str = "template0"
) -> Iterator[Database]:
    """An empty database, or a copy of one; it is gone afterwards."""
    made = server.create(name, template=template)
    try:
        yield made
    finally:
        server.drop(made)
