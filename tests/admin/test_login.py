"""Logging in and out: what a cookie opens, for how long, and who may ask for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.cookies import Morsel, SimpleCookie

import pytest
from werkzeug.test import Client, TestResponse

from pgflow_cli.admin.security import COOKIE, Keyring
from tests.admin.conftest import problem_of

TOKEN, READER, SCRAPER = "operate-" * 4, "only-read-" * 4, "only-scrape-" * 3
OWN = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
TOKENS = {"api_tokens": (TOKEN, f"{READER} read"), "metrics_tokens": (SCRAPER,)}

Clients = Callable[..., Client]


def log_in(client: Client, token: str = TOKEN, **headers: str) -> TestResponse:
    return client.post("/login", json={"token": token}, headers=headers)


def submit(client: Client, token: str, there: str = "/") -> TestResponse:
    return client.post("/login", data={"token": token, "next": there}, headers=OWN)


def cookie_of(response: TestResponse) -> Morsel[str]:
    return SimpleCookie(response.headers["Set-Cookie"])[COOKIE]


def test_a_token_is_exchanged_for_a_cookie_that_opens_the_api(
    refusing: Clients,
) -> None:
    client = refusing(**TOKENS)
    problem_of(client.get("/jobs"), 401)
    answer = log_in(client)
    assert (answer.status_code, answer.data) == (204, b"")
    cookie = cookie_of(answer)
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert cookie["path"] == "/"
    assert not cookie["secure"]
    assert int(cookie["max-age"]) == 12 * 3600
    assert TOKEN not in answer.headers["Set-Cookie"]
    assert client.get("/jobs").status_code == 200


def test_over_https_the_cookie_never_goes_without(refusing: Clients) -> None:
    client = refusing(**TOKENS)
    answer = client.post(
        "/login", json={"token": TOKEN}, base_url="https://localhost/queue"
    )
    cookie = cookie_of(answer)
    assert cookie["secure"]
    assert cookie["path"] == "/queue"


@pytest.mark.parametrize("wrong", ["", "x", TOKEN[:-1], TOKEN + "x", "ü", SCRAPER])
def test_what_is_no_token_of_the_page_gets_no_cookie(
    refusing: Clients, wrong: str
) -> None:
    client = refusing(**TOKENS)
    answer = log_in(client, wrong)
    problem_of(answer, 401)
    assert "Set-Cookie" not in answer.headers
    form = submit(client, wrong)
    assert form.status_code == 401 if wrong else 400
    assert "Set-Cookie" not in form.headers


def test_a_form_is_sent_on_to_where_it_came_from(refusing: Clients) -> None:
    client = refusing(**TOKENS)
    answer = submit(client, TOKEN, "/jobs?queue=emails&match=a b")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/jobs?queue=emails&match=a%20b"
    assert client.get("/jobs").status_code == 200


@pytest.mark.parametrize(
    "there",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/\t/evil.example",
        "\t//evil.example",
        " //evil.example",
        "/\r\nSet-Cookie: a=b",
        "evil.example",
        "",
    ],
)
def test_nobody_is_sent_on_to_another_server(refusing: Clients, there: str) -> None:
    client = refusing(**TOKENS)
    assert submit(client, TOKEN, there).headers["Location"] == "/"
    form = client.get("/login", query_string={"next": there})
    assert "evil" not in form.text
    assert 'name="next" value="/"' in form.text


def test_what_stands_in_the_url_of_the_form_is_escaped(refusing: Clients) -> None:
    form = refusing(**TOKENS).get("/login?next=/%22%3E%3Cscript%3Ealert(1)%3C/script>")
    assert form.status_code == 200
    assert "<script" not in form.text
    # With no-referrer a browser would say `Origin: null` of the form.
    assert form.headers["Referrer-Policy"] == "same-origin"


def test_a_wrong_token_shows_the_form_again_without_the_token(
    refusing: Clients,
) -> None:
    answer = submit(refusing(**TOKENS), "wrong-wrong-wrong", "/jobs")
    assert answer.status_code == 401
    assert answer.content_type == "text/html; charset=utf-8"
    assert 'role="alert"' in answer.text
    assert 'name="next" value="/jobs"' in answer.text
    assert "wrong-wrong" not in answer.text


def test_after_ten_wrong_tokens_an_address_waits(refusing: Clients) -> None:
    client = refusing(**TOKENS)
    for number in range(10):
        assert log_in(client, f"wrong-token-{number:06}").status_code == 401
    answer = log_in(client)
    problem_of(answer, 429)
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    form = submit(client, TOKEN)
    assert form.status_code == 429
    assert 1 <= int(form.headers["Retry-After"]) <= 60
    assert "wait a minute" in form.text
    # Elsewhere, too: the header is another way to guess.
    problem_of(client.get("/jobs", headers={"X-Api-Key": TOKEN}), 429)
    other = client.post(
        "/login", json={"token": TOKEN}, environ_base={"REMOTE_ADDR": "192.0.2.7"}
    )
    assert other.status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://localhost"},
        {"Origin": "http://localhost:81"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_logs_nobody_in_or_out(
    refusing: Clients, headers: dict[str, str]
) -> None:
    client = refusing(**TOKENS)
    data = {"token": TOKEN, "next": "/"}
    for path, body in (("/login", data), ("/logout", {})):
        answer = client.post(path, data=body, headers=headers)
        if path == "/logout" and not headers:
            continue  # an empty form without a type is what curl sends
        problem_of(answer, 403, "FOREIGN_ORIGIN")
        assert "Set-Cookie" not in answer.headers


def test_what_a_cookie_lets_in_must_come_from_our_own_page(refusing: Clients) -> None:
    client = refusing(**TOKENS)
    log_in(client)
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        problem_of(client.post("/logout", headers=headers), 403, "FOREIGN_ORIGIN")
    assert client.get("/jobs").status_code == 200


def test_a_login_by_json_of_another_origin_is_refused(refusing: Clients) -> None:
    client = refusing(**TOKENS)
    problem_of(log_in(client, Origin="http://evil.example"), 403)
    problem_of(log_in(client, **{"Sec-Fetch-Site": "cross-site"}), 403)


def test_logging_out_forgets_the_cookie(refusing: Clients) -> None:
    client = refusing(**TOKENS)
    log_in(client)
    answer = client.post("/logout", headers=OWN)
    assert answer.status_code == 204
    problem_of(client.get("/jobs"), 401)
    log_in(client)
    form = client.post("/logout", data={"x": ""}, headers=OWN)
    problem_of(form, 400)
    gone = client.post(
        "/logout",
        headers=OWN,
        content_type="application/x-www-form-urlencoded",
    )
    assert (gone.status_code, gone.headers["Location"]) == (303, "/login")
    problem_of(client.get("/jobs"), 401)


def test_a_cookie_ends_after_twelve_hours_and_with_its_token(
    refusing: Clients,
) -> None:
    client = refusing(**TOKENS)
    keyring = Keyring([TOKEN])
    now = time.time()
    client.set_cookie(COOKIE, keyring.cookie(TOKEN, now - 12 * 3600 + 60))
    assert client.get("/jobs").status_code == 200
    client.set_cookie(COOKIE, keyring.cookie(TOKEN, now - 12 * 3600 - 1))
    problem_of(client.get("/jobs"), 401)
    foreign = Keyring(["another-token-16"]).cookie("another-token-16", now)
    client.set_cookie(COOKIE, foreign)
    problem_of(client.get("/jobs"), 401)
    name, expires, signature = keyring.cookie(TOKEN, now - 12 * 3600 - 1).split(".")
    longer = f"{int(expires, 16) + 3600:x}"
    client.set_cookie(COOKIE, f"{name}.{longer}.{signature}")
    problem_of(client.get("/jobs"), 401)


def test_the_cookie_of_a_reader_changes_nothing(refusing: Clients) -> None:
    client = refusing(**TOKENS)
    assert log_in(client, READER).status_code == 204
    assert client.get("/jobs").status_code == 200
    job = {"job_type": "x", "payload_json": {}}
    problem_of(client.post("/jobs", json=job, headers=OWN), 403, "READ_ONLY")


def test_without_tokens_none_is_needed(refuser: Client) -> None:
    form = refuser.get("/login?next=/jobs")
    assert form.status_code == 200
    assert "needs no token" in form.text
    assert "<form" not in form.text
    answer = log_in(refuser, "anything")
    assert answer.status_code == 204
    assert "Set-Cookie" not in answer.headers
    assert submit(refuser, "anything").status_code == 303


def test_the_token_is_never_read_from_a_url(refusing: Clients) -> None:
    client = refusing(**TOKENS)
    problem_of(client.get(f"/login?token={TOKEN}"), 400)
    problem_of(client.post(f"/login?token={TOKEN}", json={"token": TOKEN}), 400)
