"""Runs plans of replays behind the requests that ask for them."""

from __future__ import annotations

import logging
import threading

from pgflow_cli import replays
from pgflow_cli.errors import PgflowError, TryLater
from pgflow_cli.plans import ReplayedItem, ReplayPlan
from pgflow_cli.repository import Database, Repository

log = logging.getLogger("pgflow.admin")

_MOST = 4


class _Ending(Exception):
    """The server ends; the plan is half-way and can be resumed by anybody."""


class Runs:
    """The plans that this server runs, each in a thread with a connection of its own.

    What ends a thread ends nothing else: the plan knows how far it is.
    """

    def __init__(self, database: Database, ending: threading.Event) -> None:
        self._database = database
        self._ending = ending
        self._free = threading.BoundedSemaphore(_MOST)

    def require_room(self) -> None:
        """Raise `TryLater` if this server runs as many plans as it may."""
        if not self._free.acquire(blocking=False):
            raise TryLater(
                f"this server runs {_MOST} replays already; wait for one to end"
            )
        self._free.release()

    def start(self, plan: ReplayPlan) -> None:
        """Create the jobs of a plan, its canary first, while nobody waits for it."""
        threading.Thread(
            target=self._run, args=(plan,), name=f"replay {plan.plan_id}", daemon=True
        ).start()

    def _run(self, plan: ReplayPlan) -> None:
        with self._free:
            repository = Repository.of(self._database)
            extra = {"event": "replay_ended", "plan_id": plan.plan_id}
            try:
                outcome = replays.run(
                    repository, plan, report=self._report, pause=self._pause
                )
                log.info("replay %s: %s", plan.plan_id, outcome.result, extra=extra)
            except _Ending:
                log.warning("replay %s is half-way", plan.plan_id, extra=extra)
            except PgflowError as error:
                said = "replay %s is half-way: %s"
                log.warning(said, plan.plan_id, error.message, extra=extra)
            except Exception:
                log.exception("replay %s met a bug", plan.plan_id, extra=extra)
            finally:
                repository.close()

    def _report(self, _items: list[ReplayedItem]) -> None:
        if self._ending.is_set():
            raise _Ending

    def _pause(self, seconds: float) -> None:
        if self._ending.wait(seconds):
            raise _Ending
