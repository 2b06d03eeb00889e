"""Statements about replays and their plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pgflow_cli.models.replays import (
    CanaryJob,
    ListedPlan,
    ReplayedItem,
    ReplayGroup,
    ReplayJob,
    ReplayOptions,
    ReplayPlan,
    ReplayProgress,
)
from pgflow_cli.models.selection import Position, after_parameters
from pgflow_cli.repository.base import Statements


class Replays(Statements):
    """New jobs for dead letters, by plans that survive their runners."""

    def preview_replay(
        self, job_ids: Sequence[str], *, options: ReplayOptions
    ) -> list[ReplayGroup]:
        """Return the jobs that a replay of these would create, by queue and type."""
        parameters = {**asdict(options), "job_ids": list(job_ids)}
        return self.link.rows("preview_replay", ReplayGroup, parameters)

    def create_replay_plan(
        self, selected: int, *, options: ReplayOptions, runner: str, action_id: int
    ) -> int:
        """Make a plan for a number of jobs, which `add_replay_items` adds; return
        it.
        """
        parameters = {
            **asdict(options),
            "selected": selected,
            "runner": runner,
            "action_id": action_id,
        }
        return int(self.link.tuples("create_replay_plan", parameters)[0][0])

    def add_replay_items(
        self, plan_id: int, job_ids: Sequence[str], *, after_place: int
    ) -> None:
        """Add the next jobs to a plan, in their order, in the transaction that made
        it.
        """
        parameters = {
            "plan_id": plan_id,
            "job_ids": list(job_ids),
            "after_place": after_place,
        }
        self.link.count("add_replay_items", parameters)

    def name_plan(self, action_id: int, plan_id: int) -> None:
        """Say which plan an action is about, in the transaction that began it."""
        self.link.count("name_plan", {"action_id": action_id, "plan_id": plan_id})

    def lock_replay_plan(self, plan_id: int) -> ReplayPlan | None:
        """Return a plan and keep it until the transaction ends; None: there is none."""
        rows = self.link.rows("lock_replay_plan", ReplayPlan, {"plan_id": plan_id})
        return rows[0] if rows else None

    def describe_replay_plan(self, plan_id: int) -> ReplayProgress | None:
        """Return how far a plan is and how its jobs have ended."""
        rows = self.link.rows(
            "describe_replay_plan", ReplayProgress, {"plan_id": plan_id}
        )
        return rows[0] if rows else None

    def list_replay_plans(
        self, *, limit: int, after: Position | None = None
    ) -> list[ReplayPlan]:
        """Return plans, the newest first."""
        parameters = {**after_parameters(after), "limit": limit}
        return self.link.rows("list_replay_plans", ReplayPlan, parameters)

    def list_replay_progress(
        self, *, limit: int, after: Position | None = None, counted: int
    ) -> list[ListedPlan]:
        """Return plans, the newest first, and how their jobs have ended: of so many
        jobs in all.
        """
        parameters = {**after_parameters(after), "limit": limit, "counted": counted}
        return self.link.rows("list_replay_progress", ListedPlan, parameters)

    def lock_replay_items(
        self, plan_id: int, *, state: str, limit: int, after_place: int = 0
    ) -> int:
        """Lock the next items of a plan in a state, in every plan that has the same
        jobs; return how many they are.
        """
        parameters = {
            "plan_id": plan_id,
            "state": state,
            "limit": limit,
            "after_place": after_place,
        }
        return int(self.link.tuples("lock_replay_items", parameters)[0][0])

    def create_replays(
        self, plan_id: int, *, runner_id: str, limit: int, canary: bool
    ) -> list[ReplayedItem]:
        """Create the next jobs of a plan; its row and its items are locked already."""
        parameters = {
            "plan_id": plan_id,
            "runner_id": runner_id,
            "limit": limit,
            "canary": canary,
        }
        rows = self.link.tuples("create_replays", parameters)
        return [ReplayedItem(*row[:4]) for row in rows]

    def take_replay_plan(self, plan_id: int, *, runner: str, action_id: int) -> None:
        """Become the runner of a plan that is locked and has not ended."""
        parameters = {"plan_id": plan_id, "runner": runner, "action_id": action_id}
        self.link.tuples("take_replay_plan", parameters)

    def renew_canary(self, plan_id: int) -> None:
        """Make the next jobs of a plan its canary."""
        self.link.count("renew_canary", {"plan_id": plan_id})

    def beat_replay_plan(self, plan_id: int, *, runner_id: str) -> bool:
        """Say that the plan is still run; False if it was stopped or has another
        runner.
        """
        parameters = {"plan_id": plan_id, "runner_id": runner_id}
        return self.link.count("beat_replay_plan", parameters) > 0

    def judge_canary(self, plan_id: int) -> list[CanaryJob]:
        """Return the states of the canary's jobs."""
        return self.link.rows("judge_canary", CanaryJob, {"plan_id": plan_id})

    def settle_canary(self, plan_id: int, *, runner_id: str, canary_state: str) -> bool:
        """Record how the canary ended; False as in `beat_replay_plan`."""
        parameters = {
            "plan_id": plan_id,
            "runner_id": runner_id,
            "canary_state": canary_state,
        }
        return self.link.count("settle_canary", parameters) > 0

    def finish_replay_plan(self, plan_id: int, *, runner_id: str) -> bool:
        """Say that every job is created; False as in `beat_replay_plan`."""
        parameters = {"plan_id": plan_id, "runner_id": runner_id}
        return self.link.count("finish_replay_plan", parameters) > 0

    def stop_replay_plan(self, plan_id: int) -> None:
        """Let a locked plan create no more jobs."""
        self.link.count("stop_replay_plan", {"plan_id": plan_id})

    def retract_replay_plan(self, plan_id: int) -> None:
        """Say that a locked plan is undone."""
        self.link.count("retract_replay_plan", {"plan_id": plan_id})

    def undo_replays(
        self,
        plan_id: int,
        *,
        after_place: int,
        limit: int,
        actor: str,
        note: str,
        action_id: int,
    ) -> tuple[int, list[str]]:
        """Cancel those of a plan's next jobs that have no attempt yet, and reopen their
        sources.

        Return the place of the last one looked at and the ids of the canceled jobs.
        """
        parameters = {
            "plan_id": plan_id,
            "after_place": after_place,
            "limit": limit,
            "actor": actor,
            "note": note,
            "action_id": action_id,
        }
        ((place, job_ids),) = self.link.tuples("undo_replays", parameters)
        return place, job_ids

    def list_replays(
        self, plan_id: int, *, limit: int, after_place: int = 0
    ) -> list[ReplayJob]:
        """Return the jobs that a plan has created, in its order."""
        parameters = {"plan_id": plan_id, "limit": limit, "after_place": after_place}
        return self.link.rows("list_replays", ReplayJob, parameters)

    def prune_replay_items(self, *, limit: int, dry_run: bool) -> int:
        """Remove items of plans that are older than ninety days."""
        wanted = {"limit": limit, "dry_run": dry_run}
        return int(self.link.tuples("prune_replay_items", wanted)[0][0])

    def prune_replay_plans(self, *, limit: int, dry_run: bool) -> int:
        """Remove plans that are older than ninety days and have no items left."""
        wanted = {"limit": limit, "dry_run": dry_run}
        return int(self.link.tuples("prune_replay_plans", wanted)[0][0])
