"""A deadline for every call to the database: no other timeout covers a peer that never
answers.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from pgflow_cli.errors import DatabaseUnavailable
from pgflow_cli.formats.clock import monotonic, sleep

log = logging.getLogger("pgflow")


class Severable(Protocol):
    """A connection whose blocked caller can be freed from another thread."""

    def cancel(self) -> None:
        """Ask the server to cancel the connection's statement; this may take a
        moment.
        """
        ...

    def sever(self) -> None:
        """Free the thread that is blocked on the connection, at once."""
        ...


@dataclass(eq=False, slots=True)
class Call:
    """A call under the watchdog: `late` once its deadline has passed."""

    seconds: float
    deadline: float
    late: bool = False
    over: bool = False
    reported: bool = False  # whether the log says that it could not be canceled

    @property
    def tale(self) -> str:
        """Return the sentence that tells an operator of a late call."""
        return f"the statement took longer than {self.seconds:.3g} s"


class Watchdog:
    """Frees threads whose call has passed its deadline.

    First it cancels the statement on the server, where it would otherwise go on and
    hold its locks; `GRACE` seconds later it shuts the socket down, because a peer that
    is gone receives no cancel request. One thread serves every connection of a process.
    It starts with the first call that has a deadline, and survives every error.
    """

    TICK = 0.1
    GRACE = 0.3
    MOST_CANCELLATIONS = 4  # at the same time; a peer may leave each unanswered

    def __init__(self) -> None:
        self._guarded: dict[Severable, Call] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._cancellations = threading.BoundedSemaphore(self.MOST_CANCELLATIONS)

    @contextmanager
    def guard(self, link: Severable, seconds: float | None) -> Iterator[Call]:
        """Free the block's thread if it takes longer than `seconds`; None: no limit.

        Raises `DatabaseUnavailable`, and nothing was sent, if there is no thread to
        watch over it.

        A link of which a call was `late` must not be used again: the cancellation may
        still be on its way.
        """
        if seconds is None or seconds == math.inf:
            yield Call(math.inf, math.inf)
            return
        if self._thread is None or not self._thread.is_alive():
            self._start()
        call = Call(seconds, monotonic() + seconds)
        # A plain dict: assigning and deleting one key are atomic, so the hot path takes
        # no lock.
        self._guarded[link] = call
        try:
            yield call
        finally:
            # Removed before `late` is read. The watchdog sets `late` before it looks
            # this up, so one of the two sees the other.
            call.over = True
            self._guarded.pop(link, None)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(
                    target=self._watch, name="pgflow-watchdog", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:  # again at the next call
                    raise DatabaseUnavailable(
                        f"no deadline can be set for a statement: {error}"
                    ) from None
                self._thread = thread

    def _watch(self) -> None:
        while True:
            sleep(self.TICK)
            with suppress(Exception):  # no error may end this thread
                for link, call in self._guarded.copy().items():
                    self._look_at(link, call)

    def _look_at(self, link: Severable, call: Call) -> None:
        now = monotonic()
        if now < call.deadline:
            return
        try:
            if not call.late:
                call.late = True
                if not call.over:
                    self._cancel(link)
            elif now >= call.deadline + self.GRACE and not call.over:
                link.sever()
        except Exception:
            if not call.reported:
                call.reported = True
                log.exception(
                    "a call cannot be freed", extra={"event": "watchdog_failed"}
                )

    def _cancel(self, link: Severable) -> None:
        """Cancel in a thread of its own, so that other deadlines do not wait for it."""
        if not self._cancellations.acquire(blocking=False):
            return

        def cancel() -> None:
            try:
                link.cancel()
            except Exception:
                log.debug(
                    "a statement was not canceled",
                    exc_info=True,
                    extra={"event": "cancel_failed"},
                )
            finally:
                self._cancellations.release()

        try:
            threading.Thread(target=cancel, name="pgflow-cancel", daemon=True).start()
        # No thread can be started: the socket is shut down all the same.
        except RuntimeError:
            self._cancellations.release()
