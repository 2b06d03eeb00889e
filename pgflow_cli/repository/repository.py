"""The repository as its users see it: one object with every statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pgflow_cli.repository.actions import Actions
from pgflow_cli.repository.connection import Database, Link
from pgflow_cli.repository.dead_letters import DeadLetters
from pgflow_cli.repository.diagnostics import Diagnostics
from pgflow_cli.repository.identity import Identity
from pgflow_cli.repository.inspection import Inspection
from pgflow_cli.repository.leases import Leases
from pgflow_cli.repository.oversight import Oversight
from pgflow_cli.repository.overviews import Overviews
from pgflow_cli.repository.policies import Policies
from pgflow_cli.repository.producing import BorrowedLink, Producing
from pgflow_cli.repository.schema import Schema

if TYPE_CHECKING:
    import psycopg


class Repository(
    Actions,
    DeadLetters,
    Diagnostics,
    Identity,
    Inspection,
    Leases,
    Oversight,
    Overviews,
    Policies,
    Producing,
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
