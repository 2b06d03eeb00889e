"""Who is let in, on every route there is: by token, by cookie, from which page."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from werkzeug.test import Client, TestResponse

from pgflow_cli.admin import application
from pgflow_cli.admin.application import HEADERS, Application
from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.security import COOKIE, Guard, Keyring, Role
from pgflow_cli.admin.service import Service
from pgflow_cli.errors import OutcomeUnknown, PgflowError
from pgflow_cli.telemetry import log_format
from tests.admin.conftest import making_clients, problem_of
from tests.conftest import cloned
from tests.support.jobs import plant, plant_dead
from tests.support.servers import Database, Server

TOKEN, READER, SCRAPER = "operate-" * 4, "only-read-" * 4, "only-scrape-" * 3
TOKENS = {"api_tokens": (TOKEN, f"{READER} read"), "metrics_tokens": (SCRAPER,)}
OWN = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
CANARY = "canary-7f3a-never-shown"
_PARAMETER = re.compile(r"<(?:[a-z]+:)?([a-z_]+)>")
_SAMPLES = {"job_id": "0199c0de-0000-7000-8000-000000000001", "plan": "1"}
_STREAMS = {"/events"}  # do not end by themselves; tests/admin/test_events.py has them

# Change a cookie, and nothing that others see.
OF_THE_BROWSER = {"/login", "/logout", "/ui/theme", "/ui/updates"}

# Whoever may read is told there where the database is; never the password.
SHOWS_WHERE = {"/doctor", "/ui/doctor"}

Clients = Callable[..., Client]


def each(routes: list[Route]) -> pytest.MarkDecorator:
    """Let a test be tried with each route."""
    return pytest.mark.parametrize(
        "route", routes, ids=lambda route: f"{route.method} {route.path}"
    )


EVERY = each([*application.ROUTES])
EVERY_THAT_ENDS = each([r for r in application.ROUTES if r.path not in _STREAMS])


@pytest.fixture(autouse=True)
def _many_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an address show more wrong tokens than these tests do."""
    monkeypatch.setattr("pgflow_cli.admin.security._FAILURES", 100_000)


@pytest.fixture(scope="module")
def touched(server: Server, template: Database) -> Iterator[Database]:
    """A database in which it does not matter what earlier requests have changed."""
    with cloned(server, template) as shared:
        yield shared


@pytest.fixture
def admitting(touched: Database) -> Iterator[Clients]:
    """Make clients whose requests may change something."""
    with making_clients(touched) as make:
        yield make


def path_of(route: Route) -> str:
    return _PARAMETER.sub(lambda found: _SAMPLES.get(found[1], "default"), route.path)


def ask(client: Client, route: Route, **headers: str) -> TestResponse:
    """Send a request of a route's method, with an empty body of the right type."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body: dict[str, Any] | None = None if route.is_safe or route.of_page else {}
    data: dict[str, Any] | None = {} if route.of_page and not route.is_safe else None
    return client.open(
        path_of(route), method=route.method, json=body, data=data, headers=named
    )


def refused(answer: TestResponse, status: int, code: str = "") -> None:
    """Check a refusal: a page says it in HTML, everything else as a problem."""
    if answer.mimetype == "text/html":
        assert answer.status_code == status, answer.text
    else:
        problem_of(answer, status, code)


def is_refused(answer: TestResponse, route: Route) -> bool:
    """Whether nobody was let in: 401, or a page's way to the login."""
    if route.of_page and route.is_safe:
        where = answer.headers.get("Location", "")
        return answer.status_code == 303 and where.startswith("/login?next=")
    return answer.status_code == 401


@EVERY
def test_a_closed_route_wants_a_token(refusing: Clients, route: Route) -> None:
    client = refusing(**TOKENS)
    wrong = [
        {},
        {"X_Api_Key": "wrong-wrong-wrong-wrong"},
        {"X_Api_Key": TOKEN[:-1]},
        {"X_Api_Key": TOKEN.upper()},
        {"X_Api_Key": ""},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Cookie": f"{COOKIE}={TOKEN}"},
        {"Cookie": f"{COOKIE}=..."},
        {"Cookie": f"token={TOKEN}"},
    ]
    if path_of(route) in _STREAMS:
        assert route.needs >= Role.READ
    if route.needs is Role.ANONYMOUS:
        return
    for headers in wrong:
        answer = ask(client, route, **headers)
        shown = "Cookie" not in headers and headers
        assert is_refused(answer, route) or (shown and answer.status_code == 401)
        assert TOKEN not in answer.text
    if not route.of_page:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    in_url = client.open(
        f"{path_of(route)}?token={TOKEN}&api_key={TOKEN}&x-api-key={TOKEN}",
        method=route.method,
    )
    assert is_refused(in_url, route)


