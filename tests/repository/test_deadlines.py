"""A server that falls silent holds up no thread for longer than a call may take, and
what took too long does not go on there.
"""

from __future__ import annotations

import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import OutcomeUnknown, TooSlow
from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Repository
from tests.support.private_servers import (
    PrivateServer,
    pgbouncer,
    private_server,
    stalling_proxy,
)
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Wait = Callable[..., Any]
NAME = "pgflow deadlines"


def backends(connection: Connection, where: str = "true") -> int:
    row = connection.execute(
        "select count(*) from pg_stat_activity"
        f" where application_name = '{NAME}' and {where}"
    ).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Let this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("moment", ["begin", "statement", "commit", "rollback"])
def test_a_transaction_ends_though_the_server_has_fallen_silent(
    database: Database, moment: str
) -> None:
    with stalling_proxy(database) as (url, proxy):
        repository = Repository.of(Settings(url, call_timeout=1.0))
        repository.diagnosis.read_clock()
        expected = KeyError if moment == "rollback" else OutcomeUnknown

        def stall_at(now: str) -> None:
            if moment == now:
                proxy.stall()

        def run() -> None:
            stall_at("begin")
            with repository.transaction():
                stall_at("statement")
                repository.diagnosis.read_clock()
                stall_at("commit")
                stall_at("rollback")
                if moment == "rollback":
                    raise KeyError

        with pytest.raises(expected):
            run()
        assert repository.diagnosis.read_clock() > 0  # over a new connection
        repository.close()


@pytest.mark.timeout(60)
def test_a_call_ends_though_there_is_no_descriptor_left(database: Database) -> None:
    with stalling_proxy(database) as (url, proxy):
        repository = Repository.of(Settings(url, call_timeout=0.5))
        for _ in range(2):
            repository.diagnosis.read_clock()
            proxy.stall()
            with no_descriptors_left(), pytest.raises(OutcomeUnknown, match="longer"):
                repository.diagnosis.read_clock()
        repository.close()


def test_a_connection_that_was_reset_can_be_severed(database: Database) -> None:
    repository = Repository.of(Settings(database.url))
    repository.diagnosis.read_clock()
    with socket.socket() as reset:  # shutting it is refused as after a reset
        os.dup2(reset.fileno(), repository.link.raw().fileno())
        repository.link.sever()
        repository.link.cancel()
    with pytest.raises(OutcomeUnknown):
        repository.diagnosis.read_clock()
    assert repository.diagnosis.read_clock() > 0
    repository.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("as_text", [False, True])
def test_what_waits_for_a_lock_past_its_deadline_is_gone_from_the_server(
    database: Database, wait_until: Wait, *, pooled: bool, as_text: bool
) -> None:
    with (
        pgbouncer(database) if pooled else _directly(database) as url,
        database.connect() as watcher,
        database.connect(autocommit=False) as holder,
    ):
        holder.execute("lock table pgflow.workers in access exclusive mode")
        settings = Settings(url, application_name=NAME, call_timeout=0.5)
        repository = Repository.of(settings)
        call: Callable[[], object] = repository.backups.count_live_workers
        if as_text:
            call = partial(repository.link.run_text, "select from pgflow.workers")
        for _ in range(3):
            with pytest.raises((TooSlow, OutcomeUnknown), match=r"longer than 0\.5 s"):
                call()
            # A pooler keeps its connection to the server, and so does the backend.
            wait_until(
                lambda: not backends(watcher, "wait_event_type = 'Lock'"),
                "the statement has ended while the lock is held",
                seconds=20,
            )
        holder.rollback()
        assert repository.backups.count_live_workers() == 0
        repository.close()


@contextmanager
def _directly(database: Database) -> Iterator[str]:
    yield database.url


@pytest.mark.timeout(120)
def test_behind_a_pooler_no_other_client_is_canceled(
    database: Database, wait_until: Wait
) -> None:
    with pgbouncer(database) as url, database.connect(autocommit=False) as holder:
        holder.execute("lock table pgflow.workers in access exclusive mode")
        settings = Settings(url, application_name=NAME, call_timeout=0.3)
        ended: list[int] = []
        over = threading.Event()

        def others() -> None:
            with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:
                while not over.is_set():
                    other.execute("select pg_sleep(0.05)")
                    ended.append(1)

        thread = threading.Thread(target=others)
        thread.start()
        try:
            repository = Repository.of(settings)
            for _ in range(8):
                with pytest.raises((TooSlow, OutcomeUnknown)):
                    repository.backups.count_live_workers()
            seen = len(ended)
            wait_until(lambda: len(ended) > seen + 1, "the other client goes on")
        finally:
            over.set()
            thread.join()
            repository.close()


@pytest.fixture
def without_standby() -> Iterator[tuple[PrivateServer, Connection]]:
    """A server whose commits wait for a standby that does not exist."""
    with private_server() as server:
        url = server.migrated()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("alter system set synchronous_standby_names = 'ghost'")
        # A reload comes to the checkpointer, whose word counts, at any time.
        server.stop("fast")
        server.start()
        local = "-c synchronous_commit=local"
        with psycopg.connect(url, autocommit=True, options=local) as connection:
            yield server, connection


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_statements_past_their_deadline_do_not_pile_up_without_a_standby(
    without_standby: tuple[PrivateServer, Connection],
) -> None:
    server, connection = without_standby
    repository = Repository.of(
        Settings(server.url, application_name=NAME, call_timeout=0.2)
    )
    unknown = 0
    for _ in range(20):
        with pytest.raises((OutcomeUnknown, TooSlow), match="longer than") as caught:
            repository.maintenance.begin_task("reap", runner="deadlines")
        unknown += caught.type is OutcomeUnknown
    assert unknown, "a commit that was not confirmed may have happened"
    assert backends(connection) <= 2
    repository.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_transaction_whose_commit_was_canceled_is_not_taken_for_durable(
    without_standby: tuple[PrivateServer, Connection], wait_until: Wait
) -> None:
    server, connection = without_standby
    repository = Repository.of(Settings(server.url, application_name=NAME))
    caught: list[BaseException] = []

    def commit() -> None:
        try:
            with repository.transaction():
                repository.maintenance.begin_task("reap", runner="deadlines")
        except OutcomeUnknown as error:
            caught.append(error)

    thread = threading.Thread(target=commit)
    thread.start()
    waiting = "wait_event = 'SyncRep'"
    wait_until(lambda: backends(connection, waiting), "the commit waits")
    connection.execute(
        "select pg_cancel_backend(pid) from pg_stat_activity"
        " where wait_event = 'SyncRep'"
    )
    thread.join(60)
    assert [type(error) for error in caught] == [OutcomeUnknown]
    repository.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("after_a_savepoint", [False, True])
def test_a_transaction_that_lost_its_connection_does_not_go_on_without_it(
    database: Database, *, after_a_savepoint: bool
) -> None:
    repository = Repository.of(Settings(database.url))

    def go_on() -> None:
        with repository.transaction():
            if after_a_savepoint:
                with repository.transaction():
                    repository.diagnosis.read_clock()
            repository.link.close()
            repository.maintenance.begin_task("reap", runner="deadlines")

    with pytest.raises(OutcomeUnknown, match="within a transaction"):
        go_on()
    assert repository.diagnosis.read_clock() > 0
    repository.close()
