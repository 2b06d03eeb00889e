"""The command `replay`: previews, runs, plans; its last line and its exit codes."""

from __future__ import annotations

import json
import re
import shlex
import sys
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cli.terminals import on_a_terminal
from tests.repository.test_audit import attempt, lease, unqueue
from tests.support.jobs import audit, plant, plant_dead, status_of

Connection = psycopg.Connection[Any]
PGFLOW = str(Path(sys.executable).with_name("pgflow"))
UNKNOWN = "01a2081d-307c-7b77-8a50-0f6c9c41e07b"


@pytest.fixture(autouse=True)
def every_job_is_in_one_place(connection: Connection) -> Any:
    yield
    assert audit(connection) == (0, 0)


@pytest.fixture
def dead(connection) -> list[str]:
    """Six dead letters of emails and two of billing."""
    ids = plant_dead(connection, 4)
    ids += plant_dead(connection, 2, job_type="email_digest", died_ago="1 hour")
    return ids + plant_dead(connection, 2, queue="billing", error_code="BAD_PAYLOAD")


def count(connection: Connection, what: str) -> int:
    row = connection.execute(f"select count(*) from pgflow.{what}").fetchone()
    assert row is not None
    return int(row[0])


def replayed(connection: Connection) -> list[str]:
    rows = connection.execute(
        "select replay_of_job_id::text from pgflow.jobs"
        " where replay_of_job_id is not null order by run_at, id"
    ).fetchall()
    return [row[0] for row in rows]


def add_worker(connection: Connection, queues: list[str], types: list[str]) -> None:
    connection.execute(
        "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
        " lease_seconds, name, host, queues, job_types) values (%s, %s, 1, 8, 600,"
        " 'w', 'h', %s, %s)",
        (str(uuid.uuid4()), str(uuid.uuid4()), queues, types),
    )


def test_one_dead_letter_is_replayed_without_a_question(pgflow, connection, dead):
    result = pgflow("replay", dead[0][-8:])
    assert (result.returncode, result.stdout) == (
        0, "replayed 1, skipped 0, failed 0 (plan 1, action 1)\n",
    )  # fmt: skip
    assert replayed(connection) == [dead[0]]
    left = pgflow("dlq", "list", "-o", "ids").stdout.split()
    assert set(left) == set(dead[1:])
    explained = json.loads(pgflow("explain", dead[0], "-o", "json").stdout)
    new = explained["replays"]["by"]
    assert json.loads(pgflow("explain", new, "-o", "json").stdout)["replays"][
        "of"
    ] == dead[0]  # fmt: skip


def test_a_preview_changes_nothing_and_prints_what_does(pgflow, connection, dead):
    add_worker(connection, ["emails"], ["email_send", "email_digest"])
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_in_flight) values ('emails', 10)"
    )
    words = ("replay", "-q", "emails", "--since", "2h", "--rate", "2/s")
    result = pgflow(*words, "--dry-run")
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        "Selected 6 of 8 dead letters",
        "Would create 6 jobs in emails: priority 0, max_attempts 25, at 2/s, "
        "last in about 2s",
        "Limits   max_in_flight=10 applies, the enqueue rate limit does not",
        "Checks   handlers alive yes, payloads in limit yes, keys taken 0, "
        "earlier side effects unknown",
        "TYPE             JOBS  OLDEST   NEWEST",
        *result.stdout.splitlines()[5:7],
        "Run      pgflow replay -q emails --since 2h --rate 2/s --yes",
    ]
    assert result.stdout.splitlines()[5].split()[:2] == ["email_send", "4"]
    assert re.fullmatch(r"email_digest +2  1h +1h", result.stdout.splitlines()[6])
    assert result.stderr.splitlines()[0].startswith("DRY RUN, nothing changed. Data")
    assert result.stderr.splitlines()[1] == "Safer    ... --canary 5"
    for table in ("replay_plans", "replay_items", "operator_actions"):
        assert count(connection, table) == 0
    assert replayed(connection) == []

    command = result.stdout.splitlines()[-1].removeprefix("Run      ")
    assert pgflow(*shlex.split(command)[1:]).returncode == 0
    assert sorted(replayed(connection)) == sorted(dead[:6])


