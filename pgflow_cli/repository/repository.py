"""The repository as its users see it: an attribute for each noun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pgflow_cli.repository.archive import Archive
from pgflow_cli.repository.audit import AuditTrail
from pgflow_cli.repository.backups import Backups
from pgflow_cli.repository.base import Statements
from pgflow_cli.repository.connection import Link
from pgflow_cli.repository.counters import Counters
from pgflow_cli.repository.database import Database
from pgflow_cli.repository.dead_letters import DeadLetters
from pgflow_cli.repository.decisions import Decisions
from pgflow_cli.repository.diagnosis import Diagnosis
from pgflow_cli.repository.enqueue import BorrowedLink, Enqueuing
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

if TYPE_CHECKING:
    import psycopg


class Repository(Statements):
    """Every statement of pgflow over one connection, which opens at the first call.

    `repository.leases.beat()` is sql/queries/leases/beat.sql. Not for several threads
    at once.
    """

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.archive = Archive(link)
        self.audit = AuditTrail(link)
        self.backups = Backups(link)
        self.counters = Counters(link)
        self.dead_letters = DeadLetters(link)
        self.decisions = Decisions(link)
        self.diagnosis = Diagnosis(link)
        self.enqueue = Enqueuing(link)
        self.explanation = Explanations(link)
        self.fence = Fence(link)
        self.jobs = Jobs(link)
        self.leases = Leases(link)
        self.maintenance = Maintenance(link)
        self.metrics = Metrics(link)
        self.queues = Queues(link)
        self.replays = Replays(link)
        self.schema = Schema(link)
        self.unreadable_jobs = UnreadableJobs(link)
        self.unsettled_leases = UnsettledLeases(link)
        self.workers = Workers(link)

    @classmethod
    def of(cls, database: Database) -> Self:
        """Return a repository with a connection of its own."""
        return cls(Link(database))

    @classmethod
    def over(cls, connection: psycopg.Connection[Any]) -> Self:
        """Return a repository over a caller's own connection, in its transaction."""
        return cls(BorrowedLink(connection))
