"""Print the versions of everything that takes part."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of

from pgflow_cli.cli.context import command, open_repository
from pgflow_cli.cli.output import messages, records
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings.database import names_a_database
from pgflow_cli.errors import PgflowError

COLUMNS = (
    Column("pgflow"),
    Column("schema_expected"),
    Column("schema_found"),
    Column("server"),
    Column("python"),
    Column("psycopg"),
    Column("click"),
    Column("pg_dump"),
)


@command("version")
def version() -> None:
    """Print the versions of the program, of its parts, and of the database.

    The database is asked only if a URL is set; if it does not answer, its versions are
    left out and the reason goes to stderr.

    \b
    Examples:
      pgflow version
      pgflow version -o json
    """
    from pgflow_cli.repository import sqlfiles

    number, server, schema = _of_the_database()
    versions = {
        "pgflow": version_of("pgflow"),
        "schema_expected": sqlfiles.latest_version(),
        "schema_found": schema,
        "server": server,
        "python": platform.python_version(),
        "psycopg": version_of("psycopg"),
        "click": version_of("click"),
        "pg_dump": _of_pg_dump(number),
    }
    records.write_record(versions, COLUMNS)


def _of_the_database() -> tuple[int | None, str | None, int | None]:
    if not names_a_database():
        return None, None, None
    from pgflow_cli.repository import remains

    try:
        with open_repository(tries=1) as repository:
            facts = repository.schema.inspect_server()
            if not facts.has_migrations:
                return facts.version_number, facts.version, None
            applied = repository.schema.list_applied_migrations()
            if (other := remains.find_unreleased(applied)) is not None:
                messages.warn(remains.unreleased_error(other).message)
            found = max((migration.version for migration in applied), default=0)
            return facts.version_number, facts.version, found
    except PgflowError as error:
        messages.warn(error.message)
        return None, None, None


def _of_pg_dump(server: int | None) -> str | None:
    """Return the version of the pg_dump that backup would take, if there is one."""
    from pgflow_cli.local import clients

    try:
        return clients.find(server or 0).version
    except PgflowError:
        newest = max(clients.installed(), key=lambda c: c.major, default=None)
        return newest.version if newest else None
