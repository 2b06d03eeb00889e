"""One look for all: while it is fresh, and when it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pgflow_cli.admin import pool as pools
from pgflow_cli.admin.cache import ReportCache
from pgflow_cli.admin.pool import Pool
from pgflow_cli.errors import DatabaseUnavailable
from pgflow_cli.inspection.queues import QueueReport
from pgflow_cli.repository import Database as Settings
from tests.support.jobs import plant
from tests.support.private_servers import stalling_proxy
from tests.support.servers import Database


@pytest.fixture
def reports(database: Database) -> Iterator[ReportCache]:
    with looking(Settings(database.url)) as made:
        yield made


@contextmanager
def looking(database: Settings) -> Iterator[ReportCache]:
    pool = Pool(database, 4)
    try:
        yield ReportCache(pool)
    finally:
        pool.close()


def test_a_connection_that_has_fallen_silent_is_found_out_before_a_change_waits_on_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_STALE", 0.0)
    with stalling_proxy(database) as (url, proxy):
        pool = Pool(Settings(url, call_timeout=30.0), 1)
        with pool.repository() as repository:
            repository.diagnosis.read_clock()
        proxy.stall()
        began = time.monotonic()
        with pool.repository() as repository:
            assert repository.diagnosis.read_clock() > 0
        assert time.monotonic() - began < 20  # of the 30 s that a change may take
        pool.close()


def names(taken: QueueReport) -> list[str]:
    return [status.queue for status in taken.queues]


def test_who_asks_while_a_look_is_fresh_sees_the_same(
    reports: ReportCache,
    connection: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pgflow_cli.admin.cache._FRESH", 60.0)
    first = reports.latest()
    plant(connection, queue="emails")
    assert reports.latest() is first
    monkeypatch.setattr("pgflow_cli.admin.cache._FRESH", 0.0)
    assert names(reports.latest()) == ["emails"]


def test_after_a_change_of_our_own_it_looks_again(
    reports: ReportCache, connection: psycopg.Connection[Any]
) -> None:
    reports.latest()
    plant(connection, queue="emails")
    reports.forget()
    assert names(reports.latest()) == ["emails"]


def test_who_waits_while_a_look_fails_does_not_try_again(database: Database) -> None:
    with stalling_proxy(database) as (url, proxy):
        settings = Settings(url, call_timeout=1.0, connect_timeout=2.0)
        with looking(settings) as reports, ThreadPoolExecutor(8) as threads:
            reports.latest()
            reports.forget()
            proxy.stall()
            ready = threading.Barrier(8)

            def ask(_: int) -> str:
                ready.wait()
                try:
                    return str(reports.latest())
                except DatabaseUnavailable as error:
                    return error.message

            began = time.monotonic()
            said = list(threads.map(ask, range(8)))
            # One after the other they would have taken eight seconds.
            assert time.monotonic() - began < 6
            assert len(set(said)) == 1
            # Whoever comes later asks anew: the proxy serves new connections.
            assert names(reports.latest()) == []
