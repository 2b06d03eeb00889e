"""The stream of changes, over real sockets: who hears what, and when it ends."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg
import pytest
from werkzeug.test import Client

from pgflow_cli.admin import events as changes
from pgflow_cli.admin.events import EVERYTHING, KEPT, Event, Subscriber
from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.inspection import queues as queue_report
from pgflow_cli.repository import Repository
from tests.admin.conftest import problem_of
from tests.admin.running import SOON, Running
from tests.support.jobs import plant
from tests.support.private_servers import pgbouncer, private_server
from tests.support.servers import Database


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server look, and listen again, sooner than an operator needs it."""
    monkeypatch.setattr("pgflow_cli.admin.events._LOOK", 0.3)
    monkeypatch.setattr("pgflow_cli.admin.events._BROKEN", 0.5)
    monkeypatch.setattr("pgflow_cli.admin.cache._FRESH", 0.1)


class Stream:
    """A client that listens."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
        self.connection.request("GET", "/events")
        self.response = self.connection.getresponse()

    def event(self, name: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
        """Return the data of the next event of a name that fits."""
        for found, data in self.events():
            if found == name and fits(data):
                return data
        raise AssertionError(f"the stream ended without the event {name}")

    def events(self) -> Iterator[tuple[str, Any]]:
        name = ""
        while line := self.response.readline():
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)

    def close(self) -> None:
        self.response.close()
        self.connection.close()


class Serves(Protocol):
    def __call__(self, **settings: Any) -> Running: ...


@pytest.fixture
def serve(database: Database) -> Iterator[Serves]:
    """Start admin servers on the test's database, with settings of theirs."""
    running: list[Running] = []

    def start(**settings: Any) -> Running:
        own = {"url": database.url, "port": 0, "access_log": False, **settings}
        running.append(Running(AdminOptions(**own)))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@contextmanager
def listening(port: int) -> Iterator[Stream]:
    stream = Stream(port)
    try:
        yield stream
    finally:
        stream.close()


def test_whoever_comes_is_brought_up_to_date_then_told_what_changes(
    serve: Serves, connection: psycopg.Connection[Any]
) -> None:
    with listening(serve().port) as stream:
        response = stream.response
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        assert stream.response.readline() == b"retry: 3000\n"
        assert stream.event("queues") == {"queues": None}
        assert stream.event("jobs") == {"queues": None}
        assert stream.event("alerts") == {"database": True, "count": 0, "alerts": []}
        plant(connection, 3, queue="emails")
        assert stream.event("jobs") == {"queues": ["emails"]}
        alarm = stream.event("alerts")
        assert alarm["alerts"] == ["emails has no live worker"]


def test_a_pause_is_told(serve: Serves, connection: psycopg.Connection[Any]) -> None:
    plant(connection, queue="emails", due_in="1 hour")
    with listening(serve().port) as stream:
        stream.event("alerts")
        connection.execute(
            "insert into pgflow.queue_policies (queue, paused_until)"
            " values ('emails', 'infinity')"
        )
        assert stream.event("queues") == {"queues": ["emails"]}


def test_where_nothing_changes_nothing_is_said(
    serve: Serves, connection: psycopg.Connection[Any], wait_until: Callable[..., Any]
) -> None:
    plant(connection, queue="emails", due_in="1 hour")
    running = serve()
    looks: list[None] = []
    look = running.service.broker._look
    running.service.broker._look = lambda: (look(), looks.append(None))  # type: ignore[method-assign,func-returns-value]
    with listening(running.port) as stream:
        stream.event("alerts")
        known = len(looks)
        wait_until(lambda: len(looks) >= known + 2, "two more looks")
        plant(connection, queue="letters", due_in="1 hour")
        assert next(stream.events()) == ("queues", {"queues": ["letters"]})


def test_a_notification_is_told_before_the_next_look(
    serve: Serves,
    connection: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., Any],
) -> None:
    monkeypatch.setattr("pgflow_cli.admin.events._LOOK", 3600.0)
    with listening(serve().port) as stream:
        stream.event("alerts")
        wait_until(lambda: listeners(connection) == 1, "the server listens")
        for _ in range(100):
            connection.execute("select pg_notify('pgflow', 'emails')")
            connection.execute("select pg_notify('pgflow', 'letters')")
        told = stream.event("jobs")
        assert told["queues"] in (["emails", "letters"], ["emails"])


def listeners(connection: psycopg.Connection[Any]) -> int:
    """Return how many sessions of the test's database have asked to listen."""
    [found] = connection.execute(
        """
        select count(*) from pg_stat_activity
        where datname = current_database() and query like 'listen%'
          and application_name = 'pgflow admin'
        """
    ).fetchone() or (0,)
    return int(found)


def test_behind_a_pooler_it_looks_and_does_not_listen(
    serve: Serves,
    database: Database,
    connection: psycopg.Connection[Any],
) -> None:
    with pgbouncer(database) as url, listening(serve(url=url).port) as stream:
        stream.event("alerts")
        plant(connection, queue="emails")
        assert stream.event("jobs") == {"queues": ["emails"]}
        plant(connection, queue="letters")
        told = stream.event("jobs", lambda data: data["queues"] != ["emails"])
        assert told == {"queues": ["letters"]}


def test_above_the_cap_a_client_is_sent_away_and_the_api_answers(
    serve: Serves, wait_until: Callable[..., Any]
) -> None:
    running = serve(threads=4, max_sse=2)
    with listening(running.port) as first, listening(running.port) as second:
        first.event("alerts")
        second.event("alerts")
        with listening(running.port) as third:
            assert third.response.status == 503
            assert third.response.headers["Retry-After"] == "5"
            assert json.loads(third.response.read())["code"] == "TOO_MANY_STREAMS"
        for _ in range(20):
            assert running.status_of("/jobs") == 200
        assert running.service.broker.size == 2
    wait_until(lambda: running.service.broker.size == 0, "both places are free")
    with listening(running.port) as fourth:
        assert fourth.response.status == 200
        fourth.event("alerts")


