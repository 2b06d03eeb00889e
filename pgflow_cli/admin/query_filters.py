"""The filters and pages of lists in HTTP: query parameters in, a filter or page out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pgflow_cli.admin import query
from pgflow_cli.admin.problems import bad_request
from pgflow_cli.admin.query import Field
from pgflow_cli.formats import payload_text
from pgflow_cli.models.selection import MOST_ROWS, JobFilter, Page, Position

_GLOB = re.compile(r"[A-Za-z0-9*?\[][A-Za-z0-9_.*?\[\]!-]{0,62}", re.ASCII)
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)
_FINGERPRINT = re.compile(r"f\d{1,3}-[0-9a-f]{8}", re.ASCII)
_CURSOR_ID = re.compile(r"[A-Za-z0-9_.:-]{1,200}", re.ASCII)
_HEX = "[0-9a-fA-F]"
_UUID = re.compile(f"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}")
_NUMBER = re.compile(r"[1-9]\d{0,18}", re.ASCII)
_DECISION = re.compile(r"(?:policy|ingest)-[1-9]\d{0,18}", re.ASCII)
MOST_NUMBER = 2**63 - 1
STATUSES = ("queued", "scheduled", "running", "succeeded", "dlq", "canceled")

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
CODE = query.text(_CODE, "a code such as TIMEOUT", most=64)

QUEUE = Field(
    "queue",
    query.text(_GLOB, "a queue's name, or a glob such as emails.*", most=63),
    "Only this queue; a glob such as emails.* is fine.",
)
FILTERS = {
    "queue": QUEUE,
    "job_type": Field("job_type", JOB_TYPE, "Only this job type."),
    "error_code": Field("error_code", CODE, "Only this last error code."),
    "reason": Field("reason", CODE, "Only this dlq_reason_code."),
    "fingerprint": Field(
        "fingerprint",
        query.text(_FINGERPRINT, "a fingerprint such as f1-3ac91b20", most=12),
        "Only this error fingerprint.",
    ),
    "status": Field("status", query.one_of(*STATUSES), "Only jobs in this state."),
    "since": Field(
        "since", query.moment("past"), "Only from this time on, such as 2h."
    ),
    "until": Field("until", query.moment("past"), "Only before this time."),
    "match": Field(
        "match", query.text(most=200), "Only where the error message has this text."
    ),
    "replay_of": Field("replay_of", FULL_ID, "Only replays of this job."),
}
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

_NAMES = {
    "queue": "queues",
    "job_type": "job_types",
    "error_code": "error_codes",
    "reason": "reasons",
    "fingerprint": "fingerprints",
    "status": "statuses",
}


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
    for name in FILTERS:
        value = values.get(name)
        if value is None or value == []:
            continue
        several = tuple(value) if isinstance(value, list) else (value,)
        chosen[_NAMES.get(name, name)] = several if name in _NAMES else value
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
