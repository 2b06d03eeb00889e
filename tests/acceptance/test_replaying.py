"""Replays with real operators, who are killed and who collide, and real workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.conftest import RunsPgflow
from tests.support.jobs import audit, plant_dead
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Process = subprocess.Popen[str]
Wait = Callable[..., Any]


@pytest.fixture
def operate(database: Database, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start an operator's `pgflow replay`; none outlives the trial."""
    started: list[Process] = []

    def start(*words: str) -> Process:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("pgflow")), "replay", *words],
            env={**os.environ, "DATABASE_URL": database.url},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def created(connection: Connection) -> int:
    row = connection.execute(
        "select coalesce(sum(created), 0) from pgflow.replay_plans"
    ).fetchone()
    assert row is not None
    return int(row[0])


def times_replayed(connection: Connection, ids: list[str]) -> set[int]:
    """Return how often sources were replayed: {1} if each was exactly once."""
    rows = connection.execute(
        "select count(job.id) from unnest(%s::uuid[]) as source (id)"
        " left join pgflow.jobs as job on job.replay_of_job_id = source.id"
        " group by source.id",
        (ids,),
    ).fetchall()
    return {row[0] for row in rows}


def test_a_replay_killed_half_way_is_resumed_and_none_is_replayed_twice(
    connection: Connection,
    operate: Callable[..., Process],
    pgflow: RunsPgflow,
    wait_until: Wait,
) -> None:
    ids = plant_dead(connection, 300)
    for kill in range(2):
        words = ("--all", "--batch-size", "1") if kill == 0 else ("resume", "1")
        before = created(connection)
        killed = operate(*words, "--yes")
        wait_until(lambda seen=before: created(connection) > seen + 5, "it creates")
        killed.kill()
        killed.wait()
        assert created(connection) < 300, "killed before its end"
        assert audit(connection) == (0, 0)
    [plan] = json.loads(pgflow("replay", "list", "-o", "json").stdout)["items"]
    assert plan["state"] == "running", "nobody could say that it ended"
    done = pgflow("replay", "resume", "1", "--yes")
    assert done.stdout.startswith("replayed 300, skipped 0, failed 0 (plan 1, ")
    assert times_replayed(connection, ids) == {1}
    assert audit(connection) == (0, 0)
    actions = connection.execute(
        "select sum(jobs), count(finished_at) from pgflow.operator_actions"
    ).fetchone()
    assert actions == (300, 1)


def test_a_replay_killed_while_its_canary_runs_waits_for_it_again(
    connection: Connection,
    operate: Callable[..., Process],
    start_worker: Callable[..., Worker],
    witness: Any,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    ids = plant_dead(
        connection, 20, job_type="gated", payload=json.dumps({"gate": str(gate)})
    )
    start_worker("-q", "emails")
    killed = operate("--all", "--canary", "3", "--yes")
    wait_until(lambda: created(connection) == 3, "the canary is created")
    killed.kill()
    killed.wait()
    resumed = operate("resume", "1", "--yes", "-w")
    wait_until(
        lambda: connection.execute(
            "select count(*) = 2 from pgflow.operator_actions"
        ).fetchone() == (True,),
        "somebody else runs it",
    )  # fmt: skip
    gate.touch()
    out, err = resumed.communicate(timeout=90)
    assert resumed.returncode == 0, err
    assert out.startswith("replayed 20, skipped 0, failed 0 (plan 1, action 2)")
    assert "succeeded 20, failed 0" in err
    assert times_replayed(connection, ids) == {1}


def test_operators_who_collide_replay_each_source_once(
    connection: Connection, operate: Callable[..., Process]
) -> None:
    ids = plant_dead(connection, 200)
    operators = [
        operate("--all", "--batch-size", str(7 + n), "--yes", *more)
        for n, more in enumerate(((), ("--newest-first",), (), ()))
    ]
    ended = [process.communicate(timeout=120) for process in operators]
    assert [process.returncode for process in operators] == [0] * 4, ended
    assert created(connection) == 200
    assert times_replayed(connection, ids) == {1}
    assert audit(connection) == (0, 0)


def test_a_resume_takes_a_plan_from_whoever_still_runs_it(
    connection: Connection, operate: Callable[..., Process], wait_until: Wait
) -> None:
    ids = plant_dead(connection, 20)
    first = operate("--all", "--canary", "2", "--yes", "--as", "alice")
    wait_until(lambda: created(connection) == 2, "the canary is created")
    second = operate("resume", "1", "--yes", "--as", "bob")
    out, err = first.communicate(timeout=60)
    assert (first.returncode, "plan 1 is run by bob now" in err) == (75, True)
    assert out.startswith("replayed 2,")
    second.send_signal(signal.SIGINT)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 130
    assert "plan 1 is half-way. Next: pgflow replay resume 1" in err
    assert times_replayed(connection, ids) == {0, 1}


def test_a_canary_whose_error_came_back_stops_the_rest(
    connection: Connection,
    pgflow: RunsPgflow,
    start_worker: Callable[..., Worker],
    wait_until: Wait,
) -> None:
    start_worker("-q", "emails")
    connection.execute(
        "select pgflow.enqueue('failing', '{}', queue => 'emails', max_attempts => 2)"
        " from generate_series(1, 10)"
    )

    def died() -> int:
        row = connection.execute("select count(*) from pgflow.dead_letters").fetchone()
        assert row is not None
        return int(row[0])

    wait_until(lambda: died() == 10, "all died", seconds=60)
    result = pgflow("replay", "--all", "--canary", "2", "--yes")
    assert result.returncode == 1
    assert "the canary failed: " in result.stderr
    assert "with the error they had died of; 8 were not created" in result.stderr
    wait_until(lambda: died() == 12, "the canary's jobs end, too")
