"""What the routes answer that only read."""

from __future__ import annotations

from werkzeug.test import Client

from tests.admin.conftest import problem_of


def test_an_unknown_path_is_a_problem(client: Client) -> None:
    problem_of(client.get("/nowhere"), 404, "NOT_FOUND")


def test_no_job_is_an_empty_page(client: Client) -> None:
    response = client.get("/jobs")

    assert response.get_json() == {
        "items": [],
        "next_cursor_created_at": None,
        "next_cursor_id": None,
    }
