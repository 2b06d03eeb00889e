"""Jobs whose rows cannot be read: here, because they cannot be written in the client's
encoding. tests/acceptance/test_damage.py damages files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import (
    PASSING,
    DatabaseUnavailable,
    DataDamaged,
    NotFound,
    Refused,
)
from pgflow_cli.inspection import explanation
from pgflow_cli.inspection.diagnosis import jobs
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import JobOptions, UnreadableJob
from pgflow_cli.operations import dead_letters
from pgflow_cli.operations.replays import ReplayRequest
from pgflow_cli.repository import Repository
from pgflow_cli.worker.leasing.unreadable_jobs import Unreadable
from pgflow_cli.worker.options import WorkerOptions
from tests.repository.test_settling import Process
from tests.support.jobs import attempts_of, plant, status_of
from tests.support.servers import Database, Server

pytestmark = pytest.mark.direct  # they set the encoding of a session
Connection = psycopg.Connection[Any]

RUNBOOK = Path(__file__).parents[2] / "RUNBOOK.md"
REASON = "the row of this job cannot be read: 22P05: character with byte sequence"


@pytest.fixture
def damaged(repository: Repository, connection: Connection) -> list[str]:
    """Return two jobs, the second of which the repository's connection cannot read."""
    repository.link.raw().execute("set client_encoding to latin1")
    jobs = plant(connection, payload='{"a": "ü"}')
    return jobs + plant(connection, payload='{"a": "\u2603"}')


def unreadable(repository: Repository, **settings: Any) -> Unreadable:
    return Unreadable(repository, WorkerOptions(url="", name="w", **settings))


def letters(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select job_id::text, attempt_no, dlq_reason_code, error_code, error_message"
        " from pgflow.dead_letters"
    ).fetchall()


def refuse_letters(connection: Connection) -> None:
    connection.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'no letters'; end $$;"
        " create trigger refuse before insert on pgflow.dead_letters"
        " for each row execute function refuse()"
    )


def test_it_becomes_a_dead_letter_and_the_others_stay(
    repository: Repository, connection: Connection, damaged: list[str]
) -> None:
    good, bad = damaged
    assert unreadable(repository).search(["noop"])
    [(job, attempt_no, *codes, message)] = letters(connection)
    assert (job, attempt_no, codes) == (bad, 0, ["UNREADABLE", "UNREADABLE"])
    assert message.startswith(REASON)
    assert (status_of(connection, good), status_of(connection, bad)) == (
        "queued",
        "dlq",
    )


@pytest.mark.parametrize(
    "elsewhere", [{"queues": ["other"]}, {"types": ["other"]}], ids=str
)
def test_what_the_worker_would_not_lease_is_left_alone(
    repository: Repository,
    connection: Connection,
    damaged: list[str],
    elsewhere: dict[str, list[str]],
) -> None:
    types = elsewhere.get("types", ["noop"])
    worker = unreadable(repository, queues=elsewhere.get("queues"))
    assert not worker.search(types)
    assert letters(connection) == []


def test_it_is_passed_over_if_the_database_refuses_its_dead_letter(
    repository: Repository, connection: Connection, damaged: list[str]
) -> None:
    good, bad = damaged
    refuse_letters(connection)
    assert unreadable(repository).search(None)
    assert [status_of(connection, job) for job in (good, bad)] == [
        "queued",
        "scheduled",
    ]
    row = connection.execute(
        "select run_at > now() + interval '59 minutes' from pgflow.pending"
        " where job_id = %s",
        (bad,),
    ).fetchone()
    assert row == (True,)


@pytest.mark.parametrize(
    ("code", "status"),
    [("58030", "scheduled"), ("58P01", "scheduled"), ("XX001", "dlq")],
)
def test_what_the_disk_does_not_read_is_passed_over_and_damage_is_a_dead_letter(
    repository: Repository, connection: Connection, code: str, status: str
) -> None:
    good, bad = plant(connection, 2)
    raise_for(connection, bad, code)
    assert unreadable(repository).search(None)
    assert [status_of(connection, job) for job in (good, bad)] == ["queued", status]


