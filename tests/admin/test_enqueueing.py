"""Enqueueing over HTTP: what is taken, what is refused, and that it happens once."""

from __future__ import annotations

import json
import threading
from typing import Any

import psycopg
import pytest
from werkzeug.test import Client, TestResponse

from pgflow_cli.admin import pool
from pgflow_cli.errors import DatabaseUnavailable, OutcomeUnknown
from pgflow_cli.operations import enqueue as enqueuing
from pgflow_cli.repository import Enqueuing
from tests.admin.conftest import MakesClients, problem_of
from tests.support.jobs import audit, successes

Connection = psycopg.Connection[Any]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def send(client: Client, text: str | bytes, **headers: str) -> TestResponse:
    return client.post(
        "/jobs", data=text, content_type="application/json", headers=headers
    )


def enqueue(client: Client, **fields: Any) -> TestResponse:
    body = {"job_type": "email_send", "payload_json": {}, **fields}
    return client.post("/jobs", json=body)


def count(connection: Connection, table: str = "jobs") -> int:
    row = connection.execute(f"select count(*) from pgflow.{table}").fetchone()
    assert row is not None
    return int(row[0])


def job(connection: Connection, job_id: str) -> dict[str, Any]:
    cursor = connection.execute(
        "select queue, job_type, payload::text, priority, max_attempts, timeout_ms,"
        " meta::text, run_at > now() + interval '50 minutes' as later"
        " from pgflow.jobs where id = %s",
        (job_id,),
    )
    row = cursor.fetchone()
    assert row is not None
    assert cursor.description is not None
    return dict(zip([each.name for each in cursor.description], row, strict=True))


def test_a_job_has_the_defaults_of_the_command_line(
    client: Client, connection: Connection
) -> None:
    answer = enqueue(client)
    assert answer.status_code == 200
    assert answer.get_json().keys() == {"job_id"}
    assert job(connection, answer.get_json()["job_id"]) == {
        "queue": "default",
        "job_type": "email_send",
        "payload": "{}",
        "priority": 0,
        "max_attempts": 25,
        "timeout_ms": None,
        "meta": None,
        "later": False,
    }
    assert audit(connection) == (0, 0)
    assert count(connection, "operator_actions") == 0


def test_every_field_reaches_the_job(client: Client, connection: Connection) -> None:
    job_id = enqueuing.new_job_id()
    answer = enqueue(
        client,
        queue="emails",
        run_at="in 1h",
        priority=-7,
        max_attempts=3,
        job_timeout="1m30s",
        meta={"tenant": "a"},
        job_id=job_id,
    )
    assert answer.get_json() == {"job_id": job_id}
    found = job(connection, job_id)
    assert found["queue"] == "emails"
    assert (found["priority"], found["max_attempts"]) == (-7, 3)
    assert found["timeout_ms"] == 90_000
    assert found["meta"] == '{"tenant": "a"}'
    assert found["later"]


@pytest.mark.parametrize(
    "payload",
    [
        '{"price": 1.10, "exact": 1.000, "n": 9007199254740992}',
        '{"b": 1, "a": [1.50, "\\u00fc \\ud83d\\ude00", null, true, -0.25]}',
        '"just text, with \\" and \\\\ in it: {}[],"',
        "12345.67890",
        "[[], {}, [[]]]",
        '{"a": 1, "a": 2.0}',
        '{"payload_json": {"payload_json": 1.0}, "note": "x"}',
    ],
)
def test_a_payload_reaches_the_database_as_it_was_written(
    client: Client, connection: Connection, payload: str
) -> None:
    text = (
        f'{{\r\n\t"payload_json" : {payload} ,"job_type": "t",'
        f' "meta" :{{"x": 2.50, "payload_json": 7}}}}'
    )
    answer = send(client, text)
    assert answer.status_code == 200, answer.text
    row = connection.execute(
        "select payload = %(p)s::jsonb, payload::text = %(p)s::jsonb::text, meta::text"
        " from pgflow.jobs",
        {"p": payload},
    ).fetchone()
    assert row == (True, True, '{"x": 2.50, "payload_json": 7}')


@pytest.mark.parametrize(
    "text",
    [
        '{"job_type": "a", "payload_json": 1, "job_type": "b"}',
        '{"job_type": "a", "payload_json": 1, "job_type": "a"}',
        '{"job_type": "a", "payload_json": 1, "payload_json" : 1}',
        '{"job_type": "a", "payload_json": 1, "job\\u005ftype": "b"}',
        '{"job_type": "a", "payload_json": 1, "meta": {"a": 1}, "meta": null}',
        '{"job_type": "a", "payload_json": "\\"job_type\\"", "queue":"a", "queue":"b"}',
    ],
)
def test_a_field_that_is_given_twice_is_refused(refuser: Client, text: str) -> None:
    problem = problem_of(send(refuser, text), 400, "BAD_REQUEST")
    assert problem["error"].endswith("is given twice")


