"""The command `explain`: its screen, its formats, its exit codes."""

from __future__ import annotations

import json

import pytest

from tests.jobs import plant
from tests.repository.test_audit import attempt, bury, unqueue
from tests.repository.test_overview import fail_then_retry


@pytest.fixture
def dead(connection) -> str:
    """A dead letter of 25 attempts whose error message is hostile."""
    [job_id] = plant(connection, queue="emails", payload='{"to": "a\\u001b[2J@b"}')
    unqueue(connection, job_id)
    for number in range(1, 26):
        attempt(connection, job_id, "failed", number)
    bury(connection, job_id)
    connection.execute(
        "update pgflow.dead_letters set error_code = 'DEPENDENCY_DOWN',"
        " error_message = %s",
        ("smtp \x1b]0;owned\x07 refused\nsecond line \u202e" + "x" * 9000,),
    )
    return job_id


def test_a_dead_letter_tells_its_story(pgflow, dead):
    result = pgflow("explain", dead[-8:])
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"Job {dead}  noop on emails  [x] DLQ"
    assert lines[1] == "Why     Moved to DLQ after 25 attempt(s). Reason: X."
    assert lines[2].startswith("        Last error DEPENDENCY_DOWN: smtp \\x1b]0;owned")
    assert len(lines[2]) < 600
    assert [" ".join(line.split()[3:5]) for line in lines[4:6]] == [
        "enqueued priority",
        "attempt 1",
    ]
    assert lines[6].strip() == "... 22 attempts hidden (--attempts all)"
    assert "moved to DLQ" in lines[9]
    assert lines[-1].startswith(f"Next    pgflow explain {dead[-8:]} --payload")


def test_nothing_of_a_job_commands_the_terminal(pgflow, dead):
    for arguments in (
        ("-o", "plain", "--payload"),
        ("-o", "json", "--payload"),
        ("-o", "csv", "--payload"),
        ("-o", "table", "--timeline"),
        ("-o", "md", "--timeline"),
    ):
        result = pgflow("explain", dead, *arguments)
        assert result.returncode == 0, result.stderr
        assert not {"\x1b", "\x07", "\u202e"} & set(result.stdout)


def test_the_document_has_the_keys_of_the_api(pgflow, dead):
    result = pgflow("explain", dead, "-o", "json", "--payload")
    document = json.loads(result.stdout)
    assert document["job_id"] == dead
    assert document["verdict"] == "DLQ"
    assert document["attempts"] == 25
    assert document["last_error"]["error_code"] == "DEPENDENCY_DOWN"
    assert document["payload_json"] == {"to": "a\x1b[2J@b"}
    assert document["timeline"][0]["event"] == "enqueued"
    assert "payload_json" in document
    without = json.loads(pgflow("explain", dead, "-o", "json").stdout)
    assert without["payload_json"] is None
    assert pgflow("explain", dead, "-o", "ids").stdout.strip() == dead


def test_a_payload_that_python_cannot_hold_is_shown_as_text(pgflow, connection):
    [job_id] = plant(connection)
    connection.execute("update pgflow.jobs set payload = '{\"n\": 1e5000}'")
    result = pgflow("explain", job_id, "--payload", "-o", "json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["payload_json"].startswith('{"n": 1000000')
    assert pgflow("explain", job_id, "--payload").returncode == 0


def test_the_timeline_is_rows(pgflow, dead):
    result = pgflow("explain", dead, "--timeline", "--attempts", "all", "-o", "json")
    rows = json.loads(result.stdout)["items"]
    assert len(rows) == 27
    assert list(rows[1]) == ["at", "after", "event", "worker_id", "took_ms", "detail"]


def test_every_gate_is_printed_when_asked_for(pgflow, connection):
    [job_id] = plant(connection)
    fail_then_retry(connection, job_id, "now() + interval '1 hour'")
    result = pgflow("explain", job_id, "--gates")
    assert "[ ] SCHEDULED  as of " in result.stdout
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "LEASE_HELD passed nobody holds it" in lines
    assert "NO_WORKER not reached" in lines
    assert any(line.startswith("NOT_DUE held runs in") for line in lines)


def test_the_exit_code_is_5_for_what_is_held_up_or_dead(pgflow, connection, dead):
    held, running_well = plant(connection, 2)
    unqueue(connection, running_well)
    attempt(connection, running_well, "succeeded")
    codes = [
        pgflow("explain", job_id, "--exit-code").returncode
        for job_id in (dead, held, running_well)
    ]
    assert codes == [5, 5, 0]
    assert pgflow("explain", dead).returncode == 0


def test_ids_that_mean_nothing_or_too_much_are_exit_3_and_2(pgflow):
    assert pgflow("explain", "ffffff").returncode == 3
    unknown = pgflow("explain", "01a2081d-307c-7b77-8a50-0f6c9c41e07b")
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert "there is no job 01a2081d-307c" in unknown.stderr
    assert pgflow("explain", "me").returncode == 2
    assert pgflow("explain", "ffffff", "--attempts", "0").returncode == 2


def test_an_older_schema_is_exit_78_with_both_versions(pgflow, connection):
    connection.execute("delete from pgflow.migrations where version > 1")
    refused = pgflow("explain", "ffffff")
    assert refused.returncode == 78
    assert "the schema is at version 1, and this program needs" in refused.stderr