@EVERY_THAT_ENDS
def test_a_token_opens_what_its_role_may(admitting: Clients, route: Route) -> None:
    client = admitting(**TOKENS)
    for token, role in (
        (TOKEN, Role.OPERATE),
        (READER, Role.READ),
        (SCRAPER, Role.METRICS),
    ):
        answer = ask(client, route, X_Api_Key=token, Sec_Fetch_Site="same-origin")
        if role >= route.needs:
            assert answer.status_code not in (401, 500), answer.text
        elif role is Role.READ:
            refused(answer, 403, "READ_ONLY")
        else:
            assert is_refused(answer, route)


@EVERY
def test_a_read_only_server_changes_nothing(refusing: Clients, route: Route) -> None:
    if route.needs < Role.OPERATE:
        assert route.is_safe or route.path in OF_THE_BROWSER
        return
    for settings in ({}, TOKENS):
        client = refusing(read_only=True, **settings)
        answer = ask(client, route, X_Api_Key=TOKEN)
        refused(answer, 403, "READ_ONLY")


@EVERY
def test_no_page_of_another_origin_changes_anything(
    refusing: Clients, route: Route
) -> None:
    if route.is_safe:
        return
    tries: list[dict[str, str]] = [
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://localhost"},
        {"Origin": "http://localhost:81"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://localhost", "Sec_Fetch_Site": "cross-site"},
    ]
    opened, closed = refusing(), refusing(**TOKENS)
    for headers in tries:
        refused(ask(opened, route, **headers), 403, "FOREIGN_ORIGIN")
        with_token = ask(closed, route, X_Api_Key=TOKEN, **headers)
        refused(with_token, 403, "FOREIGN_ORIGIN")
    cookie = Keyring([TOKEN]).cookie(TOKEN, time.time())
    closed.set_cookie(COOKIE, cookie)
    for headers in ({}, {"Sec_Fetch_Site": "none", "Origin": "http://localhost"}):
        refused(ask(closed, route, **headers), 403, "FOREIGN_ORIGIN")
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/xml"):
        answer = opened.open(
            path_of(route), method=route.method, data=b"{}", content_type=kind
        )
        assert answer.status_code in (403, 415), answer.text


@EVERY_THAT_ENDS
def test_a_foreign_host_is_misdirected(refusing: Clients, route: Route) -> None:
    base = "http://evil.example"
    answer = refusing().open(path_of(route), method=route.method, base_url=base)
    if route.any_host:
        assert answer.status_code != 421
        assert route.is_safe
        assert route.needs <= Role.METRICS
    else:
        refused(answer, 421)


@EVERY
def test_the_cookie_ends_with_its_token(refusing: Clients, route: Route) -> None:
    if path_of(route) in _STREAMS or route.needs < Role.READ:
        return
    client = refusing(api_tokens=("another-token-0001",))
    client.set_cookie(COOKIE, Keyring([TOKEN]).cookie(TOKEN, time.time()))
    assert is_refused(ask(client, route), route)


@pytest.mark.parametrize("path", ["/login", "/jobs", "/static/pgflow.js", "/nothing"])
def test_a_browser_is_told_to_run_and_load_nothing_but_our_own_files(
    refuser: Client, path: str
) -> None:
    headers = refuser.get(path).headers
    directives = headers["Content-Security-Policy"].split(";")
    policy = {
        name: allowed
        for name, _, allowed in (each.strip().partition(" ") for each in directives)
    }
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "same-origin"
    kept = "no-cache" if path.startswith("/static/") else "no-store"
    assert headers["Cache-Control"] == kept


def test_only_digests_of_tokens_are_kept() -> None:
    guard = Guard(AdminOptions("postgresql://", api_tokens=(TOKEN, READER)))
    held = repr(vars(guard.keyring))
    for token in (TOKEN, READER):
        assert token not in held
        assert token not in repr(guard.__dict__["_options"])


def test_a_probe_is_not_refused_for_what_it_shows(
    refusing: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgflow_cli.admin.security._FAILURES", 10)
    client = refusing(**TOKENS)
    headers = {"X-Api-Key": "wrong-wrong-wrong-wrong"}
    for _ in range(12):
        client.get("/jobs", headers=headers)
    problem_of(client.get("/jobs", headers=headers), 429)
    assert client.get("/health", headers=headers).text == "ok"
    # A cookie cannot be guessed, so it works on.
    client.set_cookie(COOKIE, Keyring([TOKEN]).cookie(TOKEN, time.time()))
    assert client.get("/jobs").status_code == 200


class Faults:
    """Answers of a server whose handlers all fail in the same way."""

    def __init__(self, url: str, error: Exception) -> None:
        def handler(_call: Call) -> Any:
            raise error

        routes = [
            Route("GET", "/read", handler, "Fails.", role=Role.ANONYMOUS),
            Route("POST", "/write", handler, "Fails.", role=Role.ANONYMOUS),
        ]
        self.service = Service(AdminOptions(url=url))
        self.client = Client(Application(self.service, routes))


@pytest.fixture
def failing(unchanged: Database) -> Iterator[Callable[[Exception], Client]]:
    made: list[Faults] = []

    def make(error: Exception) -> Client:
        made.append(Faults(unchanged.url, error))
        return made[-1].client

    yield make
    for each in made:
        each.service.close()


def database_fault(connection: psycopg.Connection[Any]) -> Exception:
    """Return PostgreSQL's own error, with a failing row in its DETAIL."""
    connection.execute("create table canary (secret text primary key)")
    connection.execute("insert into canary values (%s)", (CANARY,))
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        connection.execute("insert into canary values (%s)", (CANARY,))
    return caught.value


def test_a_bug_shows_its_request_id_and_the_log_the_rest(
    failing: Callable[[Exception], Client],
    connection: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for error in (
        RuntimeError(f"{CANARY} /etc/pgflow/secret"),
        database_fault(connection),
        PgflowError(f"{CANARY} at postgresql://u:p@db"),
    ):
        client = failing(error)
        for answer in (client.get("/read"), client.post("/write", json={})):
            caplog.clear()
            document = problem_of(answer, 500, "FAULT")
            for hidden in (
                CANARY,
                "insert",
                "DETAIL",
                "/etc",
                "postgresql:",
                "RuntimeError",
            ):
                assert hidden not in answer.text
            assert document["request_id"]
            for name, value in HEADERS.items():
                assert answer.headers[name] == value


def test_only_of_a_change_it_is_said_that_its_outcome_is_unknown(
    failing: Callable[[Exception], Client],
) -> None:
    client = failing(OutcomeUnknown("the connection was lost"))
    problem_of(client.get("/read"), 503, "DATABASE_UNAVAILABLE")
    problem_of(client.post("/write", json={}), 503, "OUTCOME_UNKNOWN")


def test_the_log_has_the_traceback_under_the_request_id(
    failing: Callable[[Exception], Client], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="pgflow.admin"):
        answer = failing(RuntimeError("a bug of a handler")).get("/read")
    faults = [r for r in caplog.records if getattr(r, "event", "") == "request_fault"]
    assert len(faults) == 1
    assert vars(faults[0])["request_id"] == answer.get_json()["request_id"]
    assert faults[0].exc_info


def test_the_line_of_a_request_holds_neither_query_nor_secret(
    refusing: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    client = refusing(access_log=True, **TOKENS)
    with caplog.at_level(logging.INFO, "pgflow.admin"):
        client.get(f"/dlq?error_code={CANARY}", headers={"X-Api-Key": TOKEN})
        client.post("/login", json={"token": TOKEN, "next": f"/{CANARY}"})
    lines = [
        log_format.JsonLines().format(record)
        for record in caplog.records
        if vars(record).get("event") == "request"
    ]
    assert [json.loads(line)["path"] for line in lines] == ["/dlq", "/login"]
    assert not [line for line in lines if CANARY in line or TOKEN in line]


def test_what_the_database_is_called_is_nobodys_business(
    refusing: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"postgresql://someone:{CANARY}@127.0.0.1:1/away?connect_timeout=2"
    client = refusing(url=url, **TOKENS)
    with caplog.at_level(logging.DEBUG):
        for route in application.ROUTES:
            if path_of(route) in _STREAMS:
                continue
            answer = ask(client, route, X_Api_Key=TOKEN)
            assert answer.status_code < 500 or answer.status_code == 503, answer.text
            if answer.status_code == 503 and route.path != "/health/ready":
                assert int(answer.headers["Retry-After"]) >= 1
            assert CANARY not in answer.text, route.path
            if route.path not in SHOWS_WHERE:
                assert "127.0.0.1:1" not in answer.text, route.path
                assert "someone" not in answer.text, route.path
    assert CANARY not in caplog.text
    assert TOKEN not in caplog.text


def test_payloads_are_in_no_answer_but_those_that_were_asked_for(
    client_of: Clients,
    connection: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    payload = json.dumps({"password": CANARY})
    plant(connection, 3, payload=payload)
    dead = plant_dead(connection, 2, payload=payload)
    client = client_of(**TOKENS)
    with caplog.at_level(logging.DEBUG):
        for route in application.ROUTES:
            if path_of(route) in _STREAMS or not route.is_safe:
                continue
            path = path_of(route).replace(_SAMPLES["job_id"], str(dead[0]))
            answer = client.get(path, headers={"X-Api-Key": TOKEN})
            assert answer.status_code < 500, answer.text
            if route.path != "/jobs/<job_id>":
                assert CANARY not in answer.text, route.path
    assert CANARY not in caplog.text


def test_the_sessions_of_readers_are_read_only(
    database: Database, connection: psycopg.Connection[Any]
) -> None:
    service = Service(AdminOptions(url=database.url))
    epoch = "select to_jsonb(each) from pgflow.database_identity as each"
    before = connection.execute(epoch).fetchone()
    try:
        with (
            service.reading.repository() as repository,
            pytest.raises(PgflowError),
        ):
            repository.fence.record_identity()
        assert connection.execute(epoch).fetchone() == before
    finally:
        service.close()
