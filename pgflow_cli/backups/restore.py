"""Restores a backup into a database, behind the fence."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pgflow_cli.backups.dump import Dump
from pgflow_cli.backups.manifest import check
from pgflow_cli.errors import (
    CheckFailed,
    ConfigurationError,
    NotFound,
    Refused,
    UnknownDatabase,
)
from pgflow_cli.local import clients
from pgflow_cli.local.clients import Clients
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.backups import Manifest, TableDigest
from pgflow_cli.repository import Database, Repository

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Source:
    """A dump, compared with its checksums and manifest if there are any."""

    dump: Dump
    manifest: Manifest | None


@dataclass(frozen=True, slots=True)
class Target:
    """The target database before the restore; `held` says what prevents it."""

    name: str
    version_number: int
    exists: bool
    held: bool
    live_workers: int


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore; `fenced` unless the dump has no schema pgflow."""

    rows: int
    tables: int
    fenced: bool
    compared: bool


def inspect_source(
    path: Path | None, stdin: io.BufferedReader, advance: Callable[[int], None]
) -> Source:
    """Find a dump and compare it with its checksums and its manifest.

    Raises `NotFound`, or `Refused` where it is not what they say.
    """
    if path is None:
        return Source(Dump.of(stdin), None)
    if not path.exists():
        raise NotFound(f"there is no {path}")
    try:
        manifest = check(path, advance)
        dump = Dump.at(path)
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from None
    dump.require_complete()
    return Source(dump, manifest)


def inspect_target(database: Database, *, create: bool) -> Target:
    """Read the state of the database to restore into.

    One that does not exist is an error, unless it is to be made.
    """
    repository = Repository.of(database)
    try:
        facts = repository.schema.inspect_server()
        held = repository.queues.holds_any_relation()
        workers = _live_workers(repository) if held else 0
        return Target(facts.database, facts.version_number, True, held, workers)
    except ConfigurationError as error:
        name = database.name()
        if not create or name is None:
            missing = isinstance(error, UnknownDatabase)
            hints = ("To make it: --create",) if missing else error.hints
            raise ConfigurationError(error.message, *hints) from None
    finally:
        repository.close()
    maintenance = Repository.of(database.of_name("postgres"))
    try:
        if maintenance.backups.has_database(name):
            raise ConfigurationError(f'cannot connect to database "{name}"')
        version = maintenance.schema.inspect_server().version_number
    finally:
        maintenance.close()
    return Target(name, version, False, False, 0)


def require_restorable(target: Target, *, clean: bool, force: bool) -> None:
    """Refuse to restore onto data, and under workers that live."""
    if target.held and not clean:
        raise Refused(
            f'database "{target.name}" holds a pgflow schema; nothing was changed',
            "Restore into an empty one (--create makes it), or replace it: --clean",
            reason_code="NOT_EMPTY",
        )
    if target.live_workers and not force:
        raise Refused(
            f'{target.live_workers} workers live on database "{target.name}"; nothing '
            "was changed",
            "Stop them first (pgflow workers list), or try: --force",
            reason_code="LIVE_WORKERS",
        )


def find_clients(
    source: Source,
    target: Target | None = None,
    *,
    pg_dump: Path | None,
    pg_bin: Path | None,
) -> Clients:
    """Return client programs that read the dump and suit the server restored into."""
    oldest = source.dump.oldest_reader * 10000
    server = target.version_number if target else 0
    return clients.find(
        max(oldest, server), pg_dump=pg_dump, pg_bin=pg_bin, restoring=True
    )


def restore(
    source: Source,
    database: Database,
    target: Target,
    operator: Operator,
    *,
    clients_: Clients,
    clean: bool = False,
    jobs: int = 1,
    owners: bool = True,
    say: Say,
) -> Restored:
    """Restore, raise the fence, compare with the manifest.

    The old schema is put aside first, and brought back if the restore fails. Raises
    `CheckFailed` if the rows differ from the manifest: they stay, behind the fence. If
    workers live, which may write at once, a difference is only a warning.
    """
    database = replace(database, statement_timeout=None)
    with clients.ending_on_signals():
        if not target.exists:
            _create(database, target.name)
            say(f'made database "{target.name}"')
        repository = Repository.of(database)
        try:
            with _put_aside(repository, target, say, at_once=jobs > 1) as first:
                source.dump.load(
                    clients_,
                    database,
                    server=target.version_number,
                    jobs=jobs,
                    owners=owners,
                    clean=clean,
                    first=first,
                )
                found = _count(repository)
                fenced = _raise_fence(repository, source, operator, say)
            repository.backups.analyze_schema()
            return _compare(found, source, target, fenced=fenced, say=say)
        finally:
            repository.close()


