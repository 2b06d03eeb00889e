"""A request as an endpoint sees it: read, checked, with what it needs to answer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request

from pgflow_cli.admin.guards import Visitor
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
