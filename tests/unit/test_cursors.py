"""No due job is passed over for longer than one sweep interval."""

from __future__ import annotations

from pgflow_cli.cursors import Cursors
from pgflow_cli.models import CycleReply, LeasedJob

FRONT: dict[tuple[str, int], tuple[str, str]] = {}


def job(
    run_at: str, job_id: str, *, queue: str = "default", rank: int = 0
) -> LeasedJob:
    return LeasedJob(
        "lease",
        job_id,
        queue,
        rank,
        run_at,
        1,
        "noop",
        "{}",
        25,
        None,
        None,
        None,
        0,
        0,
    )


def reply(*jobs: LeasedJob, at: str = "2026-01-01 00:00:09.000000") -> CycleReply:
    return CycleReply(scanned_at=at, lost=[], jobs=list(jobs))


def test_the_first_scan_begins_at_the_front() -> None:
    assert Cursors().begin(100.0, room=2).sweep


def test_a_scan_continues_behind_the_last_job_of_each_queue_and_rank() -> None:
    cursors = Cursors()
    started = cursors.begin(100.0, room=3)
    cursors.end(
        started,
        reply(job("t1", "a", rank=-5), job("t2", "b"), job("t3", "c")),
        100.001,
    )
    following = cursors.begin(100.002, room=3)
    assert not following.sweep
    assert following.scan.cursors == {
        ("default", -5): ("t1", "a"),
        ("default", 0): ("t3", "c"),
    }


def test_a_busy_worker_sweeps_once_the_interval_is_over() -> None:
    cursors = Cursors()
    cursors.end(cursors.begin(100.0, room=1), reply(job("t1", "a")), 100.001)
    assert not cursors.begin(100.2, room=1).sweep
    assert cursors.begin(100.252, room=1).sweep


def expensive(seconds: float, *, at: float, room: int = 1) -> Cursors:
    """Return cursors whose last three sweeps took so long; the last ended at `at`."""
    cursors = Cursors()
    for earlier in (2000.0, 1000.0, 0.0):
        end = at - earlier
        started = cursors.begin(end - seconds, room=room)
        assert started.sweep
        cursors.end(started, reply(job("2024", "a")), end)
    return cursors


def test_sweeping_takes_at_most_a_twentieth_of_the_time() -> None:
    cursors = expensive(1.0, at=5000.0)
    assert not cursors.begin(5019.9, room=1).sweep
    assert cursors.begin(5020.1, room=1).sweep


def test_one_sweep_that_was_held_up_delays_nothing() -> None:
    cursors = Cursors()
    cursors.end(cursors.begin(100.0, room=1), reply(job("t1", "a")), 101.0)
    assert cursors.begin(101.3, room=1).sweep


def test_a_scan_that_came_back_short_is_followed_by_a_sweep() -> None:
    cursors = Cursors()
    cursors.end(cursors.begin(100.0, room=5), reply(job("t1", "a")), 100.001)
    assert cursors.begin(100.001, room=5).sweep


def test_a_short_scan_after_an_expensive_sweep_waits_for_its_share() -> None:
    cursors = expensive(0.1, at=5000.0, room=5)
    assert not cursors.begin(5001.0, room=5, woken=True).sweep
    assert cursors.begin(5002.1, room=5).sweep


def test_a_short_scan_moves_every_cursor_to_the_instant_of_the_scan() -> None:
    cursors = expensive(0.1, at=5000.0)
    scan = cursors.begin(5000.3, room=5)
    cursors.end(scan, reply(job("2025-01-01 00:00:00.000000", "b")), 5000.4)
    position = cursors.begin(5000.5, room=5).scan.cursors[("default", 0)]
    assert position == (
        "2026-01-01 00:00:09.000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    )


def test_a_sweep_that_finds_a_late_job_leaves_the_cursor_where_it_was() -> None:
    cursors = Cursors()
    cursors.end(cursors.begin(100.0, room=1), reply(job("t5", "a")), 100.001)
    sweep = cursors.begin(100.5, room=1)
    cursors.end(sweep, reply(job("t2", "b")), 100.501)
    assert cursors.begin(100.502, room=1).scan.cursors == {("default", 0): ("t5", "a")}


def test_two_connections_do_not_sweep_at_the_same_time() -> None:
    cursors = Cursors()
    cursors.end(cursors.begin(100.0, room=1), reply(job("t1", "a")), 100.01)
    assert cursors.begin(101.0, room=1).sweep
    assert not cursors.begin(101.0, room=1).sweep


def test_queues_take_turns_after_the_one_served_last() -> None:
    cursors = Cursors()
    cursors.end(
        cursors.begin(100.0, room=1), reply(job("t1", "a", queue="emails")), 100.001
    )
    assert cursors.begin(100.002, room=1).scan.last_queue == "emails"


def test_after_an_outage_everything_is_looked_at_again() -> None:
    cursors = Cursors()
    cursors.end(cursors.begin(100.0, room=1), reply(job("t1", "a")), 100.001)
    cursors.forget()
    again = cursors.begin(100.002, room=1)
    assert again.sweep
    assert again.scan.cursors == FRONT
