"""Finds and reads sql/: inside the package in a wheel, beside it in a checkout."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]
_PARAMETER = re.compile(r"%\((\w+)\)s")
_INCLUDE = re.compile(r"^ *-- include: (\w+)$", re.MULTILINE)
# The schema version of release 0.1.0. Until that release, its migrations are edited in
# place; after it, each change is a new migration.
FIRST_RELEASE = 8

_MIGRATION = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class MigrationFile:
    """A migration; `checksum` is the SHA-256 of its text."""

    version: int
    name: str
    text: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with `$1` … for parameters, and their names in that order."""

    name: str
    text: bytes
    parameters: tuple[str, ...]


@cache
def root() -> Path:
    """Return the folder that holds `migrations`, `queries` and `fragments`."""
    packaged = _HERE / "sql"
    return packaged if packaged.is_dir() else _HERE.parent / "sql"


@cache
def queries() -> dict[str, Path]:
    """Return the file of each statement by its name: `queries/NOUN/NAME.sql`.

    The noun is the module of `repository` that sends it.
    """
    return {path.stem: path for path in sorted((root() / "queries").glob("*/*.sql"))}


@cache
def statement(name: str) -> Statement:
    """Return the statement of `queries/NOUN/NAME.sql`.

    A line `-- include: NAME` stands for `fragments/NAME.sql`, text that several
    statements share. Parameters are numbered for PostgreSQL here, because psycopg would
    parse a text of more than 4 KiB at every call.
    """
    text = _with_fragments(queries()[name])
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    numbered = _PARAMETER.sub(number, "\n".join(line for line in lines if line.strip()))
    return Statement(name, numbered.encode(), tuple(names))


@cache
def _with_fragments(path: Path) -> str:
    """Return a file's text with its fragments, which may include fragments
    themselves.
    """

    def fragment(match: re.Match[str]) -> str:
        return _with_fragments(root() / "fragments" / f"{match[1]}.sql")

    return _INCLUDE.sub(fragment, path.read_text(encoding="utf-8"))


@cache
def migrations() -> tuple[MigrationFile, ...]:
    """Return every migration in order; versions count from 1 without a gap."""
    found = []
    for path in sorted((root() / "migrations").iterdir()):
        match = _MIGRATION.fullmatch(path.name)
        if match is None:
            continue
        text = path.read_text(encoding="utf-8")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found.append(MigrationFile(int(match[1]), match[2], text, checksum))
    assert [m.version for m in found] == list(range(1, len(found) + 1))
    return tuple(found)


@cache
def objects(version: int) -> tuple[str, ...]:
    """Return the objects of a schema version: kind and name of each.

    Empty for versions that this program does not know.
    """
    lines = (root() / "objects.txt").read_text(encoding="utf-8").splitlines()
    entries = (line.split(" ", 2) for line in lines if not line.startswith("--"))
    return tuple(
        name
        for since, until, name in entries
        if int(since) <= version <= (latest_version() if until == "-" else int(until))
    )


def latest_version() -> int:
    """Return the schema version that this program is written for."""
    return migrations()[-1].version
