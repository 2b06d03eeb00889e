"""Statements about which database this is."""

from __future__ import annotations

from pgflow_cli.models.fence import DatabaseIdentity, Interrupted
from pgflow_cli.repository.base import Statements
from pgflow_cli.repository.unsettled_leases import UnsettledLeases


class Fence(Statements):
    """The fence around a database that was restored or cloned."""

    def read_identity(self) -> DatabaseIdentity:
        """Return the recorded identity of the database, and its present one."""
        return self.link.rows("read_identity", DatabaseIdentity)[0]

    def lock_identity(self) -> None:
        """Lock the identity of the database until the transaction ends."""
        self.link.tuples("lock_identity")

    def record_identity(self) -> str:
        """Record the present identity as the right one; return the new epoch."""
        return str(self.link.tuples("record_identity")[0][0])

    def raise_fence(
        self, reason: str, *, fenced_by: str, seen_epoch: str | None = None
    ) -> bool:
        """Raise the fence: no job is leased until the database is accepted.

        With `seen_epoch`, only if the fence was neither raised nor accepted since that
        epoch was read. Returns whether it was raised.
        """
        rows = self.link.tuples(
            "raise_fence",
            {"reason": reason, "fenced_by": fenced_by, "seen_epoch": seen_epoch},
        )
        return bool(rows)

    def count_interrupted(self) -> Interrupted:
        """Count what an acceptance of the database would touch."""
        return self.link.rows("count_interrupted", Interrupted)[0]

    def remove_loaded_rows(self) -> int:
        """Remove what a dump has brought back that was loaded over the schema: entries
        of jobs that have ended or gone on, and jobs that had been archived or pruned;
        count it.

        Live leases keep theirs. What is left is in one place, and numbers go on.
        """
        with self.transaction():
            UnsettledLeases(self.link).lock_interrupted_leases()
            removed = self.link.count("remove_archived_copies")
            removed += self.link.count("remove_reloaded_jobs")
            removed += self.link.count("trim_interrupted_leases")
            removed += self.link.count("remove_second_entries")
            self.link.tuples("advance_sequences")
            self.link.count("reset_restore_marker")
        return removed

    def forget_workers_of_before(self) -> int:
        """Remove the workers that have sent no heartbeat since the fence was raised."""
        return self.link.count("forget_workers_of_before")

    def pause_every_queue(self, *, actor: str, note: str) -> list[str]:
        """Pause the queues that are not paused without an end; return their names."""
        rows = self.link.tuples("pause_every_queue", {"actor": actor, "note": note})
        return [row[0] for row in rows]
