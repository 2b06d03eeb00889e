"""What the admin server answers in a second, alone and beside 500 trickling clients.

Eight clients keep their connections; they and the trickling ones are processes of their
own. Beside each path stands a bare hello of werkzeug on the same waitress, asked just
before and just after it, so that what else the machine does weighs on both. Then come
scrapes, streams of events, memory, the page in Chromium (bench_page) and schemathesis.
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median, quantiles

import psutil
import psycopg

from pgflow_cli.admin import server as admin_server
from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.inspection.job_list import JobList
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.repository import Database, Repository
from tests.acceptance.admin_servers import AdminServer, start_server
from tests.admin import fuzzing
from tests.benchmarks import bench_page
from tests.benchmarks.durable import durable_server
from tests.support.servers import Server

PATHS = (
    "/health",
    "/jobs",
    "/jobs?status=queued",
    "/jobs/{id}",
    "/jobs/{id}/explain",
    "/dlq",
    "/metrics",
    "/metrics/prom",
    "/",
    "/ui/queues",
    "/ui/jobs",
    "/ui/dlq",
)
CLIENTS = 8
SCRAPERS = 10
STREAMS = 8
WARM = 15  # requests of each client before it counts: every connection has its plans
CACHED = 6.0  # seconds after which a scrape looks again


def main(arguments: list[str]) -> None:
    """Measure each path alone, then beside slow clients, then with a million jobs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per path")
    parser.add_argument("--slow", type=int, default=500, help="trickling clients")
    parser.add_argument("--ready", type=int, default=1_000_000, help="jobs that wait")
    parser.add_argument("--queues", type=int, default=3, help="queues they wait in")
    parser.add_argument("--only-server", action="store_true", help="no page, no cases")
    options = parser.parse_args(arguments)
    print(f"load before: {os.getloadavg()}", flush=True)
    with durable_server() as server, tempfile.TemporaryDirectory() as folder:
        url, job_id = loaded(server, options)
        admin = start_server(Path(folder), url, "--no-access-log")
        try:
            measure(admin, url, job_id, options)
        finally:
            admin.terminate()
    if not options.only_server:
        bench_page.main([])
        fuzzing.main(["--examples", "20"])
    print(f"load after: {os.getloadavg()}", flush=True)


def measure(
    admin: AdminServer, url: str, job_id: str, options: argparse.Namespace
) -> None:
    """Print a line for each path and condition."""
    server = psutil.Process(admin.process.pid)
    print(f"memory of the server at its start: {memory(server)}")
    scrapes(admin.port, options)
    bare(url)
    with hello() as port:
        for slow in (0, options.slow):
            with trickling(admin.port, slow):
                for template in PATHS:
                    path = template.format(id=job_id)
                    label = f"{template} beside {slow} slow" if slow else template
                    compared(label, port, admin.port, path, options.seconds)
    streams(admin.port, url, server, options.seconds)
    print(f"memory of the server after all that: {memory(server)}")


def compared(label: str, plain: int, port: int, path: str, seconds: float) -> None:
    """Print what a path does, and how it compares with a hello around it."""
    before = timed(plain, "/", seconds / 2)
    found = timed(port, path, seconds)
    after = timed(plain, "/", seconds / 2)
    rate, p99 = (before.rate + after.rate) / 2, (before.p99 + after.p99) / 2
    print(
        f"{label:<36} {found.rate:6.0f}/s ({found.rate / rate:5.3f} of hello)"
        f"  p50 {found.p50 * 1000:6.1f} ms"
        f"  p99 {found.p99 * 1000:6.1f} ms ({found.p99 / p99:4.1f} x hello)"
        f"  of {found.requests}",
        flush=True,
    )


def bare(url: str) -> None:
    """Print what a page of jobs takes without a web server, beside `select 1`."""
    repository = Repository.of(Database(url))
    with psycopg.connect(url, autocommit=True) as connection:
        trip = typical(lambda: connection.execute("select 1").fetchone())
        jobs = JobList(repository, JobFilter(), newest=True)
        page = typical(lambda: jobs.page(100, None))
    repository.close()
    print(
        f"select 1: p50 {trip * 1000:.2f} ms; a page of 100 jobs: {page * 1000:.2f} ms"
        f" ({page / trip:.0f} x)"
    )


def typical(work: Callable[[], object]) -> float:
    """Return the median time of something, in seconds, once it is warm."""
    taken = []
    for _ in range(300):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken[50:])


def scrapes(port: int, options: argparse.Namespace) -> None:
    """Print what the first scrape takes, and several at once when nothing is cached."""
    first = scrape(port)
    ready = f"{options.ready:,} ready jobs, {options.queues:,} queues"
    print(f"first scrape at {ready}: {first:.2f} s")
    time.sleep(CACHED)
    alone = scrape(port)
    time.sleep(CACHED)
    with ThreadPoolExecutor(SCRAPERS) as several:
        last = max(several.map(scrape, [port] * SCRAPERS))
    print(
        f"a later scrape: {alone:.2f} s; the last of {SCRAPERS} at once: {last:.2f} s"
        f" ({last / alone:.1f} x)",
        flush=True,
    )


