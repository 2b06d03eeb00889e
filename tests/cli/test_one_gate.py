"""What a job may be is one rule and one sentence: SQL, Python, HTTP and --batch."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import psycopg
import pytest
from werkzeug.test import Client

import pgflow_cli
from pgflow_cli.errors import UsageError
from tests.admin.conftest import client, client_of
from tests.cli.test_enqueue import Connection, Runs, run

__all__ = ["client", "client_of", "run"]

TIMEOUT = "job_timeout must be seconds, or text such as 500ms, 30s, 5m, 2h, 7d or 1h30m"
BOUNDS = "job_timeout must be from 1ms to 30d"
RUN_AT = "run_at must be a time with a zone, from 2000 to 9998"
JOB_TYPE = "job_type must be 1 to 128 letters, digits, or any of _ . : -"
QUEUE = "queue must be 1 to 63 letters, digits, or any of _ . -"
FIELDS: list[tuple[dict[str, Any], str | None]] = [
    ({"job_timeout": 5}, None),
    ({"job_timeout": 0.25}, None),
    ({"job_timeout": "1h30m"}, None),
    ({"job_timeout": "2592000000ms"}, None),
    ({"job_timeout": "1.5h"}, TIMEOUT),
    ({"job_timeout": "5 m"}, TIMEOUT),
    ({"job_timeout": True}, TIMEOUT),
    ({"job_timeout": []}, TIMEOUT),
    ({"job_timeout": 0}, BOUNDS),
    ({"job_timeout": -5}, BOUNDS),
    ({"job_timeout": 1e300}, BOUNDS),
    ({"job_timeout": "31d"}, BOUNDS),
    ({"run_at": "2030-01-01T00:00:00Z"}, None),
    ({"run_at": "2030-01-01 00:00+02:00"}, None),
    ({"run_at": "2030-01-01T00:00:00+15:59"}, None),
    ({"run_at": "2030-01-01T00:00:00+16:00"}, RUN_AT),
    ({"run_at": "2030-01-01T00:00:00"}, RUN_AT),
    ({"run_at": "2030-01-01"}, RUN_AT),
    ({"run_at": "2030-02-30T00:00:00Z"}, RUN_AT),
    ({"run_at": "1999-12-31T23:59:59Z"}, RUN_AT),
    ({"run_at": "9999-01-01T00:00:00Z"}, RUN_AT),
    ({"run_at": "now"}, RUN_AT),
    ({"run_at": "@1893456000"}, RUN_AT),
    ({"run_at": "15m"}, RUN_AT),
    ({"run_at": 5}, RUN_AT),
    ({"job_type": 5}, JOB_TYPE),
    ({"job_type": ["a"]}, JOB_TYPE),
    ({"job_type": ""}, "job_type is missing"),
    ({"queue": 5}, QUEUE),
    ({"queue": {}}, QUEUE),
    ({"priority": "1"}, "priority must be a whole number from -100 to 100"),
    ({"max_attempts": 0}, "max_attempts must be a whole number from 1 to 10000"),
    ({"meta": []}, "meta must be a JSON object"),
    ({"job_id": "x"}, "job_id must be a UUIDv7"),
]


@pytest.mark.parametrize(("fields", "sentence"), FIELDS, ids=str)
def test_every_surface_takes_the_same_and_says_the_same(
    run: Runs,
    client: Client,
    connection: Connection,
    fields: dict[str, Any],
    sentence: str | None,
) -> None:
    job = {"job_type": "a", "payload_json": {}, **fields}
    text = json.dumps(job)
    python = {**job, "payload": job.pop("payload_json")}
    del python["payload_json"]
    told: list[str | None] = []
    try:
        connection.execute("select pgflow.enqueue_many(%s)", (f"[{text}]",))
        told.append(None)
    except psycopg.Error as error:
        told.append(str(error.diag.message_primary).removeprefix("job 1: "))
    try:
        pgflow_cli.enqueue_many(connection, [python])
        told.append(None)
    except UsageError as error:
        told.append(error.message.removeprefix("job 1: "))
    answer = client.post("/jobs", data=text, content_type="application/json")
    told.append(None if answer.status_code == 200 else answer.get_json()["error"])
    done = run("--batch", "-", stdin=text)
    said = " ".join(done.stderr.split()).removeprefix("Error: line 1: ")
    told.append(None if done.exit_code == 0 else said)
    rows = connection.execute(
        "select distinct timeout_ms, run_at > now() + interval '1 year'"
        " from pgflow.jobs"
    ).fetchall()
    if sentence is None:
        assert told == [None] * 4
        assert len(rows) == 1, "all four are one job"
    else:
        assert [(each or "")[: len(sentence)] for each in told] == [sentence] * 4
        assert rows == []


@pytest.mark.parametrize(
    ("delay", "taken"),
    [
        ("0", True),
        ("100 years", True),
        ("36525 days", True),
        ("36525 days 1 second", False),
        ("100 years 2 days", False),
        ("101 years", False),
        ("170000000 years", False),
        ("-1 second", False),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_a_delay_is_at_most_a_hundred_years(
    connection: Connection, delay: str, taken: bool, many: bool
) -> None:
    call = (
        "enqueue('a'"
        if not many
        else """enqueue_many('[{"job_type": "a",
 "payload_json": {}}]'"""
    )
    statement = f"select pgflow.{call}, delay => '{delay}')"
    if taken:
        connection.execute(statement)
        return
    with pytest.raises(
        psycopg.Error, match="delay must be from 0 to 100 years"
    ) as told:
        connection.execute(statement)
    assert told.value.sqlstate == "PF422"


def test_what_only_python_has_is_refused_with_the_same_sentences(
    connection: Connection,
) -> None:
    """A datetime without a zone, and what a handler calls a length."""
    with pytest.raises(UsageError, match=re.escape(RUN_AT)):
        pgflow_cli.enqueue(connection, "a", run_at=datetime(2030, 1, 1))
    app = pgflow_cli.App()
    refused: list[str] = []

    @app.handler("parent")
    def parent(job: pgflow_cli.Job) -> None:
        for timeout in ("5 m", True, []):
            with pytest.raises(UsageError) as caught:
                job.enqueue("child", job_timeout=timeout)  # type: ignore[arg-type]
            refused.append(str(caught.value))

    assert app.run("parent").status == "succeeded"
    assert refused == [TIMEOUT] * 3
