"""What the admin server answers in a second, alone and beside 500 trickling clients.

Eight clients keep their connections. Beside it stand, of the same run: a bare hello of
werkzeug on the same waitress, and a round trip of `select 1`.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import quantiles

import psutil
import psycopg

from pgflow_cli import migrations
from pgflow_cli.admin import server as admin_server
from pgflow_cli.admin.plan import AdminPlan
from pgflow_cli.repository import Database, Repository
from tests.acceptance.admin_servers import AdminServer, start_server
from tests.benchmarks.durable import durable_server
from tests.servers import Server

PATHS = (
    "/health",
    "/jobs",
    "/dlq",
    "/metrics",
    "/jobs/{id}/explain",
    "/metrics/prom",
)
CLIENTS = 8


def main(arguments: list[str]) -> None:
    """Measure each path alone, then beside slow clients, then with a million jobs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per path")
    parser.add_argument("--slow", type=int, default=500, help="trickling clients")
    parser.add_argument("--ready", type=int, default=1_000_000, help="jobs that wait")
    options = parser.parse_args(arguments)
    print(f"load before: {os.getloadavg()}", flush=True)
    with durable_server() as server, tempfile.TemporaryDirectory() as folder:
        url, job_id = loaded(server, options.ready)
        admin = start_server(
            Path(folder), url, "--no-access-log", "--log-level", "warning"
        )
        try:
            measure(admin, url, job_id, options)
        finally:
            admin.terminate()
    print(f"load after: {os.getloadavg()}", flush=True)


def measure(
    admin: AdminServer, url: str, job_id: str, options: argparse.Namespace
) -> None:
    """Print a line for each path and condition."""
    trip = round_trip(url)
    print(f"select 1: p50 {trip * 1000:.2f} ms")
    with hello() as port:
        bare, *_ = timed(port, "/", options.seconds, "hello")
    began = time.monotonic()
    scrape(admin.port)
    first = time.monotonic() - began
    for slow in (0, options.slow):
        with trickling(admin.port, slow):
            for template in PATHS:
                path = template.format(id=job_id)
                label = f"{template} beside {slow} slow" if slow else template
                rate, *_ = timed(admin.port, path, options.seconds, label)
                print(f"{'':<42} {rate / bare:6.2f} x hello", flush=True)
    print(f"first scrape at {options.ready:,} ready jobs: {first:.2f} s")
    memory = psutil.Process(admin.process.pid).memory_info().rss
    print(f"memory of the server: {memory / 2**20:.0f} MiB")


def loaded(server: Server, ready: int) -> tuple[str, str]:
    """Make a database with so many jobs ready; return its URL and a job."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create database admin")
    url = server.url_of("admin")
    repository = Repository.of(Database(url))
    migrations.migrate(repository)
    migrations.ensure_partitions(repository)
    repository.record_identity()
    repository.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        for _ in range(0, ready, 100_000):
            connection.execute(
                """
                select count(pgflow.enqueue(
                  'noop', '{}'::jsonb,
                  queue => (array['emails', 'reports', 'default'])[1 + n %% 3]
                )) from generate_series(1, least(%s, 100000)) as n
                """,
                (ready,),
            )
        connection.execute("vacuum analyze")
        row = connection.execute(
            "select job_id::text from pgflow.pending limit 1"
        ).fetchone()
    assert row is not None
    return url, str(row[0])


def round_trip(url: str) -> float:
    """Return the median time of `select 1`, in seconds."""
    taken = []
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(500):
            began = time.perf_counter()
            connection.execute("select 1").fetchone()
            taken.append(time.perf_counter() - began)
    return sorted(taken)[250]


def timed(port: int, path: str, seconds: float, label: str) -> tuple[float, float]:
    """Ask for a path with keep-alive clients; return requests per second and p99."""
    warmed = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    warmed.request("GET", path)  # a server may still be loading
    warmed.getresponse().read()
    warmed.close()
    taken: list[float] = []
    statuses: set[int] = set()
    end = time.monotonic() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while time.monotonic() < end:
            began = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            taken.append(time.perf_counter() - began)
            statuses.add(answer.status)
        connection.close()

    _together([client] * CLIENTS)
    assert statuses == {200}, f"{path}: {statuses}"
    cuts = quantiles(taken, n=100)
    rate = len(taken) / seconds
    print(
        f"{label:<42} {rate:7.0f}/s  p50 {cuts[49] * 1000:7.1f} ms"
        f"  p99 {cuts[98] * 1000:7.1f} ms",
        flush=True,
    )
    return rate, cuts[98]


def scrape(port: int) -> None:
    """Ask for all metrics once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics/prom")
    assert b"pgflow_db_up 1.0" in connection.getresponse().read()
    connection.close()


@contextmanager
def hello() -> Iterator[int]:
    """Serve the least that werkzeug can on our waitress; yield its port."""
    plan = AdminPlan(url="", port=0)
    bound = admin_server.listening(plan)
    process = get_context("fork").Process(target=_serve_hello, args=(plan, bound))
    process.start()
    try:
        yield bound.getsockname()[1]
    finally:
        process.kill()
        process.join()
        bound.close()


def _serve_hello(plan: AdminPlan, bound: socket.socket) -> None:
    from werkzeug.wrappers import Request, Response  # noqa: PLC0415

    @Request.application
    def application(_request: Request) -> Response:
        return Response("hello")

    admin_server.serve(plan, bound, application).run()


@contextmanager
def trickling(port: int, count: int) -> Iterator[None]:
    """Keep so many clients that send a byte a second, opened again when closed."""
    ended = threading.Event()

    def trickle() -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(_slow(port)) for _ in range(count)]
            while not ended.wait(1):
                for number, each in enumerate(clients):
                    try:
                        each.send(b"a")
                    except OSError:
                        each.close()
                        clients[number] = stack.enter_context(_slow(port))

    thread = threading.Thread(target=trickle)
    if count:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if count:
            thread.join()


def _slow(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), 30)
    made.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
    return made


def _together(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
