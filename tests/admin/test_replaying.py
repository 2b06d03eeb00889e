"""Replays over HTTP: one job at once, many by a plan in the background."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from werkzeug.test import Client, TestResponse

from pgflow_cli.admin import application, replay_runner
from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.admin.service import Service
from pgflow_cli.errors import DatabaseUnavailable, OutcomeUnknown
from pgflow_cli.models.audit import Operator
from pgflow_cli.operations import replay_plans
from pgflow_cli.operations.replays import ReplayRequest
from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Repository
from tests.admin.conftest import MakesClients, problem_of
from tests.support.jobs import audit, plant, plant_dead, status_of, successes
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Waits = Callable[..., Any]
UNKNOWN = "01a2081d-307c-7b77-8a50-0f6c9c41e07b"
EVE = Operator("eve@host", "test")


@pytest.fixture(autouse=True)
def every_job_is_in_one_place(request: pytest.FixtureRequest) -> Iterator[None]:
    """Look at a test's own database when the test is over."""
    if "connection" not in request.fixturenames:
        yield
        return
    connection = request.getfixturevalue("connection")
    yield
    assert audit(connection) == (0, 0)


def replay(client: Client, job_id: str, **body: Any) -> TestResponse:
    return client.post(f"/jobs/{job_id}/replay", json=body)


def order(client: Client, **body: Any) -> TestResponse:
    return client.post("/replays", json=body)


def run(client: Client, **body: Any) -> int:
    """Begin a replay and return its plan."""
    answer = order(client, dry_run=False, **body)
    assert answer.status_code == 202, answer.text
    return int(answer.get_json()["plan_id"])


def rows(connection: Connection, text: str, *values: Any) -> list[tuple[Any, ...]]:
    return connection.execute(text, values).fetchall()


def replays_of(connection: Connection, source: str) -> list[str]:
    found = rows(
        connection,
        "select id::text from pgflow.jobs where replay_of_job_id = %s",
        source,
    )
    return [row[0] for row in found]


def created(connection: Connection) -> int:
    return len(
        rows(connection, "select 1 from pgflow.jobs where replay_of_job_id is not null")
    )


def finish(client: Client, plan_id: int, wait_until: Waits) -> dict[str, Any]:
    """Wait until a plan has created its jobs, and return it."""

    def is_over() -> Any:
        plan = client.get(f"/replays/{plan_id}").get_json()
        return plan if plan["state"] == "finished" else None

    found: dict[str, Any] = wait_until(is_over, f"plan {plan_id} finishes")
    return found


# One job.


def test_a_dead_letter_is_replayed_without_a_body(
    client: Client, connection: Connection
) -> None:
    [source] = plant_dead(
        connection, payload='{"n": 1.10}', meta='{"t": 1}', priority=7, max_attempts=3
    )
    answer = client.post(
        f"/jobs/{source}/replay", environ_overrides={"REMOTE_ADDR": "10.1.2.3"}
    )
    assert answer.status_code == 200, answer.text
    [new] = replays_of(connection, source)
    assert answer.get_json() == {"new_job_id": new, "replay_of_job_id": source}
    assert rows(
        connection,
        "select queue, job_type, payload::text, meta::text, priority, max_attempts"
        " from pgflow.jobs where id = %s",
        new,
    ) == [("emails", "email_send", '{"n": 1.10}', '{"t": 1}', 7, 3)]
    assert rows(
        connection,
        "select resolution, replay_job_id::text, action_id is not null"
        " from pgflow.dead_letters",
    ) == [("replayed", new, True)]
    assert rows(
        connection,
        "select actor, command, action, jobs, job_ids::text[],"
        " finished_at is not null, plan_id is not null from pgflow.operator_actions",
    ) == [
        ("10.1.2.3", f"POST /jobs/{source}/replay", "replay", 1, [source], True, True)
    ]
    [plan] = client.get("/replays").get_json()["items"]
    assert (plan["state"], plan["selected"], plan["created"]) == ("finished", 1, 1)


