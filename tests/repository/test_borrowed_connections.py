"""enqueue() over a caller's connection: it works, or one error of ours says why not."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row, namedtuple_row, scalar_row

import pgflow_cli
from pgflow_cli import (
    ConnectionUnfit,
    DatabaseUnavailable,
    OutcomeUnknown,
    PgflowError,
    Refused,
    StatementFailed,
    UsageError,
)
from pgflow_cli.repository import enqueue
from pgflow_cli.repository.enqueue import BorrowedLink

pytestmark = pytest.mark.usefixtures("every_job_in_one_place")

Connection = psycopg.Connection[Any]
TWO = [{"job_type": "a"}, {"job_type": "b", "payload": [1]}]


def several(count: int) -> list[dict[str, str]]:
    return [{"job_type": "a"}] * count


@pytest.fixture
def jobs(connection: Connection) -> Callable[[], int]:
    """Count the jobs that are committed."""

    def count() -> int:
        row = connection.execute("select count(*) from pgflow.jobs").fetchone()
        assert row is not None
        return int(row[0])

    return count


class Counting(psycopg.Cursor[Any]):
    """A cursor factory of the caller's."""

    def execute(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("pgflow has cursors of its own")


@pytest.mark.parametrize("autocommit", [True, False])
def test_it_works_within_a_pipeline(
    own: Connection, jobs: Callable[[], int], autocommit: bool
) -> None:
    own.autocommit = autocommit
    with own.pipeline() as pipeline:
        own.execute("select 1")
        first = pgflow_cli.enqueue(own, "a")
        rest = pgflow_cli.enqueue_many(own, TWO)
        assert jobs() == 0, "the caller's implicit transaction goes on"
        pipeline.sync()
    own.commit()
    assert len({first, *rest}) == 3
    assert jobs() == 3
    with own.pipeline():
        assert len(pgflow_cli.enqueue_many(own, TWO)) == 2
    own.commit()
    assert jobs() == 5


def test_a_refusal_within_a_pipeline_is_raised_where_it_happens(
    own: Connection, connection: Connection
) -> None:
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_payload_bytes)"
        " values ('default', 2)"
    )
    with own.pipeline():
        with pytest.raises(Refused) as raised:
            pgflow_cli.enqueue(own, "a", {"x": 1})
        with pytest.raises(ConnectionUnfit):
            pgflow_cli.enqueue(own, "a")
    own.rollback()
    with own.pipeline():
        pgflow_cli.record_refusal(own, raised.value)
    own.commit()
    rows = connection.execute("select reason_code from pgflow.ingest_decisions")
    assert rows.fetchall() == [("PAYLOAD_TOO_LARGE",)]


@pytest.mark.parametrize("autocommit", [True, False])
def test_an_earlier_failure_in_a_pipeline_is_not_told_as_ours(
    own: Connection, jobs: Callable[[], int], autocommit: bool
) -> None:
    own.autocommit = autocommit
    earlier = re.compile("before this one .* division by zero")
    with own.pipeline():
        own.execute("select 1 / 0")
        with pytest.raises(ConnectionUnfit, match=earlier):
            pgflow_cli.enqueue(own, "a")
        with pytest.raises(ConnectionUnfit):
            pgflow_cli.enqueue_many(own, TWO)
    own.rollback()
    assert jobs() == 0


def test_an_error_of_a_trigger_within_a_pipeline_is_ours(
    own: Connection, connection: Connection
) -> None:
    connection.execute(
        "create function public.fails() returns trigger language plpgsql as"
        " $$ begin perform 1 / 0; return new; end $$;"
        " create trigger fails before insert on pgflow.jobs for each row"
        " execute function public.fails()"
    )
    with own.pipeline():
        own.execute("select 1")
        with pytest.raises(StatementFailed, match="division by zero"):
            pgflow_cli.enqueue(own, "a")
    own.rollback()


@pytest.mark.parametrize("factory", [dict_row, namedtuple_row, scalar_row])
@pytest.mark.parametrize("cursors", [psycopg.ClientCursor, Counting])
def test_row_and_cursor_factories_do_not_matter(
    own: Connection, jobs: Callable[[], int], factory: Any, cursors: Any
) -> None:
    own.row_factory, own.cursor_factory, own.prepare_threshold = factory, cursors, None
    assert isinstance(pgflow_cli.enqueue(own, "a"), str)
    assert len(pgflow_cli.enqueue_many(own, TWO)) == 2
    own.commit()
    own.autocommit = True
    assert len(pgflow_cli.enqueue_many(own, TWO)) == 2
    assert jobs() == 5


