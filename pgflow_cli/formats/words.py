"""Ids, counts and lists in a sentence for a reader; pure."""

from __future__ import annotations

from collections.abc import Sequence

# Characters of an id's end: 32 random bits tell the jobs of a screen apart.
SHORT_ID = 8


def short_id(identity: str) -> str:
    """Return the end of an id, as on every screen: its beginning is a time."""
    return identity[-SHORT_ID:]


def up_to(most: int, number: int) -> str:
    """Return a number that was counted no further than one past `most`."""
    return f"{most:,}+" if number > most else f"{number:,}"


def plural(number: int, one: str, many: str = "") -> str:
    """Return `1 job`, `12 jobs`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some(names: Sequence[str], most: int = 5) -> str:
    """Name the first few, and count the others."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
