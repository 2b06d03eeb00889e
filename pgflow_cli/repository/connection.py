"""One connection to PostgreSQL: it opens at its first call, each call has a deadline,
and psycopg's errors are translated.

`session` has the settings of its session. Behind a pooler in transaction mode the
settings are sent with each transaction and nothing is set on the session: names are
qualified, and server-side timeouts are `set local` or belong to the role.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, TypeGuard, TypeVar

import psycopg
from psycopg import errors as sqlstate
from psycopg.rows import class_row, tuple_row

from pgflow_cli.errors import (
    DatabaseUnavailable,
    DataDamaged,
    OutcomeUnknown,
    PgflowError,
    SchemaMissing,
    TooSlow,
)
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.repository.damaged_relations import DamagedRelations
from pgflow_cli.repository.database import Database
from pgflow_cli.repository.errors import (
    ENDED_BY,
    IS_IT_UP,
    ended_session,
    refused_connection,
    translate,
)
from pgflow_cli.repository.negotiation import canceler, connect, shut
from pgflow_cli.repository.remains import look
from pgflow_cli.repository.rollbacks import unheard
from pgflow_cli.repository.session import Sent, pin, run
from pgflow_cli.repository.watchdog import Call

Row = TypeVar("Row")
Parameters = Mapping[str, object]

_STALE_PREPARED_STATEMENT = (
    sqlstate.DuplicatePreparedStatement,
    sqlstate.InvalidSqlStatementName,
)

# Statements that must be the first of a transaction: the settings follow them.
_BEGINNINGS = {"begin_snapshot", "begin_backup_snapshot", "begin_schema_change"}
_CANCEL = 1.0  # seconds for a cancel request, on a connection of its own
# Prepared statements of a session; the least recently used is dropped.
_MOST_PREPARED = 32


class Link:
    """A connection that opens at the first call, and again at the first call after it
    was lost.

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
        # Why the server has ended the session, if that was read before it was asked
        # again: SQLSTATE and message.
        self._farewell: tuple[str, str] | None = None
        self._patience = math.inf  # seconds, for each call
        self.called_at = 0.0  # monotonic seconds; when the last call began
        self._may_prepare = True  # until a pooler in transaction mode forbids it
        self._in_transaction = False
        # Statements that begin each transaction of a pooler.
        self._before: tuple[Sent, ...] = ()
        self._owes = False  # whether the open transaction still lacks them
        self._damages = DamagedRelations()

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
        """Run the statement of a name and return its rows as `model`."""
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
        """Run the statement of a name and return its rows as tuples."""
        cursor = self.execute(name, parameters, tuple_row, timeout=timeout)
        return cursor.fetchall() if cursor.description else []

    def count(
        self,
        name: str,
        parameters: Parameters | None = None,
        *,
        timeout: float | None = None,
    ) -> int:
        """Run the statement of a name and return the number of rows it changed."""
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
        """Run the statement of a name under the watchdog and return its cursor.

        A `steady` statement is planned once for a connection, whatever its parameters:
        for those whose planning takes longer than running them.
        """
        one = Sent(name, parameters or {})
        return self.together([one], row_factory, timeout=timeout, steady=steady)[-1]

    def together(
        self,
        statements: Sequence[Sent],
        row_factory: Any,
        *,
        timeout: float | None = None,
        steady: bool = False,
    ) -> list[psycopg.Cursor[Any]]:
        """Send statements in one go, as one transaction: one round trip, all or none.

        Returns a cursor for each. Raises what the first that fails has failed with. In
        a transaction they are a part of it.
        """
        self.raw()
        steady = steady and self._may_prepare and not self._in_transaction
        with self._call(timeout, commits=True):
            try:
                return self._send(statements, row_factory, steady=steady)
            except _STALE_PREPARED_STATEMENT:
                if self._in_transaction:
                    raise
                # A pooler gave us another server connection. Nothing has run yet: the
                # error comes before the statement does. From here on this link prepares
                # nothing.
                self._may_prepare = False
                return self._send(statements, row_factory, steady=False)

    def _send(
        self, statements: Sequence[Sent], row_factory: Any, *, steady: bool
    ) -> list[psycopg.Cursor[Any]]:
        """Send what goes first, and the statements, in one go.

        That is one transaction to the server: what is set for it is gone at its end.
        """
        connection = self.raw()
        first = [*self._owed(statements), *self._limit()]
        first += [Sent("plan_once", {})] if steady else []
        prepare = self._may_prepare and (steady or self.database.steady_plans)
        alone = len(first) + len(statements) == 1
        with nullcontext() if alone else connection.pipeline():
            for sent in first:
                run(connection, sent, tuple_row, prepare=prepare)
            return [
                run(connection, sent, row_factory, prepare=prepare)
                for sent in statements
            ]

    def _owed(self, statements: Sequence[Sent]) -> Sequence[Sent]:
        """Return the statements that a pooled transaction must still begin with."""
        if not self._in_transaction:
            return self._before
        if not self._owes or (statements and statements[0].name in _BEGINNINGS):
            return ()
        self._owes = False
        return self._before[-1:]

    def _limit(self) -> Sequence[Sent]:
        """Return a limit for statements that run alone; a transaction has its own."""
        database = self.database
        if self._in_transaction or database.statement_timeout is None:
            return ()
        if database.server_timeout is not None and not database.bare.is_set():
            return ()  # the session is limited
        milliseconds = int(database.statement_timeout * 1000)
        return [Sent("cap_statements", {"milliseconds": milliseconds})]

    def _settle(self) -> None:
        if self._in_transaction and self._owes:
            self.together([], tuple_row)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block's statements in one transaction, rolled back if it raises."""
        self._settle()  # a savepoint that is rolled back would undo the settings, too
        with self._watched(self.raw().transaction()):
            if self.database.statement_timeout is not None:
                milliseconds = int(self.database.statement_timeout * 1000)
                text = f"set local statement_timeout = {milliseconds}"
                self.run_text(text, alone=True)
            yield

    @contextmanager
    def _watched(self, block: AbstractContextManager[Any]) -> Iterator[None]:
        """Enter and leave a transaction under the watchdog: `begin` and `commit` may
        lack an answer, too. A transaction inside another one is a savepoint of it.
        """
        outer, self._in_transaction = self._in_transaction, True
        self._owes = self._owes if outer else bool(self._before)
        try:
            with self._call():
                block.__enter__()
            yield
        except BaseException as error:
            self._in_transaction = outer
            with suppress(PgflowError), self._call(), unheard():
                block.__exit__(type(error), error, error.__traceback__)
            raise
        self._in_transaction = outer
        with self._call(commits=True):
            block.__exit__(None, None, None)

    def begin_snapshot(self) -> None:
        """Have every statement of the transaction see the same instant."""
        self.execute("begin_snapshot", None, None)

    def limit_statements(self, milliseconds: int) -> None:
        """Cancel statements of this transaction that take longer."""
        self.tuples("limit_statements", {"milliseconds": milliseconds})

    def limit_lock_waits(self, milliseconds: int) -> None:
        """Fail statements of this transaction that wait longer for a lock."""
        self.tuples("limit_lock_waits", {"milliseconds": milliseconds})

    def plan_by_index(self) -> None:
        """Have the planner prefer indexes in this transaction."""
        self.tuples("plan_by_index")

    def follow_indexes(self) -> None:
        """Have the planner follow indexes from end to end, in this transaction."""
        self.tuples("follow_indexes")

    def read_clock(self, *, timeout: float | None = None) -> float:
        """Return the database's time, in seconds since 1970."""
        return float(self.tuples("read_clock", timeout=timeout)[0][0])

    def run_text(
        self, text: str, *, timeout: float | None = None, alone: bool = False
    ) -> psycopg.Cursor[Any]:
        """Run text that came out of a statement file: a migration, or DDL that a query
        has planned.

        `alone` is for text that runs outside of transactions and depends on no setting.
        """
        connection = self.raw()
        if not alone:
            self._settle()
        pinned = bool(self._before) and not (alone or self._in_transaction)
        with self._call(timeout), connection.pipeline() if pinned else nullcontext():
            for sent in self._before if pinned else ():
                run(connection, sent, tuple_row, prepare=False)
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

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Have each call of the block end after so many seconds, or after what the
        database allows a call if that is less.
        """
        outer, self._patience = self._patience, seconds
        try:
            yield
        finally:
            self._patience = outer

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
            # A connection that was reset has no socket to shut, and no thread waits for
            # it.
            with suppress(OSError, psycopg.Error):
                shut(connection.fileno())

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connect(self) -> psycopg.Connection[Any]:
        parameters = self.database.parameters()
        try:
            connection = connect(self.database, parameters)
        except (psycopg.Error, OSError) as error:
            raise refused_connection(self.database, error, parameters) from None
        self.database.reached.set()
        # A cached plan of a list takes up to a megabyte of the server's memory.
        connection.prepared_max = _MOST_PREPARED
        # For transactions of two statements, whatever the role's default: the second
        # statement must see what the first has waited for.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        if self.database.read_only:
            connection.read_only = True
        self._farewell = None
        connection.add_notice_handler(self._notice)
        with self._lock:
            self._connection = connection
        self._pin(connection)
        return connection

    def _pin(self, connection: psycopg.Connection[Any]) -> None:
        try:
            with self._call():
                self._before = pin(connection, self.database.pinned())
        except PgflowError as error:
            self.close()
            if isinstance(error, OutcomeUnknown):  # no statement of the caller was sent
                raise DatabaseUnavailable(error.message, *error.hints) from None
            raise
        if self._before:  # each statement is planned from the tables' true sizes
            self._may_prepare = False

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        # A commit that was canceled while it waited for a synchronous standby reports
        # success with this warning.
        if (
            diagnostic.sqlstate == "01000"
            and diagnostic.severity_nonlocalized == "WARNING"
        ):
            self._warning = diagnostic.message_primary or "warning"
        elif diagnostic.sqlstate in ENDED_BY:
            self._farewell = diagnostic.sqlstate, diagnostic.message_primary or ""

    @contextmanager
    def _call(
        self, seconds: float | None = None, *, commits: bool = False
    ) -> Iterator[None]:
        """Run the block, which talks to the server, for at most `seconds`.

        None stands for the `call_timeout` of the database.
        """
        limit = self.database.call_timeout if seconds is None else seconds
        if limit is None or limit > self._patience:
            limit = None if math.isinf(self._patience) else self._patience
        self._warning = None
        self.called_at = monotonic()
        call = None
        try:
            with self.database.watchdog.guard(self, limit) as call:
                try:
                    yield
                except (psycopg.Error, OSError) as error:
                    raise self._failure(error, call) from error
        finally:
            if call is not None and call.late:
                self.close()  # the cancel request may still be on its way
        if commits and self._warning is not None:
            self.close()
            what = call.tale if call.late else "the commit was not confirmed"
            raise OutcomeUnknown(f"{what}: {self._warning}")
        if call.late and self._in_transaction:
            raise TooSlow(call.tale)

    def _failure(self, error: psycopg.Error | OSError, call: Call) -> PgflowError:
        """Translate an error into one of ours; close the connection if it is lost."""
        where = self.database.display()
        connection = self._connection
        lost = connection is None or connection.closed
        if call.late and isinstance(error, sqlstate.QueryCanceled):
            return TooSlow(f"{call.tale} and was canceled")
        if self._before and isinstance(error, sqlstate.ReadOnlySqlTransaction):
            self.close()  # the next connection looks whether that is the role's default
        if isinstance(error, psycopg.Error) and error.sqlstate in ENDED_BY:
            self.close()
            return translate(where, error)
        if _is_told(error) and not lost:
            told = translate(where, error)
            if isinstance(told, DataDamaged):
                return self._damages.name_damaged_relation(told, Link(self.database))
            return self._explained(told) if isinstance(told, SchemaMissing) else told
        self.close()
        if self._farewell is not None:  # before it was asked: nothing has happened
            return ended_session(*self._farewell)
        lost_call = f"{call.tale}: whether it happened is unknown"
        lost_connection = f"the connection to {where} was lost"
        return OutcomeUnknown(
            *([lost_call] if call.late else [lost_connection, IS_IT_UP])
        )

    def _explained(self, missing: SchemaMissing) -> SchemaMissing:
        """Say which parts a killed restore has left, where `migrate` would refuse to go
        on.

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
    """Whether the server sent the error, or psycopg refused a value: the connection
    works.
    """
    if isinstance(error, psycopg.OperationalError):
        return bool(error.sqlstate)
    return isinstance(error, psycopg.Error)
