"""Writes a backup under a temporary name, and renames it when it is complete."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from pgflow_cli.backups.manifest import list_manifests, manifest_path, sums_path
from pgflow_cli.errors import OutputFailed, Refused, TryLater
from pgflow_cli.local import output_files
from pgflow_cli.local.output_files import PARTIAL
from pgflow_cli.models.backups import Manifest

try:
    import fcntl
except ImportError:  # Windows: an open file cannot be removed there anyway
    fcntl = None  # type: ignore[assignment]

FOLDER = Path("backups")
_ABANDONED_SECONDS = 600  # a younger file may belong to a process that has no lock yet


def default_path(database: str, now: datetime, extension: str) -> Path:
    """Return the default path of a backup."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", database)
    return FOLDER / f"{safe}-{now:%Y%m%dT%H%M%SZ}{extension}"


class Archive:
    """A backup that is being written; the lock on it shows that its writer lives.

    A symbolic link is followed: manifest and checksums stand beside its target.
    """

    def __init__(self, path: Path, *, directory: bool) -> None:
        with _failing_as_output(path):
            if output_files.is_special(path):
                raise Refused(
                    f"{path} is no file; a backup is checked before it gets its name",
                    "Name a file, or write to stdout: pgflow backup -",
                    reason_code="EXISTS",
                )
            path = output_files.followed(path)
        self.path, self.directory = path, directory
        self.partial = path.with_name(path.name + PARTIAL)
        self._lock: int | None = None
        self._beside: list[Path] = []

    @contextmanager
    def written(self) -> Iterator[Path]:
        """Yield the path to write to. A backup that was not published is removed
        afterwards.
        """
        try:
            with _failing_as_output(self.path):
                self._make_folder()
                self._remove_abandoned()
                self._make()
            yield self.partial
        finally:
            # Twice: the signal that ends us may come here and cut the first short. It
            # is raised once.
            try:
                self._discard()
            finally:
                self._discard()

    def publish(self, manifest: Manifest, sums: str) -> None:
        """Rename the backup to its name, and write checksums and manifest beside it.

        If the process is killed meanwhile, there is the old backup, the new one without
        its manifest, or the new one with it: never a backup with the manifest of
        another.
        """
        with _failing_as_output(self.path):
            _flush(self.partial)
            beside = {
                manifest_path(self.path): manifest.text(),
                sums_path(self.path): sums,
            }
            for path, text in beside.items():
                partial = path.with_name(path.name + PARTIAL)
                self._beside.append(partial)
                _write(partial, text)
            for path in beside:
                path.unlink(missing_ok=True)
            self.partial.replace(self.path)
            for path in beside:
                path.with_name(path.name + PARTIAL).replace(path)
            self._beside.clear()
            output_files.flush_folder(self.path.parent)

    def _make_folder(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.directory and self.path.exists():
            raise Refused(
                f"{self.path} exists; a directory is not written over",
                "Name another one, or leave the name to pgflow.",
                reason_code="EXISTS",
            )
        if not self.directory and self.path.is_dir():
            raise Refused(
                f"{self.path} is a folder; name a file, or try: --format directory",
                reason_code="EXISTS",
            )

    def _make(self) -> None:
        # Without its lock it would look like the file of another run, and would be
        # left.
        with _signals_held():
            try:
                if self.directory:
                    self.partial.mkdir(mode=0o700)
                else:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                    os.close(os.open(self.partial, flags, 0o600))
            except FileExistsError:  # another run has made it just now
                raise self._in_use() from None
            self._lock = _lock(self.partial)
        if self._lock is None:  # another run has just removed it as abandoned
            raise self._in_use()

    def _remove_abandoned(self) -> None:
        """Remove the files that killed runs of this backup have left, and those with
        default names.
        """
        stem = self.path.name.rpartition("-")[0]
        generated = re.compile(rf"{re.escape(stem)}-\d{{8}}T\d{{6}}Z\.\w+")
        for path in self.path.parent.glob(f"*{PARTIAL}"):
            backup = re.sub(r"(\.json|\.sha256)?\.partial$", "", path.name)
            if backup != self.path.name and not generated.fullmatch(backup):
                continue
            if path.name != backup + PARTIAL and _is_young(path):
                continue  # a writer is about to end it; it has no lock
            lock = _lock(path)
            if lock is None and path == self.partial:
                raise self._in_use()
            if lock is not None:
                _remove(path)
                _unlock(lock)

    def _in_use(self) -> TryLater:
        return TryLater(
            f"another backup is being written to {self.path}",
            "Try again when it has ended.",
        )

    def _discard(self) -> None:
        """Remove the files that this run has not published.

        When it was published, another run may have made the next one of that name.
        """
        if self._lock is None:
            return
        with suppress(OSError):
            if _is_of(self._lock, self.partial):
                _remove(self.partial)
        for path in self._beside:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            _unlock(self._lock)
        self._lock = None


def remove_older(path: Path, manifest: Manifest, keep: int) -> list[Path]:
    """Remove the oldest backups of the same database in this folder; return them.

    Only backups with a manifest are removed, never the one just written.
    """
    same = [
        (other.finished_at, found)
        for found, other in list_manifests(path.parent)
        if other.database == manifest.database
        and other.system_identifier in (None, manifest.system_identifier)
        and found != path
    ]
    chosen = [found for _, found in sorted(same, reverse=True)[keep - 1 :]]
    with _failing_as_output(path.parent):
        for found in chosen:
            _remove(found)
            sums_path(found).unlink(missing_ok=True)
            manifest_path(found).unlink(missing_ok=True)
    return chosen


@contextmanager
def _signals_held() -> Iterator[None]:
    """Block SIGTERM, SIGINT and SIGHUP until the end of the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    ending = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _failing_as_output(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputFailed(f"cannot write {path}: {error.strerror}") from None


def _is_young(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime < _ABANDONED_SECONDS
    return True


def _lock(path: Path) -> int | None:
    """Lock a file or folder as its writer; None if its writer lives."""
    if fcntl is None:
        return -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_of(lock: int, path: Path) -> bool:
    """Return whether the locked file still has this name."""
    return lock < 0 or os.path.samestat(os.fstat(lock), path.stat())


def _unlock(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _flush(path: Path) -> None:
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    if path.is_dir():
        output_files.flush_folder(path)