def test_a_name_that_stands_in_the_payload_too_is_given_once(
    client: Client, connection: Connection
) -> None:
    payload = '{"job_type": [{"job_type": "\\u0061"}], "queue": "queue"}'
    text = f'{{"job_type": "a", "payload_json": {payload}, "queue": "q"}}'
    found = job(connection, send(client, text).get_json()["job_id"])
    assert (found["job_type"], found["queue"]) == ("a", "q")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/queues/q/pause", '{"note": "a", "note": "b"}'),
        ("/replays", '{"dry_run": true, "dry_run": false}'),
    ],
)
def test_what_is_given_twice_is_refused_everywhere(
    refuser: Client, path: str, text: str
) -> None:
    answer = refuser.post(path, data=text, content_type="application/json")
    problem = problem_of(answer, 400, "BAD_REQUEST")
    assert problem["error"].endswith("is given twice")


def test_a_job_that_is_sent_again_meets_no_limit_of_size(
    client_of: MakesClients, connection: Connection
) -> None:
    job_id = enqueuing.new_job_id()
    large = {"job_id": job_id, "payload_json": "x" * 1000}
    assert enqueue(client_of(), **large).status_code == 200
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_payload_bytes)"
        " values ('default', 100)"
    )
    assert enqueue(client_of(), **large).get_json() == {"job_id": job_id}
    assert enqueue(client_of(), **large, note="again").get_json() == {"job_id": job_id}
    assert count(connection) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"job_type": "t",}', "line 1, column"),
        (b'{"job_type": "t"\n "cAnArY": 1}', "line 2, column 2"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"job_type": "\xff"}', "not UTF-8 at byte 15"),
        (b"[]", "a JSON object"),
        (b"7", "a JSON object"),
        (b"nul", "not JSON"),
        (b'{"payload_json": {}}', "job_type is missing"),
        (b'{"job_type": "t"}', "payload_json is missing"),
        (b'{"job_type": "t", "payload_json": null}', "payload_json is missing"),
        (b'{"job_type": "t", "payload_json": NaN}', "NaN"),
        (b'{"job_type": "t", "payload_json": -Infinity}', "NaN or an infinity"),
        (b'{"job_type": "t", "payload_json": "\\u0000"}', "NUL"),
        (b'{"job_type": "t", "payload_json": "\\ud800"}', "surrogate"),
        (b'{"job_type": "t", "payload_json": 1e400}', "float64"),
        (b'{"job_type": "t", "payload_json": 1e131071}', "float64"),
        (b'{"job_type": "t", "payload_json": 9007199254740993}', "2^53"),
        (b'{"job_type": "t", "payload_json": ' + b"9" * 5000 + b"}", "2^53"),
        (b'{"job_type": "t", "payload_json": 0.' + b"1" * 5000 + b"}", "characters"),
        (b'{"job_type": "t", "payload_json": 1, "meta": []}', "meta must be"),
        (b'{"job_type": "t", "payload_json": 1, "key": "k"}', "unknown field"),
        (b'{"job_type": "t", "payload_json": 1, "on_conflict": 1}', "unknown field"),
        (b'{"job_type": "t", "payload_json": 1, "job_id": 1}', "UUIDv7"),
    ],
)
def test_what_is_no_job_is_refused_with_a_position_and_without_an_echo(
    refuser: Client, text: bytes, said: str
) -> None:
    answer = send(refuser, text)
    problem = problem_of(answer, 400, "BAD_REQUEST")
    assert said in problem["error"]
    assert "cAnArY" not in answer.text


@pytest.mark.parametrize("depth", [64, 65])
def test_a_payload_is_nested_64_levels_deep_at_most(
    client: Client, connection: Connection, depth: int
) -> None:
    payload = "[" * depth + "]" * depth
    answer = send(client, f'{{"job_type": "t", "payload_json": {payload}}}')
    assert answer.status_code == (200 if depth == 64 else 400), answer.text
    assert count(connection) == (1 if depth == 64 else 0)


