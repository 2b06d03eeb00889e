"""What every page has around it: header, alerts, flash; and how forms answer."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode

from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from pgflow_cli.admin import query_filters
from pgflow_cli.admin.routes import Call
from pgflow_cli.admin.security import COOKIE, Role
from pgflow_cli.admin.ui import alerts as shown_alerts
from pgflow_cli.admin.ui import rendering, template_filters
from pgflow_cli.formats import times
from pgflow_cli.inspection import alerts
from pgflow_cli.inspection.queues import QueueReport
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.selection import Position
from pgflow_cli.repository import Database, Repository

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "pgflow_theme"
PAUSE_COOKIE = "pgflow_updates"
_FLASH_COOKIE = "pgflow_flash"
_FLASH_SECONDS = 60
_LONGEST_FLASH = 2000
# A socket's folder would push everything else off a narrow screen.
_SOCKET = re.compile("@/[^:]*:")


@dataclass(frozen=True, slots=True)
class Tab:
    """An entry of the navigation; `key` is pressed after g."""

    path: str
    name: str
    key: str


TABS = (
    Tab("/", "Overview", "o"),
    Tab("/ui/queues", "Queues", "q"),
    Tab("/ui/jobs", "Jobs", "j"),
    Tab("/ui/dlq", "Dead letters", "d"),
    Tab("/ui/replays", "Replays", "r"),
    Tab("/ui/decisions", "Decisions", "p"),
    Tab("/ui/workers", "Workers", "w"),
    Tab("/ui/audit", "Audit", "a"),
    Tab("/ui/doctor", "Doctor", "c"),
    Tab("/ui/enqueue", "Enqueue", "e"),
)
_VERSION = version("pgflow")
_ENVIRONMENT = rendering.ENVIRONMENT.overlay()
_ENVIRONMENT.filters = {**_ENVIRONMENT.filters, **template_filters.FILTERS}


@dataclass(frozen=True, slots=True)
class Flash:
    """What came of a form, told once; `tone` is good or bad."""

    text: str
    tone: str = "good"


def page(
    call: Call,
    name: str,
    *,
    status: int = HTTPStatus.OK,
    flash: Flash | None = None,
    about: str = "",
    **values: Any,
) -> Response:
    """Return a page with all that stands around it; `about` names its queue."""
    taken = call.service.reports.latest()
    found = shown_alerts.gravest_first(alerts.listed(taken))
    named = shown_alerts.named(found, about=about, first_page=call.request.path == "/")
    own = call.request.full_path.rstrip("?")
    told = flash or _flash_of(call.request)
    response = _rendered(
        call.request,
        name,
        status=status,
        taken=taken,
        now=taken.now,
        alerts=[(alert, shown_alerts.place_of(alert)) for alert in named],
        alert_count=len(found),
        flash=told,
        own_url=call.request.root_path + own,
        back=own,
        may_change=call.visitor.role >= Role.OPERATE,
        logged_in=call.visitor.by_cookie,
        where=whereabouts(call, taken),
        request_id=call.request_id,
        url=lambda path, **query: url(call.request, path, query),
        first_page=_first_page(call.request),
        **values,
    )
    if told is not None and flash is None:
        response.delete_cookie(_FLASH_COOKIE, path=_cookie_path(call.request))
    return response


def problem(
    request: Request, status: HTTPStatus, error: str, request_id: str, **more: Any
) -> Response:
    """Return an error in words, with the way back; it asks the database nothing."""
    return _rendered(
        request,
        "problem.html",
        status=status,
        error=error,
        request_id=request_id,
        title=status.phrase,
        hints=more.get("hints", ()),
        candidates=more.get("candidates", ()),
        code=more.get("code", ""),
        log_in=status == HTTPStatus.UNAUTHORIZED,
        retry=status == HTTPStatus.SERVICE_UNAVAILABLE and request.method == "GET",
        own_url=request.root_path + request.full_path.rstrip("?"),
        back="/",
        where=None,
        alerts=(),
        alert_count=0,
        flash=None,
        logged_in=COOKIE in request.cookies,
        now=datetime.now(UTC),
        url=lambda path, **query: url(request, path, query),
    )


def go(call: Call, path: str, flash: Flash | None = None, **query: Any) -> Response:
    """Send a browser on after a form; what came of it is told there."""
    response = redirect(url(call.request, path, query), HTTPStatus.SEE_OTHER)
    if flash is not None:
        response.set_cookie(
            _FLASH_COOKIE,
            _packed(flash),
            max_age=_FLASH_SECONDS,
            path=_cookie_path(call.request),
            secure=call.request.is_secure,
            httponly=True,
            samesite="Strict",
        )
    call.service.reports.forget()
    return response


@contextmanager
def writing(call: Call) -> Iterator[Repository]:
    """Lend a repository that can change something, if the schema is the one we need."""
    with call.writing() as repository:
        migrations.require_current(repository)
        yield repository


def url(request: Request, path: str, query: Mapping[str, Any] | None = None) -> str:
    """Return where a page is, below the path that a gateway puts before ours."""
    asked = {key: value for key, value in (query or {}).items() if value}
    return (
        request.root_path + path + (f"?{urlencode(asked, doseq=True)}" if asked else "")
    )


def whereabouts(call: Call, taken: QueueReport) -> dict[str, Any]:
    """Return the header's values about the database."""
    cluster = taken.measures.cluster
    shown = Database(call.service.options.url).display()
    return {
        "database": _SOCKET.sub("@local:", shown),
        "server": cluster.server_version.split()[0],
        "schema": cluster.schema_version,
        "skew": taken.skew,
        "skewed": abs(taken.skew) > alerts.SKEW,
        "production": call.service.options.production,
        "read_only": call.visitor.role < Role.OPERATE,
    }


