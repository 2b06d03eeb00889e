"""What a worker does with jobs: outcomes, timeouts, neighbours, priorities, wake-up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker, watch, workers
from tests.conftest import cloned
from tests.support.jobs import (
    attempts_of,
    audit,
    make_due,
    plant,
    status_of,
    statuses_of,
)
from tests.support.servers import Database, Server

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]


def settled(connection: Connection, *jobs: str) -> Callable[[], bool]:
    return lambda: statuses_of(connection, [*jobs]) <= {"succeeded", "dlq"}


class Shop:
    """A database and a worker of several trials, none of which may end its process."""

    def __init__(self, connection: Connection, start: Start, folder: Path) -> None:
        self.connection, self.folder = connection, folder
        self.witness = watch(connection)
        self._start = start
        self._worker: Worker | None = None

    @property
    def worker(self) -> Worker:
        """Return the worker; the first trial to ask starts it."""
        if self._worker is None:
            programs = self.folder / "handlers"
            programs.mkdir()
            script = programs / "shout"
            script.write_text(
                '#!/bin/sh\ncat > out.json\necho "$PGFLOW_JOB_TYPE" > type\n'
            )
            script.chmod(0o755)
            self._worker = self._start(
                *("-q", "*", "-c", "20", "--heartbeat", "100ms"),
                *("--code-version", "4f2a9c", "--handlers-dir", str(programs)),
            )
        return self._worker


@pytest.fixture(scope="module")
def open_shop(
    server: Server,
    template: Database,
    way_through: Callable[[Database], Database],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("running")
    with cloned(server, template) as made:
        database = way_through(made)
        connection = database.connect()
        with workers(database, folder) as start:
            yield Shop(connection, start, folder)
        assert audit(connection) == (0, 0)


@pytest.fixture
def shop(open_shop: Shop) -> Iterator[Shop]:
    """The worker that trials share. It runs on, in the process it began with."""
    worker = open_shop.worker
    yield open_shop
    assert worker.process.poll() is None
    assert "process_died" not in worker.log


@pytest.mark.parametrize(
    ("job_type", "status", "attempts"),
    [
        ("quick", "succeeded", ["succeeded"]),
        ("recovers", "succeeded", ["failed", "failed", "succeeded"]),
        ("snoozes", "succeeded", ["snoozed", "succeeded"]),
        ("gives_up", "dlq", ["failed"]),
        ("failing", "dlq", ["failed"] * 3),
        ("exits", "dlq", ["failed"] * 3),
    ],
)
def test_each_outcome_is_recorded_as_what_it_is(
    shop: Shop, wait_until: Wait, job_type: str, status: str, attempts: list[str]
) -> None:
    connection = shop.connection
    [job] = plant(connection, job_type=job_type, max_attempts=3)

    def hurried() -> bool:
        if status_of(connection, job) == "scheduled":
            make_due(connection, job)
        return settled(connection, job)()

    wait_until(hurried, "it is settled")
    assert status_of(connection, job) == status
    assert [a[1] for a in attempts_of(connection, job)] == attempts


def test_a_dead_letter_says_why(shop: Shop, wait_until: Wait) -> None:
    connection = shop.connection
    [job] = plant(connection, job_type="failing", max_attempts=1)
    wait_until(settled(connection, job), "it is settled")
    row = connection.execute(
        "select dlq_reason_code, error_code, error_message, failed_attempts,"
        " code_version, error_fingerprint from pgflow.dead_letters where job_id = %s",
        (job,),
    ).fetchone()
    assert row is not None
    assert row[:2] == ("MAX_ATTEMPTS_EXCEEDED", "DEPENDENCY_DOWN")
    assert "smtp.example: connection refused" in row[2]
    assert row[3:5] == (1, "4f2a9c")
    assert row[5].startswith("f1-")


def test_an_undecodable_payload_is_that_jobs_dead_letter_and_no_others(
    shop: Shop, wait_until: Wait
) -> None:
    connection = shop.connection
    with connection.transaction():
        good = plant(connection, 5, job_type="quick")
        connection.execute(
            "update pgflow.jobs set payload = '[1e131071]' where id = %s", (good[2],)
        )
    wait_until(settled(connection, *good), "all are settled")
    states = [status_of(connection, j) for j in good]
    assert states == ["succeeded", "succeeded", "dlq", "succeeded", "succeeded"]
    assert attempts_of(connection, good[2]) == [(1, "failed", "BAD_PAYLOAD")]


def test_one_slow_job_delays_no_neighbours_outcome(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    [slow] = plant(connection, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    quick = plant(connection, 100, job_type="quick")
    start_worker("--concurrency", "2")
    wait_until(settled(connection, *quick), "the others are settled")
    assert status_of(connection, slow) == "running"
    gate.touch()
    wait_until(settled(connection, slow), "so is the slow one")
    assert witness(slow) == [("start", 1), ("end", 1)]


def test_jobs_behind_a_busy_slot_are_given_back_for_others_to_run(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    jobs = plant(connection, 4, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    start_worker("--concurrency", "1")
    wait_until(lambda: any(witness(j) for j in jobs), "one starts")
    start_worker("--concurrency", "3")
    wait_until(lambda: all(witness(j) for j in jobs), "the other worker runs the rest")
    gate.touch()
    wait_until(settled(connection, *jobs), "all are settled")
    assert {len(attempts_of(connection, j)) for j in jobs} == {1}


def test_a_stuck_thread_costs_its_process_and_the_third_one_leases_on(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    """Its neighbours finish. A process that retires says in its heartbeats that it
    leases nothing more: no operator's word, which would hold for all that come after
    it.
    """
    worker = start_worker("-c", "4", "--heartbeat", "200ms")
    for number in range(2):
        [process] = wait_until(worker.children, "a process starts")
        gate = tmp_path / f"gate-{number}"
        payload = f'{{"gate": "{gate}"}}'
        [neighbour] = plant(connection, job_type="gated", payload=payload)
        wait_until(lambda job=neighbour: witness(job), "its neighbour runs")
        [stuck] = plant(connection, job_type="stuck", max_attempts=1)
        last = wait_until(lambda: retiring(connection), "the process retires")
        # Two heartbeats later the supervisor has read its own word.
        for _ in range(2):
            last = wait_until(
                lambda before=last: newer(retiring(connection), before), "a heartbeat"
            )
        wait_until(settled(connection, stuck), "the stuck job is failed")
        assert attempts_of(connection, stuck) == [(1, "failed", "TIMEOUT")]
        [late] = plant(connection, job_type="quick")
        wait_until(settled(connection, late), "another process takes over")
        assert status_of(connection, neighbour) == "running"
        assert not connection.execute(
            "select 1 from pgflow.workers where quiet"
        ).fetchone(), "no operator said so"
        gate.touch()
        wait_until(settled(connection, neighbour), "the neighbour finishes")
        assert attempts_of(connection, neighbour) == [(1, "succeeded", None)]
        wait_until(lambda p=process: not p.is_running(), "the old process ends")
    [job] = plant(connection, job_type="seen")
    wait_until(
        lambda: status_of(connection, job) == "succeeded", "the third one leases"
    )


def retiring(connection: Connection) -> Any:
    """Return the last heartbeat of a process that leases nothing more, if one lives."""
    row = connection.execute(
        "select max(last_heartbeat) from pgflow.workers where retiring"
    ).fetchone()
    assert row is not None
    return row[0]


def newer(found: Any, before: Any) -> Any:
    return found if found is not None and found > before else None


def test_an_async_handler_is_canceled_at_its_timeout(
    shop: Shop, wait_until: Wait
) -> None:
    connection = shop.connection
    [process] = wait_until(shop.worker.children, "a process starts")
    [job] = plant(connection, job_type="stuck_async", max_attempts=1)
    wait_until(settled(connection, job), "it is failed")
    assert attempts_of(connection, job) == [(1, "failed", "TIMEOUT")]
    [next_job] = plant(connection, job_type="quick")
    wait_until(settled(connection, next_job), "the process goes on")
    assert process.is_running()


def test_async_jobs_run_side_by_side(
    shop: Shop, wait_until: Wait, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    jobs = plant(
        shop.connection, 20, job_type="gated_async", payload=f'{{"gate": "{gate}"}}'
    )
    wait_until(lambda: all(shop.witness(j) for j in jobs), "all run at once")
    gate.touch()
    wait_until(settled(shop.connection, *jobs), "all are settled")


def test_a_type_with_a_limit_runs_no_more_than_that_at_once(
    shop: Shop, wait_until: Wait
) -> None:
    jobs = plant(shop.connection, 15, job_type="limited")
    wait_until(settled(shop.connection, *jobs), "all are settled")
    rows = shop.connection.execute(
        "select event from witness where job_id = any(%s::uuid[]) order by n", (jobs,)
    ).fetchall()
    assert [r[0] for r in rows] == ["start", "end"] * 15


def test_a_job_nobody_here_can_run_is_left_for_those_who_can(
    shop: Shop, wait_until: Wait
) -> None:
    connection = shop.connection
    [unknown] = plant(connection, job_type="not_here")
    [known] = plant(connection, job_type="quick")
    wait_until(settled(connection, known), "the known one runs")
    assert status_of(connection, unknown) == "queued"
    assert attempts_of(connection, unknown) == []


def test_a_follower_exists_only_once_its_job_has_succeeded(
    shop: Shop, wait_until: Wait
) -> None:
    connection = shop.connection
    [job] = plant(connection, job_type="followed")
    wait_until(lambda: status_of(connection, job) == "scheduled", "it fails first")

    def followers() -> list[tuple[str]]:
        return connection.execute(
            "select id::text from pgflow.jobs where payload ->> 'from' = %s", (job,)
        ).fetchall()

    assert followers() == []
    make_due(connection, job)
    wait_until(settled(connection, job), "it succeeds")
    assert len(followers()) == 1


def test_a_follower_that_is_refused_fails_the_job_that_asked_for_it(
    shop: Shop, wait_until: Wait
) -> None:
    connection = shop.connection
    with connection.transaction():
        [job] = plant(connection, job_type="followed_badly", max_attempts=1)
        good = plant(connection, 5, job_type="quick")
    wait_until(settled(connection, job, *good), "all are settled")
    assert status_of(connection, job) == "dlq"
    assert {status_of(connection, j) for j in good} == {"succeeded"}


def test_progress_is_shown_while_a_job_runs(
    shop: Shop, wait_until: Wait, tmp_path: Path
) -> None:
    connection, gate = shop.connection, tmp_path / "gate"
    [job] = plant(connection, job_type="progresses", payload=f'{{"gate": "{gate}"}}')
    wait_until(
        lambda: connection.execute(
            "select 1 from pgflow.leases where progress -> %s = '[4, 10]'", (job,)
        ).fetchone(),
        "its lease shows the progress",
    )
    gate.touch()
    wait_until(settled(connection, job), "it ends")


def test_an_idle_worker_is_woken_by_a_notification(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    """The poll is ten minutes away, so only a notification can have done it."""
    worker = start_worker("--poll", "10m")
    wait_until(
        lambda: connection.execute(
            "select 1 from pgflow.workers where idle"
        ).fetchone(),
        "it is idle",
    )
    wait_until(
        lambda: connection.execute(
            "select 1 from pg_stat_activity"
            " where application_name like 'pgflow supervisor%'"
            " and query like 'listen%' and state = 'idle'"
        ).fetchone(),
        "it listens",
    )
    jobs = plant(connection, 3, job_type="quick")
    wait_until(settled(connection, *jobs), "they run")
    assert worker.process.poll() is None


def test_without_notifications_polling_finds_jobs_of_unknown_types_too(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    """Which are dead-lettered where that is asked for."""
    start_worker("--no-listen", "--on-unknown", "dlq")
    wait_until(
        lambda: connection.execute(
            "select 1 from pgflow.workers where idle"
        ).fetchone(),
        "it is idle",
    )
    [job] = plant(connection, job_type="quick")
    [unknown] = plant(connection, job_type="not_here")
    wait_until(settled(connection, job, unknown), "both are settled")
    assert status_of(connection, job) == "succeeded"
    assert attempts_of(connection, unknown) == [(1, "failed", "UNKNOWN_JOB_TYPE")]


def test_two_workers_with_one_name_never_share_a_job(
    connection: Connection, start_worker: Start, witness: Witness, wait_until: Wait
) -> None:
    jobs = plant(connection, 20, job_type="seen")
    for _ in range(2):
        start_worker("--worker-id", "same")
    wait_until(settled(connection, *jobs), "all are settled")
    assert {tuple(witness(j)) for j in jobs} == {(("start", 1), ("end", 1))}


def test_every_queue_is_served_when_asked_for_all(shop: Shop, wait_until: Wait) -> None:
    jobs = [
        plant(shop.connection, queue=queue, job_type="quick")[0]
        for queue in ("a", "b.c", "NULL")
    ]
    wait_until(settled(shop.connection, *jobs), "all are settled")


def test_an_executable_runs_a_job(shop: Shop, wait_until: Wait) -> None:
    [job] = plant(shop.connection, job_type="shout", payload='{"text": "hello"}')
    wait_until(settled(shop.connection, job), "it is settled")
    assert status_of(shop.connection, job) == "succeeded"
    assert (shop.folder / "out.json").read_text() == '{"text": "hello"}'
    assert (shop.folder / "type").read_text() == "shout\n"
