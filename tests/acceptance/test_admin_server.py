"""`pgflow serve-admin` starts where it is safe, ends when told, and stays up while the
database does not.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.acceptance.admin_servers import (
    AdminServer,
    parsed,
    read_all,
    start_server,
)
from tests.acceptance.forked import Forked, Started
from tests.conftest import RunsPgflow
from tests.support import executable
from tests.support.private_servers import (
    PrivateServer,
    a_standby,
    migrated_server,
    stalling_proxy,
)
from tests.support.servers import Database

Starts = Callable[..., AdminServer]
Wait = Callable[..., Any]
ANY_PORT = ("--addr", "127.0.0.1:0")
TOKEN = "operate-operate-operate-0001"


@pytest.fixture
def start_admin(database: Database, tmp_path: Path) -> Iterator[Starts]:
    """Start admin servers; all of them end with the trial."""
    started: list[AdminServer] = []

    def start(
        *options: str,
        url: str | None = None,
        how: type[Forked] = Forked,
        **env: str,
    ) -> AdminServer:
        made = start_server(tmp_path, url or database.url, *options, env=env, how=how)
        started.append(made)
        return made

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.fixture
def own_server() -> Iterator[PrivateServer]:
    """A server of PostgreSQL that the trial may kill."""
    with migrated_server() as server:
        yield server


def refused(database: Database, folder: Path, *options: str, **env: str) -> str:
    """Run a server that must not start; return what it says, checked for its code."""
    done = executable.fork(
        *("serve-admin", *options),
        environment={**os.environ, "DATABASE_URL": database.url, **env},
        folder=folder,
        input=None,
    )
    assert done.returncode == 78, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def secret_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "tokens"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_without_an_address_it_listens_on_this_host_only(pgflow: RunsPgflow) -> None:
    assert "127.0.0.1:3003" in pgflow("serve-admin", "--help").stdout


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "::"])
def test_an_address_that_others_reach_needs_a_token(
    database: Database, tmp_path: Path, address: str
) -> None:
    said = refused(database, tmp_path, PGFLOW_ADMIN_ADDR=address)
    if address != "::":
        for way_out in ("PGFLOW_API_TOKEN_FILE", "127.0.0.1", "PGFLOW_ADMIN_INSECURE"):
            assert way_out in said


def test_who_says_that_a_gateway_guards_it_is_warned(start_admin: Starts) -> None:
    server = start_admin(
        "--addr",
        "0.0.0.0:0",
        PGFLOW_ADMIN_INSECURE="1",
    )
    assert server.ask("/health").body == b"ok"
    # A line of the log like any other: whoever collects it reads JSON only.
    lines = [json.loads(line) for line in server.log.splitlines()]
    settings, warning, listening = lines[:3]
    assert settings["event"] == "settings"
    assert (warning["event"], warning["level"]) == ("no_token", "warning")
    assert "every client that reaches 0.0.0.0" in warning["message"]
    assert listening["event"] == "listening"


@pytest.mark.parametrize("off", ["off", "false", "OFF", "0", '"off"'])
def test_an_address_that_is_off_says_where_to_go(
    database: Database, tmp_path: Path, off: str
) -> None:
    said = refused(database, tmp_path, PGFLOW_ADMIN_ADDR=off)
    assert "PGFLOW_ADMIN_ADDR" in said


@pytest.mark.parametrize("host", ["127.evil.invalid", "a..b"])
def test_a_name_that_is_no_address_of_ours_is_told_without_guessing(
    database: Database, tmp_path: Path, host: str
) -> None:
    assert "no token is set" in refused(database, tmp_path, "--addr", f"{host}:0")
    said = refused(database, tmp_path, "--addr", f"{host}:0", PGFLOW_ADMIN_INSECURE="1")
    assert f"cannot listen on {host}:0" in said
    assert "the port" not in said


def test_a_database_url_that_cannot_be_read_is_refused_at_the_start(
    database: Database, tmp_path: Path
) -> None:
    url = "postgresql://someone:pass/hawk@db.example:5432/app"
    said = refused(database, tmp_path, *ANY_PORT, DATABASE_URL=url)
    assert "the database URL cannot be read" in said
    assert "hawk" not in said


def test_a_port_that_is_in_use_is_named(database: Database, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(database, tmp_path, "--addr", f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in said
    assert "in use" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("short\n", "shorter than 16"),
        (f"{TOKEN} admin\n", "unknown role"),
        (f"{TOKEN}\nfifteen-letters\n", "token 2 is shorter"),
    ],
)
def test_a_token_file_that_cannot_be_meant_is_refused_without_being_shown(
    database: Database, tmp_path: Path, text: str, says: str
) -> None:
    path = secret_file(tmp_path, text)
    said = refused(database, tmp_path, *ANY_PORT, "--api-token-file", str(path))
    assert says in said
    assert TOKEN not in said
    assert "fifteen" not in said


def test_a_token_file_of_comments_opens_nothing_to_everybody(
    database: Database, tmp_path: Path
) -> None:
    path = secret_file(tmp_path, "# rotated on Monday\n")
    for kind in ("api", "metrics"):
        said = refused(database, tmp_path, *ANY_PORT, f"--{kind}-token-file", str(path))
        assert f"PGFLOW_{kind.upper()}_TOKEN_FILE" in said
        assert "no token" in said


def test_a_missing_token_file_is_named(database: Database, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    said = refused(database, tmp_path, *ANY_PORT, "--api-token-file", gone)
    assert "gone" in said


def test_with_tokens_it_listens_anywhere_and_one_beyond_ascii_works(
    start_admin: Starts, tmp_path: Path
) -> None:
    """And a file that others can read is warned of."""
    token = "schlüssel-für-die-tür"
    path = secret_file(tmp_path, f"{TOKEN} read\n{token}\n", mode=0o644)
    assert path.stat().st_mode & stat.S_IROTH
    server = start_admin("--addr", "0.0.0.0:0", "--api-token-file", str(path))
    assert "every client that reaches" not in server.log
    assert "others can read" in server.log
    assert server.ask("/jobs").status == 401
    assert server.ask("/jobs", f"x-api-key: {TOKEN}").status == 200
    assert server.ask("/jobs", f"Authorization: Bearer {TOKEN}").status == 200
    assert TOKEN not in server.log
    assert server.ask("/jobs", f"x-api-key: {token}").status == 200
    assert server.ask("/jobs", f"Authorization: Bearer {token}").status == 200
    assert server.ask("/jobs", "x-api-key: schlussel-für-die-tür").status == 401
    raw = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n\r\n"
    for wrong in (b"x-api-key: \xff\xfe\xfd", b"Cookie: pgflow_session=\xff.\xfe.1"):
        assert parsed(server.send(raw % wrong)).status == 401
    assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_finishes_the_request_it_is_answering(
    start_admin: Starts, database: Database, wait_until: Wait, number: signal.Signals
) -> None:
    server = start_admin()
    holder = database.connect(autocommit=False)
    holder.execute("lock table pgflow.jobs in access exclusive mode")
    watcher = database.connect()
    with server.connect() as connection:
        connection.sendall(
            b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        wait_until(lambda: waits_for_a_lock(watcher), "the request waits")
        server.process.send_signal(number)
        wait_until(lambda: refuses(server), "it takes no more requests")
        holder.rollback()
        assert parsed(read_all(connection)).status == 200
    assert server.process.wait(10) == 0
    wait_until(lambda: not sessions(watcher), "its sessions have ended")
    assert "Traceback" not in server.log


def waits_for_a_lock(connection: psycopg.Connection[Any]) -> bool:
    return "active" in [
        state for state, event in sessions(connection) if event == "Lock"
    ]


def sessions(connection: psycopg.Connection[Any]) -> list[tuple[str, str | None]]:
    """Return state and wait of the sessions of admin servers on this database."""
    return connection.execute(
        "select state, wait_event_type from pg_stat_activity"
        " where application_name = 'pgflow admin' and datname = current_database()"
    ).fetchall()


def refuses(server: AdminServer) -> bool:
    """Whether it does not answer somebody who comes now."""
    try:
        with server.connect(timeout=0.3) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return not connection.recv(1)
    except OSError:
        return True


def test_idle_and_trickling_connections_do_not_hold_up_its_end(
    start_admin: Starts, database: Database, tmp_path: Path, wait_until: Wait
) -> None:
    """And it leaves nothing behind."""
    server = start_admin()
    assert server.ask("/jobs").status == 200
    family = psutil.Process(server.process.pid).children(recursive=True)
    with server.connect() as idle, server.connect() as trickling:
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert parsed(idle.recv(65536)).status == 200
        trickling.sendall(b"GET /hea")
        assert server.terminate() == 0
    assert not [each for each in family if each.is_running()]
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["admin-0.log"]
    watcher = database.connect()
    wait_until(lambda: not sessions(watcher), "its sessions have ended")


@pytest.mark.slow
def test_liveness_holds_while_the_database_is_away_and_readiness_comes_back(
    own_server: PrivateServer, start_admin: Starts, wait_until: Wait
) -> None:
    server = start_admin(url=own_server.url)
    wait_until(lambda: server.ask("/health/ready").status == 200, "it is ready")
    own_server.kill()
    answer = server.ask("/health/ready")
    assert (answer.status, answer.problem["code"]) == (503, "NOT_READY")
    for path in ("/health", "/health/started"):
        assert server.ask(path).body == b"ok"
    answer = server.ask("/jobs")
    assert (answer.status, answer.problem["code"]) == (503, "DATABASE_UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
    assert b"host" not in answer.body
    assert b"/tmp" not in answer.body
    scrape = server.ask("/metrics/prom")
    assert scrape.status == 200
    assert b"pgflow_db_up 0.0" in scrape.body
    own_server.start()
    wait_until(lambda: server.ask("/health/ready").status == 200, "it is ready again")
    assert server.ask("/jobs").status == 200
    assert server.process.poll() is None


@pytest.mark.slow
def test_a_database_that_stalls_does_not_hold_up_liveness(
    database: Database, start_admin: Starts, wait_until: Wait
) -> None:
    with stalling_proxy(database) as (url, proxy), ExitStack() as clients:
        server = start_admin("--threads", "4", "--max-sse", "0", url=url)
        wait_until(lambda: server.ask("/jobs").status == 200, "it answers")
        assert server.ask("/health/ready").status == 200
        # Each request now waits for a connection until that takes too long, so that the
        # last of so many is answered after half a minute.
        proxy.stall(new=True)
        waiting = [clients.enter_context(closing(server.connect())) for _ in range(32)]
        for each in waiting:
            each.sendall(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: "Task queue depth" in server.log, "all threads are busy")
        assert server.ask("/health").body == b"ok"
        answered, _, _ = select.select(waiting, [], [], 0)
        assert waiting[-1] not in answered, "the probe has not waited behind them"
        proxy.go_on()
        wait_until(lambda: server.ask("/health/ready").status == 200, "it is ready")


def test_a_read_that_meets_a_lock_ends_and_frees_its_backend(
    start_admin: Starts, database: Database, wait_until: Wait
) -> None:
    server = start_admin()
    assert server.ask("/jobs").status == 200
    holder = database.connect(autocommit=False)
    holder.execute("lock table pgflow.jobs in access exclusive mode")
    watcher = database.connect()
    answer = server.ask("/jobs")
    assert (answer.status, answer.problem["code"]) == (503, "TOO_SLOW")
    assert "a smaller limit" in answer.problem["error"]
    assert int(answer.headers["retry-after"]) >= 1
    wait_until(lambda: not waits_for_a_lock(watcher), "no session waits")
    assert server.ask("/health").body == b"ok"
    holder.rollback()
    assert server.ask("/jobs").status == 200


def test_sessions_that_read_cannot_write(
    start_admin: Starts, database: Database
) -> None:
    server = start_admin("--read-only")
    assert server.ask("/jobs").status == 200
    body = b'{"job_type": "noop", "payload_json": {}}'
    kind = "Content-Type: application/json"
    answer = server.ask("/jobs", kind, method="POST", body=body)
    assert answer.status in (403, 405)  # 405: a server without that route yet
    count = database.connect().execute("select count(*) from pgflow.jobs").fetchone()
    assert count == (0,)


def test_a_database_that_takes_no_writes_is_not_ready(
    start_admin: Starts,
) -> None:
    with a_standby() as (_, url, _):
        _check_a_database_that_takes_no_writes(start_admin, url)


def _check_a_database_that_takes_no_writes(start_admin: Starts, url: str) -> None:
    server, reader = start_admin(url=url), start_admin("--read-only", url=url)
    answer = server.ask("/health/ready")
    assert (answer.status, answer.problem["code"]) == (503, "NOT_READY")
    assert answer.problem["error"] == "the database is in recovery"
    assert server.ask("/jobs").status == 200
    assert reader.ask("/health/ready").status == 200
    body = b'{"job_type": "noop", "payload_json": {}}'
    kind = "Content-Type: application/json"
    answer = server.ask("/jobs", kind, method="POST", body=body)
    assert (answer.status, answer.problem["code"]) == (503, "DATABASE_UNAVAILABLE")
    assert "takes no writes" in answer.problem["error"]


def test_a_role_without_rights_is_told_so_and_the_log_says_which(
    start_admin: Starts, database: Database
) -> None:
    role = f"reader_{database.name}"
    owner = database.connect()
    owner.execute(f"create role {role} login")
    try:
        server = start_admin(url=database.url.replace("postgres@", f"{role}@"))
        for path in ("/jobs", "/queues", "/metrics", "/health/ready"):
            answer = server.ask(path)
            assert answer.status == 503, path
            assert "refuses this server's role" in answer.problem["error"]
            assert role not in answer.body.decode()
        assert (
            "pgflow doctor --check privileges" in server.ask("/jobs").problem["error"]
        )
        assert "permission denied for schema pgflow" in server.log
        server.terminate()
    finally:
        owner.execute(f"drop role {role}")


def test_behind_a_prefix_paths_redirects_and_cookies_have_it(
    start_admin: Starts, database: Database
) -> None:
    """And the token is in no argument of the process."""
    server = start_admin("--base-path", "/pgflow", how=Started, PGFLOW_API_TOKEN=TOKEN)
    shown = " ".join(psutil.Process(server.process.pid).cmdline())
    assert TOKEN not in shown
    assert database.url not in shown
    key = f"x-api-key: {TOKEN}"
    assert server.ask("/pgflow/health").body == b"ok"
    assert server.ask("/pgflow/jobs", key).status == 200
    own = ("Origin: http://localhost", "Sec-Fetch-Site: same-origin")
    form = "Content-Type: application/x-www-form-urlencoded"
    body = f"token={TOKEN}&next=/jobs".encode()
    answer = server.ask("/pgflow/login", form, *own, method="POST", body=body)
    assert (answer.status, answer.headers["location"]) == (303, "/pgflow/jobs")
    cookie = answer.headers["set-cookie"]
    for flag in ("Path=/pgflow", "HttpOnly", "SameSite=Strict"):
        assert flag in cookie
    session = cookie.partition(";")[0]
    assert server.ask("/pgflow/jobs", f"Cookie: {session}").status == 200
    evil = "X-Forwarded-Prefix: //evil.example"
    answer = server.ask("/pgflow/login", form, *own, evil, method="POST", body=body)
    assert answer.headers["location"] == "/pgflow/jobs"


def test_forwarded_headers_are_believed_of_as_many_proxies_as_there_are(
    start_admin: Starts,
) -> None:
    forged = (
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Prefix: //evil.example",
    )
    options = ("--log-format", "json")
    server = start_admin(*options)
    assert server.ask("/openapi.json", *forged).status == 200
    assert "203.0.113.9" not in server.log
    hops = start_admin(*options, "--proxy-hops", "1", "--allow-host", "pgflow.example")
    named = [*forged[:1], "X-Forwarded-Host: pgflow.example", *forged[2:]]
    assert hops.ask("/openapi.json", *forged).status == 421
    assert hops.ask("/openapi.json", *named).status == 200
    twice = "X-Forwarded-For: 198.51.100.7, 203.0.113.9"
    assert hops.ask("/openapi.json", twice).status == 200
    assert "203.0.113.9" in hops.log
    assert "198.51.100.7" not in hops.log
