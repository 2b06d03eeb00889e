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
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import psycopg
from psycopg import errors as sqlstate
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import class_row, tuple_row

from pgflow_cli import sqlfiles
from pgflow_cli.errors import ConfigurationError, OutcomeUnknown
from pgflow_cli.repository.translation import IS_IT_UP, connection_error, translate
from pgflow_cli.repository.watchdog import Watchdog

Row = TypeVar("Row")
Parameters = Mapping[str, object]

_STALE_PREPARED_STATEMENT = (
    sqlstate.DuplicatePreparedStatement,
    sqlstate.InvalidSqlStatementName,
)

_STEADY_PLANS = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off"

_MOST_PREPARED = 32  # statements; the one used longest ago goes first

_KEEPALIVE = {
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


@dataclass(frozen=True, slots=True)
class Database:
    """Where the database is and how long to wait for it; times are in seconds.

    `call_timeout` bounds every statement from the client's side; None leaves operators'
    long reports alone; `server_timeout` bounds them on the server, for the whole
    session, where no pooler forbids it. `steady_plans` is for workers: statements are
    prepared, planned once, and never by a sequential scan, because a day's partition is
    empty when the plan is made and large before anything analyses it. With
    `read_only` the server refuses to change anything.
    """

    url: str = field(repr=False)
    application_name: str = "pgflow"
    connect_timeout: float = 5.0
    call_timeout: float | None = None
    statement_timeout: float | None = None
    server_timeout: float | None = None
    steady_plans: bool = False
    read_only: bool = False
    watchdog: Watchdog = field(default_factory=Watchdog, repr=False)

    def parameters(self) -> dict[str, str]:
        """Return libpq's parameters; a URL that cannot be read is exit 78, without
        repeating any part of it.
        """
        try:
            given = conninfo_to_dict(self.url)
        except psycopg.Error:
            # psycopg repeats parts of a malformed URL, perhaps the password.
            raise _unreadable() from None
        if _is_misread(self.url, str(given.get("port") or "")):
            raise _unreadable()
        merged = {k: str(v) for k, v in given.items() if v is not None}
        hosts = merged.get("host", "")
        defaults = {**_KEEPALIVE, "fallback_application_name": self.application_name}
        defaults["connect_timeout"] = str(max(2, round(self.connect_timeout)))
        if options := self._options():
            defaults["options"] = " ".join([*options, merged.pop("options", "")])
        if "," in hosts:
            defaults["target_session_attrs"] = "read-write"
        return {**defaults, **merged}

    def _options(self) -> list[str]:
        options = [_STEADY_PLANS] if self.steady_plans else []
        if self.server_timeout is not None:
            options.append(f"-c statement_timeout={int(self.server_timeout * 1000)}")
        if self.read_only:
            options.append("-c default_transaction_read_only=on")
        return options

    def for_programs(self) -> tuple[str, str | None]:
        """Return a connection string that may stand in a command line, and the
        password.
        """
        parameters = self.parameters()
        if "sslpassword" in parameters:
            raise ConfigurationError(
                "the database URL holds an sslpassword, which a program would show",
                "Use a key without one, or put it into a service file: service=NAME",
            )
        password = parameters.pop("password", None)
        return make_conninfo("", **parameters), password

    def of_name(self, name: str) -> Database:
        """Return another database of the same server."""
        return replace(self, url=make_conninfo(self.url, dbname=name))

    def name(self) -> str | None:
        """Return the database's name, if the URL says it."""
        return self.parameters().get("dbname")

    @property
    def on_socket(self) -> bool:
        """Whether it is reached over a socket of this host's file system."""
        parameters = self.parameters()
        host = parameters.get("host", "")
        return "hostaddr" not in parameters and (not host or host.startswith("/"))

    def display(self) -> str:
        """Return `user@host:port/dbname`, which never holds a secret."""
        p = self.parameters()
        host = p.get("host") or p.get("hostaddr") or "local socket"
        user = f"{p['user']}@" if "user" in p else ""
        return (
            f"{user}{host}:{p.get('port', '5432')}/{p.get('dbname', p.get('user', ''))}"
        )


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
            raise translate(self.database.display(), error) from error


def _is_misread(url: str, ports: str) -> bool:
    """Return whether libpq takes part of a password for host, port or database: it does
    where a slash in it was not encoded, and whatever names the server would show it.
    """
    if not all(port == "" or port.isdigit() for port in ports.split(",")):
        return True
    _, _, rest = url.partition("://")
    path = rest.partition("?")[0].partition("/")[2]
    return "@" in path


def _unreadable() -> ConfigurationError:
    return ConfigurationError(
        "the database URL cannot be read",
        "It looks like postgres://user:password@host:5432/dbname;"
        " special characters are percent-encoded.",
    )
