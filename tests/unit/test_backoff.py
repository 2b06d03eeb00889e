"""Back-off: 2 s doubling, at most 15 min, ±20 %, and never on one instant."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_cli.handlers import outcomes

chances = st.floats(0, 1, exclude_max=True)


@given(failures=st.integers(1, 10_000), chance=chances)
def test_every_delay_is_positive_and_within_the_cap(
    failures: int, chance: float
) -> None:
    assert 0 < outcomes.backoff_delay(failures, chance=lambda: chance) <= 900


@given(failures=st.integers(1, 10_000), chance=chances)
def test_every_delay_lies_within_a_fifth_of_its_centre(
    failures: int, chance: float
) -> None:
    centre = min(2.0 * 2 ** min(failures - 1, 40), 750.0)
    delay = outcomes.backoff_delay(failures, chance=lambda: chance)
    assert centre * 0.8 <= delay <= centre * 1.2 + 1e-9


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 2), (2, 4), (3, 8), (9, 512), (10, 750), (64, 750)]
)
def test_the_centre_doubles_until_the_cap(failures: int, seconds: float) -> None:
    assert outcomes.backoff_delay(failures, chance=lambda: 0.5) == pytest.approx(
        seconds
    )


@pytest.mark.parametrize("failures", [1, 2, 10, 64, 10_000])
def test_a_thousand_retries_never_meet_on_one_instant(failures: int) -> None:
    chance = random.Random(failures).random
    instants = Counter(
        round(outcomes.backoff_delay(failures, chance=chance), 3) for _ in range(1_000)
    )
    assert max(instants.values()) <= 10


@pytest.mark.parametrize("failures", [0, -1, -(10**9)])
def test_a_count_that_cannot_be_waits_like_the_first(failures: int) -> None:
    assert 1.6 <= outcomes.backoff_delay(failures) <= 2.4


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 1), (1, 2), (4, 16), (5, 30), (10_000, 30)]
)
def test_a_pause_doubles_until_the_longest(failures: int, seconds: float) -> None:
    assert outcomes.doubling(failures, longest=30.0) == seconds
