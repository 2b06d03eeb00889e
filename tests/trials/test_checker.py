"""The checker finds what it is for: each check is shown a defect that was planted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.jobs import successes
from tests.trials.checker import CHECKS, Verdict, judge
from tests.trials.history import History, Scribe
from tests.trials.ledger import Ledger, install_witness

Connection = psycopg.Connection[Any]

# A small history in which nothing is wrong.
_ENDED = """
insert into pgflow.job_attempts (
  job_id, lease_id, started_at, attempt_no, status, worker_name
)
values (%s, gen_random_uuid(), now(), %s, %s, 'worker')
"""
_DEAD = """
insert into pgflow.dead_letters (
  job_id, attempt_no, failed_attempts, queue, job_type, dlq_reason_code
)
values (%s, 1, 1, 'default', 'short', 'NON_RETRYABLE')
"""


@dataclass
class Town:
    """A queue with a history, and what may be done to both."""

    connection: Connection
    folder: Path
    jobs: dict[str, str]  # by what became of it

    @property
    def producer(self) -> Scribe:
        """Return what a producer writes with."""
        return Scribe(self.folder / "producer.jsonl")

    @property
    def handler(self) -> Scribe:
        """Return what a handler writes with."""
        return Scribe(self.folder / "handler.jsonl")

    def enqueue(self, job_type: str, payload: str = "{}", *, told: bool = True) -> str:
        row = self.connection.execute(
            "select pgflow.enqueue(%s, %s::jsonb)::text", (job_type, payload)
        ).fetchone()
        assert row is not None
        if told:
            self.producer("try", id=row[0], job_type=job_type)
            self.producer("acknowledged", id=row[0])
        return str(row[0])

    def run(self, job: str, attempt_no: int, result: str | None = "ok") -> None:
        name = f"{job}-{attempt_no}-{os.urandom(4).hex()}"
        started = {"id": job, "attempt_no": attempt_no, "pid": 1}
        self.handler("start", run=name, **started)
        if result is not None:
            self.handler("end", run=name, result=result)

    def end(self, job: str, attempt_no: int = 1, status: str = "succeeded") -> None:
        if status == "succeeded":
            one = f"select '{job}'::uuid as job_id"
            self.sql(successes(one, attempt_no=attempt_no))
        else:
            self.sql(_ENDED, job, attempt_no, status)

    def restore(self, *kept: tuple[str, int], dumped: float | None = None) -> None:
        """Go back to a dump that has these outcomes, begun just now or at a time."""
        began = time.monotonic() if dumped is None else dumped
        Scribe(self.folder / "restores.jsonl")("restored", dumped=began, kept=kept)

    def leave_pending(self, job: str) -> None:
        self.sql("delete from pgflow.pending where job_id = %s", job)

    def sql(self, text: str, *values: object) -> None:
        self.connection.execute(text, values)

    def judge(self) -> Verdict:
        history = History.read(
            [self.folder / "producer.jsonl"],
            [self.folder / "handler.jsonl"],
            [self.folder / "restores.jsonl"],
        )
        return judge(history, Ledger.read(self.connection))


@pytest.fixture
def town(connection: Connection, tmp_path: Path) -> Town:
    """A queue in which a job of each kind has ended as it should."""
    install_witness(connection)
    made = Town(connection, tmp_path, {})
    for name in ("succeeded", "retried", "dead", "parent"):
        job_type = "parent" if name == "parent" else "short"
        made.jobs[name] = made.enqueue(job_type)
        made.leave_pending(made.jobs[name])
    made.jobs["follower"] = made.enqueue(
        "child", f'{{"parent": "{made.jobs["parent"]}"}}', told=False
    )
    made.leave_pending(made.jobs["follower"])
    for name in ("succeeded", "parent", "follower"):
        made.run(made.jobs[name], 1)
        made.end(made.jobs[name])
    made.run(made.jobs["retried"], 1, "fail")
    made.end(made.jobs["retried"], 1, "failed")
    made.run(made.jobs["retried"], 2)
    made.end(made.jobs["retried"], 2)
    made.run(made.jobs["dead"], 1, "fail")
    made.end(made.jobs["dead"], 1, "failed")
    made.sql(_DEAD, made.jobs["dead"])
    return made


def lose(town: Town) -> None:
    job = town.jobs["succeeded"]
    town.sql("delete from pgflow.jobs where id = %s", job)


def invent(town: Town) -> None:
    town.enqueue("short", told=False)


def hold_up(town: Town) -> None:
    town.enqueue("short")


def hold_up_leased(town: Town) -> None:
    job = town.enqueue("short")
    town.leave_pending(job)
    town.sql(
        "insert into pgflow.leases (batch_id, worker_id, expires_at, queue,"
        " worker_name, job_ids, attempt_nos) values (gen_random_uuid(),"
        " gen_random_uuid(), now(), 'default', 'worker', array[%s::uuid], '{1}')",
        job,
    )


def succeed_again(town: Town) -> None:
    town.run(town.jobs["succeeded"], 2)
    # In a row that begins with another job: its key would refuse this.
    town.sql(
        "insert into pgflow.job_successes (day, first_id, lease_id, leased_at,"
        " worker_name, id_times, job_ids, attempt_nos, started_ago, ended_ago)"
        " select day, gen_random_uuid(), gen_random_uuid(), now(), 'worker', id_times,"
        " job_ids, '{2}', '{0}', '{0}' from pgflow.job_successes where first_id = %s",
        town.jobs["succeeded"],
    )


def bury_what_succeeded(town: Town) -> None:
    town.sql(_DEAD, town.jobs["succeeded"])


def cancel_what_is_dead(town: Town) -> None:
    town.sql(
        "insert into pgflow.canceled_jobs (job_id, queue, canceled_by)"
        " values (%s, 'default', 'test')",
        town.jobs["dead"],
    )


def go_on_after_success(town: Town) -> None:
    town.run(town.jobs["succeeded"], 2, "fail")
    town.end(town.jobs["succeeded"], 2, "failed")


def go_on_after_death(town: Town) -> None:
    town.run(town.jobs["dead"], 2, "fail")
    town.end(town.jobs["dead"], 2, "failed")


def skip_a_number(town: Town) -> None:
    town.sql(
        "delete from pgflow.job_attempts where job_id = %s and attempt_no = 1",
        town.jobs["retried"],
    )


def forget_an_attempt(town: Town) -> None:
    town.sql(
        "delete from pgflow.job_successes where first_id = %s", town.jobs["succeeded"]
    )


def lose_too_often(town: Town) -> None:
    for number in range(2, 6):
        town.end(town.jobs["dead"], number, "lost")


def blame_the_crash_budget(town: Town) -> None:
    town.sql(
        "update pgflow.dead_letters set dlq_reason_code = 'CRASH_LOOP'"
        " where job_id = %s",
        town.jobs["dead"],
    )


def succeed_unseen(town: Town) -> None:
    job = town.enqueue("short")
    town.leave_pending(job)
    town.end(job)


def succeed_before_the_end(town: Town) -> None:
    job = town.enqueue("short")
    town.leave_pending(job)
    town.run(job, 1, None)
    town.end(job)


def fail_what_returned(town: Town) -> None:
    job = town.enqueue("short")
    town.run(job, 1, "ok")
    town.end(job, 1, "failed")


def use_a_number_again(town: Town) -> None:
    town.run(town.jobs["succeeded"], 1)


def run_a_stranger(town: Town) -> None:
    town.run("01a2081d-307c-7b77-8a50-0f6c9c41e07b", 1)


def overlap(town: Town) -> None:
    job = town.enqueue("short")
    for number in (1, 2):
        started = {"id": job, "attempt_no": number, "pid": number}
        town.handler("start", run=f"overlap-{number}", **started)
    for number in (1, 2):
        town.handler("end", run=f"overlap-{number}", result="ok")
    town.end(job, 1, "failed")
    town.end(job, 2)


def reap_early(town: Town) -> None:
    hold_up_leased(town)
    town.sql("update pgflow.leases set expires_at = now() + interval '1 minute'")
    town.sql(
        "insert into pgflow.job_attempts (job_id, lease_id, started_at, attempt_no,"
        " status, worker_name, error_message) select job_ids[1], lease_id, now(), 1,"
        " 'lost', 'worker', 'the worker stopped reporting before the job ended'"
        " from pgflow.leases"
    )
    town.sql("delete from pgflow.leases")


def forget_a_follower(town: Town) -> None:
    town.sql("delete from pgflow.jobs where id = %s", town.jobs["follower"])


def follow_a_failure(town: Town) -> None:
    town.enqueue("child", f'{{"parent": "{town.jobs["dead"]}"}}', told=False)


def rewrite(town: Town) -> None:
    town.sql(
        "update pgflow.job_attempts set error_code = 'X' where job_id = %s",
        town.jobs["retried"],
    )


def lose_what_was_dumped(town: Town) -> None:
    town.restore((town.jobs["succeeded"], 1))
    forget_an_attempt(town)


def run_again_what_was_dumped(town: Town) -> None:
    town.restore((town.jobs["succeeded"], 1))
    use_a_number_again(town)


def run_twice_after_a_restore(town: Town) -> None:
    town.restore()
    use_a_number_again(town)
    use_a_number_again(town)


def lose_after_a_restore(town: Town) -> None:
    town.restore()
    job = town.enqueue("short")
    town.sql("delete from pgflow.jobs where id = %s", job)


def lose_from_before_a_dump(town: Town) -> None:
    town.restore()
    lose(town)


DEFECTS: list[tuple[Callable[[Town], None], set[str]]] = [
    (lose, {"lost"}),
    (invent, {"invented"}),
    (hold_up, {"stuck"}),
    (hold_up_leased, {"stuck"}),
    (succeed_again, {"settled_twice", "audit"}),
    (bury_what_succeeded, {"ended_twice", "audit"}),
    (cancel_what_is_dead, {"ended_twice", "audit"}),
    (go_on_after_success, {"resurrected"}),
    (go_on_after_death, {"resurrected"}),
    (skip_a_number, {"attempt_gap", "start_without_row"}),
    (forget_an_attempt, {"lost", "start_without_row", "audit"}),
    (lose_too_often, {"excess"}),
    (blame_the_crash_budget, {"wrong_reason"}),
    (succeed_unseen, {"row_without_start"}),
    (succeed_before_the_end, {"success_without_end"}),
    (fail_what_returned, {"failed_though_it_returned"}),
    (use_a_number_again, {"number_used_twice"}),
    (run_a_stranger, {"ran_unknown_job"}),
    (overlap, {"overlap_under_a_live_lease"}),
    (reap_early, {"reaped_early"}),
    (forget_a_follower, {"parent_without_follower"}),
    (follow_a_failure, {"follower_without_parent"}),
    (rewrite, {"rewritten"}),
    (lose_what_was_dumped, {"dumped_and_gone", "start_without_row", "lost"}),
    (run_again_what_was_dumped, {"number_used_twice"}),
    (run_twice_after_a_restore, {"number_used_twice"}),
    (lose_after_a_restore, {"lost"}),
    (lose_from_before_a_dump, {"lost"}),
]


def test_nothing_is_found_where_nothing_is_wrong(town: Town) -> None:
    verdict = town.judge()
    assert verdict.violations == {}
    assert verdict.counts["runs"] == verdict.counts["attempts"] == 6


def test_a_run_may_go_on_after_its_attempt_was_lost(town: Town) -> None:
    overlap(town)
    town.sql("update pgflow.job_attempts set status = 'lost' where status = 'failed'")
    verdict = town.judge()
    assert "overlap_under_a_live_lease" not in verdict.violations
    assert verdict.legal["overlaps"] == 1


def test_a_restore_may_forget_what_was_confirmed_after_its_dump(town: Town) -> None:
    """A job that is gone, one that runs once more while it runs, one that waits."""
    dumped = time.monotonic()
    gone, again, waiting = (town.enqueue("short") for _ in range(3))
    town.run(gone, 1)
    town.run(waiting, 1)
    town.handler("start", run="first", id=again, attempt_no=1, pid=1)
    town.sql("delete from pgflow.jobs where id = %s", gone)
    town.leave_pending(gone)
    kept = [(town.jobs[name], 1) for name in ("succeeded", "parent", "follower")]
    kept += [(town.jobs["retried"], 1), (town.jobs["retried"], 2)]
    town.restore(*kept, (town.jobs["dead"], 1), dumped=dumped)
    town.run(again, 1)
    town.handler("end", run="first", result="ok")
    town.leave_pending(again)
    town.end(again)
    verdict = town.judge()
    assert verdict.violations == {"stuck": [f"{waiting} pending"]}
    assert verdict.legal["runs that a restore may have forgotten"] == 3
    assert verdict.legal["overlaps"] == 1


def test_each_planted_defect_is_found(town: Town) -> None:
    missed = {}
    files = [town.folder / "producer.jsonl", town.folder / "handler.jsonl"]
    clean = [file.read_bytes() for file in files]
    for plant, expected in DEFECTS:
        with town.connection.transaction(force_rollback=True):
            plant(town)
            found = town.judge().violations.keys()
        if not expected <= found:
            missed[plant.__name__] = f"expected {expected}, found {set(found)}"
        for file, content in zip(files, clean, strict=True):
            file.write_bytes(content)
        (town.folder / "restores.jsonl").unlink(missing_ok=True)
    assert missed == {}


def test_each_check_is_shown_a_defect() -> None:
    assert set().union(*(expected for _, expected in DEFECTS)) == CHECKS.keys()
