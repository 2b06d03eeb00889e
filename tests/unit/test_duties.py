"""A duty of the supervisor outlives what nobody foresaw."""

from __future__ import annotations

import logging
import threading

import pytest

from pgflow_cli.running import duties


def test_a_duty_that_fails_is_taken_up_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(duties, "PAUSE", 0.01)
    stopped, turns = threading.Event(), iter([OSError(24, "full"), KeyError("x"), None])
    done = []

    def duty() -> None:
        if (failure := next(turns)) is not None:
            raise failure
        done.append("to its end")

    with caplog.at_level(logging.ERROR):
        duties.persist("upkeep", duty, stopped)
    assert done == ["to its end"]
    assert caplog.text.count("the duty upkeep failed, again in") == 2


def test_a_duty_that_fails_while_all_ends_is_not_taken_up_again() -> None:
    stopped, turns = threading.Event(), []

    def duty() -> None:
        turns.append(1)
        stopped.set()
        raise OSError(24, "full")

    duties.persist("upkeep", duty, stopped)
    assert turns == [1]
