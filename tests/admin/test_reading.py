"""What the routes answer that only read: their fields, their states, their errors."""

from __future__ import annotations

from typing import Any

import pytest

from pgflow_cli.errors import OutcomeUnknown
from tests.admin.conftest import MakesClients, got, problem_of
from tests.jobs import plant, plant_dead

JOB = [
    "id", "queue", "job_type", "status", "run_at", "priority", "max_attempts",
    "last_error_code", "last_error_message", "dlq_reason_code", "created_at",
    "updated_at", "short_id", "attempt_no", "dlq_at", "fingerprint", "resolved_at",
    "replay_of_job_id", "worker_id", "lease_expires_at",
]  # fmt: skip
ATTEMPT = [
    "id", "attempt_no", "status", "started_at", "finished_at", "error_code",
    "error_message", "latency_ms", "worker_id", "suggested_action", "code_version",
]  # fmt: skip
STORY = {
    "Attempt": ["kind", "at", *ATTEMPT],
    "PolicyDecision": ["kind", "at", "id", "decision", "reason_code", "details_json"],
    "OperatorAction": ["kind", "at", "id", "actor", "action", "note"],
    "Replay": ["kind", "at", "new_job_id"],
}
DRAIN = ["verdict", "seconds", "workers_needed", "window_seconds", "samples"]
UNKNOWN = "00000000-0000-7000-8000-000000000000"
STATES = ("queued", "scheduled", "running", "succeeded", "dlq", "canceled")


def test_no_job_is_an_empty_page(client):
    assert got(client, "/jobs") == {
        "items": [],
        "next_cursor_created_at": None,
        "next_cursor_id": None,
    }


@pytest.mark.parametrize("path", ["/jobs", "/dlq"])
def test_a_list_has_the_fields_of_the_contract_in_their_order(client, planted, path):
    page = got(client, path)
    assert list(page) == ["items", "next_cursor_created_at", "next_cursor_id"]
    assert page["items"]
    assert all(list(item) == JOB for item in page["items"])


@pytest.mark.parametrize("state", STATES)
def test_a_list_of_a_state_has_its_jobs_newest_first(
    client, connection, planted, state
):
    listed = got(client, f"/jobs?status={state}")["items"]
    assert planted.jobs[{"dlq": "dead"}.get(state, state)] in [j["id"] for j in listed]
    assert {job["status"] for job in listed} == {state}
    assert [j["id"] for j in listed] == sorted((j["id"] for j in listed), reverse=True)
    known = connection.execute(
        "select id::text from pgflow.job_overview"
        " where status = %s and resolved_at is null",
        (state,),
    ).fetchall()
    assert {j["id"] for j in listed} == {row[0] for row in known}


def test_no_list_shows_a_payload_and_one_job_shows_all_of_it(client, planted):
    for path in ("/jobs", "/dlq?resolved=any", "/policy/decisions", "/audit"):
        assert "example.com" not in client.get(path).text
    for route in ("explain", "timeline"):
        assert (
            "example.com"
            not in client.get(f"/jobs/{planted.jobs['dead']}/{route}").text
        )
    whole = got(client, f"/jobs/{planted.jobs['dead']}")
    assert list(whole) == [*JOB, "payload_json", "meta"]
    assert whole["payload_json"]["to"] == "ann@example.com"
    assert whole["meta"] == {}


def test_a_payload_keeps_every_digit(client, connection):
    payload = '{"n": 12345678901234567890.10, "e": 1e400}'
    [job_id] = plant_dead(connection, payload=payload)
    text = client.get(f"/jobs/{job_id}").text
    assert '"n": 12345678901234567890.10' in text
    assert f'"e": 1{"0" * 400}' in text


