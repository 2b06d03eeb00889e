"""Decides whether a database is the one whose jobs it holds, from its two identities.

A restored or cloned database must not run again what was finished elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class DatabaseIdentity:
    """What was recorded of a database, and what it is at present.

    A system identifier is None where it may not be read; every recorded field is None
    where the row is missing.
    """

    recorded_system_identifier: int | None
    present_system_identifier: int | None
    recorded_database_oid: int | None
    present_database_oid: int
    recorded_table_oid: int | None
    present_table_oid: int
    epoch: str | None
    recorded_at: datetime | None
    fenced_at: datetime | None
    fenced_by: str | None
    fence_reason: str | None

    @property
    def difference(self) -> str | None:
        """Say what tells the present database from the recorded one; None: nothing.

        A failover changes nothing of it. A restore makes the tables anew, a clone the
        database, a move to another server or a major upgrade the system identifier.
        """
        if self.recorded_database_oid is None:
            return "its identity is not recorded"
        recorded, present = (
            self.recorded_system_identifier,
            self.present_system_identifier,
        )
        if recorded is not None and present is not None and recorded != present:
            return "it is on another server than it was recorded on"
        if self.recorded_database_oid != self.present_database_oid:
            return "it is a copy of the database it was recorded in"
        if self.recorded_table_oid != self.present_table_oid:
            return "its tables were made anew, as a restore does"
        return None

    @property
    def reason(self) -> str | None:
        """Say why nothing may be leased; None: the fence is down."""
        return self.fence_reason if self.fenced_at is not None else self.difference

    @property
    def fenced(self) -> bool:
        """Whether nothing may be leased until an operator accepts the database."""
        return self.reason is not None
