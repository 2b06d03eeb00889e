"""Attempts as they end: the newest ones first, then each that follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pgflow_cli.formats.times import Instant
from pgflow_cli.models.jobs import EndedAttempt
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.repository import Repository
from pgflow_cli.repository.jobs import window

# Attempts that one look of `jobs tail --follow` reads: that bounds its memory.
MOST_AT_ONCE = 10_000
# An attempt has the time at which its handler ended, and is visible only after the
# commit, some seconds later: so each look reads this far back.
OVERLAP = timedelta(seconds=10)
# A busy database has its newest twenty attempts within seconds, a quiet one in days. So
# it looks back in growing windows: a query over days would sort all of them.
_WINDOWS = tuple(
    timedelta(seconds=seconds) for seconds in (5, 60, 900, 4 * 3600, 2 * 86400)
)


@dataclass(slots=True)
class Endings:
    """Attempts that fit a filter, in the order of their ends."""

    repository: Repository
    chosen: JobFilter
    _seen: dict[tuple[str, int], datetime] = field(default_factory=dict)
    _latest: datetime | None = None

    def newest(self, limit: int) -> list[EndedAttempt]:
        """Return the newest ones, the last end last."""
        found: list[EndedAttempt] = []
        if self.chosen.since is not None:
            found = self._read(self.chosen, limit)
        else:
            for length in _WINDOWS:
                since = Instant(offset=-length)
                found = self._read(replace(self.chosen, since=since), limit)
                if len(found) >= limit:
                    break
        return [*self._new(found)]

    def following(self) -> list[EndedAttempt]:
        """Return the attempts recorded since the last call."""
        since = Instant(offset=-OVERLAP)
        if self._latest is not None:
            since = Instant(at=self._latest - OVERLAP)
        return [*self._new(self._read(replace(self.chosen, since=since), MOST_AT_ONCE))]

    def _read(self, chosen: JobFilter, limit: int) -> list[EndedAttempt]:
        of_job = chosen.queues or chosen.job_types
        most = max(limit, MOST_AT_ONCE) if of_job else limit
        return self.repository.jobs.list_ended_attempts(
            window(chosen, limit=limit, most=most, after=None)
        )

    def _new(self, found: Sequence[EndedAttempt]) -> Iterator[EndedAttempt]:
        """Yield the attempts not seen before, the latest end last."""
        for attempt in reversed(found):
            key = attempt.job_id, attempt.attempt_no
            if key not in self._seen:
                self._seen[key] = attempt.finished_at
                yield attempt
        if found:
            self._latest = max(
                self._latest or found[0].finished_at, found[0].finished_at
            )
            oldest = self._latest - 2 * OVERLAP
            self._seen = {k: at for k, at in self._seen.items() if at >= oldest}
