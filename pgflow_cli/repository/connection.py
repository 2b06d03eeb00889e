"""One connection to PostgreSQL: opened late, watched by a deadline, its errors
translated.

Nothing is set on the session, so it works behind a pooler in transaction mode: names
are qualified, and server-side timeouts are `set local` or belong to the role.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import psycopg
from psycopg import errors as sqlstate
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row, tuple_row

from pgflow_cli import sqlfiles
from pgflow_cli.errors import OutcomeUnknown, PgflowError, SchemaMissing
from pgflow_cli.models import ReplacedSchema, ServerFacts
from pgflow_cli.repository.database import Database
from pgflow_cli.repository.translation import IS_IT_UP, connection_error, translate

Row = TypeVar("Row")
Parameters = Mapping[str, object]

_STALE_PREPARED_STATEMENT = (
    sqlstate.DuplicatePreparedStatement,
    sqlstate.InvalidSqlStatementName,
)

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
        self._lock = (
            threading.Lock()
        )  # between close and sever: a closed descriptor may already be another's
        self._severed = False
        self._warning: str | None = None
        self._may_prepare = True  # until a pooler in transaction mode forbids it
        self._in_transaction = False

    def raw(self) -> psycopg.Connection[Any]:
        """Return the open connection of psycopg, connecting if need be."""
        connection = self._connection
        if connection is None or connection.closed:
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
        limit = self.database.call_timeout if timeout is None else timeout
        self._warning = None
        with self._translated(), self.database.watchdog.guard(self, limit):
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
        if self._warning is not None:
            self.close()
            raise OutcomeUnknown(f"the commit was not confirmed: {self._warning}")
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
        with self._translated(), self._watched(self.raw().transaction()):
            if self.database.statement_timeout is not None:
                milliseconds = int(self.database.statement_timeout * 1000)
                with self._guarded():
                    self.run_text(f"set local statement_timeout = {milliseconds}")
            self._in_transaction = True
            try:
                yield
            finally:
                self._in_transaction = False

    @contextmanager
    def _watched(self, block: AbstractContextManager[Any]) -> Iterator[None]:
        """Enter and leave a transaction under the watchdog: a peer may fall silent at
        `begin` and at `commit`, too.
        """
        with self._guarded():
            block.__enter__()
        try:
            yield
        except BaseException as error:
            with self._guarded():
                block.__exit__(type(error), error, error.__traceback__)
            raise
        with self._guarded():
            block.__exit__(None, None, None)

    def _guarded(self) -> AbstractContextManager[None]:
        return self.database.watchdog.guard(self, self.database.call_timeout)

    def run_text(self, text: str) -> psycopg.Cursor[Any]:
        """Run text that came out of a statement file: a migration, or DDL that a query
        has planned.
        """
        connection = self.raw()
        with self._translated():
            return connection.execute(text.encode(), prepare=False)

    def notifications(self, seconds: float) -> list[str]:
        """Return the payloads of notifications, at the first one or after so many
        seconds.
        """
        connection = self.raw()
        with self._translated():
            heard = connection.notifies(timeout=max(0.0, seconds), stop_after=1)
            return [notification.payload for notification in heard]

    def sever(self) -> None:
        """Free the thread that is blocked on this connection; the next call opens
        another.
        """
        with self._lock:
            connection = self._connection
            if connection is None or connection.closed:
                return
            self._severed = True
            with socket.socket(fileno=os.dup(connection.fileno())) as peer:
                peer.shutdown(socket.SHUT_RDWR)

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
        except psycopg.Error as error:
            raise connection_error(self.database.display(), error) from None
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
            self._severed = False
        return connection

    def _open(self, parameters: dict[str, str]) -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(make_conninfo("", **parameters), autocommit=True)
        except psycopg.OperationalError as error:
            # PgBouncer refuses `options`. Then plans are made anew each time, from the
            # tables' true sizes.
            if "startup parameter" not in str(error) or "options" not in parameters:
                raise
            self._may_prepare = False
            without = {k: v for k, v in parameters.items() if k != "options"}
            return psycopg.connect(make_conninfo("", **without), autocommit=True)

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        # A commit that was canceled while it waited for a synchronous standby reports
        # success with this warning.
        if (
            diagnostic.sqlstate == "01000"
            and diagnostic.severity_nonlocalized == "WARNING"
        ):
            self._warning = diagnostic.message_primary or "warning"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            connection = self._connection
            broken = connection is None or connection.closed or self._severed
            if broken or (
                isinstance(error, psycopg.OperationalError) and not error.sqlstate
            ):
                self.close()
                raise OutcomeUnknown(
                    f"the connection to {self.database.display()} was lost",
                    IS_IT_UP,
                ) from error
            translated = translate(self.database.display(), error)
            if isinstance(translated, SchemaMissing):
                translated = self._explained(translated)
            raise translated from error

    def _explained(self, missing: SchemaMissing) -> SchemaMissing:
        """Say what a killed restore has put aside: `migrate` would make an empty queue.

        Asked on a connection of its own: this one's transaction may have failed.
        """
        other = Link(self.database)
        try:
            facts = other.rows("inspect_server", ServerFacts)[0]
            if facts.has_migrations and other.tuples("find_schema_version")[0][0]:
                return missing
            left = other.rows("list_replaced_schemas", ReplacedSchema)
        except PgflowError:
            return missing
        finally:
            other.close()
        return SchemaMissing(missing.message, *left[-1].hints()) if left else missing