def test_a_preview_tells_what_will_not_go_well(pgflow, connection, dead):
    [large] = plant_dead(connection, queue="wide", payload=json.dumps("x" * 500))
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_payload_bytes, paused_until)"
        " values ('wide', 100, 'infinity')"
    )
    pgflow("replay", dead[7])
    by_glob = pgflow("replay", "-q", "b*", "-n")
    assert "Selected 1 of 8 dead letters; 1 resolved left out" in by_glob.stdout
    result = pgflow("replay", "--all", "-n")
    text = result.stdout
    assert "Selected 8 of 8 dead letters; 1 resolved left out (--again" in text
    assert "handlers alive NO for email_send on emails, " in text
    assert "payloads in limit NO for 1" in text
    assert "wide PAUSED applies" in text
    document = json.loads(pgflow("replay", "--all", "-n", "-o", "json").stdout)
    assert document["selected"] == 8
    assert document["checks"]["payloads_too_large"] == 1
    assert document["checks"]["queues_paused"] == ["wide"]
    assert document["run"] == "pgflow replay --all -o json --yes"

    done = pgflow("replay", "--all", "--yes")
    assert done.returncode == 1
    assert done.stdout == "replayed 7, skipped 0, failed 1 (plan 2, action 2)\n"
    assert f"{large}: PAYLOAD_TOO_LARGE" in done.stderr
    assert "1 payloads are above today's limit" in done.stderr


def test_several_are_not_replayed_unasked(pgflow, connection, dead):
    for form in ("plain", "json", "ids"):
        refused = pgflow("replay", "-q", "emails", "-o", form)
        assert (refused.returncode, refused.stdout) == (4, "")
        assert "Selected 6 of 8" in refused.stderr
    for words in (
        (), ("--all", "-q", "emails"), (dead[0], "--all"), ("--any-status", "--all"),
        ("--all", "--rate", "1/s", "--spread", "1m"), (dead[0], "--oldest-first"),
        ("--all", "--canary", "2", "--in", "1h"), ("--all", "--patch", "{"),
        ("--all", "--run-at", "09:30", "--in", "1h"), ("--all", "--rate", "fast"),
        ("--all", "--canary", "9", "--rate", "0.01/s"),
    ):  # fmt: skip
        assert pgflow("replay", *words, "--yes").returncode == 2, words
    for words in (("--all",), tuple(dead)):
        too_many = pgflow("replay", *words, "--max", "7", "--yes")
        assert too_many.returncode == 4
        assert "more jobs are selected than --max, which is 7" in too_many.stderr
    assert pgflow("replay", "--all", "--max", "1000001", "--yes").returncode == 2
    assert pgflow("replay", "--all", "--limit", "1000001", "--yes").returncode == 2
    assert pgflow("replay", "-q", "no", "--max", "1000000", "-n").returncode == 0
    assert replayed(connection) == []


def test_a_person_sees_the_preview_and_may_say_no(database, connection, dead):
    words = [PGFLOW, "replay", "-q", "emails"]
    variables = {"DATABASE_URL": database.url}
    no = on_a_terminal(words, variables=variables, typed="n\n")
    assert no.code == 1
    assert "Would create 6 jobs in emails" in no.text
    assert "Replay 6 dead letters (database " in no.text
    yes = on_a_terminal(words, variables=variables, typed="y\n")
    assert yes.code == 0
    assert "replayed 6, skipped 0, failed 0 (plan 1, action 1)" in yes.text


