"""Lists are read page by page: each row once, and the last page says so."""

from __future__ import annotations

from typing import Any

import pytest

from pgflow_cli.inspection import job_list
from tests.admin.conftest import got, problem_of
from tests.repository.test_audit import cancel, lease, unqueue
from tests.repository.test_overview import fail_then_retry
from tests.support.jobs import plant, plant_dead

STATES = ("queued", "scheduled", "running", "succeeded", "dlq", "canceled")
UNKNOWN = "00000000-0000-7000-8000-000000000000"
PAGED = (
    "/jobs", "/dlq", "/policy/decisions", "/ingest/decisions", "/workers", "/audit",
    "/replays",
)  # fmt: skip


@pytest.mark.parametrize("path", PAGED)
def test_half_a_cursor_and_one_of_another_list_are_refused(client, planted, path):
    at = "2026-11-23T00:00:00Z"
    for query in (
        f"cursor_created_at={at}",
        f"cursor_id={UNKNOWN}",
        f"cursor_created_at={at}&cursor_id=urn:uuid:{UNKNOWN}",
        f"cursor_created_at={at}&cursor_id=0",
        f"cursor_created_at={at}&cursor_id=99999999999999999999",
        f"cursor_created_at=1h&cursor_id={UNKNOWN}",
    ):
        problem_of(client.get(f"{path}?{query}"), 400)


@pytest.mark.parametrize("path", PAGED)
def test_a_limit_beyond_its_bounds_is_moved_to_them(client, planted, path):
    def count(limit: str) -> int:
        found = got(client, f"{path}?limit={limit}")
        return len(found if isinstance(found, list) else found["items"])

    assert count("0") == count("-7") == count(f"-{'9' * 300}") == 1
    assert count("501") == count("500") == count("9" * 300)
    for none in ("1.5", "x", "", "1e3", "٣", "9" * 1001):
        problem_of(client.get(f"{path}?limit={none}"), 400)


def test_a_cursor_ends(client, planted):
    for path in PAGED:
        found = got(client, f"{path}?limit=500")
        if isinstance(found, dict):
            assert found["next_cursor_created_at"] is None
            assert found["next_cursor_id"] is None


def arrive(connection: Any, path: str) -> None:
    """Let a row arrive that belongs to the list."""
    if path == "/jobs?status=scheduled":
        plant(connection, due_in="1 hour")
    elif "dlq" in path:
        plant_dead(connection)
    elif path == "/jobs?status=running":
        [job_id] = plant(connection)
        unqueue(connection, job_id)
        lease(connection, job_id)
    elif path == "/jobs?status=canceled":
        [job_id] = plant(connection)
        unqueue(connection, job_id)
        cancel(connection, job_id)
    elif path.startswith("/jobs"):
        plant(connection)
    elif "decisions" in path:
        table = path.strip("/").replace("/", "_")
        connection.execute(
            f"insert into pgflow.{table} (queue, decision, reason_code, minute)"
            " values (gen_random_uuid()::text, 'DENIED', 'X',"
            " date_trunc('minute', now()))"
        )
    elif path == "/audit":
        connection.execute(
            "insert into pgflow.operator_actions (actor, action, command)"
            " values ('eve', 'jobs.cancel', 'x')"
        )
    elif path == "/workers":
        connection.execute(
            "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
            " lease_seconds, name, host)"
            " values (gen_random_uuid(), gen_random_uuid(), 1, 1, 10, 'n', 'h')"
        )
    else:
        connection.execute(
            "insert into pgflow.replay_plans"
            " (action_id, batch_size, max_payload_bytes, runner) values (1, 1, 2, 'e')"
        )


@pytest.mark.parametrize(
    "path",
    [*(f"/jobs?status={state}" for state in STATES), *PAGED, "/dlq?resolved=any"],
)
def test_pages_visit_each_row_once_while_others_arrive(
    client, connection, planted, path
):
    key = {"/workers": "worker_id", "/replays": "plan_id"}.get(path, "id")

    def rows_of(query: str) -> Any:
        found = got(client, f"{path}{'&' if '?' in path else '?'}{query}")
        return {"items": found} if isinstance(found, list) else found

    before = [row[key] for row in rows_of("limit=500")["items"]]
    seen: list[Any] = []
    query = "limit=2"
    for _ in range(60):
        page = rows_of(query)
        seen += [row[key] for row in page["items"]]
        arrive(connection, path)
        at, identity = _cursor(path, page)
        if at is None:
            break
        query = f"limit=2&cursor_created_at={at}&cursor_id={identity}"
    else:
        pytest.fail("the cursor has no end")
    assert len(set(seen)) == len(seen)
    assert [each for each in seen if each in before] == before


def _cursor(path: str, page: Any) -> tuple[str | None, str | None]:
    """Return where the next page begins; of the bare array the last row says it."""
    if path != "/ingest/decisions":
        return page["next_cursor_created_at"], page["next_cursor_id"]
    if len(page["items"]) < 2:
        return None, None
    last = page["items"][-1]
    return last["created_at"], last["id"]


def test_a_job_keeps_its_place_when_it_is_tried_again(client, connection):
    jobs = plant(connection, 4)
    first = got(client, "/jobs?limit=2")
    fail_then_retry(connection, jobs[0], "now() + interval '1 hour'")
    at, identity = first["next_cursor_created_at"], first["next_cursor_id"]
    rest = got(client, f"/jobs?cursor_created_at={at}&cursor_id={identity}")
    listed = [*first["items"], *rest["items"]]
    assert [job["id"] for job in listed] == jobs[::-1]


@pytest.mark.parametrize("state", ["queued", "scheduled"])
def test_a_deep_backlog_is_listed_newest_first_without_being_sorted(
    client, connection, monkeypatch, state
):
    due = "0 seconds" if state == "queued" else "1 hour"
    jobs = plant(connection, 5, due_in=due)
    plant(connection, 3, due_in="1 hour" if state == "queued" else "0 seconds")
    monkeypatch.setattr(job_list, "MOST_SORTED", 3)
    listed = got(client, f"/jobs?status={state}")["items"]
    assert [job["id"] for job in listed] == jobs[::-1]
    monkeypatch.setattr(job_list, "MOST_SORTED", 5)
    assert got(client, f"/jobs?status={state}")["items"] == listed


def test_a_page_that_looked_far_enough_may_be_empty_and_goes_on(
    client, connection, monkeypatch
):
    monkeypatch.setattr(job_list, "MOST_LOOKED_AT", 4)
    [rare] = plant(connection, job_type="rare")
    plant(connection, 6)
    page = got(client, "/jobs?job_type=rare")
    assert page["items"] == []
    at, identity = page["next_cursor_created_at"], page["next_cursor_id"]
    page = got(
        client, f"/jobs?job_type=rare&cursor_created_at={at}&cursor_id={identity}"
    )
    assert [job["id"] for job in page["items"]] == [rare]
    assert page["next_cursor_id"] is None
