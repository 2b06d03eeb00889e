"""The manifest of a backup, and the rows that it is made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class DumpSource:
    """A database that is to be dumped, whatever version its schema has."""

    server_version: str
    version_number: int
    database: str
    in_recovery: bool
    has_migrations: bool
    has_identity: bool
    has_backups: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class TablePlan:
    """A table that holds rows of its own, and the statements that count them."""

    name: str
    archived: bool
    count_statement: str
    digest_statement: str


@dataclass(frozen=True, slots=True)
class TableDigest:
    """The number of a table's rows, and the sum of their hashes if requested."""

    rows: int
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a backup. `tables` are the rows per table, without tables left
    out.

    `sha256` is that of the file; of a directory, that of its FILE.sha256.
    """

    database: str
    system_identifier: int | None
    epoch: str | None
    schema_version: int | None
    server_version: str
    pg_dump_version: str
    pgflow_version: str
    format: str
    content: str
    only_pgflow: bool
    excluded: list[str]
    tables: dict[str, int]
    bytes: int
    sha256: str
    verified: str
    verified_on: str | None
    started_at: str
    finished_at: str

    def text(self) -> str:
        """Return it as it stands in its file."""
        return json.dumps(asdict(self), indent=2) + "\n"
