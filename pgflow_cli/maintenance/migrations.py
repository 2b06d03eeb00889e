"""Migrates the schema to this program's version, and makes day partitions in
advance.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from pgflow_cli.errors import (
    CheckFailed,
    ConfigurationError,
    Contention,
    DatabaseUnavailable,
    TryLater,
    UsageError,
)
from pgflow_cli.models.schema import AppliedMigration, MigrationStatus, PartitionPlan
from pgflow_cli.repository import Database, Repository, remains, session, sqlfiles
from pgflow_cli.repository.sqlfiles import MigrationFile

OLDEST_SERVER = 150000  # PostgreSQL 15 is the oldest version that is tested
DAYS_AHEAD = 3  # days with partitions in advance: maintain may fail over a weekend
MOST_STRAYS = 20_000  # rows that one transaction moves out of a default partition

# Seconds that other sessions may wait behind our lock request, and behind a partition.
_PARTITION_LOCK_TIMEOUT = 0.5
_PARTITION_PATIENCE = 1.5

_TRIES = 5  # tries of one version whose locks are not free
# Seconds of one wait for a lock; the whole wait has several, so that a signal is
# noticed between two.
_SLICE = 1.0


def _silent(message: str) -> None:
    pass


def wait_for_database(database: Database, seconds: float) -> None:
    """Wait until the database answers, or until the time is over; then return all the
    same.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        repository = Repository.of(database)
        try:
            repository.schema.inspect_server()
        except DatabaseUnavailable:
            time.sleep(min(0.25, max(0.0, deadline - time.monotonic())))
        else:
            return
        finally:
            repository.close()


def migrate(
    repository: Repository,
    *,
    target: int | None = None,
    lock_wait: float = 60.0,
    lock_timeout: float = 5.0,
    restoring: bool = False,
    say: Callable[[str], None] = _silent,
) -> list[MigrationFile]:
    """Apply the pending versions, each in a transaction of its own, and return them.

    Any number may run at once, and each may be killed anywhere and run again. Raises
    `TryLater` if another one holds the schema for more than `lock_wait` seconds.
    `restoring`: as the last step of a restore.
    """
    _check_target(target)
    _bootstrap(repository, restoring=restoring)
    applied: list[MigrationFile] = []
    while step := _apply_next(repository, target, lock_wait, lock_timeout, say):
        applied.append(step)
        say(f"applied {step.version:04d}_{step.name}")
    return applied


def list_status(repository: Repository) -> list[MigrationStatus]:
    """Return every version, applied or pending, and which files were edited since."""
    applied = {migration.version: migration for migration in _applied(repository)}
    files = {file.version: file for file in sqlfiles.migrations()}
    return [
        _status(files.get(version), applied.get(version))
        for version in sorted(files.keys() | applied.keys())
    ]


def list_pending(
    repository: Repository, *, target: int | None = None
) -> list[MigrationFile]:
    """Return the versions that `migrate` would apply; raise what it would raise."""
    _check_target(target)
    _check_server(repository)
    repository.backups.inspect_remains().require_whole()
    return _pending(_applied(repository), target)


def check(repository: Repository) -> None:
    """Raise `CheckFailed` if a version is pending."""
    pending = list_pending(repository)
    if pending:
        raise CheckFailed(
            f"the schema is at version {pending[0].version - 1}, and this program "
            f"needs {sqlfiles.latest_version()}",
            "Try: pgflow migrate",
        )


def require_current(repository: Repository) -> None:
    """Raise `ConfigurationError` unless the schema is at least this program's version.

    A newer one is accepted: during an upgrade the last release works on the new schema.
    One of before the first release is not, whatever its number is.
    """
    expected = sqlfiles.latest_version()
    applied = repository.schema.list_applied_migrations()
    _refuse_unreleased(applied)
    found = max((migration.version for migration in applied), default=0)
    if found < expected:
        repository.backups.inspect_remains().require_whole()
        raise ConfigurationError(
            f"the schema is at version {found}, and this program needs {expected}",
            "Try: pgflow migrate",
        )


