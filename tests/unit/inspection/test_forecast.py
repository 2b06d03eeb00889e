"""A forecast says what the window shows, and nothing where it shows too little."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_cli.inspection.forecast import forecast, sentence, word


def over_a_minute(depth, arrived, completed, workers=4):
    return forecast(
        depth, arrived / 60, completed / 60, arrived + completed, workers, 60.0
    )


def test_a_queue_that_is_worked_off_says_when_it_is_empty():
    drain = over_a_minute(25_200, 600, 1_200)
    assert drain.verdict == "draining"
    assert drain.seconds == pytest.approx(42 * 60)
    assert sentence(drain) == "drains in ~42 min (over the last 1m)"
    assert word(drain) == "42m"


def test_a_queue_that_grows_says_how_fast_and_what_it_would_take():
    drain = over_a_minute(1_000, 320, 200, workers=4)
    assert drain.verdict == "growing"
    assert drain.seconds is None
    assert drain.per_minute == pytest.approx(120)
    assert drain.workers_needed == 3
    assert sentence(drain) == (
        "will not drain: +120/min, needs about 3 more workers (over the last 1m)"
    )
    assert word(drain) == "never"


def test_workers_that_only_keep_up_would_not_be_enough():
    assert over_a_minute(1_000, 400, 200, workers=2).workers_needed == 3


@pytest.mark.parametrize(("completed", "workers"), [(0, 4), (200, 0)])
def test_how_many_workers_are_needed_is_not_guessed(completed, workers):
    drain = over_a_minute(1_000, 320, completed, workers)
    assert drain.verdict == "growing"
    assert drain.workers_needed is None
    assert "needs" not in sentence(drain)


def test_one_worker_is_singular():
    drain = over_a_minute(1_000, 320, 200, workers=1)
    assert "needs about 1 more worker (" in sentence(drain)


@pytest.mark.parametrize(("arrived", "known"), [(19, False), (20, True)])
def test_nothing_is_foretold_from_fewer_than_twenty_samples(arrived, known):
    drain = over_a_minute(500, arrived, 0)
    assert (drain.verdict != "unknown") == known
    assert sentence(drain).startswith("will not drain" if known else "unknown")


def test_an_empty_queue_is_empty_however_little_was_seen():
    drain = over_a_minute(0, 0, 0)
    assert (drain.verdict, drain.seconds, sentence(drain)) == ("empty", 0, "empty")
    assert word(drain) == "0s"


def test_a_difference_that_chance_makes_is_called_steady():
    drain = over_a_minute(40, 5_290, 5_280)
    assert drain.verdict == "steady"
    assert sentence(drain) == "neither drains nor grows (over the last 1m)"
    assert word(drain) == "steady"


@pytest.mark.parametrize(
    ("depth", "text"),
    [
        (10, "~1 s "), (119 * 10, "~119 s "), (1_200, "~2 min "),
        (72_000, "~2 h "), (10 * 86_400 * 3, "~3 days "),
    ],
)  # fmt: skip
def test_a_forecast_has_one_unit(depth, text):
    assert text in sentence(over_a_minute(depth, 0, 600))


rates = st.floats(0, 1e6)


@given(
    st.integers(0, 10**7), rates, rates, st.integers(0, 10**6), st.integers(0, 10**4),
    st.floats(0, 1e5),
)  # fmt: skip
def test_every_forecast_can_be_said(depth, arrivals, completions, samples, n, window):
    drain = forecast(depth, arrivals, completions, samples, n, window)
    assert sentence(drain)
    assert drain.seconds is None or (
        drain.seconds >= 0 and math.isfinite(drain.seconds)
    )
    assert drain.workers_needed is None or drain.workers_needed >= 1
