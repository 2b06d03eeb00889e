"""What single statements must do, in a small world: each scenario has one right end.

They are written so that each condition of each statement makes a difference to one of
them: `terms` takes the conditions away, one by one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import EndedJob, LeaseReply, Scan, Settlement, Suspect
from pgflow_cli.repository import Database, Repository
from tests.support.jobs import successes
from tests.trials import world
from tests.trials.world import FOREIGN, JOB, LEASE, OTHER, WORKER

Connection = psycopg.Connection[Any]

# What waits for a lock here has gone wrong.
_OPTIONS = "-c lock_timeout=300ms"
_OPERATOR = Operator("trial", "trial")
_NOBODY = "01900000-0000-7000-8000-0000000000ff"


@dataclass
class Bench:
    """A planted world, and the means to act in it. Each act is told as text."""

    url: str
    connection: Connection
    repository: Repository

    @classmethod
    def of(cls, url: str) -> Bench:
        """Return a bench on a migrated database of its own."""
        patient = make_conninfo(url, options=_OPTIONS)
        connection = psycopg.connect(patient, autocommit=True)
        return cls(url, connection, Repository.of(Database(patient)))

    def close(self) -> None:
        self.connection.close()
        self.repository.close()

    def sql(self, text: str) -> None:
        """Change the world behind the repository's back."""
        self.connection.execute(text.encode())

    def settle(self, *settlements: Settlement, **changes: Any) -> str:
        """Send a turn of the worker."""
        return self.told(
            self.repository.leases.settle_and_lease(
                world.cycle(*settlements, **changes)
            )
        )

    def lease(self, room: int = 10, **changes: Any) -> str:
        """Lease what may be leased."""
        return self.settle(room=room, **changes)

    def lease_limited(self, room: int = 5, **changes: Any) -> str:
        """Lease from the queue that has a limit."""
        fields = {"queues": [world.LIMITED], **changes}
        jobs = self.repository.leases.lease_limited(world.cycle(room=room, **fields))
        return _names(job.job_id for job in jobs)

    def fence(self) -> None:
        """Raise the fence."""
        self.sql(
            "update pgflow.database_identity set fenced_at = now(),"
            " fenced_by = 'trial', fence_reason = 'trial'"
        )

    def again(self, name: str, room: int = 10) -> tuple[str, Settlement]:
        """Lease a job that waits for its second attempt; return its success, too."""
        self.sql("update pgflow.pending set run_at = now() - interval '1 second'")
        reply = self.repository.leases.settle_and_lease(world.cycle(room=room))
        [job] = [job for job in reply.jobs if job.job_id == JOB[name]]
        told = f"{name} {job.failed_attempts} failed {job.lost_attempts} lost"
        return told, world.success(name, lease_id=job.lease_id, attempt_no=2)

    def second_lease(self) -> str:
        """Have the worker lease fifth and sixth; return the lease."""
        reply = self.repository.leases.settle_and_lease(world.cycle(room=2))
        return str(reply.jobs[0].lease_id)

    def pass_time(self, seconds: float) -> None:
        """Let the repository's transaction grow older: its now() stays."""
        self.repository.link.raw().execute("select pg_sleep(%s)", (seconds,))

    @contextmanager
    def locked(self, text: str) -> Iterator[None]:
        """Hold the locks of a statement meanwhile."""
        with psycopg.connect(self.url) as other:
            other.execute(text.encode())
            yield
            other.rollback()

    @staticmethod
    def told(reply: LeaseReply) -> str:
        jobs = _names(job.job_id for job in reply.jobs)
        told = [f"leased {jobs}"] if jobs else []
        told += [f"lost {_names(reply.lost)}"] if reply.lost else []
        if reply.limited_waiting:
            told.append(f"limited {reply.limited_open} of {reply.limited_waiting}")
        return ", ".join(told)


@dataclass(frozen=True)
class Scenario:
    """What is done, what it answers, and what is different afterwards; None: that is
    in the answer.
    """

    act: Callable[[Bench], str]
    of: frozenset[str]
    answer: str
    places: dict[str, str] | None
    leases: str

    @property
    def name(self) -> str:
        return self.act.__name__

    def wrong(self, bench: Bench) -> str:
        """Act it out; return how its end differs from the right one, or nothing."""
        world.plant(bench.connection)
        found: list[object] = [_answer(self.act, bench)]
        right: list[object] = [self.answer]
        if self.places is not None:
            found += _differences(bench)
            right += [self.places, self.leases]
        return "" if found == right else f"{found} instead of {right}"


def _answer(act: Callable[[Bench], str], bench: Bench) -> str:
    try:
        return act(bench)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _differences(bench: Bench) -> tuple[dict[str, str], str]:
    """Return the places that are not as they were planted, and the leases."""
    after = world.describe(bench.connection)
    names = sorted(world.PLANTED.keys() | after.keys())
    places = {
        name: after.get(name, "nowhere")
        for name in names
        if after.get(name) != world.PLANTED.get(name)
    }
    return places, world.describe_leases(bench.connection)


def _names(job_ids: Iterable[str]) -> str:
    """Return names in the order of the world, whatever order they came in."""
    return " ".join(world.name_of(job_id) for job_id in sorted(job_ids))


def _ended(jobs: Iterable[EndedJob]) -> str:
    return ", ".join(
        world.name_of(job.job_id)
        + ("" if job.started else " unstarted")
        + (" dead" if job.dead_lettered else "")
        for job in jobs
    )


SCENARIOS: list[Scenario] = []


def scenario(
    *of: str,
    answer: str = "",
    places: str | None = "",
    leases: str = "1 live, 4 expired",
) -> Callable[[Callable[[Bench], str]], Callable[[Bench], str]]:
    """Register a scenario of some statements. `places`: `name: where; name: where`."""

    expected = None
    if places is not None:
        expected = dict(pair.split(": ") for pair in places.split("; ") if pair)

    def register(act: Callable[[Bench], str]) -> Callable[[Bench], str]:
        SCENARIOS.append(Scenario(act, frozenset(of), answer, expected, leases))
        return act

    return register


# Settling.

CYCLE = "settle_and_lease"


@scenario(
    CYCLE,
    places=(
        "first: succeeded 1; fourth: pending 0; second: failed 1, later 1; "
        "third: failed 1, dead NON_RETRYABLE"
    ),
    leases="0 expired, 1 live",
)
def outcomes_of_every_kind(bench: Bench) -> str:
    return bench.settle(
        world.success("first"),
        world.retry("second"),
        world.death("third"),
        world.unstarted("fourth"),
    )


@scenario(CYCLE, places="first: released 1, pending 1", leases="1 live, 3 expired")
def a_released_job_waits(bench: Bench) -> str:
    return bench.settle(world.success("first", status="released", delay=0.0))


@scenario(CYCLE, answer="lost first")
def another_worker_settles_nothing(bench: Bench) -> str:
    return bench.settle(world.success("first"), worker_id=OTHER)


@scenario(CYCLE, answer="lost stranger")
def the_lease_of_another_worker_settles_nothing(bench: Bench) -> str:
    return bench.settle(world.success("stranger"))


@scenario(
    CYCLE, answer="lost first", places="first: succeeded 1", leases="1 live, 3 expired"
)
def another_attempt_settles_nothing(bench: Bench) -> str:
    return bench.settle(world.success("first"), world.success("first", attempt_no=2))


@scenario(
    CYCLE,
    places="first: succeeded 1; second: failed 1, later 1",
    leases="1 live, 2 expired",
)
def what_is_sent_again_is_known(bench: Bench) -> str:
    outcomes = [world.success("first"), world.retry("second")]
    return bench.settle(*outcomes) + bench.settle(*outcomes)


@scenario(
    CYCLE,
    answer="lost first",
    places="first: failed 1, later 1",
    leases="1 live, 3 expired",
)
def another_outcome_of_a_settled_attempt_is_lost(bench: Bench) -> str:
    return bench.settle(world.retry("first")) + bench.settle(world.success("first"))


@scenario(
    CYCLE, answer="lost first", places="first: succeeded 1", leases="1 live, 3 expired"
)
def an_attempt_settled_under_another_lease_is_lost(bench: Bench) -> str:
    _attempt_under(bench, FOREIGN)
    return bench.settle(world.success("first"))


def _attempt_under(bench: Bench, lease_id: str, status: str = "succeeded") -> None:
    bench.sql(
        "update pgflow.leases set job_ids = job_ids[2:], attempt_nos = attempt_nos[2:]"
        f" where lease_id = '{LEASE}'"
    )
    if status == "succeeded":
        one = f"select '{JOB['first']}'::uuid as job_id"
        bench.sql(successes(one, lease_id=f"'{lease_id}'::uuid"))
        return
    bench.sql(
        "insert into pgflow.job_attempts (job_id, lease_id, started_at, attempt_no,"
        f" status, worker_name) values ('{JOB['first']}', '{lease_id}', now(), 1,"
        f" '{status}', 'worker-2')"
    )


