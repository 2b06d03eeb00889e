"""What a process counts: every attempt once, in labels that stay few."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_cli.telemetry.counters import (
    DURATIONS,
    Counters,
    Labels,
    Tally,
    attempt_of,
    counter_rows,
    limited,
    moment,
    quantile,
    rate_rows,
)
from tests.support.leased_jobs import leased


def tally_of(*attempts, waits=()):
    tally = Tally()
    tally.count(attempts)
    tally.count_waits(waits)
    return tally


def attempt(queue="q", job_type="t", outcome="succeeded", code="", again=False):
    return queue, job_type, outcome, code, again


@pytest.mark.parametrize(
    ("status", "dead", "outcome"),
    [
        ("succeeded", False, "succeeded"),
        ("failed", False, "retried"),
        ("failed", True, "dlq"),
        ("snoozed", False, "snoozed"),
        ("released", False, "released"),
    ],
)
def test_a_failed_attempt_is_retried_or_dead(status, dead, outcome):
    counted = attempt_of(leased(attempt_no=2), status, "TIMEOUT", dead=dead)
    assert counted == ("default", "try", outcome, "TIMEOUT", True)


def test_what_is_taken_is_not_taken_again():
    counters = Counters()
    counters.count_attempts([(attempt(), 0.2)])
    taken = counters.take()
    assert taken.attempts.total() == 1
    assert not counters.take()


def test_a_wait_is_from_due_to_leased_and_never_less_than_nothing():
    counters = Counters()
    job = leased(run_at="2026-11-23 15:20:41.000000")
    counters.count_waits([job], moment("2026-11-23 15:20:43.500000"))
    counters.count_waits([job], moment("2026-11-23 15:20:40.000000"))
    waits = counters.take().waits["default"]
    assert waits.seconds == 2.5
    assert waits.buckets == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


def test_a_bound_belongs_to_its_bucket():
    tally = tally_of((attempt(), 0.005), (attempt(), 0.0051), (attempt(), 1000.0))
    buckets = tally.durations["q", "t"].buckets
    assert (buckets[0], buckets[1], buckets[-1], sum(buckets)) == (1, 1, 1, 3)


def test_what_took_no_time_of_a_handler_is_in_no_histogram():
    tally = tally_of((attempt(outcome="lost"), None))
    assert [row["metric"] for row in counter_rows(tally)] == ["attempts"]


def test_a_tally_survives_the_pipe_and_adds_up():
    one = tally_of((attempt(), 0.2), (attempt(again=True), 0.4), waits=[("q", 3.0)])
    one.dropped_lines = 3
    two = pickle.loads(pickle.dumps(one))  # noqa: S301 - our own
    two.add(one)
    [rate] = rate_rows(two)
    assert (rate["succeeded"], rate["again"]) == (4, 2)
    assert rate["seconds"] == pytest.approx(1.2)
    rows = {row["metric"]: row["count"] for row in counter_rows(limited(two, Labels()))}
    assert rows == {"attempts": 4, "duration": 4, "wait": 2, "log_lines_dropped": 6}


def test_the_two_hundred_and_first_value_of_a_label_is_other():
    labels = Labels()
    tally = tally_of(
        *((attempt(queue=f"q{n:03}", code="A"), 0.1) for n in range(201)),
        waits=[(f"q{n:03}", 1.0) for n in range(201)],
    )
    kept = limited(tally, labels)
    queues = {counted[0] for counted in kept.attempts}
    assert len(queues) == 201
    assert "other" in queues
    assert kept.attempts.total() == 201
    assert limited(tally, labels).waits.keys() == queues
    assert len(rate_rows(tally)) == 201, "rates are of queues that exist"


def test_a_quantile_lies_where_prometheus_would_put_it():
    buckets = [0] * (len(DURATIONS) + 1)
    assert quantile(buckets, 0.95) is None
    buckets[4] = 100  # 50 to 100 ms
    assert quantile(buckets, 0.5) == pytest.approx(0.075)
    assert quantile(buckets, 0.95) == pytest.approx(0.0975)
    buckets[-1] = 1000
    assert quantile(buckets, 0.95) == 300


@given(st.lists(st.integers(0, 50), min_size=15, max_size=15), st.floats(0, 1))
def test_a_quantile_is_within_the_bounds(buckets, share):
    found = quantile(buckets, share)
    assert (found is None) == (sum(buckets) == 0)
    assert found is None or 0 <= found <= 300
