"""A reply that is lost: the same ids are sent again, and every job exists once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import (
    DatabaseUnavailable,
    OutcomeUnknown,
    TooSlow,
    TryLater,
)
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.operations import batch, delivery, enqueue
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Link, Repository
from tests.support.jobs import audit
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
LINE = b'{"job_type":"a","payload_json":{}}\n'
PLAIN = JobOptions()


class Forgetful(Repository):
    """Does everything, and loses the reply of every other call."""

    calls = 0

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._one, self._many = self.enqueue.enqueue, self.enqueue.enqueue_many
        self.enqueue.enqueue = self._enqueue  # type: ignore[method-assign]
        self.enqueue.enqueue_many = self._enqueue_many  # type: ignore[method-assign]

    def _lose(self) -> None:
        self.calls += 1
        if self.calls % 2:
            self.link.close()
            raise OutcomeUnknown("the connection was lost")

    def _enqueue(self, *arguments: Any, **options: Any) -> str:
        job_id = self._one(*arguments, **options)
        self._lose()
        return job_id

    def _enqueue_many(self, *arguments: Any, **options: Any) -> list[str]:
        ids = self._many(*arguments, **options)
        self._lose()
        return ids


class LostAtCommit(Repository):
    """Commits, and loses the reply to the commit."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
        self.link.close()
        raise OutcomeUnknown("the connection was lost")


def jobs_of(connection: Connection) -> int:
    row = connection.execute("select count(*) from pgflow.jobs").fetchone()
    assert row is not None
    assert audit(connection) == (0, 0)
    return int(row[0])


def send(repository: Repository, lines: int, *, atomic: bool) -> batch.Summary:
    def refused(number: int, reason: str) -> None:
        raise AssertionError(f"line {number}: {reason}")

    return batch.run(
        repository,
        io.BytesIO(LINE * lines),
        batch.Plan(PLAIN, atomic=atomic),
        refused=refused,
        enqueued=lambda ids: None,
    )


def test_a_job_whose_reply_was_lost_is_sent_again_and_exists_once(
    database: Database, connection: Connection
) -> None:
    repository = Forgetful(Link(DatabaseSettings(database.url)))
    for _ in range(3):
        job_id = enqueue.new_job_id()
        options: dict[str, Any] = {"options": PLAIN, "job_id": job_id}
        assert delivery.enqueue_once(repository.enqueue, "a", "{}", **options) == job_id
    repository.close()
    assert repository.calls == 6
    assert jobs_of(connection) == 3


def test_a_batch_whose_replies_were_lost_exists_once(
    database: Database, connection: Connection
) -> None:
    repository = Forgetful(Link(DatabaseSettings(database.url)))
    summary = send(repository, 2500, atomic=False)
    repository.close()
    assert (summary.enqueued, summary.refused) == (2500, 0)
    assert jobs_of(connection) == 2500


def test_an_outage_that_lasts_is_told(database: Database) -> None:
    def down() -> str:
        raise DatabaseUnavailable("the database is away")

    pauses: list[float] = []
    with pytest.raises(DatabaseUnavailable):
        delivery.persistently(down, pause=pauses.append)
    assert len(pauses) == delivery.ATTEMPTS - 1


def test_what_took_too_long_is_not_tried_again() -> None:
    calls = 0

    def locked() -> str:
        nonlocal calls
        calls += 1
        raise TooSlow("the statement was canceled")

    with pytest.raises(TooSlow):
        delivery.persistently(locked, pause=lambda _: None)
    assert calls == 1


def test_what_may_have_happened_stays_unknown_though_the_next_try_was_too_slow() -> (
    None
):
    answers = iter([OutcomeUnknown("the reply was lost"), TooSlow("a lock")])

    def send() -> str:
        raise next(answers)

    with pytest.raises(OutcomeUnknown):
        delivery.persistently(send, pause=lambda _: None)


def test_a_commit_whose_reply_was_lost_is_looked_up(
    database: Database, connection: Connection
) -> None:
    repository = LostAtCommit(Link(DatabaseSettings(database.url)))
    assert send(repository, 1500, atomic=True).enqueued == 1500
    repository.close()
    assert jobs_of(connection) == 1500


@pytest.mark.direct
def test_a_connection_that_breaks_in_the_middle_leaves_nothing(
    repository: Repository, connection: Connection
) -> None:
    def cut(_ids: list[str]) -> None:
        pid = repository.link.raw().info.backend_pid
        connection.execute("select pg_terminate_backend(%s, 5000)", (pid,))

    with pytest.raises(DatabaseUnavailable, match="nothing of the batch"):
        batch.run(
            repository,
            io.BytesIO(LINE * 2500),
            batch.Plan(PLAIN),
            refused=lambda number, reason: None,
            enqueued=cut,
        )
    assert jobs_of(connection) == 0


def test_waiting_ends_with_the_last_job_or_with_the_time(
    repository: Repository, connection: Connection
) -> None:
    ids = [repository.enqueue.enqueue("a", "{}", options=PLAIN) for _ in range(3)]

    def end_one(_seconds: float) -> None:
        connection.execute(
            "with gone as (delete from pgflow.pending where job_id = ("
            "  select job_id from pgflow.pending order by job_id limit 1"
            ") returning job_id)"
            " insert into pgflow.canceled_jobs (job_id, queue, canceled_by)"
            " select job_id, 'default', 'me' from gone"
        )

    outcomes = delivery.wait_for_outcomes(
        repository.enqueue, ids, seconds=60, pause=end_one
    )
    assert [outcome.job_id for outcome in outcomes] == ids
    assert {outcome.status for outcome in outcomes} == {"canceled"}
    ids.append(repository.enqueue.enqueue("a", "{}", options=PLAIN))
    with pytest.raises(TryLater, match="1 of 4 jobs have not ended"):
        delivery.wait_for_outcomes(repository.enqueue, ids, seconds=0)