@scenario(CYCLE, answer="lost stranger", places="second: failed 1, leased 1")
def another_failure_under_its_lease_does_not_answer_for_a_job(bench: Bench) -> str:
    """Neither one that is kept in the archive."""
    for table, name in (("job_attempts", "second"), ("job_attempts_archive", "third")):
        bench.sql(
            f"insert into pgflow.{table} (job_id, lease_id, started_at, attempt_no,"
            f" status, worker_name) values ('{JOB[name]}', '{FOREIGN}', now(), 1,"
            " 'failed', 'worker-2')"
        )
    return bench.settle(world.retry("stranger"))


@scenario(
    CYCLE, answer="lost first", places="first: failed 1", leases="1 live, 3 expired"
)
def a_failure_under_another_lease_does_not_answer_for_a_job(bench: Bench) -> str:
    _attempt_under(bench, FOREIGN, "failed")
    return bench.settle(world.retry("first"))


@scenario(
    CYCLE,
    answer="lost first",
    places="first: failed 1, later 1",
    leases="1 live, 3 expired",
)
def an_older_failure_does_not_answer_for_a_newer_attempt(bench: Bench) -> str:
    bench.settle(world.retry("first"))
    return bench.settle(world.retry("first", attempt_no=2))


@scenario(
    CYCLE,
    answer="lost second third fourth",
)
def nothing_is_written_of_what_finds_no_lease(bench: Bench) -> str:
    gone = {"lease_id": str(uuid.UUID(int=1))}
    return bench.settle(
        world.retry("second", **gone),
        world.unstarted("third", **gone),
        world.success("fourth", **gone),
    )


@scenario("finish_turn", answer="another statement has settled jobs of the same lease")
def what_is_not_in_its_lease_is_not_settled(bench: Bench) -> str:
    try:
        bench.sql(
            f"select pgflow.finish_turn(array['{LEASE}']::uuid[],"
            f" array['{JOB['first']}', '{JOB['fifth']}']::uuid[], '{{}}',"
            f" '{WORKER}', null)"
        )
    except psycopg.errors.SerializationFailure as error:
        return str(error.diag.message_primary)
    return "settled"


@scenario(
    CYCLE,
    answer="lost second",
    places=(
        "first: succeeded 1; fourth: pending 0; second: pending 0; third: pending 0"
    ),
    leases="1 live",
)
def an_attempt_of_a_lease_that_is_gone_is_lost(bench: Bench) -> str:
    bench.settle(world.success("first"))
    bench.sql(f"delete from pgflow.leases where lease_id = '{LEASE}'")
    bench.sql(
        "insert into pgflow.pending (queue, rank, run_at, job_id, job_type)"
        " select queue, 0, run_at, id, job_type from pgflow.jobs where id in"
        f" ('{JOB['second']}', '{JOB['third']}', '{JOB['fourth']}')"
    )
    return bench.settle(world.success("second"))


@scenario(
    CYCLE,
    answer="second 1 failed 0 lost",
    places=(
        "fifth: leased 1; first: succeeded 1; second: failed 1, succeeded 2; "
        "sixth: leased 1"
    ),
    leases="1 live, 2 expired, 2 live",
)
def a_second_attempt_is_settled(bench: Bench) -> str:
    bench.settle(world.retry("second"))
    told, outcome = bench.again("second")
    bench.settle(world.success("first"), outcome)
    return told


@scenario(
    CYCLE, answer="lost first", places="first: succeeded 1", leases="1 live, 3 expired"
)
def an_older_outcome_does_not_answer_for_a_newer_attempt(bench: Bench) -> str:
    bench.settle(world.success("first"))
    return bench.settle(world.success("first", attempt_no=2))


# Giving back.


@scenario(CYCLE, places="third: pending 0", leases="1 live, 3 expired")
def what_is_given_back_twice_waits_once(bench: Bench) -> str:
    bench.settle(world.unstarted("third"))
    bench.settle(world.unstarted("third"))
    return ""


@scenario(
    CYCLE,
    answer="lost first",
    places="first: succeeded 1; third: pending 0",
    leases="1 live, 2 expired",
)
def what_has_been_settled_is_not_given_back(bench: Bench) -> str:
    bench.settle(world.success("first"))
    return bench.settle(world.unstarted("first"), world.unstarted("third"))


@scenario(
    CYCLE,
    places="fifth: leased 1; second: failed 1, pending 1; sixth: leased 1",
    leases="1 live, 2 live, 3 expired",
)
def a_second_attempt_is_given_back(bench: Bench) -> str:
    bench.settle(world.retry("second"))
    _, outcome = bench.again("second")
    given = world.unstarted("second", lease_id=outcome.lease_id, attempt_no=2)
    return bench.settle(given)


@scenario(
    CYCLE, answer="lost third", places="third: pending 0", leases="1 live, 3 expired"
)
def giving_back_names_the_lease(bench: Bench) -> str:
    return bench.settle(
        world.unstarted("third"), world.unstarted("third", lease_id=_NOBODY)
    )


@scenario(
    CYCLE,
    places="fifth: succeeded 1; sixth: leased 1; third: pending 0",
    leases="1 live, 1 live, 3 expired",
)
def giving_back_leaves_other_leases_alone(bench: Bench) -> str:
    lease_id = bench.second_lease()
    return bench.settle(
        world.unstarted("third"), world.success("fifth", lease_id=lease_id)
    )


@scenario(
    CYCLE,
    places=(
        "fifth: leased 1; first: succeeded 1; fourth: succeeded 1; "
        "second: succeeded 1; sixth: leased 1; third: pending 0"
    ),
    leases="1 live, 2 live",
)
def a_lease_ends_with_its_last_job(bench: Bench) -> str:
    bench.second_lease()
    return bench.settle(
        world.success("first"),
        world.success("second"),
        world.unstarted("third"),
        world.success("fourth"),
        closed=[LEASE],
    )


@scenario(
    CYCLE,
    places="fifth: leased 1; first: succeeded 1; sixth: leased 1",
    leases="1 live, 2 live, 3 expired",
)
def settling_waits_for_no_other_lease(bench: Bench) -> str:
    lease_id = bench.second_lease()
    hold = f"select from pgflow.leases where lease_id = '{lease_id}' for update"
    with bench.locked(hold):
        return bench.settle(world.success("first"))


@scenario(
    CYCLE,
    places="fifth: leased 1; sixth: leased 1; third: pending 0",
    leases="1 live, 2 live, 3 expired",
)
def giving_back_waits_for_no_other_lease(bench: Bench) -> str:
    lease_id = bench.second_lease()
    hold = f"select from pgflow.leases where lease_id = '{lease_id}' for update"
    with bench.locked(hold):
        return bench.settle(world.unstarted("third"))


@scenario(
    CYCLE,
    "reprioritize_jobs",
    places="fifth: failed 1, later 1 rank -5; sixth: failed 1, later 1",
    leases="0 live, 1 live, 4 expired",
)
def a_new_priority_outlives_the_attempt(bench: Bench) -> str:
    bench.repository.jobs.reprioritize_jobs([JOB["fifth"]], priority=5)
    lease_id = bench.second_lease()
    return bench.settle(
        world.retry("fifth", lease_id=lease_id), world.retry("sixth", lease_id=lease_id)
    )


@scenario(
    CYCLE,
    answer="lost stranger",
    places="first: succeeded 1",
    leases="1 live, 3 expired",
)
def a_settled_job_does_not_answer_for_another(bench: Bench) -> str:
    return bench.settle(world.success("first"), world.success("stranger"))


@scenario(
    CYCLE,
    answer="written: False",
    places="fifth: leased 1; sixth: leased 1; third: pending 0",
    leases="1 live, 2 live, 3 expired",
)
def giving_back_does_not_write_other_leases(bench: Bench) -> str:
    lease_id = bench.second_lease()
    before = _version(bench, lease_id)
    other = world.success("fifth", lease_id=lease_id, attempt_no=7)
    bench.settle(world.unstarted("third"), other)
    return f"written: {before != _version(bench, lease_id)}"


# Closing.


@scenario(
    CYCLE,
    places="first: succeeded 1",
    leases="0 live, 1 live, 3 expired",
)
def an_empty_lease_stays_until_it_is_closed(bench: Bench) -> str:
    """So that its worker's heartbeat finds it."""
    lease_id = bench.second_lease()
    gone = [world.unstarted(n, lease_id=lease_id) for n in ("fifth", "sixth")]
    bench.settle(*gone)
    return bench.settle(world.success("first"), closed=[LEASE])


@scenario(
    CYCLE,
    places="first: succeeded 1; second: succeeded 1",
    leases="1 live, 2 expired",
)
def a_lease_with_an_unsettled_job_is_not_closed(bench: Bench) -> str:
    bench.settle(world.success("first"))
    return bench.settle(world.success("second"), closed=[LEASE])


@scenario(
    CYCLE,
    places=("fifth: succeeded 1; second: failed 1, leased 2; sixth: succeeded 1"),
    leases="1 live, 1 live, 3 expired",
)
def an_earlier_attempt_does_not_close_a_lease(bench: Bench) -> str:
    bench.settle(world.retry("second"))
    _, outcome = bench.again("second")
    lease_id = outcome.lease_id
    return bench.settle(
        world.success("fifth", lease_id=lease_id),
        world.success("sixth", lease_id=lease_id),
        closed=[lease_id],
    )