def test_a_body_of_brackets_is_counted_before_it_is_parsed(refuser: Client) -> None:
    problem_of(send(refuser, "[" * 200_000), 400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", 101),
        ("priority", -101),
        ("priority", True),
        ("priority", 1.0),
        ("priority", "1"),
        ("priority", 10**12),
        ("priority", 99999999999999),
        ("max_attempts", 0),
        ("max_attempts", 10_001),
        ("max_attempts", 2**31),
        ("job_timeout", "0ms"),
        ("job_timeout", "31d"),
        ("job_timeout", -1),
        ("job_timeout", True),
        ("queue", ""),
        ("queue", "a:b"),
        ("queue", "x" * 64),
        ("queue", "../etc"),
        ("queue", "a\nb"),
        ("queue", 7),
        ("job_type", "x" * 10_000),
        ("job_type", "../x"),
        ("job_type", "a%2fb"),
        ("job_type", "ä"),
        ("job_id", "01a2081d-307c-4b77-8a50-0f6c9c41e07b"),
        ("run_at", "tomorrow-ish"),
        ("run_at", 5),
    ],
)
def test_a_field_out_of_its_bounds_is_a_400(
    refuser: Client, field: str, value: object
) -> None:
    problem = problem_of(enqueue(refuser, **{field: value}), 400, "BAD_REQUEST")
    assert field in problem["error"]


@pytest.mark.parametrize(
    "when",
    [
        "1999-12-31T23:59:59Z",
        "9999-01-01T00:00:00Z",
        "in 99999d",
        "200000-01-01T00:00:00Z",
    ],
)
def test_a_time_that_nobody_can_mean_is_a_422(refuser: Client, when: str) -> None:
    problem_of(enqueue(refuser, run_at=when), 422, "OUT_OF_RANGE")


def test_a_payload_may_be_as_large_as_the_limit_and_no_larger(
    client_of: MakesClients, connection: Connection
) -> None:
    client = client_of(max_payload_bytes=1000)
    exact = "x" * 998
    assert enqueue(client, payload_json=exact).status_code == 200
    problem = problem_of(
        enqueue(client, payload_json=exact + "x"), 413, "PAYLOAD_TOO_LARGE"
    )
    assert problem["details"]["bytes"] == 1001
    assert problem["details"]["limit"] == 1000
    assert "xxx" not in json.dumps(problem)
    assert count(connection) == 1
    assert count(connection, "ingest_decisions") == 1


def test_the_usual_limits_are_256_kib_for_a_payload_and_1_mib_for_a_body(
    client: Client, connection: Connection
) -> None:
    assert enqueue(client, payload_json="x" * 262_142).status_code == 200
    too_large = enqueue(client, payload_json="x" * 262_143)
    problem_of(too_large, 413, "PAYLOAD_TOO_LARGE")

    job_text = '{"job_type": "t", "payload_json": 1}'
    padded = job_text + " " * (1_048_576 - len(job_text))
    assert send(client, padded).status_code == 200
    problem_of(send(client, padded + " "), 413, "BODY_TOO_LARGE")
    assert count(connection) == 2


def test_a_queue_takes_so_many_a_minute(
    client_of: MakesClients, connection: Connection
) -> None:
    client = client_of(max_enqueue_per_minute=2)
    answers = [enqueue(client) for _ in range(5)]
    refused = [each for each in answers if each.status_code != 200]
    # A minute may begin in between, and then some more pass.
    assert refused
    problem = problem_of(refused[0], 429, "ENQUEUE_RATE_EXCEEDED")
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
    assert problem["details"]["limit"] == 2
    row = connection.execute(
        "select sum(count) from pgflow.ingest_decisions"
        " where reason_code = 'ENQUEUE_RATE_EXCEEDED' and queue = 'default'"
    ).fetchone()
    assert row == (len(refused),)


def test_a_policy_goes_before_the_settings_of_the_server(
    client_of: MakesClients, connection: Connection
) -> None:
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_payload_bytes)"
        " values ('wide', 2000)"
    )
    client = client_of(max_payload_bytes=10)
    wide = enqueue(client, queue="wide", payload_json="x" * 1998)
    assert wide.status_code == 200
    problem = problem_of(
        enqueue(client, queue="wide", payload_json="x" * 1999), 413, "PAYLOAD_TOO_LARGE"
    )
    assert problem["details"]["from_policy"]


