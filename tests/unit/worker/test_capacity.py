"""What all processes together may still lease is counted, whatever one of them does."""

from __future__ import annotations

import multiprocessing
import time
import uuid
from typing import Any

import pytest

from pgflow_cli.handlers import App
from pgflow_cli.models.jobs import LeasedJob
from pgflow_cli.worker.execution.slots import Slots
from pgflow_cli.worker.leasing import capacity
from pgflow_cli.worker.leasing.capacity import Capacity, left_to_lease
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.shared_memory import SharedMemory

CONTEXT = multiprocessing.get_context("spawn")


@pytest.fixture
def remaining() -> Any:
    return CONTEXT.Value("q", 5, lock=CONTEXT.Lock())


@pytest.fixture
def taking(remaining: Any) -> Capacity:
    return capacity_of(remaining, max_jobs=5)


def capacity_of(remaining: Any, **options: Any) -> Capacity:
    worker_options = WorkerOptions(
        url="", concurrency=4, name=str(uuid.uuid4()), **options
    )
    memory = SharedMemory.create(CONTEXT, runs=4, leases=4)
    memory.renew(time.monotonic())
    app = App()
    app.handler("quick")(lambda job: None)
    return Capacity(
        worker_options, memory, app, Slots(4, memory, lambda _: []), remaining
    )


def test_no_more_is_reserved_than_is_left(taking: Capacity, remaining: Any) -> None:
    assert taking.reserve(0) == 5
    assert taking.reserve(0) == 0
    taking.confirm(5, 0, leased=2)
    assert left_to_lease(remaining) == 3


def test_a_holder_of_the_count_that_is_frozen_holds_up_no_thread(
    taking: Capacity, remaining: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "LOCKED", 0.01)
    room = taking.reserve(0)
    remaining.get_lock().acquire()
    assert left_to_lease(remaining) == 0
    taking.confirm(room, 0)  # nothing was leased: all of it goes back
    assert taking.reserve(0) == 0
    assert not taking.finished()
    remaining.get_lock().release()
    assert taking.reserve(0) == 5
    assert left_to_lease(remaining) == 0


def test_a_look_in_vain_is_shown_if_nothing_was_held_or_asked_for_meanwhile(
    remaining: Any,
) -> None:
    shared = capacity_of(remaining)
    room = shared.reserve(0)
    shared.found_nothing(shared.begin_search(room), 12.5)
    assert shared.memory.drained_at() == 12.5
    search = shared.begin_search(room)
    shared.ask()  # another connection
    assert shared.memory.drained_at() == 0.0
    shared.found_nothing(search, 13.5)
    assert shared.memory.drained_at() == 0.0
    shared.confirm(room, 0, leased=1)
    shared.found_nothing(shared.begin_search(shared.reserve(0)), 14.5)
    assert shared.memory.drained_at() == 0.0


def test_once_leases_no_second_batch_and_gives_nothing_of_the_first_back(
    remaining: Any,
) -> None:
    """`ending` would give back what has not started, as its threads are about to."""
    once = capacity_of(remaining, once=True)
    once.confirm(once.reserve(0), 0, leased=2)
    assert once.reserve(0) == 0
    assert not once.ending
    assert not once.finished()
    once.confirm(once.reserve(2), 2, settled=2)
    assert once.finished()


def test_a_process_is_wary_of_what_was_lost_once_for_a_minute() -> None:
    """Most of that is innocent: apart, a storm's victims would wait for each other."""
    began = time.monotonic()
    wary = capacity_of(None, wary=True)
    usual = capacity_of(None)
    lost = [job_that_was_lost(times) for times in (0, 1, 2)]
    for asked, after, apart in (
        (wary, 30.0, 2),
        (wary, 61.0, 1),
        (usual, 30.0, 1),
    ):
        asked.suspects.clear()
        asked.accept(lost, lambda _: None, began + after)
        assert len(asked.suspects) == apart, after


def job_that_was_lost(times: int) -> LeasedJob:
    run_at = "2026-12-01 00:00:00.000000"
    return LeasedJob(
        "lease", str(uuid.uuid4()), "default", 0, run_at, 1 + times, "quick", "{}", 25,
        None, None, None, 0, times,
    )  # fmt: skip
