"""The schema of the database, its migrations and partitions, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Facts of a server and a database that decide whether a schema can be made
    there.
    """

    version_number: int
    version: str
    database: str
    encoding: str
    in_recovery: bool
    has_schema: bool
    has_migrations: bool


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """A version of the schema that has been applied; `applied_at` is ISO 8601, UTC."""

    version: int
    name: str
    checksum: str
    applied_at: str
    applied_by: str


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """A version and whether it has been applied; `drift`: its file was edited since."""

    version: int
    name: str
    applied_at: str | None
    applied_by: str | None
    drift: bool
    pending: bool


@dataclass(frozen=True, slots=True)
class ReplacedSchema:
    """A schema that a restore has put aside and left; `way_back` is SQL."""

    name: str
    way_back: str

    def hints(self) -> tuple[str, ...]:
        """Return sentences: what it is, and how to restore it."""
        return (
            f"A restore that was killed has put schema {self.name} aside: what was "
            "there before.",
            f"To bring it back, in psql: {self.way_back}",
        )


@dataclass(frozen=True, slots=True)
class SchemaLockHolder:
    """The session that changes the schema; `since` is UTC, or empty if the role may not
    see it.
    """

    pid: int
    application_name: str
    role: str
    since: str
    state: str


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """A missing day partition and the statements that make it.

    `strays` is how many rows of that day the default partition holds, counted no
    further than may be moved.
    """

    name: str
    strays: int
    statements: list[str]
