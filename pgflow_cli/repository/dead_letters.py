"""Statements about dead letters."""

from __future__ import annotations

from pgflow_cli.models import DeadLetter
from pgflow_cli.repository.base import Part


class DeadLetters(Part):
    """Jobs that will not run again by themselves."""

    def list_dead_letters(self, *, limit: int) -> list[DeadLetter]:
        """Return dead letters that nobody has resolved, the latest death first."""
        return self.link.rows("list_dead_letters", DeadLetter, {"limit": limit})
