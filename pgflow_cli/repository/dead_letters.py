"""Statements about dead letters."""

from __future__ import annotations

from collections.abc import Sequence

from pgflow_cli.models.dead_letters import (
    DeadLetter,
    DeadLetterCount,
    DeadLetterGroup,
    DeathCount,
    ExportedLetter,
    LookedUpJob,
)
from pgflow_cli.models.selection import JobFilter, Position, after_parameters
from pgflow_cli.repository.base import Statements

ALL = JobFilter()


class DeadLetters(Statements):
    """Dead letters: jobs that run again only if an operator replays them."""

    def list_dead_letters(
        self,
        chosen: JobFilter = ALL,
        *,
        limit: int,
        after: Position | None = None,
        include_resolved: bool = False,
    ) -> list[DeadLetter]:
        """Return dead letters, the latest death first; open ones, unless told."""
        parameters = {
            **chosen.parameters(),
            **after_parameters(after),
            "limit": limit,
            "include_resolved": include_resolved,
        }
        return self.link.rows("list_dead_letters", DeadLetter, parameters)

    def list_newest_dead_letters(
        self,
        chosen: JobFilter = ALL,
        *,
        limit: int,
        after: Position | None = None,
        resolved: bool | None = False,
    ) -> list[DeadLetter]:
        """Return dead letters, newest job first; `resolved` None: open or not."""
        parameters = {
            **chosen.parameters(),
            **after_parameters(after),
            "limit": limit,
            "resolved": resolved,
        }
        return self.link.rows("list_newest_dead_letters", DeadLetter, parameters)

    def count_dead_letters(
        self, chosen: JobFilter = ALL, *, limit: int
    ) -> list[DeadLetterCount]:
        """Count the latest so many by error code, and as many resolved ones."""
        parameters = {**chosen.parameters(), "limit": limit}
        return self.link.rows("count_dead_letters", DeadLetterCount, parameters)

    def group_dead_letters(
        self, chosen: JobFilter, *, by: str, limit: int, include_resolved: bool = False
    ) -> list[DeadLetterGroup]:
        """Return groups by one of `letters.KEYS`, the largest first."""
        parameters = {
            **chosen.parameters(),
            "by": by,
            "limit": limit,
            "include_resolved": include_resolved,
        }
        return self.link.rows("group_dead_letters", DeadLetterGroup, parameters)

    def count_deaths(
        self, chosen: JobFilter, *, by: str, bucket: float, limit: int
    ) -> list[DeathCount]:
        """Count by time in buckets of so many seconds, the latest first."""
        parameters = {
            **chosen.parameters(),
            "by": by,
            "bucket": bucket,
            "limit": limit,
        }
        return self.link.rows("count_deaths", DeathCount, parameters)

    def export_dead_letters(
        self, chosen: JobFilter, *, limit: int, after: Position | None = None
    ) -> list[ExportedLetter]:
        """Return open dead letters with their payloads, the latest death first."""
        parameters = {
            **chosen.parameters(),
            **after_parameters(after),
            "limit": limit,
        }
        return self.link.rows("export_dead_letters", ExportedLetter, parameters)

    def choose_dead_letters(
        self,
        chosen: JobFilter,
        *,
        limit: int | None = None,
        newest_first: bool = False,
        again: bool = False,
        readable: bool = False,
    ) -> list[str]:
        """Return the ids of open dead letters; `again`: and of those replayed.
        `readable`: not of those whose job's row cannot be read.
        """
        parameters = {
            **chosen.parameters(),
            "limit": limit,
            "newest_first": newest_first,
            "again": again,
            "readable": readable,
        }
        rows = self.link.tuples("choose_dead_letters", parameters)
        return [row[0] for row in rows]

    def look_up_jobs(self, job_ids: Sequence[str]) -> list[LookedUpJob]:
        """Return the state of each of these jobs, in their order."""
        parameters = {"job_ids": list(job_ids)}
        return self.link.rows("look_up_jobs", LookedUpJob, parameters)

    def discard_dead_letters(
        self, job_ids: Sequence[str], *, action_id: int
    ) -> list[str]:
        """Resolve those that are open as discarded; return which."""
        parameters = {"job_ids": list(job_ids), "action_id": action_id}
        return [row[0] for row in self.link.tuples("discard_dead_letters", parameters)]

    def delete_dead_letters(self, job_ids: Sequence[str]) -> list[str]:
        """Remove those that are open, their jobs and attempts; return which."""
        parameters = {"job_ids": list(job_ids)}
        with self.transaction():
            self.link.tuples("lock_dead_letters", parameters)
            rows = self.link.tuples("delete_dead_letters", parameters)
        return [row[0] for row in rows]
