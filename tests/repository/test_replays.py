"""Replays: what is created, once only; how a plan is stopped, resumed, undone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import NotFound, Refused
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.replays import ReplayGroup, ReplayOptions, ReplayProgress
from pgflow_cli.operations import dead_letters, replay_plans
from pgflow_cli.operations.replays import ReplayRequest
from pgflow_cli.repository import Database, Repository
from tests.repository.test_audit import attempt, lease, unqueue
from tests.support.jobs import audit, plant, plant_dead, status_of

Connection = psycopg.Connection[Any]
EVE = Operator("eve@host", "pgflow replay --all")
PLAIN = ReplayOptions()


@pytest.fixture(autouse=True)
def every_job_is_in_one_place(connection: Connection) -> Iterator[None]:
    yield
    assert audit(connection) == (0, 0)


@pytest.fixture
def replay(repository: Repository) -> Callable[..., ReplayProgress]:
    """Replay jobs and return the plan as it is afterwards."""

    def run(job_ids: list[str], **options: Any) -> ReplayProgress:
        plan = replay_plans.make(
            repository, job_ids, options=replace(PLAIN, **options), operator=EVE
        )
        outcome = replay_plans.run(repository, plan)
        return replay_plans.find(repository, outcome.plan.plan_id)

    return run


def replays_of(connection: Connection, job_id: str) -> list[dict[str, Any]]:
    cursor = connection.execute(
        "select id::text, queue, job_type, payload::text, meta, priority, max_attempts,"
        " timeout_ms, run_at from pgflow.jobs where replay_of_job_id = %s order by id",
        (job_id,),
    )
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def resolution(connection: Connection, job_id: str) -> tuple[Any, ...] | None:
    return connection.execute(
        "select resolution, replay_job_id::text, resolved_at is not null, action_id"
        " from pgflow.dead_letters where job_id = %s",
        (job_id,),
    ).fetchone()


def problems(connection: Connection, plan_id: int) -> list[tuple[str, str | None]]:
    return connection.execute(
        "select state, problem from pgflow.replay_items where plan_id = %s"
        " order by place",
        (plan_id,),
    ).fetchall()


def test_a_replay_is_the_same_job_and_both_name_each_other(connection, replay):
    payload = '{"n": 12345678901234567890.10, "to": "ü"}'
    [source] = plant_dead(
        connection, payload=payload, meta='{"tenant": "a"}', priority=7, max_attempts=3
    )
    plan = replay([source])
    [made] = replays_of(connection, source)
    assert (made["queue"], made["job_type"]) == ("emails", "email_send")
    assert made["payload"] == payload
    assert (made["meta"], made["priority"]) == ({"tenant": "a"}, 7)
    assert (made["max_attempts"], made["timeout_ms"]) == (3, None)
    assert status_of(connection, made["id"]) == "queued"
    assert resolution(connection, source) == (
        "replayed", made["id"], True, plan.action_id,
    )  # fmt: skip
    assert (plan.state, plan.created, plan.waiting) == ("finished", 1, 1)
    ranks = connection.execute("select queue, rank from pgflow.queue_ranks").fetchall()
    assert ("emails", -7) in ranks


def test_a_replay_can_be_told_otherwise(connection, replay):
    [source] = plant_dead(connection, payload='{"a": 1, "b": {"c": 2}}')
    replay(
        [source], to_queue="slow", priority=-5, max_attempts=2, delay=3600.0,
        patch='{"a": null, "b": {"d": 3}}',
    )  # fmt: skip
    [made] = replays_of(connection, source)
    assert (made["queue"], made["priority"], made["max_attempts"]) == ("slow", -5, 2)
    assert json.loads(made["payload"]) == {"b": {"c": 2, "d": 3}}
    assert status_of(connection, made["id"]) == "scheduled"


def test_the_action_names_the_sources_and_the_plan(connection, replay):
    ids = plant_dead(connection, 5)
    plan = replay(ids, batch_size=2)
    row = connection.execute(
        "select actor, action, command, jobs, plan_id, job_ids::text[],"
        " finished_at is not null from pgflow.operator_actions"
    ).fetchall()
    assert row == [
        ("eve@host", "replay", "pgflow replay --all", 5, plan.plan_id, ids, True)
    ]


def test_a_source_is_replayed_once_unless_again(connection, replay):
    ids = plant_dead(connection, 3)
    replay(ids)
    second = replay(ids)
    assert (second.created, second.skipped) == (0, 3)
    assert {problem for _, problem in problems(connection, second.plan_id)} == {
        "ALREADY_REPLAYED"
    }
    third = replay(ids, again=True)
    assert third.created == 3
    made = replays_of(connection, ids[0])
    assert len(made) == 2
    assert resolution(connection, ids[0])[1] == made[1]["id"]


def test_two_plans_of_the_same_jobs_replay_each_once_even_again(connection, repository):
    ids = plant_dead(connection, 3)
    plans = [
        replay_plans.make(
            repository, ids, options=replace(PLAIN, again=again), operator=EVE
        )
        for again in (False, True, False)
    ]
    counts = [replay_plans.run(repository, plan).plan.created for plan in plans]
    assert counts == [3, 0, 0]


@pytest.mark.parametrize("again", [False, True])
def test_what_somebody_discards_meanwhile_is_not_replayed(
    connection, repository, again
):
    ids = plant_dead(connection, 2)
    plan = replay_plans.make(
        repository, ids, options=replace(PLAIN, again=again), operator=EVE
    )
    dead_letters.discard(repository, ids[:1], EVE, batch_size=1)
    replay_plans.run(repository, plan)
    assert problems(connection, plan.plan_id) == [
        ("skipped", "DISCARDED"),
        ("created", None),
    ]
    assert replays_of(connection, ids[0]) == []


def test_what_was_discarded_before_can_be_named(connection, repository, replay):
    [source] = plant_dead(connection)
    dead_letters.discard(repository, [source], EVE, batch_size=1)
    assert replay([source]).skipped == 1
    assert replay([source], again=True).created == 1


def test_operators_at_once_replay_no_source_twice(connection, database):
    ids = plant_dead(connection, 120)

    def operate(order: list[str], created: list[int]) -> None:
        own = Repository.of(Database(database.url))
        plan = replay_plans.make(
            own, order, options=replace(PLAIN, batch_size=7), operator=EVE
        )
        created.append(replay_plans.run(own, plan).plan.created)
        own.close()

    created: list[int] = []
    threads = [
        threading.Thread(target=operate, args=(order, created))
        for order in (ids, ids[::-1], ids[60:] + ids[:60], ids)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(created) == 120
    assert len(created) == 4
    twice = connection.execute(
        "select count(*) from (select from pgflow.jobs where replay_of_job_id is not"
        " null group by replay_of_job_id having count(*) > 1) as twice"
    ).fetchone()
    assert twice == (0,)


def test_jobs_that_have_not_died_are_replayed_only_when_asked_for(connection, replay):
    succeeded, canceled = plant(connection, 2)
    for job_id in (succeeded, canceled):
        unqueue(connection, job_id)
    attempt(connection, succeeded, "succeeded")
    connection.execute(
        "insert into pgflow.canceled_jobs (job_id, queue, canceled_by)"
        " values (%s, 'default', 'me')",
        (canceled,),
    )
    ids = [succeeded, canceled]
    assert replay(ids).refused == 2
    assert replay(ids, any_status=True).created == 2
    assert replay(ids, any_status=True).skipped == 2
    assert replay(ids, any_status=True, again=True).created == 2
    assert len(replays_of(connection, succeeded)) == 2


def test_a_payload_above_todays_limit_fails_alone(connection, replay):
    small, large = (
        plant_dead(connection, payload=json.dumps({"text": "x" * size}))[0]
        for size in (10, 200)
    )
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_payload_bytes,"
        " max_enqueue_per_minute) values ('emails', 100, 0), ('wide', 1000, 0)"
    )
    plan = replay([small, large])
    assert problems(connection, plan.plan_id) == [
        ("created", None), ("failed", "PAYLOAD_TOO_LARGE"),
    ]  # fmt: skip
    assert resolution(connection, large) == (None, None, False, None)
    assert replay([large], to_queue="elsewhere", max_payload_bytes=100).refused == 1
    assert replay([large], to_queue="wide", max_payload_bytes=100).created == 1


@pytest.mark.parametrize(
    "patch", ["null", '{"n": 9007199254740993}', json.dumps({"deep": 0})]
)
def test_a_patch_that_spoils_a_payload_fails(connection, replay, patch):
    deep = "[" * 60 + "]" * 60
    [source] = plant_dead(connection, payload=f'{{"kept": {deep}}}')
    nested = json.loads("[" * 64 + "]" * 64)
    patch = json.dumps({"deep": nested}) if "deep" in patch else patch
    plan = replay([source], patch=patch)
    assert problems(connection, plan.plan_id) == [("failed", "BAD_PAYLOAD")]


def test_a_job_that_is_gone_fails_and_the_others_go_on(connection, replay):
    gone, kept = plant_dead(connection, 2)
    connection.execute("delete from pgflow.jobs where id = %s", (gone,))
    plan = replay([gone, "01a2081d-307c-7b77-8a50-0f6c9c41e07b", kept])
    assert [problem for _, problem in problems(connection, plan.plan_id)] == [
        "GONE", "GONE", None,
    ]  # fmt: skip


def test_jobs_become_due_at_the_rate_that_was_asked_for(connection, replay):
    ids = plant_dead(connection, 10)
    replay(ids, seconds_apart=2.0, batch_size=3)
    times = [replays_of(connection, job_id)[0]["run_at"] for job_id in ids]
    assert gaps(times) == pytest.approx([2.0] * 9, abs=1e-3)


def gaps(times: list[datetime]) -> list[float]:
    return [(later - earlier).total_seconds() for earlier, later in pairwise(times)]


def test_a_late_rest_of_a_plan_is_no_burst(connection, repository):
    ids = plant_dead(connection, 6)
    options = replace(PLAIN, seconds_apart=10.0, batch_size=3)
    plan = replay_plans.make(repository, ids, options=options, operator=EVE)
    connection.execute(
        "update pgflow.replay_plans set next_run_at = now() - interval '1 h'"
    )
    replay_plans.run(repository, plan)
    times = [replays_of(connection, job_id)[0]["run_at"] for job_id in ids]
    assert gaps(times) == pytest.approx([10.0] * 5, abs=1e-3)
    [late] = connection.execute("select now() - %s < '1 min'", (times[0],)).fetchone()
    assert late


def test_an_idle_worker_is_told_and_nobody_else(connection, database, replay):
    listener = database.connect()
    listener.execute("listen pgflow")
    first, second, third = plant_dead(connection, 3)
    replay([first])
    connection.execute(
        "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
        " lease_seconds, name, host, idle) values (gen_random_uuid(),"
        " gen_random_uuid(), 1, 1, 10, 'w', 'h', true)"
    )
    replay([second])
    replay([third], delay=3600.0)
    told = [n.payload for n in listener.notifies(timeout=1, stop_after=2)]
    assert told == ["emails"]


def test_the_enqueue_rate_limit_is_not_for_replays(connection, replay):
    ids = plant_dead(connection, 5)
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_enqueue_per_minute)"
        " values ('emails', 1)"
    )
    assert replay(ids).created == 5


def make(repository: Repository, ids: list[str], **options: Any) -> Any:
    return replay_plans.make(
        repository, ids, options=replace(PLAIN, **options), operator=EVE
    )


def test_a_stopped_plan_creates_no_more_and_is_resumed(connection, repository):
    ids = plant_dead(connection, 6)
    plan = make(repository, ids, batch_size=2)

    def stop_after_the_first(_items: object) -> None:
        other = Repository.of(repository.database)
        if replay_plans.find(other, plan.plan_id).created == 2:
            replay_plans.stop(other, plan.plan_id, operator=EVE)
        other.close()

    outcome = replay_plans.run(repository, plan, report=stop_after_the_first)
    assert (outcome.result, outcome.plan.created) == ("stopped", 2)
    taken = replay_plans.take_over(repository, plan.plan_id, operator=EVE)
    assert replay_plans.run(repository, taken).plan.created == 6
    with pytest.raises(Refused, match="nothing to resume"):
        replay_plans.take_over(repository, plan.plan_id, operator=EVE)
    with pytest.raises(Refused, match="nothing to stop"):
        replay_plans.stop(repository, plan.plan_id, operator=EVE)
    actions = connection.execute(
        "select action, jobs from pgflow.operator_actions order by id"
    ).fetchall()
    assert actions == [("replay", 2), ("replay.stop", 0), ("replay.resume", 4)]


def test_whoever_loses_a_plan_to_another_creates_nothing_more(connection, repository):
    ids = plant_dead(connection, 6)
    plan = make(repository, ids, batch_size=2)
    replay_plans.take_over(repository, plan.plan_id, operator=replace(EVE, actor="bob"))
    outcome = replay_plans.run(repository, plan)
    assert (outcome.result, outcome.plan.runner) == ("taken", "bob")
    assert outcome.plan.created == 0


def end(connection: Connection, job_id: str, status: str, **more: Any) -> None:
    """Let a waiting job end as if a worker had run it."""
    unqueue(connection, job_id)
    attempt(connection, job_id, "succeeded" if status == "succeeded" else "failed")
    if status == "dlq":
        connection.execute(
            "update pgflow.job_attempts set error_fingerprint = %s where job_id = %s",
            (more.get("fingerprint"), job_id),
        )
        connection.execute(
            "insert into pgflow.dead_letters (job_id, attempt_no, failed_attempts,"
            " queue, job_type, dlq_reason_code, error_fingerprint)"
            " values (%s, 1, 1, 'emails', 'email_send', 'X', %s)",
            (job_id, more.get("fingerprint")),
        )


@pytest.fixture
def canary(connection: Connection, repository: Repository) -> Callable[..., Any]:
    """Run a plan with a canary of 2, whose jobs end as told while it waits."""

    def run(plan: Any, *endings: Callable[[str], None]) -> Any:
        left = list(endings)

        def pause(_seconds: float) -> None:
            made = replay_plans.jobs_of(repository, plan.plan_id)
            for ending, job in zip(left, list(made)[-2:], strict=False):
                ending(job.job_id)
            left.clear()

        return replay_plans.run(repository, plan, pause=pause)

    return run


def test_a_canary_that_succeeds_lets_the_rest_go_on(connection, repository, canary):
    plan = make(repository, plant_dead(connection, 6), canary=2)
    ended = [lambda job: end(connection, job, "succeeded")] * 2
    outcome = canary(plan, *ended)
    assert (outcome.result, outcome.plan.canary_state) == ("finished", "passed")
    progress = replay_plans.find(repository, plan.plan_id)
    assert (progress.created, progress.succeeded, progress.waiting) == (6, 2, 4)


def test_a_canary_that_fails_stops_the_plan_and_a_new_one_is_asked(
    connection, repository, canary
):
    plan = make(repository, plant_dead(connection, 6), canary=2)
    outcome = canary(
        plan,
        lambda job: end(connection, job, "succeeded"),
        lambda job: end(connection, job, "dlq", fingerprint="f1-3ac91b20"),
    )
    assert (outcome.result, outcome.plan.created) == ("failed", 2)
    assert [job.came_back for job in outcome.failed_canaries] == [True]
    assert (outcome.plan.state, outcome.plan.canary_state) == ("stopped", "failed")

    plan = replay_plans.take_over(repository, plan.plan_id, operator=EVE)
    outcome = canary(plan, *[lambda job: end(connection, job, "succeeded")] * 2)
    assert (outcome.result, outcome.plan.created) == ("finished", 6)


def test_a_canary_that_failed_once_with_the_old_error_has_failed(
    connection, repository, canary
):
    plan = make(repository, plant_dead(connection, 3), canary=1)

    def fail_and_retry(job: str) -> None:
        attempt(connection, job, "failed")
        connection.execute(
            "update pgflow.job_attempts set error_fingerprint = 'f1-3ac91b20'"
            " where job_id = %s",
            (job,),
        )

    outcome = canary(plan, fail_and_retry)
    assert outcome.result == "failed"
    assert outcome.plan.remaining == 2


def test_a_canary_that_does_not_end_is_undecided_and_waited_for_again(
    connection, repository, canary
):
    plan = make(repository, plant_dead(connection, 6), canary=2, canary_seconds=0.0)
    outcome = replay_plans.run(repository, plan)
    assert (outcome.result, outcome.plan.created) == ("undecided", 2)
    connection.execute("update pgflow.replay_plans set canary_seconds = 60")
    plan = replay_plans.take_over(repository, plan.plan_id, operator=EVE)
    outcome = canary(plan, *[lambda job: end(connection, job, "succeeded")] * 2)
    assert (outcome.result, outcome.plan.created) == ("finished", 6)


def test_a_plan_stopped_while_its_canary_runs_ends(connection, repository):
    plan = make(repository, plant_dead(connection, 6), canary=2)
    outcome = replay_plans.run(
        repository,
        plan,
        pause=lambda _s: (
            replay_plans.stop(repository, plan.plan_id, operator=EVE) and None
        ),
    )
    assert (outcome.result, outcome.plan.created) == ("stopped", 2)


def test_undo_cancels_what_was_not_tried_and_reopens_it(connection, repository, replay):
    ids = plant_dead(connection, 6)
    plan = replay(ids)
    jobs = [replays_of(connection, job_id)[0]["id"] for job_id in ids]
    end(connection, jobs[0], "succeeded")
    unqueue(connection, jobs[1])
    lease(connection, jobs[1])
    attempt(connection, jobs[2], "failed")
    connection.execute(
        "update pgflow.pending set attempt_no = 1 where job_id = %s", (jobs[2],)
    )
    # Moved by hand, in SQL: its key is nowhere else.
    connection.execute(
        "update pgflow.pending set run_at = now() + interval '1 h' where job_id = %s",
        (jobs[3],),
    )
    undone = replay_plans.undo(repository, plan.plan_id, operator=EVE)
    assert undone.canceled == 3
    assert [status_of(connection, job) for job in jobs[3:]] == ["canceled"] * 3
    assert [resolution(connection, job_id)[0] for job_id in ids] == [
        *["replayed"] * 3, *[None] * 3,
    ]  # fmt: skip
    left = list(replay_plans.jobs_of(repository, plan.plan_id))
    assert [(job.job_id, job.status) for job in left] == [
        (jobs[0], "succeeded"), (jobs[1], "running"), (jobs[2], "queued"),
    ]  # fmt: skip
    note = connection.execute(
        "select canceled_by, note, action_id from pgflow.canceled_jobs limit 1"
    ).fetchone()
    assert note == (
        "eve@host", f"replay plan {plan.plan_id} undone", undone.action_id,
    )  # fmt: skip
    assert replay(ids).created == 3
    assert replay_plans.undo(repository, plan.plan_id, operator=EVE).canceled == 0


def test_undoing_a_second_replay_leaves_the_first(connection, repository, replay):
    [source] = plant_dead(connection)
    replay([source])
    before = resolution(connection, source)
    second = replay([source], again=True)
    replay_plans.undo(repository, second.plan_id, operator=EVE)
    assert resolution(connection, source)[:3] == before[:3]


def test_undo_finds_a_job_that_an_operator_moved(connection, repository, replay):
    [source] = plant_dead(connection)
    plan = replay([source], delay=3600.0)
    connection.execute(
        "with moved as (update pgflow.pending set run_at = now() returning job_id,"
        " run_at, attempt_no, rank) insert into pgflow.moved_jobs (job_id, run_at,"
        " attempt_no, rank) select job_id, run_at, attempt_no, rank from moved"
    )
    assert replay_plans.undo(repository, plan.plan_id, operator=EVE).canceled == 1


def test_an_unknown_plan_is_not_found(repository):
    with pytest.raises(NotFound, match="no replay plan 7"):
        replay_plans.find(repository, 7)
    with pytest.raises(NotFound):
        replay_plans.undo(repository, 7, operator=EVE)
    assert repository.replays.list_replay_plans(limit=5) == []


def test_plans_are_listed_page_by_page(connection, repository, replay):
    plans = [replay(plant_dead(connection)).plan_id for _ in range(3)]
    first = repository.replays.list_replay_plans(limit=2)
    rest = repository.replays.list_replay_plans(limit=2, after=first[-1].position)
    assert [plan.plan_id for plan in (*first, *rest)] == plans[::-1]


def test_plans_older_than_ninety_days_are_pruned(connection, repository, replay):
    old, new = (replay(plant_dead(connection, 3)) for _ in range(2))
    connection.execute(
        "update pgflow.replay_plans set created_at = now() - interval '91 days'"
        " where id = %s",
        (old.plan_id,),
    )
    assert repository.replays.prune_replay_items(limit=2, dry_run=True) == 2
    assert repository.replays.prune_replay_plans(limit=9, dry_run=False) == 0
    assert repository.replays.prune_replay_items(limit=2, dry_run=False) == 2
    assert repository.replays.prune_replay_items(limit=2, dry_run=False) == 1
    assert repository.replays.prune_replay_plans(limit=9, dry_run=False) == 1
    assert [p.plan_id for p in repository.replays.list_replay_plans(limit=9)] == [
        new.plan_id
    ]
    assert replay_plans.find(repository, new.plan_id).created == 3


def test_a_job_in_the_archive_is_replayed(connection, replay):
    [job_id] = plant(connection, payload='{"kept": 1}')
    unqueue(connection, job_id)
    attempt(connection, job_id, "succeeded")
    for table, column in (("jobs", "id"), ("job_attempts", "job_id")):
        connection.execute(
            f"with gone as (delete from pgflow.{table} where {column} = %s returning *)"
            f" insert into pgflow.{table}_archive select * from gone",
            (job_id,),
        )
    assert replay([job_id], any_status=True).created == 1
    assert replays_of(connection, job_id)[0]["payload"] == '{"kept": 1}'


def test_a_preview_of_many_is_made_in_chunks_and_says_the_same(
    repository: Repository, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_dead(connection, 3, died_ago="1 hour", priority=3, max_attempts=2)
    plant_dead(connection, 4, payload='"larger than it may be"')
    plant_dead(connection, 2, queue="billing")
    request = ReplayRequest(all=True, max_payload_bytes=10)
    found = request.find(repository)
    at_once = request.preview(repository, found).groups
    monkeypatch.setattr(replay_plans, "CHUNK", 2)

    in_chunks = request.preview(repository, found).groups

    def without_ages(groups: list[ReplayGroup]) -> list[ReplayGroup]:
        return [replace(g, oldest_seconds=0, newest_seconds=0) for g in groups]

    assert without_ages(in_chunks) == without_ages(at_once)
    emails = in_chunks[0]
    assert (emails.jobs, emails.too_large) == (7, 4)
    assert (emails.least_priority, emails.most_priority) == (0, 3)
    assert (emails.least_attempts, emails.most_attempts) == (2, 25)
    assert emails.oldest_seconds >= 3600 > emails.newest_seconds


def test_a_plan_of_many_is_frozen_in_chunks_and_in_order(
    repository: Repository, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = plant_dead(connection, 5)
    monkeypatch.setattr(replay_plans, "CHUNK", 2)
    plan = replay_plans.make(repository, ids, options=PLAIN, operator=EVE)
    rows = connection.execute(
        "select place, source_job_id::text from pgflow.replay_items order by place"
    ).fetchall()
    assert rows == list(enumerate(ids, 1))
    assert (plan.selected, plan.remaining) == (5, 5)
