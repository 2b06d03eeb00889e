"""Runs replay plans in the background, after the request that began them.

A plan lives in the database. Whatever ends a run (this server, its host, a client that
takes the plan over), it can be resumed: by POST /replays/:plan/resume, or from the
command line.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pgflow_cli.errors import Contention, DatabaseUnavailable, PgflowError, TryLater
from pgflow_cli.models.replays import ReplayedItem, ReplayPlan
from pgflow_cli.operations import replay_plans
from pgflow_cli.operations.replay_plans import Outcome
from pgflow_cli.repository import Database, Repository

log = logging.getLogger("pgflow.admin")

MOST = 4  # plans that one server runs at once
_FIRST_REST, _LONGEST_REST = 0.5, 30.0  # seconds until an outage is looked at again
_LAST_SECONDS = 2.0  # for a chunk that is on its way when the server ends


class _Ending(Exception):
    """The server ends: leave the plan to be resumed."""


class Runners:
    """The plans that this server runs, each in a thread with its own connection."""

    def __init__(self, database: Database, ending: threading.Event) -> None:
        self._database = database
        self._ending = ending
        self._free = threading.BoundedSemaphore(MOST)
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def start(self, begin: Callable[[], ReplayPlan]) -> ReplayPlan:
        """Begin a plan, run it from now on, and return it as it is.

        Raises TryLater, and begins nothing, if `MOST` run already.
        """
        if self._ending.is_set() or not self._free.acquire(blocking=False):
            raise TryLater(
                f"this server runs {MOST} replays already; wait for one to end"
            )
        try:
            plan = begin()
            thread = threading.Thread(
                target=self._run,
                args=(plan,),
                name=f"pgflow-replay-{plan.plan_id}",
                daemon=True,
            )
            with self._lock:
                self._threads.add(thread)
            thread.start()
        except BaseException:
            self._free.release()
            raise
        return plan

    def close(self) -> None:
        """Wait until each has finished its chunk; `ending` has been set."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(timeout=_LAST_SECONDS)

    def _run(self, plan: ReplayPlan) -> None:
        repository = Repository.of(self._database)
        told = {"event": "replay_ended", "plan_id": plan.plan_id}
        try:
            outcome = self._finished(repository, plan)
            log.info("plan %d: %s", plan.plan_id, outcome.result, extra=told)
        except _Ending:
            log.warning("plan %d is half-way", plan.plan_id, extra=told)
        except PgflowError as error:
            log.warning("plan %d: %s", plan.plan_id, error.message, extra=told)
        except Exception:
            log.exception("plan %d met a bug", plan.plan_id, extra=told)
        finally:
            repository.close()
            with self._lock:
                self._threads.discard(threading.current_thread())
            self._free.release()

    def _finished(self, repository: Repository, plan: ReplayPlan) -> Outcome:
        """Run a plan to its end, through outages: nothing else would go on with it."""
        rest = _FIRST_REST
        while True:
            try:
                return replay_plans.run(
                    repository, plan, report=self._check, pause=self._pause
                )
            except (DatabaseUnavailable, Contention) as error:
                extra = {"event": "replay_waits", "plan_id": plan.plan_id}
                log.warning(
                    "plan %d waits: %s", plan.plan_id, error.message, extra=extra
                )
            self._pause(rest)
            rest = min(_LONGEST_REST, rest * 2)

    def _check(self, _items: list[ReplayedItem]) -> None:
        if self._ending.is_set():
            raise _Ending

    def _pause(self, seconds: float) -> None:
        if self._ending.wait(seconds):
            raise _Ending
