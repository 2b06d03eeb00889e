"""Static files: what was read at the start is all that can be had."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import Client

from pgflow_cli.admin.ui import assets
from tests.admin.conftest import problem_of

# As a server hands them over: waitress has decoded what was percent-encoded.
TRAVERSALS = (
    "/static/../tokens.py",
    "/static/..%2ftokens.py",
    "/static/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/static/%2e%2e/tokens.py",
    "/static/%252e%252e%252ftokens.py",
    "/static/..%5ctokens.py",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static/htmx.min.js%00.css",
    "/static/%00",
    "/static/",
    "/static",
    "/static/htmx.min.js/",
    "/static/C:%5cwindows%5cwin.ini",
    "/static/checksums.txt%0d%0aX:1",
    "/static/__pycache__",
)


@pytest.mark.parametrize("name", sorted(assets.ASSETS))
def test_a_file_is_open_to_all_and_the_same_as_in_the_tree(
    client_of: Callable[..., Client], name: str
) -> None:
    client = client_of(api_tokens=("a-token-nobody-shows",))
    response = client.get(assets.asset_url(name))
    assert response.status_code == 200
    assert response.data == (assets.FOLDER / name).read_bytes()
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_file_asked_for_by_its_hash_is_kept_for_ever(client: Client) -> None:
    url = assets.asset_url("htmx.min.js")
    kept = client.get(url)
    assert "immutable" in kept.headers["Cache-Control"]
    assert kept.content_type == "text/javascript; charset=utf-8"
    for other in ("/static/htmx.min.js", "/static/htmx.min.js?v=0123456789abcdef"):
        assert client.get(other).headers["Cache-Control"] == "no-cache"


def test_what_has_not_changed_is_not_sent_again(client: Client) -> None:
    first = client.get("/static/htmx.min.js")
    again = client.get(
        "/static/htmx.min.js", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]


def test_it_is_compressed_for_whoever_can_take_that(client: Client) -> None:
    plain = client.get("/static/htmx.min.js")
    small = client.get("/static/htmx.min.js", headers={"Accept-Encoding": "br, gzip"})
    refused = client.get("/static/htmx.min.js", headers={"Accept-Encoding": "gzip;q=0"})
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.data) == plain.data == refused.data
    assert len(small.data) < len(plain.data) / 2
    assert small.headers["ETag"] != plain.headers["ETag"]
    for response in (plain, small):
        assert response.headers["Vary"] == "Accept-Encoding"


def test_no_path_leads_out_of_the_folder(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("io.open", opened.append)
    monkeypatch.setattr("os.open", opened.append)
    for path in TRAVERSALS:
        response = client.get(path)
        assert response.status_code in (400, 404), path
        assert response.content_type == "application/problem+json"
    assert opened == []


def test_a_name_that_is_not_there_is_404(client: Client) -> None:
    problem_of(client.get("/static/nothing.css"), 404)
    problem_of(client.get("/static/htmx.min.js?v=../x"), 400)


def test_a_browser_that_asks_for_an_icon_hears_that_there_is_none(
    client_of: Callable[..., Client],
) -> None:
    answer = client_of(api_tokens=("a-token-nobody-shows",)).get("/favicon.ico")
    assert (answer.status_code, answer.data) == (204, b"")


def test_a_template_that_names_no_file_of_ours_fails() -> None:
    assert assets.asset_url("htmx.min.js", "/jobs").startswith("/jobs/static/htmx.")
    with pytest.raises(KeyError):
        assets.asset_url("nothing.css")


def test_what_others_wrote_is_what_we_took() -> None:
    lines = (assets.FOLDER / "checksums.txt").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split() for line in lines)}
    assert set(listed) == {"htmx.min.js"}
    for name, digest in listed.items():
        assert hashlib.sha256(assets.ASSETS[name].body).hexdigest() == digest
        licence = assets.FOLDER / f"{name.split('.')[0]}.LICENSE.txt"
        assert "Zero-Clause BSD" in licence.read_text()
