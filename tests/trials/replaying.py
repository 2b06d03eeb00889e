"""What the statements of replays must do: scenarios as in `upkeep`."""

from __future__ import annotations

from typing import Any

from pgflow_cli.models.replays import ReplayOptions
from tests.trials import world
from tests.trials.scenarios import Bench, add_worker
from tests.trials.upkeep import (
    LATER,
    OLD,
    cancel,
    changes,
    dead_letter_held,
    die_all,
    end,
    told,
)
from tests.trials.world import JOB, WORKER


def _plan(bench: Bench, *names: str, **options: Any) -> tuple[int, str]:
    """Make a plan; return it and who runs it."""
    plan = bench.repository.replays.create_replay_plan(
        len(names),
        options=ReplayOptions(**options),
        runner="trial",
        action_id=1,
    )
    jobs = [JOB[name] for name in names]
    bench.repository.replays.add_replay_items(plan, jobs, after_place=0)
    row = bench.connection.execute(
        "select runner_id::text from pgflow.replay_plans where id = %s", (plan,)
    ).fetchone()
    assert row is not None
    return plan, row[0]


def _create(bench: Bench, plan: tuple[int, str], limit: int = 9) -> str:
    """Create the next jobs; return what became of each, and how many were told."""

    def create() -> str:
        parameters = {
            "plan_id": plan[0], "runner_id": plan[1], "limit": limit, "canary": False
        }  # fmt: skip
        rows = bench.repository.link.tuples("create_replays", parameters)
        return ", ".join(
            f"{world.name_of(source)} {problem or state} told {told}"
            for source, _, state, problem, told in rows
        )

    return changes(bench, create)


def _alike(bench: Bench) -> None:
    """Let all plans have the same runner, of which no two are alike in fact."""
    bench.sql(
        "update pgflow.replay_plans as plan set runner_id = first.runner_id from"
        " (select runner_id from pgflow.replay_plans order by id limit 1) as first"
    )


def _limit_payloads(bench: Bench) -> None:
    bench.sql("update pgflow.queue_policies set max_payload_bytes = 2")


@told(
    "create_replays",
    answer=(
        "third DISCARDED told 0, seventh PAYLOAD_TOO_LARGE told 0; -item 1 "
        "waiting; -item 2 waiting; -plan 1: 0 0 0 0; +item 1 skipped DISCARDED; "
        "+item 2 failed PAYLOAD_TOO_LARGE; +plan 1: 0 1 1 0 |  | first created "
        "told 0, second created told 0, fifth GONE told 0; -dead first; -dead "
        "second; -item 3 waiting; -item 4 waiting; -item 5 waiting; -plan 1: 0 1 "
        "1 0; +counter default 2; +dead first replayed new; +dead second "
        "replayed new; +item 3 created; +item 4 created; +item 5 failed GONE; "
        "+job new; +job new; +plan 1: 2 1 2 0; +waits new default 0 0; +waits "
        "new default 0 0 |  | "
    ),
)
def dead_letters_are_replayed_once(bench: Bench) -> str:
    """One that others have replayed since, one that is too large, and two others."""
    die_all(bench)
    _limit_payloads(bench)
    bench.sql(f"delete from pgflow.queue_ranks where queue = '{world.LIMITED}'")
    plan = _plan(bench, "third", "seventh", "first", "second", "fifth", patch='{"a":1}')
    other = _plan(bench, "first", "second", "third", "fourth", "fifth")
    _alike(bench)
    with bench.locked(dead_letter_held("first")):
        begun = _create(bench, plan, 2)
    strange = _create(bench, (other[0], JOB["first"]))
    whole = _create(bench, plan)
    stopped = "update pgflow.replay_plans set state = 'stopped' where id = {}"
    bench.sql(stopped.format(other[0]))
    return " | ".join(
        [
            begun,
            strange,
            whole,
            _create(bench, plan),
            _create(bench, (other[0], plan[1])),
        ]
    )


@told(
    "create_replays",
    answer=(
        "first created told 0, second created told 0, fifth created told 0, "
        "sixth ALREADY_REPLAYED told 0; -counter default 3; -dead first; -dead "
        "second; -item 4 waiting; -item 5 waiting; -item 6 waiting; -item 7 "
        "waiting; -plan 2: 0 0 0 0; +counter default 6; +dead first replayed "
        "new; +dead second replayed new; +item 4 created; +item 5 created; +item "
        "6 created; +item 7 skipped ALREADY_REPLAYED; +job new; +job new; +job "
        "new; +plan 2: 3 1 0 0; +waits new default 0 0; +waits new default 0 0; "
        "+waits new default 0 0"
    ),
)
def what_was_replayed_before_counts_for_its_own_source(bench: Bench) -> str:
    die_all(bench)
    for name in ("fifth", "sixth"):
        bench.sql(f"delete from pgflow.pending where job_id = '{JOB[name]}'")
        end(bench, name)
    _create(bench, _plan(bench, "first", "sixth", "fifth", any_status=True))
    bench.sql(
        "update pgflow.dead_letters set resolved_at = null, resolution = null,"
        f" replay_job_id = null where job_id = '{JOB['first']}'"
    )
    bench.sql(
        "update pgflow.replay_items set state = 'undone'"
        f" where source_job_id = '{JOB['fifth']}'"
    )
    plan = _plan(bench, "first", "second", "fifth", "sixth", any_status=True)
    return _create(bench, plan)