@scenario(
    CYCLE,
    places=(
        "first: succeeded 1; fourth: succeeded 1; second: succeeded 1; "
        "third: succeeded 1"
    ),
    leases="1 live",
)
def a_lease_is_closed_after_what_was_settled_before(bench: Bench) -> str:
    bench.settle(*(world.success(name) for name in ("first", "second", "third")))
    return bench.settle(world.success("fourth"), closed=[LEASE])


@scenario(
    CYCLE,
    places="fifth: succeeded 1; sixth: succeeded 1; third: pending 0",
    leases="1 live, 3 expired",
)
def one_lease_is_closed_while_another_gives_back(bench: Bench) -> str:
    lease_id = bench.second_lease()
    return bench.settle(
        world.unstarted("third"),
        world.success("fifth", lease_id=lease_id),
        world.success("sixth", lease_id=lease_id),
        closed=[lease_id],
    )


# Leaving a job behind, without an outcome.


@scenario(
    CYCLE,
    "lock_expired_leases",
    answer="first",
    places="first: lost 1, pending 1",
    leases="1 live, 3 live",
)
def what_is_left_is_reaped_while_its_mates_run(bench: Bench) -> str:
    _beat(bench, [LEASE])
    bench.settle(world.left("first"))
    return _reap(bench)


@scenario(CYCLE, leases="1 expired, 1 live, 3 expired")
def what_is_left_twice_is_left_once(bench: Bench) -> str:
    return bench.settle(world.left("first")) + bench.settle(world.left("first"))


@scenario(
    CYCLE,
    places="second: succeeded 1; third: succeeded 1; fourth: succeeded 1",
    leases="1 expired, 1 live",
)
def the_last_that_is_left_closes_its_lease(bench: Bench) -> str:
    return bench.settle(
        world.left("first"),
        *(world.success(name) for name in ("second", "third", "fourth")),
        closed=[LEASE],
    )


# Sending again.

AGAIN = "lock_leases"


@scenario(
    AGAIN,
    places="fifth: leased 1; first: succeeded 1; sixth: leased 1",
    leases="1 live, 2 live, 3 expired",
)
def a_repetition_waits_for_no_other_lease(bench: Bench) -> str:
    lease_id = bench.second_lease()
    hold = f"select from pgflow.leases where lease_id = '{lease_id}' for update"
    with bench.locked(hold):
        return bench.settle(world.success("first"), again=True)


@scenario(AGAIN, answer="lost stranger")
def a_repetition_waits_for_no_lease_of_another_worker(bench: Bench) -> str:
    hold = f"select from pgflow.leases where lease_id = '{FOREIGN}' for update"
    with bench.locked(hold):
        return bench.settle(world.success("stranger"), again=True)


def _version(bench: Bench, lease_id: str) -> object:
    text = f"select ctid::text from pgflow.leases where lease_id = '{lease_id}'"
    return _one(bench, text)


# Leasing.


def add_worker(
    bench: Bench,
    worker_id: str,
    *,
    idle: bool,
    quiet: bool = False,
    queues: str = "default",
) -> None:
    bench.sql(
        "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
        " lease_seconds, name, host, idle, quiet, queues) values"
        f" ('{worker_id}', gen_random_uuid(), 1, 1, 10, 'w', 'h', {idle}, {quiet},"
        f" '{{{queues}}}')"
    )


def _workers(bench: Bench) -> object:
    return _one(
        bench,
        "select string_agg(right(worker_id::text, 2) || ' ' || idle || ' '"
        " || (last_leased_at is not null), ', ' order by worker_id)"
        " from pgflow.workers",
    )


@scenario(CYCLE, answer="65 true true, 66 false false")
def a_worker_that_finds_nothing_is_idle(bench: Bench) -> str:
    add_worker(bench, WORKER, idle=False)
    add_worker(bench, OTHER, idle=False)
    bench.lease(queues=["emails"])
    return str(_workers(bench))


@scenario(
    CYCLE,
    answer="65 false true",
    places="fifth: leased 1; sixth: leased 1",
    leases="1 live, 2 live, 4 expired",
)
def a_worker_that_finds_something_is_not_idle(bench: Bench) -> str:
    add_worker(bench, WORKER, idle=True)
    bench.lease()
    return str(_workers(bench))


@scenario(
    CYCLE,
    answer="65 false false",
    places="first: succeeded 1",
    leases="1 live, 3 expired",
)
def a_worker_that_has_no_room_is_as_it_was(bench: Bench) -> str:
    add_worker(bench, WORKER, idle=False)
    bench.settle(world.success("first"))
    return str(_workers(bench))


@scenario(CYCLE, answer="65 true false")
def a_worker_that_stays_idle_is_not_written(bench: Bench) -> str:
    add_worker(bench, WORKER, idle=True)
    bench.lease(queues=["emails"])
    return str(_workers(bench))


@scenario(
    CYCLE,
    answer="leased fifth sixth, limited 1 of 1",
    places="fifth: leased 1; sixth: leased 1",
    leases="1 live, 2 live, 4 expired",
)
def what_waits_is_leased(bench: Bench) -> str:
    return bench.lease(queues=None)


