"""Open transactions cannot pass the bound of queues by many, nor hold up producers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql

import pgflow_cli
from pgflow_cli.errors import Blocked, Refused
from pgflow_cli.repository import Repository
from tests.conftest import RunsPgflow
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Add = Callable[..., None]
FEW = 10  # as open_places has it

pytestmark = [
    pytest.mark.direct,  # they look at locks of sessions
    pytest.mark.usefixtures("every_job_in_one_place"),
]


def one_by_one(connection: Connection, name: str, count: int) -> None:
    for n in range(count):
        pgflow_cli.enqueue(connection, "a", queue=f"{name}-{n}")


def at_once(connection: Connection, name: str, count: int) -> None:
    pgflow_cli.enqueue_many(
        connection, [{"job_type": "a", "queue": f"{name}-{n}"} for n in range(count)]
    )


@pytest.fixture(params=[one_by_one, at_once])
def add(request: pytest.FixtureRequest) -> Add:
    """Let a transaction add queues, by either function."""
    chosen: Add = request.param
    return chosen


@pytest.fixture
def opened(database: Database) -> Iterator[Callable[..., Connection]]:
    """Begin transactions that stay open; what waits longer than it says is an error."""
    made: list[Connection] = []

    def begin(lock_timeout: str = "1ms", name: str = "test") -> Connection:
        own = psycopg.connect(database.url, application_name=name)
        own.execute(sql.SQL("set lock_timeout = {}").format(lock_timeout))
        own.commit()
        made.append(own)
        return own

    yield begin
    for each in made:
        each.close()


def in_use(repository: Repository) -> int:
    return repository.queues.read_queue_bound().in_use


def bound(connection: Connection, most: int) -> None:
    connection.execute("update pgflow.gate_limits set max_queues = %s", (most,))


def takes_turns(connection: Connection) -> bool:
    """Whether the open transaction holds what those wait for that add many."""
    row = connection.execute(
        "select exists (select from pg_locks where pid = pg_backend_pid()"
        " and relation = 'pgflow.gate_limits'::regclass"
        " and mode = 'ShareUpdateExclusiveLock')"
    ).fetchone()
    return row == (True,)


def test_a_few_new_queues_wait_for_no_transaction(
    opened: Callable[..., Connection], repository: Repository, add: Add
) -> None:
    many, *others = (opened() for _ in range(4))
    add(many, "many", 5 * FEW)
    for n, other in enumerate(others):
        add(other, f"few-{n}", FEW - 1)
        add(other, "many", 1)  # of the open transaction, too: a place like any other
        other.commit() if n else other.rollback()
    many.commit()
    assert in_use(repository) == 5 * FEW + 2 * (FEW - 1)


def test_known_queues_wait_for_no_transaction_and_are_not_counted(
    opened: Callable[..., Connection], connection: Connection, add: Add
) -> None:
    add(connection, "known", 2 * FEW)
    many, other = opened(), opened()
    add(many, "many", 2 * FEW)
    add(other, "known", 2 * FEW)
    assert not takes_turns(other)
    other.commit()
    many.commit()
    connection.execute("drop function pgflow.open_places")
    add(connection, "known", 2 * FEW)


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_who_adds_many_counts_what_the_one_before_has_committed(
    opened: Callable[..., Connection],
    repository: Repository,
    connection: Connection,
    wait_until: Callable[..., Any],
    add: Add,
    ends: str,
) -> None:
    bound(connection, 5 * FEW)
    first, second = opened(), opened("1min")
    add(first, "first", 3 * FEW)
    pids = (second.info.backend_pid, first.info.backend_pid)
    query = "select pg_blocking_pids(%s) = array[%s::integer]"
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(add, second, "second", 3 * FEW)
        wait_until(
            lambda: (
                call.done() or connection.execute(query, pids).fetchone() == (True,)
            ),
            "the second waits for the first",
        )
        waited = not call.done()
        first.commit() if ends == "commit" else first.rollback()
        if ends == "rollback":
            call.result()
        else:
            with pytest.raises(Refused, match="at most 50 queues") as raised:
                call.result()
            assert raised.value.reason_code == "TOO_MANY_QUEUES"
    assert waited
    second.commit() if ends == "rollback" else second.rollback()
    assert in_use(repository) == 3 * FEW


def test_open_transactions_together_pass_the_bound_by_few_each(
    opened: Callable[..., Connection],
    repository: Repository,
    connection: Connection,
    add: Add,
) -> None:
    """Without turns each of them would bring as many as the bound has."""
    bound(connection, 3 * FEW)
    sessions = [opened() for _ in range(5)]
    for n, each in enumerate(sessions):
        add(each, f"few-{n}", FEW)
    add(sessions[0], "many", 2 * FEW)
    for each in sessions[1:]:
        each.execute("savepoint before")
        with pytest.raises(Blocked):
            add(each, "many-more", 2 * FEW)
        each.execute("rollback to before")
    for each in sessions:
        each.commit()
    assert in_use(repository) == 7 * FEW
    with pytest.raises(Refused):
        pgflow_cli.enqueue(connection, "a", queue="another")


def test_what_one_transaction_adds_unseen_is_the_bound_once_more_at_worst(
    opened: Callable[..., Connection],
    repository: Repository,
    connection: Connection,
    add: Add,
) -> None:
    bound(connection, 3 * FEW)
    many = opened()
    add(many, "many", 3 * FEW)
    for n in range(3):  # each is over before the next
        add(connection, f"few-{n}", FEW)
    with pytest.raises(Refused):
        add(connection, "another", 1)
    many.commit()
    assert in_use(repository) == 6 * FEW
    with pytest.raises(Refused):
        add(connection, "another", 1)


def test_a_savepoint_that_is_rolled_back_gives_back_what_it_added(
    opened: Callable[..., Connection], repository: Repository, add: Add
) -> None:
    session, other = opened(), opened()
    add(session, "kept", FEW - 1)
    for _ in range(2):
        session.execute("savepoint one")
        add(session, "undone", FEW)
        assert takes_turns(session)
        session.execute("rollback to one")
        assert not takes_turns(session)
    add(other, "other", 2 * FEW)
    add(session, "last", 1)
    session.commit()
    other.commit()
    assert in_use(repository) == 3 * FEW


def test_savepoints_do_not_hide_what_a_transaction_has_added(
    opened: Callable[..., Connection], connection: Connection, add: Add
) -> None:
    many, session = opened(), opened()
    add(many, "many", 2 * FEW)
    session.execute("select")  # so that what follows are savepoints
    for n in range(FEW):
        with session.transaction():
            add(session, f"nested-{n}", 1)
    with pytest.raises(Blocked):
        add(session, "eleventh", 1)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_who_cannot_see_what_others_add_adds_a_few(
    opened: Callable[..., Connection], repository: Repository, add: Add, level: str
) -> None:
    session = opened()
    session.isolation_level = psycopg.IsolationLevel[level.replace(" ", "_").upper()]
    add(session, "few", FEW)
    add(session, "few", FEW)
    session.execute("savepoint before")
    with pytest.raises(Refused) as raised:
        add(session, "more", 1)
    assert raised.value.reason_code == "TOO_MANY_QUEUES"
    assert raised.value.message.removeprefix("job 1: ") == (
        f'queue "more-0" with priority 0 would be new, and a transaction in'
        f" {level.upper()} adds at most 10 queues and priorities, for it does not see"
        " what others add; enqueue in READ COMMITTED, or in several transactions"
    )
    session.execute("rollback to before")
    session.commit()
    add(session, "more", FEW)
    session.commit()
    assert in_use(repository) == 2 * FEW


def test_a_transaction_of_the_same_number_on_another_server_is_not_this_one(
    opened: Callable[..., Connection], connection: Connection
) -> None:
    """A dump brings such rows; their time is an earlier one."""
    session = opened()
    [(number,)] = session.execute("select pg_current_xact_id()::text").fetchall()
    connection.execute(
        "insert into pgflow.queue_ranks (queue, rank, used_at, opened_by)"
        " select 'restored-' || n, 0, now() - interval '1 day', %s::xid8"
        " from generate_series(1, 20) as n",
        (number,),
    )
    at_once(session, "few", FEW)
    assert not takes_turns(session)
    at_once(session, "more", 1)
    assert takes_turns(session)


def test_a_role_that_may_only_enqueue_has_its_turn_and_takes_no_other(
    opened: Callable[..., Connection],
    repository: Repository,
    connection: Connection,
    add: Add,
) -> None:
    role = sql.Identifier(f"producer_{uuid.uuid4().hex[:12]}")
    session, other = opened(), opened()
    connection.execute(sql.SQL("create role {}").format(role))
    try:
        connection.execute(
            sql.SQL(
                "grant usage on schema pgflow to {0}; grant execute on function"
                " pgflow.enqueue, pgflow.enqueue_many to {0}"
            ).format(role)
        )
        session.execute(sql.SQL("set role {}").format(role))
        session.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege), session.transaction():
            session.execute(
                "lock table pgflow.gate_limits in share update exclusive mode"
            )
        add(session, "many", 2 * FEW)
        with pytest.raises(Blocked), other.transaction():
            add(other, "more", 2 * FEW)
        bound(connection, 2 * FEW + 1)  # an operator waits for neither
        session.commit()
        with pytest.raises(Refused), other.transaction():
            add(other, "more", 2 * FEW)
        assert in_use(repository) == 2 * FEW
    finally:
        session.close()
        connection.execute(sql.SQL("drop owned by {}").format(role))
        connection.execute(sql.SQL("drop role {}").format(role))


def test_who_waits_in_vain_is_told_for_whom(
    opened: Callable[..., Connection], pgflow: RunsPgflow
) -> None:
    """However many other transactions are older."""
    older = [opened() for _ in range(4)]
    for each in older:
        pgflow_cli.enqueue(each, "a")
    many = opened(name="import of tenants")
    at_once(many, "many", 2 * FEW)
    lines = "".join(
        f'{{"job_type": "a", "queue": "line-{n}", "payload_json": {{}}}}\n'
        for n in range(2 * FEW)
    )
    for options in ((), ("--no-atomic",)):
        done = pgflow(
            *("enqueue", "--batch", "-", *options),
            input=lines,
            env={"PGOPTIONS": "-c lock_timeout=1ms"},
        )
        assert done.returncode == 75, done.stderr
        assert (
            "another transaction holds what this one needs: transactions that add more"
            " than 10 queues and priorities take turns, and the one whose turn it is"
            " has not ended within lock_timeout (1ms)"
        ) in " ".join(done.stderr.split())
        assert f"pid {many.info.backend_pid} of role" in done.stderr
        assert 'application "import of tenants", idle in transaction' in done.stderr
