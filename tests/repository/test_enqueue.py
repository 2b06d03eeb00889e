"""The gate for producers: what it lets in, what it refuses, what it leaves behind."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import psycopg
import pytest
from psycopg import sql

import pgflow_cli
from pgflow_cli.errors import (
    DatabaseUnavailable,
    PgflowError,
    Refused,
    UsageError,
)
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.operations import enqueue
from pgflow_cli.repository import Repository, borrowed
from tests.support.jobs import successes
from tests.support.servers import Database

pytestmark = pytest.mark.usefixtures("every_job_in_one_place")

Connection = psycopg.Connection[Any]
CANARY = "cAnArY"
PLAIN = JobOptions()


@pytest.fixture
def count(connection: Connection) -> Callable[[str], int]:
    """Count the rows of a table of pgflow."""

    def counted(table: str) -> int:
        query = sql.SQL("select count(*) from pgflow.{}").format(sql.Identifier(table))
        row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    return counted


def set_policy(connection: Connection, queue: str, **limits: int | None) -> None:
    connection.execute(
        "insert into pgflow.queue_policies"
        " (queue, max_payload_bytes, max_enqueue_per_minute) values (%s, %s, %s)",
        (queue, limits.get("max_payload_bytes"), limits.get("max_enqueue_per_minute")),
    )


def stay_in_this_minute(connection: Connection) -> None:
    """Wait for the next minute if this one is nearly over: limits are per minute."""
    connection.execute(
        "select pg_sleep(case when second > 50 then 60.1 - second else 0 end)"
        " from (select extract(second from clock_timestamp())) as clock (second)"
    )


def job(**fields: object) -> dict[str, object]:
    return {"job_type": "email_send", "payload_json": {}, **fields}


# What is let in.


def test_the_example_of_the_manual_works(connection: Connection) -> None:
    row = connection.execute(
        "select pgflow.enqueue('email_send', '{\"to\": \"a@example.org\"}',"
        " queue => 'emails')"
    ).fetchone()
    assert row is not None
    assert row[0].version == 7
    found = connection.execute(
        "select jobs.queue, job_type, payload, priority, max_attempts, timeout_ms,"
        " meta, jobs.run_at = created_at, rank, attempt_no"
        " from pgflow.jobs join pgflow.pending using (job_type) where id = %s",
        row,
    ).fetchone()
    to = {"to": "a@example.org"}
    assert found == ("emails", "email_send", to, 0, 25, None, None, True, 0, 0)
    ranks = connection.execute("select queue, rank from pgflow.queue_ranks").fetchall()
    assert ranks == [("emails", 0)]


def test_every_option_arrives(connection: Connection) -> None:
    when = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    job_id = pgflow_cli.enqueue(
        connection,
        "report_build",
        [1, {"a": None}],
        queue="reports",
        run_at=when,
        priority=7,
        max_attempts=3,
        job_timeout="1h30m",
        meta={"trace": "x"},
    )
    found = connection.execute(
        "select jobs.queue, payload, priority, max_attempts, timeout_ms, meta,"
        " jobs.run_at, pending.run_at, rank from pgflow.jobs"
        " join pgflow.pending on job_id = id where id = %s",
        (job_id,),
    ).fetchone()
    meta = {"trace": "x"}
    payload = [1, {"a": None}]
    assert found == ("reports", payload, 7, 3, 5_400_000, meta, when, when, -7)


def test_many_have_the_fields_of_one_and_come_back_in_order(
    repository: Repository, connection: Connection
) -> None:
    given = enqueue.new_job_id()
    jobs = [
        job(
            queue="a",
            priority=1,
            max_attempts=2,
            run_at="2031-01-01T00:00:00Z",
            job_timeout="5m",
            meta={"k": "v"},
            job_id=given,
        ),
        {"payload_json": [1.5]},
    ]
    ids = repository.enqueue.enqueue_many(
        json.dumps(jobs),
        job_type="other",
        options=JobOptions(queue="b", delay=60.0, priority=-1),
    )
    assert ids[0] == given
    rows = connection.execute(
        "select id::text, queue, job_type, priority, max_attempts, timeout_ms, meta,"
        " run_at - created_at > interval '59 s' from pgflow.jobs order by queue"
    ).fetchall()
    meta = {"k": "v"}
    assert rows == [
        (ids[0], "a", "email_send", 1, 2, 300_000, meta, True),
        (ids[1], "b", "other", -1, 25, None, None, True),
    ]


def test_ids_of_one_call_ascend(repository: Repository) -> None:
    jobs = json.dumps([job() for _ in range(1000)])
    ids = repository.enqueue.enqueue_many(jobs, options=PLAIN)
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert {uuid.UUID(i).version for i in ids} == {7}
    assert {uuid.UUID(i).variant for i in ids} == {uuid.RFC_4122}


def test_an_id_made_by_the_database_tells_the_time(connection: Connection) -> None:
    row = connection.execute(
        "select pgflow.uuid7(), extract(epoch from clock_timestamp())::float8"
    ).fetchone()
    assert row is not None
    assert abs((row[0].int >> 80) / 1000 - row[1]) < 1


def test_nothing_is_enqueued_by_an_empty_list(
    repository: Repository, count: Callable[[str], int]
) -> None:
    assert repository.enqueue.enqueue_many("[]", options=PLAIN) == []
    assert count("jobs") == 0


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("1.10", "1.10"),
        ('{"b": 1, "a": 1, "b": 2}', '{"a": 1, "b": 2}'),
        ("-0.0", "0.0"),
        ("1e5", "100000"),
        (r'"\ud83d\ude00"', '"😀"'),
        ("9007199254740992", "9007199254740992"),
        ("6.02214076e23", "602214076000000000000000"),
        ("[" * 64 + "]" * 64, "[" * 64 + "]" * 64),
    ],
    ids=lambda text: text[:12],
)
def test_a_payload_is_stored_by_the_rules_of_jsonb(
    repository: Repository, connection: Connection, text: str, stored: str
) -> None:
    repository.enqueue.enqueue("a", text, options=PLAIN)
    repository.enqueue.enqueue_many(
        f'[{{"job_type": "a", "payload_json": {text}}}]', options=PLAIN
    )
    rows = connection.execute("select payload::text from pgflow.jobs").fetchall()
    assert rows == [(stored,), (stored,)]


# The same twice.


def test_the_same_id_twice_is_one_job(
    repository: Repository, count: Callable[[str], int]
) -> None:
    job_id = enqueue.new_job_id()
    for _ in range(2):
        assert (
            repository.enqueue.enqueue("a", "{}", options=PLAIN, job_id=job_id)
            == job_id
        )
        both = json.dumps([job(job_id=job_id), job(job_id=job_id, queue="other")])
        assert repository.enqueue.enqueue_many(both, options=PLAIN) == [job_id, job_id]
    assert count("jobs") == 1
    assert count("pending") == 1


def test_a_finished_job_does_not_run_again(
    repository: Repository, connection: Connection, count: Callable[[str], int]
) -> None:
    job_id = repository.enqueue.enqueue("a", "{}", options=PLAIN)
    connection.execute("delete from pgflow.pending")
    connection.execute(successes(f"select '{job_id}'::uuid as job_id"))
    assert repository.enqueue.enqueue("a", "{}", options=PLAIN, job_id=job_id) == job_id
    assert count("pending") == 0


def test_a_batch_that_is_sent_again_adds_what_was_missing(
    repository: Repository, count: Callable[[str], int]
) -> None:
    ids = enqueue.new_job_ids(10)
    jobs = [job(job_id=job_id) for job_id in ids]
    repository.enqueue.enqueue_many(json.dumps(jobs[:6]), options=PLAIN)
    assert repository.enqueue.enqueue_many(json.dumps(jobs), options=PLAIN) == ids
    assert count("pending") == 10


# What is refused as bad input: alike for one, for many, and for Python.

BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"job_type": ""}, "job_type is missing"),
    ({"job_type": "x" * 129}, "job_type must be 1 to 128"),
    ({"job_type": "../etc"}, "job_type must be"),
    ({"job_type": "a\n"}, "job_type must be"),
    ({"queue": "a:b"}, "queue must be 1 to 63"),
    ({"queue": "x" * 64}, "queue must be"),
    ({"queue": ""}, "queue must be"),
    ({"priority": 101}, "priority must be a whole number from -100 to 100"),
    ({"priority": -101}, "priority must be"),
    ({"max_attempts": 0}, "max_attempts must be a whole number from 1 to 10000"),
    ({"max_attempts": 10001}, "max_attempts must be"),
    ({"run_at": "1999-12-31T23:59:59Z"}, "run_at must be a time"),
    ({"run_at": "9999-01-01T00:00:00Z"}, "run_at must be"),
    ({"job_id": "9c41e07b-1111-4111-8111-111111111111"}, "job_id must be a UUIDv7"),
    ({"job_id": "ffffffff-ffff-7fff-bfff-ffffffffffff"}, "at most a day ahead"),
    ({"meta": ["cAnArY"]}, "meta must be a JSON object"),
    ({"meta": {"k": "cAnArY" * 3000}}, "meta must not exceed 16384 bytes"),
]
BAD_PAYLOADS: list[tuple[str, str]] = [
    ('["cAnArY", 1e400]', "outside float64"),
    ('["cAnArY", 1e131071]', "outside float64"),
    ('["cAnArY", ' + "9" * 5000 + "]", "a whole one beyond 2^53"),
    ('["cAnArY", 9007199254740993]', "a whole one beyond 2^53"),
    ('["cAnArY", 1e-400]', "too small for float64"),
    ('["cAnArY", 24703283e-331]', "too small for float64"),
    ('["cAnArY", ' + "[" * 65 + "]" * 65 + "]", "nested deeper than 64"),
    ("null", "payload_json is missing"),
]


def refuses(call: Callable[[], object], kind: type[PgflowError]) -> str:
    """Return the sentence of a refusal that repeats nothing of the payload."""
    with pytest.raises(kind) as raised:
        call()
    error: BaseException | None = raised.value
    while error is not None:
        assert CANARY not in str(error)
        error = error.__cause__
    assert "\n" not in raised.value.message
    return raised.value.message


@pytest.mark.parametrize(("fields", "sentence"), BAD_FIELDS, ids=str)
def test_a_bad_field_is_refused_in_one_sentence(
    repository: Repository,
    connection: Connection,
    count: Callable[[str], int],
    fields: dict[str, Any],
    sentence: str,
) -> None:
    good = {"job_type": "a", "payload_json": {"secret": CANARY}}
    many = json.dumps([good, {**good, **fields}])
    message = refuses(
        lambda: repository.enqueue.enqueue_many(many, options=PLAIN), UsageError
    )
    assert message.startswith("job 2: ")
    assert sentence in message

    rest = {k: v for k, v in fields.items() if k not in ("job_type", "job_id", "meta")}
    if "meta" in fields:
        rest["meta"] = json.dumps(fields["meta"])
    message = refuses(
        lambda: repository.enqueue.enqueue(
            fields.get("job_type", "a"),
            json.dumps({"secret": CANARY}),
            options=JobOptions(**rest),
            job_id=fields.get("job_id"),
        ),
        UsageError,
    )
    assert sentence in message

    keywords = {"job_type": "a", "payload": {"secret": CANARY}, **fields}
    message = refuses(lambda: pgflow_cli.enqueue(connection, **keywords), UsageError)
    assert sentence.split(" must", maxsplit=1)[0] in message
    assert count("jobs") == count("pending") == 0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"priority": True}, "priority must be"),
        ({"priority": 1.5}, "priority must be"),
        ({"priority": "1"}, "priority must be"),
        ({"priority": 10**30}, "priority must be"),
        ({"max_attempts": 2**40}, "max_attempts must be"),
        ({"job_type": 7}, "job_type must be 1 to 128"),
        ({"queue": ["cAnArY"]}, "queue must be 1 to 63"),
        ({"run_at": "2027-02-29T00:00:00Z"}, "run_at must be"),
        ({"run_at": "2027-02-28T00:00:00"}, "run_at must be"),
        ({"run_at": "cAnArY"}, "run_at must be"),
        ({"run_at": 1e13}, "run_at must be"),
        ({"run_at": "infinity"}, "run_at must be"),
        ({"job_timeout": "0s"}, "job_timeout must be"),
        ({"job_timeout": "31d"}, "job_timeout must be"),
        ({"job_timeout": "1.5h"}, "job_timeout must be seconds, or text such as"),
        ({"job_id": "cAnArY"}, "job_id must be"),
        ({"meta": 5}, "meta must be"),
        ({"to": "cAnArY"}, 'unknown field "to"'),
        ({"cAnArY!": 1}, "unknown field"),
    ],
    ids=str,
)
def test_a_field_of_the_wrong_kind_is_refused(
    repository: Repository,
    count: Callable[[str], int],
    fields: dict[str, Any],
    sentence: str,
) -> None:
    many = json.dumps([job(**fields)])
    message = refuses(
        lambda: repository.enqueue.enqueue_many(many, options=PLAIN), UsageError
    )
    assert sentence in message
    assert count("jobs") == 0


@pytest.mark.parametrize(("text", "sentence"), BAD_PAYLOADS, ids=lambda t: t[:30])
def test_a_payload_that_no_worker_could_read_is_refused(
    repository: Repository, count: Callable[[str], int], text: str, sentence: str
) -> None:
    message = refuses(
        lambda: repository.enqueue.enqueue("a", text, options=PLAIN), UsageError
    )
    assert sentence in message
    many = f'[{{"job_type": "a", "payload_json": {text}}}]'
    message = refuses(
        lambda: repository.enqueue.enqueue_many(many, options=PLAIN), UsageError
    )
    assert sentence in message
    assert count("jobs") == 0


@pytest.mark.parametrize(
    "text", [r'"cAnArY\u0000"', r'"cAnArY\ud800"', "[NaN]", '{"cAnArY"}']
)
def test_what_jsonb_refuses_leaves_no_row(
    repository: Repository, count: Callable[[str], int], text: str
) -> None:
    with pytest.raises(PgflowError) as raised:
        repository.enqueue.enqueue("a", text, options=PLAIN)
    assert CANARY not in raised.value.message
    assert count("jobs") == 0


@pytest.mark.parametrize(
    ("jobs", "sentence"),
    [
        ('{"job_type": "a"}', "jobs must be a JSON array"),
        ('["cAnArY"]', "job 1: a job must be a JSON object"),
        ("[[]]", "job 1: a job must be a JSON object"),
        (json.dumps([job()] * 1001), "at most 1000 jobs"),
    ],
    ids=lambda text: text[:20],
)
def test_a_document_that_is_no_list_of_jobs_is_refused(
    repository: Repository, jobs: str, sentence: str
) -> None:
    message = refuses(
        lambda: repository.enqueue.enqueue_many(jobs, options=PLAIN), UsageError
    )
    assert sentence in message


def test_every_bad_element_is_listed(repository: Repository) -> None:
    jobs = [job(), job(priority=500), job(), job(queue="!")]
    with pytest.raises(UsageError) as raised:
        repository.enqueue.enqueue_many(json.dumps(jobs), options=PLAIN)
    assert raised.value.details["ordinals"] == [2, 4]


@pytest.mark.parametrize(
    "options",
    [
        JobOptions(delay=-1.0),
        JobOptions(delay=4e9),
        JobOptions(delay=1.0, run_at=datetime(2031, 1, 1, tzinfo=UTC)),
        JobOptions(job_timeout=0.0),
        JobOptions(job_timeout=-5.0),
        JobOptions(job_timeout=2_592_001.0),
        JobOptions(max_payload_bytes=1),
        JobOptions(max_payload_bytes=16_777_217),
        JobOptions(max_enqueue_per_minute=-1),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused(
    repository: Repository, count: Callable[[str], int], options: JobOptions
) -> None:
    refuses(lambda: repository.enqueue.enqueue("a", "{}", options=options), UsageError)
    jobs = json.dumps([job()])
    refuses(lambda: repository.enqueue.enqueue_many(jobs, options=options), UsageError)
    assert count("jobs") == 0


def test_infinite_times_are_refused(connection: Connection) -> None:
    for when in ("infinity", "-infinity", "4713-01-01 BC", "10000-01-01"):
        with pytest.raises(psycopg.Error) as raised:
            connection.execute(
                "select pgflow.enqueue('a', '{}', run_at => %s::timestamptz)", (when,)
            )
        assert raised.value.sqlstate == "PF422"


# Guards.


def test_size_is_measured_on_the_expanded_text(
    repository: Repository, count: Callable[[str], int]
) -> None:
    fits = '["' + CANARY + "x" * 86 + '"]'
    assert len(fits) == 96
    limit = JobOptions(max_payload_bytes=96)
    repository.enqueue.enqueue("a", fits, options=limit)
    repository.enqueue.enqueue("a", "[1e90, 1]", options=limit)
    for over in ('["' + CANARY + "x" * 87 + '"]', "[1e91, 1]", "[1e95]"):
        message = refuses(
            lambda text=over: repository.enqueue.enqueue("a", text, options=limit),
            Refused,
        )
        assert 'queue "default" takes at most 96 (max_payload_bytes)' in message
    assert count("jobs") == 2


def test_the_default_limit_is_256_kibibytes(repository: Repository) -> None:
    # White space around it is no part of what jsonb holds.
    repository.enqueue.enqueue("a", ' "' + "x" * 262_142 + '" ', options=PLAIN)
    with pytest.raises(Refused) as raised:
        repository.enqueue.enqueue("a", '"' + "x" * 262_143 + '"', options=PLAIN)
    assert raised.value.reason_code == "PAYLOAD_TOO_LARGE"
    assert raised.value.details["bytes"] == 262_145


def test_a_policy_overrides_the_limit_both_ways(
    repository: Repository, connection: Connection
) -> None:
    set_policy(connection, "small", max_payload_bytes=10)
    set_policy(connection, "large", max_payload_bytes=16_777_216)
    with pytest.raises(Refused) as raised:
        repository.enqueue.enqueue(
            "a", '"123456789"', options=JobOptions(queue="small")
        )
    assert raised.value.details["from_policy"] is True
    repository.enqueue.enqueue(
        "a",
        '"' + "x" * 1_000_000 + '"',
        options=JobOptions(queue="large", max_payload_bytes=100),
    )


def test_a_refusal_of_many_lists_all_that_must_go(
    repository: Repository, connection: Connection, count: Callable[[str], int]
) -> None:
    stay_in_this_minute(connection)
    set_policy(connection, "small", max_payload_bytes=10)
    set_policy(connection, "slow", max_enqueue_per_minute=2)
    jobs = [job(queue="slow") for _ in range(4)]
    jobs[1] = job(queue="small", payload_json=CANARY * 3)
    jobs += [job(queue="fine"), job(queue="small", payload_json=CANARY * 3)]
    with pytest.raises(Refused) as raised:
        repository.enqueue.enqueue_many(json.dumps(jobs), options=PLAIN)
    details = raised.value.details
    assert CANARY not in str(details) + raised.value.message
    assert raised.value.reason_code == "PAYLOAD_TOO_LARGE"
    assert sorted(details["ordinals"]) == [2, 4, 6]  # type: ignore[call-overload]
    assert count("jobs") == count("enqueue_counters") == 0
    rest = [jobs[0], jobs[2], jobs[4]]
    assert len(repository.enqueue.enqueue_many(json.dumps(rest), options=PLAIN)) == 3


def test_a_rate_is_kept_and_a_refusal_spends_nothing(
    repository: Repository, connection: Connection
) -> None:
    stay_in_this_minute(connection)
    options = JobOptions(max_enqueue_per_minute=5)
    four, two = (json.dumps([job()] * n) for n in (4, 2))
    repository.enqueue.enqueue_many(four, options=options)
    for _ in range(3):
        with pytest.raises(Refused) as raised:
            repository.enqueue.enqueue_many(two, options=options)
        assert raised.value.reason_code == "ENQUEUE_RATE_EXCEEDED"
        assert raised.value.details["ordinals"] == [2]
    repository.enqueue.enqueue("a", "{}", options=options)
    with pytest.raises(Refused, match="at most 5 jobs a minute"):
        repository.enqueue.enqueue("a", "{}", options=options)
    row = connection.execute("select count from pgflow.enqueue_counters").fetchone()
    assert row == (5,)


def test_a_job_that_is_sent_again_is_not_charged_again(
    repository: Repository, connection: Connection
) -> None:
    stay_in_this_minute(connection)
    options = JobOptions(max_enqueue_per_minute=2)
    ids = enqueue.new_job_ids(2)
    jobs = json.dumps([job(job_id=job_id) for job_id in ids])
    for _ in range(3):
        assert repository.enqueue.enqueue_many(jobs, options=options) == ids
        assert (
            repository.enqueue.enqueue("a", "{}", options=options, job_id=ids[0])
            == ids[0]
        )


def test_concurrent_producers_exceed_the_rate_by_no_more_than_they_have_open(
    database: Database, connection: Connection, count: Callable[[str], int]
) -> None:
    stay_in_this_minute(connection)
    set_policy(connection, "default", max_enqueue_per_minute=100)
    refusals: list[int] = []

    def produce() -> None:
        with database.connect() as own:
            for n in range(40):
                try:
                    if n % 4:
                        pgflow_cli.enqueue(own, "a")
                    else:
                        pgflow_cli.enqueue_many(own, [{"job_type": "a"}] * 3)
                except Refused:
                    refusals.append(n)

    run_together(produce, 8)
    assert refusals
    assert 98 <= count("jobs") <= 100 + 7 * 3


def test_queues_without_a_limit_write_no_counter(
    repository: Repository, count: Callable[[str], int]
) -> None:
    repository.enqueue.enqueue("a", "{}", options=PLAIN)
    repository.enqueue.enqueue_many(json.dumps([job()] * 10), options=PLAIN)
    assert count("enqueue_counters") == 0


def run_together(function: Callable[[], object], times: int) -> None:
    """Run a function in threads that begin at once; the first error is raised here."""
    barrier = threading.Barrier(times)
    errors: list[BaseException] = []

    def wait_and_run() -> None:
        barrier.wait()
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=wait_and_run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_eighteen_first_enqueues_of_a_queue_all_succeed(
    database: Database, count: Callable[[str], int]
) -> None:
    def first() -> None:
        with database.connect() as own:
            pgflow_cli.enqueue(own, "a", queue="brand-new", priority=3)

    run_together(first, 18)
    assert count("jobs") == count("pending") == 18
    assert count("places") == 1


# Inside the caller's transaction.


def test_a_rollback_of_the_caller_takes_the_job_with_it(
    database: Database, count: Callable[[str], int]
) -> None:
    own = psycopg.connect(database.url)
    pgflow_cli.enqueue(own, "a", {"x": 1})
    pgflow_cli.enqueue_many(own, [{"job_type": "a"}, {"job_type": "b", "payload": [1]}])
    assert count("jobs") == 0
    own.rollback()
    assert count("jobs") == count("pending") == count("queue_ranks") == 0
    pgflow_cli.enqueue(own, "a")
    own.commit()
    own.close()
    assert count("jobs") == 1


def test_a_refusal_aborts_the_callers_transaction_and_is_recorded_afterwards(
    database: Database, connection: Connection
) -> None:
    set_policy(connection, "default", max_payload_bytes=20)
    with psycopg.connect(database.url) as own:
        for _ in range(3):
            with pytest.raises(Refused) as raised:
                pgflow_cli.enqueue(own, "a", {"secret": CANARY * 5})
            assert own.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
            own.rollback()
            pgflow_cli.record_refusal(own, raised.value)
            own.commit()
    rows = connection.execute(
        "select queue, decision, reason_code, sum(count), details_json->>'limit'"
        " from pgflow.ingest_decisions group by 1, 2, 3, 5"
    ).fetchall()
    assert rows == [("default", "DENIED", "PAYLOAD_TOO_LARGE", 3, "20")]
    text = connection.execute(
        "select ingest_decisions::text from pgflow.ingest_decisions"
    )
    assert CANARY not in str(text.fetchall())


def test_a_savepoint_survives_a_refusal(
    database: Database, connection: Connection, count: Callable[[str], int]
) -> None:
    set_policy(connection, "small", max_payload_bytes=5)
    with psycopg.connect(database.url) as own:
        pgflow_cli.enqueue(own, "a")
        with pytest.raises(Refused), own.transaction():
            pgflow_cli.enqueue(own, "a", {"key": "value"}, queue="small")
        pgflow_cli.enqueue(own, "a")
    assert count("jobs") == 2


def test_many_are_all_or_none_in_autocommit_mode_too(
    connection: Connection, count: Callable[[str], int]
) -> None:
    jobs: list[dict[str, Any]] = [{"job_type": "a", "payload": n} for n in range(1500)]
    jobs[1200]["priority"] = 50
    assert len(set(pgflow_cli.enqueue_many(connection, jobs))) == 1500
    jobs[1200]["payload"] = "x" * 300_000
    with pytest.raises(Refused, match="job 1201: the payload has"):
        pgflow_cli.enqueue_many(connection, jobs)
    assert count("jobs") == 1500


def test_the_clients_times_may_be_written_in_several_ways(
    connection: Connection,
) -> None:
    def delay_of(**when: Any) -> float:
        job_id = pgflow_cli.enqueue(connection, "a", **when)
        row = connection.execute(
            "select extract(epoch from run_at - created_at)::float8 from pgflow.jobs"
            " where id = %s",
            (job_id,),
        ).fetchone()
        assert row is not None
        return float(row[0])

    assert delay_of() == 0
    assert delay_of(delay=90) == delay_of(delay="90s") == delay_of(delay="1m30s") == 90
    assert delay_of(delay=timedelta(minutes=1.5)) == 90
    assert delay_of(run_at="2031-01-01T00:00:00+05:30") > 1e8
    with pytest.raises(UsageError, match="zone"):
        pgflow_cli.enqueue(connection, "a", run_at=datetime(2031, 1, 1))
    with pytest.raises(UsageError, match="exclude"):
        delay_of(delay=1, run_at=datetime.now(UTC))
    with pytest.raises(UsageError, match="seconds"):
        delay_of(delay=True)


def test_a_connection_of_another_kind_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="sync psycopg connection"):
        pgflow_cli.enqueue(object(), "a")  # type: ignore[arg-type]


def test_a_lost_connection_is_told_as_one(database: Database) -> None:
    own = database.connect()
    own.close()
    with pytest.raises(DatabaseUnavailable):
        pgflow_cli.enqueue(own, "a")


def test_a_read_only_transaction_is_an_outage(database: Database) -> None:
    own = psycopg.connect(database.url)
    own.read_only = True
    with pytest.raises(DatabaseUnavailable):
        borrowed(own).enqueue("a", "{}", options=PLAIN)
    own.close()


# Wake-up.


def plant_worker(connection: Connection, **columns: Any) -> None:
    facts = {"idle": True, "quiet": False, "queues": None, **columns}
    connection.execute(
        "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
        " lease_seconds, name, host, idle, quiet, queues) values"
        " (gen_random_uuid(), gen_random_uuid(), 1, 1, 10, 'w', 'h',"
        " %(idle)s, %(quiet)s, %(queues)s)",
        facts,
    )


@pytest.fixture
def heard(database: Database) -> Callable[[], list[str]]:
    """Return what was notified since the last time."""
    listener, caller = database.connect(), database.connect()
    listener.execute("listen pgflow")

    def until_now() -> list[str]:
        # Notifications come in the order of commits.
        caller.execute("select pg_notify('pgflow', 'the end')")
        heard = (each.payload for each in listener.notifies())
        return sorted(takewhile(lambda payload: payload != "the end", heard))

    return until_now


def test_an_idle_worker_of_the_queue_is_told(
    repository: Repository, connection: Connection, heard: Callable[[], list[str]]
) -> None:
    plant_worker(connection, queues=["default", "b"])
    repository.enqueue.enqueue("a", "{}", options=PLAIN)
    assert heard() == ["default"]
    jobs = [job(queue=queue) for queue in ("b", "b", "c", "default")]
    repository.enqueue.enqueue_many(json.dumps(jobs), options=PLAIN)
    assert heard() == ["b", "default"]


def test_nobody_is_told_of_jobs_that_are_not_due_or_not_new(
    repository: Repository, connection: Connection, heard: Callable[[], list[str]]
) -> None:
    job_id = repository.enqueue.enqueue("a", "{}", options=PLAIN)
    plant_worker(connection)
    repository.enqueue.enqueue("a", "{}", options=PLAIN, job_id=job_id)
    repository.enqueue.enqueue("a", "{}", options=JobOptions(delay=60.0))
    jobs = json.dumps([job(job_id=job_id), job(run_at="2031-01-01T00:00:00Z")])
    repository.enqueue.enqueue_many(jobs, options=PLAIN)
    assert heard() == []


@pytest.mark.parametrize(
    "columns", [{"idle": False}, {"quiet": True}, {"queues": ["other"]}], ids=str
)
def test_a_worker_that_would_not_come_is_not_told(
    repository: Repository,
    connection: Connection,
    heard: Callable[[], list[str]],
    columns: dict[str, Any],
) -> None:
    plant_worker(connection, **columns)
    repository.enqueue.enqueue("a", "{}", options=PLAIN)
    repository.enqueue.enqueue_many(json.dumps([job()]), options=PLAIN)
    assert heard() == []


# Rights.


def test_a_producer_needs_no_right_but_to_call_the_gate(
    database: Database, connection: Connection
) -> None:
    role = f"producer_{uuid.uuid4().hex[:12]}"
    name = sql.Identifier(role)
    connection.execute(sql.SQL("create role {}").format(name))
    try:
        with database.connect() as own:
            own.execute(sql.SQL("grant usage on schema pgflow to {}").format(name))
            own.execute(sql.SQL("set role {}").format(name))
            with pytest.raises(PgflowError, match="permission denied"):
                pgflow_cli.enqueue(own, "a")
            own.execute("reset role")
            for function in ("enqueue", "enqueue_many"):
                own.execute(
                    sql.SQL("grant execute on function pgflow.{} to {}").format(
                        sql.Identifier(function), name
                    )
                )
            own.execute(sql.SQL("set role {}").format(name))
            # A table of the same name in front of the path is not looked at.
            own.execute("create temporary table jobs (id uuid)")
            own.execute("create temporary table pending (id uuid)")
            pgflow_cli.enqueue(own, "a")
            pgflow_cli.enqueue_many(own, [{"job_type": "a"}])
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute("select from pgflow.jobs")
    finally:
        connection.execute(sql.SQL("drop owned by {0}").format(name))
        connection.execute(sql.SQL("drop role {0}").format(name))


# Waiting for the end.


def test_outcomes_tell_how_jobs_have_ended(
    repository: Repository, connection: Connection
) -> None:
    jobs = json.dumps([job()] * 4)
    good, dead, canceled, waiting = repository.enqueue.enqueue_many(jobs, options=PLAIN)
    connection.execute("delete from pgflow.pending where job_id <> %s", (waiting,))
    connection.execute(successes(f"select '{good}'::uuid as job_id"))
    connection.execute(
        "insert into pgflow.dead_letters (job_id, attempt_no, failed_attempts, queue,"
        " job_type, dlq_reason_code, error_code)"
        " values (%s, 1, 1, 'default', 'a', 'NON_RETRYABLE', 'BAD_PAYLOAD')",
        (dead,),
    )
    connection.execute(
        "insert into pgflow.canceled_jobs values (%s, now(), 'default', 'me')",
        (canceled,),
    )
    outcomes = repository.enqueue.list_outcomes([good, dead, canceled, waiting])
    assert {o.job_id: (o.status, o.error_code) for o in outcomes} == {
        good: ("succeeded", None),
        dead: ("dlq", "BAD_PAYLOAD"),
        canceled: ("canceled", None),
    }
    assert repository.enqueue.has_job(waiting)
    assert not repository.enqueue.has_job(enqueue.new_job_id())