def test_a_replay_takes_what_the_body_says(
    client: Client, connection: Connection
) -> None:
    [source] = plant_dead(connection, payload='{"a": 1.10, "b": 2}')
    text = (
        '{"queue": "slow", "run_at": "in 2h", "max_attempts": 2, "priority": -5,'
        ' "patch": {"b": null, "c": 2.50}, "note": "by hand"}'
    )
    answer = client.post(
        f"/jobs/{source[-8:]}/replay", data=text, content_type="application/json"
    )
    assert answer.status_code == 200, answer.text
    assert rows(
        connection,
        "select queue, payload::text, priority, max_attempts,"
        " run_at > now() + interval '110 minutes'"
        " from pgflow.jobs where replay_of_job_id = %s",
        source,
    ) == [("slow", '{"a": 1.10, "c": 2.50}', -5, 2, True)]
    assert rows(connection, "select note from pgflow.operator_actions") == [
        ("by hand",)
    ]


def test_a_second_replay_is_a_409_that_names_the_first(
    client: Client, connection: Connection
) -> None:
    [source] = plant_dead(connection)
    first = replay(client, source).get_json()["new_job_id"]
    problem = problem_of(replay(client, source), 409, "ALREADY_REPLAYED")
    assert problem["details"] == {"replay_job_id": first}
    assert created(connection) == 1

    again = replay(client, source, again=True).get_json()["new_job_id"]
    assert set(replays_of(connection, source)) == {first, again}


def test_what_is_no_open_dead_letter_is_not_replayed(
    client: Client, connection: Connection
) -> None:
    [queued] = plant(connection)
    [discarded] = plant_dead(connection)
    connection.execute(
        "update pgflow.dead_letters set resolved_at = now(), resolution = 'discarded'"
    )
    for job_id in (queued, discarded):
        problem = problem_of(replay(client, job_id), 409, "NOT_REPLAYABLE")
        assert "--" not in json.dumps(problem).replace(" -- ", "")
    problem_of(replay(client, UNKNOWN), 404, "NOT_FOUND")
    problem_of(replay(client, "fffffffffff"), 404, "NOT_FOUND")
    problem_of(replay(client, "nonsense"), 400, "BAD_REQUEST")
    assert created(connection) == 0
    assert rows(connection, "select 1 from pgflow.operator_actions") == []
    assert rows(connection, "select 1 from pgflow.replay_plans") == []


def test_an_ambiguous_id_is_a_409_with_candidates(
    client: Client, connection: Connection
) -> None:
    ids = plant_dead(connection, 2)
    for number, job_id in enumerate(ids):
        new = f"{job_id[:7]}{number}{job_id[8:24]}0123456789ab"
        for table, column in (
            ("jobs", "id"),
            ("job_attempts", "job_id"),
            ("dead_letters", "job_id"),
        ):
            connection.execute(
                f"update pgflow.{table} set {column} = %s where {column} = %s",
                (new, job_id),
            )
    problem = problem_of(replay(client, "456789ab"), 409, "AMBIGUOUS_ID")
    assert len(problem["candidates"]) == 2


def test_a_patch_that_spoils_a_payload_is_refused_and_leaves_no_trace(
    client_of: MakesClients, connection: Connection
) -> None:
    [source] = plant_dead(connection, payload='{"a": 1}')
    client = client_of(max_payload_bytes=100)
    problem_of(replay(client, source, patch={"a": "x" * 200}), 413, "PAYLOAD_TOO_LARGE")
    problem_of(
        client.post(
            f"/jobs/{source}/replay",
            data='{"patch": {"a": 1e400}}',
            content_type="application/json",
        ),
        400,
    )
    assert created(connection) == 0
    assert rows(connection, "select 1 from pgflow.operator_actions") == []


def test_a_field_of_a_replay_has_bounds(client: Client, connection: Connection) -> None:
    [source] = plant_dead(connection)
    for field, value, status in (
        ("queue", "a/b", 400),
        ("run_at", "1999-01-01T00:00:00Z", 422),
        ("max_attempts", 0, 400),
        ("priority", 101, 400),
        ("again", "yes", 400),
        ("to_queue", "emails", 400),
        ("note", "x" * 1001, 400),
        ("note", "a\u0000b", 400),
    ):
        problem_of(replay(client, source, **{field: value}), status)
    assert created(connection) == 0


def test_sixteen_at_once_are_one_new_job(
    client: Client, connection: Connection
) -> None:
    sources = plant_dead(connection, 5)
    for source in sources:
        statuses: list[int] = []
        barrier = threading.Barrier(16)

        def send(
            source: str = source,
            barrier: threading.Barrier = barrier,
            statuses: list[int] = statuses,
        ) -> None:
            barrier.wait()
            statuses.append(client.post(f"/jobs/{source}/replay").status_code)

        threads = [threading.Thread(target=send) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200] + [409] * 15
        assert len(replays_of(connection, source)) == 1