def test_an_explanation_has_the_fields_of_the_contract(client, planted):
    found = got(client, f"/jobs/{planted.jobs['dead']}/explain")
    assert list(found) == [
        "job_id", "status", "queue", "job_type", "summary", "attempts",
        "failed_attempts", "next_run_at", "last_error", "dlq_reason_code",
        "suggested_action", "as_of", "verdict", "gates", "fingerprint", "similar",
        "replays",
    ]  # fmt: skip
    assert (found["verdict"], found["attempts"], found["gates"]) == ("DLQ", 1, [])
    assert list(found["last_error"]) == ["error_code", "error_message"]
    assert found["similar"]["recent"] == 3, "resolved ones, too"
    waiting = got(client, f"/jobs/{planted.jobs['queued']}/explain")
    assert {tuple(gate) for gate in waiting["gates"]} == {
        ("gate", "result", "evidence")
    }
    replayed = got(client, f"/jobs/{planted.jobs['replayed']}/explain")
    assert replayed["replays"]["by"] == planted.jobs["replay"]
    assert list(replayed["replays"]["chain"][0]) == [
        "role", "step", "job_id", "status", "created_at",
    ]  # fmt: skip


def test_a_timeline_has_the_fields_of_the_contract_and_is_told_by_time(client, planted):
    found = got(client, f"/jobs/{planted.jobs['replayed']}/timeline")
    assert list(found) == [
        "job_id", "status", "queue", "job_type", "run_at", "next_run_at",
        "last_worker_id", "last_error", "attempts", "story",
    ]  # fmt: skip
    assert [list(attempt) for attempt in found["attempts"]] == [ATTEMPT]
    kinds = set()
    for name in planted.jobs:
        story = got(client, f"/jobs/{planted.jobs[name]}/timeline")["story"]
        assert [e["at"] for e in story] == sorted(e["at"] for e in story)
        for entry in story:
            assert list(entry) == STORY[entry["kind"]]
            kinds.add(entry["kind"])
    assert kinds >= {"Attempt", "OperatorAction", "Replay"}


def test_a_throttle_is_in_the_story_of_a_job_that_waited(client, connection, planted):
    connection.execute(
        "update pgflow.jobs set created_at = created_at - interval '1 hour',"
        " run_at = run_at - interval '1 hour' where id = %s",
        (planted.jobs["queued"],),
    )
    connection.execute(
        "update pgflow.pending set run_at = run_at - interval '1 hour'"
        " where job_id = %s",
        (planted.jobs["queued"],),
    )
    story = got(client, f"/jobs/{planted.jobs['queued']}/timeline")["story"]
    decisions = [entry for entry in story if entry["kind"] == "PolicyDecision"]
    assert [list(entry) for entry in decisions[:1]] == [STORY["PolicyDecision"]]
    listed = {item["id"] for item in got(client, "/policy/decisions")["items"]}
    assert {entry["id"] for entry in decisions} <= listed


def test_an_action_has_one_id_in_the_story_and_in_the_audit(client, planted):
    story = got(client, f"/jobs/{planted.jobs['replayed']}/timeline")["story"]
    actions = {e["id"] for e in story if e["kind"] == "OperatorAction"}
    assert actions
    assert actions <= {item["id"] for item in got(client, "/audit")["items"]}


def test_the_summary_of_a_replayed_dead_letter_is_made_of_sentences(client, planted):
    summary = got(client, f"/jobs/{planted.jobs['replayed']}/explain")["summary"]
    assert "connection refused. Resolved: replayed by job" in summary


def test_dead_letters_are_open_resolved_or_any(client, planted):
    def ids(query: str) -> set[str]:
        return {item["id"] for item in got(client, f"/dlq{query}")["items"]}

    jobs = planted.jobs
    assert ids("") == ids("?resolved=false")
    assert ids("?resolved=true") == {jobs["discarded"], jobs["replayed"]}
    assert ids("?resolved=any") == ids("") | ids("?resolved=true")
    assert jobs["dead"] in ids("")
    problem_of(client.get("/dlq?resolved=maybe"), 400)


def test_a_dead_letter_whose_job_is_gone_is_listed_still(client, connection):
    [job_id] = plant_dead(connection)
    connection.execute("delete from pgflow.jobs where id = %s", (job_id,))
    [item] = got(client, "/dlq")["items"]
    assert (item["id"], item["created_at"], item["run_at"]) == (job_id, None, None)


