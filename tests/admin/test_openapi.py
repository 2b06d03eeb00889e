"""The OpenAPI document says what the code does, and the code does what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from werkzeug.test import Client

from pgflow_cli.admin import application, openapi
from pgflow_cli.admin.routes import Route
from tests.admin.fuzzing import HANGS_UP
from tests.admin.planting import Planted

README = Path(__file__).parents[2] / "README.md"
API = [route for route in application.ROUTES if not route.of_page]
READING = [route for route in API if route.is_safe]


@pytest.fixture
def document(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").get_json()
    return found


def test_the_document_that_is_served_is_what_the_code_says(document):
    said = openapi.document(application.ROUTES, application.SHAPES, guarded=False)
    assert document == json.loads(json.dumps(said))


def test_every_route_is_in_the_document_and_no_other(document):
    said = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert said == {(route.method, route.openapi_path) for route in API}


def test_every_operation_has_a_name_of_its_own_a_tag_and_a_summary(document):
    operations = [
        operation
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in document["tags"]}
    for operation in operations:
        assert {*operation["tags"]} <= tags, operation["operationId"]
        assert operation["summary"].endswith(".")


def test_every_shape_that_is_referred_to_is_there_and_every_one_is_used(document):
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert f'"#/components/schemas/{name}"' in text, f"{name} is not used"
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in schemas


def test_whatever_changes_something_may_be_refused_to_a_page_of_another_origin(
    document,
):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert method == "get" or "403" in operation["responses"], path


def test_two_shapes_never_have_one_name():
    shapes: dict[str, Any] = {}
    answers = [route.answer for route in API]
    for shape in (*application.SHAPES, *(a for a in answers if hasattr(a, "fields"))):
        assert shapes.setdefault(shape.name, shape.schema) == shape.schema, shape.name


def test_what_may_be_away_says_when_to_come_again(document):
    for methods in document["paths"].values():
        for operation in methods.values():
            for status in ("429", "503"):
                assert "Retry-After" in operation["responses"][status]["headers"]


@pytest.mark.parametrize("route", READING, ids=lambda route: route.path)
def test_an_answer_has_exactly_the_shape_that_is_said(
    client: Client, document: dict[str, Any], planted: Planted, route: Route
) -> None:
    paths = [*_paths(route, planted)]
    assert paths
    for path in paths:
        response = client.get(path, environ_overrides=HANGS_UP)
        assert response.status_code == 200, (path, response.text)
        content = document["paths"][route.openapi_path]["get"]["responses"]["200"][
            "content"
        ]
        assert [*content] == [response.mimetype]
        if response.mimetype == "application/json":
            _conform(
                response.get_json(), content["application/json"]["schema"], document
            )


def _paths(route: Route, planted: Planted) -> list[str]:
    """Return real paths of a route: one for each thing of its kind that was planted."""
    things = {
        "<job_id>": [*planted.jobs.values(), planted.jobs["dead"][-8:]],
        "<plan>": [*planted.plans.values()],
        "<name>": ["default", "emails", "billing"],
    }
    for place, found in things.items():
        if place in route.path:
            return [route.path.replace(place, str(each)) for each in found]
    queries = {
        "/jobs": [
            *(f"?status={s}" for s in planted.jobs if s in _STATUSES),
            "?limit=2",
        ],
        "/dlq": ["?resolved=any", "?resolved=true"],
        "/dlq/groups": [f"?by={key}" for key in _KEYS],
    }
    return [route.path, *(route.path + query for query in queries.get(route.path, []))]


_STATUSES = ("queued", "scheduled", "running", "succeeded", "dlq", "canceled")
_KEYS = ("fingerprint", "error-code", "reason", "type", "queue", "code-version")


def _conform(answer: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator(
        whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(answer)


def routes_table() -> list[str]:
    """Return the rows as they should be; paste them when the test below fails."""
    return [
        f"| `{route.method} {route.path.replace('<', ':').replace('>', '')}` | "
        f"{route.summary} |"
        for route in API
    ]


def test_every_route_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"<!-- routes: .*?-->\n(.*?)<!-- end of routes -->", text, re.S)
    assert found is not None, "README has no table of routes"
    rows = [line for line in found[1].splitlines() if line.startswith("|")][2:]
    assert rows == routes_table(), "\n".join(routes_table())
