"""The repository as its users see it: one object with every statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pgflow_cli.repository.archive import Archiving
from pgflow_cli.repository.audit import Actions
from pgflow_cli.repository.backups import Backups
from pgflow_cli.repository.connection import Link
from pgflow_cli.repository.database import Database
from pgflow_cli.repository.dead_letters import DeadLetters
from pgflow_cli.repository.diagnosis import Diagnostics
from pgflow_cli.repository.enqueue import BorrowedLink, Producing
from pgflow_cli.repository.explanation import Evidence
from pgflow_cli.repository.fence import Identity
from pgflow_cli.repository.jobs import Jobs
from pgflow_cli.repository.leases import Leases
from pgflow_cli.repository.maintenance import Maintaining
from pgflow_cli.repository.metrics import Measuring
from pgflow_cli.repository.oversight import Oversight
from pgflow_cli.repository.overviews import Overviews
from pgflow_cli.repository.policies import Policies
from pgflow_cli.repository.replays import Replays
from pgflow_cli.repository.schema import Schema
from pgflow_cli.repository.unreadable_jobs import Damage
from pgflow_cli.repository.unsettled_leases import Endings

if TYPE_CHECKING:
    import psycopg


class Repository(
    Actions,
    Archiving,
    Backups,
    Damage,
    DeadLetters,
    Diagnostics,
    Endings,
    Evidence,
    Identity,
    Jobs,
    Leases,
    Maintaining,
    Measuring,
    Oversight,
    Overviews,
    Policies,
    Producing,
    Replays,
    Schema,
):
    """Every statement of pgflow over one connection, which opens at the first call."""

    @classmethod
    def of(cls, database: Database) -> Self:
        """Return a repository with a connection of its own."""
        return cls(Link(database))

    @classmethod
    def over(cls, connection: psycopg.Connection[Any]) -> Self:
        """Return a repository over a caller's own connection, in its transaction."""
        return cls(BorrowedLink(connection))