def test_groups_say_what_dead_letters_have_in_common(client, planted):
    groups = got(client, "/dlq/groups?by=fingerprint")["items"]
    assert list(groups[0]) == [
        "key", "count", "share", "first_at", "last_at", "job_type", "error_code",
        "sample_job_id", "message",
    ]  # fmt: skip
    assert [(g["key"], g["count"]) for g in groups] == [("f1-3ac91b20", 2), (None, 1)]
    assert got(client, "/dlq/groups?queue=none")["items"] == []


def test_refusals_are_a_bare_array_whose_link_leads_on(client, planted):
    seen: list[str] = []
    path = "/ingest/decisions?limit=3&queue=default"
    for _ in range(10):
        response = client.get(path)
        rows = response.get_json()
        assert isinstance(rows, list)
        seen += [row["id"] for row in rows]
        assert list(rows[0]) == [
            "id", "queue", "decision", "reason_code", "details_json", "created_at",
            "count",
        ]  # fmt: skip
        if "Link" not in response.headers:
            break
        query, _, rel = response.headers["Link"].partition(">")
        assert rel == '; rel="next"'
        path = f"/ingest/decisions{query[1:]}"
        last = rows[-1]
        assert last["created_at"].replace(":", "%3A") in path
        assert f"cursor_id={last['id']}" in path
    assert len(seen) == len(set(seen)) == 8
    codes = {row["reason_code"] for row in got(client, "/ingest/decisions")}
    assert codes == {"PAYLOAD_TOO_LARGE", "ENQUEUE_RATE_EXCEEDED"}
    few = got(client, "/ingest/decisions?reason_code=PAYLOAD_TOO_LARGE")
    assert len(few) == 5


def test_metrics_have_the_fields_of_the_contract(client, planted):
    found = got(client, "/metrics")
    assert list(found) == ["now_utc", "queues", "next_after"]
    for queue in found["queues"]:
        assert list(queue) == [
            "at", "queue", "runnable_queue_depth", "jobs_per_sec", "success_rate",
            "retry_rate", "mean_latency_ms", "oldest_runnable_age_seconds",
            "scheduled", "running", "dlq", "drain", "counts_are_exact",
        ]  # fmt: skip
        assert list(queue["drain"]) == DRAIN
    [default] = got(client, "/metrics?queue=def*")["queues"]
    assert default["running"] == 1


def test_queues_have_the_fields_of_the_contract(client, planted):
    items = {item["queue"]: item for item in got(client, "/queues")["items"]}
    assert items.keys() == {"billing", "default", "emails"}
    for item in items.values():
        assert list(item)[:12] == [
            "queue", "runnable", "scheduled", "running", "dlq", "oldest_age_seconds",
            "in_per_sec", "out_per_sec", "drain", "workers", "policy", "paused",
        ]  # fmt: skip
        assert list(item["drain"]) == DRAIN
    assert items["default"]["paused"] is None
    assert items["default"]["policy"]["max_in_flight"] == 1
    assert items["emails"]["paused"] == {
        "by": "ann@host",
        "note": "smtp is down",
        "until": None,
    }
    assert items["billing"]["paused"]["until"] is not None
    window = got(client, "/queues/default?window=10m")["drain"]["window_seconds"]
    assert (
        window == got(client, "/queues/default?window=600")["drain"]["window_seconds"]
    )
    assert window == 600
    problem_of(client.get("/queues/none"), 404, "NOT_FOUND")
    problem_of(client.get("/queues?window=3h"), 400)


def test_workers_are_listed_in_each_of_their_states(client, planted):
    items = got(client, "/workers")["items"]
    assert {w["name"]: w["state"] for w in items} == {
        name: name for name in ("busy", "idle", "quiet", "silent")
    }
    serving = {w["name"] for w in got(client, "/workers?queue=emails")["items"]}
    assert serving == {"idle", "quiet"}
    heard = {w["name"] for w in got(client, "/workers?since=5m")["items"]}
    assert heard == {"busy", "idle", "quiet"}