@told(
    "create_replays",
    answer=(
        "first created told 0; -dead first; -item 1 waiting; -plan 1: 0 0 0 0; "
        "+counter default 1; +dead first replayed new; +item 1 created; +job "
        "new; +plan 1: 1 0 0 0; +rank default -7; +waits new default -7 0 | "
        "second created told 0; -dead second; -item 2 waiting; -plan 2: 0 0 0 0; "
        "+counter emails 1; +dead second replayed new; +item 2 created; +job "
        "new; +plan 2: 1 0 0 0; +rank emails 0; +waits new emails 0 0"
    ),
)
def a_replay_makes_the_rank_that_it_needs(bench: Bench) -> str:
    """A retired one is missing."""
    die_all(bench)
    bench.sql(
        "insert into pgflow.queue_ranks (queue, rank, retired)"
        " values ('default', -7, true)"
    )
    higher = _create(bench, _plan(bench, "first", priority=7))
    elsewhere = _create(bench, _plan(bench, "second", to_queue="emails"))
    return f"{higher} | {elsewhere}"


@told(
    "create_replays",
    answer=(
        "fifth GONE told 0, first created told 0; -dead first; -item 1 waiting; "
        "-item 2 waiting; -plan 1: 0 0 0 0; +counter default 1; +dead first "
        "replayed new; +item 1 failed GONE; +item 2 created; +job new; +plan 1: "
        "1 0 1 0; +waits new default 0 0"
    ),
)
def what_is_not_replayed_takes_no_place_in_the_pace(bench: Bench) -> str:
    die_all(bench)
    return _create(bench, _plan(bench, "fifth", "first", seconds_apart=3600.0))


def _told(bench: Bench, *, later: bool = False, **worker: Any) -> str:
    die_all(bench)
    add_worker(bench, WORKER, **{"idle": True, **worker})
    return _create(bench, _plan(bench, "first", delay=3600.0 if later else None))


@told(
    "create_replays",
    answer=(
        "first created told 1; -dead first; -item 1 waiting; -plan 1: 0 0 0 0; "
        "+counter default 1; +dead first replayed new; +item 1 created; +job "
        "new; +plan 1: 1 0 0 0; +waits new default 0 0"
    ),
)
def an_idle_worker_is_told_of_replays(bench: Bench) -> str:
    return _told(bench)


@told(
    "create_replays",
    answer=(
        "first created told 0; -dead first; -item 1 waiting; -plan 1: 0 0 0 0; "
        "+counter default 1; +dead first replayed new; +item 1 created; +job "
        "new; +plan 1: 1 0 0 0; +waits new default 0 0"
    ),
)
def a_busy_worker_is_not_told_of_replays(bench: Bench) -> str:
    return _told(bench, idle=False)


@told(
    "create_replays",
    answer=(
        "first created told 0; -dead first; -item 1 waiting; -plan 1: 0 0 0 0; "
        "+counter default 1; +dead first replayed new; +item 1 created; +job "
        "new; +plan 1: 1 0 0 0; +waits new default 0 0"
    ),
)
def a_quiet_worker_is_not_told_of_replays(bench: Bench) -> str:
    return _told(bench, quiet=True)


@told(
    "create_replays",
    answer=(
        "first created told 0; -dead first; -item 1 waiting; -plan 1: 0 0 0 0; "
        "+counter default 1; +dead first replayed new; +item 1 created; +job "
        "new; +plan 1: 1 0 0 0; +waits new default 0 0"
    ),
)
def a_worker_of_other_queues_is_not_told_of_replays(bench: Bench) -> str:
    die_all(bench)
    add_worker(bench, WORKER, idle=True)
    bench.sql("update pgflow.workers set queues = '{emails}'")
    return _create(bench, _plan(bench, "first"))


@told(
    "create_replays",
    answer=(
        "first created told 0; -dead first; -item 1 waiting; -plan 1: 0 0 0 0; "
        "+counter default 1; +dead first replayed new; +item 1 created; +job "
        "new; +plan 1: 1 0 0 0; +waits new default 0 0 later"
    ),
)
def of_replays_that_are_not_due_no_worker_is_told(bench: Bench) -> str:
    return _told(bench, later=True)


