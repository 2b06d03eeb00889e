"""What is notified while the line is being tested is not lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pgflow_cli.errors import DatabaseUnavailable
from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Listener
from pgflow_cli.worker import background
from pgflow_cli.worker.background import QueueListener
from pgflow_cli.worker.options import WorkerOptions
from tests.support.private_servers import pgbouncer, stalling_proxy
from tests.support.servers import Database

Wait = Callable[..., Any]


@pytest.mark.direct
def test_what_arrives_while_the_line_is_tested_is_heard_after_it(
    database: Database,
) -> None:
    listener = Listener(Settings(database.url))
    assert listener.hears_itself(30)
    with database.connect() as speaker:
        speaker.execute("select pg_notify('pgflow', 'emails')")
    assert listener.hears_itself(30)
    assert listener.wait(30) == ["emails"]
    listener.close()


@pytest.mark.timeout(60)
@pytest.mark.direct
def test_a_silent_line_is_not_taken_for_a_pooler(database: Database) -> None:
    with stalling_proxy(database) as (url, proxy):
        listener = Listener(Settings(url, call_timeout=1.0))
        assert listener.hears_itself(30)
        proxy.stall()
        with pytest.raises(DatabaseUnavailable, match="took longer than"):
            listener.hears_itself(0.2)
        listener.close()
        assert listener.hears_itself(30), "over another connection"
        listener.close()


def test_behind_a_pooler_the_line_is_deaf(database: Database) -> None:
    with pgbouncer(database) as url:
        listener = Listener(Settings(url, call_timeout=10.0))
        assert not listener.hears_itself(0.5)
        listener.close()


@pytest.mark.direct
def test_a_line_that_was_cut_is_not_taken_for_a_pooler(database: Database) -> None:
    """A process that was stopped for a while finds its own deadlines passed, and gives
    the connection up that listens; the next one does not listen.
    """
    listener = Listener(Settings(database.url, call_timeout=10.0))
    assert listener.hears_itself(30)
    listener._link.close()
    with pytest.raises(DatabaseUnavailable, match="that listens was lost"):
        listener.hears_itself(0.2)
    with pytest.raises(DatabaseUnavailable, match="that listens was lost"):
        listener.wait(0)
    listener.close()
    assert listener.hears_itself(30), "over another connection"
    listener.close()


@pytest.mark.direct
def test_a_pause_of_the_process_costs_a_worker_its_line_for_a_moment_only(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Wait,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made: list[Listener] = []

    class Known(Listener):
        def __init__(self, database: Settings) -> None:
            super().__init__(database)
            made.append(self)

    monkeypatch.setattr(background, "Listener", Known)
    wakes: list[None] = []
    settings = Settings(database.url, call_timeout=10.0)
    wake_ups = QueueListener(
        WorkerOptions(url=settings.url), settings, lambda: wakes.append(None)
    )
    thread = threading.Thread(target=wake_ups.run)
    thread.start()
    try:
        wait_until(lambda: wakes, "it listens")
        call = wait_until(
            lambda: settings.watchdog._guarded.get(made[0]._link), "it waits"
        )
        call.late = True  # as the watchdog finds it after a pause
        wait_until(lambda: len(wakes) > 1, "it listens again, and looks for jobs")
        heard = len(wakes)
        with database.connect() as speaker:
            speaker.execute("select pg_notify('pgflow', 'default')")
        wait_until(lambda: len(wakes) > heard, "it hears of a job")
    finally:
        wake_ups.stop()
        thread.join()
    assert "listen_deaf" not in [vars(r).get("event") for r in caplog.records]


@pytest.mark.direct
def test_a_deaf_line_is_tested_again_until_it_delivers(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Wait,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = [False, False]

    class DeafAtFirst(Listener):
        def hears_itself(self, patience: float = 3.0) -> bool:
            return answers.pop() if answers else super().hears_itself(patience)

    monkeypatch.setattr(background, "Listener", DeafAtFirst)
    monkeypatch.setattr(QueueListener, "RETEST", 0.01)
    caplog.set_level(logging.INFO)
    wakes: list[None] = []
    settings = Settings(database.url, call_timeout=10.0)
    wake_ups = QueueListener(
        WorkerOptions(url=settings.url), settings, lambda: wakes.append(None)
    )
    thread = threading.Thread(target=wake_ups.run)
    thread.start()
    try:
        wait_until(lambda: wakes, "it listens")
    finally:
        wake_ups.stop()
        thread.join()
    events = [vars(r).get("event") for r in caplog.records]
    assert [e for e in events if e in ("listen_deaf", "listen_heard")] == [
        "listen_deaf",
        "listen_heard",
    ]
