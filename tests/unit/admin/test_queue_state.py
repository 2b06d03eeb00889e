"""The state of a queue: one label, of the gravest thing that is true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pgflow_cli.admin.ui.queue_state import queue_state
from tests.unit.cli.test_top import DEFAULT, EMAILS, look


@pytest.mark.parametrize(
    ("measure", "status", "label", "tone"),
    [
        ({"paused": True, "expired_leases": 2}, {}, "paused", "warn"),
        ({}, {"workers": 0}, "no worker", "bad"),
        ({"expired_leases": 2}, {}, "lost leases", "warn"),
        ({}, {"error_percent": 60.0}, "failing", "bad"),
        ({}, {"error_percent": 1.0}, "dead letters", "bad"),
        ({}, {"error_percent": 1.0, "deaths_per_minute": 0.0}, "throttled", "warn"),
        (
            {"max_in_flight": None, "max_attempts_per_minute": 1000},
            {"error_percent": 1.0, "deaths_per_minute": 0.0},
            "throttled",
            "warn",
        ),
        (
            {"max_in_flight": None},
            {"error_percent": 1.0, "deaths_per_minute": 0.0},
            "growing",
            "warn",
        ),
    ],
)
def test_a_queue_is_called_by_the_gravest_thing_that_is_true(
    measure: dict[str, Any], status: dict[str, Any], label: str, tone: str
) -> None:
    [found] = look(EMAILS).census.queues
    found = replace(found, measure=replace(found.measure, **measure), **status)

    shown = queue_state(found)

    assert (shown.label, shown.tone) == (label, tone)
    assert shown.hint


def test_a_queue_that_works_is_ok_and_one_in_which_nothing_happens_is_idle() -> None:
    [busy] = look(DEFAULT).census.queues
    [empty] = look(replace(DEFAULT, running=0)).census.queues

    assert queue_state(busy).label == "ok"
    assert queue_state(empty).label == "idle"