def test_ten_thousand_ids_from_a_pipe_twice_and_one_bad_among_them(pgflow, connection):
    plant_dead(connection, 10_000)
    ids = pgflow("dlq", "list", "--all-pages", "-o", "ids").stdout
    assert ids.count("\n") == 10_000
    first = pgflow("replay", "-", "--yes", input=ids)
    assert (first.returncode, first.stdout) == (
        0, "replayed 10,000, skipped 0, failed 0 (plan 1, action 1)\n",
    )  # fmt: skip
    assert count(connection, "pending") == 10_000
    again = pgflow("replay", "-", "--yes", input=f"{UNKNOWN}\n{ids}")
    assert again.stdout == "replayed 0, skipped 10,000, failed 1\n"
    assert again.returncode == 1
    assert f"there is no job {UNKNOWN}" in again.stderr
    assert "so it is with 9,999 more" in again.stderr


def test_a_wrong_id_alone_is_an_error_of_its_own(pgflow, connection, dead):
    queued, running = plant(connection, 2)
    unqueue(connection, running)
    lease(connection, running)
    codes = {
        UNKNOWN: 3, "ffffff": 3, "xyz": 2, queued: 4, running: 4,
    }  # fmt: skip
    for given, code in codes.items():
        assert pgflow("replay", given).returncode == code, given
    assert pgflow("replay", queued, "--any-status").returncode == 4
    assert pgflow("replay", dead[0]).returncode == 0
    repeated = pgflow("replay", dead[0])
    assert repeated.returncode == 4
    assert "--again" in repeated.stderr
    assert pgflow("replay", dead[0], "--again").returncode == 0
    assert replayed(connection) == [dead[0]] * 2


def test_what_has_succeeded_is_replayed_only_when_insisted_upon(pgflow, connection):
    [job_id] = plant(connection)
    unqueue(connection, job_id)
    attempt(connection, job_id, "succeeded")
    refused = pgflow("replay", job_id)
    assert refused.returncode == 4
    assert "has succeeded; only dead letters can be replayed (--any-st" in (
        refused.stderr
    )
    assert pgflow("replay", job_id, "--any-status").returncode == 0
    assert pgflow("replay", job_id, "--any-status").returncode == 4
    assert pgflow("replay", job_id, "--any-status", "--again").returncode == 0
    assert replayed(connection) == [job_id] * 2


def test_the_options_of_a_replay_reach_the_job(pgflow, connection, dead):
    result = pgflow(
        "replay", dead[0], "--to-queue", "slow", "--priority", "3", "--max-attempts",
        "2", "--patch", '{"customer_id": 0}', "--in", "1h", "--note", "by hand",
        "--as", "eve", "-o", "json",
    )  # fmt: skip
    assert json.loads(result.stdout) == {
        "replayed": 1, "skipped": 0, "failed": 0, "plan": 1, "action": 1,
    }  # fmt: skip
    row = connection.execute(
        "select id::text, queue, priority, max_attempts, payload from pgflow.jobs"
        " where replay_of_job_id is not null"
    ).fetchone()
    assert row[1:] == ("slow", 3, 2, {"customer_id": 0})
    assert status_of(connection, row[0]) == "scheduled"
    action = connection.execute("select actor, note from pgflow.operator_actions")
    assert action.fetchone() == ("eve", "by hand")


def test_a_limit_takes_the_oldest_or_the_newest(pgflow, connection):
    ids = plant_dead(connection, 6)
    pgflow("replay", "--all", "--limit", "2", "--yes")
    assert replayed(connection) == [ids[5], ids[4]]
    pgflow("replay", "--all", "--newest-first", "--limit", "2", "--yes")
    assert replayed(connection)[2:] == [ids[0], ids[1]]
    pgflow("replay", ids[3], ids[2], "--limit", "1", "--yes")
    assert replayed(connection)[4:] == [ids[3]]


def test_jobs_can_be_spread_over_a_time(pgflow, connection, dead):
    assert pgflow("replay", "--all", "--spread", "80s", "--yes").returncode == 0
    row = connection.execute(
        "select max(run_at) - min(run_at) = interval '70 s' from pgflow.jobs"
        " where replay_of_job_id is not null"
    ).fetchone()
    assert row == (True,)


