"""enqueue_many() is all or none, takes what enqueue() takes, and names the bad job."""

from __future__ import annotations

import enum
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

import pgflow_cli
from pgflow_cli import OutOfRange, PgflowError, Refused, UsageError
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.operations import enqueue
from pgflow_cli.repository import Repository
from tests.support.jobs import successes

pytestmark = pytest.mark.usefixtures("every_job_in_one_place")

Connection = psycopg.Connection[Any]
GOOD = {"job_type": "a"}


@pytest.fixture
def jobs(connection: Connection) -> Callable[[], list[str]]:
    """Return the types of the jobs that are committed."""

    def committed() -> list[str]:
        rows = connection.execute("select job_type from pgflow.jobs").fetchall()
        return sorted(row[0] for row in rows)

    return committed


class Unlikely(BaseException):
    """As KeyboardInterrupt is one."""


def bad_at_the_end() -> Iterator[dict[str, Any]]:
    yield from [GOOD] * 2500
    yield {"job_type": "b b"}


def refused_by_the_gate() -> Iterator[dict[str, Any]]:
    yield from [GOOD] * 2500
    yield {**GOOD, "payload": "x" * 300_000}


def interrupted() -> Iterator[dict[str, Any]]:
    yield from [GOOD] * 2500
    raise Unlikely


def fed_by_another_connection() -> Iterator[dict[str, Any]]:
    yield from [GOOD] * 2500
    raise psycopg.InterfaceError("the connection is closed")


FAILURES: dict[Callable[[], Iterator[dict[str, Any]]], type[BaseException]] = {
    bad_at_the_end: UsageError,
    refused_by_the_gate: Refused,
    interrupted: Unlikely,
    fed_by_another_connection: psycopg.InterfaceError,
}


@pytest.mark.parametrize("feed", FAILURES)
@pytest.mark.parametrize("mode", ["transaction", "savepoint", "begun"])
def test_a_part_of_many_leaves_the_callers_transaction_as_it_was(
    own: Connection,
    jobs: Callable[[], list[str]],
    feed: Callable[[], Iterator[dict[str, Any]]],
    mode: str,
) -> None:
    with ExitStack() as stack:
        if mode == "savepoint":
            stack.enter_context(own.transaction())
        if mode != "transaction":
            pgflow_cli.enqueue(own, "before")
        with pytest.raises(FAILURES[feed]):
            pgflow_cli.enqueue_many(own, feed())
        pgflow_cli.enqueue(own, "after")
    own.commit()
    assert jobs() == ["after"] + ["before"] * (mode != "transaction")


@pytest.mark.parametrize("feed", FAILURES)
@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("pipeline", [True, False])
def test_a_part_of_many_is_never_committed(
    own: Connection,
    jobs: Callable[[], list[str]],
    feed: Callable[[], Iterator[dict[str, Any]]],
    autocommit: bool,
    pipeline: bool,
) -> None:
    own.autocommit = autocommit
    with ExitStack() as stack:
        if pipeline:
            stack.enter_context(own.pipeline())
        with pytest.raises(FAILURES[feed]):
            pgflow_cli.enqueue_many(own, feed())
    own.commit()
    assert jobs() == []
    assert own.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


@pytest.mark.parametrize("pipeline", [True, False])
@pytest.mark.parametrize("autocommit", [True, False])
def test_several_parts_are_there_with_the_callers_commit(
    own: Connection, jobs: Callable[[], list[str]], autocommit: bool, pipeline: bool
) -> None:
    own.autocommit = autocommit
    with ExitStack() as stack:
        if pipeline:
            stack.enter_context(own.pipeline())
        ids = pgflow_cli.enqueue_many(own, (GOOD for _ in range(2500)))
        if not autocommit:
            assert jobs() == []
    own.commit()
    assert len(set(ids)) == 2500
    assert len(jobs()) == 2500
    assert jobs() == ["a"] * 2500


def test_a_rollback_of_the_caller_takes_several_parts_with_it(
    own: Connection, jobs: Callable[[], list[str]]
) -> None:
    pgflow_cli.enqueue_many(own, [GOOD] * 1001)
    own.rollback()
    assert jobs() == []


def test_what_is_long_is_read_while_it_is_sent(own: Connection) -> None:
    open_at = []

    def long() -> Iterator[dict[str, str]]:
        for _ in range(3000):
            open_at.append(own.info.transaction_status)
            yield {"job_type": "a"}

    pgflow_cli.enqueue_many(own, long())
    assert open_at[0] == open_at[1999] == psycopg.pq.TransactionStatus.IDLE
    assert open_at[2000] == psycopg.pq.TransactionStatus.INTRANS


