"""Traces of a restore that was killed, or still runs, in a database; and of a list of
versions that has lost rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgflow_cli.errors import ConfigurationError
from pgflow_cli.formats.words import some
from pgflow_cli.models.schema import AppliedMigration, ReplacedSchema, ServerFacts
from pgflow_cli.repository import sqlfiles

if TYPE_CHECKING:
    from pgflow_cli.repository.connection import Link

_MOST_NAMED = 3  # missing objects that a message names
_OF_THE_BEGINNING = ("table migrations", "constraint migrations.")
_CUT = "a restore was cut off here, or they were lost"
_DROP = "drop schema if exists pgflow cascade; drop schema if exists pgflow_restoring;"
_AGAIN = "Record them again: pgflow doctor --check complete --fix-sql prints the SQL."
_RECORD_AGAIN = (
    "reindex table pgflow.migrations; insert into pgflow.migrations (version, name, "
    "checksum) values {} on conflict (version) do nothing;"
)
_KEEP = (
    "If no restore was at work here, or jobs ran since, keep it, and put back what is "
    "missing: pgflow migrate sql prints how it is made."
)
_ELSE = "If one was, restore again: pgflow restore FILE --clean  "
TO_KEEP = "pg_dump --schema=pgflow --file=before-0.1.sql --dbname=URL"


@dataclass(frozen=True, slots=True)
class Remains:
    """What a database holds of pgflow: the recorded `version`, the objects `missing` of
    it, the schema that was put `aside`, and whether a restore has left its mark.

    `unreleased` is a version that is not this program's, of a schema from before the
    first release: what is missing of that one is not known. `unrecorded` are versions
    whose every object is there, and that the list of versions has lost.
    """

    version: int
    missing: tuple[str, ...]
    restoring: bool
    aside: ReplacedSchema | None
    unreleased: AppliedMigration | None = None
    unrecorded: tuple[int, ...] = ()

    @property
    def partial(self) -> bool:
        """Whether objects are missing, or only the schema that was put aside is
        there.
        """
        nothing = self.aside is not None and not self.version
        return self.restoring or bool(self.missing or self.unrecorded) or nothing

    def require_whole(self, *, restoring: bool = False) -> None:
        """Raise `ConfigurationError` if what is there is partial, or unreleased.

        With a part of the tables, jobs would run again or not at all, and `migrate`
        would make an empty queue. A restore ignores its own mark.
        """
        if self.unreleased is not None:
            raise unreleased_error(self.unreleased)
        broken = self.missing or self.unrecorded
        if broken or (self.partial and not restoring):
            raise ConfigurationError(self.message, *self.hints)

    @property
    def message(self) -> str:
        """Say what has happened."""
        if self.restoring:
            return "a restore was killed or has failed in this database, or still runs"
        if self.unrecorded:
            return (
                "the list of versions is incomplete: pgflow.migrations has lost "
                f"{some([str(each) for each in self.unrecorded], _MOST_NAMED)}, and "
                "every object of them is there"
            )
        if self.missing and not self.version:
            return f"the schema is incomplete: no migration is recorded; {_CUT}"
        if self.missing:
            named = ", ".join(self.missing[:_MOST_NAMED])
            more = ", …" if len(self.missing) > _MOST_NAMED else ""
            return (
                f"the schema is incomplete: {len(self.missing)} of its objects are "
                f"missing or invalid ({named}{more}); {_CUT}"
            )
        if not self.version:
            return "there is no schema to migrate: a restore was killed here"
        return "a restore was killed in this database after it had loaded everything"

    @property
    def way_back(self) -> str:
        """Return the SQL that records lost versions again, or that undoes a restore, so
        that another can begin; empty where no restore has left its mark.
        """
        if self.unrecorded and not self.restoring:
            return record_again(self.unrecorded)
        if self.aside is not None:
            return self.aside.way_back
        return _DROP if self.restoring else ""

    @property
    def hints(self) -> tuple[str, ...]:
        """Say what to do; to drop is never the first where jobs may be all that is
        left.
        """
        if self.unrecorded and not self.restoring:
            return (f"Keep the schema: its jobs are there. {_AGAIN}",)
        if self.aside is not None:
            return (
                *self.aside.hints(),
                "Or restore again: pgflow restore FILE --clean",
            )
        if self.restoring:
            return (
                "If it runs, wait for its end. If not, restore again: pgflow restore "
                "FILE --clean",
                f"Or empty the database, in psql: {_DROP}",
            )
        return (_KEEP, f"{_ELSE} Or with psql, after: {_DROP}")


def look(link: Link) -> Remains:
    """Read what is there; read it again if it was migrated meanwhile."""
    while True:
        applied = _applied(link)
        rows = link.tuples("list_schema_objects")
        aside = list_replaced_schemas(link)
        if _applied(link) == applied:
            break
    version = max((migration.version for migration in applied), default=0)
    found = {f"{kind} {name}": sound for kind, name, sound in rows}
    restoring = found.pop("mark pgflow_restoring", False)
    unreleased = find_unreleased(applied)
    recorded = {migration.version for migration in applied}
    unrecorded = () if unreleased else _unrecorded(recorded, found)
    return Remains(
        version,
        () if unreleased or unrecorded else _missing(version, found),
        restoring,
        aside[-1] if aside else None,
        unreleased,
        unrecorded,
    )


def find_unreleased(applied: Sequence[AppliedMigration]) -> AppliedMigration | None:
    """Return the first version that the first release has with another text, if any.

    Then the schema was made before that release, whatever its number is.
    """
    files = sqlfiles.migrations()[: sqlfiles.FIRST_RELEASE]
    texts = {file.version: file.checksum for file in files}
    return next(
        (
            each
            for each in applied
            if each.checksum != texts.get(each.version, each.checksum)
        ),
        None,
    )


def unreleased_error(found: AppliedMigration) -> ConfigurationError:
    """Return the error of a schema from before the first release."""
    return ConfigurationError(
        "the schema was made before pgflow 0.1 "
        f"(its {found.version:04d}_{found.name} is another), and cannot be migrated",
        f"To keep what it holds: {TO_KEEP}",
        "Then, in psql: drop schema pgflow cascade;   Then: pgflow migrate",
    )


def record_again(versions: Sequence[int]) -> str:
    """Return the SQL that enters versions into the list, as `migrate` has done.

    Its index may point to rows that a page of zeros has lost, so it is made again.
    """
    files = {file.version: file for file in sqlfiles.migrations()}
    rows = [
        f"({each}, '{files[each].name}', '{files[each].checksum}')" for each in versions
    ]
    values = ", ".join(["(0, 'schema_lock', '')", *rows])
    return _RECORD_AGAIN.format(values)


def _applied(link: Link) -> list[AppliedMigration]:
    if not inspect_server(link).has_migrations:
        return []
    return list_applied_migrations(link)


def list_applied_migrations(link: Link) -> list[AppliedMigration]:
    """Return the versions that have been applied, in order."""
    return link.rows("list_applied_migrations", AppliedMigration)


def inspect_server(link: Link) -> ServerFacts:
    """Return the facts of a server that decide whether a schema can be made there."""
    return link.rows("inspect_server", ServerFacts)[0]


def find_schema_version(link: Link) -> int:
    """Return the newest version that has been applied."""
    return int(link.tuples("find_schema_version")[0][0])


def list_replaced_schemas(link: Link) -> list[ReplacedSchema]:
    """Return the schemas that restores have put aside and left, oldest first."""
    return link.rows("list_replaced_schemas", ReplacedSchema)


def _missing(version: int, found: dict[str, bool]) -> tuple[str, ...]:
    """Return the objects of a version that are missing or invalid."""
    if not version:
        others = [name for name in found if not name.startswith(_OF_THE_BEGINNING)]
        return ("its migrations",) if others else ()
    expected = sqlfiles.objects(version)
    return tuple(name for name in expected if not found.get(name))


def _unrecorded(recorded: set[int], found: dict[str, bool]) -> tuple[int, ...]:
    """Return the versions that the list lacks, where the objects are those of exactly
    one version: each makes some of its own.
    """
    versions = range(1, sqlfiles.latest_version() + 1)
    known = {name for version in versions for name in sqlfiles.objects(version)}
    there = known & found.keys()
    for version in versions:
        whole = there == {*sqlfiles.objects(version)}
        if whole and all(found[name] for name in there):
            return tuple(each for each in range(1, version + 1) if each not in recorded)
    return ()
