"""The command `explain`: its screen, its formats, its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.terminals import on_a_terminal
from tests.repository.test_audit import attempt, bury, unqueue
from tests.repository.test_overview import fail_then_retry
from tests.support.jobs import plant


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
    headings = "TIME (UTC) AFTER EVENT WORKER TOOK DETAIL"
    assert " ".join(lines[3].split()) == headings
    assert [" ".join(line.split()[3:5]) for line in lines[4:6]] == [
        "enqueued priority",
        "attempt 1",
    ]
    assert lines[6].strip() == "... 22 attempts hidden (--attempts all)"
    assert "moved to DLQ" in lines[9]
    assert lines[10:] == [
        "Replays none",
        f"Next    pgflow replay {dead[-8:]} --dry-run"
        "  |  pgflow dlq stats -q emails --by error-code",
    ]


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
    result = pgflow("timeline", dead[-8:], "-o", "jsonl")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 27, "programs get every attempt"
    names = ["at", "after", "event", "worker_id", "took_ms", "detail", "kind"]
    assert list(rows[1]) == names
    same = pgflow("explain", dead, "--timeline", "-o", "jsonl").stdout
    assert same == result.stdout
    cut = pgflow("timeline", dead).stdout
    assert "22 attempts hidden" in cut
    assert len(cut.splitlines()) == 1 + 6
    every = pgflow("timeline", dead, "--attempts", "all", "-o", "md").stdout
    assert len(every.splitlines()) == 2 + 27


def test_the_timelines_document_has_the_keys_of_the_api(pgflow, dead):
    document = json.loads(pgflow("timeline", dead, "-o", "json").stdout)
    assert list(document) == [
        "job_id", "status", "queue", "job_type", "run_at", "next_run_at",
        "last_worker_id", "last_error", "attempts", "story",
    ]  # fmt: skip
    assert len(document["attempts"]) == 25
    assert list(document["attempts"][0]) == [
        "id", "attempt_no", "status", "started_at", "finished_at", "latency_ms",
        "worker_id", "error_code", "error_message", "suggested_action", "code_version",
    ]  # fmt: skip
    assert {entry["kind"] for entry in document["story"]} == {"Attempt"}
    assert pgflow("timeline", dead, "-o", "ids").stdout == f"{dead}\n"


def test_the_story_of_a_live_job_is_told_when_attempts_are_asked_for(
    pgflow, connection
):
    [job_id] = plant(connection)
    fail_then_retry(connection, job_id, "now() + interval '1 hour'")
    assert "attempt 1" not in pgflow("explain", job_id).stdout
    assert "attempt 1" in pgflow("explain", job_id, "--attempts", "all").stdout


def test_no_line_is_longer_than_the_terminal(pgflow, database, dead):
    words = [str(Path(sys.executable).with_name("pgflow")), "explain", dead]
    for columns in (80, 120):
        for more in ([], ["--timeline"], ["--gates", "--payload"]):
            seen = on_a_terminal(
                [*words, *more],
                variables={"DATABASE_URL": database.url},
                size=(60, columns),
            )
            assert seen.code == 0, seen.text
            assert max(len(line) for line in seen.lines) <= columns
    assert "Next    pgflow replay" in seen.text


def test_a_bundle_is_whole_private_and_has_no_payload_unless_asked(
    pgflow, dead, connection, tmp_path
):
    connection.execute(
        "update pgflow.dead_letters set error_message = "
        "'connect postgres://app:hunter2@db/app failed'"
    )
    bundle = tmp_path / "incident.json"
    result = pgflow("explain", dead, "--bundle", "incident.json")
    assert (result.returncode, result.stderr) == (0, "wrote incident.json\n")
    assert result.stdout.startswith(f"Job {dead}")
    text = bundle.read_text()
    found = json.loads(text)
    assert found["explain"]["verdict"] == "DLQ"
    assert len(found["timeline"]["attempts"]) == 25
    assert found["explain"]["payload_json"] is None
    assert '"to"' not in text
    assert "hunter2" not in text
    assert bundle.stat().st_mode & 0o777 == 0o600
    pgflow("explain", dead, "--payload", "--bundle", "incident.json")
    again = json.loads(bundle.read_text())
    assert again["explain"]["payload_json"] == {"to": "a\x1b[2J@b"}
    assert list(tmp_path.glob("*.partial*")) == []


def test_a_bundle_that_cannot_be_written_is_exit_74(pgflow, dead, tmp_path):
    for target in ("none/incident.json", "."):
        refused = pgflow("explain", dead, "--bundle", target)
        assert refused.returncode == 74, refused.stderr
        assert f"cannot write {target}" in refused.stderr
    assert pgflow("explain", dead, "--bundle", "-").returncode == 2
    assert list(tmp_path.glob("*partial*")) == []


def test_watching_ends_with_the_job_and_each_look_is_a_line(
    pgflow, connection, database, wait_until
):
    [job_id] = plant(connection)
    words = [str(Path(sys.executable).with_name("pgflow")), "explain", job_id]
    watching = subprocess.Popen(
        [*words, "--watch", "0.2", "--exit-code"],
        stdout=subprocess.PIPE,
        env={**os.environ, "DATABASE_URL": database.url},
        text=True,
    )
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())
    assert first["verdict"] == "NO_WORKER"
    unqueue(connection, job_id)
    bury(connection, job_id)
    rest, _ = watching.communicate(timeout=60)
    assert json.loads(rest.splitlines()[-1])["verdict"] == "DLQ"
    assert watching.returncode == 5
    over = pgflow("explain", job_id, "-w")
    assert [json.loads(line)["verdict"] for line in over.stdout.splitlines()] == ["DLQ"]


def test_on_a_terminal_the_last_look_stays(database, dead):
    words = [str(Path(sys.executable).with_name("pgflow")), "explain", dead, "-w"]
    variables = {"DATABASE_URL": database.url}
    seen = on_a_terminal(words, variables=variables, size=(40, 80))
    assert seen.code == 0
    _, other, stays = seen.text.partition("\x1b[?1049l")
    assert other
    assert f"Job {dead}" in stays
    assert "Next    pgflow replay" in stays


def test_every_gate_is_printed_when_asked_for(pgflow, connection):
    [job_id] = plant(connection)
    fail_then_retry(connection, job_id, "now() + interval '1 hour'")
    result = pgflow("explain", job_id, "--gates")
    assert "[ ] SCHEDULED  as of " in result.stdout
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "LEASE_HELD passed no worker holds it" in lines
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