def script(*, after: int = 0, up_to: int | None = None) -> str:
    """Return the SQL that brings a schema from one version to another, for psql."""
    _check_target(up_to)
    if after:
        _check_target(after)
    steps = [
        file
        for file in sqlfiles.migrations()
        if after < file.version <= (up_to or sqlfiles.latest_version())
    ]
    parts = [] if after else [_bootstrap_script()]
    return "\n\n".join([*parts, *(_step_script(file) for file in steps)]) + "\n"


def ensure_partitions(
    repository: Repository, days_ahead: int = DAYS_AHEAD
) -> list[str]:
    """Make the day partitions that are missing, from yesterday on; return their names.

    Other sessions wait for this for two seconds at most. Raises `TryLater` if a lock is
    not free: until the next try the default partition takes the rows.
    """
    made = []
    for plan in _plans(repository, days_ahead):
        try:
            if _make_partition(repository, days_ahead, plan.name):
                made.append(plan.name)
        except Contention as error:
            raise TryLater(
                f"partition {plan.name} cannot be made at the moment: {error}",
                "A transaction that has used the default partition must end first.",
            ) from error
    return made


def _plans(repository: Repository, days_ahead: int) -> list[PartitionPlan]:
    """Return the partitions to make; a day with too many strays stays where it is."""
    plans = repository.schema.plan_partitions(
        days_ahead=days_ahead, most_strays=MOST_STRAYS
    )
    return [plan for plan in plans if plan.strays <= MOST_STRAYS]


def _make_partition(repository: Repository, days_ahead: int, name: str) -> bool:
    with repository.transaction():
        repository.schema.begin_schema_change(
            lock_wait=_PARTITION_LOCK_TIMEOUT, lock_timeout=_PARTITION_LOCK_TIMEOUT
        )
        # Planned again under the lock: another process may have made it meanwhile.
        for plan in repository.schema.plan_partitions(
            days_ahead=days_ahead, most_strays=MOST_STRAYS, name=name
        ):
            repository.schema.make_partition(
                plan.statements, patience=_PARTITION_PATIENCE
            )
            return True
    return False


def _check_target(target: int | None) -> None:
    latest = sqlfiles.latest_version()
    if target is not None and not 1 <= target <= latest:
        raise UsageError(
            f"there is no version {target}; this program has 1 to {latest}"
        )


def _check_server(repository: Repository) -> None:
    facts = repository.schema.inspect_server()
    if facts.version_number < OLDEST_SERVER:
        raise ConfigurationError(
            f"the server is PostgreSQL {facts.version}; pgflow needs 15 or newer"
        )
    if facts.encoding != "UTF8":
        raise ConfigurationError(
            f'database "{facts.database}" is encoded in {facts.encoding}, '
            "and pgflow needs UTF8",
            f"Try: create database {facts.database}_utf8 encoding 'UTF8' "
            "template template0",
        )
    if facts.in_recovery:
        raise DatabaseUnavailable(
            f'database "{facts.database}" is in recovery and takes no writes'
        )


def _bootstrap(repository: Repository, *, restoring: bool = False) -> None:
    """Make the schema, its table of versions and the row to lock. Several processes may
    try.
    """
    _check_server(repository)
    repository.backups.inspect_remains().require_whole(restoring=restoring)
    while not repository.schema.inspect_server().has_schema:
        repository.schema.create_schema()
    while not repository.schema.inspect_server().has_migrations:
        repository.schema.create_migrations_table()
    while not repository.schema.create_schema_lock():
        pass


def _apply_next(
    repository: Repository,
    target: int | None,
    lock_wait: float,
    lock_timeout: float,
    say: Callable[[str], None],
) -> MigrationFile | None:
    """Apply the first version that is pending, if any."""
    deadline = time.monotonic() + lock_wait
    tries = 0
    while True:
        elected = False
        try:
            with repository.transaction():
                wait = min(_SLICE, max(0.0, deadline - time.monotonic()))
                repository.schema.begin_schema_change(
                    lock_wait=wait, lock_timeout=lock_timeout
                )
                elected = True
                return _apply_first(repository, target)
        except Contention as error:
            tries += elected
            if tries >= _TRIES:
                raise TryLater(
                    f"the locks of a migration were not to be had within "
                    f"{lock_timeout:g} s, {tries} times: {error}",
                    "End long transactions, or try: pgflow migrate --lock-timeout 30s",
                ) from error
        if elected:
            # Sessions that waited behind this one get the lock first.
            time.sleep(random.uniform(0.2, 1.0) * tries)  # noqa: S311
        else:
            _report_holder(repository, deadline, say)


