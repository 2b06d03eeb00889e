"""Every error an operator may read, with its exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class PgflowError(Exception):
    """An error that is explained to the operator without a traceback.

    The message is one lower-case sentence without a full stop that names the thing and
    the next step. `hints` are further lines, printed indented below it.
    """

    exit_code = 1

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.message = message
        self.hints = hints


class UsageError(PgflowError):
    """What was typed, or a field of a job, is not acceptable.

    `details` tells which jobs of several: their `ordinals`, and the `problems` of each.
    """

    exit_code = 2

    def __init__(
        self, message: str, *hints: str, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message, *hints)
        self.details = dict(details or {})


class ConnectionUnfit(UsageError, TypeError):
    """A caller's connection through which nothing can be enqueued: not a sync one of
    psycopg, in a transaction or pipeline that has failed, or busy. Nothing was sent.
    """


class OutOfRange(UsageError):
    """A time that is out of range."""


class NotFound(PgflowError):
    """There is no such job, queue or file, or an id is ambiguous."""

    exit_code = 3


class Ambiguous(NotFound):
    """The end of an id fits several jobs: `candidates` are their ids, or some."""

    def __init__(self, message: str, *hints: str, candidates: Sequence[str]) -> None:
        super().__init__(message, *hints)
        self.candidates = [*candidates]


class Refused(PgflowError):
    """A guard or the state of a job forbids it.

    `reason_code` is the code of the ingest decision, `details` its evidence; neither
    ever holds payload.
    """

    exit_code = 4

    def __init__(
        self,
        message: str,
        *hints: str,
        reason_code: str = "REFUSED",
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, *hints)
        self.reason_code = reason_code
        self.details = dict(details or {})


class CheckFailed(PgflowError):
    """A check found what it looks for."""

    exit_code = 5


class DatabaseUnavailable(PgflowError):
    """The database does not answer, or does not take writes."""

    exit_code = 69


class Unadmitted(DatabaseUnavailable):
    """A server answers, and takes no connection now."""


class TooSlow(DatabaseUnavailable):
    """A statement has taken longer than it may."""


class OutcomeUnknown(DatabaseUnavailable):
    """The connection was lost, or a commit only half confirmed: the statement may or
    may not have happened.
    """


class Undecodable(OutcomeUnknown):
    """A job was leased whose text cannot be decoded; what was leased with it is not
    known.
    """


class SoftwareFault(PgflowError):
    """Something that should not happen; the traceback has been saved."""

    exit_code = 70


class StatementFailed(SoftwareFault):
    """The database refused a statement for an unexpected reason: a bug of pgflow."""


class DataDamaged(StatementFailed):
    """The server cannot read a page or a file of the database: no outage, for what lies
    elsewhere goes on, and no fault of ours.
    """

    exit_code = 74


class LeasesRefused(StatementFailed):
    """The database refused the end of leases: `lease_ids`."""

    def __init__(self, message: str, *hints: str, lease_ids: Sequence[str]) -> None:
        super().__init__(message, *hints)
        self.lease_ids = [*lease_ids]


REFUSALS = (StatementFailed, Refused, UsageError)
"""What a trigger may make of a statement: it may enqueue, and be refused that."""


class OutputFailed(PgflowError):
    """A file cannot be written."""

    exit_code = 74


class StdoutFailed(OutputFailed):
    """Standard output cannot be written, and `why`."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot write to stdout: {why}")
        self.why = why


class TryLater(PgflowError):
    """Another session holds the lock, or time ran out."""

    exit_code = 75


class Contention(TryLater):
    """The database asked to try the transaction again (40001, 40P01, 55P03)."""


class Blocked(Contention):
    """Another transaction holds what this one needs, and has not ended in time (55P03).

    To try again at once is to wait as long once more.
    """


class PermissionDenied(PgflowError):
    """The database refuses this role."""

    exit_code = 77


class ConfigurationError(PgflowError):
    """A setting is missing or wrong, or the schema is of another version."""

    exit_code = 78


class UnknownDatabase(ConfigurationError):
    """The server has no database of this name."""


class SchemaMissing(ConfigurationError):
    """There is no schema, or one without what this program looks for."""


# What passes, or is put right from outside, while a process waits that has worked
# before: also a role, a password, a grant or a schema that is being changed.
PASSING = (DatabaseUnavailable, PermissionDenied, ConfigurationError)


def of_exit_code(code: int, message: str, *hints: str) -> PgflowError:
    """Return an error that another process has reported, by its exit code."""
    for kind in (ConfigurationError, UsageError, PermissionDenied, NotFound):
        if kind.exit_code == code:
            return kind(message, *hints)
    return PgflowError(message, *hints)
