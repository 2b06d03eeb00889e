"""Refusals are recorded without a wait, and by a role that can lock nothing."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import pgflow_cli
from pgflow_cli.errors import Refused
from pgflow_cli.inspection import prometheus
from pgflow_cli.repository import Repository
from tests.conftest import RunsPgflow
from tests.support.servers import Database

pytestmark = pytest.mark.direct  # they set what a session keeps
Connection = psycopg.Connection[Any]

README = Path(__file__).resolve().parents[2] / "README.md"
MODES = (
    *("access share", "row share", "row exclusive", "share update exclusive"),
    *("share", "share row exclusive", "exclusive", "access exclusive"),
)


def refusal(queue: str = "emails", jobs: int = 1) -> Refused:
    """Return the refusal of a payload that is too large."""
    details = {"queue": queue, "limit": 2, "bytes": 9, "jobs": jobs}
    return Refused("too large", reason_code="PAYLOAD_TOO_LARGE", details=details)


def counted(connection: Connection) -> dict[str, int]:
    return dict(
        connection.execute(
            "select queue, sum(count)::integer from pgflow.ingest_decisions group by 1"
        ).fetchall()
    )


@pytest.fixture(autouse=True)
def emails(connection: Connection) -> None:
    """A queue that exists."""
    connection.execute(
        "insert into pgflow.queue_ranks (queue, rank) values ('emails', 0)"
    )


@pytest.fixture
def impatient(database: Database) -> Connection:
    """A connection in whose transactions any wait for a lock is an error."""
    connection = database.connect(autocommit=False)
    connection.execute("set lock_timeout = '1ms'")
    connection.commit()
    return connection


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
@pytest.mark.parametrize("earlier", [0, 1])
def test_a_recorder_does_not_wait_for_an_open_transaction_of_another(
    database: Database,
    connection: Connection,
    impatient: Connection,
    isolation: str,
    earlier: int,
) -> None:
    for _ in range(earlier):
        pgflow_cli.record_refusal(connection, refusal())
    with database.connect(autocommit=False) as open_one:
        open_one.execute(f"set transaction isolation level {isolation}")
        assert pgflow_cli.record_refusal(open_one, refusal(jobs=2))
        for _ in range(2):
            assert pgflow_cli.record_refusal(impatient, refusal(jobs=3))
            impatient.commit()
        open_one.commit()
    assert counted(connection) == {"emails": earlier + 2 + 3 + 3}


def test_recorders_one_after_another_share_a_row(connection: Connection) -> None:
    with connection.transaction():  # in one minute, whatever the clock says
        for _ in range(20):
            pgflow_cli.record_refusal(connection, refusal())
    rows = connection.execute("select count from pgflow.ingest_decisions")
    assert rows.fetchall() == [(20,)]


def test_while_the_table_is_locked_a_refusal_is_not_counted_and_spoils_nothing(
    database: Database, connection: Connection, pgflow: RunsPgflow
) -> None:
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_payload_bytes) values ('rq', 2)"
    )
    with database.connect(autocommit=False) as locker:
        locker.execute("lock table pgflow.ingest_decisions in access exclusive mode")
        with database.connect(autocommit=False) as own:
            assert not pgflow_cli.record_refusal(own, refusal())
            pgflow_cli.enqueue(own, "a")
            own.commit()
        told = pgflow("enqueue", "a", '{"x": 1}', "-q", "rq")
        assert told.returncode == 4
        assert "a refusal was not counted" in told.stderr
    assert counted(connection) == {}
    assert connection.execute("select count(*) from pgflow.jobs").fetchone() == (1,)


@pytest.mark.parametrize(
    "row",
    [
        {"queue": "made up\n"},
        {"queue": None},
        {"reason_code": "MINE"},
        {"jobs": -1},
        {"jobs": "many"},
        {"jobs": 10**20},
        {"details": {"x": "y" * 5000}},
        {"details": "secret"},
    ],
    ids=lambda row: "-".join(f"{k}-{str(v)[:8]!r}" for k, v in row.items()),
)
def test_only_what_the_gate_says_is_counted(
    connection: Connection, row: dict[str, object]
) -> None:
    good = {"queue": "emails", "reason_code": "PAYLOAD_TOO_LARGE", "jobs": 1}
    rows = [{**good, "details": {}}, {**good, "details": {}, **row}]
    connection.execute(
        "select pgflow.record_refusals(%s)", (psycopg.types.json.Jsonb(rows),)
    )
    assert counted(connection) == {"emails": 1}


NAMES = [f"aaa{n}" for n in range(1200)]


def refuse_made_up_queues(connection: Connection) -> None:
    """Record refusals for 1,200 names, as many as one call takes in a row each."""
    rows = [
        {"queue": name, "reason_code": reason, "jobs": 1, "details": {"limit": 2}}
        for name in NAMES
        for reason in ("PAYLOAD_TOO_LARGE", "ENQUEUE_RATE_EXCEEDED", "TOO_MANY_QUEUES")
    ]
    connection.execute(
        "select pgflow.record_refusals(%s)", (psycopg.types.json.Jsonb(rows),)
    )


def test_all_queues_that_do_not_exist_are_one(connection: Connection) -> None:
    refuse_made_up_queues(connection)
    assert counted(connection) == {"(new)": 3 * len(NAMES)}
    told = connection.execute(
        "select details_json ->> 'queue' from pgflow.ingest_decisions"
    ).fetchall()
    assert {*told} <= {(name,) for name in NAMES}


def test_a_queue_exists_by_a_policy_or_a_job_and_not_by_a_refusal(
    connection: Connection, repository: Repository
) -> None:
    connection.execute("select pgflow.enqueue('a', queue => 'real')")
    connection.execute("insert into pgflow.queue_policies (queue) values ('ruled')")
    for name in ("real", "ruled", "aaa"):
        pgflow_cli.record_refusal(connection, refusal(name))
    assert counted(connection) == {"real": 1, "ruled": 1, "(new)": 1}
    # As an older version wrote it down.
    connection.execute(
        "update pgflow.ingest_decisions set queue = 'old' where queue = '(new)'"
    )
    found = ["emails", "real", "ruled"]
    assert repository.queues.list_queue_names() == found
    assert repository.metrics.choose_queues(None, limit=9) == (found, 3)


def test_refused_names_take_no_label_from_a_queue_also_when_they_are_pruned(
    connection: Connection, repository: Repository
) -> None:
    refuse_made_up_queues(connection)
    # As an older version wrote them down.
    connection.execute(
        "insert into pgflow.ingest_decisions (minute, queue, decision, reason_code)"
        " select now(), unnest(%s::text[]), 'DENIED', 'PAYLOAD_TOO_LARGE'",
        (NAMES,),
    )
    for round_ in ("kept", "pruned"):
        connection.execute(f"select pgflow.enqueue('a', queue => '{round_}')")
        text = prometheus.text(prometheus.collect(repository)).decode()
        assert f'pgflow_queue_jobs{{queue="{round_}",state="runnable"}} 1.0' in text
        assert "pgflow_queues_left_out 0.0" in text
        assert 'queue="(new)",reason_code="PAYLOAD_TOO_LARGE"' in text
        connection.execute("delete from pgflow.ingest_decisions")


@pytest.mark.parametrize("given", ["null", "{}", "5", '"x"', "[1]", "[[]]", None])
def test_what_is_no_list_of_refusals_is_refused_in_words(
    connection: Connection, given: str | None
) -> None:
    with pytest.raises(psycopg.Error) as raised:
        connection.execute("select pgflow.record_refusals(%s)", (given,))
    assert raised.value.sqlstate == "PF400"
    said = raised.value.diag.message_primary
    assert said == "refusals must be a JSON array of objects"


@pytest.fixture
def producer(database: Database, connection: Connection) -> Iterator[Connection]:
    """A session of a role that has what README grants to one, and nothing else."""
    role = f"producer_{uuid.uuid4().hex[:12]}"
    name = sql.Identifier(role)
    grants = re.findall(r"^grant .* to app;", README.read_text("utf-8"), re.M)
    assert len(grants) == 3
    connection.execute(sql.SQL("create role {}").format(name))
    for grant in grants:
        connection.execute(grant.replace(" to app;", f" to {role};"))
    session = database.connect()
    session.execute(sql.SQL("set role {}").format(name))
    yield session
    session.close()
    connection.execute(sql.SQL("drop owned by {}").format(name))
    connection.execute(sql.SQL("drop role {}").format(name))


def test_a_role_with_readmes_grants_can_do_all_that_a_producer_does(
    connection: Connection, producer: Connection
) -> None:
    pgflow_cli.enqueue(producer, "a", queue="rq")
    pgflow_cli.enqueue_many(producer, [{"job_type": "a"}])
    with pytest.raises(Refused) as raised:
        pgflow_cli.enqueue(producer, "a", "x" * 300_000, queue="rq")
    assert pgflow_cli.record_refusal(producer, raised.value)
    assert counted(connection) == {"rq": 1}


def test_a_role_with_readmes_grants_can_lock_nothing(
    connection: Connection, producer: Connection
) -> None:
    relations = connection.execute(
        "select oid::regclass::text from pg_class"
        " where relnamespace = 'pgflow'::regnamespace and relkind in ('r', 'p', 'v')"
    ).fetchall()
    assert len(relations) > 30
    for (relation,) in relations:
        for mode in MODES:
            with (
                pytest.raises(psycopg.errors.InsufficientPrivilege),
                producer.transaction(),
            ):
                producer.execute(f"lock table {relation} in {mode} mode nowait")
