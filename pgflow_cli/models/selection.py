"""Filters and pages of lists, as parameters of statements."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from pgflow_cli.errors import Refused, UsageError
from pgflow_cli.formats.times import Instant

Row = TypeVar("Row")
Position = tuple[datetime, str]  # of a row in a list: its time and its id
Naming = Callable[[str], str]
"""Turns the name of a field into the name that an error gives it: --queue, or queue."""

MOST_ROWS = 500  # rows of one page, and of one statement of a stream
_NO_QUEUE = ""  # no queue has this name
_MAGIC = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern for text of at most `most` characters; `expects` describes it in
    errors.
    """

    form: re.Pattern[str]
    expects: str
    most: int


PATTERNS = {
    "queue": Pattern(
        re.compile(r"[A-Za-z0-9*?\[][A-Za-z0-9_.*?\[\]!-]{0,62}", re.ASCII),
        "a queue's name, or a glob such as emails.*",
        63,
    ),
    "code": Pattern(
        re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII),
        "a code of capitals, digits and _, such as TIMEOUT",
        64,
    ),
    "fingerprint": Pattern(
        re.compile(r"f\d{1,3}-[0-9a-f]{8}", re.ASCII),
        "a fingerprint such as f1-3ac91b20",
        12,
    ),
}
STATUSES = ("queued", "scheduled", "running", "succeeded", "dlq", "canceled")


@dataclass(frozen=True, slots=True)
class FilterField:
    """The options and parameters by which the command line, the API and the page set a
    field of `JobFilter`.

    `kind` is a pattern's name or one of status, job_type, name, time, text, json, pair
    and id; `flags` are followed by what stands for the value. Queries have those with a
    `name`; `query_help` explains one where `help` would not do.
    """

    kind: str
    flags: str
    help: str
    name: str | None = None
    query_help: str = ""
    several: bool = field(default=False, kw_only=True)


def _one(*asked: str, **more: Any) -> Any:
    return field(default=None, metadata={"filter": FilterField(*asked, **more)})


def _several(*asked: str) -> Any:
    return field(default=(), metadata={"filter": FilterField(*asked, several=True)})


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Conditions that must all hold; an empty filter matches every job.

    `queues` may hold globs such as `emails.*` until `expand` has named them. `match` is
    sought in error messages, whatever its case; `payload_contains` and `meta` are JSON
    texts that must be contained.
    """

    queues: tuple[str, ...] = _several(
        "queue",
        "-q --queue NAME",
        "Only this queue; a glob such as 'emails.*' is fine",
        "queue",
        "Only this queue; a glob such as emails.* is fine",
    )
    job_types: tuple[str, ...] = _several(
        "job_type", "-t --type TYPE", "Only this job type", "job_type"
    )
    error_codes: tuple[str, ...] = _several(
        "code", "--error-code CODE", "Only this last error code", "error_code"
    )
    reasons: tuple[str, ...] = _several(
        "code",
        "--reason CODE",
        "Only this reason code",
        "reason",
        "Only this dlq_reason_code",
    )
    fingerprints: tuple[str, ...] = _several(
        "fingerprint", "--fingerprint F", "Only this error fingerprint", "fingerprint"
    )
    statuses: tuple[str, ...] = _several(
        "status", "--status", "Only jobs in this state", "status"
    )
    worker: str | None = _one(
        "name", "--worker NAME", "Only of this worker, or this process of it"
    )
    code_version: str | None = _one(
        "name", "--code-version TEXT", "Only of this version of the handlers"
    )
    since: Instant | None = _one(  # noqa: RUF009 - makes a field
        "time",
        "--since TIME",
        "Only from this time on, such as 2h or 09:30",
        "since",
        "Only from this time on, such as 2h",
    )
    until: Instant | None = _one(  # noqa: RUF009 - the same
        "time", "--until TIME", "Only before this time", "until"
    )
    match: str | None = _one(
        "text", "--match TEXT", "Only where the error message has this text", "match"
    )
    payload_contains: str | None = _one(
        "json",
        "--payload-contains JSON",
        "Only payloads that contain this, such as '{\"customer\": 7}'",
    )
    meta: str | None = _one(
        "pair", "--meta K=V", "Only jobs with this in their meta", several=True
    )
    replay_of: str | None = _one(
        "id",
        "--replay-of ID",
        "Only replays of this job; a full id",
        "replay_of",
        "Only replays of this job",
    )

    @property
    def is_empty(self) -> bool:
        """Whether it matches every job."""
        return self == JobFilter()

    def expand(self, known: Iterable[str]) -> JobFilter:
        """Return the filter with each glob replaced by the names of matching queues."""
        if not any(_MAGIC & set(name) for name in self.queues):
            return self
        names = {
            queue
            for pattern in self.queues
            for queue in known
            if fnmatch.fnmatchcase(queue, pattern)
        } | {name for name in self.queues if not _MAGIC & set(name)}
        return replace(self, queues=tuple(sorted(names)) or (_NO_QUEUE,))

    def parameters(self) -> dict[str, object]:
        """Return the parameters of statements with a filter; a condition that is not
        set is None.

        Relative times stay intervals, so that the database's clock decides.
        """
        found: dict[str, object] = {}
        for name, asked in FILTER_FIELDS.items():
            value = getattr(self, name)
            if asked.kind == "time":
                time = value or Instant()
                found |= {f"{name}_at": time.at, f"{name}_offset": time.offset}
            else:
                several = isinstance(value, tuple)
                found[name] = list(value) or None if several else value
        return found


FILTER_FIELDS: dict[str, FilterField] = {
    each.name: each.metadata["filter"] for each in fields(JobFilter)
}


@dataclass(frozen=True, slots=True)
class Page:
    """At most `limit` rows after a position; `everything`: all pages in one stream."""

    limit: int = 50
    after: Position | None = None
    everything: bool = False

    def read(
        self,
        fetch: Callable[[int, Position | None], Sequence[Row]],
        position: Callable[[Row], Position],
    ) -> tuple[Iterable[Row], Position | None]:
        """Return the rows, and the position of the last one if more follow.

        `fetch` takes how many rows and after what position.
        """
        if self.everything:
            return self._stream(fetch, position), None
        rows = fetch(self.limit + 1, self.after)
        shown = list(islice(rows, self.limit))
        return shown, position(shown[-1]) if len(rows) > len(shown) else None

    def _stream(
        self,
        fetch: Callable[[int, Position | None], Sequence[Row]],
        position: Callable[[Row], Position],
    ) -> Iterator[Row]:
        after = self.after
        while rows := fetch(MOST_ROWS, after):
            yield from rows
            after = position(rows[-1])


def plainly(name: str) -> str:
    """Return a field's name, as the fields of a JSON document are called."""
    return name