def test_a_plan_tells_how_far_it_is_and_a_list_counts_few_jobs(client, planted):
    fields = [
        "plan_id", "state", "selected", "created", "waiting", "succeeded", "failed",
        "canary", "eta_seconds",
    ]  # fmt: skip
    for state, number in planted.plans.items():
        plan = got(client, f"/replays/{number}")
        assert list(plan)[:9] == fields
        assert plan["state"] == state
    listed = {plan["plan_id"]: plan for plan in got(client, "/replays")["items"]}
    assert listed.keys() == {*planted.plans.values()}
    assert listed[planted.plans["finished"]]["waiting"] == 1
    problem_of(client.get("/replays/999"), 404, "NOT_FOUND")
    problem_of(client.get("/replays/x"), 400)
    problem_of(client.get("/replays/9223372036854775808"), 400)


def test_a_list_of_plans_counts_no_further_than_it_may(repository, planted):
    plans = repository.replays.list_replay_progress(limit=10, counted=0)
    created = {plan.plan_id: (plan.created, plan.waiting) for plan in plans}
    assert created[planted.plans["finished"]] == (1, None)
    assert created[planted.plans["running"]] == (0, 0)


def test_the_audit_has_what_operators_changed(client, planted):
    items = got(client, "/audit")["items"]
    assert {"queues.pause", "replay", "replay.undo"} <= {i["action"] for i in items}
    assert {i["state"] for i in items} == {"done", "unfinished"}
    pauses = got(client, "/audit?action=queues.pause&actor=ann@host&since=1h")["items"]
    assert {i["action"] for i in pauses} == {"queues.pause"}
    assert got(client, "/audit?actor=bob")["items"] == []


def test_a_doctor_looks_at_the_database_and_not_into_our_files(client, planted):
    found = got(client, "/doctor")["items"]
    assert all(list(item) == ["check", "result", "detail", "fix"] for item in found)
    checks = {item["check"] for item in found}
    assert {"server.reachable", "jobs.audit", "vacuum.xmin"} <= checks
    assert "upkeep.exposure" not in checks
    assert "upkeep.exposure" not in client.get("/ui/doctor").text


def test_one_examination_at_a_time(client):
    lock = client.application._service.examining
    with lock:
        response = client.get("/doctor")
        assert client.get("/ui/doctor").status_code == 503
    problem_of(response, 503, "TRY_LATER")
    assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("route", ["", "/explain", "/timeline"])
def test_a_job_is_found_by_the_end_of_its_id_if_it_is_the_only_one(
    client, connection, route
):
    [job_id] = plant(connection)
    assert job_id in client.get(f"/jobs/{job_id[-8:]}{route}").text
    assert client.get(f"/jobs/{job_id.upper()}{route}").status_code == 200
    problem_of(client.get(f"/jobs/{UNKNOWN}{route}"), 404, "NOT_FOUND")
    problem_of(client.get(f"/jobs/ffffff{route}"), 404, "NOT_FOUND")
    for none in ("12345", "x" * 8, "-" * 8, f"{job_id}0", "%00" * 6, "a'--------"):
        problem_of(client.get(f"/jobs/{none}{route}"), 400)
    for twin in ("018f0000-0000-7000-8000-00000abcdef1",
                 "018f0000-0000-7000-8001-00000abcdef1"):  # fmt: skip
        connection.execute("select pgflow.enqueue('noop', '{}', job_id => %s)", (twin,))
    found = problem_of(client.get(f"/jobs/abcdef1{route}"), 409, "AMBIGUOUS_ID")
    assert len(found["candidates"]) == 2


def test_a_database_that_is_away_is_told_without_a_detail(client_of: MakesClients):
    client = client_of(url="postgresql://ann:secret@127.0.0.1:1/none")
    for path in ("/jobs", "/dlq", "/metrics", "/queues", "/workers", "/audit"):
        response = client.get(path)
        problem_of(response, 503, "DATABASE_UNAVAILABLE")
        assert int(response.headers["Retry-After"]) >= 1
        assert "secret" not in response.text
        assert "127.0.0.1" not in response.text
    assert client.get("/health").status_code == 200


def test_a_lost_answer_to_a_question_leaves_nothing_in_doubt(client, monkeypatch):
    """Nothing was to be done, so nobody has to find out whether it was."""

    def lost(*_: Any, **__: Any) -> None:
        raise OutcomeUnknown("the connection was lost")

    monkeypatch.setattr("pgflow_cli.inspection.queues.take_page", lost)
    problem_of(client.get("/queues"), 503, "DATABASE_UNAVAILABLE")
