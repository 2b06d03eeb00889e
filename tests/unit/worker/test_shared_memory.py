"""The supervisor sees what a worker process holds, whatever the process is doing."""

from __future__ import annotations

import math
import multiprocessing
import time
import uuid

from pgflow_cli.worker.shared_memory import GONE, SharedMemory


def memory() -> SharedMemory:
    return SharedMemory.create(multiprocessing.get_context("spawn"), runs=2, leases=3)


def new_id() -> str:
    return str(uuid.uuid4())


def test_a_lease_is_seen_until_it_is_dropped() -> None:
    shown, lease = memory(), new_id()
    shown.hold(lease, 12.5)
    assert list(shown.held()) == [lease]
    assert shown.valid_until(lease) == 12.5
    shown.drop(lease)
    assert shown.held() == {}
    assert shown.valid_until(lease) == GONE


def test_an_extension_reaches_the_process() -> None:
    shown, lease = memory(), new_id()
    shown.hold(lease, 10.0)
    shown.extend(lease, shown.held()[lease], 20.0)
    assert shown.valid_until(lease) == 20.0


def test_an_extension_for_a_lease_that_has_left_its_place_changes_nothing() -> None:
    shown, old, new = memory(), new_id(), new_id()
    shown.hold(old, 10.0)
    place = shown.held()[old]
    shown.drop(old)
    shown.hold(new, 30.0)
    shown.extend(old, place, 99.0)
    assert shown.valid_until(new) == 30.0


def test_places_are_used_again() -> None:
    shown = memory()
    for _ in range(10):
        lease = new_id()
        shown.hold(lease, 1.0)
        shown.drop(lease)
    assert shown.held() == {}


def test_a_running_job_is_seen_with_its_deadline_and_progress() -> None:
    shown, lease, job = memory(), new_id(), new_id()
    before = time.monotonic()
    shown.start(1, lease, job, deadline=50.0, attempts=(3, 1, 25))
    shown.progress(1, 4, 10)
    [run] = shown.running()
    assert (run.lease_id, run.job_id, run.deadline) == (lease, job, 50.0)
    assert (run.attempt_no, run.failed_attempts, run.max_attempts) == (3, 1, 25)
    assert run.progress == (4.0, 10.0)
    assert before <= run.started <= time.monotonic()
    shown.end(1)
    assert shown.running() == []


def test_progress_that_is_no_number_is_not_shown() -> None:
    shown = memory()
    shown.start(0, new_id(), new_id(), deadline=50.0, attempts=(1, 0, 25))
    shown.progress(0, 4, 10)
    for done, total in ((math.nan, 10), (4, math.inf)):
        shown.progress(0, done, total)
    assert [run.progress for run in shown.running()] == [(4.0, 10.0)]


def test_a_job_that_has_ended_keeps_its_place_until_it_is_settled() -> None:
    shown, lease, job = memory(), new_id(), new_id()
    shown.start(1, lease, job, deadline=50.0, attempts=(1, 0, 25))
    [running] = shown.running()
    shown.end(1)
    assert shown.running() == []
    assert shown.unsettled() == [running]
    shown.free(1)
    assert shown.unsettled() == []


def test_a_job_that_ends_without_having_started_leaves_its_place_free() -> None:
    shown = memory()
    shown.end(1)
    assert shown.unsettled() == []


def test_a_place_that_is_half_written_is_passed_over() -> None:
    shown = memory()
    shown.hold("not-an-id".ljust(36, "x"), 1.0)
    assert shown.held() == {}


def test_both_processes_see_the_same_board() -> None:
    context = multiprocessing.get_context("spawn")
    shown, lease = SharedMemory.create(context, runs=1, leases=1), new_id()
    process = context.Process(target=_hold, args=(shown, lease))
    process.start()
    process.join()
    assert list(shown.held()) == [lease]
    assert shown.turned_at() > 0


def _hold(shown: SharedMemory, lease: str) -> None:
    shown.turn()
    shown.hold(lease, 1.0)


def test_a_process_has_settled_once_a_job_that_ended_is_known_to_the_database() -> None:
    shown = memory()
    shown.free(0)  # given back, never started
    shown.start(1, new_id(), new_id(), deadline=50.0, attempts=(1, 0, 25))
    shown.end(1)
    assert not shown.has_settled()
    shown.free(1)
    assert shown.has_settled()
