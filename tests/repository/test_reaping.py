"""Leases end though the database refuses the end of others."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import DatabaseUnavailable, LeasesRefused
from pgflow_cli.models import Cycle, LeasedJob, Scan
from pgflow_cli.reaping import Reaper, end_leases
from pgflow_cli.repository import Repository
from tests.jobs import audit, expire_leases, new_worker, plant, status_of

Connection = psycopg.Connection[Any]
WORKER = new_worker()


def lease_each(repository: Repository, count: int) -> list[LeasedJob]:
    """Lease jobs, each under a lease of its own."""
    jobs = []
    for _ in range(count):
        request = Cycle(
            worker_id=WORKER,
            worker_name="worker-1",
            code_version=None,
            batch_id=str(uuid.uuid4()),
            lease_seconds=10.0,
            queues=["default"],
            job_types=None,
            room=1,
            scan=Scan(),
            settlements=[],
            closed=[],
        )
        jobs += repository.settle_and_lease(request).jobs
    return jobs


def poison(connection: Connection, jobs: list[LeasedJob], code: str = "P0001") -> None:
    """Have a trigger refuse every outcome of these jobs."""
    connection.execute("create table public.poisoned (job_id uuid primary key)")
    connection.execute(
        f"""
        create function public.refuse() returns trigger language plpgsql as
        $$ begin
          if new.job_id in (select job_id from public.poisoned) then
            raise exception 'no' using errcode = '{code}';
          end if;
          return new;
        end $$;
        create trigger refuse before insert on pgflow.job_attempts
        for each row execute function public.refuse();
        """
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into public.poisoned values (%s)", [(job.job_id,) for job in jobs]
        )


def test_a_lease_that_cannot_be_reaped_keeps_no_other_from_it(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 3)
    good, bad, other = lease_each(repository, 3)
    poison(connection, [bad])
    expire_leases(connection)
    with pytest.raises(LeasesRefused):
        repository.reap_expired_locks(limit=10, crash_budget=3)
    reaped = Reaper(3).reap(repository, limit=10)
    assert {job.job_id for job in reaped} == {good.job_id, other.job_id}
    assert status_of(connection, bad.job_id) == "running"
    assert audit(connection) == (0, 0)


@pytest.mark.parametrize("code", ["40001", "57014", "57P01", "42501"])
def test_a_lease_whose_end_looks_like_an_outage_keeps_no_other_from_it(
    connection: Connection, repository: Repository, code: str
) -> None:
    plant(connection, 3)
    good, bad, other = lease_each(repository, 3)
    poison(connection, [bad], code)
    expire_leases(connection)
    reaper = Reaper(3)
    reaped = reaper.reap(repository, limit=10)
    assert {job.job_id for job in reaped} == {good.job_id, other.job_id}
    assert reaper.reap(repository, limit=10) == []
    assert status_of(connection, bad.job_id) == "running"


def test_what_keeps_every_lease_from_being_reaped_is_an_outage(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    poison(connection, lease_each(repository, 2), "57P01")
    expire_leases(connection)
    with pytest.raises(DatabaseUnavailable):
        Reaper(3).reap(repository, limit=10)


def test_leases_that_cannot_be_reaped_do_not_fill_every_batch(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 7)
    jobs = sorted(lease_each(repository, 7), key=lambda job: job.lease_id)
    poison(connection, jobs[:6])
    expire_leases(connection)
    reaper = Reaper(3)
    [reaped] = reaper.reap(repository, limit=2)
    assert reaped.job_id == jobs[6].job_id
    assert reaper.reap(repository, limit=2) == []


def test_a_lease_that_could_not_be_reaped_is_tried_again_later(
    connection: Connection,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(connection)
    [job] = lease_each(repository, 1)
    poison(connection, [job])
    expire_leases(connection)
    reaper = Reaper(3)
    assert reaper.reap(repository, limit=2) == []
    connection.execute("delete from public.poisoned")
    assert reaper.reap(repository, limit=2) == []
    reaper._refused = dict.fromkeys(reaper._refused, 0.0)  # a minute passes
    [reaped] = reaper.reap(repository, limit=2)
    assert reaped.job_id == job.job_id


def test_a_dead_process_whose_one_lease_is_refused_gives_up_the_others(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 3)
    good, bad, other = lease_each(repository, 3)
    poison(connection, [bad])
    ended, refused = end_leases(
        lambda only: repository.end_worker(
            WORKER,
            status="lost",
            started=[good.job_id, bad.job_id],
            crash_budget=3,
            error_code="WORKER_LOST",
            error_message="signal SIGKILL",
            only=only,
        )
    )
    assert {(job.job_id, job.started) for job in ended} == {
        (good.job_id, True),
        (other.job_id, False),
    }
    assert refused == [bad.lease_id]
    assert audit(connection) == (0, 0)
