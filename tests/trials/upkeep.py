"""What statements of operators and of upkeep must do: scenarios as in `scenarios`.

Their answers tell every row that has gone (-) or come (+), whichever table it is in.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from pgflow_cli.models.audit import Operator
from pgflow_cli.models.maintenance import Moved, PartitionDay, Removed
from tests.support.jobs import successes
from tests.trials import world
from tests.trials.scenarios import Bench, scenario
from tests.trials.world import FOREIGN, JOB, LEASE, OTHER, WORKER

_OPERATOR = Operator("trial", "trial")
OLD, _CUT, _RECENT = "2024-06-02", datetime(2025, 1, 1, tzinfo=UTC), "2025-06-02"
_CUT_TEXT = "2025-01-01"
DAY = PartitionDay(
    "20240610",
    "018fff71-d000-0000-0000-000000000000",
    "01900498-2c00-0000-0000-000000000000",
    [],
    False,
)
LATER = "01a00000-0000-7000-8000-000000000001"  # an id of 2026
_ROWS = """
select 'job ' || id::text from pgflow.jobs
union all select 'archived ' || id::text from pgflow.jobs_archive
union all
select 'attempt ' || job_id || ' ' || attempt_no || ' ' || status
from pgflow.job_attempts
union all
select 'archived attempt ' || job_id || ' ' || attempt_no
from pgflow.job_attempts_archive
union all
select 'success ' || array_to_string(job_ids, ' ') || ' ' || attempt_nos::text
from pgflow.job_successes
union all
select 'archived success ' || array_to_string(job_ids, ' ') || ' ' || attempt_nos::text
from pgflow.job_successes_archive
union all
select 'dead ' || job_id || coalesce(' ' || resolution, '')
  || coalesce(' ' || replay_job_id, '')
from pgflow.dead_letters
union all select 'canceled ' || job_id from pgflow.canceled_jobs
union all
select 'waits ' || job_id || ' ' || queue || ' ' || rank || ' ' || attempt_no
  || case when run_at > now() then ' later' else '' end
from pgflow.pending
union all
select 'lease ' || array_to_string(job_ids, ' ') || ' ' || attempt_nos::text
from pgflow.leases
union all select 'rank ' || queue || ' ' || rank from pgflow.queue_ranks
union all
select 'item ' || row_number() over (order by plan_id, place) || ' ' || state
  || coalesce(' ' || problem, '')
from pgflow.replay_items
union all
select 'plan ' || row_number() over (order by id) || ': ' || created || ' ' || skipped
  || ' ' || failed || ' ' || undone
