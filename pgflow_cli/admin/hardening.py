"""What waitress decides by itself: refusals, lanes, and how long a request may take.

Loaded when a server starts to listen, so that every other start stays quick.
"""

from __future__ import annotations

import socket
import struct
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from pgflow_cli.admin import problems
from pgflow_cli.admin.application import HEADERS
from pgflow_cli.admin.problems import Problem

SLOWEST = 10.0  # seconds until all of a request has arrived
SLOWEST_READER = 30.0  # seconds until all of an answer has been taken
# waitress repeats parts of the request in its own words.
_SAID = {
    HTTPStatus.BAD_REQUEST: "this is not a well-formed request of HTTP/1.0 or 1.1",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "the headers are larger than 16 KiB",
    HTTPStatus.NOT_IMPLEMENTED: "the only transfer coding this server knows is chunked",
}


class Refusal(ErrorTask):
    """Answers what waitress refuses, as the application does: same shape, headers."""

    def execute(self) -> None:
        """Write a problem document and hang up."""
        request: Any = self.request
        status = HTTPStatus(request.error.code)
        problem = self._problem(status)
        request_id = uuid.uuid4().hex
        answer = problem.response(request_id)
        body = answer.get_data()
        self.status = f"{status.value} {status.phrase}"
        self.response_headers = [
            *HEADERS.items(),
            ("Content-Type", problems.MEDIA_TYPE),
            ("X-Request-Id", request_id),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)

    def _problem(self, status: HTTPStatus) -> Problem:
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            # `serve` lets waitress refuse one byte later.
            return problems.body_too_large(self.channel.adj.max_request_body_size - 1)
        said = _SAID.get(status)
        return Problem(status, said) if said else problems.unknown_fault()


class Request(HTTPRequestParser):
    """A request that leaves no doubt where it ends, and to whom it goes."""

    proxy_netloc: str

    def __init__(self, adjustments: Any) -> None:
        super().__init__(adjustments)
        self.began = time.time()  # with its first byte

    def parse_header(self, header_plus: bytes) -> None:
        """Read the headers. Refuse two lengths, of which waitress takes one and a proxy
        before us may take the other: what is left over would be a request.
        """
        before = b"\r\n" + header_plus.lower()
        if b"\r\ntransfer-encoding" in before and (
            b"\r\ncontent-length" in before or b"http/1.0\r\n" in before
        ):
            raise ParsingError("two lengths")
        try:
            super().parse_header(header_plus)
        except ValueError:
            raise ParsingError("no address") from None
        if self.version not in ("1.0", "1.1"):
            raise ParsingError("another version")
        host = self.headers.get("HOST", "")
        if self.proxy_netloc and self.proxy_netloc.lower() != host.lower():
            raise ParsingError("two hosts")

    def received(self, data: bytes) -> int:
        """Take what has arrived. Who asks whether to go on with a body that is refused
        already hears that it is, and sends nothing more.
        """
        taken: int = super().received(data)
        if self.error:
            self.expect_continue = False
        return taken


class Channel(HTTPChannel):
    """A connection of a client, which gets its next answer when it has taken the last.

    waitress would answer all requests that have arrived: from a client that sends many
    at once and reads nothing, answers of 16 MiB would pile up, and then hold a thread.
    """

    server: Any
    socket: Any
    request: Any
    parser_class = Request
    error_task_class = Refusal
    _asked_at: float | None = None  # last seen with a request that is answered
    _untaken_since: float | None = None
    _waits = False

    def received(self, data: bytes) -> bool:
        """Take what has arrived; nothing is read before all answers are taken."""
        self._untaken_since = None
        taken = bool(super().received(data))
        if self.requests:
            self._asked_at = time.time()
        return taken

    def may_answer(self) -> bool:
        """Whether the next request may be answered now; else it is, later."""
        with self.outbuf_lock:
            self._waits = self.total_outbufs_len > 0
            return not self._waits

    def handle_write(self) -> None:
        """Send what can be sent, and go on with what waited for that."""
        super().handle_write()
        if self._waits and self.connected and not self.total_outbufs_len:
            self._waits = False
            self.server.add_task(self)

    def look_at_clock(self, now: float) -> None:
        """Give the place up if the client is too slow; the server asks each second.

        Ten seconds for the first request, or the rest of one; thirty for another one,
        whatever blank lines have come meanwhile, and to take an answer.
        """
        if self.requests:
            self._asked_at = now
        elif self.request is not None:  # received in part
            self.will_close |= now - self.request.began > SLOWEST
        elif self._asked_at is not None:
            self.will_close |= now - self._asked_at > self.adj.channel_timeout
        else:
            self.will_close |= now - self.creation_time > SLOWEST
        if not self.total_outbufs_len:
            self._untaken_since = None
        elif self._untaken_since is None:
            self._untaken_since = now
        elif now - self._untaken_since > SLOWEST_READER:
            self._drop()

    def _drop(self) -> None:
        """Close, and forget what was to be sent: waitress would wait until it can be
        written, which is for ever.
        """
        self.will_close = True
        at_once = struct.pack("ii", 1, 0)
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            self.socket.shutdown(socket.SHUT_RDWR)


class Lanes:
    """Threads for requests, and one for probes of liveness alone.

    When the database stalls, every thread may wait for it; a probe behind them would
    come too late, and a healthy process be restarted.
    """

    def __init__(self, usual: Any, paths: Collection[str]) -> None:
        self._usual, self._paths = usual, paths
        self._probes: Any = ThreadedTaskDispatcher()
        self._probes.set_thread_count(1)

    def add_task(self, channel: Any) -> None:
        """Queue the request that a channel has received first."""
        if not channel.may_answer():
            return
        is_probe = getattr(channel.requests[0], "path", None) in self._paths
        (self._probes if is_probe else self._usual).add_task(channel)

    def shutdown(self, *, timeout: float) -> None:
        """Let the threads end; what they do not finish in time is dropped."""
        self._probes.shutdown(timeout=timeout)
        self._usual.shutdown(timeout=timeout)


def close_slow_channels(server: Any) -> None:
    """Close connections of clients that are too slow.

    waitress has no such limits: a client that sends a byte now and then, or reads
    nothing, would keep its place for ever. Its loop calls `maintenance` each second.
    """
    inherited = server.maintenance

    def maintenance(now: float) -> None:
        inherited(now)
        for channel in list(server.active_channels.values()):
            channel.look_at_clock(now)

    server.maintenance = maintenance
