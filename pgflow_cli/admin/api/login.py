"""Logging in and out: a token becomes a cookie that no script can read.

Programs send JSON and get 204; the form in a browser is redirected.
"""

from __future__ import annotations

import time
from http import HTTPStatus

from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from pgflow_cli.admin import query
from pgflow_cli.admin.problems import Problem
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.security import (
    COOKIE,
    COOKIE_SECONDS,
    Role,
    address_of,
    unauthorized,
)
from pgflow_cli.admin.ui import assets, rendering

_STYLE = "pgflow.css"
_TOKEN = Field("token", query.text(), "The token.", required=True)
_NEXT = Field("next", query.text(most=4000), "A path to be sent on to.")


def login_form(call: Call) -> Response:
    """Return a form that asks for a token."""
    return _form(call, call.query["next"])


def login(call: Call) -> Response:
    """Exchange a token for a cookie that lasts twelve hours."""
    if not call.takes_form:
        return _logged_in(call, Response(status=HTTPStatus.NO_CONTENT))
    try:
        there = call.request.root_path + rendering.local_path(call.body["next"])
        return _logged_in(call, redirect(there, HTTPStatus.SEE_OTHER))
    except Problem as problem:
        again = _form(call, call.body["next"], problem)
        again.headers.update(problem.headers)
        return again


def logout(call: Call) -> Response:
    """Forget the cookie in this browser; a copy of it works until it expires."""
    answer = Response(status=HTTPStatus.NO_CONTENT)
    if call.takes_form:
        there = f"{call.request.root_path}/login"
        answer = redirect(there, HTTPStatus.SEE_OTHER)
    answer.delete_cookie(
        COOKIE,
        path=_cookie_path(call),
        secure=call.request.is_secure,
        httponly=True,
        samesite="Strict",
    )
    return answer


def _logged_in(call: Call, answer: Response) -> Response:
    """Return the answer with a cookie in it; a wrong token is refused and counted."""
    guard, address = call.service.guard, address_of(call.request)
    if guard.keyring.is_empty:
        return answer
    guard.failures.require_few(address)
    token = call.body["token"].strip()
    if guard.keyring.role_of(token) < Role.READ:
        guard.failures.note(address)
        raise unauthorized()
    answer.set_cookie(
        COOKIE,
        guard.keyring.cookie(token, time.time()),
        max_age=COOKIE_SECONDS,
        path=_cookie_path(call),
        secure=call.request.is_secure,
        httponly=True,
        samesite="Strict",
    )
    return answer


def _form(call: Call, there: str | None, problem: Problem | None = None) -> Response:
    said = {
        HTTPStatus.UNAUTHORIZED: "This is not a token that opens the page.",
        HTTPStatus.TOO_MANY_REQUESTS: "Too many wrong tokens: wait a minute.",
    }
    return rendering.page(
        call.request,
        "login.html",
        status=problem.status if problem else HTTPStatus.OK,
        style=_STYLE if _STYLE in assets.ASSETS else None,
        needed=not call.service.guard.keyring.is_empty,
        error=said.get(problem.status, problem.error) if problem else None,
        next=rendering.local_path(there),
    )


def _cookie_path(call: Call) -> str:
    return call.request.root_path or "/"


ROUTES = (
    Route(
        "GET",
        "/login",
        login_form,
        "A form that asks for a token.",
        query=(_NEXT,),
        role=Role.ANONYMOUS,
        of_page=True,
    ),
    Route(
        "POST",
        "/login",
        login,
        "Exchange a token for a cookie that lasts twelve hours.",
        body=(_TOKEN, _NEXT),
        status=204,
        errors={401: "The token is wrong."},
        role=Role.ANONYMOUS,
        or_form=True,
    ),
    Route(
        "POST",
        "/logout",
        logout,
        "Forget the cookie.",
        status=204,
        role=Role.ANONYMOUS,
        or_form=True,
    ),
)
SHAPES = ()