def raise_for(connection: Connection, job_id: str, code: str) -> None:
    """Have each look at the payload of a job fail as on a damaged disk."""
    connection.execute(
        "create function fail() returns integer language plpgsql stable as"
        f" $$ begin raise exception 'no page' using errcode = '{code}'; end $$;"
        "alter table pgflow.jobs rename to whole_jobs;"
        "create view pgflow.jobs as select id, payload, meta, timeout_ms,"
        " replay_of_job_id, case when id = '"
        f"{job_id}' then fail() else max_attempts end as max_attempts"
        " from pgflow.whole_jobs"
    )


@pytest.mark.parametrize("code", ["XX001", "XX002", "58030", "58P01"])
def test_data_that_cannot_be_read_is_no_outage(
    repository: Repository, connection: Connection, code: str
) -> None:
    connection.execute(
        "create function fail() returns trigger language plpgsql as"
        f" $$ begin raise exception 'no page' using errcode = '{code}'; end $$;"
        "create trigger fail before insert on pgflow.jobs"
        " for each row execute function fail()"
    )
    with pytest.raises(DataDamaged, match="cannot be read: no page") as caught:
        repository.enqueue.enqueue("noop", "{}", options=JobOptions())
    assert not isinstance(caught.value, PASSING)
    assert caught.value.exit_code == 74


def test_who_finds_nothing_does_not_search_again_at_once(
    repository: Repository, damaged: list[str]
) -> None:
    worker = unreadable(repository)
    assert worker.search(None)
    assert worker.is_due(), "there may be more"
    assert not worker.search(None)
    assert not worker.is_due()


@pytest.mark.parametrize("limited", [False, True])
def test_what_is_leased_and_cannot_be_decoded_is_found_by_the_connection_that_leased_it(
    server: Server,
    database: Database,
    repository: Repository,
    connection: Connection,
    limited: bool,
) -> None:
    """It is in a lease when the lease fails, and only jobs that wait are searched."""
    bad = plant_bytes_that_are_no_text(server, database)
    [good] = plant(connection)
    work_until_a_letter(repository, connection, limited=limited)
    assert status_of(connection, bad) == "dlq"
    assert attempts_of(connection, bad) == []
    assert status_of(connection, good) != "dlq"