def _apply_first(repository: Repository, target: int | None) -> MigrationFile | None:
    pending = _pending(repository.schema.list_applied_migrations(), target)
    if not pending:
        return None
    step = pending[0]
    repository.schema.run_migration(step.text)
    repository.schema.record_migration(step.version, step.name, step.checksum)
    return step


def _report_holder(
    repository: Repository, deadline: float, say: Callable[[str], None]
) -> None:
    holder = repository.schema.find_schema_lock_holder()
    who = "another migrate"
    if holder is not None:
        name = f" ({holder.application_name})" if holder.application_name else ""
        since = f" since {holder.since} UTC" if holder.since else ""
        who = f"pid {holder.pid}{name}{since}"
    if time.monotonic() >= deadline:
        raise TryLater(
            f"the schema is being changed by {who}",
            "Try again when it has ended, or: pgflow migrate --lock-wait 5m",
        )
    say(f"waiting for {who}, which is changing the schema")


def _applied(repository: Repository) -> list[AppliedMigration]:
    if not repository.schema.inspect_server().has_migrations:
        return []
    return repository.schema.list_applied_migrations()


def _pending(
    applied: list[AppliedMigration], target: int | None
) -> list[MigrationFile]:
    """Return the pending versions; raise if the schema is not one that may be
    migrated.
    """
    _refuse_unreleased(applied)
    files = sqlfiles.migrations()
    newest = max((migration.version for migration in applied), default=0)
    if newest > files[-1].version:
        raise ConfigurationError(
            f"the schema is at version {newest}, newer than this program's "
            f"{files[-1].version}",
            "Run the release that made it, or a newer one.",
        )
    for migration in applied:
        _refuse_drift(migration, files[migration.version - 1])
    if target is not None and target < newest:
        raise UsageError(
            f"the schema is at version {newest} and cannot go back to {target}",
            "Migrations go forward only; to go back, restore a backup.",
        )
    done = {migration.version for migration in applied}
    last = target or files[-1].version
    return [f for f in files if f.version not in done and f.version <= last]


def _refuse_unreleased(applied: list[AppliedMigration]) -> None:
    if (found := remains.find_unreleased(applied)) is not None:
        raise remains.unreleased_error(found)


def _refuse_drift(applied: AppliedMigration, file: MigrationFile) -> None:
    if applied.checksum != file.checksum:
        raise ConfigurationError(
            f"migration {applied.version:04d}_{applied.name} was edited after it was "
            "applied",
            f"recorded {applied.checksum}",
            f"found    {file.checksum}",
            "Put the file back as it was; a change belongs in a new migration.",
        )


def _status(
    file: MigrationFile | None, applied: AppliedMigration | None
) -> MigrationStatus:
    known = applied or file
    assert known is not None
    return MigrationStatus(
        version=known.version,
        name=known.name,
        applied_at=applied.applied_at if applied else None,
        applied_by=applied.applied_by if applied else None,
        drift=bool(file and applied and file.checksum != applied.checksum),
        pending=applied is None,
    )


def _bootstrap_script() -> str:
    names = ("create_schema", "create_migrations_table", "create_schema_lock")
    return "\n".join(f"{_text(name, ())};" for name in names)


def _step_script(file: MigrationFile) -> str:
    record = _text("record_migration", (file.version, file.name, file.checksum))
    return "\n\n".join(
        [
            f"-- {file.version:04d}_{file.name}",
            "\n".join(["begin;", *session.of_scripts()]),
            f"{_text('lock_schema', ())};",
            file.text.strip(),
            f"{record};",
            "commit;",
        ]
    )


def _text(name: str, values: tuple[int | str, ...]) -> str:
    """Return a statement with literals for its parameters; values have no quotes."""
    text = sqlfiles.statement(name).text.decode()
    for number, value in enumerate(values, start=1):
        text = text.replace(f"${number}", f"'{value}'")
    return text