def test_a_closed_connection_leaves_no_doubt(own: Connection) -> None:
    own.close()
    for call in (
        lambda: pgflow_cli.enqueue(own, "a"),
        lambda: pgflow_cli.enqueue_many(own, TWO),
        lambda: pgflow_cli.record_refusal(own, Refused("no")),
    ):
        with pytest.raises(DatabaseUnavailable, match="closed: nothing") as raised:
            call()
        assert not isinstance(raised.value, OutcomeUnknown)


@pytest.mark.direct
def test_a_connection_that_is_lost_meanwhile_leaves_doubt(
    own: Connection, connection: Connection
) -> None:
    connection.execute("select pg_terminate_backend(%s)", (own.info.backend_pid,))
    with pytest.raises(OutcomeUnknown, match="the connection was lost"):
        pgflow_cli.enqueue(own, "a")


@pytest.mark.parametrize("many", [False, True])
def test_a_failed_transaction_is_said_to_be_one(own: Connection, many: bool) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        own.execute("select 1/0")
    call = partial(pgflow_cli.enqueue_many, own, TWO)
    if not many:
        call = partial(pgflow_cli.enqueue, own, "a")  # type: ignore[arg-type]
    with pytest.raises(ConnectionUnfit, match="transaction has failed") as raised:
        call()
    assert isinstance(raised.value, UsageError)
    own.rollback()
    assert pgflow_cli.enqueue(own, "a")


def test_a_connection_that_copies_is_said_to_be_busy(
    own: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueue, "_PATIENCE", 0.001)
    own.execute("create temp table t (x int)")
    with (
        own.cursor().copy("copy t from stdin"),
        pytest.raises(ConnectionUnfit, match="has been busy for"),
    ):
        pgflow_cli.enqueue(own, "a")