@pytest.mark.parametrize("limited", [False, True])
def test_a_job_whose_row_is_gone_is_a_dead_letter_and_the_others_run(
    repository: Repository,
    connection: Connection,
    limited: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A lost line of a damaged page leaves an entry without its job."""
    [gone] = plant(connection)
    [good] = plant(connection)
    connection.execute("set session_replication_role = replica")
    connection.execute("delete from pgflow.jobs where id = %s", (gone,))
    work_until_a_letter(repository, connection, limited=limited)
    assert letters(connection) == [
        (
            *(gone, 0, "UNREADABLE", "UNREADABLE"),
            "the row of this job cannot be read: it is gone",
        )
    ]
    assert f"the row of job {gone} is gone" in caplog.text, "the lease says so, too"
    assert attempts_of(connection, gone) == []
    assert status_of(connection, good) != "dlq"


def test_a_delayed_job_whose_row_is_gone_is_told_and_ended_as_runbook_says(
    repository: Repository, connection: Connection
) -> None:
    [gone] = plant(connection)
    connection.execute("set session_replication_role = replica")
    connection.execute(
        "update pgflow.pending set run_at = now() + interval '1 day';"
        " delete from pgflow.jobs"
    )
    [good] = plant(connection)
    finding = jobs.audit(repository.diagnosis.audit_jobs())
    assert "1 jobs named by a place that do not exist" in finding.detail
    assert "RUNBOOK, Pages that are damaged" in finding.command
    with pytest.raises(NotFound, match="is gone, but its entry waits in queue default"):
        repository.explanation.describe_job(gone)
    with pytest.raises(NotFound, match="there is no job"):
        repository.explanation.describe_job("00000000-0000-7000-8000-000000000000")
    section = RUNBOOK.read_text(encoding="utf-8").split("## Pages that are damaged")[1]
    _, due_now, *_ = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    connection.execute(due_now)
    work_until_a_letter(repository, connection, limited=False)
    assert [letter[0] for letter in letters(connection)] == [gone]
    assert status_of(connection, good) != "dlq"


def work_until_a_letter(
    repository: Repository, connection: Connection, *, limited: bool
) -> None:
    """Take a worker's turns until there is a dead letter, but only a few."""
    if limited:
        connection.execute(
            "insert into pgflow.queue_policies (queue, max_in_flight)"
            " values ('default', 1000)"
        )
    process = Process(repository)
    try:
        turns = 0
        while not letters(connection) and turns < 4:
            process.cycle.take_turn()
            turns += 1
    finally:
        process.slots.stop()


def plant_bytes_that_are_no_text(server: Server, database: Database) -> str:
    """Plant a job in a database that takes any bytes, for as long as this lasts."""
    change = (
        "update pg_database set encoding = pg_char_to_encoding(%s) where datname = %s"
    )
    with psycopg.connect(server.url, autocommit=True) as superuser:
        superuser.execute(change, ("SQL_ASCII", database.name))
        with psycopg.connect(database.url) as connection:
            [[job]] = connection.execute(
                "select pgflow.enqueue('noop', convert_from("
                "'{\"a\": \"'::bytea || '\\xffff' || '\"}'::bytea, 'SQL_ASCII')::jsonb)"
                "::text"
            ).fetchall()
        superuser.execute(change, ("UTF8", database.name))
    return str(job, "ascii")


def test_an_outage_is_no_damage(
    repository: Repository,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: Any) -> list[UnreadableJob]:
        raise DatabaseUnavailable("it is away")

    plant(connection)
    monkeypatch.setattr(repository.unreadable_jobs, "bury_unreadable_jobs", fail)
    worker = unreadable(repository)
    assert not worker.search(None)
    assert not worker.is_due()


def test_its_payload_is_null_for_who_looks_at_it(
    repository: Repository, damaged: list[str]
) -> None:
    good, bad = damaged
    assert repository.jobs.read_payload(bad) == "null"
    assert repository.jobs.read_job_body(bad) == ("null", None)
    assert repository.jobs.read_payload(good) == '{"a": "ü"}'


def test_a_replay_by_id_is_refused_and_leaves_no_plan(
    repository: Repository, connection: Connection, damaged: list[str]
) -> None:
    _, bad = damaged
    unreadable(repository).search(None)
    found = dead_letters.look_up(repository, [bad], verb="replayed", again=True)
    assert found.job_ids == []
    assert "cannot be read" in found.failed[bad].message
    operator = Operator("ann@host", "pgflow replay")
    with pytest.raises(Refused, match="cannot be read") as refused:
        ReplayRequest(ids=[bad]).replay_one(repository, operator=operator)
    assert f"pgflow dlq discard {bad[-8:]}" in refused.value.hints[0]
    plans = connection.execute("select count(*) from pgflow.replay_plans").fetchone()
    assert plans == (0,)
    discarding = dead_letters.look_up(repository, [bad], verb="discarded")
    assert discarding.job_ids == [bad]


def test_it_can_be_replayed_once_its_row_has_been_restored(
    repository: Repository, damaged: list[str]
) -> None:
    _, bad = damaged
    unreadable(repository).search(None)
    repository.link.raw().execute("set client_encoding to utf8")
    found = dead_letters.look_up(repository, [bad], verb="replayed")
    assert found.job_ids == [bad]


def test_no_replay_is_proposed_for_it(
    repository: Repository, damaged: list[str]
) -> None:
    _, bad = damaged
    unreadable(repository).search(None)
    explained = explanation.explain(repository.explanation.describe_job(bad))
    assert "pgflow doctor --check unreadable" in explained.next_commands
    assert not any("replay" in line for line in explained.next_commands)
