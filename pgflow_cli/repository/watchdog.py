"""A deadline for every call: no other timeout bounds a peer that stays silent."""

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
        """Ask the server to end what it does for it; this may take a moment."""
        ...

    def sever(self) -> None:
        """Free the thread that is blocked on it, at once."""
        ...


@dataclass(eq=False, slots=True)
class Call:
    """A call under the watchdog: `late` once its deadline has passed."""

    seconds: float
    deadline: float
    late: bool = False
    over: bool = False
    reported: bool = False  # that the watchdog could do nothing for it

    @property
    def tale(self) -> str:
        """Return the sentence in which an operator reads of a late call."""
        return f"the statement took longer than {self.seconds:.3g} s"


class Watchdog:
    """Frees threads whose call has passed its deadline.

    First the statement is canceled on the server, where it would otherwise go on,
    holding its locks and its backend; then, `GRACE` seconds later, the socket is shut:
    a silent peer hears of no cancellation. One thread serves every connection of a
    process, starts with the first call that has a deadline, and survives every error.
    """

    TICK = 0.1
    GRACE = 0.3
    MOST_CANCELLATIONS = 4  # under way at once; a peer may leave each unanswered

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
            # Before `late` is read, as the watchdog sets that before it reads this:
            # one of the two sees the other.
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
            with suppress(Exception):  # nothing ends this thread
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
        """Cancel in a thread of its own: the others' deadlines do not wait for it."""
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
        except RuntimeError:  # no thread is to be had: the socket is shut all the same
            self._cancellations.release()
