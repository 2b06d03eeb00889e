"""Statements that tell how many jobs are where."""

from __future__ import annotations

from pgflow_cli.models.jobs import TypeCounts
from pgflow_cli.repository.base import Part


class Overviews(Part):
    """Counts, for screens."""

    def count_jobs_by_type(self) -> list[TypeCounts]:
        """Return the jobs of each queue and type, counted by status."""
        return self.link.rows("count_jobs_by_type", TypeCounts)

    def suggest_names(self, kind: str, *, limit: int) -> list[tuple[str, str]]:
        """Return names of a kind and a word about each, for a shell to complete."""
        rows = self.link.tuples("suggest_names", {"kind": kind, "limit": limit})
        return [(row[0], row[1]) for row in rows]

    def holds_any_relation(self) -> bool:
        """Return whether schema pgflow holds anything yet."""
        ((held,),) = self.link.tuples("holds_any_relation")
        return bool(held)
