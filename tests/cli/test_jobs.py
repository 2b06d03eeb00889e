"""The commands of `pgflow jobs`: formats, exit codes, questions, the audit."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.repository.test_audit import attempt, bury, lease, unqueue
from tests.repository.test_overview import fail_then_retry
from tests.support.jobs import audit, plant, status_of

UNKNOWN = "00000000-0000-7000-8000-000000000000"
PROGRAM = str(Path(sys.executable).with_name("pgflow"))
ITEM = {
    "id", "queue", "job_type", "status", "run_at", "priority", "max_attempts",
    "last_error_code", "last_error_message", "dlq_reason_code", "created_at",
    "updated_at", "short_id", "attempt_no", "dlq_at", "fingerprint", "resolved_at",
    "replay_of_job_id", "worker_id", "lease_expires_at",
}  # fmt: skip
READING = (
    ("list",),
    ("list", "--status", "queued"),
    ("list", "--slow"),
    ("list", "--stuck"),
    ("tail",),
)


@pytest.fixture
def running(connection) -> str:
    [job] = plant(connection)
    unqueue(connection, job)
    lease(connection, job)
    return job


def actions(connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select action, jobs, queue, actor, note from pgflow.operator_actions"
        " order by id"
    ).fetchall()


def test_items_have_the_fields_of_the_api(pgflow, connection):
    [job] = plant(connection)
    document = json.loads(pgflow("jobs", "list", "-o", "json").stdout)
    [item] = document["items"]
    assert set(item) == ITEM
    assert (item["id"], item["short_id"]) == (job, job[-8:])
    assert document["next_cursor_id"] is None


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_every_list_speaks_json_and_gives_full_ids(pgflow, connection, running, words):
    [done] = plant(connection)
    attempt(connection, done, "succeeded")
    [queued] = plant(connection)
    unqueue(connection, done)
    connection.execute("update pgflow.leases set expires_at = now() - interval '1s'")
    items = json.loads(pgflow("jobs", *words, "-o", "json").stdout)["items"]
    assert items
    ids = pgflow("jobs", *words, "-o", "ids").stdout.split()
    assert len(ids) == len(items)
    assert set(ids) <= {running, done, queued}
    for line in pgflow("jobs", *words, "-o", "jsonl").stdout.splitlines():
        json.loads(line)


def test_an_empty_list_is_fine(pgflow):
    result = pgflow("jobs", "list", "-o", "json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["items"] == []


def test_the_columns_of_each_list_keep_their_order(pgflow, running):
    head = pgflow("jobs", "list").stdout.splitlines()[0].split("  ")
    words = [word.strip() for word in head if word.strip()]
    assert words == [
        "ID", "STATUS", "QUEUE", "TYPE", "ATTEMPT", "SINCE", "RUN AT", "ERROR",
    ]  # fmt: skip
    head = pgflow("jobs", "list", "--slow").stdout.splitlines()[0].split("  ")
    words = [word.strip() for word in head if word.strip()]
    assert words == [
        "ID", "QUEUE", "TYPE", "ATTEMPT", "SINCE", "ERROR", "WORKER", "LEASE ENDS",
    ]  # fmt: skip


def test_a_cursor_goes_on_and_the_last_page_has_none(pgflow, connection):
    jobs = plant(connection, 5)
    first = pgflow("jobs", "list", "--limit", "3", "-o", "ids")
    assert first.stderr.startswith("3 shown. Next page: --cursor ")
    token = first.stderr.split()[-1]
    rest = pgflow("jobs", "list", "--limit", "3", "-o", "ids", "--cursor", token)
    assert rest.stderr == ""
    assert first.stdout.split() + rest.stdout.split() == sorted(jobs, reverse=True)
    everything = pgflow("jobs", "list", "--all-pages", "-o", "ids")
    assert everything.stdout.split() == sorted(jobs, reverse=True)
    assert pgflow("jobs", "list", "--cursor", "nonsense").returncode == 2


def test_a_queue_of_the_environment_narrows_no_list(pgflow, connection):
    plant(connection, queue="emails")
    ids = pgflow("jobs", "list", "-o", "ids", env={"PGFLOW_QUEUE": "default"})
    assert len(ids.stdout.split()) == 1


def test_globs_name_queues(pgflow, connection):
    plant(connection, queue="emails.slow")
    plant(connection, queue="other")
    for pattern, count in (("emails.*", 1), ("*", 2), ("nothing*", 0)):
        result = pgflow("jobs", "list", "-q", pattern, "-o", "ids")
        assert len(result.stdout.split()) == count


def test_slow_and_another_state_exclude_each_other(pgflow):
    assert pgflow("jobs", "list", "--slow", "--status", "dlq").returncode == 2


def test_a_job_is_shown_with_its_payload(pgflow, connection):
    [job] = plant(connection, payload='{"to": "a\\u001b[2J@b", "n": 1.5}')
    shown = json.loads(pgflow("jobs", "show", job[-8:], "-o", "json").stdout)
    assert set(shown) == ITEM | {"payload_json", "meta"}
    assert shown["payload_json"] == {"to": "a\x1b[2J@b", "n": 1.5}
    result = pgflow("jobs", "show", job)
    assert "\x1b" not in result.stdout
    assert result.stderr == f"Next: pgflow explain {job[-8:]}\n"


def test_unknown_short_and_ambiguous_ids(pgflow, connection):
    jobs = plant(connection, 2)
    connection.execute(
        "update pgflow.jobs set id = (left(id::text, 30) || 'abcdef')::uuid"
    )
    connection.execute(
        "update pgflow.pending set job_id = (left(job_id::text, 30) || 'abcdef')::uuid"
    )
    assert pgflow("jobs", "show", UNKNOWN).returncode == 3
    assert pgflow("jobs", "show", "ffffff").returncode == 3
    assert pgflow("jobs", "show", "cdef").returncode == 2
    result = pgflow("jobs", "cancel", "abcdef")
    assert result.returncode == 3
    assert all(job[:30] in result.stderr for job in jobs)
    assert actions(connection) == []


def test_one_waiting_job_is_canceled_without_a_question(pgflow, connection):
    [job] = plant(connection)
    result = pgflow("jobs", "cancel", job[-6:], "--note", "by hand", "--as", "ann")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "1 job canceled (action 1)" in result.stderr
    assert status_of(connection, job) == "canceled"
    assert actions(connection) == [("jobs.cancel", 1, None, "ann", "by hand")]
    assert audit(connection) == (0, 0)


def test_a_job_in_another_state_is_refused_by_name(pgflow, connection, running):
    result = pgflow("jobs", "cancel", running)
    assert result.returncode == 4
    assert f"job …{running[-8:]} is running" in result.stderr
    assert "--kill" in result.stderr
    assert pgflow("jobs", "cancel", UNKNOWN).returncode == 3
    assert actions(connection) == []
    assert pgflow("jobs", "cancel", running, "--kill").returncode == 0
    assert status_of(connection, running) == "canceled"
    assert audit(connection) == (0, 0)


def test_some_of_several_failed_is_exit_1(pgflow, connection, running):
    [job] = plant(connection)
    result = pgflow("jobs", "cancel", running, job, UNKNOWN, "--yes", "-o", "ids")
    assert result.returncode == 1
    assert result.stdout == f"{job}\n"
    assert "1 running" in result.stderr
    assert "1 unknown" in result.stderr


@pytest.mark.parametrize("form", ["table", "json", "ids", "csv"])
def test_no_bulk_change_without_somebody_to_ask(pgflow, connection, form):
    jobs = plant(connection, 3)
    for words in (("--all",), ("-q", "default"), tuple(jobs)):
        result = pgflow("jobs", "cancel", *words, "-o", form)
        assert result.returncode == 4
        assert "--yes" in result.stderr
    assert {status_of(connection, job) for job in jobs} == {"queued"}
    assert actions(connection) == []


def test_a_change_of_nothing_in_particular_is_a_usage_error(pgflow, connection):
    [job] = plant(connection)
    assert pgflow("jobs", "cancel", "--yes").returncode == 2
    assert pgflow("jobs", "cancel", job, "--all").returncode == 2
    assert pgflow("jobs", "cancel", job, "-q", "default").returncode == 2
    running = pgflow("jobs", "cancel", "--status", "running", "--yes")
    assert running.returncode == 2
    assert "--kill" in running.stderr
    assert pgflow("jobs", "cancel", "--status", "dlq", "--yes").returncode == 2


def test_more_than_max_is_refused_and_exactly_max_is_not(pgflow, connection):
    plant(connection, 4)
    result = pgflow("jobs", "cancel", "--all", "--yes", "--max", "3")
    assert result.returncode == 4
    assert actions(connection) == []
    done = pgflow("jobs", "cancel", "--all", "--yes", "--max", "4")
    assert done.returncode == 0
    assert [row[1] for row in actions(connection)] == [4]


def test_a_filter_that_fits_nothing_changes_nothing(pgflow, connection):
    result = pgflow("jobs", "cancel", "-q", "none", "--yes")
    assert result.returncode == 0
    assert "nothing was changed" in result.stderr
    assert actions(connection) == []


def test_a_dry_run_prints_the_command_that_acts_on_exactly_that(pgflow, connection):
    plant(connection, 3, queue="emails")
    plant(connection, 2)
    words = ("jobs", "cancel", "-q", "emails", "--note", "it's over", "-n")
    result = pgflow(*words)
    assert result.returncode == 0
    assert "DRY RUN, nothing changed" in result.stderr
    assert actions(connection) == []
    [line] = [x for x in result.stdout.splitlines() if x.startswith("Run ")]
    command = line.removeprefix("Run").strip().removeprefix("pgflow")
    done = pgflow(*shlex.split(command))
    assert "3 jobs canceled" in done.stderr
    [row] = actions(connection)
    assert row[:3] == ("jobs.cancel", 3, "emails")
    assert row[4] == "it's over"
    rows = json.loads(pgflow("jobs", "cancel", "--all", "-n", "-o", "json").stdout)
    assert [row["jobs"] for row in rows["items"]] == [2]


def test_ids_come_from_another_command(pgflow, connection):
    jobs = plant(connection, 3)
    listed = pgflow("jobs", "list", "-o", "ids").stdout
    result = pgflow("jobs", "cancel", "-", "--yes", input=listed + "\n# done\n")
    assert result.returncode == 0
    assert {status_of(connection, job) for job in jobs} == {"canceled"}
    empty = pgflow("jobs", "cancel", "-", "--yes", input="")
    assert (empty.returncode, "nothing was changed" in empty.stderr) == (0, True)


def test_one_job_is_asked_about_in_production(pgflow, connection):
    [job] = plant(connection)
    env = {"PGFLOW_PRODUCTION": "1"}
    assert pgflow("jobs", "cancel", job, env=env).returncode == 4
    assert pgflow("jobs", "run-now", job, env=env).returncode == 4
    assert pgflow("jobs", "reprioritize", job, "1", env=env).returncode == 4


def test_a_scheduled_job_runs_now(pgflow, connection):
    [delayed] = plant(connection, due_in="1 hour")
    [retried] = plant(connection)
    fail_then_retry(connection, retried, "now() + interval '1 hour'")
    result = pgflow("jobs", "run-now", delayed, retried, "--yes")
    assert result.returncode == 0, result.stderr
    assert status_of(connection, delayed) == "queued"
    assert status_of(connection, retried) == "queued"
    assert [row[:2] for row in actions(connection)] == [("jobs.run-now", 2)]
    again = pgflow("jobs", "run-now", delayed)
    assert again.returncode == 4
    assert "is queued" in again.stderr
    assert pgflow("jobs", "run-now", UNKNOWN).returncode == 3


def test_a_waiting_job_gets_another_priority(pgflow, connection, running):
    [job] = plant(connection)
    for words in (("10",), ("-5",), ("--", "-7")):
        result = pgflow("jobs", "reprioritize", job, *words)
        assert result.returncode == 0, result.stderr
        [item] = json.loads(
            pgflow("jobs", "list", "--status", "queued", "-o", "json").stdout
        )["items"]
        assert item["priority"] == int(words[-1])
    assert pgflow("jobs", "reprioritize", job, "101").returncode == 2
    assert pgflow("jobs", "reprioritize", job, "--bogus", "1").returncode == 2
    assert pgflow("jobs", "reprioritize", running, "1").returncode == 4
    assert len(actions(connection)) == 3
    assert audit(connection) == (0, 0)


def test_wait_tells_by_its_exit_how_jobs_have_ended(pgflow, connection):
    good, bad, never = plant(connection, 3)
    for job in (good, bad):
        unqueue(connection, job)
    attempt(connection, good, "succeeded")
    bury(connection, bad)
    assert pgflow("jobs", "wait", good).returncode == 0
    result = pgflow("jobs", "wait", good, bad, "-o", "json")
    assert result.returncode == 1
    states = [row["status"] for row in json.loads(result.stdout)["items"]]
    assert states == ["succeeded", "dlq"]
    late = pgflow("jobs", "wait", good, never, "--wait-timeout", "0s")
    assert late.returncode == 75
    any_of = ("--any", "--wait-timeout", "5s")
    assert pgflow("jobs", "wait", good, never, *any_of).returncode == 0
    assert pgflow("jobs", "wait", UNKNOWN).returncode == 3


def test_wait_sees_a_job_end(pgflow, connection):
    [job] = plant(connection)
    results = []
    thread = threading.Thread(
        target=lambda: results.append(pgflow("jobs", "wait", job).returncode)
    )
    thread.start()
    unqueue(connection, job)
    attempt(connection, job, "succeeded")
    thread.join(60)
    assert results == [0]


def test_tail_shows_the_newest_ends_last(pgflow, connection):
    jobs = plant(connection, 3)
    for minutes, job in zip((1, 90, 1000), jobs, strict=True):
        unqueue(connection, job)
        attempt(connection, job, "succeeded")
        connection.execute(
            "update pgflow.job_successes set leased_at = now() - %s * interval '1 min',"
            " settled_at = now() - %s * interval '1 min' where first_id = %s",
            (minutes, minutes, job),
        )
    assert pgflow("jobs", "tail", "-o", "ids").stdout.split() == jobs[::-1]
    two = pgflow("jobs", "tail", "--limit", "2", "-o", "ids").stdout.split()
    assert two == [jobs[1], jobs[0]]
    since = pgflow("jobs", "tail", "--since", "30m", "-o", "ids").stdout.split()
    assert since == [jobs[0]]
    other = pgflow("jobs", "tail", "-q", "emails", "-o", "ids").stdout
    assert other == ""


def test_tail_follows_as_jsonl_when_piped(connection, database, wait_until, tmp_path):
    first, second = plant(connection, 2)
    attempt(connection, first, "succeeded")
    written = tmp_path / "out"
    with written.open("w") as out:
        process = subprocess.Popen(
            [PROGRAM, "jobs", "tail", "-f", "--database-url", database.url],
            stdout=out,
            stdin=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: first in written.read_text(), "what there was")
            attempt(connection, second, "failed")
            wait_until(lambda: second in written.read_text(), "what came")
        finally:
            process.terminate()
            process.wait(60)
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert [line["job_id"] for line in lines] == [first, second]
    unqueue(connection, first)


@pytest.mark.parametrize("words", [["cancel"], ["run-now"], ["reprioritize"]], ids=str)
def test_a_preview_promises_nothing_that_is_refused(pgflow, connection, words):
    """It ends as the change does, and tells what would be left alone."""
    [done, scheduled] = plant(connection, 2)
    attempt(connection, done, "succeeded")
    unqueue(connection, done)
    connection.execute(
        "update pgflow.pending set run_at = now() + interval '1h' where job_id = %s",
        [scheduled],
    )
    priority = ["5"] if words == ["reprioritize"] else []

    def both(*ids):
        command = ("jobs", *words, *ids, *priority)
        preview = pgflow(*command, "--dry-run")
        real = pgflow(*command, "--yes")
        assert preview.returncode == real.returncode, (preview.stderr, real.stderr)
        return preview

    assert actions(connection) == []
    preview = both(done)
    assert preview.returncode == 4
    assert "has succeeded; it was left alone" in preview.stderr
    assert both(UNKNOWN).returncode == 3
    assert actions(connection) == []
    mixed = both(done, scheduled)
    assert mixed.returncode == 1
    assert f"job {scheduled[-8:]}: 1 scheduled" in mixed.stderr
    assert "would be left alone: 1 succeeded" in mixed.stderr


def test_tail_follows_line_by_line_on_a_terminal(connection, database):
    [first, second] = plant(connection, 2)
    attempt(connection, first, "succeeded")
    screen = pexpect.spawn(
        PROGRAM,
        ["jobs", "tail", "-f", "--database-url", database.url],
        dimensions=(24, 80),
        timeout=30,
        encoding="utf-8",
    )
    screen.expect("ENDED +JOB +QUEUE")
    screen.expect(first[-8:])
    attempt(connection, second, "failed")
    screen.expect(second[-8:])
    screen.sendintr()
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 130


def test_watch_repeats_as_jsonl_when_piped(connection, database, wait_until, tmp_path):
    [job] = plant(connection)
    written = tmp_path / "out"
    with written.open("w") as out:
        process = subprocess.Popen(
            [PROGRAM, "jobs", "list", "-w", "0.1", "--database-url", database.url],
            stdout=out,
            stdin=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: written.read_text().count(job) > 2, "it repeats")
        finally:
            process.terminate()
            process.wait(60)


def test_watch_takes_seconds_with_and_without_a_unit(pgflow):
    for wrong in ("0", "x", "5000"):
        assert pgflow("jobs", "list", "-w", wrong).returncode == 2


def test_an_old_schema_is_named(server, empty_database, pgflow):
    result = pgflow("jobs", "list", env={"DATABASE_URL": empty_database.url})
    assert result.returncode == 78
