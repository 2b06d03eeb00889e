"""What waitress decides by itself: refusals, lanes, and how long a request may take.

Loaded when a server starts to listen, so that every other start stays quick.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from pgflow_cli.admin import problems
from pgflow_cli.admin.application import HEADERS
from pgflow_cli.admin.problems import Problem

SLOWEST = 10.0  # seconds until all of a request has arrived
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
    """A request that leaves no doubt where it ends."""

    def parse_header(self, header_plus: bytes) -> None:
        """Read the headers. Refuse two lengths, of which waitress takes one and whoever
        stands before us may take the other: what is left over would be a request.
        """
        before = b"\r\n" + header_plus.lower()
        if b"\r\ntransfer-encoding" in before and (
            b"\r\ncontent-length" in before or b"http/1.0\r\n" in before
        ):
            raise ParsingError("two lengths")
        super().parse_header(header_plus)
        if self.version not in ("1.0", "1.1"):
            raise ParsingError("another version")


class Channel(HTTPChannel):
    """A connection of a client."""

    parser_class = Request
    error_task_class = Refusal


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
        is_probe = getattr(channel.requests[0], "path", None) in self._paths
        (self._probes if is_probe else self._usual).add_task(channel)

    def shutdown(self, *, timeout: float) -> None:
        """Let the threads end; what they do not finish in time is dropped."""
        self._probes.shutdown(timeout=timeout)
        self._usual.shutdown(timeout=timeout)


def close_slow_requests(server: Any) -> None:
    """Close connections whose request has not arrived whole in ten seconds.

    waitress has no such limit: somebody who sends a byte now and then would keep his
    place for ever. Its loop calls `maintenance` each second.
    """
    inherited = server.maintenance

    def maintenance(now: float) -> None:
        inherited(now)
        for channel in list(server.active_channels.values()):
            began = _began(channel, now)
            if began is not None and now - began > SLOWEST:
                channel.will_close = True

    server.maintenance = maintenance


def _began(channel: Any, now: float) -> float | None:
    """Return since when a request is awaited; between two of them none is."""
    request = channel.request  # received in part, or None
    if request is not None:
        began: float = request.__dict__.setdefault("_began", now)
        return began
    said_nothing = channel.last_activity == channel.creation_time
    if said_nothing and not channel.requests:
        opened: float = channel.creation_time
        return opened
    return None