def streams(port: int, url: str, server: psutil.Process, seconds: float) -> None:
    """Print what streams of events cost the server while jobs keep coming."""
    alone = _streaming(port, url, server, seconds, count=0)
    spent = _streaming(port, url, server, seconds, count=STREAMS)
    print(
        f"{STREAMS} streams of events, {spent.changes:.0f} changes/s:"
        f" {spent.events:.1f} events/s, {spent.cores:.3f} of a core;"
        f" without streams {alone.cores:.3f}",
        flush=True,
    )


@dataclass(frozen=True)
class Streamed:
    """What happened in a second, and how much of a core the server took for it."""

    changes: float
    events: float
    cores: float


def _streaming(
    port: int, url: str, server: psutil.Process, seconds: float, *, count: int
) -> Streamed:
    heard: list[int] = []
    changes = 0
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(_stream(port, heard))
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        began, cpu = time.monotonic(), sum(server.cpu_times()[:2])
        while time.monotonic() - began < seconds:
            connection.execute("select pgflow.enqueue('noop', '{}')")
            changes += 1
        length = time.monotonic() - began
        cores = (sum(server.cpu_times()[:2]) - cpu) / length
    return Streamed(changes / length, sum(heard) / length, cores)


@contextmanager
def _stream(port: int, heard: list[int]) -> Iterator[None]:
    """Count the events that one client hears."""
    connection = socket.create_connection(("127.0.0.1", port), 30)
    connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 200")

    def read() -> None:
        with suppress(OSError):
            while data := connection.recv(65536):
                heard.append(data.count(b"event: "))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        connection.shutdown(socket.SHUT_RDWR)
        thread.join()
        connection.close()


def memory(server: psutil.Process) -> str:
    return f"{server.memory_info().rss / 2**20:.0f} MiB"


def loaded(server: Server, options: argparse.Namespace) -> tuple[str, str]:
    """Make a database with so many jobs ready; return its URL and a job."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create database admin")
    url = server.url_of("admin")
    repository = Repository.of(Database(url))
    migrations.migrate(repository)
    migrations.ensure_partitions(repository)
    repository.fence.record_identity()
    repository.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        for begun in range(0, options.ready, 10_000):
            connection.execute(
                """
                select count(pgflow.enqueue(
                  'noop', '{}'::jsonb,
                  queue => 'queue-' || n %% %s
                )) from generate_series(%s::bigint, %s::bigint) as n
                """,
                (options.queues, begun, min(begun + 10_000, options.ready) - 1),
            )
        connection.execute("vacuum analyze")
        row = connection.execute(
            "select job_id::text from pgflow.pending limit 1"
        ).fetchone()
    assert row is not None
    return url, str(row[0])


@dataclass(frozen=True)
class Timed:
    """How fast requests were answered; times in seconds."""

    requests: int
    rate: float
    p50: float
    p99: float


def timed(port: int, path: str, seconds: float) -> Timed:
    """Ask for a path with keep-alive clients, once the server is warm for each."""
    with get_context("fork").Pool(1) as other:
        taken = other.apply(_asked, (port, path, seconds))
    cuts = quantiles(taken, n=100)
    return Timed(len(taken), len(taken) / seconds, cuts[49], cuts[98])


def _asked(port: int, path: str, seconds: float) -> list[float]:
    taken: list[float] = []
    statuses: set[int] = set()
    ready = threading.Barrier(CLIENTS)

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

        def ask() -> float:
            began = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            statuses.add(answer.status)
            return time.perf_counter() - began

        for _ in range(WARM):
            ask()
        ready.wait()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            taken.append(ask())
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {200}, f"{path}: {statuses}"
    return taken


def scrape(port: int) -> float:
    """Ask for all metrics once; return how long it took."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics/prom")
    assert b"pgflow_db_up 1.0" in connection.getresponse().read()
    connection.close()
    return time.monotonic() - began


@contextmanager
def hello() -> Iterator[int]:
    """Serve the least that werkzeug can on our waitress; yield its port."""
    options = AdminOptions(url="", port=0)
    bound = admin_server.listening(options)
    process = get_context("fork").Process(target=_serve_hello, args=(options, bound))
    process.start()
    try:
        yield bound.getsockname()[1]
    finally:
        process.kill()
        process.join()
        bound.close()


def _serve_hello(options: AdminOptions, bound: socket.socket) -> None:
    from werkzeug.wrappers import Request, Response  # noqa: PLC0415

    @Request.application
    def application(_request: Request) -> Response:
        return Response("hello")

    admin_server.serve(options, bound, application).run()


@contextmanager
def trickling(port: int, count: int) -> Iterator[None]:
    """Keep so many clients that send a byte a second, opened again when closed."""
    if not count:
        yield
        return
    context = get_context("fork")
    opened = context.Event()
    process = context.Process(target=_trickle, args=(port, count, opened))
    process.start()
    try:
        assert opened.wait(60), "the slow clients could not connect"
        yield
    finally:
        process.kill()
        process.join()


def _trickle(port: int, count: int, opened: Event) -> None:
    clients = [_slow(port) for _ in range(count)]
    opened.set()
    while True:
        time.sleep(1)
        for number, each in enumerate(clients):
            try:
                each.send(b"a")
            except OSError:
                each.close()
                clients[number] = _slow(port)


def _slow(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), 30)
    made.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
    return made
