"""Medians, spreads and ratios of measured rounds; pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One figure of a scenario: what it is called, and whether more of it is better."""

    name: str
    unit: str
    more_is_better: bool = True


# What a scenario gives, round by round; None is a round in which it failed.
Rounds = Sequence[float | None]


@dataclass(frozen=True)
class Summary:
    """A figure of several rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, rounds: Rounds) -> Summary | None:
        """Summarise the rounds that have a figure."""
        found = [value for value in rounds if value is not None]
        if not found:
            return None
        return cls(statistics.median(found), min(found), max(found))


def ratio(ours: Rounds, theirs: Rounds) -> float | None:
    """The median of the ratios of the same round: neighbours disturb both alike."""
    found = [
        a / b
        for a, b in zip(ours, theirs, strict=True)
        if a is not None and b is not None and b > 0
    ]
    return statistics.median(found) if found else None


def quantile(sorted_values: Sequence[float], part: float) -> float:
    """The smallest value that `part` of all do not exceed."""
    if not sorted_values:
        raise ValueError("no values")
    rank = -(-part * len(sorted_values) // 1)  # rounded up
    return sorted_values[max(0, int(rank) - 1)]
