"""The watchdog frees whatever is late, and nothing ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pgflow_cli.errors import DatabaseUnavailable
from pgflow_cli.repository import Watchdog

Wait = Callable[..., Any]


class Line:
    """A connection on which a caller waits until it is severed."""

    def __init__(
        self,
        *,
        cancel: Callable[[], object] = lambda: None,
        fails: Exception | None = None,
    ) -> None:
        self.heard: list[str] = []
        self.freed = threading.Event()
        self._on_cancel, self._fails = cancel, fails

    def cancel(self) -> None:
        self.heard.append("cancel")
        self._on_cancel()

    def sever(self) -> None:
        self.heard.append("sever")
        if self._fails is not None:
            raise self._fails
        self.freed.set()

    def is_freed(self, watchdog: Watchdog) -> bool:
        """Whether a call with a deadline ends."""
        with watchdog.guard(self, 0.01) as call:
            return self.freed.wait(30) and call.late


@pytest.mark.parametrize("failure", [OSError(107, "not connected"), RuntimeError()])
def test_what_goes_wrong_with_one_line_keeps_no_other_from_being_freed(
    failure: Exception, wait_until: Wait
) -> None:
    watchdog, broken = Watchdog(), Line(fails=failure)
    with watchdog.guard(broken, 0.01):
        wait_until(lambda: "sever" in broken.heard, "it was tried")
        assert Line().is_freed(watchdog)
    assert Line().is_freed(watchdog), "and later, too"


def test_a_statement_is_canceled_before_its_line_is_severed() -> None:
    line = Line()
    assert line.is_freed(Watchdog())
    assert line.heard[:2] == ["cancel", "sever"]


def test_cancellations_without_an_answer_hold_up_no_thread() -> None:
    watchdog, answer = Watchdog(), threading.Event()
    try:
        for _ in range(Watchdog.MOST_CANCELLATIONS + 2):
            line = Line(cancel=answer.wait)
            assert line.is_freed(watchdog)
        assert "cancel" not in line.heard, "no more threads than that"
    finally:
        answer.set()


def test_without_a_thread_to_watch_nothing_is_sent_until_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    watchdog, line = Watchdog(), Line()
    with monkeypatch.context() as limits:
        limits.setattr(threading.Thread, "start", refuse)
        with pytest.raises(DatabaseUnavailable, match="can't start new thread"):
            line.is_freed(watchdog)
    assert line.is_freed(watchdog)


def test_what_ends_in_time_is_left_alone() -> None:
    watchdog, line, other = Watchdog(), Line(), Line()
    with watchdog.guard(line, 0.01) as call:
        call.over = True  # as the guard does it, before the watchdog has looked
        assert other.is_freed(watchdog)
    assert line.heard == []
    assert call.late, "the line is given up all the same"


def test_without_a_limit_nothing_is_watched() -> None:
    watchdog = Watchdog()
    with watchdog.guard(Line(), None) as call:
        assert call.deadline > time.monotonic() + 10**9
    assert not call.late
