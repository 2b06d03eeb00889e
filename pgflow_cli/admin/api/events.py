"""A stream of what has changed, as server-sent events.

Each stream holds a thread of the server, so there are few; a page that gets none polls
every few seconds. Events are hints: they name what to look at again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from werkzeug.wrappers import Response

from pgflow_cli.admin.events import Broker
from pgflow_cli.admin.routes import Call, Route

MEDIA_TYPE = "text/event-stream"
_BEGINNING = b"retry: 3000\n\n"
_COMMENT = b": still here\n\n"
_SILENCE = 15.0  # seconds until a comment keeps proxies from hanging up
_TURN = 0.5  # seconds until the end of a client, or of the server, is noticed
# A client that has vanished without a word keeps its place no longer than that, and
# one whose login has ended finds out. Browsers reconnect by themselves.
_LONGEST = 600.0


class Stream:
    """The body of an answer that does not end by itself.

    Not a generator: one that has not begun would not give its place back.
    """

    def __init__(
        self, broker: Broker, gone: Callable[[], bool], ending: threading.Event
    ) -> None:
        self._broker = broker
        self._subscriber = broker.subscribe()
        self._gone = gone
        self._ending = ending
        self._began = time.monotonic()
        self._spoke = 0.0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next events, as soon as there are any."""
        if not self._spoke:
            return self._said(_BEGINNING)
        while not self._is_over():
            events = self._subscriber.take(_TURN)
            if events:
                return self._said(b"".join(event.encoded() for event in events))
            if time.monotonic() - self._spoke >= _SILENCE:
                return self._said(_COMMENT)
        raise StopIteration

    def close(self) -> None:
        """Give the place back; the server calls it, however the stream ended."""
        self._broker.unsubscribe(self._subscriber)

    def _said(self, part: bytes) -> bytes:
        self._spoke = time.monotonic()
        return part

    def _is_over(self) -> bool:
        too_old = time.monotonic() - self._began > _LONGEST
        return too_old or self._ending.is_set() or self._gone()


def events(call: Call) -> Response:
    """Stream what changes: queues, jobs, alerts."""
    # nginx would gather the stream until it is worth sending.
    headers = {"X-Accel-Buffering": "no"}
    if call.request.method == "HEAD":
        return Response(headers=headers, content_type=MEDIA_TYPE)
    gone = call.request.environ.get("waitress.client_disconnected", lambda: False)
    stream = Stream(call.service.broker, gone, call.service.ending)
    return Response(stream, headers=headers, content_type=MEDIA_TYPE)


ROUTES = (
    Route(
        "GET",
        "/events",
        events,
        "Stream what changes, as server-sent events: queues and jobs name queues (null:"
        " any), alerts has all there are.",
        answer=MEDIA_TYPE,
        errors={503: "As many listen as may (--max-sse), or the database is away."},
    ),
)
SHAPES = ()
