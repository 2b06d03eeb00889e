"""A route: what it takes, who may call it, what it answers; and the map of routes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from werkzeug.routing import Map, Rule

from pgflow_cli.admin.calls import Call
from pgflow_cli.admin.fields import Field
from pgflow_cli.admin.guards import SAFE_METHODS
from pgflow_cli.admin.kinds import text
from pgflow_cli.admin.shapes import Schema, Shape
from pgflow_cli.admin.tokens import Role

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
        """Return what its body may hold; a change always takes a note."""
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