def test_an_undecided_canary_is_exit_75_and_can_be_undone(pgflow, connection, dead):
    result = pgflow(
        "replay", "-q", "emails", "--canary", "2", "--canary-timeout", "300ms", "--yes"
    )
    assert result.returncode == 75
    assert result.stdout == "replayed 2, skipped 0, failed 0 (plan 1, action 1)\n"
    assert "the canary is undecided: 2 of 2 jobs have not ended" in result.stderr
    [plan] = json.loads(pgflow("replay", "list", "-o", "json").stdout)["items"]
    assert (plan["plan_id"], plan["state"], plan["canary_state"]) == (
        1, "stopped", "undecided",
    )  # fmt: skip
    status = json.loads(pgflow("replay", "status", "1", "-o", "json").stdout)
    assert (status["created"], status["remaining"], status["waiting"]) == (2, 4, 2)
    asked = pgflow("replay", "undo", "1")
    assert asked.returncode == 4
    tried = pgflow("replay", "undo", "1", "--dry-run")
    assert "2 waiting jobs" in tried.stdout
    undone = pgflow("replay", "undo", "1", "--yes")
    assert undone.returncode == 0
    assert "undid 2, had run 0 (plan 1, action 2)" in undone.stderr
    left = pgflow("dlq", "list", "-o", "ids").stdout.split()
    assert set(left) == set(dead)
    for verb in ("stop", "resume"):
        assert pgflow("replay", verb, "1", "--yes").returncode == 4


def test_a_plan_is_stopped_and_resumed(pgflow, connection, dead):
    pgflow("replay", "--all", "--canary", "1", "--canary-timeout", "100ms", "--yes")
    assert pgflow("replay", "stop", "1").returncode == 0
    connection.execute("update pgflow.replay_plans set canary_state = 'passed'")
    assert pgflow("replay", "resume", "1").returncode == 4
    resumed = pgflow("replay", "resume", "1", "--yes")
    assert (resumed.returncode, resumed.stdout) == (
        0, "replayed 8, skipped 0, failed 0 (plan 1, action 3)\n",
    )  # fmt: skip
    assert sorted(replayed(connection)) == sorted(dead)
    actions = connection.execute(
        "select action from pgflow.operator_actions order by id"
    ).fetchall()
    assert [action for (action,) in actions] == [
        "replay", "replay.stop", "replay.resume",
    ]  # fmt: skip


def test_an_unknown_plan_is_exit_3(pgflow):
    for verb in ("status", "stop", "resume", "undo"):
        assert pgflow("replay", verb, "57").returncode == 3, verb
    assert pgflow("replay", "status", "x").returncode == 2
    assert pgflow("replay", "list", "-o", "json").returncode == 0


def test_a_watched_status_ends_with_its_jobs(pgflow, connection, dead):
    pgflow("replay", dead[0])
    [job_id] = [
        row[0]
        for row in connection.execute(
            "select id::text from pgflow.jobs where replay_of_job_id is not null"
        )
    ]
    unqueue(connection, job_id)
    attempt(connection, job_id, "succeeded")
    result = pgflow("replay", "status", "1", "-w", "200ms")
    [row] = [json.loads(line) for line in result.stdout.splitlines()]
    assert (row["succeeded"], row["waiting"]) == (1, 0)


def test_the_name_of_a_sub_command_may_be_a_value(pgflow, connection, dead):
    assert pgflow("replay", "--all", "--note", "stop", "--yes").returncode == 0
    assert pgflow("-o", "json", "replay", "list").returncode == 0
    listed = pgflow("replay", "-o", "json", "list")
    assert json.loads(listed.stdout)["items"][0]["created"] == 8
    assert pgflow("replay", "--output=json", "list").returncode == 0
    assert pgflow("replay").returncode == 2


def test_screens_fit_80_columns(database, dead):
    variables = {"DATABASE_URL": database.url}
    on_a_terminal([PGFLOW, "replay", "-q", "billing", "--yes"], variables=variables)
    for words in (("list",), ("status", "1")):
        seen = on_a_terminal([PGFLOW, "replay", *words], variables=variables)
        assert seen.code == 0
        assert max(map(len, seen.lines)) <= 80
        assert "finished" in seen.text
