"""Lists of jobs: which table one starts from, and how far it looks."""

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

# How many jobs a page looks at for those that fit, when the table it starts from cannot
# tell. What the job itself says costs one look-up each, where it is costs several.
MOST_LOOKED_AT = 50_000
MOST_LOOKED_UP = 10_000
# How many waiting jobs are sorted to find the newest; of more, the newest jobs are it.
MOST_SORTED = 50_000
# How many are fetched at once when all of them are wanted: a page begins with a search.
STREAMED = 10_000

_TIMES = {"since", "until"}
_OF_PENDING = {"queues", "job_types"}
_OF_DEAD = {"queues", "job_types", "error_codes", "reasons", "fingerprints"}
_WAITING = ("queued", "scheduled")
_OF_JOB = {"queues", "job_types", "payload_contains", "meta", "replay_of"}


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a page has looked that is not full: so many jobs, to `position`."""

    looked: int
    position: Position

    @property
    def at(self) -> datetime:
        return self.position[0]


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of jobs; the next one begins at `more`. `extent`: how far it looked."""

    jobs: Sequence[ListedJob]
    more: Position | None = None
    extent: Extent | None = None

    def rest(self) -> str:
        """Say how far it has looked, and how to get the next page."""
        assert self.more is not None
        said = f"{len(self.jobs)} shown"
        if self.extent is not None:
            at = times.format_iso(self.extent.at)[:19]
            said += f"; looked at {self.extent.looked:,} jobs, as far as {at}Z"
        return f"{said}. Next page: --cursor {token(self.more)}"


@dataclass(frozen=True, slots=True)
class JobList:
    """Jobs that fit a filter.

    One state: from the table of that state, waiting jobs in the order in which they
    run, all others newest first. Several or none: newest first by the time in the id.
    `slow` lists running jobs, the longest first; `stuck` those whose lease has run out.
    `newest`: newest first by the time in the id, whatever the state, so that a job's
    place never changes; since and until are about that time, too. Not for dead letters,
    which have a list of their own that does it.
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
        """Return up to so many jobs after a position."""
        rows, extent = self._look(limit + 1, after)
        if len(rows) > limit:
            return Listing(rows[:limit], rows[limit - 1].position)
        return Listing(rows, None if extent is None else extent.position, extent)

    def stream(self, after: Position | None = None) -> Iterator[ListedJob]:
        """Yield all jobs after a position, however far they are apart."""
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
        """Return jobs, and where the search was cut, if it was."""
        most = self._most(limit)
        rows = self._fetch(limit, most, after)
        if not rows or rows[-1].looked is None:
            return rows, None
        *jobs, end = rows
        assert end.looked is not None
        cut = end.looked >= most
        return jobs, Extent(end.looked, end.position) if cut else None

    def _most(self, limit: int) -> int:
        """Return how many jobs to look at for a page of so many."""
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
            "nowhere": r.jobs.list_nowhere_jobs,
        }
        if self.newest:
            sources |= self._by_creation()
        return sources[self.status]

    def _by_creation(self) -> dict[str | None, Callable[[Window], list[ListedJob]]]:
        """Return the sources that differ where the newest job is to come first."""
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
    """Return the names of the conditions that narrow something."""
    empty = JobFilter()
    return {
        field.name
        for field in fields(JobFilter)
        if getattr(chosen, field.name) != getattr(empty, field.name)
    }
