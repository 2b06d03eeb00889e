"""Which jobs are meant, and which page of them; plain values for statements."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from pgflow_cli.errors import Refused, UsageError
from pgflow_cli.formats.times import Instant

Row = TypeVar("Row")
Position = tuple[datetime, str]  # of a row in a list: its time and its id
Naming = Callable[[str], str]
"""Turns the name of a field into what whoever reads an error calls it."""

MOST_ROWS = 500
_NO_QUEUE = ""  # no queue has this name
_MAGIC = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Conditions that must all hold; an empty one narrows nothing.

    `queues` may hold globs such as `emails.*` until `expand` has named them. `match` is
    sought in error messages, whatever its case; `payload_contains` and `meta` are JSON
    texts that must be contained.
    """

    queues: tuple[str, ...] = ()
    job_types: tuple[str, ...] = ()
    error_codes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    worker: str | None = None
    code_version: str | None = None
    since: Instant | None = None
    until: Instant | None = None
    match: str | None = None
    payload_contains: str | None = None
    meta: str | None = None
    replay_of: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it narrows nothing."""
        return self == JobFilter()

    def expand(self, known: Iterable[str]) -> JobFilter:
        """Return it with each glob replaced by the names of queues that it fits."""
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
        """Return what statements with a filter take; what narrows nothing is None.

        Relative times stay intervals, so that the database's clock decides.
        """
        since, until = self.since or Instant(), self.until or Instant()
        return {
            "queues": list(self.queues) or None,
            "job_types": list(self.job_types) or None,
            "error_codes": list(self.error_codes) or None,
            "reasons": list(self.reasons) or None,
            "fingerprints": list(self.fingerprints) or None,
            "statuses": list(self.statuses) or None,
            "worker": self.worker,
            "code_version": self.code_version,
            "since_at": since.at,
            "since_offset": since.offset,
            "until_at": until.at,
            "until_offset": until.offset,
            "match": self.match,
            "payload_contains": self.payload_contains,
            "meta": self.meta,
            "replay_of": self.replay_of,
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
    """Return a field's name as it stands in a document."""
    return name


def require_choice(
    ids: Sequence[str],
    chosen: JobFilter,
    *,
    everything: bool,
    name: Naming = plainly,
) -> None:
    """Refuse a change of nothing in particular, and one that is said twice."""
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
    """Return what statements with pages take: `after_at` and `after_id`."""
    at, identity = after or (None, None)
    return {"after_at": at, "after_id": identity}


def token(position: Position) -> str:
    """Return a position as an opaque word."""
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