def test_a_call_is_no_document_that_the_server_would_not_take(
    own: Connection, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueue, "_TEXT_PER_CALL", 2000)
    job = {"job_type": "a", "payload": "x" * 900}
    ids = pgflow_cli.enqueue_many(own, [job] * 5)
    own.commit()
    row = connection.execute("select count(*) from pgflow.jobs").fetchone()
    assert row == (len(set(ids)),) == (5,)


# The same is acceptable, to one and to many.


class Type(enum.StrEnum):
    MAIL = "email_send"


class OldType(str, enum.Enum):  # noqa: UP042 - its str() is another text
    MAIL = "email_send"


class Level(enum.IntEnum):
    HIGH = 7


AN_ID = enqueue.new_job_id()


def named(value: object) -> str:
    """Name a case: every process that collects the tests must name it alike."""
    return str(value).replace(AN_ID, "an id")


ACCEPTABLE: list[tuple[dict[str, Any], str, Any]] = [
    ({"job_timeout": "12d"}, "timeout_ms", 1_036_800_000),
    ({"job_timeout": timedelta(days=20)}, "timeout_ms", 1_728_000_000),
    ({"job_timeout": 2_592_000}, "timeout_ms", 2_592_000_000),
    ({"job_timeout": "30d"}, "timeout_ms", 2_592_000_000),
    ({"job_timeout": 0.001}, "timeout_ms", 1),
    ({"job_timeout": 1_000_000.5}, "timeout_ms", 1_000_000_500),
    ({"queue": None}, "queue", "default"),
    ({"priority": None}, "priority", 0),
    ({"max_attempts": None}, "max_attempts", 25),
    ({"payload": None}, "payload", {}),
    ({"job_type": Type.MAIL}, "job_type", "email_send"),
    ({"job_type": OldType.MAIL}, "job_type", "email_send"),
    ({"queue": OldType.MAIL}, "queue", "email_send"),
    ({"priority": Level.HIGH}, "priority", 7),
    ({"job_id": uuid.UUID(AN_ID)}, "id", uuid.UUID(AN_ID)),
    ({"run_at": "2030-01-02t03:04:05z"}, "run_at", datetime(2030, 1, 2, 3, 4, 5)),
    ({"run_at": "2030-01-02 03:04+02:00"}, "run_at", datetime(2030, 1, 2, 1, 4)),
    ({"meta": {"a": 1}}, "meta", {"a": 1}),
]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(("fields", "column", "stored"), ACCEPTABLE, ids=named)
def test_one_and_many_take_the_same(
    own: Connection, many: bool, fields: dict[str, Any], column: str, stored: Any
) -> None:
    send(own, {"job_type": "a", **fields}, many)
    own.execute("set local timezone = 'UTC'")
    [(found,)] = own.execute(f"select {column} from pgflow.jobs").fetchall()
    own.rollback()
    if isinstance(stored, datetime):
        stored = stored.replace(tzinfo=UTC)
    assert found == stored


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("delay", [90, "1m30s", timedelta(seconds=90), "36500d"])
def test_one_and_many_take_a_delay(own: Connection, many: bool, delay: Any) -> None:
    send(own, {"job_type": "a", "delay": delay}, many)
    query = "select extract(epoch from run_at - created_at)::bigint from pgflow.jobs"
    [(found,)] = own.execute(query).fetchall()
    own.rollback()
    assert found == (36500 * 86400 if delay == "36500d" else 90)


def send(connection: Connection, job: dict[str, Any], many: bool) -> str:
    if many:
        return pgflow_cli.enqueue_many(connection, [job])[0]
    return pgflow_cli.enqueue(connection, **job)


def name_of(value: object) -> str:
    # Python writes no whole number of 5,000 digits.
    return value if isinstance(value, str) else "its fields"


