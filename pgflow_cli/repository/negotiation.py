"""What is said to a server outside of a session: why it refuses one, and that a
statement is to end.
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

# Its fields in the order in which PostgreSQL sends them; S is translated, C is not.
_REFUSAL = re.compile(
    rb'\tErrorResponse\t S "[^"\n]*" (?:V "[^"\n]*" )?C "([0-9A-Z]{5})"'
)
CAN_TRACE = sys.platform == "linux" and pq.version() >= 140000
_MOST_TRACED = 65536  # bytes

# No descriptor of its own, unlike epoll: a full table must not prevent cancellations.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


def canceler(connection: psycopg.Connection[Any], seconds: float) -> Callable[[], None]:
    """Return a function that asks the server to end the connection's statement.

    The connection may be closed before it is called; it waits for so long at most where
    libpq is able to (17 or later).
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

    psycopg gives none for a connection that does not come about, and the words depend
    on the language of the server: so another attempt is traced. Into memory, because a
    trace may hold a password. None where the server accepts us by now, is away, is
    starting, or where nothing can be traced (psycopg can on Linux).

    Each trace leaves a stream of 4 KiB behind: not for outages that go on and on.
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
    """Let libpq talk until it has said all, or the time is over."""
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