def test_a_job_of_a_running_plan_is_replayed_once(
    client: Client, connection: Connection, wait_until: Waits
) -> None:
    sources = plant_dead(connection, 30)
    plan_id = run(client, ids=sources)
    for source in sources:
        assert client.post(f"/jobs/{source}/replay").status_code in (200, 409)
    finish(client, plan_id, wait_until)
    assert created(connection) == 30
    assert all(len(replays_of(connection, source)) == 1 for source in sources)


class LosesReplies(Repository):
    """Commits its outermost transaction, and loses the reply: the first time only."""

    depth = 0
    lost = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.depth += 1
        try:
            with super().transaction():
                yield
        finally:
            self.depth -= 1
        if self.depth == 0 and not self.lost:
            self.lost = True
            self.close()
            raise OutcomeUnknown("the connection was lost")


def test_a_replay_whose_commit_was_not_confirmed_is_not_made_twice(
    database: Database, connection: Connection
) -> None:
    [source] = plant_dead(connection)
    repository = LosesReplies.of(Settings(database.url))
    new, of = ReplayRequest(ids=[source]).replay_one(
        repository, operator=EVE, pause=lambda _: None
    )
    assert repository.lost
    assert (replays_of(connection, source), of) == ([new], source)
    assert rows(connection, "select jobs from pgflow.operator_actions") == [(1,)]
    repository.close()


def test_a_plan_whose_commit_was_not_confirmed_is_made_once(
    database: Database, connection: Connection
) -> None:
    sources = plant_dead(connection, 3)
    repository = LosesReplies.of(Settings(database.url))
    request = ReplayRequest(ids=sources)
    plan = request.start(
        repository, request.find(repository), operator=EVE, pause=lambda _: None
    )
    assert repository.lost
    assert rows(connection, "select id from pgflow.replay_plans") == [(plan.plan_id,)]
    repository.close()


# Many.


def test_a_preview_is_what_is_said_without_dry_run_false(
    client: Client, connection: Connection
) -> None:
    plant_dead(connection, 4)
    plant_dead(connection, 2, queue="billing", error_code="BAD_PAYLOAD")
    document = order(client, filter={"queue": "em*"}, rate=2).get_json()
    [group] = document["types"]
    assert group.pop("oldest_seconds") >= group.pop("newest_seconds")
    assert group == {"queue": "emails", "job_type": "email_send", "jobs": 4}
    assert document["selected"] == 4
    assert document["eta_seconds"] == 1.5
    assert document["checks"] == {
        "without_handler": ["email_send on emails"],
        "payloads_too_large": 0,
        "keys_taken": 0,
        "queues_paused": [],
    }
    assert document["lines"][0] == "Selected 4 of 6 dead letters"
    for table in ("replay_plans", "operator_actions"):
        assert rows(connection, f"select 1 from pgflow.{table}") == []
    assert created(connection) == 0


def test_a_preview_of_ids_says_what_is_wrong_with_some(
    client: Client, connection: Connection
) -> None:
    dead = plant_dead(connection, 2)
    [queued] = plant(connection)
    replay(client, dead[0])
    document = order(client, ids=[*dead, queued, UNKNOWN, dead[1]]).get_json()
    assert [document[name] for name in ("selected", "skipped", "failed")] == [1, 1, 2]
    assert len(document["problems"]) == 3


