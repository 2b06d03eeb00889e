"""Lists of jobs: the table that a list reads first, and how many jobs it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime

from pgflow_cli.errors import UsageError
from pgflow_cli.formats import times
from pgflow_cli.models.jobs import ListedJob
from pgflow_cli.models.selection import JobFilter, Page, Position, token
from pgflow_cli.repository import Repository
from pgflow_cli.repository.jobs import Window, window

# How many jobs a page reads to find those that match, if the first table has no column
# for a condition. A condition on the job's row costs one look-up by key for each job, a
# condition on its state several.
MOST_LOOKED_AT = 50_000
MOST_LOOKED_UP = 10_000
# How many waiting jobs are sorted by creation; of more than these, the list reads the
# newest jobs of any state instead.
MOST_SORTED = 50_000
# How many jobs are fetched at once for a stream: the search of each page has a fixed
# cost.
STREAMED = 10_000

_TIMES = {"since", "until"}
_OF_PENDING = {"queues", "job_types"}
_OF_DEAD = {"queues", "job_types", "error_codes", "reasons", "fingerprints"}
_WAITING = ("queued", "scheduled")
_OF_JOB = {"queues", "job_types", "payload_contains", "meta", "replay_of"}


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a page has read that is not full: `looked` jobs, down to `position`."""

    looked: int
    position: Position

    @property
    def at(self) -> datetime:
        return self.position[0]


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of jobs; the next one begins at `more`. `extent`: how far it read."""

    jobs: Sequence[ListedJob]
    more: Position | None = None
    extent: Extent | None = None

    def rest(self) -> str:
        """Say how far the list has read, and how to get the next page."""
        assert self.more is not None
        said = f"{len(self.jobs)} shown"
        if self.extent is not None:
            at = times.format_iso(self.extent.at)[:19]
            said += f"; looked at {self.extent.looked:,} jobs, as far as {at}Z"
        return f"{said}. Next page: --cursor {token(self.more)}"


@dataclass(frozen=True, slots=True)
class JobList:
    """Jobs that match a filter.

    A list of one state reads the table of that state: waiting jobs in the order in
    which they run, all others newest first. A list of several states, or without a
    state, is newest first by the time in the id. `slow` lists running jobs, the longest
    first; `stuck` those whose lease has expired. `newest` sorts every state by the time
    in the id, so that a job's place never changes; since and until are about that time,
    too. Dead letters have a list of their own for that.
    """

    repository: Repository
    chosen: JobFilter
    slow: bool = False
    stuck: bool = False
    newest: bool = False

    def __post_init__(self) -> None:
        if (self.slow or self.stuck) and self.chosen.statuses not in ((), ("running",)):
            raise UsageError(
                "--slow and --stuck list running jobs, of no other --status"
            )
        assert not (self.newest and self.status == "dlq")

    @property
    def status(self) -> str | None:
        """The one state that is asked for."""
        if self.slow or self.stuck:
            return "running"
        return self.chosen.statuses[0] if len(self.chosen.statuses) == 1 else None

    def page(self, limit: int, after: Position | None) -> Listing:
        """Return up to `limit` jobs after a position."""
        rows, extent = self._look(limit + 1, after)
        if len(rows) > limit:
            return Listing(rows[:limit], rows[limit - 1].position)
        return Listing(rows, None if extent is None else extent.position, extent)

    def stream(self, after: Position | None = None) -> Iterator[ListedJob]:
        """Yield all jobs after a position, page by page."""
        while True:
            listing = self.page(STREAMED, after)
            yield from listing.jobs
            if listing.more is None:
                return
            after = listing.more

    def read(self, page: Page) -> tuple[Iterator[ListedJob], Listing]:
        """Return the rows of a page, and the page; all rows if it wants everything."""
        if page.everything:
            return self.stream(page.after), Listing([])
        listing = self.page(page.limit, page.after)
        return iter(listing.jobs), listing

    def _look(
        self, limit: int, after: Position | None
    ) -> tuple[list[ListedJob], Extent | None]:
        """Return jobs, and how far the search read if it did not fill the page."""
        most = self._most(limit)
        rows = self._fetch(limit, most, after)
        if not rows or rows[-1].looked is None:
            return rows, None
        *jobs, end = rows
        assert end.looked is not None
        cut = end.looked >= most
        return jobs, Extent(end.looked, end.position) if cut else None

    def _most(self, limit: int) -> int:
        """Return how many jobs to read for a page of `limit`."""
        if self.newest and self.status in _WAITING:
            return MOST_LOOKED_UP
        known = {
            "queued": _OF_PENDING,
            "scheduled": _OF_PENDING,
            "dlq": _OF_DEAD,
            "canceled": {"queues"},
            "running": {"queues"},
        }.get(self.status or "", set())
        asked = _conditions(self.chosen) - _TIMES - known
        if self.status is not None:
            asked -= {"statuses"}
        if not asked:
            return limit
        return MOST_LOOKED_AT if asked <= _OF_JOB else MOST_LOOKED_UP

    def _fetch(self, limit: int, most: int, after: Position | None) -> list[ListedJob]:
        chosen = self.chosen
        if self.status is not None and not (self.newest and self.status in _WAITING):
            chosen = replace(chosen, statuses=())
        of = window(chosen, limit=limit, most=most, after=after)
        return self._source()(of)

    def _source(self) -> Callable[[Window], list[ListedJob]]:
        r = self.repository
        sources: dict[str | None, Callable[[Window], list[ListedJob]]] = {
            None: r.jobs.list_jobs,
            "queued": lambda of: r.jobs.list_waiting_jobs(of, due=True),
            "scheduled": lambda of: r.jobs.list_waiting_jobs(of, due=False),
            "running": lambda of: r.jobs.list_running_jobs(
                of, slow=self.slow, stuck=self.stuck
            ),
            "succeeded": r.jobs.list_succeeded_jobs,
            "dlq": r.jobs.list_dead_jobs,
            "canceled": r.jobs.list_canceled_jobs,
        }
        if self.newest:
            sources |= self._by_creation()
        return sources[self.status]

    def _by_creation(self) -> dict[str | None, Callable[[Window], list[ListedJob]]]:
        """Return the statements that replace others where the newest job comes
        first.
        """
        r = self.repository
        return {
            "queued": lambda of: r.jobs.list_newest_waiting_jobs(
                of, due=True, sorted_=MOST_SORTED
            ),
            "scheduled": lambda of: r.jobs.list_newest_waiting_jobs(
                of, due=False, sorted_=MOST_SORTED
            ),
            "running": r.jobs.list_newest_running_jobs,
            "canceled": r.jobs.list_newest_canceled_jobs,
        }


def _conditions(chosen: JobFilter) -> set[str]:
    """Return the names of the conditions that are set."""
    empty = JobFilter()
    return {
        field.name
        for field in fields(JobFilter)
        if getattr(chosen, field.name) != getattr(empty, field.name)
    }