def test_a_hundred_refusals_need_one_connection(
    client_of: MakesClients, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ten wait for it, and none has a turn: on a busy machine one would wait too long
    # and be told to try later.
    monkeypatch.setattr(pool, "_PATIENCE", 600.0)
    client = client_of(max_payload_bytes=2, threads=2, max_sse=1)
    answers: list[TestResponse] = []

    def refuse() -> None:
        for _ in range(10):
            answers.append(enqueue(client, payload_json="too much"))

    threads = [threading.Thread(target=refuse) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.status_code for each in answers] == [413] * 100
    row = connection.execute("select sum(count) from pgflow.ingest_decisions")
    assert row.fetchone() == (100,)
    backends = connection.execute(
        "select count(*) from pg_stat_activity where application_name = 'pgflow admin'"
        " and datname = current_database()"
    ).fetchone()
    assert backends == (1,)


def test_the_same_id_twice_is_one_job(client: Client, connection: Connection) -> None:
    job_id = enqueuing.new_job_id()
    for _ in range(2):
        answer = enqueue(client, job_id=job_id, payload_json={"n": 1}, note="by hand")
        assert answer.get_json() == {"job_id": job_id}
    assert count(connection) == 1
    assert count(connection, "operator_actions") == 1
    assert audit(connection) == (0, 0)


def test_an_operator_who_enqueues_stands_in_the_audit(
    client: Client, connection: Connection
) -> None:
    answer = client.post(
        "/jobs",
        json={"job_type": "t", "payload_json": {}, "queue": "q", "note": "again"},
        headers={"X-Pgflow-Actor": "eve"},
    )
    job_id = answer.get_json()["job_id"]
    row = connection.execute(
        "select actor, command, note, action, queue, jobs, job_ids::text[],"
        " finished_at is not null from pgflow.operator_actions"
    ).fetchone()
    assert row == ("eve", "POST /jobs", "again", "jobs.enqueue", "q", 1, [job_id], True)


@pytest.mark.parametrize(
    ("meta", "kept"),
    [
        (None, {"traceparent": TRACE, "tracestate": "a=1"}),
        ({}, {"traceparent": TRACE, "tracestate": "a=1"}),
        ({"t": 1}, {"t": 1, "traceparent": TRACE, "tracestate": "a=1"}),
        ({"traceparent": "mine"}, {"traceparent": "mine"}),
    ],
)
def test_a_trace_context_is_kept_in_meta(
    client: Client, connection: Connection, meta: Any, kept: dict[str, Any]
) -> None:
    body = {"job_type": "t", "payload_json": {}, "meta": meta}
    headers = {"traceparent": TRACE, "tracestate": "a=1"}
    job_id = client.post("/jobs", json=body, headers=headers).get_json()["job_id"]
    assert json.loads(job(connection, job_id)["meta"]) == kept


def test_a_trace_context_that_is_none_is_left_out(
    client: Client, connection: Connection
) -> None:
    answer = send(
        client, '{"job_type": "t", "payload_json": {}}', traceparent="00-x-y-01"
    )
    assert job(connection, answer.get_json()["job_id"])["meta"] is None


def test_a_job_whose_reply_was_lost_is_enqueued_once(
    client: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Enqueuing.enqueue, []

    def forgetful(self: Enqueuing, *arguments: Any, **options: Any) -> str:
        job_id = real(self, *arguments, **options)
        calls.append(job_id)
        if len(calls) == 1:
            self.close()
            raise OutcomeUnknown("the connection was lost")
        return job_id

    monkeypatch.setattr(Enqueuing, "enqueue", forgetful)
    answer = enqueue(client)
    assert answer.status_code == 200
    assert calls == [answer.get_json()["job_id"]] * 2
    assert count(connection) == 1


def test_a_lost_reply_before_an_outage_is_an_unknown_outcome_with_the_id(
    client: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Enqueuing.enqueue, []

    def failing(self: Enqueuing, *arguments: Any, **options: Any) -> str:
        calls.append(1)
        if len(calls) == 1:
            real(self, *arguments, **options)
            raise OutcomeUnknown("the connection was lost")
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(Enqueuing, "enqueue", failing)
    answer = enqueue(client)
    problem = problem_of(answer, 503, "OUTCOME_UNKNOWN")
    assert answer.headers["Retry-After"]
    monkeypatch.undo()
    again = enqueue(client, job_id=problem["job_id"])
    assert again.status_code == 200
    assert count(connection) == 1


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_only_json_is_a_job(refuser: Client, media: str) -> None:
    answer = refuser.post("/jobs", data="{}", content_type=media)
    problem_of(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_an_id_of_pruned_times_is_refused_and_an_archived_one_is_the_same_job(
    client: Client, connection: Connection
) -> None:
    old = "01700000-0000-7000-8000-000000000001"
    connection.execute(
        "update pgflow.history_marks set archived_until = %s, pruned_until = %s",
        (old, old),
    )
    refused = enqueue(client, job_id=old)
    assert "whose jobs have been pruned" in problem_of(refused, 422)["error"]
    connection.execute(
        "insert into pgflow.jobs_archive (id, queue, job_type, payload)"
        " values (%s, 'default', 'noop', '{}')",
        (old,),
    )
    connection.execute(successes(f"select '{old}'::uuid as job_id", archive=True))
    answer = enqueue(client, job_id=old)
    assert answer.status_code == 200
    assert answer.get_json() == {"job_id": old}
    assert count(connection) == 0