def test_threads_that_share_a_connection_wait_for_each_other(
    own: Connection, jobs: Callable[[], int], wait_until: Callable[..., Any]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(own.execute, "select pg_sleep(0.2)")
        wait_until(own.lock.locked, "the other thread runs its statement")
        pgflow_cli.enqueue(own, "a")
        slow.result()
    own.commit()
    assert jobs() == 1


@pytest.mark.parametrize("many", [1, 2001])
def test_a_call_never_joins_the_transaction_of_another_threads_call(
    own: Connection,
    jobs: Callable[[], int],
    wait_until: Callable[..., Any],
    many: int,
) -> None:
    own.autocommit = True
    others: list[Future[list[str]]] = []

    def waits_or_is_done() -> bool:
        frame = sys._current_frames().get(pool._threads.copy().pop().ident)
        return others[0].done() or (frame is not None and frame.f_code is turn)

    def interrupted() -> Iterator[dict[str, str]]:
        yield from several(2000)
        # The first part is sent when the third is asked for.
        others.append(pool.submit(pgflow_cli.enqueue_many, own, several(many)))
        wait_until(waits_or_is_done, "the other call has begun")
        yield {"job_type": "not a type"}

    turn = BorrowedLink._turn.__wrapped__.__code__  # type: ignore[attr-defined]
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(UsageError):
            pgflow_cli.enqueue_many(own, interrupted())
        assert len(set(others[0].result())) == many
    assert jobs() == many, "what the other thread was promised"
    assert own.info.transaction_status == 0


def test_a_connection_in_anothers_turn_is_said_to_be_busy(
    own: Connection, jobs: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueue, "_PATIENCE", 0.001)
    own.autocommit = True

    def interrupted() -> Iterator[dict[str, str]]:
        yield from several(2000)
        with pytest.raises(ConnectionUnfit, match="has been busy for"):
            pool.submit(pgflow_cli.enqueue, own, "a").result()
        pgflow_cli.enqueue(own, "a")  # this call's own thread is in its turn
        yield from several(1)

    with ThreadPoolExecutor(1) as pool:
        assert len(pgflow_cli.enqueue_many(own, interrupted())) == 2001
        pool.submit(pgflow_cli.enqueue, own, "a").result()
    assert jobs() == 2003


def test_one_part_needs_no_transaction_that_others_could_fall_into(
    own: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.autocommit = True
    monkeypatch.setattr(own, "transaction", None)
    assert len(pgflow_cli.enqueue_many(own, several(1000))) == 1000


def test_a_turn_that_a_fork_has_copied_is_not_waited_for(
    own: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BorrowedLink(own).transaction(), ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(enqueue, "_PATIENCE", 0.001)
        monkeypatch.setattr(enqueue.os, "getpid", lambda: 0)
        assert pool.submit(pgflow_cli.enqueue, own, "a").result()


def test_what_fails_at_the_commit_is_told_as_what_it_is(
    own: Connection, connection: Connection, jobs: Callable[[], int]
) -> None:
    connection.execute(
        """
        create function public.no() returns trigger language plpgsql as $$
        begin raise exception 'not today' using errcode = '23514'; end $$;
        create constraint trigger no after insert on pgflow.jobs_default
        deferrable initially deferred for each row execute function public.no();
        """
    )
    days = connection.execute(
        "select inhrelid::regclass::text from pg_inherits"
        " where inhparent = 'pgflow.jobs'::regclass and inhrelid <>"
        " 'pgflow.jobs_default'::regclass"
    ).fetchall()
    for (day,) in days:
        connection.execute(
            f"create constraint trigger no after insert on {day} deferrable initially"
            " deferred for each row execute function public.no()".encode()
        )
    own.autocommit = True
    with pytest.raises(PgflowError, match="not today") as raised:
        pgflow_cli.enqueue_many(own, TWO)
    assert not isinstance(raised.value, DatabaseUnavailable)
    assert jobs() == 0


@pytest.mark.parametrize("delay", [timedelta.max, timedelta.min, timedelta(-1), -1])
def test_a_delay_without_reason_is_a_sentence(own: Connection, delay: Any) -> None:
    with pytest.raises(UsageError, match="delay must be from 0 to 100 years"):
        pgflow_cli.enqueue(own, "a", delay=delay)
    with pytest.raises(UsageError, match="job_timeout must be"):
        pgflow_cli.enqueue(own, "a", job_timeout=delay)
    with pytest.raises(UsageError, match="job_timeout must be"):
        pgflow_cli.enqueue_many(own, [{"job_type": "a", "job_timeout": delay}])
    assert own.info.transaction_status == 0, "nothing was sent"


@pytest.mark.parametrize(
    "jobs", [None, 5, "ab", b"ab", {"job_type": "a"}, [5], [None], [["a"]]]
)
def test_jobs_that_are_no_mappings_are_a_sentence(own: Connection, jobs: Any) -> None:
    with pytest.raises(UsageError, match=r"must be a (list of )?mapping"):
        pgflow_cli.enqueue_many(own, jobs)


def test_only_a_sync_connection_will_do() -> None:
    for wrong in (None, psycopg.AsyncConnection, object()):
        with pytest.raises(ConnectionUnfit, match="a sync psycopg connection"):
            pgflow_cli.enqueue(wrong, "a")  # type: ignore[arg-type]


def test_the_family_of_errors_is_exported_and_told() -> None:
    exported = {
        name
        for name in pgflow_cli.__all__
        if isinstance(kind := getattr(pgflow_cli, name), type)
        and issubclass(kind, PgflowError)
    }
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| error | what has happened |")[2].partition("\n\n")[0]
    above = ""
    told = {"PgflowError"}
    for indented, name in re.findall(r"^\| (– )?`(\w+)` \|", table, re.MULTILINE):
        above = above if indented else name
        assert issubclass(getattr(pgflow_cli, name), getattr(pgflow_cli, above))
        told.add(name)
    assert told == exported


def too_slow(own: Connection, connection: Connection) -> None:
    job_id = pgflow_cli.new_job_id()
    with connection.transaction():
        pgflow_cli.enqueue(connection, "a", job_id=job_id)
        own.execute("set local statement_timeout = '1ms'")
        pgflow_cli.enqueue(own, "a", job_id=job_id)


def denied(own: Connection, _: Connection) -> None:
    own.execute("set local role pg_monitor")
    pgflow_cli.enqueue(own, "a")


def far_ahead(own: Connection, _: Connection) -> None:
    pgflow_cli.enqueue(own, "a", run_at=datetime(1999, 12, 31, tzinfo=UTC))


def without_schema(own: Connection, _: Connection) -> None:
    own.execute("drop schema pgflow cascade")
    pgflow_cli.enqueue(own, "a")


def spoilt(own: Connection, _: Connection) -> None:
    own.execute(
        "create function pg_temp.no() returns trigger language plpgsql as"
        " $$ begin raise exception 'not today'; end $$;"
        "create trigger no before insert on pgflow.pending"
        " for each row execute function pg_temp.no()"
    )
    pgflow_cli.enqueue(own, "a")


@pytest.mark.parametrize(
    ("meet", "name"),
    [
        (too_slow, "TooSlow"),
        (denied, "PermissionDenied"),
        (far_ahead, "OutOfRange"),
        (without_schema, "SchemaMissing"),
        (spoilt, "StatementFailed"),
    ],
)
def test_what_a_producer_can_meet_has_a_name_of_the_package(
    own: Connection, connection: Connection, meet: Callable[..., None], name: str
) -> None:
    with pytest.raises(PgflowError) as raised:
        meet(own, connection)
    own.rollback()
    assert type(raised.value) is getattr(pgflow_cli, name)
