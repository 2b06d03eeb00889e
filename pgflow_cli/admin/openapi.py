"""The API as an OpenAPI document, made from its routes: the two cannot differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from pgflow_cli.admin import problems, shapes
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Route
from pgflow_cli.admin.security import Role
from pgflow_cli.admin.shapes import Shape

_PROBLEM = Shape(
    "Problem",
    {
        "type": shapes.TEXT,
        "title": shapes.TEXT,
        "status": shapes.WHOLE,
        "error": shapes.TEXT,
        "code": shapes.TEXT,
        "request_id": shapes.TEXT,
    },
)
_DESCRIPTION = (
    "A job queue in PostgreSQL. Times are RFC 3339 in UTC. Lists are read page by page:"
    " send next_cursor_created_at and next_cursor_id of a page as cursor_created_at and"
    " cursor_id to get the next; both are null on the last one. An unknown parameter is"
    " an error. What changes something takes a note, and stands in the audit;"
    " x-pgflow-actor says who it was."
)
_TAGS = {
    "jobs": "Jobs: lists, one of them, why it is where it is.",
    "dlq": "Dead letters: jobs that will not run again by themselves.",
    "replays": "Dead letters run again, as new jobs.",
    "queues": "What waits, how fast it goes, what limits it.",
    "ingest": "What the gate refused.",
    "policy": "What limits and pauses held back.",
    "workers": "The processes that run jobs.",
    "audit": "What operators have changed.",
    "metrics": "Numbers for programs.",
    "doctor": "What is wrong.",
    "events": "Changes as they happen.",
    "health": "For probes.",
    "login": "A cookie for browsers, instead of the token.",
    "openapi": "What you read.",
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds until it may be worth another try.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}
_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def document(
    routes: Sequence[Route], shown: Sequence[Shape], *, guarded: bool
) -> dict[str, Any]:
    """Return the document; `shown` are the shapes that others refer to. A server that
    is not `guarded` needs no token.
    """
    api = [route for route in routes if not route.of_page]
    paths: dict[str, Any] = {}
    for route in api:
        operation = _operation(route, guarded=guarded)
        paths.setdefault(route.openapi_path, {})[route.method.lower()] = operation
    answers = [each.answer for each in api if isinstance(each.answer, Shape)]
    answers += [shape for each in api for shape in each.others.values()]
    schemas = {shape.name: shape.schema for shape in (*shown, *answers)}
    used = {_tag(route) for route in api}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pgflow",
            "version": version("pgflow"),
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [
            {"name": name, "description": text}
            for name, text in _TAGS.items()
            if name in used
        ],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Problem": {**_PROBLEM.schema} | _OPEN},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


_OPEN = {"additionalProperties": True}


def _operation(route: Route, *, guarded: bool) -> dict[str, Any]:
    closed = guarded and route.needs is not Role.ANONYMOUS
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "tags": [_tag(route)],
        "summary": route.summary,
        "parameters": [*_parameters(route)],
        "responses": _responses(route),
        "security": [{"key": []}, {"bearer": []}] if closed else [],
    }
    if route.about:
        operation["description"] = route.about
    if not route.is_safe:
        operation["requestBody"] = _body(route)
    return operation


def _tag(route: Route) -> str:
    """Return the noun of a route: the first word of its path."""
    noun = route.path.split("/")[1].partition(".")[0]
    return {"logout": "login"}.get(noun, noun)


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    for each in route.parameters:
        yield _parameter(each, "path") | {"required": True}
    for each in route.query:
        yield _parameter(each, "query") | {"required": each.required}


def _parameter(each: Field, where: str) -> dict[str, Any]:
    schema = {key: value for key, value in each.schema.items() if key != "description"}
    found: dict[str, Any] = {"name": each.name, "in": where, "schema": schema}
    return found | ({"description": each.help} if each.help else {})


def _body(route: Route) -> dict[str, Any]:
    wanted = [each.name for each in route.fields if each.required]
    schema: dict[str, Any] = {
        "type": "object",
        # What may be absent may be null, too.
        "properties": {
            each.name: each.schema if each.required else shapes.maybe({**each.schema})
            for each in route.fields
        },
        "additionalProperties": False,
    }
    if wanted:
        schema["required"] = wanted
    return {
        "required": bool(wanted),
        "content": {"application/json": {"schema": schema}},
    }


def _responses(route: Route) -> dict[str, Any]:
    found = {str(route.status): _answer(route)}
    for status, shape in route.others.items():
        found[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": shape.reference}},
        }
    for status, text in sorted({**dict(_errors(route)), **route.errors}.items()):
        found[str(status)] = {
            "description": text,
            "content": {problems.MEDIA_TYPE: {"schema": _PROBLEM.reference}},
        }
        if status in _LATER:
            found[str(status)]["headers"] = _RETRY_AFTER
    return found


def _answer(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if route.headers:
        found["headers"] = {
            name: {"description": text, "schema": shapes.TEXT}
            for name, text in route.headers.items()
        }
    if route.status == HTTPStatus.NO_CONTENT:
        return found
    if isinstance(route.answer, str):
        media, schema = route.answer, dict(shapes.TEXT)
        if media == "application/json":
            schema = {}
    else:
        shape = route.answer
        media = "application/json"
        schema = dict(shape.reference if isinstance(shape, Shape) else shape)
    return found | {"content": {media: {"schema": schema}}}


def _errors(route: Route) -> Iterator[tuple[int, str]]:
    """Yield the errors of every route that takes what this one takes."""
    yield 400, "The request is not acceptable."
    yield 421, "This server does not answer to the name in Host."
    yield 429, "Too many wrong tokens from this address."
    yield 500, "A bug; the log tells more."
    yield 503, "The database does not answer."
    if route.needs is not Role.ANONYMOUS:
        yield 401, "A token is needed."
        yield 403, "The token may only read, or the request is another page's."
    if not route.is_safe:
        if route.needs is Role.ANONYMOUS:
            yield 403, "The request is another page's."
        yield 413, "The body is too large."
        yield 415, "The body is not JSON."
    if any(field.kind.is_time for field in _taken(route)):
        yield 422, "A time is out of range."


def _taken(route: Route) -> Iterator[Field]:
    yield from route.query
    yield from route.fields