def set_cookie(call: Call, response: Response, name: str, value: str) -> None:
    """Remember how a visitor likes the page, for a year; no secret."""
    response.set_cookie(
        name,
        value,
        max_age=31_536_000,
        path=_cookie_path(call.request),
        secure=call.request.is_secure,
        samesite="Lax",
    )


def choice(request: Request, name: str, known: Sequence[str]) -> str:
    """Return the value of a cookie if it is known, else the first that is."""
    given = request.cookies.get(name, "")
    return given if given in known else known[0]


def _rendered(request: Request, name: str, *, status: int, **values: Any) -> Response:
    theme = choice(request, THEME_COOKIE, THEMES)
    return rendering.page(
        request,
        name,
        status=status,
        environment=_ENVIRONMENT,
        version=_VERSION,
        tabs=TABS,
        path=request.path,
        theme=theme,
        next_theme=THEMES[(THEMES.index(theme) + 1) % len(THEMES)],
        paused=choice(request, PAUSE_COOKIE, ("on", "off")) == "off",
        longest=template_filters.LONGEST,
        **values,
    )


def _first_page(request: Request) -> str:
    asked = {k: v for k, v in request.args.items() if not k.startswith("cursor_")}
    return url(request, request.path, asked)


def _cookie_path(request: Request) -> str:
    return request.root_path or "/"


def _packed(flash: Flash) -> str:
    text = json.dumps([flash.tone, flash.text[:_LONGEST_FLASH]])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _flash_of(request: Request) -> Flash | None:
    """Return the message of the last form; none to a request that updates a part."""
    packed = request.cookies.get(_FLASH_COOKIE)
    if not packed or "HX-Request" in request.headers:
        return None
    try:
        padded = packed + "=" * (-len(packed) % 4)
        tone, text = json.loads(base64.urlsafe_b64decode(padded.encode()))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        return None
    return Flash(str(text), "good" if tone == "good" else "bad")


# A screenful is fewer than a program takes.
PAGE = tuple(
    replace(field, default=50) if field.name == "limit" else field
    for field in query_filters.PAGE
)


def next_page(call: Call, more: Position | None) -> str | None:
    """Return the URL of the next page of the list that was asked for."""
    if more is None:
        return None
    at, identity = more
    asked = {
        **call.request.args.to_dict(),
        "cursor_created_at": times.format_iso(at),
        "cursor_id": identity,
    }
    return url(call.request, call.request.path, asked)