def test_a_run_answers_at_once_and_goes_on(
    client: Client, connection: Connection, wait_until: Waits
) -> None:
    sources = plant_dead(connection, 1200)
    answer = client.post(
        "/replays",
        json={
            "filter": {"queue": "emails", "since": "1d"},
            "dry_run": False,
            "to_queue": "later",
            "priority": 3,
            "patch": {"again": True},
            "note": "smtp is back",
        },
        headers={"X-Pgflow-Actor": "eve"},
    )
    assert answer.status_code == 202
    started = answer.get_json()
    assert started == {
        "plan_id": started["plan_id"], "selected": 1200, "skipped": 0, "failed": 0,
    }  # fmt: skip
    plan = finish(client, started["plan_id"], wait_until)
    assert (plan["created"], plan["waiting"]) == (1200, 1200)
    assert rows(
        connection,
        "select queue, priority, payload::text, count(*) from pgflow.jobs"
        " where replay_of_job_id is not null group by 1, 2, 3",
    ) == [("later", 3, '{"again": true}', 1200)]
    wait_until(
        lambda: (
            rows(
                connection,
                "select actor, command, action, note, jobs, plan_id"
                " from pgflow.operator_actions where finished_at is not null",
            )
            == [
                (
                    "eve",
                    "POST /replays",
                    "replay",
                    "smtp is back",
                    1200,
                    plan["plan_id"],
                )
            ]
        ),
        "the action ends",
    )
    assert len(sources) == 1200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "BAD_REQUEST"),
        ({"filter": {}}, 400, "BAD_REQUEST"),
        ({"ids": [UNKNOWN], "all": True}, 400, "BAD_REQUEST"),
        ({"ids": [UNKNOWN], "filter": {"queue": "a"}}, 400, "BAD_REQUEST"),
        ({"all": True, "filter": {"queue": "a"}}, 400, "BAD_REQUEST"),
        ({"ids": []}, 400, "BAD_REQUEST"),
        ({"ids": ["x"]}, 400, "BAD_REQUEST"),
        ({"ids": UNKNOWN}, 400, "BAD_REQUEST"),
        ({"filter": []}, 400, "BAD_REQUEST"),
        ({"filter": {"status": "dlq"}}, 400, "BAD_REQUEST"),
        ({"filter": {"queue": "a", "since": "99999d"}}, 422, "OUT_OF_RANGE"),
        ({"all": True, "any_status": True}, 400, "BAD_REQUEST"),
        ({"all": True, "rate": 1, "spread": "1m"}, 400, "BAD_REQUEST"),
        ({"all": True, "rate": 0}, 400, "BAD_REQUEST"),
        ({"all": True, "canary": 2, "run_at": "in 1h"}, 400, "BAD_REQUEST"),
        ({"all": True, "canary": 100, "rate": 0.1}, 400, "BAD_REQUEST"),
        ({"all": True, "max": 0}, 400, "BAD_REQUEST"),
        ({"ids": [UNKNOWN], "oldest_first": True}, 400, "BAD_REQUEST"),
        ({"ids": [UNKNOWN], "dry_run": False}, 404, "NOT_FOUND"),
        ({"all": True, "dry_run": False}, 409, "NOTHING_TO_REPLAY"),
        ({"filter": {"queue": "nope"}, "dry_run": False}, 409, "NOTHING_TO_REPLAY"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    refuser: Client, body: dict[str, Any], status: int, code: str
) -> None:
    problem_of(order(refuser, **body), status, code)


@pytest.mark.parametrize("dry_run", [True, False])
def test_more_than_max_are_refused_and_max_are_not(
    client: Client, connection: Connection, wait_until: Waits, dry_run: bool
) -> None:
    sources = plant_dead(connection, 5)
    for body in ({"all": True}, {"ids": sources}):
        refused = order(client, **body, max=4, dry_run=dry_run)
        problem_of(refused, 409, "TOO_MANY")
        assert created(connection) == 0
    answer = order(client, all=True, max=5, dry_run=dry_run)
    assert answer.status_code == (200 if dry_run else 202)
    if not dry_run:
        finish(client, answer.get_json()["plan_id"], wait_until)


def test_max_is_ten_thousand_unless_told(
    client: Client, connection: Connection
) -> None:
    plant_dead(connection, 10_001)
    problem = problem_of(order(client, all=True), 409, "TOO_MANY")
    assert "10,000" in problem["error"]
    assert order(client, all=True, max=10_001).get_json()["selected"] == 10_001
    assert order(client, all=True, limit=10).get_json()["selected"] == 10


def test_max_is_a_million_at_most(refuser: Client) -> None:
    assert order(refuser, all=True, max=1_000_000).get_json()["selected"] == 0
    problem_of(order(refuser, all=True, max=1_000_001), 400, "BAD_REQUEST")
    problem_of(order(refuser, all=True, limit=1_000_001), 400, "BAD_REQUEST")


