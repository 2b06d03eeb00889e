"""Turns the errors of psycopg and the server into sentences for an operator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

import psycopg
from psycopg import errors as sqlstate
from psycopg import pq
from psycopg.conninfo import make_conninfo

from pgflow_cli.errors import (
    Blocked,
    ConfigurationError,
    Contention,
    DatabaseUnavailable,
    DataDamaged,
    OutOfRange,
    PermissionDenied,
    PgflowError,
    Refused,
    SchemaMissing,
    StatementFailed,
    TooSlow,
    Unadmitted,
    UnknownDatabase,
    UsageError,
)
from pgflow_cli.repository import connection_mistakes
from pgflow_cli.repository.database import Database
from pgflow_cli.repository.negotiation import CAN_TRACE, refusal

IS_IT_UP = "Check that the server runs and that the URL names it."

# Classes and codes of SQLSTATE that mean that a later try may succeed.
_OUTAGE = ("08", "53", "57P", "58", "25006", "XX")
# Timeouts by which a server ends a session: its open transaction is rolled back.
ENDED_BY = {
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "57P05": "idle_session_timeout",
}
_TIMEOUTS = "pgflow doctor --check session tells what this role and database set."
OWN_OR_THEIRS = (
    "The session's lock_timeout has ended the wait, or where none is set pgflow's own"
    f" limit of 10 s. {_TIMEOUTS}"
)
# SQLSTATEs of a page, an index, a file or a disk block that cannot be read.
_DAMAGE = {"XX001", "XX002", "58030", "58P01"}
_LOOK_FOR_DAMAGE = (
    "Where, and what to do: pgflow doctor --check unreadable, and RUNBOOK, Pages that "
    "are damaged"
)
_CONTENTION = {"40001", "40P01"}
_CONCURRENTLY = "tuple concurrently "
_BESIDE_THE_POINT = ("\t", "DETAIL:", "HINT:")
_DENIED = ("28", "42501")
_CREDENTIALS = "Check user and password, and pg_hba.conf on the server."
# Hints for a refused connection, by class or code of SQLSTATE.
_WAYS_IN = {
    "28": _CREDENTIALS,
    "42501": "Let the role in: grant connect on database NAME to ROLE;",
    "3D000": "Check the name in the URL, or make the database: createdb NAME",
    "53300": "No connection is left: end idle ones, or raise the limit of the role, of "
    "the database or of the server.",
    "57P03": "The server starts or stops: try again in a moment.",
}
# Classes of SQLSTATE of options that a server does not know or accept.
_MISTAKES = ("0A", "22", "42")
_PARAMETERS = (
    "Check the database URL, its service file and the variables that begin with PG."
)
_NO_SUCH_OBJECT = {"3F000", "42P01", "42883", "42703"}


def translate(  # noqa: PLR0911 - one return for each kind of error
    where: str, error: psycopg.Error
) -> PgflowError:
    """Return our error for a server error; `StatementFailed` if it is a bug of pgflow.

    A server's DETAIL may print a whole row with its payload. It is passed on only from
    our own functions, whose details hold numbers and names.
    """
    code = error.sqlstate or ""
    primary = error.diag.message_primary or str(error)
    if code.startswith("PF"):
        return _refusal(code, primary, error.diag.message_detail)
    if code == "55P03":
        return Blocked(
            f"another transaction holds what this one needs: {primary}",
            OWN_OR_THEIRS,
        )
    # Two sessions that change one schema at once, such as two restores; the error has
    # no code of its own.
    if code in _CONTENTION or (code == "XX000" and _CONCURRENTLY in primary):
        return Contention(f"the database asked to try again: {primary}")
    if code == "57014":
        return TooSlow(
            f"the statement was canceled: {primary}",
            "Unless another session has canceled it, or holds a lock that it waited for"
            " (pgflow doctor --check locks names it), statement_timeout is too short:"
            f" that of --timeout, else of the role or the database. {_TIMEOUTS}",
        )
    if code in ENDED_BY:
        return ended_session(code, primary)
    if code in _DAMAGE:
        return DataDamaged(
            f"data of {where} cannot be read: {primary}", _LOOK_FOR_DAMAGE
        )
    if code.startswith(_OUTAGE):
        return DatabaseUnavailable(f"{where} does not take the statement: {primary}")
    if code.startswith(_DENIED):
        return PermissionDenied(
            primary, "Which grants are missing: pgflow doctor --check privileges"
        )
    if code in _NO_SUCH_OBJECT and "pgflow" in primary:
        return SchemaMissing(
            f"the schema is missing or of another version: {primary}",
            "Try: pgflow migrate",
        )
    return StatementFailed(f"{primary} (SQLSTATE {code})")


def ended_session(code: str, primary: str) -> DatabaseUnavailable:
    """Return the error of a session that a timeout has ended: a key of
    `ENDED_BY`, and the server's words.
    """
    return DatabaseUnavailable(
        f"the server has ended the session: {primary}",
        f"{ENDED_BY[code]} of the role or the database is too short. {_TIMEOUTS}",
    )


def whose_wait(lock_timeout: str) -> str:
    """Say what has ended a wait for a lock, in a session with this lock_timeout."""
    if lock_timeout == "0":
        return "pgflow's own limit of 10 s has ended the wait; no lock_timeout is set."
    return (
        f"The session's lock_timeout of {lock_timeout} has ended the wait. {_TIMEOUTS}"
    )


def _refusal(code: str, primary: str, detail: str | None) -> PgflowError:
    """Turn an error of our enqueue functions into ours; `PF4xx` is bad input, the rest
    is a guard.
    """
    details = json.loads(detail) if detail else {}
    if code.startswith("PF4"):
        kind = OutOfRange if code == "PF422" else UsageError
        return kind(primary, details=details)
    reason = details.pop("reason_code", "REFUSED")
    return Refused(primary, reason_code=reason, details=details)


def refused_connection(
    database: Database, error: psycopg.Error | OSError, parameters: dict[str, str]
) -> PgflowError:
    """Turn a connection that did not come about into one of our errors.

    After a first success it is an outage, whatever was said: of a role, a password or a
    rule that is being changed.
    """
    where = database.display()
    if database.reached.is_set():
        return connection_error(where, error, outage=True)
    code = None
    answer: int = pq.Ping.NO_RESPONSE
    unmet: list[str] = []
    # An error of psycopg itself, which could not parse the parameters.
    mistaken = isinstance(error, psycopg.ProgrammingError)
    if not isinstance(error, sqlstate.ConnectionTimeout | OSError):
        with suppress(psycopg.Error, OSError):
            conninfo = make_conninfo("", **parameters).encode()
            mistaken = mistaken or connection_mistakes.are_in(parameters, conninfo)
            if not mistaken:
                answer = pq.PGconn.ping(conninfo)
                code = refusal(conninfo, database.connect_timeout)
            if not mistaken and code is None:
                unmet = connection_mistakes.unmet_demands(conninfo, error)
    return connection_error(
        where,
        error,
        code or ("57P03" if answer == pq.Ping.REJECT else None),
        url=database.url,
        mistaken=mistaken,
        answers=answer == pq.Ping.OK,
        unmet=unmet,
    )


def connection_error(  # noqa: PLR0911 - the same
    where: str,
    error: psycopg.Error | OSError,
    code: str | None = None,
    *,
    outage: bool = False,
    url: str = "",
    mistaken: bool = False,
    answers: bool = False,
    unmet: Sequence[str] = (),
) -> PgflowError:
    """Return our error for a connection that could not be opened.

    `code` is the SQLSTATE of the refusal, if there was one: the words are in the
    server's language. `mistaken`: the parameters are wrong, so no server was asked; as
    wrong is what a server does not know. What another try can mend is an outage: too
    many connections, too, whether of a role or of a database. `answers`: a server is
    there. `unmet` are parameters that ask for what it is not, or does not do.
    """
    # The text of libpq may repeat the connection string; only its last clause is ours
    # to show. A line that begins with a tab only asks whether the server is running.
    told = str(error).strip().splitlines()
    lines = [line for line in told if not line.startswith(_BESIDE_THE_POINT)]
    last = lines[-1] if lines else "no answer"
    reason = last.rsplit("failed: ", 1)[-1].removeprefix("FATAL:  ")
    reason = reason.removeprefix("connection is bad: ")
    text = f"cannot connect to {where}: {reason}"
    code = code or ""
    way_in = _WAYS_IN.get(code) or _WAYS_IN.get(code[:2])
    if outage:
        answered = "FATAL:" in str(error)
        return DatabaseUnavailable(text, *(() if answered else (IS_IT_UP,)))
    if code == "3D000":
        return UnknownDatabase(text, _WAYS_IN[code])
    if code.startswith(_DENIED) or _lacks_password(error):
        return PermissionDenied(text, way_in or _CREDENTIALS)
    if mistaken or code.startswith(_MISTAKES):
        return _mistake(where, reason, url)
    if unmet:
        return _lack(where, reason, url, unmet)
    if code or answers:
        return Unadmitted(text, way_in or "The log of the server may say more.")
    return DatabaseUnavailable(text, IS_IT_UP)


def _lack(
    where: str, reason: str, url: str, unmet: Sequence[str]
) -> ConfigurationError | Unadmitted:
    """Name the demands that a server which answers does not meet; a failover may bring
    one that does.
    """
    names = connection_mistakes.askers(url, unmet)
    asking = f"{' and '.join(names)} {'asks' if len(names) == 1 else 'ask'}"
    text = f"cannot connect to {where}: {reason}"
    if {*unmet} <= {*connection_mistakes.MAY_COME}:
        return Unadmitted(
            text,
            f"{asking} for another kind of server; after a failover it may be one.",
        )
    return ConfigurationError(
        f"{text}; the server answers, but not as {asking}",
        "Set that up on the server, or ask for less.",
    )


def _mistake(where: str, reason: str, url: str) -> ConfigurationError:
    blamed = " or ".join(connection_mistakes.blamed(url, reason))
    if not blamed:
        return ConfigurationError(f"cannot connect to {where}: {reason}", _PARAMETERS)
    return ConfigurationError(
        f"{blamed} is wrong, cannot connect to {where}: {reason}",
        f"Correct {blamed}, or leave it out.",
    )


def _lacks_password(error: psycopg.Error | OSError) -> bool:
    """Whether libpq had no password to send, or none that was taken.

    That no password was accepted is a guess, for systems on which a refusal has no
    SQLSTATE.
    """
    pgconn = getattr(error, "pgconn", None)
    if pgconn is None:
        return False
    return bool(pgconn.needs_password or (pgconn.used_password and not CAN_TRACE))
