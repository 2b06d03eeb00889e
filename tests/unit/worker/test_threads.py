"""A thread that must stand is started again when it fails, and not when it is done."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pgflow_cli.worker.execution import threads
from pgflow_cli.worker.execution.threads import StandingThread

Wait = Callable[..., Any]


def attended(thread: StandingThread, condition: Callable[[], bool]) -> bool:
    thread.attend()
    return condition()


def test_one_that_fails_is_started_again(
    wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: failed.append(args[0]))
    began: list[int] = []
    go_on = threading.Event()

    def duty() -> None:
        began.append(len(began))
        if len(began) == 1:
            raise ValueError("a bug")
        go_on.wait(60)

    thread = StandingThread("duty", duty)
    wait_until(lambda: attended(thread, lambda: len(began) == 2), "it runs again")
    assert failed == [ValueError]
    go_on.set()
    thread.join(60)
    for _ in range(3):
        thread.attend()
    assert len(began) == 2


def test_one_that_cannot_be_started_is_tried_again(
    wait_until: Wait, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    began = threading.Event()
    thread = StandingThread("duty", began.set)
    with monkeypatch.context() as limits:
        limits.setattr(threading.Thread, "start", refuse)
        thread.attend()
    assert [vars(record)["event"] for record in caplog.records] == ["thread_postponed"]
    wait_until(lambda: attended(thread, began.is_set), "it runs")


def test_one_that_cannot_be_started_for_days_is_still_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    caplog.set_level(logging.CRITICAL, "pgflow.supervisor")
    now = [0.0]
    monkeypatch.setattr(threads, "monotonic", lambda: now[0])
    began = threading.Event()
    thread = StandingThread("duty", began.set)
    with monkeypatch.context() as limits:
        limits.setattr(threading.Thread, "start", refuse)
        for _ in range(1_100):
            now[0] += 60.0
            thread.attend()
    now[0] += 60.0
    thread.attend()
    assert began.wait(60)


FAILS = """
import sys, threading, time
from pgflow_cli.telemetry import logs
from pgflow_cli.worker import safeguards as precautions
from pgflow_cli.worker.execution.threads import OwnThread
logs.set_up("json", "info")
precautions.take()
threading.excepthook = lambda args: None  # as an application may
precautions.take_again()
kind = {"own": OwnThread, "theirs": threading.Thread}[sys.argv[1]]
thread = kind(target=int, args=("no number",))
thread.start()
thread.join()
"""


@pytest.mark.parametrize(("whose", "code"), [("own", 70), ("theirs", 0)])
def test_only_a_thread_of_ours_ends_the_process(whose: str, code: int) -> None:
    found = subprocess.run(
        [sys.executable, "-c", FAILS, whose],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == code
    assert ("thread_failed" in found.stderr) == (whose == "own")
