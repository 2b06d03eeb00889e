"""Talks with a server outside of a session: asks why it refuses a connection, and sends
cancel requests.
"""

from __future__ import annotations

import os
import re
import selectors
import sys
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import capabilities, pq

from pgflow_cli.formats.clock import monotonic

# The fields of an error message in PostgreSQL's order; S (severity) is translated, C
# (SQLSTATE) is not.
_REFUSAL = re.compile(
    rb'\tErrorResponse\t S "[^"\n]*" (?:V "[^"\n]*" )?C "([0-9A-Z]{5})"'
)
CAN_TRACE = sys.platform == "linux" and pq.version() >= 140000
_MOST_TRACED = 65536  # bytes

# poll needs no descriptor, unlike epoll: a process without free descriptors can still
# cancel statements.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


def canceler(connection: psycopg.Connection[Any], seconds: float) -> Callable[[], None]:
    """Return a function that asks the server to end the connection's statement.

    The connection may be closed before the function is called. It waits for at most
    `seconds` if libpq can limit it (17 or later).
    """
    if not capabilities.has_cancel_safe():
        return connection.pgconn.get_cancel().cancel
    request = connection.pgconn.cancel_conn()

    def cancel() -> None:
        try:
            request.start()
            _drive(request, request.poll, seconds)
        finally:
            request.finish()

    return cancel


def refusal(conninfo: bytes, seconds: float) -> str | None:
    """Return the SQLSTATE with which a server refuses a connection.

    psycopg has no SQLSTATE for a connection that failed, and the text depends on the
    server's language, so this tries once more and traces the protocol. The trace goes
    to memory, because it may hold a password. None if the server accepts the connection
    now, is away or is starting, or if libpq cannot trace (psycopg can on Linux).

    Each trace leaks a stream of 4 KiB, so do not call it in a loop during an outage.
    """
    if not CAN_TRACE or pq.PGconn.ping(conninfo) != pq.Ping.OK:
        return None
    trace = os.memfd_create("pgflow-trace")
    try:
        pgconn = pq.PGconn.connect_start(conninfo)
        try:
            pgconn.trace(trace)
            _drive(pgconn, pgconn.connect_poll, seconds)
        finally:
            pgconn.untrace()  # what is left in the stream would go to another file
            pgconn.finish()
        found = _REFUSAL.findall(os.pread(trace, _MOST_TRACED, 0))
    finally:
        os.close(trace)
    return found[-1].decode() if found else None


def _drive(talk: Any, poll: Callable[[], int], seconds: float) -> None:
    """Run libpq's connection loop until it ends, or until the deadline."""
    deadline = monotonic() + seconds
    events = {
        pq.PollingStatus.READING: selectors.EVENT_READ,
        pq.PollingStatus.WRITING: selectors.EVENT_WRITE,
    }
    while (event := events.get(pq.PollingStatus(poll()))) is not None:
        left = deadline - monotonic()
        if left <= 0:
            return
        with _Selector() as selector:
            selector.register(talk.socket, event)
            selector.select(left)