def _live_workers(repository: Repository) -> int:
    try:
        return repository.backups.count_live_workers()
    except ConfigurationError:
        return 0  # an old or broken schema has no such table


def _create(database: Database, name: str) -> None:
    maintenance = Repository.of(database.of_name("postgres"))
    try:
        maintenance.backups.create_database(name)
    finally:
        maintenance.close()


@contextmanager
def _put_aside(
    repository: Repository, target: Target, say: Say, *, at_once: bool
) -> Iterator[str]:
    """Put the schema aside during the block, which loads another; then drop it, or
    bring it back.

    Unless `at_once`, the yielded statements do that in the transaction of the load: a
    restore that is killed before its end changes nothing. A restore in several
    transactions, or into a new database, sets a mark until everything is loaded.
    """
    for left in repository.backups.list_replaced_schemas():
        for line in left.hints():
            say(line)
    known = repository.backups.inspect_remains().restoring
    if at_once or not target.exists:
        repository.backups.mark_restore()
    if not target.held:
        yield ""
        return
    aside = f"pgflow_replaced_{datetime.now(UTC):%Y%m%dT%H%M%S%f}".lower()
    if at_once:
        repository.backups.park_schema(aside)
    try:
        yield "" if at_once else repository.backups.parking_statements(aside)
    except BaseException:
        if aside in [left.name for left in repository.backups.list_replaced_schemas()]:
            repository.backups.unpark_schema(aside)
        if not known:
            repository.backups.unmark_restore()
        say("what was there before is back")
        raise
    repository.backups.drop_parked_schema(aside)


def _raise_fence(
    repository: Repository, source: Source, operator: Operator, say: Say
) -> bool:
    """Raise the fence until an operator accepts the restored database, and record the
    restore.
    """
    if not repository.schema.inspect_server().has_migrations:
        say("the dump holds no pgflow schema: there is nothing to fence")
        repository.backups.unmark_restore()
        return False
    for step in migrations.migrate(repository, restoring=True):
        say(f"applied {step.version:04d}_{step.name}")
    name = source.dump.path.name if source.dump.path else "stdin"
    with repository.transaction():
        repository.fence.raise_fence(f"restored from {name}", fenced_by=operator.actor)
        action = repository.audit.begin_action(
            operator, "restore", details={"file": name}
        )
        repository.audit.finish_action(action)
        repository.backups.unmark_restore()
    return True


def _count(repository: Repository) -> dict[str, TableDigest]:
    with repository.transaction():
        repository.backups.begin_snapshot()
        return repository.backups.digest_tables(
            repository.backups.plan_digests(), hashes=False
        )


def _compare(
    found: dict[str, TableDigest],
    source: Source,
    target: Target,
    *,
    fenced: bool,
    say: Say,
) -> Restored:
    rows = sum(digest.rows for digest in found.values())
    manifest = source.manifest
    if manifest is None:
        return Restored(rows, len(found), fenced, compared=False)
    differing = [
        f"{name}: {expected:,} rows dumped, {_rows(found, name)} restored"
        for name, expected in manifest.tables.items()
        if name not in found or found[name].rows != expected
    ]
    if differing and target.live_workers:
        # Workers send heartbeats and producers enqueue as soon as the schema is loaded.
        say("since it was loaded, workers that live here or producers have written:")
        for line in differing[:10]:
            say(f"  {line}")
        return Restored(rows, len(found), fenced, compared=False)
    if differing:
        raise CheckFailed(
            f"{len(differing)} tables do not have the rows of the manifest; the "
            "database is fenced",
            *differing[:10],
        )
    return Restored(rows, len(found), fenced, compared=True)


def _rows(found: dict[str, TableDigest], name: str) -> str:
    return f"{found[name].rows:,}" if name in found else "no table"