def test_many_clients_come_and_go_and_leave_nothing(
    serve: Serves, wait_until: Callable[..., Any]
) -> None:
    running = serve(threads=4, max_sse=2)
    for round_number in range(10):
        peer = socket.create_connection(("127.0.0.1", running.port), timeout=SOON)
        peer.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if round_number % 2:
            assert peer.recv(100).startswith(b"HTTP/1.1 200")
        else:
            # Reset, not closed: what a killed browser does.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        wait_until(lambda: running.service.broker.size == 0, "its place is free")
    assert running.status_of("/health") == 200


def test_the_thread_lives_as_long_as_somebody_listens(
    serve: Serves, connection: psycopg.Connection[Any], wait_until: Callable[..., Any]
) -> None:
    def threads() -> int:
        return sum(each.name == "pgflow-events" for each in threading.enumerate())

    running = serve()
    assert threads() == 0
    for _ in range(2):
        with listening(running.port) as stream, listening(running.port) as other:
            stream.event("alerts")
            other.event("alerts")
            assert threads() == 1
            wait_until(lambda: listeners(connection) == 1, "one connection listens")
        wait_until(lambda: threads() == 0, "the thread has ended")
        wait_until(lambda: listeners(connection) == 0, "its connection is closed")


def test_a_stream_ends_with_the_server(serve: Serves) -> None:
    running = serve()
    with listening(running.port) as stream:
        stream.event("alerts")
        running.service.end()
        began = time.monotonic()
        assert stream.response.read().strip() == b""
        assert time.monotonic() - began < 10


def test_an_outage_is_told_and_survived(
    serve: Serves, wait_until: Callable[..., Any]
) -> None:
    with private_server() as own:
        running = serve(url=own.migrated())
        with listening(running.port) as stream:
            stream.event("alerts")
            own.kill()
            assert stream.event("alerts") == {
                "database": False,
                "count": 1,
                "alerts": ["the database does not answer"],
            }
            with listening(running.port) as newcomer:
                assert newcomer.event("alerts")["database"] is False
            own.start()
            assert stream.event("alerts")["database"] is True
            with psycopg.connect(own.url, autocommit=True) as connection:
                plant(connection, queue="emails")
                named = stream.event("jobs", lambda data: data["queues"])
                assert named == {"queues": ["emails"]}
                wait_until(lambda: listeners(connection) == 1, "it listens again")


def test_silence_is_broken_by_a_comment(
    serve: Serves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgflow_cli.admin.api.events._SILENCE", 0.5)
    with listening(serve().port) as stream:
        stream.event("alerts")
        assert stream.response.readline() == b"\n"
        assert stream.response.readline() == b": still here\n"


def test_a_stream_does_not_outlive_its_time(
    serve: Serves, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., Any]
) -> None:
    monkeypatch.setattr("pgflow_cli.admin.api.events._LONGEST", 1.0)
    running = serve()
    with listening(running.port) as stream:
        assert stream.response.read().startswith(b"retry: 3000\n\n")
        wait_until(lambda: running.service.broker.size == 0, "its place is free")


def test_who_only_asks_for_the_headers_takes_no_place(
    client_of: Callable[..., Client],
) -> None:
    client = client_of(max_sse=0)
    assert client.head("/events").status_code == 200
    problem_of(client.get("/events"), 503, "TOO_MANY_STREAMS")


def test_the_stream_needs_a_token(client_of: Callable[..., Client]) -> None:
    client = client_of(api_tokens=("a-token-nobody-shows",))
    problem_of(client.get("/events"), 401)


def test_who_cannot_keep_up_loses_the_oldest_and_looks_at_everything() -> None:
    slow = Subscriber()
    events = [Event("jobs", {"queues": [f"q{number}"]}) for number in range(KEPT + 3)]
    for event in events:
        slow.tell([event])
    assert slow.take(0) == [*EVERYTHING, *events[3:]]
    assert slow.take(0) == []
    slow.tell(events[:KEPT])
    assert slow.take(0) == events[:KEPT]


def test_an_event_is_one_event_whatever_its_data() -> None:
    encoded = Event("alerts", {"alerts": ["a\n\nevent: b\rdata: \u2028"]}).encoded()
    assert encoded.count(b"\n") == 3
    assert b"\r" not in encoded
    assert encoded.startswith(b"event: alerts\ndata: {")


def test_changes_are_named_by_queue(
    repository: Repository, connection: psycopg.Connection[Any]
) -> None:
    plant(connection, queue="emails", due_in="1 hour")
    before = queue_report.take(repository)
    assert changes.between(before, before) == []
    assert changes.between(before, queue_report.take(repository)) == []
    plant(connection, queue="letters")
    after = queue_report.take(repository)
    queues, jobs, alarm = changes.between(before, after)
    assert queues == Event("queues", {"queues": ["letters"]})
    assert jobs == Event("jobs", {"queues": ["letters"]})
    assert alarm == changes.alarms(after)
    # A queue that is gone has changed, too.
    assert changes.between(after, before)[1].data == {"queues": ["letters"]}


def test_of_many_queues_all_are_meant() -> None:
    assert changes.concerning("jobs", ["b", "a"]).data == {"queues": ["a", "b"]}
    names = [f"q{number}" for number in range(1000)]
    assert changes.concerning("jobs", names).data == {"queues": None}
