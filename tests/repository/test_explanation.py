"""explain against the lease itself: what it says holds a job up, holds it up.

Each situation is built, explained, and then tried: a worker with room for one job sends
the real lease statement. What the verdict promises must be what happens.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.rows import tuple_row

from pgflow_cli import explanation
from pgflow_cli.errors import NotFound, UsageError
from pgflow_cli.models import Backlog
from pgflow_cli.repository import Repository
from tests.jobs import plant
from tests.repository.test_audit import attempt, bury, cancel, lease, unqueue
from tests.repository.test_overview import fail_then_retry

Connection = psycopg.Connection[Any]


@dataclass
class Worker:
    """A worker as its row says it is."""

    queues: list[str] | None = field(default_factory=lambda: ["default"])
    job_types: list[str] | None = None
    slots: int = 1
    busy_slots: int = 0
    quiet: bool = False
    silent: str = "0 s"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def register(self, connection: Connection) -> Worker:
        connection.execute(
            "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
            " busy_slots, lease_seconds, quiet, name, host, queues, job_types,"
            " last_heartbeat) values (%s, gen_random_uuid(), 1, %s, %s, 10, %s, 'w',"
            " 'h', %s, %s, now() - %s::interval)",
            (
                self.id,
                self.slots,
                self.busy_slots,
                self.quiet,
                self.queues,
                self.job_types,
                self.silent,
            ),
        )
        return self

    def leases(self, repository: Repository) -> list[str]:
        """Return the jobs the real statement gives it, as many as it has slots free."""
        room = self.slots - self.busy_slots
        if self.quiet or self.silent != "0 s" or room == 0:
            return []  # such a worker does not ask
        parameters = {
            "worker_id": self.id,
            "worker_name": "w",
            "code_version": None,
            "others": "[]",
            "room": str(room),
            "batch_id": str(uuid.uuid4()),
            "lease_seconds": "10",
            "queues": self.queues,
            "job_types": self.job_types,
            "last_queue": "",
        }
        # An array for every other parameter: nothing settled, no cursors.
        names = ("fence_ids", "lease_ids", "job_ids", "attempt_nos", "started_ago")
        names += ("ended_ago", "closed_ids", "cursor_queues", "cursor_ranks")
        names += ("cursor_run_ats", "cursor_job_ids")
        parameters |= dict.fromkeys(names, "{}")
        cursor = repository.link.execute("settle_and_lease", parameters, tuple_row)
        return [row[1] for row in cursor.fetchall() if row[6] is not None]


def explain(repository: Repository, job_id: str) -> explanation.Explanation:
    return explanation.explain(repository.describe_job(job_id))


def pause(connection: Connection, until: str, queue: str = "default") -> None:
    connection.execute(
        "insert into pgflow.queue_policies (queue, paused_until, paused_by, pause_note)"
        f" values (%s, {until}, 'ann', 'deploy')",
        (queue,),
    )


def nothing(connection: Connection, job_id: str) -> None:
    pass


def one_is_ahead(connection: Connection, job_id: str) -> None:
    plant(connection, priority=1)


def one_nobody_runs_is_ahead(connection: Connection, job_id: str) -> None:
    plant(connection, priority=1, job_type="unknown")


def one_of_the_future_is_ahead(connection: Connection, job_id: str) -> None:
    plant(connection, priority=1, due_in="1 hour")


def not_due(connection: Connection, job_id: str) -> None:
    connection.execute(
        "update pgflow.pending set run_at = now() + interval '1 hour'"
        " where job_id = %s",
        (job_id,),
    )


def retried_later(connection: Connection, job_id: str) -> None:
    fail_then_retry(connection, job_id, "now() + interval '1 hour'")


def retried_now(connection: Connection, job_id: str) -> None:
    fail_then_retry(connection, job_id, "now()")


def paused(connection: Connection, job_id: str) -> None:
    pause(connection, "'infinity'")


def paused_before(connection: Connection, job_id: str) -> None:
    pause(connection, "now() - interval '1 s'")


def another_is_paused(connection: Connection, job_id: str) -> None:
    pause(connection, "'infinity'", queue="other")


def running(connection: Connection, job_id: str) -> None:
    unqueue(connection, job_id)
    lease(connection, job_id)
    connection.execute("update pgflow.leases set expires_at = now() + interval '1 h'")


def abandoned(connection: Connection, job_id: str) -> None:
    unqueue(connection, job_id)
    lease(connection, job_id)


NOOP = ["noop"]
SITUATIONS = [
    ("READY", nothing, [Worker()]),
    ("READY", nothing, [Worker(queues=None, job_types=["other", "noop"])]),
    ("READY", nothing, [Worker(queues=["other"]), Worker(quiet=True), Worker()]),
    ("READY", nothing, [Worker(busy_slots=1), Worker(slots=3, busy_slots=2)]),
    ("READY", retried_now, [Worker()]),
    ("READY", paused_before, [Worker()]),
    ("READY", another_is_paused, [Worker()]),
    ("READY", one_nobody_runs_is_ahead, [Worker(job_types=NOOP)]),
    ("READY", one_of_the_future_is_ahead, [Worker()]),
    ("LEASE_HELD", running, [Worker()]),
    ("LEASE_EXPIRED", abandoned, [Worker()]),
    ("NOT_DUE", not_due, [Worker()]),
    ("NOT_DUE", retried_later, [Worker()]),
    ("QUEUE_PAUSED", paused, [Worker()]),
    ("NO_WORKER", nothing, []),
    ("NO_WORKER", nothing, [Worker(queues=["other"])]),
    ("NO_WORKER", nothing, [Worker(silent="11 s")]),
    ("NO_WORKER", nothing, [Worker(quiet=True)]),
    ("NO_HANDLER", nothing, [Worker(job_types=["other"])]),
    ("NO_HANDLER", nothing, [Worker(job_types=[]), Worker(["other"], NOOP)]),
    ("SLOTS_FULL", nothing, [Worker(busy_slots=1), Worker(job_types=["other"])]),
    ("BEHIND", one_is_ahead, [Worker()]),
]


@pytest.mark.parametrize(
    ("verdict", "situation", "workers"),
    SITUATIONS,
    ids=[f"{v}-{s.__name__}-{n}" for n, (v, s, _) in enumerate(SITUATIONS)],
)
def test_the_verdict_is_what_the_lease_does(
    connection, repository, verdict, situation, workers
):
    [job_id] = plant(connection)
    for worker in workers:
        worker.register(connection)
    situation(connection, job_id)
    explained = explain(repository, job_id)
    assert explained.verdict == verdict
    assert explained.summary[0].startswith(f"{verdict}: ")
    leased = [job for worker in workers for job in worker.leases(repository)]
    assert (job_id in leased) == (verdict == "READY")


def test_the_first_gate_that_holds_wins(connection, repository):
    """Everything is wrong at once; each thing that is mended uncovers the next."""
    urgent, job_id = plant(connection, 2)
    retried_later(connection, job_id)
    paused(connection, job_id)
    worker = Worker(["other"], ["other"], busy_slots=1).register(connection)

    def mend(text: str, *values: object) -> None:
        connection.execute(text, values)

    mending = [
        (
            "NOT_DUE",
            "update pgflow.pending set run_at = now() where job_id = %s",
            job_id,
        ),
        ("QUEUE_PAUSED", "update pgflow.queue_policies set paused_until = now()"),
        ("NO_WORKER", "update pgflow.workers set queues = null"),
        ("NO_HANDLER", "update pgflow.workers set job_types = '{noop}'"),
        ("SLOTS_FULL", "update pgflow.workers set busy_slots = 0"),
        ("BEHIND", "delete from pgflow.pending where job_id = %s", urgent),
        ("READY", "select"),
    ]
    for place, (verdict, *mend_it) in enumerate(mending):
        explained = explain(repository, job_id)
        assert explained.verdict == verdict
        results = [gate.result for gate in explained.gates]
        last = verdict == "READY"
        held = ["passed" if last else "held"] + ["not reached"] * (6 - place)
        assert results == ["passed"] * (1 + place) + held
        mend(*mend_it)
    worker.queues, worker.job_types, worker.busy_slots = None, NOOP, 0
    assert worker.leases(repository) == [job_id]


def test_the_evidence_of_each_gate_names_what_to_look_at(connection, repository):
    [job_id] = plant(connection)

    def first_line() -> str:
        return explain(repository, job_id).summary[0]

    assert "Workers alive: 0" in first_line()
    worker = Worker(["mail", "default"], ["send"]).register(connection)
    assert 'handler for "noop"; they have send' in first_line()
    connection.execute("update pgflow.workers set queues = '{mail}'")
    assert "Workers alive: 1 (queues: mail)" in first_line()
    paused(connection, job_id)
    assert 'queue "default" was paused by ann for now: deploy' in first_line()
    retried_later(connection, job_id)
    assert "runs in 1h" in first_line()
    assert "retry 1 after TIMEOUT: too slow" in first_line()
    unqueue(connection, job_id)
    lease(connection, job_id, 2)
    assert "attempt 2 is with w (heard of" in first_line()
    assert "the next reaping returns it" in first_line()
    connection.execute("update pgflow.leases set expires_at = now() - interval '1 h'")
    assert "1 worker alive, but none has reaped it" in first_line()
    connection.execute("delete from pgflow.workers")
    assert "no worker is alive to reap it" in first_line()
    assert worker.id


def test_a_job_that_ended_says_how(connection, repository):
    succeeded, dead, canceled, nowhere = plant(connection, 4)
    for job_id in (succeeded, dead, canceled, nowhere):
        unqueue(connection, job_id)
    attempt(connection, succeeded, "succeeded")
    attempt(connection, dead, "failed")
    bury(connection, dead)
    connection.execute(
        "update pgflow.dead_letters set error_code = 'TIMEOUT', error_message = 'slow'"
    )
    connection.execute(
        "insert into pgflow.error_codes (code, retry_class, suggested_action)"
        " values ('TIMEOUT', 'retry', 'Allow more time.')"
    )
    cancel(connection, canceled)
    found = {job: explain(repository, job) for job in (succeeded, dead, canceled)}
    assert [e.verdict for e in found.values()] == ["SUCCEEDED", "DLQ", "CANCELED"]
    assert [e.in_order for e in found.values()] == [True, False, True]
    assert found[succeeded].summary[0].startswith("Succeeded at attempt 1 on w in ")
    assert found[dead].summary == [
        "Moved to DLQ after 1 attempt(s). Reason: X.",
        "Last error TIMEOUT: slow",
    ]
    assert found[dead].advice == "Allow more time."
    assert [event.event for event in found[dead].story] == [
        "enqueued",
        "attempt 1 failed",
        "moved to DLQ",
    ]
    assert "Canceled by me at 20" in found[canceled].summary[0]
    assert explain(repository, nowhere).verdict == "NOWHERE"


def test_a_dead_letter_that_was_resolved_is_in_order(connection, repository):
    [job_id] = plant(connection)
    unqueue(connection, job_id)
    bury(connection, job_id)
    connection.execute(
        "update pgflow.dead_letters"
        " set resolved_at = now(), resolution = 'replayed', replay_job_id = job_id"
    )
    explained = explain(repository, job_id)
    assert (explained.verdict, explained.in_order) == ("RESOLVED", True)
    assert explained.story[-1].event == "resolved"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (1, [9]),
        (2, [1, 9]),
        (3, [1, 8, 9]),
        (9, [*range(1, 10)]),
        (None, [*range(1, 10)]),
    ],
)
def test_of_many_attempts_the_first_and_the_newest_are_shown(
    connection, repository, shown, expected
):
    [job_id] = plant(connection)
    for number in range(1, 10):
        attempt(connection, job_id, "failed", number)
    facts = repository.describe_job(job_id, attempts=shown)
    assert [a.attempt_no for a in facts.attempts] == expected
    story = explanation.explain(facts).story
    hidden = [event.detail for event in story if event.at is None]
    assert hidden == (
        [f"... {9 - len(expected)} attempts hidden (--attempts all)"]
        if len(expected) < 9
        else []
    )


def test_counts_of_the_backlog_stop_where_they_say(connection, repository, monkeypatch):
    monkeypatch.setattr(Backlog, "LIMIT", 5)
    jobs = plant(connection, 8)
    plant(connection, 8, due_in="1 hour", priority=1)
    Worker().register(connection)
    assert "position 3 of 5+" in explain(repository, jobs[2]).summary[0]
    assert "position 5+ of 5+" in explain(repository, jobs[7]).summary[0]


def test_the_end_of_an_id_is_enough(connection, repository):
    pending, running, dead, done = plant(connection, 4)
    for job_id in (running, dead, done):
        unqueue(connection, job_id)
    lease(connection, running)
    bury(connection, dead)
    attempt(connection, done, "succeeded")
    for job_id in (pending, running, dead, done):
        digits = job_id.replace("-", "")
        for length in (8, 12, 13, 17, 31, 32):
            assert repository.find_job(digits[-length:]) == job_id
            assert repository.find_job(digits[-length:].upper()) == job_id
        assert repository.find_job(job_id) == job_id
        assert repository.find_job(job_id[-14:]) == job_id


def planted_with(connection: Connection, suffix: str, days_ago: int = 0) -> str:
    """Plant a succeeded job of some days ago whose id ends so."""
    row = connection.execute(
        "select overlay(pgflow.uuid7_at((date_part('epoch', now()"
        " - %s * interval '1 day') * 4096000)::bigint)::text placing %s"
        f" from {37 - len(suffix)})",
        (days_ago, suffix),
    ).fetchone()
    assert row is not None
    connection.execute(
        "insert into pgflow.jobs (id, queue, job_type, payload)"
        " values (%s, 'default', 'noop', '{}')",
        row,
    )
    attempt(connection, row[0], "succeeded")
    return str(row[0])


def test_an_old_job_is_found_by_since_and_a_waiting_one_before_a_finished_one(
    connection, repository
):
    from pgflow_cli.times import parse_instant  # noqa: PLC0415

    old = planted_with(connection, "abcdef01", days_ago=3)
    with pytest.raises(NotFound, match="no job's id ends in abcdef01"):
        repository.find_job("abcdef01")
    assert repository.find_job("abcdef01", since=parse_instant("4d")) == old
    at = parse_instant("2000-01-01")
    assert repository.find_job("abcdef01", since=at) == old
    recent = planted_with(connection, "abcdef02")
    assert repository.find_job("abcdef02") == recent
    [waiting] = plant(connection)
    planted_with(connection, waiting[-8:])
    assert repository.find_job(waiting[-8:]) == waiting


def test_an_ambiguous_end_lists_its_candidates(connection, repository):
    jobs = {planted_with(connection, "abcdef") for _ in range(12)}
    with pytest.raises(NotFound, match="abcdef is ambiguous: 10") as caught:
        repository.find_job("abcdef")
    listed = {hint.split()[0] for hint in caught.value.hints}
    assert len(listed) == 10
    assert listed < jobs


@pytest.mark.parametrize("given", ["", "abcde", "xyzxyz", "0" * 33, "'; select", "-"])
def test_what_is_no_id_is_refused(repository, given):
    with pytest.raises(UsageError, match="is no job id"):
        repository.find_job(given)


def test_an_unknown_id_is_not_found(repository):
    for job_id in (str(uuid.uuid4()), uuid.uuid4().hex):
        with pytest.raises(NotFound, match="there is no job"):
            repository.describe_job(repository.find_job(job_id))