def _undo(bench: Bench, plan: tuple[int, str], after_place: int = 0) -> str:
    def undo() -> str:
        place, job_ids = bench.repository.replays.undo_replays(
            plan[0],
            after_place=after_place,
            limit=9,
            actor="trial",
            note="",
            action_id=1,
        )
        return f"{len(job_ids)} up to {place}"

    return changes(bench, undo)


@told(
    "undo_replays",
    answer=(
        "1 up to 3; -item 3 created; -plan 1: 3 0 0 0; -waits new limited 0 0; "
        "+canceled new; +item 3 undone; +plan 1: 2 0 0 1 | 1 up to 2; -dead "
        "second replayed new; -item 2 created; -plan 1: 2 0 0 1; -waits new "
        "default 0 0; +canceled new; +dead second; +item 2 undone; +plan 1: 1 0 "
        "0 2 | 0 up to 1"
    ),
)
def what_has_not_been_tried_is_undone(bench: Bench) -> str:
    """The first was tried, the seventh replayed once more; the second is undone."""
    die_all(bench)
    plan = _plan(bench, "first", "second", "seventh")
    _create(bench, plan)
    other = _plan(bench, "fifth", "sixth", any_status=True)
    _create(bench, other)
    tried = (
        f"select replay_job_id from pgflow.dead_letters where job_id = '{JOB['first']}'"
    )
    bench.sql(f"update pgflow.pending set attempt_no = 1 where job_id = ({tried})")
    bench.sql(
        f"update pgflow.dead_letters set replay_job_id = '{LATER}'"
        f" where job_id = '{JOB['seventh']}'"
    )
    with bench.locked(dead_letter_held("third")):
        last = _undo(bench, plan, 2)
        return f"{last} | {_undo(bench, plan)} | {_undo(bench, plan)}"


@told(
    "undo_replays",
    answer=(
        "2 up to 2; -dead first replayed new; -dead second replayed new; -item 1 "
        "created; -item 2 created; -plan 1: 2 0 0 0; -waits new default 0 0; "
        "-waits new default 9 0; +canceled new; +canceled new; +dead first; "
        "+dead second; +item 1 undone; +item 2 undone; +plan 1: 0 0 0 2"
    ),
)
def what_was_moved_by_hand_is_found_and_undone(bench: Bench) -> str:
    die_all(bench)
    cancel(bench, "fifth", OLD)
    plan = _plan(bench, "first", "second")
    _create(bench, plan)
    bench.sql(
        "update pgflow.pending set rank = 9 from pgflow.dead_letters as dead"
        f" where pending.job_id = replay_job_id and dead.job_id = '{JOB['first']}'"
    )
    return _undo(bench, plan)


def _locked(bench: Bench, plan: int, after_place: int) -> str:
    """Lock items that wait; return how many, and which rows nobody else may lock."""
    wanted = {
        "plan_id": plan, "state": "waiting", "limit": 9, "after_place": after_place
    }  # fmt: skip
    with bench.repository.transaction():
        [counts] = bench.repository.link.tuples("lock_replay_items", wanted)
        items, dead = (
            [row[0] for row in bench.connection.execute(text.encode()).fetchall()]
            for text in (_LOCKED_ITEMS, _LOCKED_DEAD)
        )
    return f"{counts}: {' '.join(items)}, dead {' '.join(map(world.name_of, dead))}"


_LOCKED_ITEMS = """
with free as (
  select plan_id, place from pgflow.replay_items for update skip locked
)
select (dense_rank() over (order by plan_id)) || '.' || place
from pgflow.replay_items
left join free using (plan_id, place)
order by free.plan_id is null desc, plan_id, place
limit (select count(*) from pgflow.replay_items) - (select count(*) from free)
"""
_LOCKED_DEAD = """
with free as (select job_id from pgflow.dead_letters for update skip locked)
select job_id::text from pgflow.dead_letters
where job_id not in (select job_id from free)
order by job_id
"""


@told(
    "lock_replay_items",
    answer=("(2, 2): 1.1 1.3 2.1 2.2, dead first third / (1, 1): 1.3 2.1, dead third"),
)
def the_same_jobs_are_locked_in_all_plans_and_as_dead_letters(bench: Bench) -> str:
    die_all(bench)
    plan, _ = _plan(bench, "first", "second", "third")
    _plan(bench, "third", "first", "seventh")
    bench.sql(
        f"update pgflow.replay_items set state = 'skipped', problem = 'GONE'"
        f" where plan_id = {plan} and place = 2"
    )
    return f"{_locked(bench, plan, 0)} / {_locked(bench, plan, 1)}"
