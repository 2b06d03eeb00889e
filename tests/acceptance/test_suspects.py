"""A job whose process was lost with it before runs apart: it costs itself, and no
neighbour waits for it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.support.jobs import attempts_of, plant, status_of

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]


def lose(connection: Connection, job: str, *statuses: str) -> None:
    """Give a job that waits attempts that have ended so."""
    for number, status in enumerate(statuses or ("lost", "lost"), start=1):
        connection.execute(
            "insert into pgflow.job_attempts (job_id, lease_id, started_at,"
            " finished_at, next_run_at, attempt_no, status, worker_name, error_code)"
            " values (%s, gen_random_uuid(), now(), now(), now(), %s, %s, 'w', 'X')",
            (job, number, status),
        )
        connection.execute(
            "update pgflow.pending set attempt_no = %s where job_id = %s",
            (number, job),
        )


def pids(connection: Connection, job: str) -> set[int]:
    rows = connection.execute("select pid from witness where job_id = %s", (job,))
    return {row[0] for row in rows}


def states(connection: Connection, where: str = "true") -> list[tuple[str, int, int]]:
    """Return the names, pids and slots of the processes in a state."""
    return connection.execute(
        f"select name, pid, slots from pgflow.workers where {where} order by name"
    ).fetchall()


def settled(connection: Connection, *jobs: str) -> Callable[[], bool]:
    return lambda: all(status_of(connection, j) in ("succeeded", "dlq") for j in jobs)


def succeeded(connection: Connection) -> int:
    """Return how many attempts have; one query, however many jobs there are."""
    [[number]] = connection.execute(
        "select count(*) from pgflow.any_attempts where status = 'succeeded'"
    ).fetchall()
    return int(number)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def plant_gated(connection: Connection, gate: Path, **options: Any) -> str:
    payload = f'{{"gate": "{gate}"}}'
    [job] = plant(connection, job_type="gated", payload=payload, **options)
    return job


def test_a_job_lost_twice_that_hangs_stops_no_other(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    gate: Path,
) -> None:
    """It runs in a process of its own, with one slot, which is there only for it."""
    hangs = plant_gated(connection, gate, queue="first")
    lose(connection, hangs)
    plant(connection, 2000, queue="second", job_type="quick")
    start_worker("-q", "first,second", "--worker-id", "w")
    wait_until(lambda: witness(hangs), "it runs")
    wait_until(lambda: succeeded(connection) == 2000, "so do the others")
    assert status_of(connection, hangs) == "running"
    [spare] = wait_until(lambda: states(connection, "spare"), "its process is known")
    assert (spare[0], {spare[1]}, spare[2]) == ("w.spare", pids(connection, hangs), 1)
    assert [row[0] for row in states(connection, "not spare")] == ["w"]
    gate.touch()
    wait_until(settled(connection, hangs), "it ends")
    assert attempts_of(connection, hangs)[2:] == [(3, "succeeded", None)]
    wait_until(lambda: not states(connection, "spare"), "and so does its process")


def test_further_suspects_are_given_back_until_the_spare_process_is_free(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    gate: Path,
) -> None:
    first, second = (plant_gated(connection, gate) for _ in range(2))
    for job in (first, second):
        lose(connection, job)
    start_worker()
    wait_until(lambda: witness(first) or witness(second), "one of them runs")
    [other] = [job for job in (first, second) if not witness(job)]
    wait_until(
        lambda: status_of(connection, other) == "scheduled", "the other is put off"
    )
    [quick] = plant(connection, job_type="quick")
    wait_until(settled(connection, quick), "the process goes on")
    assert not witness(other)
    gate.touch()
    wait_until(settled(connection, first, second), "then it has its turn")
    for job in (first, second):
        assert attempts_of(connection, job)[2:] == [(3, "succeeded", None)]


@pytest.mark.parametrize("option", ["--drain", "--once", "--max-jobs=3"])
def test_what_ends_by_itself_has_finished_its_suspects(
    connection: Connection, start_worker: Start, witness: Witness, option: str
) -> None:
    jobs = plant(connection, 3, job_type="seen")
    for job in jobs[:2]:
        lose(connection, job)
    worker = start_worker(option, "--batch-size", "3", "--processes", "1")
    assert worker.wait() == 0
    assert {status_of(connection, job) for job in jobs} == {"succeeded"}
    assert pids(connection, jobs[0]).isdisjoint(pids(connection, jobs[2]))


def test_a_suspect_that_takes_its_process_along_is_a_crash_loop(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
) -> None:
    """The worker's own process lives on, and waits for nothing."""
    [quick] = plant(connection, job_type="seen")
    [bad] = plant(connection, job_type="poison")
    lose(connection, bad)
    start_worker("--lease-seconds", "3600")
    wait_until(settled(connection, bad, quick), "both are settled")
    [row] = connection.execute(
        "select job_id::text, dlq_reason_code from pgflow.dead_letters"
    ).fetchall()
    assert row == (bad, "CRASH_LOOP")
    [after] = plant(connection, job_type="seen")
    wait_until(settled(connection, after), "it goes on")
    assert pids(connection, quick) == pids(connection, after)


