"""What a worker says of a job that left its slots, and for how long it looks for
batches that it may have leased.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from pgflow_cli import handlers
from pgflow_cli.handlers import App
from pgflow_cli.handlers.outcomes import SUCCEEDED
from pgflow_cli.worker.execution.run import Run
from pgflow_cli.worker.leasing.doubts import LOOK, Doubts
from pgflow_cli.worker.leasing.settlement import settlement_of
from pgflow_cli.worker.options import WorkerOptions
from tests.support.leased_jobs import leased

app = App()
app.handler("try")(lambda job: None)
TRY = app.handlers["try"]


def run(**changes: Any) -> Run:
    made = Run(leased(), TRY, lambda _: None, 0.0, 60.0)
    made.started, made.ended = 10.0, 12.0
    made.job = handlers.prepare(TRY, made.leased)
    made.outcome = SUCCEEDED
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_an_outcome_is_written_with_its_instants() -> None:
    written = settlement_of(run(), 15.0, valid_until=20.0)
    assert (written.status, written.started_ago, written.ended_ago) == (
        "succeeded",
        5.0,
        3.0,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"ended": 20.0},  # its lease had run out
        {"outcome": handlers.CANCELED},
        {"outcome": None},  # stopped, because its lease was lost
        {"settled": True},
        {"refused": True},
        {"refused": True, "job": None, "outcome": None},
    ],
)
def test_what_is_not_written_is_left(changes: dict[str, Any]) -> None:
    assert settlement_of(run(**changes), 21.0, valid_until=20.0).status == "left"


def test_a_job_that_never_started_is_given_back() -> None:
    back = settlement_of(run(job=None, outcome=None), 21.0, valid_until=20.0)
    assert (back.status, back.run_at) == ("unstarted", f"{leased().run_at}+00")


def test_what_is_sent_again_is_the_same_though_the_lease_is_gone_by_now() -> None:
    ended = run()
    assert settlement_of(ended, 15.0, valid_until=20.0).status == "succeeded"
    assert settlement_of(ended, 99.0, valid_until=-1.0).status == "succeeded"


@pytest.mark.parametrize("started", [99.0, math.nan, -math.inf, math.inf])
def test_a_clock_that_a_handler_has_replaced_makes_no_impossible_duration(
    started: float,
) -> None:
    written = settlement_of(run(started=started), 15.0, valid_until=20.0)
    assert 0.0 <= written.started_ago < 1e9


def test_a_batch_is_looked_for_until_two_leases_have_passed() -> None:
    doubts = Doubts(10.0)
    doubts.add("a", 100.0)
    assert doubts.due(100.0) == ["a"]
    doubts.looked(set(), 100.0)
    assert doubts.due(100.0 + LOOK / 2) == []
    assert doubts.pause(100.0) == LOOK
    assert doubts.due(119.0) == ["a"]
    doubts.looked(set(), 119.0)
    assert doubts.due(121.0) == ["a"], "only a look that comes later can say so"
    doubts.looked(set(), 121.0)
    assert doubts.due(200.0) == []
    assert doubts.pause(200.0) is None


def test_a_batch_that_was_found_is_looked_for_no_more() -> None:
    doubts = Doubts(10.0)
    doubts.add("a", 100.0)
    doubts.add("b", 101.0)
    doubts.looked({"a"}, 101.0)
    assert doubts.due(102.0) == ["b"]


def test_a_process_waits_for_a_lease_of_doubt_before_it_ends() -> None:
    doubts = Doubts(10.0)
    assert not doubts.pressing(100.0)
    doubts.add("a", 100.0)
    assert doubts.pressing(109.0)
    assert not doubts.pressing(110.0)


def test_a_process_has_places_for_all_that_its_connections_may_hold() -> None:
    options = WorkerOptions("", concurrency=8, batch_size=256, connections=2)
    assert options.places == 2 * (8 + 4 * 256) + 1
    # With slots enough for more than the batches, as many jobs wait as run.
    assert replace(options, concurrency=2000).places == 2 * (2000 + 2000) + 1
