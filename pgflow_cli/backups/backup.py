"""Takes a backup: dumped and counted in one snapshot, checked, then published."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version as version_of
from pathlib import Path
from typing import IO

from pgflow_cli.backups import files, manifest, verify
from pgflow_cli.backups.dump import EXTENSIONS, Dump
from pgflow_cli.backups.files import Archive
from pgflow_cli.errors import Blocked, PgflowError, TooSlow, TryLater
from pgflow_cli.formats.times import format_duration
from pgflow_cli.local import clients
from pgflow_cli.local.clients import Clients, Run
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.backups import DumpSource, Manifest, TableDigest, TablePlan
from pgflow_cli.models.diagnosis import LockHolder
from pgflow_cli.repository import Database, Repository

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
_ARCHIVES = (
    "pgflow.jobs_archive*",
    "pgflow.job_attempts_archive*",
    "pgflow.job_successes_archive*",
)
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of a backup; `content` is all, schema or data."""

    path: Path | None
    format: str = "custom"
    jobs: int = 1
    compress: int | None = None
    content: str = "all"
    exclude_archive: bool = False
    only_pgflow: bool = False
    keep: int | None = None
    verify: str = "list"
    pg_dump: Path | None = None
    pg_bin: Path | None = None
    max_runtime: float | None = None
    record: bool = True


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that was taken, and the old ones that were removed."""

    path: str
    manifest: Manifest
    removed: list[Path]
    recorded: int | None


@dataclass(frozen=True, slots=True)
class Teller:
    """How an operator is told of progress and warnings."""

    say: Callable[[str], None]
    warn: Callable[[str], None]
    hint: Callable[[str], None]
    progress: Progress


def take(
    database: Database,
    wanted: Wanted,
    operator: Operator,
    teller: Teller,
    *,
    stdout: IO[bytes] | None = None,
) -> Taken:
    """Take a backup into a file, or onto `stdout` if there is no path.

    The file gets its name only when it is complete and checked. Raises `TryLater` while
    another backup of the same database runs, `TooSlow` where a lock is not to be had
    within the database's `statement_timeout`.
    """
    repository = Repository.of(replace(database, statement_timeout=None))
    try:
        with clients.ending_on_signals():
            backup = _Backup(repository, wanted, operator, teller)
            backup.lock_wait = database.statement_timeout
            return backup.take(stdout)
    finally:
        repository.close()


class _Backup:
    """One backup."""

    def __init__(
        self,
        repository: Repository,
        wanted: Wanted,
        operator: Operator,
        teller: Teller,
    ) -> None:
        self.repository, self.wanted = repository, wanted
        self.operator, self.teller = operator, teller
        repository.backups.inspect_remains().require_whole()
        self.source: DumpSource = repository.backups.inspect_dump_source()
        self.clients: Clients = clients.find(
            self.source.version_number, pg_dump=wanted.pg_dump, pg_bin=wanted.pg_bin
        )
        identity = (
            repository.fence.read_identity() if self.source.has_identity else None
        )
        self.epoch = identity.epoch if identity else None
        self.system_identifier = (
            identity.present_system_identifier if identity else None
        )
        self.schema_version = (
            repository.schema.find_schema_version()
            if self.source.has_migrations
            else None
        )
        self.lock_wait: float | None = None  # seconds; for ever if None
        self.plans: list[TablePlan] = []
        self.digests: dict[str, TableDigest] = {}

    def take(self, stdout: IO[bytes] | None) -> Taken:
        if not self.source.in_recovery:
            self.teller.hint(
                "A dump holds back vacuum while it runs; prefer a replica if there is "
                "one."
            )
        if stdout is not None:
            return self._stream(stdout)
        extension = EXTENSIONS[self.wanted.format]
        path = self.wanted.path or files.default_path(
            self.source.database, self.source.now, extension
        )
        archive = Archive(path, directory=self.wanted.format == "directory")
        path = archive.path
        with archive.written() as partial:
            self._dump(partial)
            verified_on = self._verify(partial)
            sums, manifest = self._describe(archive, verified_on)
            archive.publish(manifest, sums)
        removed = []
        if self.wanted.keep is not None:
            removed = files.remove_older(path, manifest, self.wanted.keep)
        return Taken(str(path), manifest, removed, self._record(str(path), manifest))

    def _stream(self, stdout: IO[bytes]) -> Taken:
        """Dump to stdout, hashed on the way."""
        hashed, size = hashlib.sha256(), 0
        with self._dumping(stdout=subprocess.PIPE) as run:
            assert run.process.stdout is not None
            while chunk := run.process.stdout.read(_CHUNK):
                stdout.write(chunk)
                hashed.update(chunk)
                size += len(chunk)
            run.wait()
        stdout.flush()
        manifest = self._manifest(hashed.hexdigest(), size, "off", None)
        return Taken("-", manifest, [], self._record("-", manifest))

    def _dump(self, partial: Path) -> None:
        with self._dumping(output=partial) as run:
            run.wait()

    @contextmanager
    def _dumping(
        self, *, output: Path | None = None, stdout: int = subprocess.DEVNULL
    ) -> Iterator[Run]:
        """Run pg_dump as `_run` does; a lock that is not to be had names its holders.

        Raises `TooSlow`.
        """
        try:
            with self._run(output=output, stdout=stdout) as run:
                yield run
        except Blocked as error:
            if self.lock_wait is None:
                raise
            holders: list[LockHolder] = []
            with suppress(PgflowError):
                holders = self.repository.diagnosis.list_lock_holders()
            raise TooSlow(
                "the backup has waited for a lock that another session holds, for "
                f"{format_duration(self.lock_wait)}; nothing was written",
                *(f"Holds {h.tables}: {h.words}." for h in holders),
                "Wait for its end, or longer: pgflow backup --timeout 10m",
            ) from error

    @contextmanager
    def _run(
        self, *, output: Path | None = None, stdout: int = subprocess.DEVNULL
    ) -> Iterator[Run]:
        """Run pg_dump in a snapshot, and count its tables in the same one."""
        repository, wanted = self.repository, self.wanted
        with repository.transaction():
            repository.backups.begin_snapshot(lock_wait=self.lock_wait)
            self._lock()
            self.plans = repository.backups.plan_digests()
            command = self._command(repository.backups.export_snapshot(), output)
            with (
                self.teller.progress("dumping tables", len(self.plans)) as advance,
                Run(
                    command,
                    repository.database,
                    stdout=stdout,
                    on_line=lambda line: _advance(advance, line),
                ) as run,
            ):
                run.limit(wanted.max_runtime)
                if wanted.content != "schema":
                    self.digests = repository.backups.digest_tables(
                        self.plans, hashes=wanted.verify == "restore"
                    )
                yield run

    def _lock(self) -> None:
        if not self.source.has_backups:
            return
        if self.repository.backups.lock_backups() is False:
            raise TryLater(
                f'another backup of "{self.source.database}" is running',
                "Try again when it has ended.",
            )

    def _command(self, snapshot: str, output: Path | None) -> list[str]:
        wanted = self.wanted
        conninfo = self.repository.database.for_programs()[0]
        command = [str(self.clients.pg_dump), "--verbose", f"--snapshot={snapshot}"]
        command += [f"--format={wanted.format}", "-d", conninfo]
        command += [] if output is None else [f"--file={output}"]
        if self.lock_wait is not None:
            command.append(
                f"--lock-wait-timeout={max(1, round(self.lock_wait * 1000))}"
            )
        command += [f"--jobs={wanted.jobs}"] if wanted.jobs > 1 else []
        command += [] if wanted.compress is None else [f"--compress={wanted.compress}"]
        command += [] if wanted.content == "all" else [f"--{wanted.content}-only"]
        command += ["--schema=pgflow"] if wanted.only_pgflow else []
        command += [f"--exclude-table-data={name}" for name in self._excluded()]
        return command

    def _excluded(self) -> list[str]:
        """Return the tables whose rows are left out: of the archive, by any name."""
        if not self.wanted.exclude_archive:
            return []
        return [*_ARCHIVES, *(f"pgflow.{p.name}" for p in self.plans if p.archived)]

    def _expected(self) -> dict[str, TableDigest]:
        """Return the tables and row counts that a restore must have, without those left
        out.
        """
        left_out = {p.name for p in self.plans if p.archived}
        if not self.wanted.exclude_archive:
            left_out = set()
        empty = TableDigest(0, "0")
        return {
            name: empty if name in left_out else digest
            for name, digest in self.digests.items()
        }

    def _verify(self, partial: Path) -> str | None:
        wanted, dump = self.wanted, Dump.at(partial)
        if wanted.verify == "off":
            return None
        expected = self._expected()
        held = {name for name, digest in expected.items() if digest.rows}
        verify.check_contents(dump, self.clients, held)
        if wanted.verify != "restore":
            return None
        self.teller.hint("dumped; restoring it elsewhere, to compare every row")
        where = verify.check_by_restoring(
            dump,
            self.clients,
            self.repository.database,
            expected if wanted.content == "all" else _emptied(self.plans),
            server=self.source.version_number,
            pg_bin=wanted.pg_bin,
            say=self.teller.say,
        )
        self.teller.say(
            f"restored into {where}: {len(self.plans)} tables, "
            f"{sum(d.rows for d in expected.values()):,} rows, all equal"
        )
        return where

    def _describe(
        self, archive: Archive, verified_on: str | None
    ) -> tuple[str, Manifest]:
        """Return checksums and manifest; they have the final name of the file."""
        size = manifest.size(archive.partial)
        with self.teller.progress("reading it for its checksum", size) as advance:
            sums = manifest.sums(archive.partial, advance)
        sums = sums.replace(archive.partial.name, archive.path.name)
        one = manifest.sum_of(sums, directory=archive.directory)
        return sums, self._manifest(one, size, self.wanted.verify, verified_on)

    def _manifest(
        self, sha256: str, size: int, verified: str, verified_on: str | None
    ) -> Manifest:
        counted = self._expected()
        return Manifest(
            database=self.source.database,
            system_identifier=self.system_identifier,
            epoch=self.epoch,
            schema_version=self.schema_version,
            server_version=self.source.server_version,
            pg_dump_version=self.clients.version,
            pgflow_version=version_of("pgflow"),
            format=self.wanted.format,
            content=self.wanted.content,
            only_pgflow=self.wanted.only_pgflow,
            excluded=self._excluded(),
            tables={name: digest.rows for name, digest in counted.items()},
            bytes=size,
            sha256=sha256,
            verified=verified,
            verified_on=verified_on,
            started_at=self.source.now.isoformat(),
            finished_at=self.repository.backups.inspect_dump_source().now.isoformat(),
        )

    def _record(self, file: str, manifest: Manifest) -> int | None:
        """Record the backup in the database; the backup is valid even if that fails."""
        if not (self.wanted.record and self.source.has_backups):
            return None
        facts = {"file": file, "bytes": manifest.bytes, "sha256": manifest.sha256}
        try:
            with self.repository.transaction():
                action = self.repository.audit.begin_action(
                    self.operator, "backup", details=facts
                )
                self.repository.audit.finish_action(action)
                return self.repository.backups.record_backup(
                    {
                        **facts,
                        "started_at": manifest.started_at,
                        "schema_version": manifest.schema_version,
                        "format": manifest.format,
                        "verified": manifest.verified,
                    }
                )
        except PgflowError as error:
            self.teller.warn(f"the backup is good but not recorded: {error.message}")
            return None


def _emptied(plans: list[TablePlan]) -> dict[str, TableDigest]:
    return {plan.name: TableDigest(0, "0") for plan in plans}


def _advance(advance: Callable[[int], None], line: str) -> None:
    if "dumping contents of table" in line and "pgflow." in line:
        advance(1)