NO_NAMES: list[Any] = [[], {}, set(), 5]
UNACCEPTABLE: list[tuple[dict[str, Any], str]] = [
    *(({"job_type": no}, "job_type must be 1 to 128") for no in NO_NAMES),
    *(({"queue": no}, "queue must be 1 to 63") for no in [*NO_NAMES, ""]),
    ({"job_type": None}, "job_type is missing"),
    ({"priority": []}, "priority must be"),
    ({"priority": True}, "priority must be"),
    ({"max_attempts": 1.0}, "max_attempts must be"),
    ({"run_at": []}, "run_at must be"),
    ({"run_at": "2030-02-30T00:00:00Z"}, "run_at must be a time with a zone"),
    ({"run_at": "2030-01-01T00:00:00"}, "run_at must be a time with a zone"),
    ({"run_at": datetime(2030, 1, 1)}, "run_at must be a time with a zone"),
    ({"run_at": "2030-01-01T00:00:00Z", "delay": 1}, "exclude each other"),
    ({"delay": []}, "delay must be"),
    ({"delay": "999999999d999999999h"}, "delay must be from 0 to 100 years"),
    ({"job_timeout": "31d"}, "job_timeout must be from 1ms to 30d"),
    ({"job_timeout": 0}, "job_timeout must be from 1ms to 30d"),
    ({"job_timeout": 10**400}, "job_timeout must be from 1ms to 30d"),
    ({"delay": 10**400}, "delay must be from 0 to 100 years"),
    ({"delay": float("nan")}, "delay must be from 0 to 100 years"),
    ({"job_timeout": {}}, "job_timeout must be"),
    ({"meta": []}, "meta must be a JSON object"),
    ({"meta": {"a": {1}}}, "meta cannot be written as JSON"),
    ({"job_id": []}, "job_id must be a UUIDv7"),
    ({"job_id": uuid.uuid4()}, "job_id must be a UUIDv7"),
    ({"payload": {1}}, "the payload cannot be written as JSON"),
    (
        {"payload": [10**5000]},
        "the payload has a number outside float64, or a whole one beyond 2^53",
    ),
    (
        {"payload": [10**4000]},
        "the payload has a number outside float64, or a whole one beyond 2^53",
    ),
    (
        {"payload": [2**53 + 1]},
        "the payload has a number outside float64, or a whole one beyond 2^53",
    ),
    ({"payload": [float("nan")]}, "the payload holds NaN"),
    # What only the database can say.
    ({"job_id": "ffffffff-ffff-7fff-bfff-ffffffffffff"}, "at most a day ahead"),
    ({"meta": {"a": "x" * 20_000}}, "meta must not exceed 16384 bytes"),
    ({"payload": [[[1.5]] * 3, "x" * 262_144]}, "the payload has "),
]


@pytest.mark.parametrize(("fields", "sentence"), UNACCEPTABLE, ids=name_of)
def test_one_and_many_refuse_the_same_and_many_name_it(
    own: Connection, fields: dict[str, Any], sentence: str
) -> None:
    job = {"job_type": "a", **fields}
    with pytest.raises(PgflowError) as one:
        pgflow_cli.enqueue(own, **job)
    own.rollback()
    assert sentence in one.value.message
    for before in (0, 1500):
        with pytest.raises(PgflowError) as many:
            pgflow_cli.enqueue_many(own, [*([GOOD] * before), job, job])
        own.rollback()
        assert many.value.message == f"job {before + 1}: {one.value.message}"
        assert many.value.args == (many.value.message,)
        assert type(many.value) is type(one.value)
        details = many.value.details  # type: ignore[attr-defined]
        assert details["ordinals"][0] == before + 1


def test_an_unknown_field_is_named(own: Connection) -> None:
    with pytest.raises(UsageError, match='job 1: unknown field "payload_json"'):
        pgflow_cli.enqueue_many(own, [{"job_type": "a", "payload_json": {}}])
    with pytest.raises(UsageError, match=r"job 1: unknown field$"):
        pgflow_cli.enqueue_many(own, [{"job_type": "a", 5: {}}])  # type: ignore[dict-item]


def test_the_first_job_beyond_the_quota_is_named(
    own: Connection, connection: Connection
) -> None:
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_enqueue_per_minute)"
        " values ('default', 1200), ('other', 1);"
        "select pg_sleep(case when second > 50 then 60.1 - second else 0 end)"
        " from (select extract(second from clock_timestamp())) as clock (second)"
    )
    with pytest.raises(Refused) as raised:
        pgflow_cli.enqueue_many(own, [GOOD] * 1500)
    assert raised.value.message == (
        'job 1201: queue "default" takes at most 1200 jobs a minute'
        " (max_enqueue_per_minute)"
    )
    assert raised.value.details["ordinals"] == [*range(1201, 1501)]
    other = {"job_type": "a", "queue": "other"}
    with pytest.raises(Refused, match='job 1102: queue "other"'):
        pgflow_cli.enqueue_many(own, [*([GOOD] * 1100), *([other] * 3)])
    own.rollback()
    pgflow_cli.record_refusal(own, raised.value)
    own.commit()
    rows = connection.execute("select count, reason_code from pgflow.ingest_decisions")
    assert rows.fetchall() == [(300, "ENQUEUE_RATE_EXCEEDED")]


def test_the_first_queue_for_which_there_is_no_room_is_named(
    own: Connection, connection: Connection, repository: Repository
) -> None:
    pgflow_cli.enqueue_many(
        connection, [{"job_type": "a", "queue": f"known-{n}"} for n in range(5)]
    )
    connection.execute("update pgflow.gate_limits set max_queues = 8")
    # Not in the order of their names.
    given = ["known-0", "n3", "n1", "n3", "n2", "n0", "n1", "n0"]
    sent = [{"job_type": "a", "queue": queue} for queue in given]
    with pytest.raises(Refused) as raised:
        pgflow_cli.enqueue_many(own, sent)
    assert raised.value.message == (
        'job 6: queue "n0" with priority 0 would be new, and 8 of at most 8 queues and'
        " priorities are in use (max_queues), 3 of them new with this call"
    )
    assert raised.value.details["ordinals"] == [6, 8]
    own.rollback()
    rest = [job for job in sent if job["queue"] != "n0"]
    assert len(pgflow_cli.enqueue_many(own, rest)) == 6
    with pytest.raises(Refused) as raised:
        pgflow_cli.enqueue(own, "a", queue="n0")
    assert raised.value.message == (
        'queue "n0" with priority 0 would be new, and 8 of at most 8 queues and'
        " priorities are in use (max_queues)"
    )
    assert "ordinals" not in raised.value.details


