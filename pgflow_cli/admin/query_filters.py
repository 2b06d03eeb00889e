"""The filters and pages of lists in HTTP: query parameters in, a filter or page out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pgflow_cli.admin import query
from pgflow_cli.admin.problems import bad_request
from pgflow_cli.admin.query import Field
from pgflow_cli.formats import payload_text
from pgflow_cli.models.selection import (
    FILTER_FIELDS,
    MOST_ROWS,
    PATTERNS,
    STATUSES,
    JobFilter,
    Page,
    Position,
)

_CURSOR_ID = re.compile(r"[A-Za-z0-9_.:-]{1,200}", re.ASCII)
_HEX = "[0-9a-fA-F]"
_UUID = re.compile(f"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}")
_NUMBER = re.compile(r"[1-9]\d{0,18}", re.ASCII)
_DECISION = re.compile(r"(?:policy|ingest)-[1-9]\d{0,18}", re.ASCII)
MOST_NUMBER = 2**63 - 1

_LETTERS = "letters, digits, or any of"
QUEUE_NAME = query.text(
    payload_text.QUEUE,
    f"a queue's name: 1 to 63 {_LETTERS} _ . - after a letter or digit",
    most=63,
)
JOB_TYPE = query.text(
    payload_text.JOB_TYPE,
    f"a job type's name: 1 to 128 {_LETTERS} _ . : - after a letter or digit",
    most=128,
)
JOB_ID = query.text(
    # All of it, or its end: with the hyphens that stand there, or without any.
    re.compile(
        f"{_HEX}{{6,32}}|{_HEX}{{0,4}}(?:-{_HEX}{{4}}){{0,2}}-{_HEX}{{12}}"
        f"|{_UUID.pattern}"
    ),
    "a job's id, or its last 6 digits or more",
    most=36,
)
FULL_ID = query.text(
    _UUID, "a job's full id such as 01a2081d-307c-7b77-8a50-0f6c9c41e07b", most=36
)
_KINDS = {
    **{
        name: query.text(each.form, each.expects, most=each.most)
        for name, each in PATTERNS.items()
    },
    "job_type": JOB_TYPE,
    "status": query.one_of(*STATUSES),
    "time": query.moment("past"),
    "text": query.text(most=200),
    "id": FULL_ID,
}
CODE = _KINDS["code"]
# The conditions of `JobFilter` that queries have, by the name of the parameter.
FILTERS = {
    each.name: Field(each.name, _KINDS[each.kind], f"{each.query_help or each.help}.")
    for each in FILTER_FIELDS.values()
    if each.name is not None
}
QUEUE = FILTERS["queue"]
PAGE = (
    Field(
        "limit",
        query.whole(1, MOST_ROWS, clamped=True),
        f"How many at most; moved to 1 to {MOST_ROWS}.",
        100,
    ),
    Field(
        "cursor_created_at",
        query.moment("past"),
        "next_cursor_created_at of the page before; with cursor_id.",
    ),
    Field(
        "cursor_id",
        query.text(_CURSOR_ID, "an id", most=200),
        "next_cursor_id of the page before; with cursor_created_at.",
    ),
)


def uuid_of(text: str) -> str | None:
    """Return a UUID; None of anything else."""
    return text.lower() if _UUID.fullmatch(text) else None


def number_of(text: str) -> str | None:
    """Return the number of a row; None of anything else."""
    return text if _NUMBER.fullmatch(text) and int(text) <= MOST_NUMBER else None


def decision_of(text: str) -> str | None:
    """Return the id of a decision; None of anything else."""
    return text if _DECISION.fullmatch(text) else None


def some(*names: str) -> tuple[Field, ...]:
    """Return filters by name."""
    return tuple(FILTERS[name] for name in names)


def job_filter(values: Mapping[str, Any]) -> JobFilter:
    """Return the filter that a query asks for; what it does not hold narrows nothing.

    Values may be one or several.
    """
    chosen: dict[str, Any] = {}
    for field, asked in FILTER_FIELDS.items():
        value = values.get(asked.name) if asked.name else None
        if value is None or value == []:
            continue
        several = tuple(value) if isinstance(value, list) else (value,)
        chosen[field] = several if asked.several else value
    return JobFilter(**chosen)


def page(
    values: Mapping[str, Any], identity_of: Callable[[str], str | None] = uuid_of
) -> Page:
    """Return the page that a query asks for; half a cursor is refused.

    `identity_of` returns an id of the list as its statement takes it, None of what is
    none.
    """
    at, given = values["cursor_created_at"], values["cursor_id"]
    if (at is None) != (given is None):
        raise bad_request("cursor_created_at and cursor_id go together")
    if at is None:
        return Page(values["limit"])
    if at.at is None:
        raise bad_request("cursor_created_at is not an absolute time")
    identity = identity_of(given)
    if identity is None:
        raise bad_request("cursor_id is no id of this list")
    position: Position = (at.at, identity)
    return Page(values["limit"], position)
