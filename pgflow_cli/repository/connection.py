"""One connection to PostgreSQL: opened late, watched by a deadline, its errors
translated.

Nothing is set on the session, so it works behind a pooler in transaction mode: names
are qualified, and server-side timeouts are `set local` or belong to the role.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, TypeGuard, TypeVar

import psycopg
from psycopg import errors as sqlstate
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row, tuple_row

from pgflow_cli import sqlfiles
from pgflow_cli.errors import OutcomeUnknown, PgflowError, SchemaMissing, TooSlow
from pgflow_cli.repository.database import WATCHED, Database
from pgflow_cli.repository.negotiation import canceler, refusal
from pgflow_cli.repository.remains import look
from pgflow_cli.repository.translation import IS_IT_UP, connection_error, translate
from pgflow_cli.repository.watchdog import Call

Row = TypeVar("Row")
Parameters = Mapping[str, object]

_STALE_PREPARED_STATEMENT = (
    sqlstate.DuplicatePreparedStatement,
    sqlstate.InvalidSqlStatementName,
)

_CANCEL = 1.0  # seconds that the request to cancel may take
_MOST_PREPARED = 32  # statements; the one used longest ago goes first


class Link:
    """A connection that opens at the first call, and again at the first call after it
    broke.

    Not for several threads at once. Raises `DatabaseUnavailable` when the server is
    away, `OutcomeUnknown` when a statement's reply was lost, `Contention` when the
    transaction may be tried again.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._connection: psycopg.Connection[Any] | None = None
        # Between close and the watchdog: a closed descriptor may already be another's.
        self._lock = threading.Lock()
        self._warning: str | None = None
        self._may_prepare = True  # until a pooler in transaction mode forbids it
        self._in_transaction = False

    @property
    def descriptor(self) -> int | None:
        """The descriptor of the open connection, if there is one; from any thread."""
        connection = self._connection
        if connection is None or connection.closed:
            return None
        with suppress(psycopg.Error):
            return connection.fileno()
        return None

    def raw(self) -> psycopg.Connection[Any]:
        """Return the open connection of psycopg, connecting if need be."""
        connection = self._connection
        if connection is None or connection.closed:
            if self._in_transaction:  # the rest of it would run, and commit, alone
                raise OutcomeUnknown("the connection was lost within a transaction")
            connection = self._connect()
        return connection

    def rows(
        self,
        name: str,
        model: type[Row],
        parameters: Parameters | None = None,
        *,
        timeout: float | None = None,
        steady: bool = False,
    ) -> list[Row]:
        """Run `queries/NAME.sql` and return its rows as `model`."""
        cursor = self.execute(
            name, parameters, class_row(model), timeout=timeout, steady=steady
        )
        return cursor.fetchall()

    def tuples(
        self,
        name: str,
        parameters: Parameters | None = None,
        *,
        timeout: float | None = None,
    ) -> list[tuple[Any, ...]]:
        """Run `queries/NAME.sql` and return its rows as tuples."""
        cursor = self.execute(name, parameters, tuple_row, timeout=timeout)
        return cursor.fetchall() if cursor.description else []

    def count(
        self,
        name: str,
        parameters: Parameters | None = None,
        *,
        timeout: float | None = None,
    ) -> int:
        """Run `queries/NAME.sql` and return the number of rows it changed."""
        return self.execute(name, parameters, tuple_row, timeout=timeout).rowcount

    def execute(
        self,
        name: str,
        parameters: Parameters | None,
        row_factory: Any,
        *,
        timeout: float | None = None,
        steady: bool = False,
    ) -> psycopg.Cursor[Any]:
        """Run `queries/NAME.sql` under the watchdog and return its cursor.

        A `steady` statement is planned once for a connection, whatever its parameters:
        for those whose planning takes longer than running them.
        """
        statement = sqlfiles.statement(name)
        values = [(parameters or {})[key] for key in statement.parameters]
        connection = self.raw()
        steady = steady and self._may_prepare and not self._in_transaction
        with self._call(timeout, commits=True):
            cursor = psycopg.RawCursor(connection, row_factory=row_factory)
            prepare = self._may_prepare and (steady or self.database.steady_plans)
            try:
                with self._steadily() if steady else nullcontext():
                    cursor.execute(statement.text, values, prepare=prepare)
            except _STALE_PREPARED_STATEMENT:
                if self._in_transaction:
                    raise
                # A pooler gave us another server connection. Nothing has run yet: the
                # error comes before the statement does. From here on this link prepares
                # nothing.
                self._may_prepare = False
                cursor.execute(statement.text, values, prepare=False)
        return cursor

    @contextmanager
    def _steadily(self) -> Iterator[None]:
        """Plan the block's statement by index and for any parameters.

        What is sent in one go is one transaction, at whose end the settings are gone.
        """
        connection = self.raw()
        with connection.pipeline():
            text = sqlfiles.statement("plan_once").text
            psycopg.RawCursor(connection).execute(text, prepare=True)
            yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block's statements in one transaction, rolled back if it raises."""
        with self._watched(self.raw().transaction()):
            if self.database.statement_timeout is not None:
                milliseconds = int(self.database.statement_timeout * 1000)
                self.run_text(f"set local statement_timeout = {milliseconds}")
            yield

    @contextmanager
    def _watched(self, block: AbstractContextManager[Any]) -> Iterator[None]:
        """Enter and leave a transaction under the watchdog: a peer may fall silent at
        `begin` and at `commit`, too. One within another is a savepoint of it.
        """
        outer, self._in_transaction = self._in_transaction, True
        try:
            with self._call():
                block.__enter__()
            yield
        except BaseException as error:
            self._in_transaction = outer
            with suppress(PgflowError), self._call():
                block.__exit__(type(error), error, error.__traceback__)
            raise
        self._in_transaction = outer
        with self._call(commits=True):
            block.__exit__(None, None, None)

    def run_text(
        self, text: str, *, timeout: float | None = None
    ) -> psycopg.Cursor[Any]:
        """Run text that came out of a statement file: a migration, or DDL that a query
        has planned.
        """
        connection = self.raw()
        with self._call(timeout):
            return connection.execute(text.encode(), prepare=False)

    def notifications(self, seconds: float) -> list[str]:
        """Return the payloads of notifications, at the first one or after so many
        seconds.
        """
        connection = self.raw()
        seconds = max(0.0, seconds)
        with self._call(seconds + (self.database.call_timeout or math.inf)):
            heard = connection.notifies(timeout=seconds, stop_after=1)
            return [notification.payload for notification in heard]

    def cancel(self) -> None:
        """Ask the server to end the statement that runs on this connection, as far as
        it listens.
        """
        with suppress(OSError, psycopg.Error):
            with self._lock:
                connection = self._connection
                if connection is None or connection.closed:
                    return
                ask = canceler(connection, _CANCEL)
            ask()

    def sever(self) -> None:
        """Free the thread that is blocked on this connection; the next call opens
        another.
        """
        with self._lock:
            connection = self._connection
            if connection is None or connection.closed:
                return
            # Of one that has been reset there is nothing to shut, and no thread waits.
            with suppress(OSError, psycopg.Error):
                _shut(connection.fileno())

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connect(self) -> psycopg.Connection[Any]:
        parameters = self.database.parameters()
        try:
            connection = self._open(parameters)
        except (psycopg.Error, OSError) as error:
            raise self._refusal(error, parameters) from None
        self.database.reached.set()
        # The plan of a list takes the server up to a megabyte.
        connection.prepared_max = _MOST_PREPARED
        # For transactions of two statements, whatever the role's default: the second
        # statement must see what the first has waited for.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        if self.database.read_only:
            connection.read_only = True
        connection.add_notice_handler(self._notice)
        with self._lock:
            self._connection = connection
        return connection

    def _refusal(
        self, error: psycopg.Error | OSError, parameters: dict[str, str]
    ) -> PgflowError:
        """Turn a connection that did not come about into one of our errors.

        After a first success it is an outage, whatever was said: of a role, a password
        or a rule that is being changed.
        """
        where = self.database.display()
        if self.database.reached.is_set():
            return connection_error(where, error, outage=True)
        code = None
        if not isinstance(error, sqlstate.ConnectionTimeout | OSError):
            with suppress(psycopg.Error, OSError):
                conninfo = make_conninfo("", **parameters).encode()
                code = refusal(conninfo, self.database.connect_timeout)
        return connection_error(where, error, code)

    def _open(self, parameters: dict[str, str]) -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(make_conninfo("", **parameters), autocommit=True)
        except psycopg.OperationalError as error:
            # PgBouncer refuses `options`, in English always, and a server what its
            # system lacks, by name. Then each statement is planned each time, from the
            # tables' true sizes.
            refused = any(name in str(error) for name in ("startup parameter", WATCHED))
            if not refused or "options" not in parameters:
                raise
            self._may_prepare = False
            del parameters["options"]
            return psycopg.connect(make_conninfo("", **parameters), autocommit=True)

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        # A commit that was canceled while it waited for a synchronous standby reports
        # success with this warning.
        if (
            diagnostic.sqlstate == "01000"
            and diagnostic.severity_nonlocalized == "WARNING"
        ):
            self._warning = diagnostic.message_primary or "warning"

    @contextmanager
    def _call(
        self, seconds: float | None = None, *, commits: bool = False
    ) -> Iterator[None]:
        """Run the block, which speaks with the server, for so many seconds at most.

        None is what the database allows a call.
        """
        limit = self.database.call_timeout if seconds is None else seconds
        self._warning = None
        call = None
        try:
            with self.database.watchdog.guard(self, limit) as call:
                try:
                    yield
                except (psycopg.Error, OSError) as error:
                    raise self._failure(error, call) from error
        finally:
            if call is not None and call.late:
                self.close()  # what cancels it may still be on its way
        if commits and self._warning is not None:
            self.close()
            what = call.tale if call.late else "the commit was not confirmed"
            raise OutcomeUnknown(f"{what}: {self._warning}")
        if call.late and self._in_transaction:
            raise TooSlow(call.tale)

    def _failure(self, error: psycopg.Error | OSError, call: Call) -> PgflowError:
        """Turn the end of a call into one of our errors; close what is broken."""
        where = self.database.display()
        connection = self._connection
        lost = connection is None or connection.closed
        if call.late and isinstance(error, sqlstate.QueryCanceled):
            return TooSlow(f"{call.tale} and was canceled")
        if _is_told(error) and not lost:
            told = translate(where, error)
            return self._explained(told) if isinstance(told, SchemaMissing) else told
        self.close()
        if call.late:
            return OutcomeUnknown(f"{call.tale}: whether it happened is unknown")
        return OutcomeUnknown(f"the connection to {where} was lost", IS_IT_UP)

    def _explained(self, missing: SchemaMissing) -> SchemaMissing:
        """Say what a killed restore has left, where `migrate` would refuse to go on.

        Asked on a connection of its own: this one's transaction may have failed.
        """
        other = Link(self.database)
        try:
            remains = look(other)
        except PgflowError:
            return missing
        finally:
            other.close()
        if not remains.partial:
            return missing
        return SchemaMissing(remains.message, *remains.hints)


def _is_told(error: psycopg.Error | OSError) -> TypeGuard[psycopg.Error]:
    """Whether the server answered, or psycopg refused a value: the line works."""
    if isinstance(error, psycopg.OperationalError):
        return bool(error.sqlstate)
    return isinstance(error, psycopg.Error)


def _shut(descriptor: int) -> None:
    """Shut a socket without a descriptor more: there may be none left to be had."""
    peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        peer.shutdown(socket.SHUT_RDWR)
    finally:
        peer.detach()
