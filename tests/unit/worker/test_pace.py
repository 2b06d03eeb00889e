"""A process learns what its jobs are like, and is not misled by one of them."""

from __future__ import annotations

from pgflow_cli.worker.execution.pace import Pace


def noted(*jobs: tuple[float, float]) -> Pace:
    pace = Pace()
    for took, worked in jobs:
        pace.note(took, worked)
    return pace


def test_nothing_is_known_before_the_first_job() -> None:
    assert Pace().look() is None


def test_jobs_that_wait_are_told_from_jobs_that_compute() -> None:
    waiting = noted(*[(0.05, 0.001)] * 5)
    assert waiting.look() == 0.05
    assert not waiting.computing
    computing = noted(*[(0.05, 0.0499)] * 5)
    computing.look()
    assert computing.computing


def test_one_job_that_waited_for_the_interpreter_changes_nothing() -> None:
    pace = noted(*[(0.00001, 0.00001)] * 20, (0.5, 0.00001))
    assert pace.look() == 0.00001
    assert pace.computing


def test_only_the_newest_jobs_count() -> None:
    pace = noted(*[(0.00001, 0.00001)] * 100, *[(1.0, 0.0)] * 31)
    assert pace.look() == 1.0
    assert not pace.computing


def test_no_time_at_all_is_still_a_time() -> None:
    assert noted((0.0, 0.0)).look() == 1e-6
