"""Settings of every session of pgflow. They hold whatever the database, the role, a
service file or the environment sets; the rest is left to operators.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.abc import AdaptContext, Buffer
from psycopg.abc import Loader as AnyLoader
from psycopg.adapt import Loader
from psycopg.conninfo import make_conninfo
from psycopg.rows import tuple_row
from psycopg.types.datetime import (
    DateLoader,
    TimestampLoader,
    TimestamptzLoader,
)

from pgflow_cli.errors import ConfigurationError
from pgflow_cli.formats import times
from pgflow_cli.repository import literals, sqlfiles

_ONLY_OURS = "pg_catalog, pg_temp"


class Setting(NamedTuple):
    """A setting of the server, the value that pgflow needs, and what fails with another
    one.
    """

    name: str
    value: str
    why: str


PINNED: tuple[Setting, ...] = (
    Setting(
        "search_path",
        _ONLY_OURS,
        "a role that may create in public would run its functions as the worker's role;"
        " temporary tables, which a pooler's other clients may leave, come last",
    ),
    Setting("client_encoding", "UTF8", "text would arrive as bytes, or not at all"),
    Setting("DateStyle", "ISO, MDY", "psycopg reads no other times"),
    Setting("IntervalStyle", "postgres", "psycopg reads no other intervals"),
    Setting("TimeZone", "UTC", "psycopg knows no zones that are not in its table"),
    Setting("extra_float_digits", "1", "numbers would come back rounded"),
    Setting("bytea_output", "hex", "digests are compared as text"),
    Setting("standard_conforming_strings", "on", "a backslash would be an escape"),
    Setting("backslash_quote", "safe_encoding", "goes with the one above"),
    Setting("transform_null_equals", "off", "= null would mean is null"),
    Setting("array_nulls", "on", "NULL in an array's text would be a word"),
    Setting("quote_all_identifiers", "off", "names are compared as text"),
    Setting("check_function_bodies", "on", "a broken migration would pass"),
    Setting("default_table_access_method", "heap", "a migration's tables are heaps"),
    Setting("client_min_messages", "notice", "a commit that no standby has would pass"),
    Setting("exit_on_error", "off", "each refusal would end the session"),
    Setting("row_security", "on", "a policy would be an error"),
    Setting("default_transaction_isolation", "read committed", "a statement must see"
            " what the one before it in its transaction has waited for"),
    Setting("default_transaction_read_only", "off", "nothing could be settled"),
    Setting("default_transaction_deferrable", "off", "reports would wait for writers"),
    Setting("jit", "off", "compiling takes seconds where running takes milliseconds"),
    Setting("plan_cache_mode", "auto", "a list would get a plan for other parameters"),
    *(
        Setting(f"enable_{way}", "on", "a lease would sort, or scan, the whole backlog")
        for way in (
            "seqscan",
            "indexscan",
            "indexonlyscan",
            "bitmapscan",
            "nestloop",
            "hashjoin",
            "mergejoin",
            "hashagg",
            "sort",
            "material",
            "memoize",
            "incremental_sort",
            "partition_pruning",
        )
    ),
)  # fmt: skip

# Settings that only newer servers know, so that `options` cannot name them.
WHERE_KNOWN: tuple[Setting, ...] = (
    Setting("restrict_nonsystem_relation_kind", "", "pgflow's views could not be read"),
)

# Workers plan a statement once. A day's partition is empty when the plan is made, and
# large before the server analyzes it, so the plan must not be a sequential scan.
STEADY: Mapping[str, str] = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
}

_TRANSACTIONS = frozenset(
    {
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_transaction_deferrable",
    }
)

# Left to operators, as RUNBOOK says: synchronous_commit, the timeouts,
# default_tablespace, role, sizes and costs such as work_mem, and lc_messages (pgflow
# reads the code of an error, never its text).


def pinned(*, steady: bool, read_only: bool) -> dict[str, str]:
    """Return the settings of a session of ours by name."""
    values = {setting.name: setting.value for setting in PINNED}
    if steady:
        values |= STEADY
    if read_only:
        values["default_transaction_read_only"] = "on"
    return values


def of_scripts() -> list[str]:
    """Return the first lines of a transaction in a migration for psql."""
    return [
        f"set local {setting.name} = {setting.value};"
        for setting in PINNED
        if not setting.name.startswith(("enable_", "default_transaction_"))
    ]


def as_options(values: Mapping[str, str]) -> list[str]:
    """Return settings in the words of libpq's `options`."""
    return [
        f"-c {name}=" + value.replace("\\", "\\\\").replace(" ", "\\ ")
        for name, value in values.items()
    ]


def given_options(conninfo: str, *, service: bool) -> str:
    """Return the options that libpq would take from the service or from PGOPTIONS."""
    if not service and "PGSERVICE" not in os.environ:
        return os.environ.get("PGOPTIONS", "")
    found = resolved(conninfo, host="/nonexistent", hostaddr="")
    return found.get("options", "")


