"""All routes of the admin server, and the application that answers them."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from werkzeug.exceptions import HTTPException
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from pgflow_cli.admin import openapi, problems, query, ui
from pgflow_cli.admin.api import (
    audit,
    dead_letters,
    decisions,
    doctor,
    enqueue,
    events,
    health,
    jobs,
    login,
    metrics,
    queues,
    replays,
    workers,
)
from pgflow_cli.admin.problems import Problem
from pgflow_cli.admin.routes import FORM, Answer, Call, Route, url_map
from pgflow_cli.admin.security import SAFE_METHODS, Role, Visitor, unauthorized
from pgflow_cli.admin.service import Service
from pgflow_cli.admin.ui import assets, layout
from pgflow_cli.errors import PgflowError
from pgflow_cli.formats import payload_text, values

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


_NOUNS = (
    jobs,
    enqueue,
    dead_letters,
    replays,
    queues,
    decisions,
    workers,
    audit,
    metrics,
    doctor,
    login,
    events,
    assets,
    ui,
)
SHAPES = tuple(shape for noun in _NOUNS for shape in noun.SHAPES)


def _openapi(call: Call) -> Response:
    """Return this API as an OpenAPI document."""
    text = _document(guarded=not call.service.guard.keyring.is_empty)
    return Response(text, content_type="application/json")


@cache  # it needs no token, and takes a while to make
def _document(*, guarded: bool) -> str:
    return values.json_of(openapi.document(ROUTES, SHAPES, guarded=guarded))


ROUTES = (
    *health.ROUTES,
    *(route for noun in _NOUNS for route in noun.ROUTES),
    Route(
        "GET",
        "/openapi.json",
        _openapi,
        "This document.",
        role=Role.ANONYMOUS,
    ),
)


def application(service: Service) -> Application:
    """Return the WSGI application of a server; that of a probe has fewer routes."""
    routes = health.PROBES if service.options.probe_only else ROUTES
    return Application(service, routes)


log = logging.getLogger("pgflow.admin")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self';"
        " img-src 'self' data:; connect-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # With no-referrer, browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PAGES = "/ui/"


class _LoginFirst(Exception):
    """A page was asked for without a login."""


class Application:
    """The admin server as a WSGI application."""

    def __init__(self, service: Service, routes: Sequence[Route]) -> None:
        self._service = service
        self._map = url_map(tuple(routes))

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a request; whatever happens, in one shape and with our headers."""
        began = time.monotonic()
        request = Request(environ)
        request.max_content_length = self._service.options.max_body
        request_id = uuid.uuid4().hex
        response = self._answered(request, request_id)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["X-Request-Id"] = request_id
        if self._service.options.access_log:
            _log(request, response, request_id, began)
        return response(environ, start_response)

    def _answered(self, request: Request, request_id: str) -> Response:
        try:
            return self._response(request, request_id)
        except _LoginFirst:
            there = quote(request.full_path.rstrip("?"), safe="/")
            login = f"{request.root_path}/login?next={there}"
            return redirect(login, HTTPStatus.SEE_OTHER)
        except Problem as problem:
            return _told(problem, request, request_id)
        except HTTPException as error:
            return _told(problems.of_http(error), request, request_id)
        except PgflowError as error:
            return _told(_failed(error, request, request_id), request, request_id)
        except Exception:
            log.exception(
                "a request met a bug",
                extra={"event": "request_fault", "request_id": request_id},
            )
            return _told(problems.unknown_fault(), request, request_id)

    def _response(self, request: Request, request_id: str) -> Response:
        guard = self._service.guard
        try:
            route, matched = self._found(request)
        except HTTPException:
            guard.require_host(request, exempt=False)
            raise
        guard.require_host(request, exempt=route.any_host)
        is_probe = route.any_host and route.needs is Role.ANONYMOUS
        visitor = guard.prober(request) if is_probe else guard.visitor(request)
        self._require_role(request, route, visitor)
        if not route.is_safe:
            strict = visitor.by_cookie or _is_form(request, route)
            guard.require_own_page(request, strict=strict)
        call = Call(
            self._service,
            request,
            visitor,
            request_id,
            path=_path_values(route, matched),
            query=query.read_query(request.args, route.query, of_form=route.of_page),
            body={} if route.is_safe else _body(request, route),
        )
        return _written(route.handler(call), route)

    def _found(self, request: Request) -> tuple[Route, Mapping[str, Any]]:
        adapter = self._map.bind_to_environ(request.environ)
        found: tuple[Route, Mapping[str, Any]] = adapter.match()
        return found

    def _require_role(self, request: Request, route: Route, visitor: Visitor) -> None:
        if visitor.role >= route.needs:
            return
        if visitor.role in (Role.ANONYMOUS, Role.METRICS):
            raise _LoginFirst if route.of_page and route.is_safe else unauthorized()
        why = (
            "this server is read-only"
            if self._service.options.read_only
            else "this token may only read"
        )
        raise Problem(HTTPStatus.FORBIDDEN, why, code="READ_ONLY")


def _told(problem: Problem, request: Request, request_id: str) -> Response:
    """Return a problem as its reader needs it: JSON for programs, a page for people."""
    if request.path != "/" and not request.path.startswith(_PAGES):
        return problem.response(request_id)
    response = layout.problem(
        request, problem.status, problem.error, request_id, **problem.more
    )
    response.headers.update(problem.headers)
    return response


def _failed(error: PgflowError, request: Request, request_id: str) -> Problem:
    """Return the problem of an error; the log has the message if the server failed."""
    problem = problems.of_error(error, reading=request.method in SAFE_METHODS)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        extra = {"event": "request_failed", "request_id": request_id}
        log.warning("%s", error.message, extra=extra)
    return problem


def _path_values(route: Route, values: Mapping[str, Any]) -> dict[str, Any]:
    known = {each.name: each for each in route.parameters}
    return {
        name: known[name].read_text(value) if name in known else value
        for name, value in values.items()
    }


def _is_form(request: Request, route: Route) -> bool:
    return route.of_page or (route.or_form and request.mimetype == FORM)


def _body(request: Request, route: Route) -> dict[str, Any]:
    """Return the fields of a body; without one, their defaults."""
    if _is_form(request, route):
        if request.mimetype not in ("", FORM):
            raise _unsupported(FORM)
        return query.read_query(request.form, route.fields, of_form=True)
    raw = request.get_data(cache=True)
    if raw and request.mimetype != "application/json":
        raise _unsupported("application/json")
    text = payload_text.text_of(raw or b"{}", what="the body")
    if route.reads is not None:
        return route.reads(text)
    # A level more than a payload may have: the body is around it.
    parsed = payload_text.check(text, what="the body", depth=payload_text.MAX_DEPTH + 1)
    return query.read_body(parsed, route.fields, text)


def _unsupported(wanted: str) -> Problem:
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"the body must be sent with Content-Type: {wanted}",
    )


def _written(answer: Any, route: Route) -> Response:
    if isinstance(answer, Response):
        return answer
    status = route.status
    if isinstance(answer, Answer):
        status, answer = answer.status, answer.document
    return Response(
        values.json_of(answer), status=status, content_type="application/json"
    )


def _log(request: Request, response: Response, request_id: str, began: float) -> None:
    """Log a request without its query, which may hold what a visitor searched for."""
    log.info(
        "%s %s %s",
        request.method,
        request.path,
        response.status_code,
        extra={
            "event": "request",
            "request_id": request_id,
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "latency_ms": round((time.monotonic() - began) * 1000, 1),
            "remote": request.remote_addr,
        },
    )
