"""Array literals: always text, so that a statement is prepared once, and cheaper than
psycopg's dump of a list.
"""

from __future__ import annotations

from collections.abc import Iterable


def array(values: Iterable[str]) -> str:
    """Return an array literal of values that need no quoting: ids and numbers."""
    return "{" + ",".join(values) + "}"


def names(values: Iterable[str]) -> str:
    """Return an array literal of names and times, quoted: a queue may be
    called NULL.
    """
    return "{" + ",".join(f'"{value}"' for value in values) + "}"
