"""What an operator changes over HTTP: jobs, queues, workers; and who may."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from werkzeug.test import Client

from pgflow_cli.admin import application
from pgflow_cli.admin.routes import Route
from pgflow_cli.admin.security import Role
from tests.admin.conftest import problem_of
from tests.repository.test_audit import lease, unqueue
from tests.support.jobs import audit, plant, plant_dead, status_of

Connection = psycopg.Connection[Any]
UNKNOWN = "01a2081d-307c-7b77-8a50-0f6c9c41e07b"
UNSAFE = [
    route
    for route in application.ROUTES
    if not route.is_safe and route.needs is Role.OPERATE and not route.of_page
]
NOBODY_KNOWS = {
    "job_id": UNKNOWN, "name": "unused", "plan": "4711", "worker_id": "nobody",
}  # fmt: skip


@pytest.fixture(autouse=True)
def every_job_is_in_one_place(connection: Connection) -> Iterator[None]:
    yield
    assert audit(connection) == (0, 0)


def rows(connection: Connection, text: str, *values: Any) -> list[tuple[Any, ...]]:
    return connection.execute(text, values).fetchall()


def actions(connection: Connection) -> list[tuple[Any, ...]]:
    return rows(
        connection,
        "select actor, command, action, queue, note, finished_at is not null"
        " from pgflow.operator_actions order by id",
    )


def add_worker(connection: Connection, name: str) -> str:
    worker_id = str(uuid.uuid4())
    connection.execute(
        "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
        " lease_seconds, name, host) values (%s, %s, 1, 8, 600, %s, 'h')",
        (worker_id, str(uuid.uuid4()), name),
    )
    return worker_id


def changes_nothing(connection: Connection) -> bool:
    tables = ("jobs", "operator_actions", "replay_plans", "queue_policies")
    return all(not rows(connection, f"select 1 from pgflow.{t}") for t in tables)


def path_of(route: Route) -> str:
    path = route.path
    for name, value in NOBODY_KNOWS.items():
        path = path.replace(f"<{name}>", value)
    assert "<" not in path, "the test knows a value for each part of a path"
    return path


@pytest.fixture(params=UNSAFE, ids=lambda route: f"{route.method} {route.path}")
def route(request: pytest.FixtureRequest) -> Route:
    found: Route = request.param
    return found


# Every route that changes something.


def test_each_refuses_a_body_that_it_cannot_mean(refuser: Client, route: Route) -> None:
    for text in ("[]", "{", '{"cAnArY!": 1}', '"x"', "\ufeff{}"):
        answer = refuser.open(
            path_of(route),
            method=route.method,
            data=text.encode(),
            content_type="application/json",
        )
        problem_of(answer, 400, "BAD_REQUEST")
        assert "cAnArY" not in answer.text
    form = refuser.open(path_of(route), method=route.method, data={"note": "x"})
    problem_of(form, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_each_takes_a_note_of_bounded_length(refuser: Client, route: Route) -> None:
    assert "note" in [field.name for field in route.fields]
    answer = refuser.open(
        path_of(route), method=route.method, json={"note": "x" * 1001}
    )
    problem_of(answer, 400, "BAD_REQUEST")


def test_each_says_that_an_old_schema_is_none_of_ours(
    client: Client, connection: Connection, route: Route
) -> None:
    connection.execute(
        "delete from pgflow.migrations"
        " where version = (select max(version) from pgflow.migrations)"
    )
    body: dict[str, Any] = {
        "/jobs": {"job_type": "t", "payload_json": {}},
        "/queues/<name>/policy": {"max_in_flight": 1},
        "/replays": {"all": True},
    }
    answer = client.open(
        path_of(route),
        method=route.method,
        # A policy that is removed takes none.
        json={} if route.method == "DELETE" else body.get(route.path, {}),
    )
    if route.path == "/jobs":
        # The gate is the same for producers of every version.
        assert answer.status_code == 200
    else:
        problem_of(answer, 503, "NOT_CONFIGURED")


# Jobs.


def test_a_job_that_waits_is_canceled(client: Client, connection: Connection) -> None:
    queued, scheduled = (
        plant(connection)[0],
        plant(connection, due_in="1 hour")[0],
    )
    for job_id in (queued, scheduled[-8:]):
        answer = client.post(
            f"/jobs/{job_id}/cancel",
            json={"note": "sent by hand"},
            headers={"X-Pgflow-Actor": "eve"},
        )
        assert answer.status_code == 200, answer.text
        full = queued if job_id == queued else scheduled
        assert answer.get_json() == {"job_id": full, "status": "canceled"}
        assert status_of(connection, full) == "canceled"
        command = f"POST /jobs/{job_id}/cancel"
        assert actions(connection)[-1] == (
            "eve", command, "jobs.cancel", None, "sent by hand", True,
        )  # fmt: skip


def test_a_running_job_is_canceled_only_with_kill(
    client: Client, connection: Connection
) -> None:
    [job_id] = plant(connection)
    lease(connection, job_id)
    unqueue(connection, job_id)
    problem = problem_of(client.post(f"/jobs/{job_id}/cancel"), 409, "WRONG_STATE")
    assert problem["details"] == {"job_id": job_id, "status": "running"}
    assert problem["hints"] == ['Try: "kill": true']
    assert actions(connection) == []
    killed = client.post(f"/jobs/{job_id}/cancel", json={"kill": True})
    assert killed.get_json() == {"job_id": job_id, "status": "canceled"}
    assert status_of(connection, job_id) == "canceled"


def test_what_has_ended_is_not_canceled(client: Client, connection: Connection) -> None:
    [dead] = plant_dead(connection)
    for kill in (False, True):
        answer = client.post(f"/jobs/{dead}/cancel", json={"kill": kill})
        problem = problem_of(answer, 409, "WRONG_STATE")
        assert problem["details"]["status"] == "dlq"
    problem_of(client.post(f"/jobs/{UNKNOWN}/cancel"), 404, "NOT_FOUND")
    problem_of(client.post("/jobs/nonsense/cancel"), 400, "BAD_REQUEST")
    problem_of(client.post(f"/jobs/{dead}/cancel", json={"kill": 1}), 400)
    assert actions(connection) == []


def test_who_cancels_twice_learns_that_it_is_done(
    client: Client, connection: Connection
) -> None:
    [job_id] = plant(connection)
    client.post(f"/jobs/{job_id}/cancel")
    problem = problem_of(client.post(f"/jobs/{job_id}/cancel"), 409, "WRONG_STATE")
    assert problem["details"]["status"] == "canceled"
    assert problem["error"] == (
        f"job …{job_id[-8:]} has been canceled already; it was left alone"
    )


# Queues.


def test_a_queue_is_paused_and_resumed(client: Client, connection: Connection) -> None:
    plant(connection, queue="emails")
    paused = client.post(
        "/queues/emails/pause",
        json={"for": "30m", "note": "smtp is down"},
        headers={"X-Pgflow-Actor": "eve"},
    )
    assert paused.status_code == 200, paused.text
    document = paused.get_json()
    assert document["queue"] == "emails"
    assert document["paused"]["by"] == "eve"
    assert document["paused"]["note"] == "smtp is down"
    assert rows(
        connection,
        "select paused_until > now() + interval '29 minutes',"
        " paused_until < now() + interval '31 minutes' from pgflow.queue_policies",
    ) == [(True, True)]
    for _ in range(2):
        resumed = client.post("/queues/emails/resume")
        assert resumed.get_json()["paused"] is None
    assert [row[2] for row in actions(connection)] == [
        "queues.pause", "queues.resume", "queues.resume",
    ]  # fmt: skip


def test_a_pause_without_an_end_lasts(client: Client, connection: Connection) -> None:
    plant(connection, queue="emails")
    for _ in range(2):
        document = client.post("/queues/emails/pause").get_json()
        assert document["paused"] is not None
    assert rows(
        connection, "select paused_until = 'infinity' from pgflow.queue_policies"
    ) == [(True,)]


def test_a_queue_that_nobody_knows_is_neither_paused_nor_resumed(
    refuser: Client,
) -> None:
    for path in ("/queues/emials/pause", "/queues/emials/resume"):
        problem = problem_of(refuser.post(path), 404, "NOT_FOUND")
        assert problem["error"] == 'there is no queue "emials"'
    problem_of(refuser.delete("/queues/emials/policy"), 404, "NOT_FOUND")


@pytest.mark.parametrize("length", ["0s", 0.5, "soon", True, "400d", -1])
def test_a_pause_has_bounds(refuser: Client, length: Any) -> None:
    problem_of(refuser.post("/queues/emails/pause", json={"for": length}), 400)


def test_a_policy_is_what_was_put_and_no_more(
    client: Client, connection: Connection
) -> None:
    none = {
        "queue": "emails",
        "max_in_flight": None,
        "max_attempts_per_minute": None,
        "throttle_delay_ms": None,
        "max_payload_bytes": None,
        "max_enqueue_per_minute": None,
    }
    first = {"max_in_flight": 10, "throttle_delay_ms": 2500}
    for _ in range(2):
        answer = client.put("/queues/emails/policy", json={**first, "note": "slow"})
        assert answer.status_code == 200, answer.text
        assert answer.get_json() == {**none, **first}
    second = {"max_attempts_per_minute": 0, "max_in_flight": None}
    answer = client.put("/queues/emails/policy", json=second)
    assert answer.get_json() == {**none, "max_attempts_per_minute": 0}
    for _ in range(2):
        assert client.delete("/queues/emails/policy").get_json() == none
    assert [row[2:5] for row in actions(connection)] == [
        ("queues.set-policy", "emails", "slow"),
        ("queues.set-policy", "emails", "slow"),
        ("queues.set-policy", "emails", None),
        ("queues.clear-policy", "emails", None),
        ("queues.clear-policy", "emails", None),
    ]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("max_in_flight", 0, 1_000_000),
        ("max_attempts_per_minute", 0, 100_000_000),
        ("throttle_delay_ms", 0, 3_600_000),
        ("max_payload_bytes", 2, 16_777_216),
        ("max_enqueue_per_minute", 0, 2_147_483_647),
    ],
)
def test_each_limit_has_bounds(
    client: Client, connection: Connection, name: str, least: int, most: int
) -> None:
    for value in (least - 1, most + 1, 2**63, True, 1.0, "1"):
        answer = client.put("/queues/q/policy", json={name: value})
        problem_of(answer, 400, "BAD_REQUEST")
    assert changes_nothing(connection)
    for value in (least, most):
        answer = client.put("/queues/q/policy", json={name: value})
        assert answer.get_json()[name] == value


def test_a_policy_of_nothing_is_refused(refuser: Client) -> None:
    problem_of(refuser.put("/queues/q/policy"), 400)
    problem_of(refuser.put("/queues/q/policy", json={"max_in_flight": None}), 400)
    problem_of(refuser.put("/queues/q/policy", json={"paused_until": None}), 400)


@pytest.mark.parametrize(
    "name", ["x" * 64, "a:b", "%20", "..", "a%0ab", "%00", "a%2fb", "%c3%a4", "-a"]
)
def test_no_other_name_is_a_queue(refuser: Client, name: str) -> None:
    for method, verb in (("POST", "pause"), ("POST", "resume"), ("PUT", "policy")):
        answer = refuser.open(
            f"/queues/{name}/{verb}", method=method, json={"note": "x"}
        )
        assert answer.status_code in (400, 404), answer.text


# Workers.


def test_a_worker_leases_no_more(client: Client, connection: Connection) -> None:
    mine = {add_worker(connection, "worker-1"), add_worker(connection, "worker-1")}
    other = add_worker(connection, "worker-2")
    for _ in range(2):
        answer = client.post("/workers/worker-1/quiet", json={"note": "deploying"})
        assert answer.status_code == 200, answer.text
        items = answer.get_json()["items"]
        assert {item["worker_id"] for item in items} == mine
        assert {item["state"] for item in items} == {"quiet"}
    quiet = "select worker_id::text from pgflow.workers where quiet"
    assert {row[0] for row in rows(connection, quiet)} == mine
    assert actions(connection)[0][1:5] == (
        "POST /workers/worker-1/quiet", "workers.quiet", None, "deploying",
    )  # fmt: skip

    assert client.post(f"/workers/{other[-8:]}/quiet").status_code == 200
    problem_of(client.post("/workers/nobody/quiet"), 404, "NOT_FOUND")

    answer = client.post("/workers/worker-1/resume", json={"note": "deployed"})
    assert {item["state"] for item in answer.get_json()["items"]} == {"busy"}
    assert {row[0] for row in rows(connection, quiet)} == {other}
    assert "workers.resume" in {row[2] for row in actions(connection)}
    problem_of(client.post("/workers/nobody/resume"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("given", "named"), [("w2", {"w2.0", "w2.1"}), ("w2.1", {"w2.1"})]
)
def test_a_workers_name_means_all_of_its_processes(
    client: Client, connection: Connection, given: str, named: set[str]
) -> None:
    for name in ("w2.0", "w2.1", "w20.0", "w2.new"):
        add_worker(connection, name)
    quiet = "select name from pgflow.workers where quiet"
    for order, left in (("quiet", named), ("resume", set())):
        answer = client.post(f"/workers/{given}/{order}")
        assert answer.status_code == 200, answer.text
        assert {item["name"] for item in answer.get_json()["items"]} == named
        assert {row[0] for row in rows(connection, quiet)} == left


def test_the_end_of_two_ids_is_ambiguous(
    client: Client, connection: Connection
) -> None:
    for name in ("a", "b"):
        worker_id = add_worker(connection, name)
        connection.execute(
            "update pgflow.workers set worker_id = %s where worker_id = %s",
            (f"{worker_id[:24]}0123456789ab", worker_id),
        )
    problem = problem_of(client.post("/workers/456789ab/quiet"), 409, "AMBIGUOUS_ID")
    assert len(problem["candidates"]) == 2
