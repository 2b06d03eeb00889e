"""Verifies a backup by its table of contents, or by restoring it somewhere else."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pgflow_cli.backups.dump import Dump
from pgflow_cli.errors import CheckFailed, ConfigurationError
from pgflow_cli.local import LocalServer, find_binaries
from pgflow_cli.local.clients import Clients
from pgflow_cli.models.backups import TableDigest
from pgflow_cli.repository import Database, Repository

Say = Callable[[str], None]


def check_contents(dump: Dump, clients: Clients, expected: set[str]) -> None:
    """Raise `CheckFailed` unless the dump can be read and holds the tables' rows."""
    dump.require_complete()
    missing = expected - dump.tables_with_data(clients)
    if missing:
        raise CheckFailed(f"{dump.name} lacks the rows of {', '.join(sorted(missing))}")


def check_by_restoring(
    dump: Dump,
    clients: Clients,
    source: Database,
    digests: Mapping[str, TableDigest],
    *,
    server: int,
    pg_bin: Path | None,
    say: Say,
) -> str:
    """Restore the dump into a scratch database and compare every table with its source.

    Returns the place. Raises `CheckFailed` with the tables that differ.
    """
    with _scratch(source, server, pg_bin, say) as (scratch, where):
        dump.load(clients, scratch, server=server)
        with _opened(scratch) as repository:
            found = repository.backups.digest_schema()
    _compare(dump.name, digests, found)
    return where


def _compare(
    name: str, expected: Mapping[str, TableDigest], found: Mapping[str, TableDigest]
) -> None:
    differing = [
        f"{table}: {_rows(expected.get(table))} dumped, {_rows(found.get(table))} found"
        for table in sorted(expected.keys() | found.keys())
        if expected.get(table) != found.get(table)
    ]
    if differing:
        raise CheckFailed(
            f"{name} does not restore to what was dumped: {len(differing)} tables "
            "differ",
            *differing[:10],
        )


def _rows(digest: TableDigest | None) -> str:
    return "no table" if digest is None else f"{digest.rows:,} rows"


@contextmanager
def _scratch(
    source: Database, server: int, pg_bin: Path | None, say: Say
) -> Iterator[tuple[Database, str]]:
    """Yield an empty database: on a private server, or else on the server of the
    source.
    """
    major = server // 10000
    try:
        folder = find_binaries(pg_bin, version=major).folder
    except ConfigurationError:
        say(f"no PostgreSQL {major} can be started here: restoring beside the source")
        with _scratch_database(source) as scratch:
            yield scratch, f"a scratch database of {source.display()}"
        return
    with _opened(source) as repository:
        roles = repository.backups.list_role_names()
    with LocalServer(pg_bin=folder) as started:
        scratch = Database(started.url, application_name="pgflow backup")
        with _opened(scratch) as repository:
            repository.backups.create_roles(roles)
        yield scratch, f"a PostgreSQL {major} server of its own"


@contextmanager
def _scratch_database(source: Database) -> Iterator[Database]:
    name = f"pgflow_verify_{secrets.token_hex(6)}"
    with _opened(source) as repository:
        repository.backups.create_database(name)
        try:
            yield source.of_name(name)
        finally:
            repository.backups.drop_database(name)


@contextmanager
def _opened(database: Database) -> Iterator[Repository]:
    repository = Repository.of(database)
    try:
        yield repository
    finally:
        repository.close()
