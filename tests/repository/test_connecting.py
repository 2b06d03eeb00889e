"""What is said when no connection comes about: whether another try can mend it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    PermissionDenied,
    PgflowError,
)
from pgflow_cli.repository import Database, Repository
from pgflow_cli.repository.translation import connection_error
from tests import servers

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Door:
    """A database, and a role that may log in and nothing else."""

    database: servers.Database
    connection: Connection
    role: str

    def do(self, statement: str) -> None:
        """Change the role {R} or the database {D}."""
        names = {"R": f'"{self.role}"', "D": f'"{self.database.name}"'}
        self.connection.execute(statement.format(**names))

    def refusal(self, *, database: str = "", role: str = "") -> PgflowError:
        """Return what a connection is refused with."""
        url = self.database.url.replace("postgres@", f"{role or self.role}@", 1)
        if database:
            url = url.replace(f"/{self.database.name}", f"/{database}", 1)
        repository = Repository.of(Database(url))
        with pytest.raises(PgflowError) as caught:
            repository.read_clock()
        return caught.value


@pytest.fixture
def door(server: servers.Server, database: servers.Database) -> Iterator[Door]:
    role = f"caller_{database.name}"
    # Not to the database itself: that can be closed only from outside.
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f'create role "{role}" login')
        yield Door(database, connection, role)
        connection.execute(f'drop role "{role}"')


@pytest.mark.parametrize(
    ("statement", "kind", "said"),
    [
        (
            "alter role {R} connection limit 0",
            DatabaseUnavailable,
            "too many connections for role",
        ),
        (
            "alter database {D} connection limit 0",
            DatabaseUnavailable,
            "too many connections for database",
        ),
        (
            "alter database {D} allow_connections false",
            DatabaseUnavailable,
            "not currently accepting connections",
        ),
        ("alter role {R} nologin", PermissionDenied, "is not permitted to log in"),
        (
            "revoke connect on database {D} from public",
            PermissionDenied,
            "permission denied for database",
        ),
    ],
)
def test_what_may_pass_is_an_outage_and_what_is_forbidden_is_not(
    door: Door, statement: str, kind: type[PgflowError], said: str
) -> None:
    door.do(statement)
    error = door.refusal()
    assert type(error) is kind
    assert said in error.message
    assert door.role in error.message, "it says who could not connect, and where"


def test_who_or_what_is_unknown_is_told(door: Door) -> None:
    unknown = door.refusal(database="not_there")
    assert type(unknown) is ConfigurationError
    assert 'database "not_there" does not exist' in unknown.message
    assert type(door.refusal(role="not_there")) is PermissionDenied


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ('FATAL:  password authentication failed for user "app"', PermissionDenied),
        ('FATAL:  Peer authentication failed for user "app"', PermissionDenied),
        ("fe_sendauth: no password supplied", PermissionDenied),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', PermissionDenied),
        ('FATAL:  pg_hba.conf rejects connection for host "h"', PermissionDenied),
        ("FATAL:  sorry, too many clients already", DatabaseUnavailable),
        ("FATAL:  the database system is starting up", DatabaseUnavailable),
        ("Connection refused\n\tIs the server running there?", DatabaseUnavailable),
    ],
)
def test_the_words_of_server_and_library_decide(
    reason: str, kind: type[PgflowError]
) -> None:
    text = f'connection failed: connection to server at "h" failed: {reason}'
    error = connection_error("app@h/app", psycopg.OperationalError(text))
    assert type(error) is kind
    first = reason.removeprefix("FATAL:  ").partition("\n")[0]
    assert error.message == f"cannot connect to app@h/app: {first}"
