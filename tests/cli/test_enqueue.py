"""The command `pgflow enqueue`: what it takes, what it prints, how it ends."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from werkzeug.test import Client

from pgflow_cli.cli.program import program
from pgflow_cli.operations import enqueue
from tests.admin.conftest import client, client_of
from tests.support.jobs import successes
from tests.support.servers import Database

__all__ = ["client", "client_of"]

Connection = psycopg.Connection[Any]
Runs = Callable[..., Result]
CANARY = "cAnArY"


@pytest.fixture
def run(database: Database) -> Runs:
    """Run `pgflow enqueue` with its arguments."""

    def invoke(*arguments: str, stdin: bytes | str | None = None, **env: str) -> Result:
        return CliRunner().invoke(
            program,
            ["enqueue", *arguments],
            input=stdin,
            env={"DATABASE_URL": database.url, **env},
        )

    return invoke


def stored(connection: Connection) -> list[Any]:
    rows = connection.execute(
        "select payload::text from pgflow.jobs order by id"
    ).fetchall()
    return [row[0] for row in rows]


def test_the_id_goes_to_stdout(run: Runs, connection: Connection) -> None:
    result = run("email_send", '{"to": "a@example.org"}', "-q", "emails")
    assert result.exit_code == 0, result.stderr
    job_id = uuid.UUID(result.stdout.strip())
    row = connection.execute(
        "select id, queue, job_type, payload from pgflow.jobs"
    ).fetchone()
    assert row == (job_id, "emails", "email_send", {"to": "a@example.org"})


def test_every_option_reaches_the_job(run: Runs, connection: Connection) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    job_id = enqueue.new_job_id()
    options = (
        "--priority=9 --max-attempts=3 --run-at=2031-01-02T03:04:05Z --job-timeout=5m"
        f" --meta=a=b=c --id={job_id}"
    )
    result = run("t", *options.split(), TRACEPARENT=trace)
    assert result.exit_code == 0, result.stderr
    row = connection.execute(
        "select id::text, payload, priority, max_attempts, timeout_ms, meta,"
        " run_at = '2031-01-02T03:04:05Z' from pgflow.jobs"
    ).fetchone()
    meta = {"a": "b=c", "traceparent": trace}
    assert row == (job_id, {}, 9, 3, 300_000, meta, True)


def test_a_relative_time_is_reckoned_by_the_database(
    run: Runs, connection: Connection
) -> None:
    for option in (("--in", "10m"), ("--run-at", "in 10m")):
        assert run("t", *option).exit_code == 0
    rows = connection.execute(
        "select run_at - created_at = interval '10 minutes' from pgflow.jobs"
    ).fetchall()
    assert rows == [(True,), (True,)]


def test_a_payload_comes_from_everywhere(
    run: Runs, connection: Connection, tmp_path: Path
) -> None:
    file = tmp_path / "payload.json"
    file.write_text('{"price": 1.10}')
    assert run("t").exit_code == 0
    assert run("t", f"@{file}").exit_code == 0
    assert run("t", "-", stdin='["ü"]'.encode()).exit_code == 0
    assert run("t", "-F", 'a=x"=y', "-J", "b=[1.50]", "-F", "c=").exit_code == 0
    assert stored(connection) == [
        "{}",
        '{"price": 1.10}',
        '["ü"]',
        '{"a": "x\\"=y", "b": [1.50], "c": ""}',
    ]


def test_the_same_id_twice_is_one_job(run: Runs, connection: Connection) -> None:
    job_id = enqueue.new_job_id()
    for _ in range(2):
        assert run("t", "--id", job_id).stdout.strip() == job_id
    assert len(stored(connection)) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "job_type is missing"),
        (["t", "{cAnArY"], "the payload is not JSON"),
        (["t", '["cAnArY", NaN]'], "NaN"),
        (["t", '["cAnArY", 1e400]'], "outside float64"),
        (["t", r'["cAnArY\u0000"]'], "NUL"),
        (["t", r'["cAnArY\ud800"]'], "surrogate"),
        (["t", "[" * 65 + "]" * 65], "deeper than 64"),
        (["t", "null"], "payload_json is missing"),
        (["t/../x"], "job_type must be"),
        (["t", "-q", "a:b"], "queue"),
        (["t", "--priority", "101"], "-100 to 100"),
        (["t", "--priority", "1.5"], "-100 to 100"),
        (["t", "--max-attempts", "0"], "1 to 10000"),
        (["t", "--run-at", "1999-01-01"], "2000"),
        (["t", "--run-at", "9999-06-01"], "2000 and 9998"),
        (["t", "--run-at", "infinity"], "2000 and 9998"),
        (["t", "--in", "1m", "--run-at", "in 1m"], "exclude each other"),
        (["t", "--job-timeout", "31d"], "30d"),
        (["t", "--id", "cAnArY"], "job_id must be a UUIDv7"),
        (["t", "--id", str(uuid.UUID(int=5))], "job_id must be a UUIDv7"),
        (["t", "{}", "-F", "a=cAnArY"], "exclude each other"),
        (["t", "-F", "cAnArY"], "-F takes KEY=VALUE"),
        (["t", "-F", "a=1", "-J", "a=1"], 'field "a" is given twice'),
        (["t", "-J", "a=cAnArY"], 'the value of field "a" is not JSON'),
        (["t", "--rate", "5/s"], "belong to --batch"),
        (["t", "--meta", "k=" + "cAnArY" * 3000], "meta must not exceed"),
        (["t", "{}", "--batch", "-"], "--batch brings"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input_is_exit_2_in_one_sentence_and_no_row(
    run: Runs, connection: Connection, arguments: list[str], sentence: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.stderr
    assert sentence in result.stderr
    assert CANARY not in result.stderr.replace("'cAnArY'", "")
    assert result.stdout == ""
    assert stored(connection) == []


def test_a_bad_byte_and_a_byte_order_mark_are_exit_2(run: Runs, tmp_path: Path) -> None:
    assert "at byte 3" in run("t", "-", stdin=b'["\xff"]').stderr
    assert run("t", "-", stdin=b'["\xff"]').exit_code == 2
    assert "byte order mark" in run("t", "-", stdin=b"\xef\xbb\xbf{}").stderr


def test_a_missing_file_is_exit_3(run: Runs) -> None:
    assert run("t", "@nowhere.json").exit_code == 3
    assert run("--batch", "nowhere.jsonl").exit_code == 3


def test_a_payload_over_the_limit_is_refused_and_recorded(
    run: Runs, connection: Connection
) -> None:
    at_limit = '"' + "x" * 18 + '"'
    assert run("t", at_limit, PGFLOW_MAX_PAYLOAD_BYTES="20").exit_code == 0
    over = '"' + CANARY + "x" * 13 + '"'
    for _ in range(2):
        result = run("t", over, PGFLOW_MAX_PAYLOAD_BYTES="20")
        assert result.exit_code == 4
        assert "PAYLOAD_TOO_LARGE" in result.stderr
        assert "PGFLOW_MAX_PAYLOAD_BYTES" in result.stderr
        assert CANARY not in result.stderr
    rows = connection.execute(
        "select reason_code, sum(count) from pgflow.ingest_decisions group by 1"
    ).fetchall()
    assert rows == [("PAYLOAD_TOO_LARGE", 2)]
    assert len(stored(connection)) == 1


def test_a_policy_overrides_the_variables(run: Runs, connection: Connection) -> None:
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_enqueue_per_minute)"
        " values ('default', 0), ('closed', 1)"
    )
    for _ in range(3):
        assert run("t", PGFLOW_MAX_ENQUEUE_PER_MINUTE="1").exit_code == 0
    results = [run("t", "-q", "closed") for _ in range(3)]
    assert 4 in {result.exit_code for result in results}
    assert 'the policy of queue "closed"' in results[-1].stderr + results[-2].stderr


def test_a_dry_run_asks_the_gate_and_changes_nothing(
    run: Runs, connection: Connection
) -> None:
    result = run("t", '{"a": 1}', "--dry-run", "-o", "json")
    assert result.exit_code == 0, result.stderr
    assert "DRY RUN" in result.stderr
    assert json.loads(result.stdout)["payload_bytes"] == 8
    assert run("t", '"xxxx"', "-n", PGFLOW_MAX_PAYLOAD_BYTES="5").exit_code == 4
    assert stored(connection) == []


def test_json_output_names_the_job(run: Runs) -> None:
    (item,) = json.loads(run("t", "-o", "json").stdout)["items"]
    assert uuid.UUID(item["job_id"]).version == 7


# Waiting.


def finish(connection: Connection, statement: str) -> threading.Thread:
    """End the job as soon as it is there."""

    def end() -> None:
        deadline = time.monotonic() + 20
        while not connection.execute("select from pgflow.pending").fetchall():
            if time.monotonic() > deadline:
                return
        with connection.transaction():
            connection.execute(statement)
            connection.execute("delete from pgflow.pending")

    thread = threading.Thread(target=end)
    thread.start()
    return thread


def test_waiting_for_a_job_that_succeeds_is_exit_0(
    run: Runs, connection: Connection
) -> None:
    ending = finish(
        connection,
        successes("select job_id from pgflow.pending"),
    )
    result = run("t", "--wait", "-o", "json")
    ending.join()
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["items"][0]["status"] == "succeeded"


def test_waiting_for_a_job_that_fails_is_exit_1(
    run: Runs, connection: Connection
) -> None:
    ending = finish(
        connection,
        "insert into pgflow.dead_letters (job_id, attempt_no, failed_attempts, queue,"
        " job_type, dlq_reason_code, error_code)"
        " select job_id, 1, 1, queue, job_type, 'NON_RETRYABLE', 'BAD_PAYLOAD'"
        " from pgflow.pending",
    )
    result = run("t", "--wait")
    ending.join()
    assert result.exit_code == 1, result.stderr
    assert "BAD_PAYLOAD" in result.stdout


def test_waiting_too_long_is_exit_75(run: Runs) -> None:
    result = run("t", "--wait", "--wait-timeout", "200ms")
    assert result.exit_code == 75
    assert "pgflow explain" in result.stderr


# Batches.


def line(**fields: Any) -> str:
    return json.dumps({"job_type": "t", "payload_json": {"n": 1}, **fields}) + "\n"


def test_a_batch_is_enqueued_whole(run: Runs, connection: Connection) -> None:
    text = line(payload_json="a") + "\n" + line(queue="q", priority=3) + line()
    result = run("--batch", "-", stdin=text)
    assert result.exit_code == 0, result.stderr
    assert "enqueued 3 jobs" in result.stderr
    assert result.stdout == ""
    assert len(stored(connection)) == 3


def test_a_batch_prints_its_ids_when_asked(
    run: Runs, connection: Connection, tmp_path: Path
) -> None:
    file = tmp_path / "jobs.jsonl"
    given = enqueue.new_job_id()
    file.write_text(line() + line(job_id=given) + '{"payload_json": {}}')
    result = run("other", "--batch", str(file), "-o", "ids", "-q", "q")
    ids = result.stdout.split()
    assert ids[1] == given
    rows = connection.execute(
        "select id::text, queue, job_type from pgflow.jobs"
    ).fetchall()
    assert set(rows) == {
        (ids[0], "q", "t"),
        (given, "q", "t"),
        (ids[2], "q", "other"),
    }


def test_the_first_bad_line_stops_an_atomic_batch(
    run: Runs, connection: Connection
) -> None:
    result = run("--batch", "-", stdin=line() * 1500 + '{"cAnArY\n' + line())
    assert result.exit_code == 2
    assert "line 1501: the line is not JSON" in result.stderr
    assert CANARY not in result.stderr
    assert stored(connection) == []


def test_a_refused_line_stops_an_atomic_batch_and_is_recorded(
    run: Runs, connection: Connection
) -> None:
    text = line() * 1200 + "\n" + line(payload_json=CANARY * 10)
    result = run("--batch", "-", stdin=text, PGFLOW_MAX_PAYLOAD_BYTES="20")
    assert result.exit_code == 4
    assert "line 1202: the payload has 62 bytes" in result.stderr
    assert CANARY not in result.stderr
    assert stored(connection) == []
    row = connection.execute("select count from pgflow.ingest_decisions").fetchone()
    assert row == (1,)


def test_without_atomic_every_good_line_is_enqueued(
    run: Runs, connection: Connection
) -> None:
    bad = [
        line(payload_json=CANARY * 10),
        '{"cAnArY\n',
        line(job_id="ffffffff-ffff-7fff-bfff-ffffffffffff"),
        line(run_at="2027-02-30T00:00:00Z"),
    ]
    text = line() * 3 + bad[0] + line() + bad[1] + bad[2] + bad[3] + line()
    result = run(
        "--batch", "-", "--no-atomic", stdin=text, PGFLOW_MAX_PAYLOAD_BYTES="20"
    )
    assert result.exit_code == 1
    assert "line 4: PAYLOAD_TOO_LARGE" in result.stderr
    assert "line 6: the line is not JSON" in result.stderr
    assert "line 7: job_id must be" in result.stderr
    assert "line 8: run_at must be a time with a zone" in result.stderr
    assert "enqueued 5 jobs, refused 4 lines" in result.stderr
    assert CANARY not in result.stderr
    assert len(stored(connection)) == 5


BODIES: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"job_timeout": 5}, None),
    ({"job_timeout": 1.5}, None),
    ({"job_timeout": "2592000000ms"}, None),
    ({"job_timeout": None, "queue": None, "priority": None, "meta": None}, None),
    ({"run_at": "in 1h"}, None),
    ({"run_at": "2030-01-01t00:00:00.123456789z"}, None),
    ({"meta": {"a": 1.50}, "priority": 3, "max_attempts": 2, "queue": "q"}, None),
    ({"job_id": "01800000-0000-7000-8000-00000000000A"}, None),
    ({"note": "x"}, None),
    ({"note": None}, None),
    ({"note": 5}, "note must be"),
    ({"note": "x" * 1001}, "note must be"),
    ({"job_timeout": True}, "job_timeout must be"),
    ({"job_timeout": 0}, "job_timeout must be from 1ms to 30d"),
    ({"job_timeout": "31d"}, "job_timeout must be from 1ms to 30d"),
    ({"job_timeout": "99999999d"}, "job_timeout must be from 1ms to 30d"),
    ({"job_timeout": "5 m"}, "job_timeout must be seconds, or text such as"),
    ({"run_at": 5}, "run_at must be a time"),
    ({"run_at": ""}, "run_at must be a time"),
    ({"run_at": "1999-12-31"}, "run_at must be a time"),
    ({"run_at": "in 99999d"}, "run_at must be a time"),
    ({"priority": 99999999999999}, "priority must be a whole number from -100 to 100"),
    ({"priority": "1"}, "priority must be"),
    ({"max_attempts": 0}, "max_attempts must be"),
    ({"queue": "a:b"}, "queue must be 1 to 63"),
    ({"job_type": None}, "job_type is missing"),
    ({"job_type": 5}, "job_type must be 1 to 128"),
    ({"payload_json": None}, "payload_json is missing"),
    ({"meta": []}, "meta must be a JSON object"),
    ({"delay": 5}, 'unknown field "delay"'),
]


@pytest.mark.parametrize(("fields", "sentence"), BODIES, ids=str)
def test_a_line_is_a_body_of_post_jobs(
    run: Runs, client: Client, connection: Connection, fields: Any, sentence: str | None
) -> None:
    """The job is the same, or what is wrong is said in the same words."""
    text = line(**fields)
    done = run("--batch", "-", stdin=text)
    answer = client.post("/jobs", data=text, content_type="application/json")
    if sentence is not None:
        assert (done.exit_code, answer.status_code // 100) == (2, 4)
        assert f"line 1: {answer.get_json()['error']}" in " ".join(done.stderr.split())
        assert answer.get_json()["error"].startswith(sentence)
        assert stored(connection) == []
        return
    assert (done.exit_code, answer.status_code) == (0, 200), done.stderr + answer.text
    rows = connection.execute(
        "select queue, job_type, payload::text, priority, max_attempts, timeout_ms,"
        " meta::text, case when run_at < created_at + interval '2 hours'"
        " then (run_at - created_at)::text else run_at::text end from pgflow.jobs"
    ).fetchall()
    assert len(rows) == (1 if "job_id" in fields else 2)
    assert len(set(rows)) == 1
    if fields.get("job_timeout") is not None:
        assert rows[0][5] in (1500, 5000, 2_592_000_000)
    notes = connection.execute(
        "select note, action, queue, jobs from pgflow.operator_actions"
    ).fetchall()
    noted = 2 if fields.get("note") else 0
    assert notes == [("x", "jobs.enqueue", "default", 1)] * noted


@pytest.mark.parametrize("option", ["--atomic", "--no-atomic"])
def test_notes_of_lines_stand_in_the_audit(
    run: Runs, connection: Connection, option: str
) -> None:
    known = enqueue.new_job_id()
    text = line(note="a") + line() + line(note="b", queue="q") + line(note="a")
    text += line(note="c", job_id=known) + line(note="a", queue="q")
    for _ in range(2):
        result = run(
            "--batch",
            "-",
            option,
            stdin=line(note="c", job_id=known),
            PGFLOW_ACTOR="me",
        )
        assert result.exit_code == 0, result.stderr
    assert run("--batch", "-", option, stdin=text, PGFLOW_ACTOR="me").exit_code == 0
    rows = connection.execute(
        "select actor, note, queue, jobs from pgflow.operator_actions order by 2, 3"
    ).fetchall()
    assert rows == [
        ("me", "a", "default", 2),
        ("me", "a", "q", 1),
        ("me", "b", "q", 1),
        ("me", "c", "default", 1),
    ]


def test_a_line_with_a_field_twice_is_refused(
    run: Runs, connection: Connection
) -> None:
    result = run(
        "--batch", "-", stdin='{"job_type": "t", "payload_json": 1, "job_type": "u"}'
    )
    assert result.exit_code == 2
    assert 'line 1: a field "job_type" is given twice' in result.stderr
    assert stored(connection) == []


def test_a_job_that_is_sent_again_meets_no_limit_of_size(
    run: Runs, connection: Connection
) -> None:
    job_id = enqueue.new_job_id()
    payload = '"' + "x" * 50 + '"'
    assert run("t", payload, "--id", job_id).exit_code == 0
    limit = {"PGFLOW_MAX_PAYLOAD_BYTES": "20"}
    result = run("t", payload, "--id", job_id, **limit)
    assert (result.exit_code, result.stdout.strip()) == (0, job_id)
    result = run(
        "--batch", "-", stdin=line(payload_json="x" * 50, job_id=job_id), **limit
    )
    assert result.exit_code == 0, result.stderr
    assert len(stored(connection)) == 1


def test_the_place_of_a_refusal_is_that_of_its_line(
    run: Runs, connection: Connection
) -> None:
    """Also if a queue that comes later goes first in the alphabet."""
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_payload_bytes)"
        " values ('a', 5), ('b', 5)"
    )
    text = line(payload_json=1) + line(queue="b") + line(queue="a")
    result = run("--batch", "-", stdin=text)
    assert result.exit_code == 4
    assert "line 3: the payload has" in result.stderr


def test_queues_for_which_there_is_room_are_enqueued_without_the_others(
    run: Runs, connection: Connection
) -> None:
    connection.execute("update pgflow.gate_limits set max_queues = 2")
    text = "".join(line(queue=queue) for queue in ("z", "y", "x", "z"))
    result = run("--batch", "-", "--no-atomic", stdin=text)
    assert result.exit_code == 1
    assert "line 3: TOO_MANY_QUEUES" in result.stderr
    assert "enqueued 3 jobs, refused 1 lines" in result.stderr


def test_a_rate_limit_lets_the_first_lines_through(
    run: Runs, connection: Connection
) -> None:
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_enqueue_per_minute)"
        " values ('slow', 3);"
        "select pg_sleep(case when second > 50 then 60.1 - second else 0 end)"
        " from (select extract(second from clock_timestamp())) as clock (second)"
    )
    text = "".join(line(queue="slow", payload_json=n) for n in range(5))
    result = run("--batch", "-", "--no-atomic", stdin=text)
    assert result.exit_code == 1
    assert "line 4: ENQUEUE_RATE_EXCEEDED" in result.stderr
    assert "line 5: ENQUEUE_RATE_EXCEEDED" in result.stderr
    assert stored(connection) == ["0", "1", "2"]


def test_a_rate_spaces_when_jobs_become_due(run: Runs, connection: Connection) -> None:
    result = run("--batch", "-", "--rate", "2/s", stdin=line() * 5)
    assert result.exit_code == 0, result.stderr
    rows = connection.execute(
        "select extract(epoch from run_at - created_at)::int from pgflow.jobs"
        " order by run_at"
    ).fetchall()
    assert [row[0] for row in rows] == [0, 0, 1, 1, 2]


def test_a_dry_run_of_a_batch_names_every_bad_line(
    run: Runs, connection: Connection
) -> None:
    result = run("--batch", "-", "-n", stdin=line() + "{\n" + line(priority="high"))
    assert result.exit_code == 1
    assert "line 2:" in result.stderr
    assert "line 3: priority must be" in result.stderr
    assert "would enqueue 1 jobs" in result.stderr
    assert stored(connection) == []
