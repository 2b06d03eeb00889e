"""How long what failed waits before it is tried again: a job, a process. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST = 2.0  # seconds after the first failure
CAP = 900.0  # no delay is longer
SPREAD = 0.2  # of the centre, to either side

# No exponent beyond this changes the result, and 2 ** 10,000 is no float.
_DOUBLINGS = 30


def backoff_delay(
    failures: int, *, chance: Callable[[], float] = random.random
) -> float:
    """Return seconds to wait after so many failed attempts.

    2 s doubling, at most 15 min, ±20 %.

    With `chance` uniform in [0, 1):

        centre = min(2 s · 2^(failures − 1), 15 min / 1.2)
        delay  = centre · (0.8 + 0.4 · chance())

    So the nth failure waits 1.6–2.4 s, 3.2–4.8 s, … and from the tenth on 10–15 min.
    The centre is capped, not the result: a result cut at the cap would put half of the
    late retries on one instant. Equal spread around a centre is preferred to full
    jitter (0 … 2 · centre), which retries some jobs at once and tells an operator
    nothing about when.
    """
    doublings = min(max(failures, 1) - 1, _DOUBLINGS)
    centre = min(FIRST * 2.0**doublings, CAP / (1 + SPREAD))
    return min(centre * (1 - SPREAD + 2 * SPREAD * chance()), CAP)


def doubling(failures: int, *, longest: float) -> float:
    """Return 1 s, doubled with each failure so far, at most `longest`."""
    return min(longest, 2.0 ** min(failures, _DOUBLINGS))