@scenario(
    CYCLE,
    answer="leased fifth",
    places="fifth: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def no_more_than_the_room_is_leased(bench: Bench) -> str:
    return bench.lease(room=1)


@scenario(CYCLE)
def only_these_queues_are_leased_from(bench: Bench) -> str:
    return bench.lease(queues=["emails"])


@scenario(CYCLE)
def only_these_types_are_leased(bench: Bench) -> str:
    return bench.lease(queues=None, job_types=["other"])


@scenario(
    CYCLE, places="eighth: later 0; fifth: later 0; seventh: later 0; sixth: later 0"
)
def what_is_not_due_is_not_leased(bench: Bench) -> str:
    bench.sql("update pgflow.pending set run_at = now() + interval '1 hour'")
    return bench.lease(queues=None)


@scenario(
    CYCLE,
    answer="leased fifth",
    places="eighth: later 0; fifth: leased 1; seventh: later 0",
    leases="1 live, 1 live, 4 expired",
)
def a_limited_queue_where_nothing_is_due_is_not_asked(bench: Bench) -> str:
    bench.sql(
        "update pgflow.pending set run_at = now() + interval '1 hour'"
        f" where queue = '{world.LIMITED}'"
    )
    return bench.lease(queues=None, room=1)


@scenario(CYCLE, answer="limited 1 of 1")
def a_paused_queue_is_not_leased_from(bench: Bench) -> str:
    bench.sql(
        "insert into pgflow.queue_policies (queue, paused_until)"
        " values ('default', 'infinity')"
    )
    return bench.lease(queues=None)


@scenario(
    CYCLE,
    "lock_limited_queues",
    answer="leased fifth sixth / ",
    places="fifth: leased 1; sixth: leased 1",
    leases="1 live, 2 live, 4 expired",
)
def a_paused_limited_queue_is_not_asked(bench: Bench) -> str:
    bench.sql("update pgflow.queue_policies set paused_until = 'infinity'")
    return bench.lease(queues=None) + " / " + bench.lease_limited()


@scenario(CYCLE)
def without_room_nothing_is_looked_for(bench: Bench) -> str:
    return bench.lease(room=0, queues=None)


@scenario(
    CYCLE,
    answer="leased fifth, limited 1 of 1",
    places="fifth: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def a_policy_without_a_limit_is_none(bench: Bench) -> str:
    bench.sql(
        "insert into pgflow.queue_policies (queue, max_payload_bytes)"
        " values ('default', 1000)"
    )
    return bench.lease(queues=None, room=1)


@scenario(
    CYCLE,
    "lock_limited_queues",
    answer="leased fifth sixth, limited 0 of 1 / ",
    places="fifth: leased 1; sixth: leased 1",
    leases="1 live, 2 live, 4 expired",
)
def a_throttled_queue_waits(bench: Bench) -> str:
    bench.sql(
        "update pgflow.queue_policies set throttled_until = now() + interval '1 day'"
    )
    return bench.lease(queues=None) + " / " + bench.lease_limited()


@scenario(
    CYCLE,
    answer="leased fifth sixth",
    places="fifth: leased 1; sixth: leased 1",
    leases="1 live, 2 live, 4 expired",
)
def a_closed_queue_gives_nothing_ever(bench: Bench) -> str:
    bench.sql("update pgflow.queue_policies set max_in_flight = 0")
    return bench.lease(queues=None)


@scenario(CYCLE)
def what_was_held_up_for_half_a_lease_leases_nothing(bench: Bench) -> str:
    with bench.repository.transaction():
        bench.pass_time(0.1)
        return bench.lease(lease_seconds=0.1)


@scenario(CYCLE)
def nothing_is_leased_behind_the_fence(bench: Bench) -> str:
    bench.fence()
    return bench.lease()


@scenario(
    CYCLE,
    "reprioritize_jobs",
    answer="leased sixth",
    places="sixth: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def a_cursor_counts_for_its_rank_alone(bench: Bench) -> str:
    bench.repository.jobs.reprioritize_jobs([JOB["sixth"]], priority=5)
    cursors = {("default", 0): ("9000-01-01 00:00:00", JOB["eighth"])}
    return bench.lease(scan=Scan(cursors))


@scenario(CYCLE)
def a_cursor_of_another_queue_is_no_place(bench: Bench) -> str:
    cursors = {("default", 0): ("2000-01-01 00:00:00", JOB["first"])}
    return bench.lease(queues=["emails"], scan=Scan(cursors))


@scenario(
    CYCLE,
    answer="first 0 1, second 1 0, third 0 1, fourth 0 1, fifth 0 0, sixth 0 0",
    places=(
        "fifth: leased 1; first: lost 1, leased 2; fourth: lost 1, leased 2; "
        "second: failed 1, leased 2; sixth: leased 1; third: lost 1, leased 2"
    ),
    leases="1 live, 6 live",
)
def lost_and_failed_attempts_are_counted_apart(bench: Bench) -> str:
    bench.settle(world.retry("second"))
    bench.repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    bench.sql("update pgflow.pending set run_at = now() - interval '1 second'")
    jobs = bench.repository.leases.settle_and_lease(world.cycle(room=10)).jobs
    return ", ".join(
        f"{world.name_of(job.job_id)} {job.failed_attempts} {job.lost_attempts}"
        for job in jobs
    )


# Limits.

LIMITED = ("lock_limited_queues", "lease_limited")


@scenario(
    *LIMITED,
    answer="seventh / ",
    places="seventh: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def a_limit_holds(bench: Bench) -> str:
    return f"{bench.lease_limited()} / {bench.lease_limited()}"


@scenario(
    *LIMITED,
    answer="seventh / ",
    places="seventh: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def an_attempt_limit_holds(bench: Bench) -> str:
    bench.sql(
        "update pgflow.queue_policies"
        " set max_in_flight = null, max_attempts_per_minute = 1"
    )
    return f"{bench.lease_limited()} / {bench.lease_limited()}"


@scenario(
    *LIMITED, answer="0", places="seventh: leased 1", leases="1 live, 1 live, 4 expired"
)
def attempts_of_a_queue_without_that_limit_are_not_counted(bench: Bench) -> str:
    bench.lease_limited()
    return str(_one(bench, "select count(*) from pgflow.attempt_counters"))


@scenario(
    *LIMITED,
    answer="default default limited",
    places="seventh: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def attempts_are_remembered_for_two_minutes(bench: Bench) -> str:
    for queue in ("default", world.LIMITED):
        for age in ("1 hour", "10 seconds"):
            bench.sql(
                "insert into pgflow.attempt_counters (queue, second, count)"
                f" values ('{queue}', now() - interval '{age}', 1)"
            )
    bench.lease_limited()
    left = "select string_agg(queue, ' ' order by queue) from pgflow.attempt_counters"
    return str(_one(bench, left))


@scenario(
    *LIMITED,
    answer="[Decimal('1'), Decimal('1')]",
    places="seventh: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def a_spent_limit_is_written_down_once_a_second(bench: Bench) -> str:
    bench.sql(
        "update pgflow.queue_policies set throttle_delay_ms = 60000"
        f" where queue = '{world.LIMITED}'"
    )
    bench.sql(
        "insert into pgflow.queue_policies (queue, throttle_delay_ms)"
        " values ('default', 60000)"
    )
    bench.lease_limited()
    bench.sql("update pgflow.queue_policies set throttled_until = null where false")
    bench.sql(
        f"update pgflow.queue_policies set throttled_until = null"
        f" where queue = '{world.LIMITED}'"
    )
    bench.lease_limited()
    return str(
        _one(
            bench,
            "select array[(select sum(count) from pgflow.policy_decisions),"
            " (select count(*) from pgflow.queue_policies"
            " where throttled_until > now())]",
        )
    )


@scenario(
    *LIMITED,
    answer="None",
    places="seventh: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def without_a_delay_a_spent_limit_throttles_nothing(bench: Bench) -> str:
    bench.sql("update pgflow.queue_policies set throttle_delay_ms = 0")
    bench.lease_limited()
    until = "select throttled_until from pgflow.queue_policies"
    return str(_one(bench, until))


@scenario(
    *LIMITED,
    answer="seventh, 0 held up",
    places="seventh: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def a_limit_with_room_holds_nothing_up(bench: Bench) -> str:
    bench.sql("update pgflow.queue_policies set max_in_flight = 2")
    taken = bench.lease_limited(room=1)
    held = _one(bench, "select count(*) from pgflow.policy_decisions")
    return f"{taken}, {held} held up"


@scenario(
    *LIMITED,
    answer="seventh eighth, 0 held up",
    places="eighth: leased 1; seventh: leased 1",
    leases="1 live, 2 live, 4 expired",
)
def what_is_all_leased_is_not_held_up(bench: Bench) -> str:
    bench.sql("update pgflow.queue_policies set max_in_flight = 2")
    taken = bench.lease_limited()
    held = _one(bench, "select count(*) from pgflow.policy_decisions")
    return f"{taken}, {held} held up"


@scenario(
    *LIMITED,
    answer="fifth seventh, held up limited default",
    places="fifth: leased 1; seventh: leased 1",
    leases="1 live, 1 live, 1 live, 4 expired",
)
def two_limited_queues_are_counted_apart(bench: Bench) -> str:
    bench.sql(
        "insert into pgflow.queue_policies (queue, max_in_flight) values ('default', 6)"
    )
    told = bench.lease_limited(queues=None)
    [reason] = bench.connection.execute(
        "select string_agg(queue, ' ') from pgflow.policy_decisions"
    ).fetchall()
    return f"{told}, held up {reason[0]}"


@scenario(*LIMITED)
def only_these_limited_queues_are_leased_from(bench: Bench) -> str:
    return bench.lease_limited(queues=["default"])


@scenario(*LIMITED, answer=", 0 held up")
def only_these_types_of_a_limited_queue_are_leased(bench: Bench) -> str:
    taken = bench.lease_limited(job_types=["other"])
    held = _one(bench, "select count(*) from pgflow.policy_decisions")
    return f"{taken}, {held} held up"


@scenario(
    *LIMITED,
    answer=", 0 held up",
    places="eighth: later 0; fifth: later 0; seventh: later 0; sixth: later 0",
)
def what_is_not_due_in_a_limited_queue_is_not_leased(bench: Bench) -> str:
    bench.sql("update pgflow.pending set run_at = now() + interval '1 hour'")
    bench.sql("update pgflow.queue_policies set max_in_flight = 1")
    taken = bench.lease_limited()
    held = _one(bench, "select count(*) from pgflow.policy_decisions")
    return f"{taken}, {held} held up"


@scenario(
    *LIMITED,
    answer="seventh, 0 held up",
    places="eighth: later 0; seventh: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def what_waits_for_the_limit_may_not_be_due(bench: Bench) -> str:
    bench.sql(
        "update pgflow.pending set run_at = now() + interval '1 hour'"
        f" where job_id = '{JOB['eighth']}'"
    )
    taken = bench.lease_limited()
    held = _one(bench, "select count(*) from pgflow.policy_decisions")
    return f"{taken}, {held} held up"


@scenario("lease_limited")
def what_was_held_up_leases_from_no_limited_queue(bench: Bench) -> str:
    with bench.repository.transaction():
        bench.pass_time(0.1)
        return bench.lease_limited(lease_seconds=0.1)


@scenario(*LIMITED)
def behind_the_fence_a_limited_queue_gives_nothing(bench: Bench) -> str:
    bench.fence()
    return bench.lease_limited()


@scenario(
    *LIMITED,
    answer="5: 1 1",
    places="seventh: lost 1, failed 2, lost 3, released 4, leased 5",
    leases="1 live, 1 live, 4 expired",
)
def attempts_of_a_limited_queue_are_counted_apart(bench: Bench) -> str:
    _attempts(bench, "seventh", *_HISTORY)
    wanted = world.cycle(room=1, queues=[world.LIMITED])
    [job] = bench.repository.leases.lease_limited(wanted)
    return f"{job.attempt_no}: {job.failed_attempts} {job.lost_attempts}"


# One loss counts: the first was before an attempt that ended.
_HISTORY = ("lost", "failed", "lost", "released")


def _attempts(bench: Bench, name: str, *statuses: str) -> None:
    """Give a job that waits attempts that have ended so: a status, perhaps a code."""
    for attempt_no, told in enumerate(statuses, start=1):
        status, _, code = told.partition(" ")
        bench.sql(
            "insert into pgflow.job_attempts (job_id, lease_id, started_at,"
            " attempt_no, status, worker_name, error_code)"
            f" values ('{JOB[name]}', gen_random_uuid(), now(), {attempt_no},"
            f" '{status}', 'worker-2', nullif('{code}', ''))"
        )
    bench.sql(
        f"update pgflow.pending set attempt_no = {len(statuses)}"
        f" where job_id = '{JOB[name]}'"
    )


@scenario(
    CYCLE,
    answer="5: 1 1",
    places="fifth: lost 1, failed 2, lost 3, released 4, leased 5",
    leases="1 live, 1 live, 4 expired",
)
def losses_are_counted_since_an_attempt_that_ended(bench: Bench) -> str:
    _attempts(bench, "fifth", *_HISTORY)
    [job] = bench.repository.leases.settle_and_lease(world.cycle(room=1)).jobs
    return f"{job.attempt_no}: {job.failed_attempts} {job.lost_attempts}"


@scenario(
    CYCLE,
    places="third: later 0",
    leases="1 live, 3 expired",
)
def what_is_put_off_waits(bench: Bench) -> str:
    bench.settle(world.unstarted("third", delay=3600.0))
    return bench.lease(0)


# Taking over.

TAKE_OVER = "take_over_job"


def _suspect(name: str, **named: Any) -> Suspect:
    fields = {"worker_id": WORKER, "lease_id": LEASE, "job_id": JOB[name], **named}
    return Suspect(**fields, rank=0, run_at="2026-11-30 00:00:00")


def _take_over(bench: Bench, name: str, **named: Any) -> str:
    suspect = _suspect(name, **named)
    job = bench.repository.leases.take_over_job(world.cycle(worker_id=OTHER), suspect)
    return "" if job is None else f"{world.name_of(job.job_id)} {job.attempt_no}"


@scenario(TAKE_OVER, answer="third 1", leases="1 live, 1 live, 3 expired")
def a_job_is_taken_over(bench: Bench) -> str:
    hold = f"select from pgflow.leases where lease_id = '{FOREIGN}' for update"
    with bench.locked(hold):
        return _take_over(bench, "third")


@scenario(
    TAKE_OVER,
    answer='third resize {"of": "third"}',
    leases="1 live, 1 live, 3 expired",
)
def a_job_is_taken_over_as_it_was_enqueued(bench: Bench) -> str:
    bench.sql(
        """update pgflow.jobs set job_type = 'resize', payload = '{"of": "third"}'"""
        f" where id = '{JOB['third']}'"
    )
    cycle = world.cycle(worker_id=OTHER)
    job = bench.repository.leases.take_over_job(cycle, _suspect("third"))
    assert job is not None
    return f"{world.name_of(job.job_id)} {job.job_type} {job.payload}"


@scenario(TAKE_OVER)
def a_job_is_taken_over_from_its_worker_only(bench: Bench) -> str:
    return _take_over(bench, "third", worker_id=OTHER)


@scenario(TAKE_OVER)
def a_job_is_taken_over_from_its_lease_only(bench: Bench) -> str:
    return _take_over(bench, "stranger")


@scenario(TAKE_OVER, places="third: canceled 1, canceled", leases="1 live, 3 expired")
def a_canceled_job_is_not_taken_over(bench: Bench) -> str:
    with bench.repository.transaction():
        bench.repository.jobs.cancel_running_jobs(
            [JOB["third"]], operator=_OPERATOR, action_id=1
        )
    return _take_over(bench, "third")


@scenario(TAKE_OVER, places="third: succeeded 1", leases="1 live, 3 expired")
def a_settled_job_is_not_taken_over(bench: Bench) -> str:
    bench.settle(world.success("third"))
    return _take_over(bench, "third")


@scenario(
    TAKE_OVER,
    answer="second 1",
    leases="1 live, 1 live, 2 expired",
    places="first: succeeded 1",
)
def another_job_that_is_settled_is_no_reason(bench: Bench) -> str:
    bench.settle(world.success("first"))
    return _take_over(bench, "second")


@scenario(
    TAKE_OVER,
    answer="second 2",
    places="fifth: leased 1; second: failed 1, leased 2; sixth: leased 1",
    leases="1 live, 1 live, 2 live, 3 expired",
)
def a_second_attempt_is_taken_over(bench: Bench) -> str:
    bench.settle(world.retry("second"))
    _, outcome = bench.again("second")
    return _take_over(bench, "second", lease_id=outcome.lease_id)


@scenario(
    TAKE_OVER,
    places="fifth: leased 1; sixth: leased 1",
    leases="1 live, 2 live, 4 expired",
)
def a_job_of_another_lease_of_its_worker_is_not_taken_over(bench: Bench) -> str:
    bench.second_lease()
    return _take_over(bench, "fifth")


@scenario(
    TAKE_OVER,
    answer="5: 1 1",
    places=(
        "fifth: lost 1, failed 2, lost 3, released 4, leased 5; "
        "first: failed 1, later 1"
    ),
    leases="0 live, 1 live, 1 live, 3 expired",
)
def attempts_of_a_job_that_is_taken_over_are_counted_apart(bench: Bench) -> str:
    bench.settle(world.retry("first"))
    _attempts(bench, "fifth", *_HISTORY)
    [job] = bench.repository.leases.settle_and_lease(world.cycle(room=1)).jobs
    taken = bench.repository.leases.take_over_job(
        world.cycle(worker_id=OTHER), _suspect("fifth", lease_id=job.lease_id)
    )
    assert taken is not None
    return f"{taken.attempt_no}: {taken.failed_attempts} {taken.lost_attempts}"


@scenario(TAKE_OVER)
def nothing_is_taken_over_behind_the_fence(bench: Bench) -> str:
    bench.fence()
    return _take_over(bench, "third")


@scenario(
    *LIMITED,
    answer="3 taken, held up default",
    places="fifth: leased 1; second: failed 1, leased 2; seventh: leased 1",
    leases="1 live, 1 live, 2 live, 3 expired",
)
def each_limited_queue_is_held_up_by_its_own_jobs(bench: Bench) -> str:
    bench.settle(world.retry("second"))
    bench.sql("update pgflow.pending set run_at = now() - interval '1 second'")
    bench.sql("update pgflow.queue_policies set max_in_flight = 2")
    # Four run there already: three of the lease, and the stranger.
    bench.sql(
        "insert into pgflow.queue_policies (queue, max_in_flight) values ('default', 6)"
    )
    taken = bench.lease_limited(room=3, queues=None)
    held = "select string_agg(queue, ' ' order by queue) from pgflow.policy_decisions"
    return f"{len(taken.split())} taken, held up {_one(bench, held)}"


@scenario(
    *LIMITED,
    answer="seventh",
    places="seventh: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def a_queue_that_another_worker_asks_is_passed_over(bench: Bench) -> str:
    bench.sql(
        "insert into pgflow.queue_policies (queue, max_in_flight) values ('default', 6)"
    )
    hold = "select from pgflow.queue_policies where queue = 'default' for update"
    with bench.locked(hold):
        return bench.lease_limited(queues=None)


@scenario(
    *LIMITED,
    answer="seventh",
    places="seventh: leased 1",
    leases="1 live, 1 live, 4 expired",
)
def a_policy_without_a_limit_is_not_locked(bench: Bench) -> str:
    bench.sql(
        "insert into pgflow.queue_policies (queue, max_payload_bytes)"
        " values ('default', 1000)"
    )
    with bench.repository.transaction():
        taken = bench.lease_limited(queues=None)
        bench.sql(
            "update pgflow.queue_policies set max_payload_bytes = 2000"
            " where queue = 'default'"
        )
    return taken


@scenario(
    *LIMITED,
    answer="3: 2 0",
    places=(
        "first: failed 1, later 1; second: failed 1, later 1; seventh: failed 1, "
        "failed 2, leased 3"
    ),
    leases="1 live, 1 live, 2 expired",
)
def attempts_of_other_jobs_are_not_counted(bench: Bench) -> str:
    bench.settle(world.retry("first"), world.retry("second"))
    for attempt_no in (1, 2):
        bench.sql(
            "insert into pgflow.job_attempts (job_id, lease_id, started_at,"
            f" attempt_no, status, worker_name) values ('{JOB['seventh']}',"
            f" gen_random_uuid(), now(), {attempt_no}, 'failed', 'worker-2')"
        )
    bench.sql(
        f"update pgflow.pending set attempt_no = 2 where job_id = '{JOB['seventh']}'"
    )
    wanted = world.cycle(room=1, queues=[world.LIMITED])
    [job] = bench.repository.leases.lease_limited(wanted)
    return f"{job.attempt_no}: {job.failed_attempts} {job.lost_attempts}"


@scenario(
    *LIMITED, answer="0", places="seventh: leased 1", leases="1 live, 1 live, 4 expired"
)
def a_spent_limit_holds_up_only_what_this_worker_runs(bench: Bench) -> str:
    bench.lease_limited()
    bench.sql("delete from pgflow.policy_decisions")
    bench.lease_limited(job_types=["other"])
    return str(_one(bench, "select count(*) from pgflow.policy_decisions"))


def _one(bench: Bench, text: str) -> object:
    row = bench.connection.execute(text.encode()).fetchone()
    assert row is not None
    return row[0]


# Followers.

FOLLOWERS = "settle_and_enqueue"


def _follow(bench: Bench, outcome: Settlement, **changes: Any) -> str:
    jobs = bench.repository.leases.settle_and_enqueue(
        world.cycle(**changes),
        outcome,
        [{"job_type": "follower", "payload_json": {}}],
        max_payload_bytes=1000,
        max_enqueue_per_minute=0,
    )
    return "no lease" if jobs is None else f"{len(jobs)} followers"


@scenario(
    FOLLOWERS,
    answer="1 followers, 0 followers",
    places="first: succeeded 1; follower: pending 0",
    leases="1 live, 3 expired",
)
def a_success_brings_its_follower_once(bench: Bench) -> str:
    first = _follow(bench, world.success("first"))
    return f"{first}, {_follow(bench, world.success('first'))}"


@scenario(FOLLOWERS, answer="no lease")
def another_worker_brings_no_follower(bench: Bench) -> str:
    return _follow(bench, world.success("first"), worker_id=OTHER)


@scenario(FOLLOWERS, answer="no lease")
def another_attempt_brings_no_follower(bench: Bench) -> str:
    return _follow(bench, world.success("first", attempt_no=2))


@scenario(
    FOLLOWERS,
    answer="no lease",
    places="fifth: leased 1; sixth: leased 1",
    leases="1 live, 2 live, 4 expired",
)
def another_lease_brings_no_follower(bench: Bench) -> str:
    bench.second_lease()
    return _follow(bench, world.success("fifth"))


@scenario(
    FOLLOWERS,
    answer="no lease",
    places="second: succeeded 1",
    leases="1 live, 3 expired",
)
def the_success_of_another_job_is_none(bench: Bench) -> str:
    bench.settle(world.success("second"))
    return _follow(bench, world.success("first"), worker_id=OTHER)


@scenario(
    FOLLOWERS,
    answer="no lease",
    places="first: succeeded 1",
    leases="1 live, 3 expired",
)
def the_success_of_another_attempt_is_none(bench: Bench) -> str:
    bench.settle(world.success("first"))
    return _follow(bench, world.success("first", attempt_no=2))


@scenario(
    FOLLOWERS,
    answer="no lease",
    places="first: succeeded 1",
    leases="1 live, 3 expired",
)
def the_success_under_another_lease_is_none(bench: Bench) -> str:
    _attempt_under(bench, FOREIGN)
    return _follow(bench, world.success("first"))


@scenario(
    FOLLOWERS,
    answer="no lease",
    places="first: failed 1, later 1",
    leases="1 live, 3 expired",
)
def another_outcome_brings_no_follower(bench: Bench) -> str:
    bench.settle(world.retry("first"))
    return _follow(bench, world.success("first"))


# Heartbeats.

BEAT = "beat"


def _beat(bench: Bench, leases: list[str]) -> str:
    reply = bench.repository.leases.beat(**world.heartbeat(leases))
    told = [f"{len(reply.leases)} leases"]
    for jobs in reply.canceled.values():
        told.append(f"canceled {_names(jobs)}")
    return ", ".join([*told, *(f"{worker[-3:]} quiet" for worker in reply.quiet)])


@scenario(
    BEAT,
    answer="1 leases",
    places="fifth: leased 1; sixth: leased 1",
    leases="1 expired, 2 live, 4 expired",
)
def a_heartbeat_extends_what_it_names(bench: Bench) -> str:
    lease_id = bench.second_lease()
    bench.sql("update pgflow.leases set expires_at = now() where queue = 'default'")
    return _beat(bench, [lease_id])


@scenario("lock_leases_to_extend", answer="1 leases", leases="1 live, 4 live")
def a_heartbeat_waits_for_no_other_lease(bench: Bench) -> str:
    hold = f"select from pgflow.leases where lease_id = '{FOREIGN}' for update"
    with bench.locked(hold):
        return _beat(bench, [LEASE])


@scenario(BEAT, answer="0 leases")
def a_heartbeat_of_nothing_extends_nothing(bench: Bench) -> str:
    return _beat(bench, [])


@scenario(
    BEAT,
    answer="1 leases, 3 jobs",
    places="first: succeeded 1",
    leases="1 live, 3 live",
)
def a_heartbeat_drops_what_is_settled(bench: Bench) -> str:
    bench.settle(world.success("first"))
    told = _beat(bench, [LEASE])
    kept = "select job_ids from pgflow.leases where expires_at < now() + '1 minute'"
    held = _one(bench, kept)
    assert isinstance(held, list)
    return f"{told}, {len(held)} jobs"


@scenario(
    BEAT,
    answer="1 leases",
    places="fifth: leased 1; second: failed 1, leased 2; sixth: leased 1",
    leases="1 live, 3 expired, 3 live",
)
def a_heartbeat_keeps_a_second_attempt(bench: Bench) -> str:
    bench.settle(world.retry("second"))
    _, outcome = bench.again("second")
    return _beat(bench, [outcome.lease_id])


@scenario(
    BEAT,
    "cancel_running_jobs",
    "cancel_waiting_jobs",
    "lock_leases_of_jobs",
    answer="1 leases, canceled first",
    places=(
        "fifth: canceled; first: canceled 1, canceled; stranger: canceled 1, canceled"
    ),
    leases="0 live, 3 live",
)
def a_heartbeat_hears_of_its_canceled_jobs(bench: Bench) -> str:
    wanted = [JOB["first"], JOB["stranger"], JOB["fifth"]]
    with bench.repository.transaction():
        bench.repository.jobs.cancel_running_jobs(
            wanted, operator=_OPERATOR, action_id=1
        )
    bench.repository.jobs.cancel_waiting_jobs(wanted, operator=_OPERATOR, action_id=1)
    return _beat(bench, [LEASE])


@scenario(BEAT, answer="0 leases / 0 leases, 065 quiet")
def a_heartbeat_hears_that_its_worker_is_to_be_quiet(bench: Bench) -> str:
    before = _beat(bench, [])
    bench.sql("update pgflow.workers set quiet = true")
    return f"{before} / {_beat(bench, [])}"


@scenario(BEAT, answer="065 quiet")
def a_new_process_is_as_quiet_as_its_supervisor_believes(bench: Bench) -> str:
    """Whatever other processes are known."""
    add_worker(bench, OTHER, idle=False)
    asked = dict(world.heartbeat([]))
    asked["workers"] = [{**asked["workers"][0], "quiet": True}]
    reply = bench.repository.leases.beat(**asked)
    return ", ".join(f"{worker[-3:]} quiet" for worker in reply.quiet)


# Ending leases.

REAP = ("lock_expired_leases", "end_leases")
END = ("lock_worker_leases", "end_leases")


def _reap(bench: Bench, crash_budget: int = 3, **which: Any) -> str:
    return _ended(
        bench.repository.unsettled_leases.reap_expired_locks(
            limit=10, crash_budget=crash_budget, **which
        )
    )


def _end_worker(
    bench: Bench, *started: str, crash_budget: int = 3, only: list[str] | None = None
) -> str:
    return _ended(
        bench.repository.unsettled_leases.end_worker(
            WORKER,
            status="lost",
            started=[(JOB[name], 1) for name in started],
            crash_budget=crash_budget,
            error_code="WORKER_LOST",
            error_message="exit code 9",
            only=only,
        )
    )


@scenario(
    *REAP,
    answer="second, third, fourth",
    places=(
        "first: succeeded 1; fourth: lost 1, pending 1; second: lost 1, pending 1; "
        "third: lost 1, pending 1"
    ),
    leases="1 live",
)
def what_has_run_out_is_reaped(bench: Bench) -> str:
    bench.settle(world.success("first"))
    return _reap(bench)


@scenario(
    *REAP,
    answer="stranger",
    places="stranger: lost 1, pending 1",
    leases="4 expired",
)
def only_these_are_reaped(bench: Bench) -> str:
    _expire_all(bench)
    return _reap(bench, only=[FOREIGN])


@scenario(
    *REAP,
    answer="stranger",
    places="stranger: lost 1, pending 1",
    leases="4 expired",
)
def what_is_passed_over_is_not_reaped(bench: Bench) -> str:
    _expire_all(bench)
    return _reap(bench, passed_over=[LEASE])


@scenario(*REAP)
def nothing_is_reaped_behind_the_fence(bench: Bench) -> str:
    bench.fence()
    return _reap(bench)


@scenario(
    *REAP,
    answer="first, second, third, fourth, fifth, sixth, stranger",
    places=(
        "fifth: lost 1, pending 1; first: lost 1, pending 1; fourth: lost 1, "
        "pending 1; second: failed 1, lost 2, pending 2; sixth: lost 1, pending 1; "
        "stranger: lost 1, pending 1; third: lost 1, pending 1"
    ),
    leases="",
)
def a_second_attempt_is_reaped(bench: Bench) -> str:
    bench.settle(world.retry("second"))
    bench.again("second")
    bench.sql("update pgflow.leases set expires_at = now() - interval '1 second'")
    return _reap(bench)


@scenario(
    *REAP,
    answer="fifth",
    places="fifth: lost 1, failed 2, lost 3, released 4, lost 5, pending 5",
    leases="1 live, 4 expired",
)
def losses_before_an_attempt_that_ended_condemn_no_job(bench: Bench) -> str:
    _attempts(bench, "fifth", *_HISTORY)
    return _reap_leased(bench)


def _reap_leased(bench: Bench, **how: Any) -> str:
    """Lease the next job, and reap its lease."""
    [job] = bench.repository.leases.settle_and_lease(world.cycle(room=1)).jobs
    bench.sql(
        "update pgflow.leases set expires_at = now() - interval '1 second'"
        f" where lease_id = '{job.lease_id}'"
    )
    return _reap(bench, only=[job.lease_id], **how)


@scenario(
    *REAP,
    answer="second, third dead, fourth, fifth, sixth, stranger",
    places=(
        "fifth: lost 1, pending 1; first: succeeded 1; fourth: lost 1, released 2, "
        "pending 2; second: failed 1, lost 2, pending 2; sixth: lost 1, "
        "pending 1; stranger: lost 1, pending 1; third: lost 1, lost 2, "
        "dead CRASH_LOOP"
    ),
    leases="",
)
def a_spent_crash_budget_makes_a_dead_letter_of_what_ran_apart(bench: Bench) -> str:
    bench.settle(world.retry("second"), world.success("first"))
    bench.repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    bench.again("second")
    _run_apart(bench, "third")
    bench.sql("update pgflow.leases set expires_at = now() - interval '1 second'")
    return _reap(bench, crash_budget=2)


def _run_apart(bench: Bench, name: str) -> None:
    """Name the batch of a job after it, as a spare process does."""
    bench.sql(
        f"update pgflow.leases set batch_id = '{JOB[name]}'"
        f" where job_ids @> array['{JOB[name]}'::uuid]"
    )


@scenario(
    *REAP,
    answer="fifth / fifth dead",
    places=(
        "fifth: released 1, failed 2, lost 3, released 4, released 5, released 6, "
        "lost 7, dead CRASH_LOOP; sixth: nowhere"
    ),
    leases="1 live, 4 expired",
)
def what_waits_to_run_apart_is_spared_as_often_as_the_budget_says(bench: Bench) -> str:
    # Neither what was spared before it failed nor what a worker has released counts.
    spared = "released WORKER_LOST"
    _attempts(bench, "fifth", spared, "failed", "lost WORKER_LOST", spared, "released")
    told = _reap_leased(bench, crash_budget=2)
    bench.sql(f"delete from pgflow.pending where job_id = '{JOB['sixth']}'")
    return told + " / " + _reap_leased(bench, crash_budget=2)


@scenario(
    *END,
    answer="first, second, fourth unstarted",
    places=(
        "first: lost 1, pending 1; fourth: pending 0; second: lost 1, pending 1; "
        "third: succeeded 1"
    ),
    leases="1 live",
)
def a_dead_worker_loses_what_it_had_started(bench: Bench) -> str:
    bench.settle(world.success("third"))
    return _end_worker(bench, "first", "second")


@scenario(
    *END,
    answer="first dead, second unstarted, third unstarted, fourth unstarted",
    places=(
        "first: lost 1, dead CRASH_LOOP; fourth: pending 0; second: pending 0; "
        "third: pending 0"
    ),
    leases="1 live",
)
def a_spent_crash_budget_condemns_what_had_started(bench: Bench) -> str:
    return _end_worker(bench, "first", crash_budget=1)


@scenario(
    *END,
    answer="fifth dead of 2",
    places="fifth: lost 1, lost 2, dead CRASH_LOOP",
    leases="1 live, 4 expired",
)
def what_is_known_to_have_started_has_not_waited(bench: Bench) -> str:
    _attempts(bench, "fifth", "lost")
    lease_id = bench.second_lease()
    ended = bench.repository.unsettled_leases.end_worker(
        WORKER,
        status="lost",
        started=[(JOB["fifth"], 2)],
        crash_budget=2,
        error_code="WORKER_LOST",
        error_message="exit code 9",
        only=[lease_id],
    )
    return f"{_ended(ended[:1])} of {len(ended)}"


@scenario(
    *REAP,
    answer="fifth dead",
    places="fifth: lost 1, dead CRASH_LOOP",
    leases="1 live, 4 expired",
)
def with_a_budget_of_one_no_job_waits_to_run_apart(bench: Bench) -> str:
    return _reap_leased(bench, crash_budget=1)


@scenario(
    *END,
    answer="fifth, sixth unstarted",
    places="fifth: lost 1, pending 1",
    leases="1 live, 4 expired",
)
def only_these_leases_of_a_dead_worker_end(bench: Bench) -> str:
    lease_id = bench.second_lease()
    return _end_worker(bench, "first", "fifth", only=[lease_id])


@scenario(*END)
def behind_the_fence_a_dead_worker_keeps_its_leases(bench: Bench) -> str:
    bench.fence()
    return _end_worker(bench, "first")


@scenario(
    *END,
    answer="True",
    places=(
        "first: pending 0; fourth: pending 0; second: failed 1, later 1; "
        "third: pending 0"
    ),
    leases="1 live",
)
def what_had_not_started_keeps_its_turn(bench: Bench) -> str:
    bench.settle(world.retry("second"))
    bench.sql(
        "update pgflow.pending set run_at = run_at - interval '1 hour'"
        f" where job_id = '{JOB['second']}'"
    )
    bench.again("second")
    bench.repository.unsettled_leases.end_worker(
        WORKER,
        status="lost",
        started=[],
        crash_budget=3,
        error_code="WORKER_LOST",
        error_message="exit code 9",
    )
    # Where its retry stood, not where the job was when it was enqueued.
    ahead = (
        "select next_run_at = run_at from pgflow.pending"
        " join pgflow.job_attempts using (job_id)"
    )
    return str(_one(bench, ahead))


@scenario(
    *END,
    answer="1",
    places=(
        "first: pending 0; fourth: pending 0; second: failed 1, failed 2, later 2; "
        "third: pending 0"
    ),
    leases="1 live",
)
def a_third_attempt_keeps_the_turn_of_its_second(bench: Bench) -> str:
    bench.settle(world.retry("second", delay=7200.0))
    _, outcome = bench.again("second")
    bench.settle(outcome._replace(status="failed", delay=60.0, failed_attempts=2))
    bench.sql("update pgflow.pending set run_at = now() - interval '1 second'")
    bench.lease()
    _end_worker(bench)
    ahead = (
        "select count(*) from pgflow.pending join pgflow.job_attempts"
        " using (job_id, attempt_no) where attempt_no = 2 and next_run_at = run_at"
    )
    return str(_one(bench, ahead))


def _given_back(bench: Bench, worker_id: str, *batches: str) -> str:
    ended, found = bench.repository.unsettled_leases.give_back_batches(
        worker_id, batches
    )
    return f"{_ended(ended)} of {len(found)}"


@scenario(
    *END,
    answer="first unstarted, second unstarted, third unstarted, fourth unstarted of 1",
    places=(
        "fifth: leased 1; first: pending 0; fourth: pending 0; second: pending 0; "
        "sixth: leased 1; third: pending 0"
    ),
    leases="1 live, 2 live",
)
def a_batch_is_given_back_alone(bench: Bench) -> str:
    bench.second_lease()
    return _given_back(bench, WORKER, world.BATCH)


@scenario(*END, answer=" of 0")
def a_batch_of_another_worker_stays(bench: Bench) -> str:
    return _given_back(bench, OTHER, world.BATCH)


@scenario(
    *REAP,
    answer="1",
    places=(
        "fifth: lost 1, released 2, pending 2; first: lost 1, released 2, "
        "pending 2; fourth: lost 1, released 2, pending 2; "
        "second: failed 1, lost 2, lost 3, dead CRASH_LOOP; sixth: lost 1, "
        "released 2, pending 2; stranger: lost 1, released 2, pending 2; "
        "third: lost 1, released 2, pending 2"
    ),
    leases="",
)
def a_dead_letter_counts_what_failed(bench: Bench) -> str:
    bench.settle(world.retry("second"))
    for budget in (3, 2):
        bench.again("second")
        _run_apart(bench, "second")
        bench.sql("update pgflow.leases set expires_at = now() - interval '1 second'")
        _reap(bench, crash_budget=budget)
    text = "select failed_attempts from pgflow.dead_letters where job_id = '{}'"
    return str(_one(bench, text.format(JOB["second"])))


@scenario(
    *REAP,
    "reprioritize_jobs",
    answer="first, second, third, fourth, fifth, sixth, stranger",
    places=(
        "fifth: lost 1, pending 1 rank -5; first: lost 1, pending 1; "
        "fourth: lost 1, pending 1; second: lost 1, pending 1; sixth: lost 1, "
        "pending 1; stranger: lost 1, pending 1; third: lost 1, pending 1"
    ),
    leases="",
)
def what_was_moved_goes_back_to_where_it_was_moved(bench: Bench) -> str:
    bench.repository.jobs.reprioritize_jobs([JOB["fifth"]], priority=5)
    bench.second_lease()
    bench.sql("update pgflow.leases set expires_at = now() - interval '1 second'")
    return _reap(bench)


ACCEPT = ("lock_interrupted_leases", "end_leases")


def _accept(bench: Bench, **fate: Any) -> str:
    return _ended(
        bench.repository.unsettled_leases.end_interrupted_leases(
            error_message="restored", **fate
        )
    )


def _expire_all(bench: Bench) -> None:
    bench.sql("update pgflow.leases set expires_at = now() - interval '1 second'")


@scenario(
    *ACCEPT,
    answer="stranger",
    places="stranger: released 1, pending 1",
    leases="4 expired",
)
def what_was_interrupted_is_requeued(bench: Bench) -> str:
    _expire_all(bench)
    bench.fence()
    _beat(bench, [])
    return _accept(bench, status="released", error_code=None)


@scenario(
    *ACCEPT,
    answer="second dead, third dead, fourth dead",
    places=(
        "first: succeeded 1; fourth: lost 1, dead RESTORED; second: lost 1, "
        "dead RESTORED; third: lost 1, dead RESTORED"
    ),
    leases="1 live",
)
def what_was_interrupted_is_buried(bench: Bench) -> str:
    bench.settle(world.success("first"))
    return _accept(bench, status="lost", error_code="WORKER_LOST", bury_as="RESTORED")


@scenario(
    *ACCEPT,
    answer="first, second, third, fourth",
    places=(
        "first: canceled 1, canceled; fourth: canceled 1, canceled; "
        "second: canceled 1, canceled; third: canceled 1, canceled"
    ),
    leases="1 live",
)
def what_was_interrupted_is_canceled(bench: Bench) -> str:
    _beat(bench, [])
    bench.fence()
    return _accept(bench, status="canceled", error_code=None, canceled_by="trial")


# What operators do to jobs.

CANCEL = ("lock_leases_of_jobs", "cancel_running_jobs")


def _cancel_running(bench: Bench, *names: str) -> str:
    with bench.repository.transaction():
        wanted = [JOB[name] for name in names]
        done = bench.repository.jobs.cancel_running_jobs(
            wanted, operator=_OPERATOR, action_id=1
        )
    return _names(done)


@scenario(
    *CANCEL,
    answer="first third",
    places=(
        "fifth: leased 1; first: canceled 1, canceled; sixth: leased 1; "
        "third: canceled 1, canceled"
    ),
    leases="1 live, 2 expired, 2 live",
)
def a_running_job_is_canceled_alone(bench: Bench) -> str:
    bench.second_lease()
    return _cancel_running(bench, "first", "third", "eighth")


@scenario(*CANCEL, places="first: succeeded 1", leases="1 live, 3 expired")
def a_settled_job_is_not_canceled(bench: Bench) -> str:
    bench.settle(world.success("first"))
    return _cancel_running(bench, "first")


@scenario(
    *CANCEL,
    answer="first",
    places="first: canceled 1, canceled",
    leases="1 live, 3 expired",
)
def canceling_waits_for_no_other_lease(bench: Bench) -> str:
    hold = f"select from pgflow.leases where lease_id = '{FOREIGN}' for update"
    with bench.locked(hold):
        return _cancel_running(bench, "first")


@scenario(
    *CANCEL,
    answer="first, written: False",
    places="fifth: succeeded 1; first: canceled 1, canceled; sixth: leased 1",
    leases="1 live, 1 live, 3 expired",
)
def canceling_does_not_write_leases_of_settled_jobs(bench: Bench) -> str:
    lease_id = bench.second_lease()
    bench.settle(world.success("fifth", lease_id=lease_id))
    before = _version(bench, lease_id)
    told = _cancel_running(bench, "first", "fifth")
    return f"{told}, written: {before != _version(bench, lease_id)}"


def _each(*names: str) -> list[str]:
    return [JOB[name] for name in names]


@scenario(
    "cancel_waiting_jobs",
    answer="second fifth",
    places="fifth: canceled; first: succeeded 1; second: failed 1, canceled",
    leases="1 live, 2 expired",
)
def a_waiting_job_is_canceled_alone(bench: Bench) -> str:
    bench.settle(world.success("first"), world.retry("second"))
    return _names(
        bench.repository.jobs.cancel_waiting_jobs(
            _each("first", "second", "third", "fifth"), operator=_OPERATOR, action_id=1
        )
    )


@scenario(
    "reprioritize_jobs",
    answer="second fifth",
    places=(
        "fifth: pending 0 rank -5; first: succeeded 1; second: failed 1, "
        "later 1 rank -5"
    ),
    leases="1 live, 2 expired",
)
def a_waiting_job_is_moved_alone(bench: Bench) -> str:
    bench.settle(world.success("first"), world.retry("second"))
    wanted = _each("first", "second", "third", "fifth")
    return _names(bench.repository.jobs.reprioritize_jobs(wanted, priority=5))


@scenario(
    "run_jobs_now",
    answer="second",
    places=(
        "first: succeeded 1; fourth: failed 1, later 1; second: failed 1, pending 1"
    ),
    leases="1 expired, 1 live",
)
def a_scheduled_job_is_due_now_and_no_other(bench: Bench) -> str:
    bench.settle(world.success("first"), world.retry("second"), world.retry("fourth"))
    wanted = _each("first", "second", "third", "fifth")
    return _names(bench.repository.jobs.run_jobs_now(wanted))


@scenario(
    "cancel_waiting_jobs",
    "reprioritize_jobs",
    "run_jobs_now",
    answer="second",
    places="second: failed 1, canceled; third: failed 1, pending 1 rank -3",
    leases="1 live, 2 expired",
)
def jobs_of_two_ranks_are_moved(bench: Bench) -> str:
    bench.settle(world.retry("second"), world.retry("third"))
    bench.repository.jobs.reprioritize_jobs(_each("third"), priority=3)
    bench.repository.jobs.reprioritize_jobs(_each("second"), priority=2)
    bench.repository.jobs.run_jobs_now(_each("third"))
    done = bench.repository.jobs.cancel_waiting_jobs(
        _each("second"), operator=_OPERATOR, action_id=1
    )
    return _names(done)


@scenario(
    "cancel_waiting_jobs",
    "reprioritize_jobs",
    "run_jobs_now",
    answer="third / fourth / second",
    places=(
        "first: failed 1, later 1; fourth: failed 1, pending 1; second: failed 1, "
        "canceled; third: failed 1, later 1 rank -5"
    ),
    leases="0 expired, 1 live",
)
def jobs_of_one_instant_are_told_apart(bench: Bench) -> str:
    bench.settle(*(world.retry(name) for name in world.NAMES[:4]))
    gone = bench.repository.jobs.cancel_waiting_jobs(
        _each("second"), operator=_OPERATOR, action_id=1
    )
    moved = bench.repository.jobs.reprioritize_jobs(_each("third"), priority=5)
    due = bench.repository.jobs.run_jobs_now(_each("fourth"))
    return f"{_names(moved)} / {_names(due)} / {_names(gone)}"


def _notified(bench: Bench, *names: str) -> str:
    """Let jobs run now; return the queues of which idle workers are told."""
    with psycopg.connect(bench.url, autocommit=True) as listening:
        listening.execute("listen pgflow")
        bench.repository.jobs.run_jobs_now(_each(*names))
        bench.sql("select pg_notify('pgflow', 'the end')")
        heard = listening.notifies(timeout=20)
        queues = iter(lambda: next(heard).payload, "the end")
        told = f"told {list(queues)}"
        heard.close()  # it holds the connection's lock
        return told


def _schedule(bench: Bench) -> None:
    bench.settle(world.retry("second"))


@scenario(
    "run_jobs_now",
    answer="told ['default']",
    places="second: failed 1, pending 1",
    leases="1 live, 3 expired",
)
def an_idle_worker_is_told_what_runs_now(bench: Bench) -> str:
    _schedule(bench)
    add_worker(bench, OTHER, idle=True)
    return _notified(bench, "second")


@scenario(
    "run_jobs_now",
    answer="told []",
    places="second: failed 1, pending 1",
    leases="1 live, 3 expired",
)
def a_busy_worker_is_not_told(bench: Bench) -> str:
    _schedule(bench)
    add_worker(bench, OTHER, idle=False)
    return _notified(bench, "second")


@scenario(
    "run_jobs_now",
    answer="told []",
    places="second: failed 1, pending 1",
    leases="1 live, 3 expired",
)
def a_quiet_worker_is_not_told(bench: Bench) -> str:
    _schedule(bench)
    add_worker(bench, OTHER, idle=True, quiet=True)
    return _notified(bench, "second")


@scenario(
    "run_jobs_now",
    answer="told []",
    places="second: failed 1, pending 1",
    leases="1 live, 3 expired",
)
def a_worker_of_other_queues_is_not_told(bench: Bench) -> str:
    _schedule(bench)
    add_worker(bench, OTHER, idle=True)
    bench.sql("update pgflow.workers set queues = '{emails}'")
    return _notified(bench, "second")


@scenario("run_jobs_now", answer="told []")
def what_is_due_already_tells_nobody(bench: Bench) -> str:
    add_worker(bench, OTHER, idle=True)
    return _notified(bench, "fifth")
