"""What stands in a query is acceptable, or is refused before the database sees it."""

from __future__ import annotations

import pytest

from tests.admin.conftest import got, problem_of

LISTS = (
    "/jobs", "/dlq", "/policy/decisions", "/ingest/decisions", "/workers", "/audit",
    "/replays", "/dlq/groups", "/queues", "/metrics", "/doctor",
)  # fmt: skip


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_time_is_read_as_the_command_line_reads_it(client, planted, name):
    for time in (
        "2h", "2h ago", "in 10m", "now", "today", "2026-11-23", "@1764000000",
        "2026-11-23T09:30:00.123456Z", "2026-11-23T09:30:00%2B02:00",
    ):  # fmt: skip
        got(client, f"/jobs?{name}={time}")
    for time in ("1999-12-31", "9999-01-01", "10000-01-01", "@-1", "infinity", "40000d",
                 "@999999999999999", "@99999999999"):  # fmt: skip
        status = 200 if time == "@99999999999" else 422
        response = client.get(f"/jobs?{name}={time}")
        assert response.status_code == status, (time, response.text)
        if status == 422:
            problem_of(response, 422, "OUT_OF_RANGE")
    for time in ("", "soon", "2026-02-30", "1" * 65, "%00", "2h 3m ago x"):
        problem_of(client.get(f"/jobs?{name}={time}"), 400)


HOSTILE = (
    "", "%20", "../x", "..%2fx", "%00", "a%00", "%0a", "x%0d%0aSet-Cookie:%20a=b",
    "%ed%a0%80", "%ff%fe", "\\ud800", "x" * 10_000, "'%20or%201=1--", "%c3%bc", "-x",
    "<script>", "%F0%9F%98%80", "NaN", "true%00",
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "queue", "job_type", "status", "error_code", "reason", "fingerprint",
        "replay_of", "since", "limit", "cursor_id",
    ],
)  # fmt: skip
def test_what_no_name_can_be_is_refused_before_the_database(client, name):
    for value in HOSTILE:
        if name in ("error_code",) and value == "NaN":
            continue
        response = client.get(f"/jobs?{name}={value}")
        acceptable = (name, value) in {("queue", "NaN"), ("job_type", "NaN")}
        if acceptable:
            assert response.status_code == 200
        else:
            found = problem_of(response, 400)
            assert "x" * 200 not in found["error"]


def test_an_unknown_parameter_and_one_given_twice_are_refused(client):
    for path in LISTS:
        problem_of(client.get(f"{path}?nonsense=1"), 400)
        problem_of(client.get(f"{path}?%ff=1"), 400)
    problem_of(client.get("/jobs?queue=a&queue=b"), 400)
    problem_of(client.get("/jobs/?limit=1"), 404)
    problem_of(client.post("/audit"), 405)
