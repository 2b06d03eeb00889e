"""How a session becomes ours: directly, behind poolers, over a borrowed connection."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psycopg
import psycopg.conninfo
import psycopg.rows
import pytest

import pgflow_cli
from pgflow_cli.errors import (
    ConfigurationError,
    ConnectionUnfit,
    Refused,
    StatementFailed,
)
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.operations import enqueue
from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Repository
from pgflow_cli.repository.session import PINNED, Sent
from tests.support.private_servers import pgbouncer
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
_READ = "select pg_catalog.current_setting(%s)"


def in_force(repository: Repository, *names: str) -> list[str]:
    """Return settings as a statement of ours finds them."""
    link = repository.link
    with link.transaction():
        link.tuples("read_clock")
        connection = link.raw()
        rows = [connection.execute(_READ, (name,)).fetchone() for name in names]
    return [row[0] for row in rows if row]


@pytest.fixture
def repository_of() -> Any:
    made: list[Repository] = []

    def make(url: str, **more: Any) -> Repository:
        made.append(Repository.of(Settings(url, **more)))
        return made[-1]

    yield make
    for each in made:
        each.close()


ASKED = ("search_path", "lock_timeout", "jit")
GOT = ["pg_catalog, pg_temp", "4321ms", "off"]


@pytest.mark.direct
def test_what_a_url_asks_for_is_honoured_where_we_pin_nothing(
    database: Database, repository_of: Any
) -> None:
    options = "-c search_path=public -c lock_timeout=4321ms -c jit=on"
    url = psycopg.conninfo.make_conninfo(database.url, options=options)
    assert in_force(repository_of(url), *ASKED) == GOT


@pytest.mark.direct
def test_what_the_environment_asks_for_is_honoured_where_we_pin_nothing(
    database: Database, repository_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "PGOPTIONS", "-c search_path=public -c lock_timeout=4321ms -c jit=on"
    )
    # These come after `options`, and would win.
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    repository = repository_of(database.url)
    assert in_force(repository, *ASKED) == GOT
    names = ("DateStyle", "TimeZone", "client_encoding")
    assert in_force(repository, *names) == ["ISO, MDY", "UTC", "UTF8"]


@pytest.mark.direct
def test_what_a_service_file_asks_for_is_honoured_where_we_pin_nothing(
    database: Database,
    repository_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    given = psycopg.conninfo.conninfo_to_dict(database.url)
    lines = [f"{name}={value}" for name, value in given.items()]
    lines.append("options=-c search_path=public -c lock_timeout=4321ms -c jit=on")
    file = tmp_path / "services.conf"
    file.write_text("\n".join(["[jobs]", *lines, ""]))
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGOPTIONS", "-c lock_timeout=1ms")  # the service's win
    assert in_force(repository_of("service=jobs"), *ASKED) == GOT
    monkeypatch.setenv("PGSERVICE", "jobs")
    assert in_force(repository_of("application_name=x"), *ASKED) == GOT


@pytest.mark.direct
@pytest.mark.parametrize("ignored", ["", "ignore_startup_parameters = options"])
def test_a_pooler_that_takes_no_options_or_ignores_them_changes_nothing(
    database: Database, connection: Connection, repository_of: Any, ignored: str
) -> None:
    connection.execute(f"alter database {database.name} set search_path = public")
    connection.execute(f"alter database {database.name} set jit = on")
    connection.execute(f"alter database {database.name} set datestyle = 'German'")
    with pgbouncer(database, "default_pool_size = 1", ignored) as url:  # noqa: SIM117
        with psycopg.connect(url, autocommit=True) as other:
            # In the session that we get next, where a bare name finds it first.
            other.execute("create temp view pg_roles as select 1 as nothing")
            before = [other.execute(_READ, (s.name,)).fetchone() for s in PINNED]
            repository = repository_of(url)
            repository.backups.list_role_names()
            repository.enqueue.enqueue("noop", "{}", options=JobOptions())
            names = ("search_path", "jit")
            assert in_force(repository, *names) == ["pg_catalog, pg_temp", "off"]
            with repository.transaction():
                with pytest.raises(Refused), repository.transaction():
                    repository.enqueue.enqueue(
                        "noop", json.dumps("x" * 300000), options=JobOptions()
                    )
                path = repository.link.raw().execute(_READ, ("search_path",))
                assert path.fetchone() == ("pg_catalog, pg_temp",)
            assert repository.schema.list_applied_migrations()
            after = [other.execute(_READ, (s.name,)).fetchone() for s in PINNED]
            assert before == after, "nothing is left in a session that others use"


@pytest.mark.direct
def test_a_pooler_in_statement_mode_is_refused(
    database: Database, repository_of: Any
) -> None:
    """At the first statement, whether that needs a transaction or not."""
    with pgbouncer(database, "pool_mode = statement") as url:
        repository = repository_of(url)
        with pytest.raises(ConfigurationError, match="in statement mode") as raised:
            repository.queues.list_queue_names()
    assert raised.value.exit_code == 78


@pytest.mark.direct
@pytest.mark.parametrize("enqueued", ["one", "many"])
def test_a_producer_behind_a_pooler_in_statement_mode_is_told_so(
    database: Database, connection: Connection, enqueued: str
) -> None:
    """It is no lost connection, to be tried again without end."""
    with pgbouncer(database, "pool_mode = statement") as url:
        own = psycopg.connect(url)
        jobs = [{"job_type": "a"}] * (1 if enqueued == "one" else 1001)
        with pytest.raises(ConnectionUnfit, match="in statement mode"):
            pgflow_cli.enqueue_many(own, jobs)
        own.close()
    assert connection.execute("select count(*) from pgflow.jobs").fetchone() == (0,)


_KNOWN = "select pg_catalog.current_setting('restrict_nonsystem_relation_kind', true)"


@pytest.mark.direct
@pytest.mark.parametrize("pooled", [False, True])
def test_what_only_some_servers_know_is_pinned_there(
    database: Database, connection: Connection, repository_of: Any, pooled: bool
) -> None:
    """Set to `view`, it forbids what pgflow reads most."""
    if connection.execute(_KNOWN).fetchone() != (None,):
        connection.execute(
            f"alter database {database.name}"
            " set restrict_nonsystem_relation_kind = 'view'"
        )
    with pgbouncer(database) if pooled else nullcontext(database.url) as url:
        assert not repository_of(url).leases.find_due_job(None, None)


@pytest.mark.direct
def test_a_pooler_does_not_make_reports_write_nor_read_only_roles_stop(
    database: Database, connection: Connection, repository_of: Any
) -> None:
    connection.execute(
        f"alter database {database.name} set default_transaction_read_only = on"
    )
    with pgbouncer(database) as url:
        writer = repository_of(url)
        assert writer.enqueue.enqueue("noop", "{}", options=JobOptions())
        reader = repository_of(url, read_only=True)
        assert reader.schema.list_applied_migrations()
        with pytest.raises(Exception, match="read-only"):
            reader.enqueue.enqueue("noop", "{}", options=JobOptions())


def test_statements_that_are_sent_together_happen_together(
    repository: Repository,
) -> None:
    link = repository.link
    good = Sent("notify", {"payload": "x"})
    pause = Sent("raise_fence", {"reason": "r", "fenced_by": "t", "seen_epoch": None})
    first, last = link.together([pause, good], psycopg.rows.tuple_row)
    assert len(first.fetchall()) == 1
    assert last.rowcount == 1
    repository.fence.record_identity()
    bad = Sent("read_payload", {"job_id": "no id"})
    with pytest.raises(StatementFailed):
        link.together([pause, bad], psycopg.rows.tuple_row)
    assert not repository.fence.read_identity().fenced, "the first is undone"
    assert repository.schema.list_applied_migrations(), "and the link goes on"


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "WIN1252", "UTF8"])
def test_a_borrowed_connection_may_have_any_encoding(
    connection: Connection, encoding: str
) -> None:
    connection.execute(f"set client_encoding = '{encoding}'")
    one = enqueue.enqueue(connection, "noop", {"snow": "☃ 𝄞 é"}, meta={"ø": "☃"})
    many = enqueue.enqueue_many(
        connection, [{"job_type": "noop", "payload": {"snow": "☃ 𝄞 é"}}]
    )
    assert [type(each) for each in (one, *many)] == [str, str]
    connection.execute("set client_encoding = 'UTF8'")
    rows = connection.execute(
        "select payload ->> 'snow', id::text from pgflow.jobs order by id"
    ).fetchall()
    assert rows == [("☃ 𝄞 é", one), ("☃ 𝄞 é", many[0])]


def test_a_callers_digits_decide_about_no_number(connection: Connection) -> None:
    connection.execute("set extra_float_digits = -15")
    connection.execute("select pgflow.enqueue('noop', '[9007199254740994]')")
