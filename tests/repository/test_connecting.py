"""What is said when no connection comes about: whether another try can mend it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import pq

from pgflow_cli.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    PermissionDenied,
    PgflowError,
    Unadmitted,
    UnknownDatabase,
)
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.repository import Database, Repository
from pgflow_cli.repository.errors import connection_error
from pgflow_cli.repository.negotiation import CAN_TRACE
from pgflow_cli.worker.readiness import await_database
from tests.support import old_server, servers
from tests.support.private_servers import PrivateServer, private_server

# A pooler lets clients in by rules of its own.
pytestmark = pytest.mark.direct

Wait = Callable[..., Any]
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
            repository.diagnosis.read_clock()
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
            Unadmitted,
            "too many connections for role",
        ),
        (
            "alter database {D} connection limit 0",
            Unadmitted,
            "too many connections for database",
        ),
        (
            "alter database {D} allow_connections false",
            Unadmitted,
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
    if said.startswith("too many"):
        assert error.hints[0].startswith("No connection is left: end idle ones")


def test_who_or_what_is_unknown_is_told(door: Door) -> None:
    unknown = door.refusal(database="not_there")
    assert type(unknown) is UnknownDatabase
    assert 'database "not_there" does not exist' in unknown.message
    assert type(door.refusal(role="not_there")) is PermissionDenied


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "password"),
    [
        ("local all app scram-sha-256", ":wrong"),
        ("local all app scram-sha-256", ""),
        ("local all app reject", ":right"),
        ("", ":right"),
    ],
)
def test_who_is_not_let_in_is_told(
    guarded: PrivateServer, wait_until: Wait, rule: str, password: str
) -> None:
    guarded.admit(rule)
    url = guarded.url.replace("postgres@", f"app{password}@", 1)

    def refused() -> PgflowError | None:
        try:
            Repository.of(Database(url)).diagnosis.read_clock()
        except PgflowError as error:
            return error
        return None

    # A rule is in force a moment after the server was told of it.
    error = wait_until(refused, "it is refused")
    assert type(error) is PermissionDenied
    assert "right" not in error.message


@pytest.fixture(scope="module")
def guarded() -> Iterator[PrivateServer]:
    """A server with a role that has a password."""
    with private_server() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("create role app login password 'right'")
        yield server


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("28000", PermissionDenied),
        ("28P01", PermissionDenied),
        ("42501", PermissionDenied),
        ("3D000", UnknownDatabase),
        ("42704", ConfigurationError),
        ("22023", ConfigurationError),
        ("42601", ConfigurationError),
        ("53300", Unadmitted),
        ("57P03", Unadmitted),
        ("55000", Unadmitted),
        (None, DatabaseUnavailable),
    ],
)
@pytest.mark.parametrize(
    "reason",
    [
        "FATAL:  Passwort-Authentifizierung für Benutzer »app« fehlgeschlagen",
        'ВАЖНО:  база данных "app" не существует',
        'FATAL:  password authentication failed for user "app"',
        'FATAL:  database "app" does not exist',
        "Connection refused\n\tIs the server running there?",
    ],
)
def test_the_code_decides_and_not_the_words(
    reason: str, code: str | None, kind: type[PgflowError]
) -> None:
    text = f'connection failed: connection to server at "h" failed: {reason}'
    refused = psycopg.OperationalError(text)
    error = connection_error("app@h/app", refused, code)
    assert type(error) is kind
    hints = {"28": "pg_hba.conf", "42": "grant connect", "3D": "createdb"}
    hints |= {"53": "raise the limit", "57": "in a moment"}
    hints |= {"55": "The log of the server"}
    hint = hints.get((code or "")[:2], "Check that the server runs")
    if kind is ConfigurationError:
        hint = "variables that begin with PG"
    assert len(error.hints) == 1
    assert hint in error.hints[0]
    first = reason.removeprefix("FATAL:  ").partition("\n")[0]
    assert error.message == f"cannot connect to app@h/app: {first}"
    later = connection_error("app@h/app", refused, code, outage=True)
    assert type(later) is DatabaseUnavailable, "once a connection has come about"
    assert bool(later.hints) == ("FATAL" not in reason)


NOWHERE = "postgres://app:secret@127.0.0.1:1/app"


@pytest.mark.parametrize(
    ("more", "environment", "blamed"),
    [
        ("?sslmode=nonsense", {}, "sslmode in the database URL"),
        ("?target_session_attrs=odd", {}, "target_session_attrs in the database URL"),
        ("?service=unknown", {}, "service in the database URL"),
        ("?connect_timeout=soon", {}, "connect_timeout in the database URL"),
        ("", {"PGSSLMODE": "nonsense"}, "PGSSLMODE"),
        ("", {"PGSERVICE": "unknown"}, "PGSERVICE"),
        ("", {"PGSERVICE": "a", "PGSERVICEFILE": "/none"}, "PGSERVICEFILE"),
        ("", {"PGTARGETSESSIONATTRS": "odd"}, "PGTARGETSESSIONATTRS"),
        ("?sslmode=disable", {"PGSSLMODE": "nonsense"}, None),
    ],
)
def test_parameters_of_which_no_connection_can_come_are_a_mistake_and_named(
    monkeypatch: pytest.MonkeyPatch,
    more: str,
    environment: dict[str, str],
    blamed: str | None,
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(PgflowError) as caught:
        Repository.of(Database(NOWHERE + more)).diagnosis.read_clock()
    if blamed is None:
        assert type(caught.value) is DatabaseUnavailable, "what is overridden is unused"
        return
    assert type(caught.value) is ConfigurationError
    assert caught.value.message.startswith(f"{blamed} is wrong, cannot connect to app@")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("port", ["abc", "70000"])
def test_a_port_that_is_none_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    monkeypatch.setenv("PGPORT", port)
    with pytest.raises(ConfigurationError, match="PGPORT is wrong"):
        Repository.of(Database("postgres://app@127.0.0.1/app")).diagnosis.read_clock()


@contextmanager
def asked(
    database: servers.Database,
    monkeypatch: pytest.MonkeyPatch,
    more: str,
    environment: dict[str, str],
) -> Iterator[str]:
    """Ask more of a connection: by its URL, which is handed out, or by variables."""
    with monkeypatch.context() as changed:
        for variable, value in environment.items():
            changed.setenv(variable, value)
        yield database.url + (more if "?" in database.url else more.replace("&", "?"))


@pytest.mark.skipif(not CAN_TRACE, reason="no refusal has a code here")
@pytest.mark.parametrize(
    ("more", "environment", "blamed"),
    [
        ("", {"PGOPTIONS": "-c nonsense=1"}, "PGOPTIONS"),
        ("", {"PGOPTIONS": "-c work_mem=lots"}, "PGOPTIONS"),
        ("", {"PGOPTIONS": "nonsense"}, "PGOPTIONS"),
        ("", {"PGDATESTYLE": "odd"}, "PGDATESTYLE"),
        ("&options=-cnonsense%3D1", {}, "options in the database URL"),
    ],
)
def test_what_a_server_does_not_know_is_a_mistake_and_no_outage(
    database: servers.Database,
    monkeypatch: pytest.MonkeyPatch,
    more: str,
    environment: dict[str, str],
    blamed: str,
) -> None:
    with asked(database, monkeypatch, more, environment) as url:
        with pytest.raises(ConfigurationError) as caught:
            Repository.of(Database(url)).diagnosis.read_clock()
        assert caught.value.message.startswith(f"{blamed} is wrong")
        with pytest.raises(ConfigurationError):
            await_database(Database(url), migrate=False)


def test_after_a_first_success_a_refusal_is_an_outage(door: Door) -> None:
    url = door.database.url.replace("postgres@", f"{door.role}@", 1)
    repository = Repository.of(Database(url))
    repository.diagnosis.read_clock()
    repository.close()
    door.do("alter role {R} nologin")
    with pytest.raises(DatabaseUnavailable, match="not permitted to log in"):
        repository.diagnosis.read_clock()
    door.do("alter role {R} login")
    assert repository.diagnosis.read_clock() > 0
    repository.close()
    with pytest.raises(UnknownDatabase):
        Repository.of(repository.database.of_name("not_there")).diagnosis.read_clock()


def test_several_hosts_are_waited_for_no_longer_than_two() -> None:
    def each(hosts: str) -> str:
        url = f"postgresql://app@{hosts}/app"
        return Database(url, connect_timeout=6.0).parameters()["connect_timeout"]

    assert [each(hosts) for hosts in ("a", "a,b", "a,b,c", "a,b,c,d,e,f,g")] == [
        "6",
        "6",
        "4",
        "2",
    ]


def test_a_url_asks_for_more_patience_but_not_for_patience_without_end() -> None:
    def asked(seconds: str) -> str:
        url = f"postgresql://app@a/app?connect_timeout={seconds}"
        return Database(url).parameters()["connect_timeout"]

    assert [asked(seconds) for seconds in ("3", "25", "100", "0", "-1")] == [
        "3",
        "25",
        "30",
        "30",
        "30",
    ]


@pytest.mark.timeout(60)
def test_a_server_that_says_nothing_is_waited_for_no_longer_than_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hosts = ",".join([f"127.0.0.1:{port}"] * 3)
        database = Database(f"postgresql://app@{hosts}/app", connect_timeout=2.0)
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            Repository.of(database).diagnosis.read_clock()
        assert time.monotonic() - began < 20, "and not asked once more, why"


def test_a_foreign_encoding_of_the_database_spoils_no_payload(
    door: Door, repository: Repository
) -> None:
    door.do("alter database {D} set client_encoding = 'LATIN1'")
    job_id = repository.enqueue.enqueue("noop", '{"snow": "☃"}', options=JobOptions())
    row = door.database.connect().execute(
        "select payload ->> 'snow' = U&'\\2603' from pgflow.jobs where id = %s",
        (job_id,),
    )
    assert row.fetchone() == (True,)


@pytest.mark.parametrize("address", ["999.1.1.1", "db.example.org"])
def test_an_address_that_is_none_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("PGHOSTADDR", address)
    with pytest.raises(ConfigurationError, match="PGHOSTADDR is wrong"):
        Repository.of(Database("postgres://app@127.0.0.1/app")).diagnosis.read_clock()


@pytest.mark.skipif(not CAN_TRACE, reason="no refusal has a code here")
@pytest.mark.parametrize(
    ("more", "environment", "blamed"),
    [
        ("", {"PGCHANNELBINDING": "require"}, "PGCHANNELBINDING"),
        ("", {"PGREQUIREPEER": "stranger"}, "PGREQUIREPEER"),
        ("&channel_binding=require", {}, "channel_binding in the database URL"),
    ],
)
def test_what_a_server_that_answers_does_not_do_is_a_mistake_and_named(
    database: servers.Database,
    monkeypatch: pytest.MonkeyPatch,
    more: str,
    environment: dict[str, str],
    blamed: str,
) -> None:
    with (
        asked(database, monkeypatch, more, environment) as url,
        pytest.raises(ConfigurationError) as caught,
    ):
        Repository.of(Database(url)).diagnosis.read_clock()
    assert f"the server answers, but not as {blamed} asks" in caught.value.message


@pytest.fixture(scope="module")
def old_fashioned_server() -> Iterator[str]:
    """The URL of a server that knows neither TLS nor a protocol after 3.0, and lets no
    one in. In a process: libpq holds the interpreter while it asks.
    """
    script = Path(old_server.__file__)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield f"postgresql://app@127.0.0.1:{port}/app"
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("more", "environment", "blamed"),
    [
        ("?sslmode=require", {}, "sslmode in the database URL asks"),
        ("", {"PGSSLMODE": "verify-full"}, "PGSSLMODE asks"),
        ("", {"PGREQUIRESSL": "1"}, "PGREQUIRESSL asks"),
        ("", {"PGMINPROTOCOLVERSION": "3.2"}, "PGMINPROTOCOLVERSION asks"),
        (
            "?sslmode=require",
            {"PGCHANNELBINDING": "require"},
            "sslmode in the database URL and PGCHANNELBINDING ask",
        ),
    ],
    ids=["url", "PGSSLMODE", "PGREQUIRESSL", "PGMINPROTOCOLVERSION", "both"],
)
def test_what_a_server_is_too_old_for_is_a_mistake_and_named(
    old_fashioned_server: str,
    monkeypatch: pytest.MonkeyPatch,
    more: str,
    environment: dict[str, str],
    blamed: str,
) -> None:
    if "PGMINPROTOCOLVERSION" in environment and pq.version() < 180000:
        pytest.skip("this libpq does not know it")
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        Repository.of(Database(old_fashioned_server + more)).diagnosis.read_clock()
    assert caught.value.message.endswith(f"; the server answers, but not as {blamed}")
    assert caught.value.hints == ("Set that up on the server, or ask for less.",)


def test_what_is_asked_of_a_server_that_is_away_is_no_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGREQUIRESSL", "1")
    with pytest.raises(PgflowError) as caught:
        Repository.of(Database(NOWHERE)).diagnosis.read_clock()
    assert type(caught.value) is DatabaseUnavailable


def test_a_standby_that_is_asked_for_may_come_with_a_failover(
    database: servers.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.setenv("PGTARGETSESSIONATTRS", "standby")
        with pytest.raises(Unadmitted) as caught:
            Repository.of(Database(database.url)).diagnosis.read_clock()
    assert "PGTARGETSESSIONATTRS asks" in caught.value.hints[0]


def test_a_service_is_named_as_libpq_takes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "services"
    file.write_text("[sv]\nhost=127.0.0.1\nport=55431\ndbname=q\nuser=u\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    assert Database("postgresql://?service=sv").display() == "u@127.0.0.1:55431/q"
    monkeypatch.setenv("PGSERVICE", "sv")
    assert Database("postgresql://o@/").display() == "o@127.0.0.1:55431/q"
    monkeypatch.delenv("PGSERVICE")
    monkeypatch.setenv("PGHOST", "h")
    assert Database("postgresql://o@/d").display() == "o@h:5432/d"
