"""A route: what it takes, who may call it, what it answers; and the map of routes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request

from pgflow_cli.admin.query import Field, text
from pgflow_cli.admin.security import SAFE_METHODS, Role, Visitor
from pgflow_cli.admin.shapes import Schema, Shape
from pgflow_cli.models.audit import Operator
from pgflow_cli.repository import Repository

if TYPE_CHECKING:
    from pgflow_cli.admin.service import Service


FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Call:
    """A request that has passed the guard and whose fields are acceptable.

    `path`, `query` and `body` hold a value for each field that its route declares.
    """

    service: Service
    request: Request
    visitor: Visitor
    request_id: str
    path: Mapping[str, Any]
    query: Mapping[str, Any]
    body: Mapping[str, Any]

    def reading(self) -> AbstractContextManager[Repository]:
        """Lend a repository that cannot change anything."""
        return self.service.reading.repository()

    def writing(self) -> AbstractContextManager[Repository]:
        """Lend a repository that can change things."""
        return self.service.writing.repository()

    @property
    def takes_form(self) -> bool:
        """Whether a form sent it: then a person reads the answer, in a browser."""
        return self.request.mimetype == FORM

    @property
    def is_by_hand(self) -> bool:
        """Whether it says who sends it, or why: operators do, programs do not."""
        named = "X-Pgflow-Actor" in self.request.headers
        return named or self.visitor.by_cookie or bool(self.body.get("note"))

    @property
    def operator(self) -> Operator:
        """Return who makes a change, for the audit."""
        command = f"{self.request.method} {self.request.path}"
        return Operator(self.visitor.actor, command, self.body.get("note"))


Handler = Callable[[Call], Any]

NOTE = Field("note", text(most=1000), "Why; it stands in the audit.")
_PARAMETER = re.compile(r"<(\w+)>")


@dataclass(frozen=True, slots=True)
class Answer:
    """A document with a status that is not the route's usual one."""

    status: int
    document: Any


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One method of one path.

    Its handler returns a document, which is sent as JSON, or a response. `answer` is
    the shape of that document, a schema, or a media type. `others` are the shapes of
    documents with another status (see `Answer`). `about` says more than the summary.
    `headers` are those of the answer, `errors` the statuses of this route alone; both
    with what they mean. Without a `role`, safe methods need READ and others OPERATE.
    `reads` reads the body instead of the fields, which then only describe it.
    `of_page`: part of the page, not of the API; its body is a form. `or_form`: its body
    may also be a form.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    name: str = ""
    parameters: Sequence[Field] = ()
    query: Sequence[Field] = ()
    body: Sequence[Field] | None = None
    answer: Shape | Schema | str = "application/json"
    status: int = 200
    errors: Mapping[int, str] = field(default_factory=dict)
    role: Role | None = None
    any_host: bool = False
    of_page: bool = False
    or_form: bool = False
    about: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    reads: Callable[[str], dict[str, Any]] | None = None
    others: Mapping[int, Shape] = field(default_factory=dict)

    @property
    def is_safe(self) -> bool:
        """Whether it changes nothing."""
        return self.method in SAFE_METHODS

    @property
    def needs(self) -> Role:
        """Return the least role that may call it."""
        if self.role is not None:
            return self.role
        return Role.READ if self.is_safe else Role.OPERATE

    @property
    def operation(self) -> str:
        """Return its name in OpenAPI: that of the handler, unless it has its own."""
        return self.name or self.handler.__name__.strip("_")

    @property
    def fields(self) -> Sequence[Field]:
        """The fields its body may hold; a change always takes a note."""
        if self.is_safe:
            return ()
        own = [*(self.body or ())]
        noted = self.needs is not Role.OPERATE or any(f.name == "note" for f in own)
        return own if noted else [*own, NOTE]

    @property
    def openapi_path(self) -> str:
        """Return its path as OpenAPI writes it."""
        return _PARAMETER.sub(r"{\1}", self.path)


@cache  # werkzeug takes a tenth of a second to compile the rules
def url_map(routes: tuple[Route, ...]) -> Map:
    """Return the map that finds a route by method and path."""
    rules = [Rule(each.path, methods=[each.method], endpoint=each) for each in routes]
    return Map(rules, strict_slashes=True, merge_slashes=False, redirect_defaults=False)
