"""Statements of producers: enqueue jobs, record refusals, read outcomes."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.string import StrDumper

from pgflow_cli.errors import ConnectionUnfit, DatabaseUnavailable, OutcomeUnknown
from pgflow_cli.models.jobs import JobOptions, JobOutcome
from pgflow_cli.repository import literals, sqlfiles
from pgflow_cli.repository.base import Statements
from pgflow_cli.repository.connection import Link, Parameters
from pgflow_cli.repository.database import Database
from pgflow_cli.repository.errors import ENDED_BY, translate
from pgflow_cli.repository.session import NO_TRANSACTIONS, is_of_statement_mode

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# Seconds to wait for a connection that another thread uses, as long as enqueue waits
# for locks.
_PATIENCE = 10.0
_NAMES = tuple(field.name for field in fields(JobOptions))


class Enqueuing(Statements):
    """The statements of producers, over our own connection or the caller's."""

    def enqueue(
        self,
        job_type: str,
        payload: str,
        *,
        options: JobOptions,
        job_id: str | None = None,
    ) -> str:
        """Enqueue one job and return its id; the same id twice is one job.

        Raises Refused if a guard says no, UsageError if a field is unacceptable.
        """
        parameters = {
            "job_type": job_type,
            "payload": payload,
            "job_id": job_id,
            **_columns(options),
        }
        return str(self.link.tuples("enqueue", parameters)[0][0])

    def enqueue_many(
        self,
        jobs: str,
        *,
        options: JobOptions,
        job_type: str | None = None,
        job_ids: Sequence[str] | None = None,
    ) -> list[str]:
        """Enqueue a JSON array of at most 1,000 jobs, all or none; return their ids.

        `options`, `job_type` and `job_ids` are for elements without the field. Errors
        are those of `enqueue`; their details list the ordinals of what was refused.
        """
        parameters = {
            "jobs": jobs,
            "job_type": job_type,
            "job_ids": None if job_ids is None else f"{{{','.join(job_ids)}}}",
            **_columns(options),
        }
        text = str(self.link.tuples("enqueue_many", parameters)[0][0])
        return text[1:-1].split(",") if len(text) > 2 else []

    def record_refusals(self, refusals: Iterable[Mapping[str, object]]) -> bool:
        """Count what a guard refused: rows of queue, reason_code, jobs and details.

        Returns whether they were counted: while their table is locked they are not, for
        a refusal waits for nothing.
        """
        wanted = {"refusals": json.dumps(list(refusals))}
        return bool(self.link.tuples("record_refusals", wanted)[0][0])

    def list_outcomes(self, job_ids: Sequence[str]) -> list[JobOutcome]:
        """Return how jobs have ended, without those that have not."""
        ids = f"{{{','.join(job_ids)}}}"
        return self.link.rows("list_outcomes", JobOutcome, {"job_ids": ids})

    def has_job(self, job_id: str) -> bool:
        """Return whether a job with this id was enqueued."""
        return bool(self.link.tuples("has_job", {"job_id": job_id})[0][0])

    def list_open_writers(self) -> list[str]:
        """Return, in words, the oldest transactions that have written jobs or hold
        their table, at most three; what the role may not see is left out.
        """
        return [row[0] for row in self.link.tuples("list_open_writers")]


