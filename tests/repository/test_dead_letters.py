"""Statements about dead letters: filters, pages, groups, counts, discarding."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Any

import psycopg
import pytest

from pgflow_cli.formats.times import Instant
from pgflow_cli.handlers.fingerprints import fingerprint
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.operations import dead_letters
from pgflow_cli.repository import Repository
from tests.repository.test_audit import attempt, unqueue
from tests.support.jobs import audit, plant, plant_dead, status_of

Connection = psycopg.Connection[Any]
EVE = Operator("eve@host", "pgflow test")


@pytest.fixture(autouse=True)
def every_job_is_in_one_place(connection: Connection) -> Iterator[None]:
    yield
    assert audit(connection) == (0, 0)


def listed(repository: Repository, chosen: JobFilter, **more: Any) -> list[str]:
    return [
        row.id
        for row in repository.dead_letters.list_dead_letters(chosen, limit=500, **more)
    ]


def resolve(connection: Connection, job_id: str) -> None:
    connection.execute(
        "update pgflow.dead_letters set resolved_at = now(), resolution = 'discarded'"
        " where job_id = %s",
        (job_id,),
    )


FILTERS: dict[str, tuple[dict[str, Any], JobFilter]] = {
    "queue": ({"queue": "billing"}, JobFilter(queues=("billing", "other"))),
    "type": ({"job_type": "invoice"}, JobFilter(job_types=("invoice",))),
    "error code": ({"error_code": "TIMEOUT"}, JobFilter(error_codes=("TIMEOUT",))),
    "reason": ({"reason": "CRASH_LOOP"}, JobFilter(reasons=("CRASH_LOOP",))),
    "fingerprint": (
        {"fingerprint": "f1-00000001"},
        JobFilter(fingerprints=("f1-00000001",)),
    ),
    "version": ({"code_version": "v2"}, JobFilter(code_version="v2")),
    "worker": ({"worker": "worker-9"}, JobFilter(worker="worker-9")),
    "since": (
        {"died_ago": "1 second"},
        JobFilter(since=Instant(offset=timedelta(seconds=-30))),
    ),
    "until": (
        {"died_ago": "2 hours"},
        JobFilter(until=Instant(offset=timedelta(hours=-1))),
    ),
    "text": ({"error_message": "No 100% Route_"}, JobFilter(match="100% route_")),
    "payload": (
        {"payload": '{"customer": {"id": 7}, "n": 1}'},
        JobFilter(payload_contains='{"customer": {"id": 7}}'),
    ),
    "meta": ({"meta": '{"tenant": "a"}'}, JobFilter(meta='{"tenant": "a"}')),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_finds_those_and_no_others(connection, repository, name):
    planted, chosen = FILTERS[name]
    [wanted] = plant_dead(connection, **planted)
    plant_dead(connection, 3)
    assert listed(repository, chosen) == [wanted]
    assert repository.dead_letters.choose_dead_letters(chosen) == [wanted]
    assert [g.count for g in repository.dead_letters.group_dead_letters(
        chosen, by="queue", limit=10)] == [1]  # fmt: skip
    counted = repository.dead_letters.count_dead_letters(chosen, limit=10)
    assert [row.jobs for row in counted] == [1, 0]
    assert [
        row.id for row in repository.dead_letters.export_dead_letters(chosen, limit=9)
    ] == [wanted]


def test_replays_of_a_job_are_found(connection, repository):
    source, replay = plant_dead(connection, 2)
    connection.execute(
        "update pgflow.jobs set replay_of_job_id = %s where id = %s", (source, replay)
    )
    assert listed(repository, JobFilter(replay_of=source)) == [replay]


def test_the_latest_death_comes_first_and_pages_visit_each_once(connection, repository):
    ids = plant_dead(connection, 7)
    resolve(connection, ids[2])
    pages, after = [], None
    while rows := repository.dead_letters.list_dead_letters(limit=2, after=after):
        pages += [row.id for row in rows]
        after = rows[-1].position
    assert pages == [job_id for job_id in ids if job_id != ids[2]]
    assert listed(repository, JobFilter(), include_resolved=True) == ids


def test_those_of_one_instant_are_told_apart_by_their_id(connection, repository):
    ids = plant_dead(connection, 9)
    connection.execute("update pgflow.dead_letters set died_at = now()")
    first = repository.dead_letters.list_dead_letters(limit=4)
    rest = repository.dead_letters.list_dead_letters(limit=9, after=first[-1].position)
    assert [row.id for row in (*first, *rest)] == sorted(ids, reverse=True)


def test_a_dead_letter_without_its_job_is_still_listed(connection, repository):
    [job_id] = plant_dead(connection)
    connection.execute("delete from pgflow.jobs")
    [row] = repository.dead_letters.list_dead_letters(limit=1)
    assert (row.id, row.max_attempts, row.tries) == (job_id, None, "1")
    [exported] = repository.dead_letters.export_dead_letters(JobFilter(), limit=1)
    assert exported.payload is None


def test_one_bug_with_many_ids_is_one_group_and_two_bugs_are_two(
    connection, repository
):
    for number in (17, 4242, 99):
        for kind, message in (("KeyError", "no order"), ("ValueError", "bad order")):
            plant_dead(
                connection,
                error_message=f"{message} {number}",
                fingerprint=fingerprint(
                    job_type="email_send",
                    error_code="NON_RETRYABLE",
                    error_class=kind,
                    frames=[],
                    message=f"{message} {number}",
                ),
            )
    groups = repository.dead_letters.group_dead_letters(
        JobFilter(), by="fingerprint", limit=10
    )
    assert [group.count for group in groups] == [3, 3]
    assert sum(group.share for group in groups) == pytest.approx(1)


def test_a_group_tells_its_first_last_and_latest(connection, repository):
    old = plant_dead(connection, 2, died_ago="2 hours", error_code="TIMEOUT")
    [new] = plant_dead(connection, job_type="other", error_message="latest")
    [alone] = plant_dead(connection, fingerprint=None, error_code=None)
    first, second = repository.dead_letters.group_dead_letters(
        JobFilter(), by="fingerprint", limit=10
    )
    assert (first.count, first.share, first.sample_job_id) == (3, 0.75, new)
    assert (first.job_type, first.message) == ("other", "latest")
    assert first.last_at - first.first_at > timedelta(hours=1)
    assert (second.key, second.sample_job_id) == (None, alone)
    resolve(connection, old[0])
    [counted] = repository.dead_letters.group_dead_letters(
        JobFilter(), by="queue", limit=10
    )
    assert counted.count == 3
    [counted] = repository.dead_letters.group_dead_letters(
        JobFilter(), by="queue", limit=10, include_resolved=True
    )
    assert counted.count == 4


def test_counts_stop_at_a_limit_and_know_the_resolved_ones(connection, repository):
    ids = plant_dead(connection, 5)
    plant_dead(connection, 2, error_code="TIMEOUT", died_ago="1 second")
    for job_id in ids[:2]:
        resolve(connection, job_id)
    rows = repository.dead_letters.count_dead_letters(limit=4)
    assert [(row.resolved, row.error_code, row.jobs) for row in rows] == [
        (False, "DEPENDENCY_DOWN", 2),
        (False, "TIMEOUT", 2),
        (True, None, 2),
    ]


def test_deaths_are_counted_by_time(connection, repository):
    plant_dead(connection, 2, died_ago="10 hours")
    plant_dead(connection, 3, died_ago="10 hours", error_code="TIMEOUT")
    connection.execute(
        "update pgflow.dead_letters set died_at = '2026-01-01 10:04:59+00'"
    )
    [row] = repository.dead_letters.count_deaths(
        JobFilter(), by="queue", bucket=300, limit=10
    )
    assert (row.bucket.astimezone(UTC).isoformat(), row.key, row.count) == (
        "2026-01-01T10:00:00+00:00", "emails", 5,
    )  # fmt: skip
    rows = repository.dead_letters.count_deaths(
        JobFilter(), by="error-code", bucket=60, limit=10
    )
    assert [row.count for row in rows] == [3, 2]


def test_each_state_of_a_job_is_looked_up(connection, repository):
    open_, discarded = plant_dead(connection, 2)
    resolve(connection, discarded)
    waiting, succeeded = plant(connection, 2)
    unqueue(connection, succeeded)
    attempt(connection, succeeded, "succeeded")
    unknown = "01a2081d-307c-7b77-8a50-0f6c9c41e07b"
    ids = [unknown, open_, discarded, waiting, succeeded]
    states = [job.state for job in repository.dead_letters.look_up_jobs(ids)]
    assert states == [None, "open", "discarded", "queued", "succeeded"]


def test_what_is_discarded_stays_and_is_counted_once(connection, repository):
    ids = plant_dead(connection, 5)
    action, done = dead_letters.discard(repository, ids[:4], EVE, batch_size=3)
    assert done == 4
    assert listed(repository, JobFilter()) == ids[4:]
    assert status_of(connection, ids[0]) == "dlq"
    _, again = dead_letters.discard(repository, ids, EVE, batch_size=3)
    assert again == 1
    row = connection.execute(
        "select actor, action, jobs, cardinality(job_ids), finished_at is not null"
        " from pgflow.operator_actions where id = %s",
        (action,),
    ).fetchone()
    assert row == ("eve@host", "dlq.discard", 4, 4, True)
    named = connection.execute(
        "select count(*) from pgflow.dead_letters where action_id = %s", (action,)
    ).fetchone()
    assert named == (4,)


def test_what_is_deleted_is_gone_with_its_job_and_attempts(connection, repository):
    ids = plant_dead(connection, 5)
    resolve(connection, ids[0])
    [bystander] = plant(connection)
    _, done = dead_letters.discard(repository, ids, EVE, batch_size=2, forever=True)
    assert done == 4
    for table, column in (("jobs", "id"), ("job_attempts", "job_id")):
        rows = connection.execute(
            f"select {column}::text from pgflow.{table}"
            f" where {column}::text <> '{bystander}'"
        ).fetchall()
        assert rows == [(ids[0],)], table