def resolved(conninfo: str, **impossible: str) -> dict[str, str]:
    """Return the options that libpq takes from URL, service and environment.

    libpq reports them for a connection that it never opens: the `impossible` parameters
    fail before it tries. Empty if libpq does not know the service.
    """
    asked = make_conninfo(conninfo, **impossible)
    pgconn = pq.PGconn.connect_start(asked.encode())
    try:
        return {
            option.keyword.decode(): option.val.decode(errors="replace")
            for option in pgconn.info
            if option.val
        }
    finally:
        pgconn.finish()


class Sent(NamedTuple):
    """The name of a statement's file, and its parameters."""

    name: str
    parameters: Mapping[str, object]


def _reader(kind: type[Loader]) -> type[Loader]:
    """Return a loader for the formats that our settings produce. Behind a pooler,
    psycopg may see other settings of the session between two transactions.
    """

    class Reader(kind):  # type: ignore[valid-type, misc]
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, None)

    return Reader


def _tolerant(kind: type[AnyLoader]) -> type[Loader]:
    """Return a loader that reads an instant beyond Python's calendar as its first or
    last day: one damaged row must not hide all others of a list.
    """

    class Tolerant(Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._exact = kind(oid, context)

        def load(self, data: Buffer) -> Any:
            try:
                return self._exact.load(data)
            except psycopg.DataError:
                text = bytes(data)
                early = text.startswith(b"-") or text.endswith(b"BC")
                return times.FIRST_DAY if early else times.LAST_DAY

    return Tolerant


def _exact_reader() -> type[AnyLoader]:
    """Return psycopg's own loader of timestamptz, the one in C if it is installed."""
    kind = psycopg.adapters.get_loader(_TIMESTAMPTZ, pq.Format.TEXT)
    assert kind is not None
    return kind


_TIMESTAMPTZ = psycopg.adapters.types["timestamptz"].oid

# No statement returns an interval.
_READERS = {
    "timestamptz": _tolerant(_reader(TimestamptzLoader)),
    "timestamp": _reader(TimestampLoader),
    "date": _reader(DateLoader),
}


def pin(
    connection: psycopg.Connection[Any], wanted: Mapping[str, str]
) -> tuple[Sent, ...]:
    """Apply pgflow's settings to a session; behind a pooler, return the statements that
    must begin each transaction.

    There are none, unless the peer is a pooler that ignores `options`: then each
    transaction may run in another session of the server, which pgflow must not change.
    A pooler shows by the process id of the session: it invents its own.
    """
    connection.adapters.register_loader("timestamptz", _tolerant(_exact_reader()))
    literals.register(connection.adapters)
    wanted = {**wanted, **{name: value for name, value, _ in WHERE_KNOWN}}
    asked = Sent("read_session", {"names": [*wanted]})
    pid, in_recovery, values = _ask(connection, asked)
    found = dict(zip(wanted, values, strict=True))
    names = [name for name in wanted if found[name] is not None]
    strange = {name: wanted[name] for name in names if found[name] != wanted[name]}
    if pid == connection.info.backend_pid:
        if strange:
            _ask(connection, _pinning(strange, only_now=False))
        return ()
    _require_transactions(connection)
    for name, reader in _READERS.items():
        connection.adapters.register_loader(name, reader)
    before: list[Sent] = []
    if strange.keys() & _TRANSACTIONS:
        before += [Sent("show_isolation", {}), Sent("isolate_statements", {})]
        if not in_recovery and wanted["default_transaction_read_only"] == "off":
            connection.read_only = False
            before.append(Sent("allow_writes", {}))
    # A default does not change the transaction that has begun.
    now = {name: wanted[name] for name in names if name not in _TRANSACTIONS}
    if wanted["default_transaction_read_only"] == "on":
        now["transaction_read_only"] = "on"
    return (*before, _pinning(now, only_now=True))


def _require_transactions(connection: psycopg.Connection[Any]) -> None:
    """Refuse a pooler that closes the connection at the first `begin`, which would look
    like an outage later.
    """
    try:
        with connection.transaction():
            pass
    except psycopg.OperationalError as error:
        if not is_of_statement_mode(error):
            raise
        raise ConfigurationError(*NO_TRANSACTIONS) from None


NO_TRANSACTIONS = (
    "the pooler is in statement mode, which knows no transactions",
    "Set pool_mode to transaction or session for this database.",
)


def is_of_statement_mode(error: BaseException) -> bool:
    """Return whether a pooler has refused a transaction.

    PgBouncer's messages are always English, and all have one SQLSTATE.
    """
    return "statement pooling" in str(error)


def _pinning(settings: Mapping[str, str], *, only_now: bool) -> Sent:
    return Sent(
        "pin_session",
        {
            "names": [*settings],
            "settings": [*settings.values()],
            "only_now": only_now,
        },
    )


def _ask(connection: psycopg.Connection[Any], sent: Sent) -> Any:
    row = run(connection, sent, tuple_row, prepare=False).fetchone()
    assert row is not None
    return row


def run(
    connection: psycopg.Connection[Any], sent: Sent, row_factory: Any, *, prepare: bool
) -> psycopg.Cursor[Any]:
    """Run a statement on a connection, and return its cursor."""
    statement = sqlfiles.statement(sent.name)
    values = [sent.parameters[key] for key in statement.parameters]
    cursor = psycopg.RawCursor(connection, row_factory=row_factory)
    return cursor.execute(statement.text, values, prepare=prepare)
