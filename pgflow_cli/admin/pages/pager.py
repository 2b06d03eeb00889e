"""Where the next page of a list is: a URL like any other."""

from __future__ import annotations

from dataclasses import replace

from pgflow_cli.admin import filters
from pgflow_cli.admin.calls import Call
from pgflow_cli.admin.pages.frame import url
from pgflow_cli.formats import times
from pgflow_cli.models.selection import Position

# A screenful is fewer than a program takes.
PAGE = tuple(
    replace(field, default=50) if field.name == "limit" else field
    for field in filters.PAGE
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
