"""No producer waits for another's open transaction; what still waits has a bound."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import pgflow_cli
from pgflow_cli.errors import Blocked, Refused
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.models.replays import ReplayOptions
from pgflow_cli.operations import enqueue, replay_plans
from pgflow_cli.repository import Repository
from tests.conftest import RunsPgflow
from tests.support.jobs import plant, plant_dead
from tests.support.servers import Database

pytestmark = pytest.mark.usefixtures("every_job_in_one_place")

Connection = psycopg.Connection[Any]


@pytest.fixture
def opened(database: Database) -> Iterator[Callable[..., Connection]]:
    """Begin transactions that stay open; a session that waits for one fails at once."""
    made: list[Connection] = []

    def begin(isolation: str = "read committed") -> Connection:
        own = psycopg.connect(database.url)
        own.execute(
            f"set session characteristics as transaction isolation level {isolation}"
        )
        own.execute("set lock_timeout = '1ms'")
        own.commit()
        made.append(own)
        return own

    yield begin
    for each in made:
        each.close()


def limit(connection: Connection, per_minute: int, *queues: str) -> None:
    for queue in queues:
        connection.execute(
            "insert into pgflow.queue_policies (queue, max_enqueue_per_minute)"
            " values (%s, %s)",
            (queue, per_minute),
        )


def stay_in_this_minute(connection: Connection) -> None:
    """Wait for the next minute if this one is nearly over: limits are per minute."""
    connection.execute(
        "select pg_sleep(case when second > 50 then 60.1 - second else 0 end)"
        " from (select extract(second from clock_timestamp())) as clock (second)"
    )


def number(connection: Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def several(queue: str, count: int, **fields: object) -> list[dict[str, object]]:
    return [{"job_type": "a", "queue": queue, **fields} for _ in range(count)]


# Queues and priorities that are new.


@pytest.mark.parametrize("commits", [True, False])
def test_the_first_job_of_a_queue_holds_up_no_other_producer(
    opened: Callable[..., Connection],
    repository: Repository,
    connection: Connection,
    commits: bool,
) -> None:
    first, second, third = opened(), opened(), opened()
    pgflow_cli.enqueue(first, "a", queue="fresh", priority=7)
    pgflow_cli.enqueue(second, "a", queue="fresh", priority=7)
    pgflow_cli.enqueue_many(third, several("fresh", 2, priority=7))
    third.commit()
    if commits:
        first.commit()
    else:
        first.rollback()
    second.commit()
    places = connection.execute("select queue, rank from pgflow.places").fetchall()
    assert places == [("fresh", -7)]
    found = number(connection, "select count(*) from pgflow.pending")
    assert found == (4 if commits else 3)


def test_a_new_priority_for_waiting_jobs_holds_up_nobody(
    opened: Callable[..., Connection], repository: Repository, connection: Connection
) -> None:
    job_id = pgflow_cli.enqueue(connection, "a")
    first = opened()
    pgflow_cli.enqueue(first, "a", priority=9)
    connection.execute("set lock_timeout = '1ms'")
    with repository.transaction():
        repository.link.run_text("set local lock_timeout = '1ms'")
        assert repository.link.tuples(
            "reprioritize_jobs", {"job_ids": f"{{{job_id}}}", "priority": 9}
        )
    first.commit()
    places = connection.execute("select queue, rank from pgflow.places").fetchall()
    assert sorted(places) == [("default", -9), ("default", 0)]


# Rates.


def test_a_rate_holds_up_no_other_producer(
    opened: Callable[..., Connection], connection: Connection
) -> None:
    stay_in_this_minute(connection)
    limit(connection, 10, "slow")
    first, second = opened(), opened()
    pgflow_cli.enqueue(first, "a", queue="slow")
    pgflow_cli.enqueue(second, "a", queue="slow")
    pgflow_cli.enqueue_many(second, several("slow", 3))
    second.commit()
    first.commit()
    assert number(connection, "select sum(count) from pgflow.enqueue_counters") == 5


def test_limited_queues_in_any_order_never_deadlock(
    opened: Callable[..., Connection], connection: Connection
) -> None:
    stay_in_this_minute(connection)
    limit(connection, 100, "one", "two", "three")
    first, second = opened(), opened()
    for mine, other in (("one", "three"), ("two", "two"), ("three", "one")):
        pgflow_cli.enqueue_many(first, several(mine, 2))
        pgflow_cli.enqueue_many(second, several(other, 2))
    first.commit()
    second.commit()
    assert number(connection, "select count(*) from pgflow.jobs") == 12


def test_a_transaction_sees_what_is_committed_and_its_own(
    opened: Callable[..., Connection], connection: Connection
) -> None:
    """The stated rule: only those that are open at once may exceed the rate together,
    each by what the others had spent and it did not see.
    """
    stay_in_this_minute(connection)
    limit(connection, 5, "slow")
    first, second, third = opened(), opened(), opened()
    pgflow_cli.enqueue_many(first, several("slow", 4))
    pgflow_cli.enqueue_many(second, several("slow", 4))
    with pytest.raises(Refused) as raised, second.transaction():
        pgflow_cli.enqueue_many(second, several("slow", 2))
    assert raised.value.reason_code == "ENQUEUE_RATE_EXCEEDED"
    assert raised.value.details["room"] == 1
    first.commit()
    with pytest.raises(Refused), third.transaction():
        pgflow_cli.enqueue_many(third, several("slow", 2))
    pgflow_cli.enqueue(third, "a", queue="slow")
    third.commit()
    second.commit()
    with pytest.raises(Refused):
        pgflow_cli.enqueue(connection, "a", queue="slow")
    assert number(connection, "select count(*) from pgflow.jobs") == 9  # 5, and 4


def test_counters_have_a_row_for_each_transaction_at_once_and_no_more(
    opened: Callable[..., Connection], connection: Connection
) -> None:
    stay_in_this_minute(connection)
    limit(connection, 10_000, "slow")
    first, second = opened(), opened()
    for _ in range(20):
        pgflow_cli.enqueue(first, "a", queue="slow")
        pgflow_cli.enqueue(second, "a", queue="slow")
        second.commit()
        pgflow_cli.enqueue(connection, "a", queue="slow")
    first.commit()
    rows = "select count(*), sum(count) from pgflow.enqueue_counters"
    assert connection.execute(rows).fetchone() == (2, 60)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_rate_is_no_reason_for_a_transaction_to_fail(
    opened: Callable[..., Connection], connection: Connection, isolation: str
) -> None:
    stay_in_this_minute(connection)
    limit(connection, 10, "slow")
    pgflow_cli.enqueue(connection, "a", queue="slow")
    first = opened(isolation)
    pgflow_cli.enqueue(first, "a", queue="slow")
    pgflow_cli.enqueue(connection, "a", queue="slow")
    pgflow_cli.enqueue(first, "a", queue="slow")
    first.commit()
    assert number(connection, "select sum(count) from pgflow.enqueue_counters") == 4


# What waits by its nature: the same id.


def test_the_same_id_in_an_open_transaction_is_waited_for_within_a_bound(
    opened: Callable[..., Connection], connection: Connection
) -> None:
    connection.execute(
        """
        create table public.bounds (lock_timeout text);
        create function public.note() returns trigger language plpgsql as $$
        begin
          insert into public.bounds values (current_setting('lock_timeout'));
          return null;
        end $$;
        create trigger note after insert on pgflow.jobs
        for each statement execute function public.note();
        """
    )
    known = pgflow_cli.enqueue(connection, "a", queue="q")
    pgflow_cli.enqueue(connection, "a", job_id=known)  # the other ways to return
    pgflow_cli.enqueue_many(connection, several("q", 2))
    assert connection.execute("show lock_timeout").fetchone() == ("0",)
    connection.execute("set lock_timeout = '7s'")
    pgflow_cli.enqueue(connection, "a")
    pgflow_cli.enqueue_many(connection, several("q", 1))
    assert connection.execute("show lock_timeout").fetchone() == ("7s",)
    noted = connection.execute("select lock_timeout from public.bounds").fetchall()
    assert noted == [("10s",)] * 3 + [("7s",)] * 2


def test_who_waits_for_the_same_id_too_long_is_told(
    opened: Callable[..., Connection],
) -> None:
    first, second = opened(), opened()
    job_id = enqueue.new_job_id()
    pgflow_cli.enqueue(first, "a", job_id=job_id)
    with pytest.raises(Blocked, match="another transaction holds what this one needs"):
        pgflow_cli.enqueue(second, "a", job_id=job_id)


@pytest.mark.direct
def test_the_command_line_says_who_is_in_the_way(
    opened: Callable[..., Connection], database: Database, pgflow: RunsPgflow
) -> None:
    first = opened()
    job_id = enqueue.new_job_id()
    first.execute("set application_name = 'nightly import'")
    pgflow_cli.enqueue(first, "a", job_id=job_id)
    line = json.dumps({"job_type": "a", "payload_json": {}, "job_id": job_id})
    for arguments, given in (
        (("enqueue", "a", "{}", "--id", job_id), None),
        (("enqueue", "--batch", "-"), line),
    ):
        done = pgflow(*arguments, input=given, env={"PGOPTIONS": "-c lock_timeout=1ms"})
        assert done.returncode == 75, done.stderr
        assert "another transaction holds what this one needs" in done.stderr
        assert f"pid {first.info.backend_pid} of role" in done.stderr
        assert 'application "nightly import", idle in transaction' in done.stderr


def test_batches_with_the_same_ids_lock_them_in_one_order(
    opened: Callable[..., Connection], repository: Repository, connection: Connection
) -> None:
    """Whoever comes second waits for the first id, and holds none of the others."""
    ids = enqueue.new_job_ids(3)
    first, second, third = opened(), opened(), opened()
    pgflow_cli.enqueue(first, "a", job_id=ids[0])
    backwards = [{"job_type": "a", "job_id": job_id} for job_id in reversed(ids)]
    with pytest.raises(Blocked), second.transaction():
        pgflow_cli.enqueue_many(second, backwards)
    pgflow_cli.enqueue(third, "a", job_id=ids[2])
    third.commit()
    first.commit()


# The bound of queues.


def test_new_queues_are_refused_beyond_a_bound_and_known_ones_are_not(
    repository: Repository, connection: Connection
) -> None:
    connection.execute("update pgflow.gate_limits set max_queues = 2")
    for queue in ("one", "two", "one"):
        pgflow_cli.enqueue(connection, "a", queue=queue)
    for priority, queue in ((0, "three"), (1, "one")):
        with pytest.raises(Refused) as raised:
            pgflow_cli.enqueue(connection, "a", queue=queue, priority=priority)
        assert raised.value.reason_code == "TOO_MANY_QUEUES"
        assert raised.value.details["limit"] == 2
    jobs = [*several("one", 2), *several("three", 1), *several("four", 1)]
    with pytest.raises(Refused) as raised:
        pgflow_cli.enqueue_many(connection, jobs)
    assert raised.value.details["ordinals"] == [3, 4]
    assert number(connection, "select count(*) from pgflow.jobs") == 3
    pgflow_cli.record_refusal(connection, raised.value)
    assert connection.execute(
        "select queue, reason_code, count from pgflow.ingest_decisions"
    ).fetchone() == ("(new)", "TOO_MANY_QUEUES", 2)


def test_a_batch_leaves_out_what_would_be_a_queue_too_many(
    connection: Connection, pgflow: RunsPgflow
) -> None:
    pgflow_cli.enqueue(connection, "a", queue="one")
    connection.execute("update pgflow.gate_limits set max_queues = 1")
    lines = [
        json.dumps({"job_type": "a", "queue": queue, "payload_json": {}})
        for queue in ("one", "two", "one")
    ]
    every = pgflow("enqueue", "--batch", "-", input="\n".join(lines))
    assert every.returncode == 4
    assert "pgflow queues bound" in every.stderr
    done = pgflow("enqueue", "--batch", "-", "--no-atomic", input="\n".join(lines))
    assert "line 2: TOO_MANY_QUEUES" in done.stderr
    assert number(connection, "select count(*) from pgflow.jobs") == 3


def test_operators_act_beyond_the_bound_and_what_they_make_counts(
    repository: Repository, connection: Connection
) -> None:
    """A producer may have filled it: `replay --to-queue rescue` must work even so."""
    [dead] = plant_dead(connection, queue="one")
    [waits] = plant(connection, queue="one")
    connection.execute("update pgflow.gate_limits set max_queues = 1")
    operator = Operator("eve@host", "pgflow replay --to-queue rescue")
    options = ReplayOptions(to_queue="rescue")
    plan = replay_plans.make(repository, [dead], options=options, operator=operator)
    assert replay_plans.run(repository, plan).plan.created == 1
    assert repository.jobs.reprioritize_jobs([waits], priority=9) == [waits]
    assert repository.queues.read_queue_bound().in_use == 3
    for queue in ("one", "rescue"):
        pgflow_cli.enqueue(connection, "a", queue=queue)
    with pytest.raises(Refused, match="3 of at most 1 queues"):
        pgflow_cli.enqueue(connection, "a", queue="two")


def test_a_role_that_may_only_enqueue_cannot_lift_the_bound(
    connection: Connection, repository: Repository
) -> None:
    options = JobOptions(max_payload_bytes=16_777_216)
    connection.execute("update pgflow.gate_limits set max_queues = 1")
    repository.enqueue.enqueue("a", "{}", options=options)
    with pytest.raises(Refused, match="max_queues"):
        repository.enqueue.enqueue("a", "{}", options=JobOptions(queue="two"))