from pgflow.replay_plans
union all
select 'counter ' || queue || ' ' || count
from pgflow.worker_counters where metric = 'replays'
union all
select 'marks ' || archived_until || ' ' || pruned_until from pgflow.history_marks
"""


def told(
    *of: str, answer: str = ""
) -> Callable[[Callable[[Bench], str]], Callable[[Bench], str]]:
    """Register a scenario of which the answer tells everything."""

    return scenario(*of, answer=answer, places=None)


def _rows(bench: Bench) -> list[str]:
    names = {job_id: name for name, job_id in JOB.items()}
    return sorted(
        " ".join(names.get(w, "new" if len(w) == 36 else w) for w in row[0].split())
        for row in bench.connection.execute(_ROWS).fetchall()
    )


def changes(bench: Bench, act: Callable[[], object]) -> str:
    """Act; return what that answered, and which rows it has taken away and brought."""
    before = _rows(bench)
    with world.upkeep(bench.connection):
        answer = _figures(act())
    after = _rows(bench)
    gone, come = list(before), list(after)
    for row in before:
        if row in come:
            come.remove(row)
            gone.remove(row)
    told = [*(f"-{row}" for row in gone), *(f"+{row}" for row in come)]
    return "; ".join([answer, *told])


def _figures(answer: object) -> str:
    """Return counts as numbers, and anything else as it is."""
    if isinstance(answer, Moved | Removed):
        return f"{answer.looked} looked at, {answer.jobs} {answer.attempts}"
    return str(answer)


def _named(job_ids: list[str]) -> str:
    return " ".join(sorted(map(world.name_of, job_ids)))


def end(
    bench: Bench,
    name: str,
    status: str = "succeeded",
    attempt_no: int = 1,
    *,
    at: str = OLD,
    archive: bool = False,
) -> None:
    if status == "succeeded":
        one = f"select '{JOB[name]}'::uuid as job_id"
        at = f"'{at}'::timestamptz"
        bench.sql(successes(one, attempt_no=attempt_no, at=at, archive=archive))
        return
    bench.sql(
        f"insert into pgflow.job_attempts{'_archive' if archive else ''} (job_id,"
        " lease_id, started_at, finished_at, attempt_no, status, worker_name) values"
        f" ('{JOB[name]}', '{LEASE}', '{at}', '{at}', {attempt_no}, '{status}', 'w')"
    )


def together(bench: Bench, *names: str, archive: bool = False) -> None:
    """Let jobs have been settled by one statement."""
    for name in names:
        end(bench, name, archive=archive)
    table = f"pgflow.job_successes{'_archive' if archive else ''}"
    ids = ", ".join(f"'{JOB[name]}'" for name in names)
    with world.upkeep(bench.connection):
        bench.sql(f"delete from {table} where first_id in ({ids.split(', ', 1)[1]})")
        bench.sql(
            f"update {table} set job_ids = array[{ids}]::uuid[], attempt_nos ="
            f" array_fill(1, array[{len(names)}]), started_ago = array_fill(0::real,"
            f" array[{len(names)}]), ended_ago = array_fill(0::real,"
            f" array[{len(names)}]) where first_id = '{JOB[names[0]]}'"
        )


def _archive(bench: Bench, *names: str) -> None:
    columns = (
        "id, run_at, created_at, timeout_ms, max_attempts, priority, queue, job_type,"
        " payload, meta"
    )
    for name in names:
        bench.sql(
            f"insert into pgflow.jobs_archive ({columns})"
            f" select {columns} from pgflow.jobs where id = '{JOB[name]}'"
        )


def _die(bench: Bench, *names: str, resolved: str = "null", by: str = "null") -> None:
    for number, name in enumerate(names, start=1 if resolved == "null" else 0):
        bench.sql(
            "insert into pgflow.dead_letters (job_id, attempt_no, failed_attempts,"
            " died_at, queue, job_type, dlq_reason_code, resolved_at, resolution)"
            f" select id, 1, 1, '2024-06-0{number + 1}', queue, job_type,"
            f" 'NON_RETRYABLE', {resolved}, {by} from pgflow.jobs"
            f" where id = '{JOB[name]}'"
        )


def cancel(bench: Bench, name: str, at: str) -> None:
    bench.sql(
        "insert into pgflow.canceled_jobs (job_id, queue, canceled_at, canceled_by)"
        f" values ('{JOB[name]}', 'default', '{at}', 'trial')"
    )


def _hold(bench: Bench, *names: str, attempt_nos: str = "{1}") -> None:
    """Let the lease that has run out hold these."""
    jobs = ",".join(JOB[name] for name in names)
    bench.sql(
        f"update pgflow.leases set job_ids = '{{{jobs}}}', attempt_nos ="
        f" '{attempt_nos}' where lease_id = '{LEASE}'"
    )


# Dead letters.


def die_all(bench: Bench) -> None:
    bench.sql(f"delete from pgflow.leases where lease_id = '{LEASE}'")
    for name in ("first", "second", "third", "seventh"):
        end(bench, name, "failed")
    _die(bench, "third", resolved="now()", by="'discarded'")
    _die(bench, "first", "second", "seventh")


def dead_letter_held(name: str) -> str:
    return f"select from pgflow.dead_letters where job_id = '{JOB[name]}' for update"


@told(
    "lock_dead_letters",
    "delete_dead_letters",
    "discard_dead_letters",
    answer=(
        "first seventh; -dead first; -dead seventh; +dead first discarded; +dead "
        "seventh discarded | first; -attempt first 1 failed; -dead first; -job "
        "first"
    ),
)
def open_dead_letters_are_deleted_or_discarded(bench: Bench) -> str:
    die_all(bench)
    wanted = [JOB["first"], JOB["third"]]
    repository = bench.repository
    with bench.locked(dead_letter_held("third")):
        discarded = changes(
            bench,
            lambda: _named(
                repository.dead_letters.discard_dead_letters(
                    [*wanted, JOB["seventh"]], action_id=1
                )
            ),
        )
    bench.sql(
        "update pgflow.dead_letters set resolved_at = null, resolution = null"
        f" where job_id = '{JOB['first']}'"
    )
    with bench.locked(dead_letter_held("seventh")):
        deleted = changes(
            bench, lambda: _named(repository.dead_letters.delete_dead_letters(wanted))
        )
    return f"{discarded} | {deleted}"


@told(
    "purge_dead_letters",
    answer=(
        "first; -dead first; +dead first discarded | second; -dead second; +dead "
        "second discarded"
    ),
)
def the_oldest_dead_letters_of_a_queue_are_purged(bench: Bench) -> str:
    die_all(bench)
    purge = bench.repository.queues.purge_dead_letters
    one = changes(bench, lambda: _named(purge("default", 1, 1)))
    return f"{one} | {changes(bench, lambda: _named(purge('default', 1, 9)))}"


@told(
    "purge_pending",
    answer=(
        "fifth; -waits fifth default 0 0; +canceled fifth | sixth; -waits sixth "
        "default 0 0 later; +canceled sixth"
    ),
)
def what_waits_in_a_queue_is_purged_by_state(bench: Bench) -> str:
    bench.sql(
        "update pgflow.pending set run_at = now() + interval '1 hour'"
        f" where job_id = '{JOB['sixth']}'"
    )

    def purge(status: str) -> str:
        purge = bench.repository.queues.purge_pending
        return changes(bench, lambda: _named(purge("default", status, _OPERATOR, 1, 9)))

    return f"{purge('queued')} | {purge('scheduled')}"


# Another priority.


@told(
    "reprioritize_jobs",
    answer=(
        "fifth; -waits fifth default 0 0; +rank default -5; +waits fifth default -5 0"
        " | sixth; -waits sixth default 0 0; +waits sixth default -5 0"
    ),
)
def a_new_priority_makes_its_rank_once(bench: Bench) -> str:
    """That of another queue is none, and neither is a retired one."""
    bench.sql(
        "insert into pgflow.queue_ranks (queue, rank, retired)"
        " values ('emails', -5, false), ('default', -5, true)"
    )

    def move(name: str) -> str:
        move = bench.repository.jobs.reprioritize_jobs
        return changes(bench, lambda: _named(move([JOB[name]], priority=5)))

    return f"{move('fifth')} | {move('sixth')}"


# The archive.


def _ended(bench: Bench) -> None:
    for name in ("first", "second", "fifth", "sixth"):
        end(bench, name, attempt_no=2 if name == "second" else 1)
    end(bench, "second", "failed")
    end(bench, "third", "failed")
    end(bench, "fourth", at=_RECENT)


@told(
    "archive_stray_jobs",
    answer=(
        "3 looked at, 2 2; -job fifth; -job sixth; -marks new new; -success fifth "
        "{1}; -success sixth {1}; +archived fifth; +archived sixth; +archived "
        "success fifth {1}; +archived success sixth {1}; +marks sixth new | 2 looked "
        "at, 2 3; -attempt second 1 failed; -job first; -job second; -success first "
        "{1}; -success second {2}; +archived attempt second 1; +archived first; "
        "+archived second; +archived success first {1}; +archived success second {2}"
    ),
)
def what_has_rested_is_archived(bench: Bench) -> str:
    _ended(bench)

    def move(after: str, limit: int) -> str:
        return changes(
            bench,
            lambda: bench.repository.archive.archive_stray_jobs(
                after=JOB.get(after), cut=_CUT, limit=limit
            ),
        )

    last, first = move("second", 9), move("", 2)
    return f"{last} | {first}"


@told(
    "archive_jobs_of_day",
    answer=(
        "2 looked at, 1 1; -job fifth; -marks new new; -success fifth {1}; +archived "
        "fifth; +archived success fifth {1}; +marks fifth new | 1 looked at, 1 1; -job "
        "first; -success first {1}; +archived first; +archived success first {1} | 2 "
        "looked at, 1 2; -attempt second 1 failed; -job second; -success second {2}; "
        "+archived attempt second 1; +archived second; +archived success second {2}"
    ),
)
def what_has_rested_of_a_day_is_archived(bench: Bench) -> str:
    _ended(bench)
    with world.upkeep(bench.connection):
        bench.sql(
            "update pgflow.job_successes set day = day + 1"
            f" where first_id = '{JOB['sixth']}'"
        )

    def move(after: str, limit: int) -> str:
        return changes(
            bench,
            lambda: bench.repository.archive.archive_jobs_of_day(
                DAY, after=JOB.get(after), cut=_CUT, limit=limit
            ),
        )

    return f"{move('second', 9)} | {move('', 1)} | {move('', 9)}"


@told(
    "archive_stray_jobs",
    "archive_jobs_of_day",
    answer=(
        "3 looked at, 3 3; -job fifth; -job first; -job second; -marks new new; "
        "-success first second fifth {1,1,1}; +archived fifth; +archived first; "
        "+archived second; +archived success first second fifth {1,1,1}; +marks fifth "
        "new | 2 looked at, 2 2; -job seventh; -job third; -marks fifth new; -success "
        "third seventh {1,1}; +archived seventh; +archived success third seventh "
        "{1,1}; +archived third; +marks seventh new"
    ),
)
def what_was_settled_together_is_archived_together(bench: Bench) -> str:
    together(bench, "first", "second", "fifth")
    end(bench, "sixth")
    move = bench.repository.archive
    stray = changes(
        bench, lambda: move.archive_stray_jobs(after=None, cut=_CUT, limit=2)
    )
    together(bench, "third", "seventh")
    of_day = changes(
        bench, lambda: move.archive_jobs_of_day(DAY, after=None, cut=_CUT, limit=2)
    )
    return f"{stray} | {of_day}"


def _trace(bench: Bench, *names: str) -> None:
    """Leave everything of jobs that there may be."""
    for name in names:
        _archive(bench, name)
        end(bench, name, "failed")
        end(bench, name, "failed", archive=True)


@told(
    "prune_canceled_jobs",
    "lock_resolved_dead_letters",
    "prune_dead_letters",
    answer=(
        "1 looked at, 1 2; -archived attempt second 1; -archived second; "
        "-attempt second 1 failed; -canceled second; -job second; -marks new "
        "new; +marks new second | 1 looked at, 1 2; -archived attempt first 1; "
        "-archived first; -attempt first 1 failed; -canceled first; -job first | "
        "1 looked at, 1 2; -archived attempt fifth 1; -archived fifth; -attempt "
        "fifth 1 failed; -dead fifth discarded; -job fifth; -marks new second; "
        "+marks new fifth | 1 looked at, 1 2; -archived attempt fourth 1; "
        "-archived fourth; -attempt fourth 1 failed; -dead fourth discarded; "
        "-job fourth"
    ),
)
def what_ended_long_ago_is_pruned_with_all_its_traces(bench: Bench) -> str:
    bench.sql("delete from pgflow.leases")
    _trace(bench, *world.NAMES[:6])
    ends = []
    for names, prune, add in (
        (
            ("first", "second", "third"),
            bench.repository.archive.prune_canceled_jobs,
            cancel,
        ),
        (
            ("fourth", "fifth", "sixth"),
            bench.repository.archive.prune_dead_letters,
            _resolve,
        ),
    ):
        for name, at in zip(names, ("2024-06-03", OLD, _RECENT), strict=True):
            add(bench, name, at)
        ends += [changes(bench, partial(prune, before=_CUT_TEXT, limit=1))]
        ends += [changes(bench, partial(prune, before=_CUT_TEXT, limit=9))]
    return " | ".join(ends)


@told(
    "prune_dead_letters",
    answer=(
        "(3, 1, 1); -attempt fourth 1 failed; -dead fourth discarded; -job fourth; "
        "-marks new new; +marks new fourth"
    ),
)
def what_is_open_again_when_it_is_locked_is_not_pruned(bench: Bench) -> str:
    for name, at in (("fourth", OLD), ("sixth", _RECENT)):
        end(bench, name, "failed")
        _resolve(bench, name, at)
    _die(bench, "fifth")
    doomed = {"job_ids": [JOB[n] for n in world.NAMES[3:6]], "before": _CUT_TEXT}

    def prune() -> object:
        return bench.repository.link.tuples("prune_dead_letters", doomed)[0]

    return changes(bench, prune)


def _resolve(bench: Bench, name: str, at: str) -> None:
    _die(bench, name, resolved=f"'{at}'", by="'discarded'")


@told(
    "prune_archived_jobs",
    answer=(
        "3 looked at, 2 0 | 2 looked at, 1 1; -archived fifth; -archived success "
        "fifth {1}; -marks new new; +marks new fifth | 3 looked at, 2 2; -archived "
        "first; -archived second; -archived success first {1}; -archived success "
        "second {1}"
    ),
)
def archived_jobs_of_long_ago_are_pruned(bench: Bench) -> str:
    _archive(bench, "first", "second", "third", "fifth")
    for name in ("first", "second", "fifth"):
        end(bench, name, archive=True)
    end(bench, "third", at=_RECENT, archive=True)
    bench.sql(
        "insert into pgflow.jobs_archive (id, queue, job_type, payload, run_at,"
        " created_at, priority, max_attempts) select"
        f" '{LATER}', queue, job_type, payload, run_at, created_at, priority,"
        f" max_attempts from pgflow.jobs where id = '{JOB['first']}'"
    )

    def prune(after: str, *, dry_run: bool = False) -> str:
        return changes(
            bench,
            lambda: bench.repository.archive.prune_archived_jobs(
                after=JOB.get(after), before=_CUT, limit=9, dry_run=dry_run
            ),
        )

    ends = [prune("first", dry_run=True), prune("second"), prune("")]
    return " | ".join(ends)


@told(
    "prune_archived_jobs",
    answer=(
        "1 looked at, 1 0; -archived first; -marks new new; +marks new first | 2 "
        "looked at, 1 2; -archived second; -archived success first second {1,1}; "
        "-marks new first; +marks new second | 2 looked at, 2 3; -archived attempt "
        "fourth 1; -archived fifth; -archived fourth; -archived success fourth fifth "
        "{1,1}; -marks new second; +marks new fifth"
    ),
)
def a_row_of_successes_goes_with_the_last_of_its_jobs(bench: Bench) -> str:
    """But for one that failed lately, though it has succeeded long ago."""
    _archive(bench, "first", "second", "third", "fourth", "fifth")
    together(bench, "first", "second", archive=True)
    together(bench, "fourth", "fifth", archive=True)
    end(bench, "third", "failed", at=_RECENT, archive=True)
    end(bench, "fourth", "failed", archive=True)

    def prune(after: str, limit: int) -> str:
        return changes(
            bench,
            lambda: bench.repository.archive.prune_archived_jobs(
                after=JOB.get(after), before=_CUT, limit=limit, dry_run=False
            ),
        )

    return " | ".join(prune(*each) for each in (("", 1), ("first", 2), ("third", 9)))


# After a dump was loaded over the tables.


def _count(bench: Bench, statement: str) -> str:
    return changes(bench, lambda: bench.repository.link.count(statement))


@told(
    "remove_archived_copies",
    answer=("2; -attempt second 1 failed; -job second; -job third"),
)
def copies_of_archived_jobs_are_removed(bench: Bench) -> str:
    _hold(bench, "first")
    _archive(bench, "first", "second", "third")
    end(bench, "second", archive=True)
    end(bench, "third", "failed", archive=True)
    end(bench, "fifth", archive=True)
    for name in ("second", "third", "fifth"):
        end(bench, name, "failed")
    return _count(bench, "remove_archived_copies")


@told(
    "remove_archived_copies",
    "remove_reloaded_jobs",
    answer=(
        "3; -job eighth; -job first; -job second; -success eighth {1}; -success first "
        "second third {1,1,1}; +success third {1} | 3; -job fourth; -job sixth; -job "
        "third; -success fourth fifth {1,1}; -success sixth {1}; -success third {1}; "
        "+success fifth {1}"
    ),
)
def only_those_that_go_are_taken_out_of_a_row_of_successes(bench: Bench) -> str:
    bench.sql(f"delete from pgflow.leases where lease_id = '{LEASE}'")
    together(bench, "first", "second", "third")
    together(bench, "fourth", "fifth")
    for name in ("sixth", "seventh", "eighth"):
        end(bench, name)
    _archive(bench, "first", "second", "eighth")
    together(bench, "first", "second", archive=True)
    end(bench, "eighth", archive=True)
    copies = _count(bench, "remove_archived_copies")
    identity = (
        "update pgflow.database_identity set load_began = {}, load_pruned_until = {}"
    )
    bench.sql(identity.format("pg_current_xact_id()", f"'{JOB['sixth']}'"))
    bench.sql(
        "update pgflow.jobs set priority = priority"
        f" where id in ('{JOB['third']}', '{JOB['fourth']}', '{JOB['sixth']}')"
    )
    try:
        return f"{copies} | {_count(bench, 'remove_reloaded_jobs')}"
    finally:
        bench.sql(identity.format("null", "null"))


@told(
    "remove_reloaded_jobs",
    answer=(
        "0 | 1; -attempt second 1 failed; -canceled second; -dead second; -job second"
    ),
)
def jobs_that_were_pruned_and_are_back_are_removed(bench: Bench) -> str:
    for name in ("second", "fifth"):
        end(bench, name, "failed")
        _die(bench, name)
        cancel(bench, name, OLD)
    identity = (
        "update pgflow.database_identity set load_began = {}, load_pruned_until = {}"
    )
    bench.sql(identity.format("pg_current_xact_id()", f"'{JOB['fourth']}'"))
    bench.sql(
        "update pgflow.jobs set priority = priority"
        f" where id in ('{JOB['second']}', '{JOB['fifth']}')"
    )
    bench.sql(
        "create table trial.identity as select table_oid from pgflow.database_identity"
    )
    try:
        bench.sql("update pgflow.database_identity set table_oid = 1")
        elsewhere = _count(bench, "remove_reloaded_jobs")
        bench.sql(
            "update pgflow.database_identity"
            " set table_oid = (select table_oid from trial.identity)"
        )
        return f"{elsewhere} | {_count(bench, 'remove_reloaded_jobs')}"
    finally:
        bench.sql("drop table trial.identity")
        bench.sql(identity.format("null", "null"))


def _wait(bench: Bench, name: str, rank: int, at: int, attempt_no: int = 0) -> None:
    """Let a job wait in one more place."""
    bench.sql(
        "insert into pgflow.pending (queue, rank, run_at, job_id, job_type, attempt_no)"
        f" values ('default', {rank}, '2024-06-0{at}', '{JOB.get(name, name)}', 'noop',"
        f" {attempt_no})"
    )


@told(
    "remove_second_entries",
    answer=(
        "8; -waits eighth default 0 0; -waits fifth default -5 0; -waits fourth "
        "default 0 1; -waits new default 0 0; -waits second default 0 0; -waits "
        "seventh default 0 0; -waits sixth default 3 0; -waits stranger default "
        "0 0"
    ),
)
def entries_that_a_dump_has_brought_back_are_removed(bench: Bench) -> str:
    bench.sql("delete from pgflow.pending")
    _hold(bench, "first", "fourth", attempt_nos="{1,5}")
    _wait(bench, "first", 0, 1, 1)
    _wait(bench, "fourth", 0, 1, 1)
    _wait(bench, LATER, 0, 1)
    for name, (rank, at), (other_rank, other_at), moved in (
        ("fifth", (-5, 3), (3, 3), True),
        ("sixth", (0, 1), (3, 3), False),
        ("seventh", (0, 1), (0, 2), True),
    ):
        _wait(bench, name, rank, at)
        _wait(bench, name, other_rank, other_at)
        if moved:
            bench.sql(
                "insert into pgflow.moved_jobs (job_id, rank, run_at, attempt_no)"
                f" values ('{JOB[name]}', {other_rank}, '2024-06-0{other_at}', 0)"
            )
    for table in ("pending", "moved_jobs"):
        bench.sql(
            f"update pgflow.{table} set run_at = '2124-06-02'"
            f" where job_id = '{JOB['seventh']}' and run_at = '2024-06-02'"
        )
    for name, status in (
        ("eighth", "succeeded"),
        ("second", "failed"),
        ("third", "failed"),
    ):
        _wait(bench, name, 0, 1, int(name == "third"))
        end(bench, name, status)
    _wait(bench, "stranger", 0, 1)
    cancel(bench, "stranger", OLD)
    _die(bench, "second")
    return _count(bench, "remove_second_entries")


@told(
    "remove_second_entries",
    answer=(
        "4; -waits first default 0 0; -waits second default 0 0; -waits stranger "
        "default 0 0; -waits third default 0 0"
    ),
)
def each_reason_to_remove_an_entry_is_one(bench: Bench) -> str:
    """Dead, canceled, tried, leased: one each, and one that has nothing of these."""
    bench.sql("delete from pgflow.pending")
    bench.sql(f"delete from pgflow.leases where lease_id = '{LEASE}'")
    for name in ("first", "second", "third", "stranger", "fifth"):
        _wait(bench, name, 0, 1)
    end(bench, "sixth", "failed", archive=True)
    together(bench, "seventh", "eighth")
    _die(bench, "first")
    cancel(bench, "second", OLD)
    end(bench, "third", "failed")
    return _count(bench, "remove_second_entries")


@told(
    "trim_interrupted_leases",
    answer=(
        "1; -lease first second third fourth fifth sixth {1,1,2,1,1,1}; +lease "
        "third sixth {2,1} | 0 | 0"
    ),
)
def leases_that_a_dump_has_brought_back_are_trimmed(bench: Bench) -> str:
    bench.fence()
    held = ("first", "second", "third", "fourth", "fifth", "sixth")
    _hold(bench, *held, attempt_nos="{1,1,2,1,1,1}")
    end(bench, "second")
    end(bench, "third", "failed")
    _die(bench, "fourth")
    cancel(bench, "fifth", OLD)
    end(bench, "stranger")
    end(bench, "seventh", "failed", archive=True)
    bench.sql("set session_replication_role = replica")
    bench.sql(f"delete from pgflow.jobs where id = '{JOB['first']}'")
    bench.sql("set session_replication_role = origin")
    for worker, heard in ((WORKER, "-1 hour"), (OTHER, "1 hour")):
        bench.sql(
            "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
            " lease_seconds, name, host, last_heartbeat) values"
            f" ('{worker}', gen_random_uuid(), 1, 1, 10, 'w', 'h',"
            f" now() + interval '{heard}')"
        )
    live = _count(bench, "trim_interrupted_leases")
    again = _count(bench, "trim_interrupted_leases")
    expire = "update pgflow.leases set expires_at = now() - interval '1 second'"
    bench.sql(f"{expire} where lease_id = '{FOREIGN}'")
    return f"{live} | {again} | {_count(bench, 'trim_interrupted_leases')}"


@told(
    "trim_interrupted_leases",
    answer=("0"),
)
def a_lease_that_lasts_is_not_trimmed(bench: Bench) -> str:
    end(bench, "stranger")
    return _count(bench, "trim_interrupted_leases")