def test_a_plan_waits_for_its_canary_and_is_stopped_and_resumed(
    client: Client, connection: Connection, wait_until: Waits
) -> None:
    plant_dead(connection, 20)
    plan_id = run(client, all=True, canary=3)
    wait_until(lambda: created(connection) == 3, "the canary is created")
    stopped = client.post(f"/replays/{plan_id}/stop", json={"note": "wait"})
    assert stopped.status_code == 200
    assert stopped.get_json()["state"] == "stopped"
    assert created(connection) == 3

    resumed = client.post(f"/replays/{plan_id}/resume")
    assert resumed.status_code == 200, resumed.text
    assert resumed.get_json()["state"] == "running"
    connection.execute(
        "with done as (delete from pgflow.pending returning job_id)"
        + successes("select job_id from done")
    )
    plan = finish(client, plan_id, wait_until)
    assert (plan["created"], plan["canary_state"]) == (20, "passed")
    actions = rows(
        connection, "select action, command from pgflow.operator_actions order by id"
    )
    assert actions == [
        ("replay", "POST /replays"),
        ("replay.stop", f"POST /replays/{plan_id}/stop"),
        ("replay.resume", f"POST /replays/{plan_id}/resume"),
    ]
    for verb in ("stop", "resume"):
        problem_of(client.post(f"/replays/{plan_id}/{verb}"), 409, "PLAN_OVER")


def test_a_plan_is_undone(
    client: Client, connection: Connection, wait_until: Waits
) -> None:
    sources = plant_dead(connection, 4)
    plan_id = run(client, all=True)
    finish(client, plan_id, wait_until)
    for _ in range(2):
        undone = client.post(f"/replays/{plan_id}/undo")
        assert undone.status_code == 200, undone.text
        assert undone.get_json()["state"] == "undone"
    assert rows(
        connection, "select count(*) from pgflow.dead_letters where resolved_at is null"
    ) == [(4,)]
    assert {status_of(connection, source) for source in sources} == {"dlq"}


@pytest.mark.parametrize("verb", ["stop", "resume", "undo"])
def test_an_unknown_plan_is_a_404(refuser: Client, verb: str) -> None:
    problem_of(refuser.post(f"/replays/4711/{verb}"), 404, "NOT_FOUND")
    problem_of(refuser.post(f"/replays/0/{verb}"), 400, "BAD_REQUEST")
    problem_of(refuser.post(f"/replays/{2**63}/{verb}"), 400, "BAD_REQUEST")


# The end of a server, and of the database.


def test_a_server_that_ends_leaves_its_plan_to_be_resumed(
    database: Database, connection: Connection, client: Client, wait_until: Waits
) -> None:
    plant_dead(connection, 20)
    service = Service(AdminOptions(url=database.url, access_log=False))
    plan_id = run(Client(application.application(service)), all=True, canary=2)
    wait_until(lambda: created(connection) == 2, "the canary is created")
    service.end()
    problem_of(
        order(Client(application.application(service)), all=True, dry_run=False), 503
    )
    service.close()
    assert not [t for t in threading.enumerate() if t.name.endswith(f"-{plan_id}")]
    assert client.get(f"/replays/{plan_id}").get_json()["state"] == "running"

    connection.execute("update pgflow.replay_plans set canary_state = 'passed'")
    assert client.post(f"/replays/{plan_id}/resume").status_code == 200
    assert finish(client, plan_id, wait_until)["created"] == 20


def test_a_run_goes_on_after_an_outage(
    client: Client,
    connection: Connection,
    wait_until: Waits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant_dead(connection, 5)
    real, calls = replay_plans.run, []

    def away_at_first(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise DatabaseUnavailable("away")
        return real(*arguments, **options)

    monkeypatch.setattr(replay_plans, "run", away_at_first)
    plan_id = run(client, all=True)
    assert finish(client, plan_id, wait_until)["created"] == 5
    assert len(calls) == 2


def test_a_server_runs_so_many_plans_at_once(
    client: Client, connection: Connection, wait_until: Waits
) -> None:
    sources = plant_dead(connection, 2 * replay_runner.MOST + 2)
    plans = [
        run(client, ids=sources[2 * n : 2 * n + 2], canary=1)
        for n in range(replay_runner.MOST)
    ]
    before = rows(connection, "select count(*) from pgflow.replay_plans")
    refused = order(client, ids=sources[-2:], dry_run=False)
    problem_of(refused, 503, "TRY_LATER")
    assert int(refused.headers["Retry-After"]) >= 1
    assert rows(connection, "select count(*) from pgflow.replay_plans") == before

    client.post(f"/replays/{plans[0]}/stop")
    wait_until(
        lambda: order(client, ids=sources[-2:], dry_run=False).status_code == 202,
        "there is room again",
    )
