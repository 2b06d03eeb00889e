"""What arrives at `pgflow serve-admin` need not be HTTP, nor meant well."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from pgflow_cli.admin.application import HEADERS
from tests.acceptance.admin_servers import (
    MADE_BY_WAITRESS,
    AdminServer,
    Answer,
    answers_in,
    parsed,
    read_all,
    start_server,
)
from tests.acceptance.forked import Forked
from tests.support.servers import Server

Wait = Callable[..., Any]
LARGEST = 4096  # of a body, here
HOST = b"Host: localhost\r\n"
CLOSE = b"Connection: close\r\n"

# How slow clients begin.
SLOW_HEADERS = b"GET /health HTTP/1.1\r\n" + HOST + b"X: "
SLOW_BODY = b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 4000\r\n\r\n"
SLOW_CHUNKS = (
    b"POST /login HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nfff\r\n"
)
SILENCE = b""
BLANK_LINES = b"\r\n"

SECOND = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def hostile(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AdminServer]:
    """One open server for all of these trials: it must outlive each of them."""
    folder = tmp_path_factory.mktemp("hostile")
    options = ("--max-body", str(LARGEST), "--log-format", "text")
    made = start_server(folder, server.url, *options, how=Forked)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


@pytest.fixture(autouse=True)
def _it_lives_and_tells_nothing(hostile: AdminServer) -> Iterator[None]:
    yield
    assert hostile.process.poll() is None
    assert hostile.ask("/health").body == b"ok"
    assert "Traceback" not in hostile.log


def own_headers(answer: Answer) -> None:
    """Check what every answer has, whoever wrote it."""
    for name, value in HEADERS.items():
        assert answer.headers.get(name.lower(), "") != "", (name, answer)
        if name != "Cache-Control":
            assert answer.headers[name.lower()] == value
    assert "x-request-id" in answer.headers
    for absent in ("server", "via", "access-control-allow-origin", "x-powered-by"):
        assert absent not in answer.headers
    assert not MADE_BY_WAITRESS.search(answer.raw)


def refused(answer: Answer, status: int) -> None:
    assert answer.status == status, answer
    own_headers(answer)
    assert answer.problem["error"]


@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/jobs", "/nowhere"])
def test_a_request_must_say_its_host(hostile: AdminServer, path: str) -> None:
    raw = f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode()
    refused(parsed(hostile.send(raw)), 400)
    refused(parsed(hostile.send(raw.replace(b"1.1", b"1.0"))), 400)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3003",
        "localhost.evil.example",
        "localhost@evil.example",
        "evil.example#localhost",
        "localhost, evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "0.0.0.0",  # noqa: S104
        "[::2]",
        "localhost:99999999",
        "../localhost",
        "localhost/../x",
        "%6cocalhost",
        "xn--localhost-",
        "a" * 300,
    ],
)
def test_a_host_that_is_not_ours_is_misdirected(
    hostile: AdminServer, host: str
) -> None:
    for path in ("/jobs", "/openapi.json", "/nowhere"):
        answer = hostile.ask(path, f"Host: {host}")
        assert answer.status in (400, 421), answer
        own_headers(answer)
        assert host not in answer.body.decode() or host == "127.0.0.2"
    for path in ("/health", "/health/started"):
        expected = 421 if len(host) > 253 else 200  # no name is longer
        assert hostile.ask(path, f"Host: {host}").status == expected
    two = hostile.ask("/jobs", "Host: localhost", f"Host: {host}")
    assert two.status in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80"])
def test_a_name_of_this_host_is_ours(hostile: AdminServer, host: str) -> None:
    assert hostile.ask("/openapi.json", f"Host: {host}").status == 200


def test_probes_and_scrapes_by_address_pass(hostile: AdminServer) -> None:
    for path in ("/health", "/health/started", "/metrics/prom"):
        assert hostile.ask(path, "Host: 10.1.2.3:3003").status == 200


@pytest.mark.parametrize("byte", [*range(32), 127, 128, 255])
def test_control_characters_are_in_no_host(hostile: AdminServer, byte: int) -> None:
    raw = (
        b"GET /jobs HTTP/1.1\r\nHost: local" + bytes([byte]) + b"host\r\n" + CLOSE
    ) + b"\r\n"
    answer = parsed(hostile.send(raw))
    assert answer.status in (400, 421), answer
    own_headers(answer)


@pytest.mark.parametrize(
    "target",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/static/../../pyproject.toml",
        "/static/..%2f..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/static/%00",
        "/static//etc/passwd",
        "/static/pgflow.css%00.png",
        "/jobs/%2f..%2f/explain",
        "/jobs/%00/explain",
        "/jobs/%0d%0aSet-Cookie:%20a=b/explain",
        "/jobs/%c3%28/explain",
        "/jobs/" + "a" * 4000 + "/explain",
        "//evil.example/jobs/../x",
        "/\\evil.example",
        "/%0d%0aLocation:%20//evil.example",
        "/jobs;/explain",
        "http://evil.example/nowhere",
        "*",
        "nowhere",
        "/jobs/explain%3f",
    ],
)
def test_a_path_that_leads_astray_leads_nowhere(
    hostile: AdminServer, target: str
) -> None:
    answer = hostile.ask(target)
    assert answer.status in (400, 404), answer
    own_headers(answer)
    assert b"root:" not in answer.body
    assert not {"set-cookie", "location"} & answer.headers.keys()


def test_a_newline_in_a_path_writes_no_line_of_the_log(hostile: AdminServer) -> None:
    forged = "2026-11-24T00:00:00Z ERROR forged"
    before = hostile.log.count("\n")
    hostile.ask(f"/a%0a{forged.replace(' ', '%20')}")
    hostile.ask(f"/a%0d%0a{forged.replace(' ', '%20')}%1b%5b2J")
    hostile.ask("/jobs?queue=%0aforged", "User-Agent: a")
    assert hostile.log.count("\n") - before == 3
    assert "\n2026-11-24T00:00:00Z ERROR" not in hostile.log
    assert "\x1b" not in hostile.log


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /jobs HTTP/1.1\r\nX: " + b"a" * 17_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
        (b"GET /jobs HTTP/1.1\r\n" + b"X: a\r\n" * 4000 + b"\r\n", 431),
        (b"GET /jobs HTTP/1.1\r\nX : a\r\n\r\n", 400),
        (b"GET /jobs HTTP/1.1\r\n X: a\r\n\r\n", 400),
        (b"GET /jobs HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", 400),
        (b"GET /jobs HTTP/1.1\r\n" + HOST + b"X: a\nY: b\r\n\r\n", 400),
        (b"GET /jobs HTTP/1.1\r\n" + HOST + b"X\r\n\r\n", 400),
        (b"GET  /jobs  HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"get /jobs HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"G\x00T /jobs HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://[::1/jobs HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://evil.example/jobs HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://localhost/jobs HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /jobs HTTP/9.9\r\n" + HOST + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"POST /jobs HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
        (b"POST /jobs HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na", 400),
        (b"POST /jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\na", 400),
        (b"POST /jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 1_0\r\n\r\na", 400),
        (
            b"POST /jobs HTTP/1.1\r\n"
            + HOST
            + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            400,
        ),
        (
            b"POST /jobs HTTP/1.1\r\n"
            + HOST
            + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
            400,
        ),
        (b"POST /jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\na", 400),
        (b"POST /jobs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (
            b"POST /jobs HTTP/1.1\r\n"
            + HOST
            + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
            501,
        ),
        (
            b"POST /jobs HTTP/1.1\r\n"
            + HOST
            + b"Transfer-Encoding: x\x0bchunked\r\n\r\n",
            400,
        ),
        (
            b"POST /jobs HTTP/1.1\r\n"
            + HOST
            + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
            400,
        ),
        (
            b"POST /jobs HTTP/1.1\r\n"
            + HOST
            + b"Content-Length: 99999999999999\r\n\r\n",
            413,
        ),
        (
            b"POST /jobs HTTP/1.1\r\n"
            + HOST
            + b"Expect: 100-continue\r\nContent-Length: 99999999999999\r\n\r\n",
            413,
        ),
    ],
)
def test_what_is_no_request_is_refused_once_and_the_connection_closed(
    hostile: AdminServer, raw: bytes, status: int
) -> None:
    received = hostile.send(raw + SECOND)
    answer = parsed(received)
    if answer.status == 0 and len(raw) > 16_384:
        return  # hung up on while we were still sending: no answer arrives
    assert answers_in(received) == 1, received
    refused(answer, status)


@pytest.mark.parametrize(
    "both",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: Chunked\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding:\tchunked \r\n",
    ],
)
def test_of_two_lengths_no_second_request_is_made(
    hostile: AdminServer, both: bytes
) -> None:
    kind = b"Content-Type: application/json\r\n"
    raw = b"POST /login HTTP/1.1\r\n" + HOST + kind + both + b"\r\n0\r\n\r\n" + SECOND
    received = hostile.send(raw)
    assert answers_in(received) == 1, received
    refused(parsed(received), 400)


def test_an_http_1_0_request_with_a_transfer_coding_smuggles_nothing(
    hostile: AdminServer,
) -> None:
    raw = b"POST /login HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
    received = hostile.send(raw + b"Connection: keep-alive\r\n\r\n0\r\n\r\n" + SECOND)
    assert b'"openapi"' not in received


def test_requests_in_a_row_are_answered_in_order(hostile: AdminServer) -> None:
    one = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
    other = b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n"
    received = hostile.send(one + other + one + other + SECOND)
    assert answers_in(received) == 5
    lines = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert lines == [b"200", b"404", b"200", b"404", b"200"]


def posted(hostile: AdminServer, size: int, *, chunk: int = 0) -> Answer:
    """Post a JSON document of so many bytes to a route that takes any text."""
    start, end = b'{"token": "', b'"}'
    body = start + b"a" * (size - len(start) - len(end)) + end
    head = b"POST /login HTTP/1.1\r\n" + HOST + CLOSE
    head += b"Content-Type: application/json\r\n"
    if not chunk:
        return parsed(hostile.send(head + b"Content-Length: %d\r\n\r\n" % size + body))
    parts = [body[at : at + chunk] for at in range(0, size, chunk)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    return parsed(hostile.send(head + framed + b"0\r\n\r\n"))


def test_a_body_may_be_as_large_as_said_and_no_larger(hostile: AdminServer) -> None:
    # 400: the text is longer than its field may be; the body itself was taken.
    assert posted(hostile, 500).status == 204
    assert posted(hostile, LARGEST - 1).status == 400
    assert posted(hostile, LARGEST).status == 400
    answer = posted(hostile, LARGEST + 1)
    refused(answer, 413)
    assert "4,096 bytes" in answer.problem["error"]
    refused(posted(hostile, LARGEST * 100), 413)


def test_a_chunked_body_is_bounded_with_its_frames(hostile: AdminServer) -> None:
    assert posted(hostile, 500, chunk=100).status == 204
    assert posted(hostile, LARGEST - 100, chunk=1000).status == 400
    refused(posted(hostile, LARGEST + 1, chunk=1000), 413)
    refused(posted(hostile, LARGEST * 100, chunk=10_000), 413)
    # One byte a chunk: the frames are counted, too, so nobody can buy memory cheaply.
    refused(posted(hostile, LARGEST - 1, chunk=1), 413)


def test_a_chunk_that_never_ends_is_no_body(hostile: AdminServer) -> None:
    head = b"POST /login HTTP/1.1\r\n" + HOST + CLOSE
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    refused(parsed(hostile.send(head + b"f" * 20_000)), 413)


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("OPTIONS", 405),
        ("TRACE", 405),
        ("PUT", 405),
        ("DELETE", 405),
        ("PATCH", 405),
        ("CONNECT", 405),
        ("BREW", 405),
        ("PROPFIND", 405),
    ],
)
def test_a_method_that_a_path_does_not_take_is_told_those_it_does(
    hostile: AdminServer, method: str, status: int
) -> None:
    answer = hostile.ask("/health", "X-Canary: hawk", method=method)
    refused(answer, status)
    assert answer.headers["allow"] == "GET, HEAD"
    assert b"hawk" not in answer.raw


def test_head_is_get_without_a_body(hostile: AdminServer) -> None:
    for path, status in (("/health", 200), ("/openapi.json", 200), ("/nowhere", 404)):
        head, get = hostile.ask(path, method="HEAD"), hostile.ask(path)
        assert head.status == get.status == status
        assert head.body == b""
        assert head.headers["content-length"] == get.headers["content-length"]


def test_http_1_0_is_answered_and_closed(hostile: AdminServer) -> None:
    received = hostile.send(b"GET /health HTTP/1.0\r\n" + HOST + b"\r\n")
    assert parsed(received).body == b"ok"


def test_who_stops_sending_before_the_end_is_forgotten(hostile: AdminServer) -> None:
    with hostile.connect() as connection:
        connection.sendall(b"GET /health HTT")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""
    with hostile.connect() as connection:
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n")
        # Gone before its answer.
    for _ in range(50):
        hostile.connect().close()


@pytest.mark.parametrize(
    "actor",
    [
        "a\tb",
        "a\x00b",
        "ü",
        "",
        "a" * 129,
        "a\x7fb",
    ],
)
def test_an_actor_is_plain_text(hostile: AdminServer, actor: str) -> None:
    answer = hostile.ask("/openapi.json", f"X-Pgflow-Actor: {actor}")
    refused(answer, 400)


@pytest.mark.parametrize(
    "value",
    [
        "%0d%0aSet-Cookie:%20a=b",
        "/%0d%0aSet-Cookie:%20a=b",
        "//evil.example",
        "/%5cevil.example",
        "/%00",
        "/%e2%80%ae",
    ],
)
def test_what_is_reflected_brings_no_header(hostile: AdminServer, value: str) -> None:
    own = ("Origin: http://localhost", "Sec-Fetch-Site: same-origin")
    kind = "Content-Type: application/x-www-form-urlencoded"
    body = f"token=any-token-will-do-here&next={value}".encode()
    for answer in (
        hostile.ask("/login", kind, *own, method="POST", body=body),
        hostile.ask(f"/login?next={value}"),
        hostile.ask(f"/jobs/{value}/explain"),
        hostile.ask(f"/{value}"),
    ):
        own_headers(answer)
        assert "set-cookie" not in answer.headers
        assert answer.status in (200, 303, 400, 404, 503), answer
        location = answer.headers.get("location", "/")
        assert location.startswith("/")
        assert not location.startswith(("//", "/\\"))


def gone(
    connections: list[socket.socket], sign: int = select.POLLIN | select.POLLRDHUP
) -> list[socket.socket]:
    """Return those that the server has hung up on."""
    watched = select.poll()
    by_number = {each.fileno(): each for each in connections}
    for number in by_number:
        watched.register(number, sign)
    return [by_number[number] for number, _ in watched.poll(0)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_beside_slow_and_deaf_clients_an_honest_one_is_answered(
    hostile: AdminServer, wait_until: Wait
) -> None:
    """Five hundred that are slow to ask, and some that read no answer: these hold
    neither threads nor memory nor a place.
    """
    request = b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"
    before = psutil.Process(hostile.process.pid).memory_info().rss
    with ExitStack() as stack:
        # More of them than there are threads.
        deaf = [stack.enter_context(reading_nothing(hostile)) for _ in range(20)]
        for each in deaf:
            each.sendall(request * 100)
        slow = {
            stack.enter_context(hostile.connect()): kind
            for kind in (SLOW_HEADERS, SLOW_BODY, SLOW_CHUNKS, SILENCE, BLANK_LINES)
            for _ in range(100)
        }
        for each, kind in slow.items():
            each.sendall(kind)
        began = time.monotonic()
        left = list(slow)
        beside_all = 0  # answers while none of the slow ones had been hung up on

        def keeps_little_memory() -> bool:
            # 100 answers to each of the deaf ones are 240 MiB.
            now = psutil.Process(hostile.process.pid).memory_info().rss
            return now - before < 100 << 20

        def slow_are_gone() -> bool:
            nonlocal left, beside_all
            assert hostile.ask("/health").body == b"ok"
            assert keeps_little_memory()
            closed = set(gone(left))
            left = [each for each in left if each not in closed]
            beside_all += len(left) == len(slow)
            for each in left:
                if slow[each] is not SILENCE:
                    each.send(b"\r\n" if slow[each] is BLANK_LINES else b"a")
            time.sleep(0.1)
            return not left

        def deaf_are_gone() -> bool:
            assert hostile.ask("/openapi.json").status == 200
            assert keeps_little_memory()
            time.sleep(0.5)
            return len(gone(deaf, select.POLLHUP | select.POLLERR)) == len(deaf)

        # The server's own limits are 10 and 30 seconds; ours are for busy machines.
        wait_until(slow_are_gone, "every slow connection is closed", seconds=240)
        assert time.monotonic() - began > 9
        # How quick they were is for `python -m tests.benchmarks admin`.
        assert beside_all > 0
        wait_until(deaf_are_gone, "every deaf connection is closed", seconds=240)


@pytest.mark.slow
def test_above_its_limit_of_connections_it_recovers(
    hostile: AdminServer, wait_until: Wait
) -> None:
    with ExitStack() as stack:
        for _ in range(900):
            each = stack.enter_context(hostile.connect())
            each.sendall(b"GET /health HTTP/1.1\r\n")
        wait_until(
            lambda: hostile.ask("/health").body == b"ok",
            "an honest client is answered while the others are still there",
            seconds=60,
        )


def test_who_sends_many_requests_at_once_and_reads_late_gets_every_answer(
    hostile: AdminServer,
) -> None:
    request = b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"
    with hostile.connect() as connection:
        # More than the buffers of two sockets hold.
        connection.sendall(request * 119 + SECOND)
        assert hostile.ask("/openapi.json").status == 200
        assert answers_in(read_all(connection)) == 120


def reading_nothing(server: AdminServer) -> socket.socket:
    """Return a connection that takes next to nothing before somebody reads it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.settimeout(60)
    connection.connect((server.host, server.port))
    return connection


def test_every_answer_of_every_kind_has_our_headers(hostile: AdminServer) -> None:
    form = "Content-Type: text/plain"
    body = json.dumps({"token": "x"}).encode()
    for answer in (
        hostile.ask("/health"),
        hostile.ask("/health/ready"),
        hostile.ask("/metrics/prom"),
        hostile.ask("/openapi.json"),
        hostile.ask("/login"),
        hostile.ask("/jobs"),
        hostile.ask("/jobs?limit=x"),
        hostile.ask("/nowhere"),
        hostile.ask("/login", form, method="POST", body=body),
        hostile.ask("/login", "Origin: http://evil.example", method="POST"),
    ):
        own_headers(answer)


def test_the_log_keeps_to_itself(hostile: AdminServer, tmp_path: Path) -> None:
    hostile.ask("/jobs?match=canary-in-a-query", "x-api-key: canary-in-a-header")
    hostile.ask("/login?next=/canary-in-next", "Cookie: a=canary-in-a-cookie")
    hostile.ask("/jobs", "Authorization: Bearer canary-in-a-bearer")
    assert "canary" not in hostile.log
