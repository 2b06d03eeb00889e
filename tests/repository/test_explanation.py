"""explain against the lease itself: what it says holds a job up, holds it up.

Each situation is built, explained, and then tried: a worker with room for one job sends
the real lease statement. What the verdict promises must be what happens.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import NotFound, UsageError
from pgflow_cli.inspection import explanation
from pgflow_cli.models.explanation import Backlog
from pgflow_cli.repository import Repository
from tests.repository.test_audit import attempt, bury, cancel, lease, unqueue
from tests.repository.test_overview import fail_then_retry
from tests.repository.test_policies import asking, limit
from tests.support.jobs import audit, plant

Connection = psycopg.Connection[Any]


@dataclass
class Worker:
    """A worker as its row says it is."""

    queues: list[str] | None = field(default_factory=lambda: ["default"])
    job_types: list[str] | None = None
    slots: int = 1
    busy_slots: int = 0
    quiet: bool = False
    retiring: bool = False
    spare: bool = False
    deaths: int | None = None
    stalled: str | None = None
    silent: str = "0 s"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def register(self, connection: Connection) -> Worker:
        connection.execute(
            "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
            " busy_slots, lease_seconds, quiet, retiring, spare, deaths, name, host,"
            " queues, job_types, stalled_since, last_heartbeat)"
            " values (%s, gen_random_uuid(), 1, %s, %s, 60, %s, %s, %s, %s, 'w', 'h',"
            " %s, %s, now() - %s::interval, now() - %s::interval)",
            (
                self.id,
                self.slots,
                self.busy_slots,
                self.quiet,
                self.retiring,
                self.spare,
                self.deaths,
                self.queues,
                self.job_types,
                self.stalled,
                self.silent,
            ),
        )
        return self

    def leases(self, repository: Repository) -> list[str]:
        """Return the jobs the real statement gives it, as many as it has slots free."""
        room = self.slots - self.busy_slots
        if self.quiet or self.retiring or self.spare or self.stalled or self.deaths:
            return []
        if self.silent != "0 s" or room == 0:
            return []  # such a worker does not ask
        cycle = asking(
            room, worker_id=self.id, queues=self.queues, job_types=self.job_types
        )
        reply = repository.leases.settle_and_lease(cycle)
        jobs = reply.jobs
        if reply.limited_open and not jobs:
            again = asking(
                room, worker_id=self.id, queues=self.queues, job_types=self.job_types
            )
            jobs = repository.leases.lease_limited(again)
        return [job.job_id for job in jobs]


def explain(repository: Repository, job_id: str) -> explanation.Explanation:
    return explanation.explain(repository.explanation.describe_job(job_id))


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


def fenced(connection: Connection, job_id: str) -> None:
    connection.execute(
        "update pgflow.database_identity set fenced_at = now(), fenced_by = 'ann',"
        " fence_reason = 'restored to noon'"
    )


def copied(connection: Connection, job_id: str) -> None:
    connection.execute("update pgflow.database_identity set database_oid = 1")


def limited_with_room(connection: Connection, job_id: str) -> None:
    limit(connection, max_in_flight=2, max_attempts_per_minute=9)
    one_in_flight(connection)
    attempts_this_minute(connection, 8)


def one_in_flight(connection: Connection) -> None:
    [held] = plant(connection)
    running(connection, held)


def attempts_this_minute(connection: Connection, count: int, ago: str = "0 s") -> None:
    connection.execute(
        "insert into pgflow.attempt_counters (queue, second, count)"
        " values ('default', date_trunc('second', now()) - %s::interval, %s)",
        (ago, count),
    )


def in_flight_exceeded(connection: Connection, job_id: str) -> None:
    limit(connection, max_in_flight=1, max_attempts_per_minute=1)
    one_in_flight(connection)
    attempts_this_minute(connection, 1)


def settled_while_its_lease_goes_on(connection: Connection, job_id: str) -> None:
    limit(connection, max_in_flight=1)
    [held] = plant(connection)
    running(connection, held)
    connection.execute("update pgflow.leases set job_ids = '{}', attempt_nos = '{}'")
    attempt(connection, held, "succeeded")


def nothing_may_be_in_flight(connection: Connection, job_id: str) -> None:
    limit(connection, max_in_flight=0)


def rate_exceeded(connection: Connection, job_id: str) -> None:
    limit(connection, max_attempts_per_minute=3)
    attempts_this_minute(connection, 2, ago="59 s")
    attempts_this_minute(connection, 1)


def rate_of_a_minute_ago(connection: Connection, job_id: str) -> None:
    limit(connection, max_attempts_per_minute=3)
    attempts_this_minute(connection, 3, ago="62 s")


def no_attempts_allowed(connection: Connection, job_id: str) -> None:
    limit(connection, max_attempts_per_minute=0)


def throttled_by(connection: Connection, reason: str | None) -> None:
    limit(connection, max_in_flight=5, max_attempts_per_minute=5)
    connection.execute(
        "update pgflow.queue_policies set throttled_until = now() + interval '1 min'"
    )
    if reason:
        decide(connection, reason)


def decide(connection: Connection, reason: str, ago: str = "0 s") -> None:
    connection.execute(
        "insert into pgflow.policy_decisions (queue, decision, reason_code, minute,"
        " first_at, last_at, count, details_json)"
        " select 'default', 'THROTTLED', %s, date_trunc('minute', at), at, at, 2,"
        ' \'{"in_flight": 10, "max_in_flight": 10}\' from (select now() - %s::interval)'
        " as instant (at)",
        (reason, ago),
    )


def left_alone_for_jobs_in_flight(connection: Connection, job_id: str) -> None:
    throttled_by(connection, "IN_FLIGHT_EXCEEDED")


def left_alone_for_its_rate(connection: Connection, job_id: str) -> None:
    throttled_by(connection, "RETRY_RATE_EXCEEDED")


def left_alone_and_the_reason_forgotten(connection: Connection, job_id: str) -> None:
    throttled_by(connection, None)


def throttled_without_a_limit(connection: Connection, job_id: str) -> None:
    limit(connection, max_payload_bytes=9)
    connection.execute(
        "update pgflow.queue_policies set throttled_until = now() + interval '1 min'"
    )


def another_is_limited(connection: Connection, job_id: str) -> None:
    limit(connection, "other", max_in_flight=0)


NOOP = ["noop"]
# Whoever asks gets nothing, of the whole queue.
OF_ITS_QUEUE = {
    "FENCED",
    "QUEUE_PAUSED",
    "IN_FLIGHT_EXCEEDED",
    "RETRY_RATE_EXCEEDED",
}
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
    ("READY", limited_with_room, [Worker()]),
    ("READY", settled_while_its_lease_goes_on, [Worker()]),
    ("READY", rate_of_a_minute_ago, [Worker()]),
    ("READY", throttled_without_a_limit, [Worker()]),
    ("READY", another_is_limited, [Worker()]),
    ("FENCED", fenced, [Worker()]),
    ("FENCED", copied, [Worker()]),
    ("LEASE_HELD", running, [Worker()]),
    ("LEASE_EXPIRED", abandoned, [Worker()]),
    ("NOT_DUE", not_due, [Worker()]),
    ("NOT_DUE", retried_later, [Worker()]),
    ("QUEUE_PAUSED", paused, [Worker()]),
    ("NO_WORKER", nothing, []),
    ("NO_WORKER", nothing, [Worker(queues=["other"])]),
    ("NO_WORKER", nothing, [Worker(silent="61 s")]),
    ("NO_WORKER", nothing, [Worker(quiet=True)]),
    ("NO_WORKER", nothing, [Worker(retiring=True)]),
    ("NO_WORKER", nothing, [Worker(spare=True)]),
    ("NO_WORKER", nothing, [Worker(deaths=3)]),
    ("READY", nothing, [Worker(retiring=True), Worker(spare=True), Worker()]),
    ("READY", nothing, [Worker(stalled="35 s"), Worker()]),
    ("WORKERS_STALLED", nothing, [Worker(stalled="35 s")]),
    ("NO_HANDLER", nothing, [Worker(job_types=["other"])]),
    ("NO_HANDLER", nothing, [Worker(job_types=[]), Worker(["other"], NOOP)]),
    ("IN_FLIGHT_EXCEEDED", in_flight_exceeded, [Worker()]),
    ("IN_FLIGHT_EXCEEDED", nothing_may_be_in_flight, [Worker()]),
    ("IN_FLIGHT_EXCEEDED", left_alone_for_jobs_in_flight, [Worker()]),
    ("IN_FLIGHT_EXCEEDED", left_alone_and_the_reason_forgotten, [Worker()]),
    ("RETRY_RATE_EXCEEDED", rate_exceeded, [Worker()]),
    ("RETRY_RATE_EXCEEDED", no_attempts_allowed, [Worker()]),
    ("RETRY_RATE_EXCEEDED", left_alone_for_its_rate, [Worker()]),
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
    assert audit(connection) == (0, 0)


def test_the_first_gate_that_holds_wins(connection, repository):
    """Everything is wrong at once; each thing that is mended uncovers the next."""
    urgent, job_id = plant(connection, 2)
    retried_later(connection, job_id)
    paused(connection, job_id)
    connection.execute(
        "update pgflow.queue_policies set max_in_flight = 0,"
        " max_attempts_per_minute = 0"
    )
    fenced(connection, job_id)
    unqueue(connection, job_id)
    lease(connection, job_id, 2)
    worker = Worker(["other"], ["other"], busy_slots=1, stalled="35 s")
    worker.register(connection)

    def give_back() -> None:
        connection.execute("delete from pgflow.leases")
        connection.execute(
            "insert into pgflow.pending (queue, rank, run_at, job_id, attempt_no,"
            " job_type) select 'default', 0, next_run_at, job_id, 1, 'noop'"
            " from pgflow.job_attempts"
        )

    def mend(text: str, *values: object) -> Callable[[], object]:
        return lambda: connection.execute(text, values)

    mending = [
        (
            "FENCED",
            mend(
                "update pgflow.database_identity"
                " set fenced_at = null, fence_reason = null"
            ),
        ),
        ("LEASE_EXPIRED", give_back),
        ("NOT_DUE", mend("update pgflow.pending set run_at = now()")),
        (
            "QUEUE_PAUSED",
            mend("update pgflow.queue_policies set paused_until = now()"),
        ),
        ("NO_WORKER", mend("update pgflow.workers set queues = null")),
        ("NO_HANDLER", mend("update pgflow.workers set job_types = '{noop}'")),
        (
            "IN_FLIGHT_EXCEEDED",
            mend("update pgflow.queue_policies set max_in_flight = 5"),
        ),
        (
            "RETRY_RATE_EXCEEDED",
            mend("update pgflow.queue_policies set max_attempts_per_minute = 5"),
        ),
        ("SLOTS_FULL", mend("update pgflow.workers set busy_slots = 0")),
        ("WORKERS_STALLED", mend("update pgflow.workers set stalled_since = null")),
        ("BEHIND", mend("delete from pgflow.pending where job_id = %s", urgent)),
        ("READY", mend("select")),
    ]
    connection.execute(
        "update pgflow.pending set run_at = run_at - interval '1 s' where job_id = %s",
        (urgent,),
    )
    last = len(mending) - 1
    for place, (verdict, put_right) in enumerate(mending):
        explained = explain(repository, job_id)
        assert explained.verdict == verdict
        results = [gate.result for gate in explained.gates]
        held = ["passed" if place == last else "held"] + ["not reached"] * (
            last - place
        )
        assert results == ["passed"] * place + held
        if verdict in OF_ITS_QUEUE:
            assert Worker(None, NOOP, id=worker.id).leases(repository) == []
        put_right()
    assert Worker(None, NOOP, id=worker.id).leases(repository) == [job_id]


def test_the_evidence_of_each_gate_names_what_to_look_at(connection, repository):
    [job_id] = plant(connection)

    def first_line() -> str:
        return " ".join(explain(repository, job_id).summary)

    assert "Workers alive: 0" in first_line()
    worker = Worker(["mail", "default"], ["send"]).register(connection)
    assert 'has a handler for "noop"' in first_line()
    assert "Workers of the queue: 1, with handlers for send." in first_line()
    connection.execute("update pgflow.workers set queues = '{mail}'")
    assert "Workers alive: 1 (queues: mail)" in first_line()
    paused(connection, job_id)
    assert 'queue "default" was paused by ann at 20' in first_line()
    assert ", until it is resumed: deploy." in first_line()
    retried_later(connection, job_id)
    assert "runs in 1h" in first_line()
    assert "retry 1 after TIMEOUT: too slow" in first_line()
    unqueue(connection, job_id)
    lease(connection, job_id, 2)
    assert "attempt 2 has been with w for " in first_line()
    assert "(last heartbeat" in first_line()
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
    facts = repository.explanation.describe_job(job_id, attempts=shown)
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
            assert repository.jobs.find_job(digits[-length:]) == job_id
            assert repository.jobs.find_job(digits[-length:].upper()) == job_id
        assert repository.jobs.find_job(job_id) == job_id
        assert repository.jobs.find_job(job_id[-14:]) == job_id


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
    from pgflow_cli.formats.times import parse_instant  # noqa: PLC0415

    old = planted_with(connection, "abcdef01", days_ago=3)
    with pytest.raises(NotFound, match="no job's id ends in abcdef01"):
        repository.jobs.find_job("abcdef01")
    assert repository.jobs.find_job("abcdef01", since=parse_instant("4d")) == old
    at = parse_instant("2000-01-01")
    assert repository.jobs.find_job("abcdef01", since=at) == old
    recent = planted_with(connection, "abcdef02")
    assert repository.jobs.find_job("abcdef02") == recent
    [waiting] = plant(connection)
    planted_with(connection, waiting[-8:])
    assert repository.jobs.find_job(waiting[-8:]) == waiting


def test_an_ambiguous_end_lists_its_candidates(connection, repository):
    jobs = {planted_with(connection, "abcdef") for _ in range(12)}
    with pytest.raises(NotFound, match="abcdef is ambiguous: 10") as caught:
        repository.jobs.find_job("abcdef")
    listed = {hint.split()[0] for hint in caught.value.hints}
    assert len(listed) == 10
    assert listed < jobs


@pytest.mark.parametrize("given", ["", "abcde", "xyzxyz", "0" * 33, "'; select", "-"])
def test_what_is_no_id_is_refused(repository, given):
    with pytest.raises(UsageError, match="is no job id"):
        repository.jobs.find_job(given)


def test_an_unknown_id_is_not_found(repository):
    for job_id in (str(uuid.uuid4()), uuid.uuid4().hex):
        with pytest.raises(NotFound, match="there is no job"):
            repository.explanation.describe_job(repository.jobs.find_job(job_id))
