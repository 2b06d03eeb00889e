"""Dumps of pg_dump: their format, their contents, and how they are loaded."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from pgflow_cli.errors import CheckFailed, PgflowError, Refused
from pgflow_cli.local.clients import Clients, Run
from pgflow_cli.repository import Database

Kind = Literal["custom", "directory", "tar", "plain"]

EXTENSIONS = {"custom": ".dump", "plain": ".sql", "directory": ".dir"}
_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_COMPLETE = b"PostgreSQL database dump complete"
# Version of the archive format -> the first major version that writes and reads it.
_READERS = {(1, 15): 16, (1, 16): 17}
_BOMS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
# A setting that pg_dump 17 and later writes among the first lines.
_UNKNOWN_SETTING = re.compile(rb"^SET transaction_timeout = 0;\r?\n", re.MULTILINE)
_DATA = re.compile(r"TABLE DATA (\S+) (\S+)")
_PLAIN_DATA = re.compile(r"^-- Data for Name: (\S+); Type: TABLE DATA; Schema: (\S+);")


@dataclass(frozen=True, slots=True)
class Dump:
    """A dump in a file or a folder, or read from a stream."""

    kind: Kind
    path: Path | None = None
    stream: io.BufferedReader | None = None

    @classmethod
    def at(cls, path: Path) -> Dump:
        """Return the dump of a file or folder; raises `Refused` if it is none."""
        if path.is_dir():
            if not any(path.glob("toc.dat*")):
                raise Refused(f"{path} is a folder without a dump")
            return cls("directory", path)
        with path.open("rb") as file:
            return cls(_kind(file.read(512)), path)

    @classmethod
    def of(cls, stream: io.BufferedReader) -> Dump:
        """Return the dump in a stream."""
        return cls(_kind(stream.peek(512)[:512]), stream=stream)

    @property
    def oldest_reader(self) -> int:
        """Return the oldest major version whose pg_restore reads it; 0 for psql."""
        if self.kind not in ("custom", "directory"):
            return 0
        head = self._head()
        return _READERS.get((head[5], head[6]), 0) if len(head) > 6 else 0

    def _head(self) -> bytes:
        if self.stream is not None:
            return self.stream.peek(512)[:512]
        assert self.path is not None
        path = self.path / "toc.dat" if self.kind == "directory" else self.path
        with path.open("rb") as file:
            return file.read(512)

    @property
    def name(self) -> str:
        return "the standard input" if self.path is None else str(self.path)

    def require_loadable(
        self, clients: Clients, *, server: int, jobs: int = 1, owners: bool = True
    ) -> None:
        """Raise `Refused` if these programs cannot load it into such a server with
        these options.
        """
        if self.kind == "plain" and (jobs > 1 or not owners):
            raise Refused(
                f"{self.name} is plain SQL: --jobs and --no-owner need a custom or "
                "directory dump"
            )
        if jobs > 1 and (self.path is None or self.kind == "tar"):
            raise Refused("--jobs needs a custom file or a directory")
        if jobs > 1 and _knows_too_much(clients, server):
            raise Refused(
                f"pg_restore {clients.version} with --jobs sets what PostgreSQL "
                f"{server // 10000} does not know; nothing was changed",
                "Try it without --jobs.",
                reason_code="NEW_PG_RESTORE",
            )

    def load(
        self,
        clients: Clients,
        database: Database,
        *,
        server: int,
        jobs: int = 1,
        owners: bool = True,
        clean: bool = False,
        first: str = "",
    ) -> None:
        """Load it into a database, in one transaction unless with several `jobs`.

        `first` are statements of that transaction. `clean` first drops every object of
        the dump, outside schema pgflow too; plain SQL cannot do that.
        """
        self.require_loadable(clients, server=server, jobs=jobs, owners=owners)
        options = [] if owners else ["--no-owner", "--no-acl"]
        options += ["--clean", "--if-exists"] if clean else []
        if jobs > 1:
            command = [clients.program("pg_restore"), "--exit-on-error"]
            command += ["-d", database.for_programs()[0], f"--jobs={jobs}", *options]
            with Run([*command, str(self.path)], database) as run:
                run.wait()
            return
        archived = self.kind != "plain"
        script = self._script(clients, options) if archived else self._plain()
        with closing(_understood(script, server)) as understood:
            self._run_sql(clients, database, first, understood)

    def contents(self, clients: Clients) -> list[str]:
        """Return the table of contents, a line for each entry."""
        if self.kind == "plain":
            with self._text() as text:
                found = (_PLAIN_DATA.match(line) for line in text)
                return [f"TABLE DATA {m[2]} {m[1]}" for m in found if m]
        lines: list[str] = []
        command = [clients.program("pg_restore"), "--list"]
        command += [str(self.path)] if self.path else []
        stdin = subprocess.DEVNULL if self.path else subprocess.PIPE
        with Run(command, stdin=stdin, stdout=subprocess.PIPE) as run:
            if self.path is None:
                threading.Thread(target=self._pour(run), daemon=True).start()
            assert run.process.stdout is not None
            lines = [raw.decode().rstrip() for raw in run.process.stdout]
            run.wait()
        return lines

    def tables_with_data(self, clients: Clients) -> set[str]:
        """Return the tables of schema pgflow with rows in the dump."""
        found = (_DATA.search(line) for line in self.contents(clients))
        return {m[2] for m in found if m and m[1] == "pgflow"}

    def require_complete(self) -> None:
        """Raise `CheckFailed` if plain SQL is cut off: nothing else would show it."""
        if self.kind != "plain" or self.path is None:
            return
        last = b""
        with self._bytes() as file:
            if isinstance(file, io.BufferedReader):
                file.seek(max(0, self.path.stat().st_size - 4096))
            while chunk := file.read(_CHUNK):
                last = (last + chunk)[-4096:]
        if _COMPLETE not in last.replace(b"\0", b""):
            raise CheckFailed(f"{self.path} breaks off: it has no end of a dump")

    def _run_sql(
        self,
        clients: Clients,
        database: Database,
        first: str,
        script: Iterator[bytes],
    ) -> None:
        """Have psql run a script as one transaction, committed when all of it is there.

        `begin` and `commit` are written here: with --single-transaction psql would
        commit at the end of its input, which ends also when this process is killed.
        """
        command = [clients.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1"]
        command += ["-d", database.for_programs()[0], "-f", "-"]
        with Run(command, database, stdin=subprocess.PIPE) as run:
            pipe = run.process.stdin
            assert pipe is not None
            try:
                pipe.write(f"begin;\n{first};\n".encode())
                for chunk in script:
                    pipe.write(chunk)
                pipe.write(b"\ncommit;\n")
                pipe.close()
            except BrokenPipeError:
                run.wait()  # it has failed, and says why
                raise
            run.wait()

    def _script(self, clients: Clients, options: Sequence[str]) -> Iterator[bytes]:
        """Yield the SQL of an archive; raise the errors of pg_restore."""
        # In one transaction: otherwise pg_restore writes a commit after large objects.
        command = [clients.program("pg_restore"), "--single-transaction", "--file=-"]
        command += [*options, *([str(self.path)] if self.path else [])]
        stdin = subprocess.DEVNULL if self.path else subprocess.PIPE
        with Run(command, stdin=stdin, stdout=subprocess.PIPE) as run:
            if self.path is None:
                threading.Thread(target=self._pour(run), daemon=True).start()
            assert run.process.stdout is not None
            yield from _raw(run.process.stdout)
            run.wait()

    def _plain(self) -> Iterator[bytes]:
        """Yield plain SQL; raise `CheckFailed` if it is cut off."""
        last = b""
        with self._bytes() as file:
            for chunk in _as_utf8(file):
                last = (last + chunk)[-4096:]
                yield chunk
        if _COMPLETE not in last:
            raise CheckFailed(f"{self.name} breaks off: it has no end of a dump")

    def _pour(self, run: Run) -> Callable[[], None]:
        """Return a function that writes the dump to the stdin of a program."""

        def pour() -> None:
            pipe = run.process.stdin
            assert pipe is not None
            try:
                with self._bytes() as file:
                    for chunk in _raw(file):
                        pipe.write(chunk)
                pipe.close()
            except BrokenPipeError:
                return  # it has failed, and says why

        return pour

    @contextmanager
    def _bytes(self) -> Iterator[IO[bytes]]:
        if self.path is None:
            assert self.stream is not None
            yield self.stream
            return
        with self.path.open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            if not packed:
                yield file
                return
            with gzip.open(file) as unpacked:
                yield unpacked  # type: ignore[misc]

    @contextmanager
    def _text(self) -> Iterator[Iterator[str]]:
        with self._bytes() as file:
            yield _lines(_as_utf8(file))


def _kind(head: bytes) -> Kind:
    if head.startswith(b"PGDMP"):
        return "custom"
    if head[257:262] == b"ustar":
        return "tar"
    if not head:
        raise Refused("the dump is empty", reason_code="EMPTY_DUMP")
    return "plain"


def _raw(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _knows_too_much(clients: Clients, server: int) -> bool:
    """Return whether these programs write a setting that the server does not know."""
    return clients.major >= 17 > server // 10000


def _understood(script: Iterator[bytes], server: int) -> Generator[bytes]:
    """Yield a script without the setting that servers before 17 do not know.

    It is among the first lines, before any data.
    """
    if server // 10000 >= 17:
        yield from script
        return
    head = b""
    for chunk in script:
        head += chunk
        if b"\nSET row_security" in head or len(head) > _CHUNK:
            break
    yield _UNKNOWN_SETTING.sub(b"", head, count=1)
    yield from script


def _as_utf8(file: IO[bytes]) -> Iterator[bytes]:
    """Yield plain SQL as psql reads it: PowerShell's `>` writes UTF-16 with a mark."""
    chunk = file.read(_CHUNK)
    encoding = next((_BOMS[bom] for bom in _BOMS if chunk.startswith(bom)), None)
    if encoding is None:
        yield chunk.removeprefix(codecs.BOM_UTF8)
        yield from _raw(file)
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    chunk = chunk[2:]
    try:
        while chunk:
            yield decoder.decode(chunk).encode()
            chunk = file.read(_CHUNK)
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError:
        raise PgflowError("the dump is damaged: it is not UTF-16 throughout") from None


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)
    yield rest.decode("utf-8", "replace")