# The same id is the same job, whatever the limits are by now.


def large(job_id: str) -> dict[str, Any]:
    payload, meta = {"x": "y" * 500}, {"z": "x" * 20_000}
    return {"job_type": "a", "payload": payload, "meta": meta, "job_id": job_id}


@pytest.mark.parametrize("archived", [False, True])
def test_what_is_sent_again_meets_no_limit_of_size(
    own: Connection, connection: Connection, archived: bool
) -> None:
    job_id, fresh = enqueue.new_job_ids(2)
    pgflow_cli.enqueue(connection, "a", {"x": "y" * 500}, job_id=job_id)
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_payload_bytes)"
        " values ('default', 100)"
    )
    if archived:
        connection.execute("delete from pgflow.pending")
        connection.execute(
            successes(f"select '{job_id}'::uuid as job_id", archive=True)
        )
        connection.execute(
            "with gone as (delete from pgflow.jobs returning id, queue, job_type,"
            " payload) insert into pgflow.jobs_archive (id, queue, job_type, payload)"
            " select * from gone"
        )
        connection.execute(
            "update pgflow.history_marks set archived_until = %s", (fresh,)
        )
    again = large(job_id)
    assert pgflow_cli.enqueue(own, **again) == job_id
    assert pgflow_cli.enqueue_many(own, [GOOD, again])[1] == job_id
    own.commit()
    for key, sentence in (("meta", "meta must not"), ("payload", "the payload has")):
        new = {k: v for k, v in large(fresh).items() if k != key} | {key: again[key]}
        other = "payload" if key == "meta" else "meta"
        new.pop(other)
        with pytest.raises(PgflowError, match=f"job 3: {sentence}"):
            pgflow_cli.enqueue_many(own, [GOOD, again, new])
        own.rollback()
        with pytest.raises(PgflowError, match=f"^{sentence}"):
            pgflow_cli.enqueue(own, **new)
        own.rollback()


def test_what_is_sent_again_may_be_larger_than_the_table_takes(
    connection: Connection,
) -> None:
    job_id = pgflow_cli.enqueue(connection, "a", job_id=enqueue.new_job_id())
    for call in (
        "pgflow.enqueue('a', to_jsonb(repeat('x', 16777217)), job_id => %s)",
        "array_to_string(pgflow.enqueue_many(jsonb_build_array(jsonb_build_object("
        "'job_type', 'a', 'payload_json', repeat('x', 16777217),"
        " 'job_id', %s::text))), ',')",
    ):
        row = connection.execute(f"select {call}::text", (job_id,)).fetchone()
        assert row == (job_id,)


# Other wrong arguments.


@pytest.mark.parametrize("wrong", [None, "no", ValueError("no"), UsageError("no")])
def test_what_is_no_refusal_is_not_recorded(own: Connection, wrong: Any) -> None:
    with pytest.raises(UsageError, match="record_refusal takes the Refused"):
        pgflow_cli.record_refusal(own, wrong)


def test_a_relative_time_of_a_document_is_of_the_databases_clock(
    repository: Repository, connection: Connection
) -> None:
    def job(when: str) -> str:
        return json.dumps([{"job_type": "a", "payload_json": {}, "run_at": when}])

    for when in ("in 0s", "in 1d30s5ms", "in 36525d"):
        repository.enqueue.enqueue_many(job(when), options=JobOptions())
    rows = connection.execute(
        "select (1000 * extract(epoch from run_at - created_at))::bigint"
        " from pgflow.jobs order by 1"
    ).fetchall()
    assert [row[0] for row in rows] == [0, 86_430_005, 3_155_760_000_000]
    for when in (
        "in",
        "in ",
        "in 5",
        "in -5s",
        "5m",
        "now",
        "in 1.5s",
        "in 99999999999999d",
    ):
        with pytest.raises(UsageError, match="job 1: run_at must be") as raised:
            repository.enqueue.enqueue_many(job(when), options=JobOptions())
        assert type(raised.value) is UsageError
    for when in ("in 36525d1s", "in 999999999d"):
        with pytest.raises(OutOfRange, match="job 1: run_at must be"):
            repository.enqueue.enqueue_many(job(when), options=JobOptions())