class _Text(Loader):
    """Reads ids as str, also where psycopg gives bytes: they are ASCII."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode()


class _Escaped(StrDumper):
    """Writes JSON so that every encoding of a client can carry it.

    A name that is no ASCII is refused, escaped or not.
    """

    def dump(self, obj: str) -> bytes:
        return _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], obj).encode()


class BorrowedLink(Link):
    """A connection of the caller's: never opened, committed or closed here."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        if not isinstance(connection, psycopg.Connection):
            raise ConnectionUnfit("pgflow enqueues through a sync psycopg connection")
        super().__init__(Database(""))
        self._borrowed = connection
        # The lock lives as long as the connection. A fork may copy it while it is held,
        # so each process has its own. `setdefault` is atomic.
        self._turns: threading.RLock = connection.__dict__.setdefault(
            f"_pgflow_turns_{os.getpid()}", threading.RLock()
        )

    @property
    def pipelines(self) -> bool:
        """Whether the caller is within `connection.pipeline()`."""
        return self._borrowed.pgconn.pipeline_status != PipelineStatus.OFF

    def raw(self) -> psycopg.Connection[Any]:
        return self._borrowed

    def execute(
        self,
        name: str,
        parameters: Parameters | None,
        row_factory: Any = tuple_row,
        *,
        timeout: float | None = None,
        steady: bool = False,
    ) -> psycopg.Cursor[Any]:
        """Run the statement of a name in whatever transaction the connection is in.

        Within a pipeline of the caller's, too, it has ended when this returns; it does
        not end the pipeline's implicit transaction.
        """
        statement = sqlfiles.statement(name)
        values = [(parameters or {})[key] for key in statement.parameters]
        with self._turn(), self._translated():
            # A plain cursor, whatever cursor class the connection has.
            cursor = psycopg.RawCursor(self._borrowed, row_factory=row_factory)
            cursor.adapters.register_loader("text", _Text)
            literals.register(cursor.adapters)
            if self._borrowed.info.encoding != "utf-8":
                cursor.adapters.register_dumper(str, _Escaped)
            cursor.execute(statement.text, values)
            if self.pipelines:
                _fetch(cursor)
        return cursor

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block's statements all or none: within a savepoint of the caller's
        transaction, or in a transaction of their own in autocommit mode. Calls of other
        threads wait until it has ended.
        """
        with self._turn():
            # Read under the lock: until then a transaction may belong to another call.
            if (
                not self._borrowed.autocommit
                and self._borrowed.info.transaction_status == TransactionStatus.IDLE
            ):
                # psycopg begins the caller's transaction with their first statement,
                # and would commit what it begins for a block.
                self.execute("begin_transaction", None)
            block = self._borrowed.transaction()
            with self._translated():
                block.__enter__()
            try:
                yield
            except BaseException as error:
                # The error may be of another connection that the block reads from: it
                # stays as it is.
                block.__exit__(type(error), error, error.__traceback__)
                raise
            with self._translated():
                block.__exit__(None, None, None)

    def close(self) -> None:
        """Leave the connection to its owner."""

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other threads' calls off the connection: psycopg serialises statements,
        not transactions, and theirs would become part of this one's.
        """
        if not self._turns.acquire(timeout=_PATIENCE):
            raise _busy()
        try:
            self._check()
            yield
        finally:
            self._turns.release()

    def _check(self) -> None:
        """Raise before anything is sent if the connection cannot run a statement."""
        if self._borrowed.closed:
            raise DatabaseUnavailable("the connection is closed: nothing was sent")
        if self._borrowed.info.transaction_status == TransactionStatus.INERROR:
            raise ConnectionUnfit(
                "the connection's transaction has failed: nothing was sent",
                "Roll it back first, to the savepoint before the error at least.",
            )
        # A statement of another thread ends some time. A COPY of this thread holds
        # psycopg's lock, and psycopg would deadlock with itself.
        if not self._borrowed.lock.acquire(timeout=_PATIENCE):
            raise _busy()
        self._borrowed.lock.release()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            if is_of_statement_mode(error):
                raise ConnectionUnfit(*NO_TRANSACTIONS) from error
            if self._borrowed.closed and error.sqlstate not in ENDED_BY:
                raise OutcomeUnknown("the connection was lost") from error
            if error.sqlstate is None:
                # No error of the server: psycopg refused to send, because this
                # connection cannot.
                raise ConnectionUnfit(
                    f"nothing can be enqueued through this connection now: {error}"
                ) from error
            # libpq leaves the password out of these parameters.
            where = Database(self._borrowed.info.dsn).display()
            raise translate(where, error) from error


def _busy() -> ConnectionUnfit:
    return ConnectionUnfit(
        f"the connection has been busy for {_PATIENCE:g} s, with a COPY or in"
        " another thread: nothing was sent"
    )


def _fetch(cursor: psycopg.Cursor[Any]) -> None:
    """Wait for the outcome of a statement within a pipeline; its rows stay unread."""
    try:
        cursor.scroll(0)
    except IndexError:
        pass  # no rows
    except psycopg.ProgrammingError as error:
        if error.sqlstate is not None:
            raise
        # A result without rows cannot be scrolled, but it has arrived.


def borrowed(connection: psycopg.Connection[Any]) -> Enqueuing:
    """Return the statements of producers over a caller's own connection."""
    return Enqueuing(BorrowedLink(connection))


def _columns(options: JobOptions) -> dict[str, object]:
    # Not dataclasses.asdict: it copies deeply, and this is called for each job.
    return {name: getattr(options, name) for name in _NAMES}
