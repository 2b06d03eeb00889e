"""The repository as its users see it: an attribute for each noun."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from pgflow_cli.repository.base import Statements
from pgflow_cli.repository.connection import Link
from pgflow_cli.repository.enqueue import BorrowedLink, Enqueuing

if TYPE_CHECKING:
    import psycopg

    from pgflow_cli.repository.archive import Archive
    from pgflow_cli.repository.audit import AuditTrail
    from pgflow_cli.repository.backups import Backups
    from pgflow_cli.repository.counters import Counters
    from pgflow_cli.repository.database import Database
    from pgflow_cli.repository.dead_letters import DeadLetters
    from pgflow_cli.repository.decisions import Decisions
    from pgflow_cli.repository.diagnosis import Diagnosis
    from pgflow_cli.repository.explanation import Explanations
    from pgflow_cli.repository.fence import Fence
    from pgflow_cli.repository.jobs import Jobs
    from pgflow_cli.repository.leases import Leases
    from pgflow_cli.repository.maintenance import Maintenance
    from pgflow_cli.repository.metrics import Metrics
    from pgflow_cli.repository.queues import Queues
    from pgflow_cli.repository.replays import Replays
    from pgflow_cli.repository.schema import Schema
    from pgflow_cli.repository.unreadable_jobs import UnreadableJobs
    from pgflow_cli.repository.unsettled_leases import UnsettledLeases
    from pgflow_cli.repository.workers import Workers


class Repository(Statements):
    """Every statement of pgflow over one connection, which opens at the first call.

    `repository.leases.beat()` is sql/queries/leases/beat.sql. Not for several threads
    at once. A noun is loaded when it is first used: all of them take longer than the
    driver, and a command uses three. Raises `AttributeError` for one that is not here.
    """

    archive: Archive
    audit: AuditTrail
    backups: Backups
    counters: Counters
    dead_letters: DeadLetters
    decisions: Decisions
    diagnosis: Diagnosis
    enqueue: Enqueuing
    explanation: Explanations
    fence: Fence
    jobs: Jobs
    leases: Leases
    maintenance: Maintenance
    metrics: Metrics
    queues: Queues
    replays: Replays
    schema: Schema
    unreadable_jobs: UnreadableJobs
    unsettled_leases: UnsettledLeases
    workers: Workers

    def load(self, *nouns: str) -> None:
        """Load these nouns now, or all: a process that runs for long must not find
        another release's files later, nor wait for an import lock that a handler holds.
        """
        for noun in nouns or NOUNS:
            getattr(self, noun)

    if not TYPE_CHECKING:  # or each attribute would be one

        def __getattr__(self, noun: str) -> Statements:
            if noun not in NOUNS:
                raise AttributeError(f"the repository has no {noun!r}")
            module = import_module(f"pgflow_cli.repository.{noun}")
            made = getattr(module, NOUNS[noun])(self.link)
            setattr(self, noun, made)
            return made

    @classmethod
    def of(cls, database: Database) -> Self:
        """Return a repository with a connection of its own."""
        return cls(Link(database))

    @classmethod
    def over(cls, connection: psycopg.Connection[Any]) -> Self:
        """Return a repository over a caller's own connection, in its transaction."""
        return cls(BorrowedLink(connection))


# The class of each noun, by the noun, which is its module's name, too.
NOUNS: dict[str, str] = Repository.__annotations__