def require_choice(
    ids: Sequence[str],
    chosen: JobFilter,
    *,
    everything: bool,
    name: Naming = plainly,
) -> None:
    """Refuse a change without jobs, and one with both ids and a filter."""
    every = name("all")
    if ids and (everything or not chosen.is_empty):
        raise UsageError(f"give ids, or filters, or {every}: not several of them")
    if not ids and chosen.is_empty and not everything:
        raise UsageError(
            f"which jobs? give ids, a filter such as {name('queue')}, or {every}",
            f"Try it with {name('dry_run')} first.",
        )
    if everything and not chosen.is_empty:
        raise UsageError(f"{every} and a filter exclude each other")


def require_at_most(count: int, most: int, *, name: Naming = plainly) -> None:
    """Refuse a change of more jobs than its limit."""
    if count > most:
        limit = name("max")
        raise Refused(
            f"that are {count:,} jobs, more than {limit} {most:,}; nothing was changed",
            f"Narrow it with a filter, or try: {limit} {count}",
            reason_code="TOO_MANY",
        )


def after_parameters(after: Position | None) -> dict[str, object]:
    """Return the parameters of statements with pages: `after_at` and `after_id`."""
    at, identity = after or (None, None)
    return {"after_at": at, "after_id": identity}


def token(position: Position) -> str:
    """Return a position as an opaque token."""
    at, identity = position
    text = json.dumps([at.isoformat(), identity], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position_of(text: str) -> Position:
    """Return the position that a word from `token` stands for; else `UsageError`."""
    try:
        padded = text + "=" * (-len(text) % 4)
        decoded: Any = json.loads(base64.urlsafe_b64decode(padded.encode()))
        at, identity = decoded
        moment = datetime.fromisoformat(at)
        assert moment.tzinfo is not None
        assert isinstance(identity, str)
    except (ValueError, TypeError, AssertionError, binascii.Error, RecursionError):
        raise UsageError(
            "the cursor is none that pgflow has given; begin without --cursor"
        ) from None
    return moment, identity