def test_a_suspect_that_outruns_its_timeout_fails_and_is_no_suspect_any_more(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
) -> None:
    """Its next attempt runs with the others; were it lost, that would be the first."""
    [job] = plant(connection, job_type="stuck", max_attempts=9)
    lose(connection, job)
    start_worker("--worker-id", "w")
    wait_until(lambda: len(attempts_of(connection, job)) > 2, "it fails")
    assert attempts_of(connection, job)[2] == (3, "failed", "TIMEOUT")
    connection.execute("update pgflow.pending set run_at = now()")
    wait_until(lambda: ("start", 4) in witness(job), "it runs again")
    [(third,), (fourth,)] = connection.execute(
        "select pid from witness where job_id = %s order by n limit 2", (job,)
    ).fetchall()
    assert third != fourth
    [row] = wait_until(
        lambda: connection.execute(
            "select worker_name from pgflow.any_attempts where attempt_no = 4"
        ).fetchall(),
        "its fourth attempt ends",
    )
    assert row == ("w",)


def test_a_drain_ends_the_spare_process_after_its_job(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    gate: Path,
) -> None:
    job = plant_gated(connection, gate)
    lose(connection, job)
    worker = start_worker()
    wait_until(lambda: witness(job), "it runs")
    worker.send(signal.SIGTERM)
    wait_until(lambda: "leasing no more" in worker.log, "the worker drains")
    gate.touch()
    assert worker.wait() == 0
    assert attempts_of(connection, job)[2:] == [(3, "succeeded", None)]


def test_a_second_signal_releases_the_suspect_uncharged(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    gate: Path,
) -> None:
    job = plant_gated(connection, gate)
    lose(connection, job)
    worker = start_worker()
    wait_until(lambda: witness(job), "it runs")
    worker.send(signal.SIGQUIT)
    assert worker.wait() == 0
    assert attempts_of(connection, job)[2] == (3, "released", None)
    assert status_of(connection, job) == "queued"


def test_a_suspect_is_canceled_where_it_runs(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    pgflow: Callable[..., Any],
    gate: Path,
) -> None:
    """A thread cannot be killed: its process ends, with or without it."""
    job = plant_gated(connection, gate)
    lose(connection, job)
    start_worker("--lease-seconds", "2")
    wait_until(lambda: witness(job), "it runs")
    assert pgflow("jobs", "cancel", job, "--kill", "--yes").returncode == 0
    assert status_of(connection, job) == "canceled"
    wait_until(lambda: not states(connection, "spare"), "its process is gone")
    assert witness(job) == [("start", 3)]


def test_a_suspect_counts_once_against_a_limit(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    gate: Path,
) -> None:
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_in_flight) values ('one', 1)"
    )
    suspect = plant_gated(connection, gate, queue="one")
    lose(connection, suspect)
    other = plant_gated(connection, gate, queue="one")
    start_worker("-q", "one")
    wait_until(lambda: witness(suspect), "it runs")
    assert not witness(other)
    gate.touch()
    wait_until(settled(connection, suspect, other), "then the other does")
    assert attempts_of(connection, other) == [(1, "succeeded", None)]


@pytest.mark.long
def test_jobs_that_kill_their_processes_stop_other_queues_for_a_few_deaths_only(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    """After two deaths in a row, a job kills a process that it shares once at most;
    without that, each of these would do so three times.
    """
    killers = plant(
        connection,
        3,
        queue="bad",
        job_type="poison_at_first",
        payload='{"times": 3}',
    )
    innocents = plant(connection, 2, queue="bad", job_type="quick")
    others = plant(connection, 20, queue="good", job_type="quick")
    worker = start_worker(
        *("-q", "bad,good", "-c", "2", "--crash-budget", "6", "--worker-id", "w"),
        "--drain",
    )
    wait_until(settled(connection, *others), "the other queue goes on", seconds=90)
    deaths = worker.log.count("worker process w ended")
    assert 2 <= deaths <= 2 + (len(killers) - 1)
    assert worker.wait() == 0
    for job in (*killers, *innocents):
        assert status_of(connection, job) == "succeeded"
    for job in killers:
        statuses = [status for _, status, _ in attempts_of(connection, job)]
        assert statuses == ["lost"] * 3 + ["succeeded"]
