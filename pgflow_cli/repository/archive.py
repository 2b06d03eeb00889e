"""Statements of the archive, and of what is removed for good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pgflow_cli.models.maintenance import Moved, PartitionDay, Removed, Transfer
from pgflow_cli.models.schema import PartitionPlan
from pgflow_cli.repository.base import Statements

_FIRST = "00000000-0000-0000-0000-000000000000"
_LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"


class Archive(Statements):
    """What `maintain` moves to the archive, and removes from it."""

    def list_partition_days(self, *, before: datetime) -> list[PartitionDay]:
        """Return the days before a time that have partitions, the oldest first."""
        return self.link.rows("list_partition_days", PartitionDay, {"before": before})

    def list_stragglers(
        self, day: PartitionDay, *, cut: datetime, limit: int
    ) -> list[str]:
        """Return jobs of a day that have not succeeded before the cut."""
        wanted = {**_range(day), "cut": cut, "limit": limit}
        return [row[0] for row in self.link.tuples("list_stragglers", wanted)]

    def list_jobs_of_day(self, day: PartitionDay, *, limit: int) -> list[str]:
        """Return jobs of a day that are not archived."""
        wanted = {**_range(day), "limit": limit}
        return [row[0] for row in self.link.tuples("list_jobs_of_day", wanted)]

    def has_late_attempts(self, day: PartitionDay, *, since: datetime) -> bool:
        """Return whether an attempt of the day's jobs ended after a time."""
        wanted = {**_range(day), "since": since}
        return bool(self.link.tuples("has_late_attempts", wanted)[0][0])

    def plan_transfer(
        self, parent: str, day: PartitionDay, *, staying: Sequence[str] = ()
    ) -> Transfer | None:
        """Return how a day's partition is given to the archive, if it is there."""
        wanted = {"parent": parent, **_range(day), "staying": list(staying)}
        return next(iter(self.link.rows("plan_transfer", Transfer, wanted)), None)

    def check_partition(self, checks: Sequence[str], *, lock_timeout: float) -> None:
        """Validate the partition's check constraint: each row belongs to its day.

        It may take long, and blocks no other session meanwhile. Raises `Contention`.
        """
        for statement in checks:
            with self.transaction():
                self.link.limit_statements(0)
                self.link.limit_lock_waits(round(lock_timeout * 1000))
                self.link.run_text(statement)

    def plan_archive_partition(self, day: PartitionDay) -> list[PartitionPlan]:
        """Return the partitions of the archives that a day lacks."""
        return self.link.rows("plan_archive_partition", PartitionPlan, _range(day))

    def archive_jobs_of_day(
        self, day: PartitionDay, *, after: str | None, cut: datetime, limit: int
    ) -> Moved:
        """Move the next succeeded jobs of a day to the archive."""
        wanted = {
            **_range(day),
            "after": after or _FIRST,
            "cut": cut,
            "limit": limit,
        }
        return self.link.rows("archive_jobs_of_day", Moved, wanted)[0]

    def archive_stray_jobs(
        self, *, after: str | None, cut: datetime, limit: int
    ) -> Moved:
        """Move the next succeeded jobs that have no day to the archive."""
        wanted = {
            "first_id": _FIRST,
            "end_id": _LAST,
            "after": after or _FIRST,
            "cut": cut,
            "limit": limit,
        }
        return self.link.rows("archive_stray_jobs", Moved, wanted)[0]

    def count_stray_jobs(self, *, cut: datetime, limit: int) -> int:
        """Return how many jobs `archive_stray_jobs` would move, at most `limit`."""
        wanted = {"cut": cut, "limit": limit}
        return int(self.link.tuples("count_stray_jobs", wanted)[0][0])

    def remember_sweep(self, day: PartitionDay) -> None:
        """Record that a day was searched for jobs to archive."""
        self.link.count("remember_sweep", {"day": day.day})

    def forget_sweeps(self) -> None:
        """Delete the records of searched days whose partitions are gone."""
        self.link.count("forget_sweeps")

    def measure_partition(self, parent: str, day: PartitionDay, *, limit: int) -> int:
        """Return how many rows a day has: counted up to a limit, then estimated."""
        wanted = {"parent": parent, **_range(day), "limit": limit}
        ((counted, estimated),) = self.link.tuples("measure_partition", wanted)
        return int(counted if counted < limit else max(counted, estimated))

    def plan_drop(self, parent: str, day: PartitionDay) -> list[PartitionPlan]:
        """Return how a day of the archive is removed; nothing if it is not there."""
        wanted = {"parent": parent, "day": day.day, "end_id": day.end_id}
        return self.link.rows("plan_drop", PartitionPlan, wanted)

    def prune_archived_jobs(
        self, *, after: str | None, before: datetime, limit: int, dry_run: bool
    ) -> Moved:
        """Remove the next archived jobs that have no day, with their attempts."""
        wanted = {
            "after": after or _FIRST,
            "before": before,
            "limit": limit,
            "dry_run": dry_run,
        }
        return self.link.rows("prune_archived_jobs", Moved, wanted)[0]

    def prune_policy_decisions(
        self, *, before: datetime, limit: int, dry_run: bool
    ) -> int:
        """Remove the oldest policy decisions."""
        wanted = {"before": before, "limit": limit, "dry_run": dry_run}
        return int(self.link.tuples("prune_policy_decisions", wanted)[0][0])

    def prune_ingest_decisions(
        self, *, before: datetime, limit: int, dry_run: bool
    ) -> int:
        """Remove the oldest ingest decisions."""
        wanted = {"before": before, "limit": limit, "dry_run": dry_run}
        return int(self.link.tuples("prune_ingest_decisions", wanted)[0][0])

    def prune_operator_actions(self, *, limit: int, dry_run: bool) -> int:
        """Remove what operators did more than ninety days ago."""
        wanted = {"limit": limit, "dry_run": dry_run}
        return int(self.link.tuples("prune_operator_actions", wanted)[0][0])

    def prune_dead_letters(self, *, before: str, limit: int) -> Removed:
        """Remove dead letters that were resolved before a time, with their jobs."""
        wanted = {"before": before, "limit": limit}
        with self.transaction():
            locked = self.link.tuples("lock_resolved_dead_letters", wanted)
            chosen = {"job_ids": [row[0] for row in locked], "before": before}
            return self.link.rows("prune_dead_letters", Removed, chosen)[0]

    def prune_canceled_jobs(self, *, before: str, limit: int) -> Removed:
        """Remove jobs that were canceled before a time."""
        wanted = {"before": before, "limit": limit}
        return self.link.rows("prune_canceled_jobs", Removed, wanted)[0]

    def count_resolved_jobs(self, *, before: str, limit: int) -> tuple[int, int]:
        """Return how many dead letters and canceled jobs would be removed."""
        wanted = {"before": before, "limit": limit}
        ((dead, canceled),) = self.link.tuples("count_resolved_jobs", wanted)
        return int(dead), int(canceled)


def _range(day: PartitionDay) -> dict[str, object]:
    return {"day": day.day, "first_id": day.first_id, "end_id": day.end_id}
