"""What all processes together may still lease is counted, whatever one of them does."""

from __future__ import annotations

import multiprocessing
import time
import uuid
from typing import Any

import pytest

from pgflow_cli.handlers import App
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
