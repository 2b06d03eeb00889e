"""What the gate must do with jobs of producers: scenarios as in `scenarios`.

Their answers tell what the call said, who was told, and every row that differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg

from tests.trials import world
from tests.trials.scenarios import Bench, add_worker, scenario
from tests.trials.world import JOB, OTHER, SUPERVISOR, WORKER

ONE, MANY = "enqueue", "enqueue_many"
_SUITE = "01900000-0000-7000-8000-00000000100"  # and a digit
_ROWS = f"""
select string_agg(text, ', ' order by text)
from (
  select 'job ' || right(id::text, 1) from pgflow.jobs where id >= '{_SUITE}0'
  union all
  select 'waits ' || right(job_id::text, 1) || ' ' || queue || ' ' || rank
  from pgflow.pending where job_id >= '{_SUITE}0'
  union all
  select 'place ' || queue || ' ' || rank || case when retired then ' retired' else ''
    end
  from pgflow.queue_ranks where (queue, rank) <> ('{world.LIMITED}', 0)
  union all
  select 'spent ' || count from pgflow.enqueue_counters
  union all
  select 'gone ' || planted.id
  from unnest('{{{",".join(JOB.values())}}}'::uuid[]) as planted (id)
  where not exists (select from pgflow.jobs where jobs.id = planted.id)
) as told (text)
"""


def _id(number: int) -> str:
    return f"{_SUITE}{number}"


def _job(number: int, **fields: Any) -> dict[str, Any]:
    """Return a job that is sent; of the default queue if it does not say."""
    return {"job_type": "noop", "payload_json": {}, "job_id": _id(number), **fields}


def _send(bench: Bench, *jobs: dict[str, Any], **limits: int) -> str:
    """Send a document of jobs; tell what came of it."""
    given = "".join(f", {name} => {value}" for name, value in limits.items())
    return _told(bench, f"pgflow.enqueue_many('{json.dumps(jobs)}'{given})")


def _told(bench: Bench, call: str) -> str:
    heard: list[str] = []

    def hear(notification: psycopg.Notify) -> None:
        heard.append(f"tells {notification.payload}")

    bench.sql("listen pgflow")
    bench.connection.add_notify_handler(hear)
    said = []
    try:
        bench.sql(f"select {call}")
    except psycopg.Error as error:
        said = [f"{error.sqlstate} {error.diag.message_primary}"]
        detail = json.loads(error.diag.message_detail or "")
        said += [f"refuses {detail['ordinals']}"]
    finally:
        bench.connection.remove_notify_handler(hear)
        bench.sql("unlisten pgflow")
    [rows] = bench.connection.execute(_ROWS.encode()).fetchone() or [""]
    return ", ".join([*said, *sorted(heard), rows])


def _archive(bench: Bench, number: int) -> None:
    """Let a job be in the archive, up to the last id of these trials."""
    bench.sql(
        "insert into pgflow.jobs_archive (id, queue, job_type, payload, run_at)"
        f" values ('{_id(number)}', 'default', 'noop', '{{}}', now())"
    )
    bench.sql(f"update pgflow.history_marks set archived_until = '{_id(9)}'")


def _gate(*of: str, answer: str) -> Callable[..., Callable[[Bench], str]]:
    return scenario(*of, answer=answer, places=None)


@_gate(
    MANY,
    answer=(
        "job 1, job 2, job 3, job 4, place default -5, place default -7, "
        "place default -7 retired, place default 0, place emails 0, "
        "waits 1 default 0, waits 2 emails 0, waits 3 default -5, waits 4 default -7"
    ),
)
def many_wait_and_bring_the_places_that_are_new(bench: Bench) -> str:
    bench.sql(
        "insert into pgflow.queue_ranks (queue, rank, retired)"
        " values ('default', -7, true)"
    )
    return _send(
        bench,
        _job(1),
        _job(2, queue="emails"),
        _job(3, priority=5),
        _job(4, priority=7),
    )


@_gate(
    MANY,
    answer='PF400 job 2: unknown field "unheard_of_field", refuses [2], '
    "place default 0",
)
def an_unknown_field_is_named(bench: Bench) -> str:
    return _send(bench, _job(1), _job(2, unheard_of_field=1))


@_gate(
    MANY,
    answer="PF400 job 2: priority must be a whole number from -100 to 100, "
    "refuses [2], place default 0",
)
def a_field_that_is_wrong_is_refused(bench: Bench) -> str:
    return _send(bench, _job(1), _job(2, priority=500))


@_gate(
    MANY,
    answer='PF001 job 1: the payload has 15 bytes and queue "default" takes at most '
    "10 (max_payload_bytes), refuses [1], place default 0",
)
def what_is_too_large_spends_no_quota(bench: Bench) -> str:
    jobs = _job(1, payload_json={"a": "123456"}), _job(2)
    return _send(bench, *jobs, max_payload_bytes=10, max_enqueue_per_minute=1)


@_gate(
    MANY,
    answer="job 1, job 3, place default 0, waits 1 default 0, waits 3 default 0",
)
def what_is_sent_again_may_be_too_large_by_now(bench: Bench) -> str:
    _send(bench, _job(1))
    _archive(bench, 2)
    large = {"payload_json": {"a": "123456"}}
    jobs = _job(1, **large), _job(2, **large), _job(3)
    return _send(bench, *jobs, max_payload_bytes=10)


@_gate(
    MANY,
    answer='PF001 job 1: the payload has 15 bytes and queue "default" takes at most '
    "10 (max_payload_bytes), refuses [1], place default 0",
)
def what_is_archived_excuses_no_other_job(bench: Bench) -> str:
    _archive(bench, 2)
    return _send(bench, _job(1, payload_json={"a": "123456"}), max_payload_bytes=10)


@_gate(
    MANY,
    answer='PF002 job 2: queue "default" takes at most 1 jobs a minute '
    "(max_enqueue_per_minute), refuses [2], place default 0",
)
def what_is_beyond_the_quota_is_refused(bench: Bench) -> str:
    return _send(bench, _job(1), _job(2), max_enqueue_per_minute=1)


@_gate(
    MANY,
    answer=(
        "job 1, job 3, place default 0, spent 1, waits 1 default 0, waits 3 default 0"
    ),
)
def what_is_known_is_not_charged_and_does_not_run_again(bench: Bench) -> str:
    _send(bench, _job(1))
    _archive(bench, 2)
    return _send(bench, _job(1), _job(2), _job(3), max_enqueue_per_minute=3)


@_gate(
    MANY,
    answer="PF422 job 3: job_id is of a time before 2024-06-10T02:35:18Z, whose jobs "
    "have been pruned, so it may have run already; use a new id, refuses [3], "
    "place default 0",
)
def an_unknown_id_of_pruned_days_is_refused(bench: Bench) -> str:
    _archive(bench, 1)
    bench.sql(f"update pgflow.history_marks set pruned_until = '{_id(3)}'")
    known = _job(0, job_id=JOB["first"])
    return _send(bench, known, _job(1), _job(2), _job(4))


@_gate(
    MANY,
    answer=(
        "tells default, job 1, job 2, job 3, job 4, place default 0, place emails 0, "
        "place later 0, place sms 0, waits 1 default 0, waits 2 emails 0, "
        "waits 3 sms 0, waits 4 later 0"
    ),
)
def only_who_would_come_is_told(bench: Bench) -> str:
    add_worker(bench, WORKER, idle=True, queues="default,later")
    add_worker(bench, OTHER, idle=False, queues="emails")
    add_worker(bench, SUPERVISOR, idle=True, quiet=True, queues="sms")
    return _send(
        bench,
        _job(1),
        _job(2, queue="emails"),
        _job(3, queue="sms"),
        _job(4, queue="later", run_at="2100-01-01T00:00:00Z"),
    )


@_gate(
    MANY,
    answer='PF003 job 2: queue "emails" with priority 0 would be new, and 2 of at most '
    "2 queues and priorities are in use (max_queues), refuses [2, 3], place default 0",
)
def one_place_too_many_is_refused(bench: Bench) -> str:
    [most] = bench.connection.execute(
        "select max_queues from pgflow.gate_limits"
    ).fetchone() or [0]
    bench.sql("update pgflow.gate_limits set max_queues = 2")
    try:
        return _send(bench, _job(1), _job(2, queue="emails"), _job(3, priority=5))
    finally:
        bench.sql(f"update pgflow.gate_limits set max_queues = {most}")


@_gate(ONE, answer="job 2, place default 0, waits 2 default 0")
def one_that_is_archived_does_not_run_again(bench: Bench) -> str:
    _archive(bench, 1)
    one = "pgflow.enqueue('noop', job_id => '{}')"
    _told(bench, one.format(_id(2)))
    return _told(bench, one.format(_id(1)))


@_gate(ONE, answer="job 1, place default 0, waits 1 default 0")
def the_policy_of_another_queue_does_not_count(bench: Bench) -> str:
    bench.sql("update pgflow.queue_policies set max_payload_bytes = 2")
    payload = "'{\"a\": 1}'"
    return _told(bench, f"pgflow.enqueue('noop', {payload}, job_id => '{_id(1)}')")
