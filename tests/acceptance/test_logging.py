"""What a real worker logs: a line an event, the job on each, and no secret anywhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from pgflow_cli.telemetry.log_format import FIELDS
from tests.acceptance.conftest import Worker
from tests.conftest import RunsPgflow
from tests.support import executable
from tests.support.jobs import plant, status_of
from tests.support.private_servers import migrated_server
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = PARENT[3:35]
CANARY = "cAnArY9f0e"
APP = """
import logging
import os
import sys
from pathlib import Path

import psycopg
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from pgflow_cli import App

spans = open("spans.jsonl", "a")
provider = TracerProvider()
exporter = ConsoleSpanExporter(
    out=spans, formatter=lambda span: span.to_json(indent=None) + "\\n"
)
# Nothing leaves before the end unless somebody flushes.
provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=600_000))
if Path("with-spans").exists():
    trace.set_tracer_provider(provider)

app = App()
lib = logging.getLogger("lib")


@app.handler("thread")
def thread(job):
    lib.info("inside\\nforged", extra={"event": "charged"})
    job.enqueue("followed")


@app.handler("async")
async def coroutine(job):
    lib.info("inside\\nforged", extra={"event": "charged"})


@app.handler("followed")
def followed(job):
    lib.info("inside\\nforged", extra={"event": "charged"})


@app.handler("fails")
def fails(job):
    raise ValueError("no\\nsuch thing")


@app.handler("violates")
def violates(job):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("create temp table a (secret text primary key)")
        for _ in range(2):
            connection.execute("insert into a values (%s)", [job.payload["secret"]])


@app.handler("gated")
def gated(job):
    import time
    while not Path(job.payload["gate"]).exists():
        time.sleep(0.01)
"""
PROGRAM = 'program=sh -c "cat; exec test -n \\"$TRACESTATE\\""'


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "shop.py"
    path.write_text(APP)
    return path


def lines(log: str) -> list[dict[str, Any]]:
    """Return the lines of a log; each is one object of JSON in ASCII."""
    assert log.isascii()
    return [json.loads(line) for line in log.splitlines()]


def enqueue_each(pgflow: RunsPgflow, *job_types: str) -> dict[str, str]:
    """Enqueue a job of each type, with a canary for a payload; return types by id."""
    trace = {"TRACEPARENT": PARENT, "TRACESTATE": "a=b"}
    payload = json.dumps({"secret": CANARY})
    once = ("--max-attempts", "1")
    done = {t: pgflow("enqueue", t, payload, *once, env=trace) for t in job_types}
    assert all(d.returncode == 0 for d in done.values()), done
    return {d.stdout.strip(): job_type for job_type, d in done.items()}


def test_the_lines_of_every_kind_of_handler_carry_their_job(
    pgflow: RunsPgflow, app: Path
) -> None:
    jobs = enqueue_each(pgflow, "thread", "async", "program", "fails")
    done = pgflow(
        *("work", "--app", str(app), "--exec", PROGRAM, "--drain", "--log-jobs"),
        *("--log-level", "debug", "--worker-id", "w1"),
    )
    assert done.returncode == 0, done.stderr
    found = lines(done.stderr)
    assert found[0]["event"] == "settings"
    assert {line["worker_id"] for line in found} == {"w1"}
    assert {line["event"] for line in found} >= {"reap_expired_locks", "charged"}

    def told(job_type: str) -> list[str]:
        own = [line for line in found if line.get("job_type") == job_type]
        for line in own:
            assert (line["queue"], line["attempt_no"]) == ("default", 1)
            assert jobs.get(line["job_id"], "followed") == job_type
            assert line["trace_id"] == TRACE_ID
        return [line["event"] for line in own]

    assert told("thread") == told("async") == ["charged", "job_succeeded"]
    assert told("followed") == ["charged", "job_succeeded"]
    assert told("program") == ["program_ended", "job_succeeded"]
    assert told("fails") == ["handler_error", "job_dlq"]
    (dead,) = (line for line in found if line["event"] == "job_dlq")
    assert set(FIELDS) <= dead.keys()
    assert dead["reason_code"] == "MAX_ATTEMPTS_EXCEEDED"
    (error,) = (line for line in found if line["event"] == "handler_error")
    assert "ValueError: no\nsuch thing" in error["traceback"]


def test_text_is_one_line_an_event_too(pgflow: RunsPgflow, app: Path) -> None:
    enqueue_each(pgflow, "thread", "fails")
    done = pgflow("work", "--app", str(app), "--drain", "--log-format", "text")
    assert done.returncode == 0, done.stderr
    assert all("  event=" in line for line in done.stderr.splitlines())
    assert "inside\\nforged" in done.stderr


def test_what_spans_are_left_is_exported_at_the_end(
    pgflow: RunsPgflow, app: Path, tmp_path: Path
) -> None:
    (tmp_path / "with-spans").touch()
    jobs = enqueue_each(pgflow, "thread", "fails")
    done = pgflow("work", "--app", str(app), "--drain")
    assert done.returncode == 0, done.stderr
    found = lines((tmp_path / "spans.jsonl").read_text())
    names = sorted(span["name"] for span in found)
    assert names == ["process default"] * 3 + ["send default"]
    assert {span["context"]["trace_id"] for span in found} == {f"0x{TRACE_ID}"}
    known = {
        span["attributes"].get("messaging.message.id"): span["parent_id"]
        for span in found
        if span["name"] == "process default"
    }
    assert {known[job_id] for job_id in jobs} == {"0xb7ad6b7169203331"}
    (send,) = (span for span in found if span["name"] == "send default")
    assert send["context"]["span_id"] in known.values()
    assert CANARY not in json.dumps(found)


def test_a_secret_is_in_no_log_and_no_command_line(
    database: Database,
    connection: Connection,
    app: Path,
    tmp_path: Path,
    wait_until: Wait,
) -> None:
    """The URL's password, tokens and payloads, at the level that tells most."""
    gate = tmp_path / "gate"
    separator = "&" if "?" in database.url else "?"
    url = f"{database.url}{separator}password={CANARY}"
    payload = json.dumps({"secret": CANARY, "gate": str(gate)})
    jobs = [
        plant(connection, job_type=job_type, payload=payload, max_attempts=1)[0]
        for job_type in ("gated", "thread", "async", "program", "fails", "violates")
    ]
    log = tmp_path / "worker.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("pgflow")), "work"),
                *("--app", str(app), "--exec", PROGRAM, "--exec-env", "--drain"),
                *("--log-level", "debug", "--log-jobs", "--processes", "2"),
            ],
            env={
                **os.environ,
                "DATABASE_URL": url,
                "PGFLOW_API_TOKEN": f"api-{CANARY}",
                "PGFLOW_METRICS_TOKEN": f"metrics-{CANARY}",
            },
            cwd=tmp_path,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: status_of(connection, jobs[0]) == "running", "one runs")
        family = psutil.Process(process.pid)
        words = [p.cmdline() for p in (family, *family.children(recursive=True))]
        assert len(words) >= 3
        gate.touch()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert CANARY not in json.dumps(words)
    found = lines(log.read_text())
    assert {"settings", "job_dlq", "program_ended"} <= {line["event"] for line in found}
    assert CANARY not in log.read_text()
    row = connection.execute(
        "select error_message from pgflow.dead_letters where error_message ~ 'unique'"
    ).fetchone()
    assert row is not None
    assert row[0].startswith("UniqueViolation: duplicate key value violates unique")
    assert CANARY not in row[0]
    told = found[0]["settings"]
    assert told["DATABASE_URL"]["value"].endswith("password=***")
    assert told["PGFLOW_API_TOKEN"] == {"value": "***", "origin": "environment"}


USELESS = (
    "postgres://me:{0}/x@127.0.0.1:1/db",
    "postgres://me:12/{0}@127.0.0.1:1/db",
    "postgres://me:a b{0}@127.0.0.1:1/db",
    "postgres://me:{0}@h@127.0.0.1:1/db",
    "postgres://me:{0}#x@127.0.0.1:port/db",
    "postgres://127.0.0.1:1/db?password={0}",
    "host=127.0.0.1 port=1 password='{0} b'",
    "host=127.0.0.1 port=1 password=a\\ {0}",
    "host=127.0.0.1 port=1 password = {0} {0}",
)


@pytest.mark.parametrize("url", USELESS)
def test_a_url_that_cannot_be_used_shows_no_password(tmp_path: Path, url: str) -> None:
    done = executable.fork(
        *("maintain", "--debug", "--log-level", "debug", "--connect-timeout", "1s"),
        environment={**os.environ, "DATABASE_URL": url.format(CANARY)},
        folder=tmp_path,
        input=None,
    )
    assert done.returncode in (69, 78)
    assert CANARY not in done.stderr + done.stdout


def test_a_worker_whose_url_cannot_be_used_shows_no_password(
    start_worker: Start, wait_until: Wait
) -> None:
    urls = [USELESS[number].format(CANARY) for number in (0, 5, 7)]
    for worker in [start_worker("--debug", url=url) for url in urls]:
        wait_until(
            lambda w=worker: w.process.poll() or "event=database_unavailable" in w.log,
            "it cannot connect",
        )
        assert "event=settings" in worker.log
        assert CANARY not in worker.log


def test_a_loop_of_maintain_begins_with_its_settings(
    database: Database, tmp_path: Path
) -> None:
    program = str(Path(sys.executable).with_name("pgflow"))
    with subprocess.Popen(
        [program, "maintain", "--loop", "--interval", "7m"],
        env={**os.environ, "DATABASE_URL": database.url},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        process.terminate()
        rest = process.stderr.read()
    assert process.returncode == 0
    assert first["event"] == "settings"
    interval = first["settings"]["MAINTENANCE_INTERVAL_SECS"]
    assert interval == {"value": "7m", "origin": "--interval"}
    assert "worker_id" not in first
    assert {line["event"] for line in lines(rest)} <= {"maintain"}


def test_an_outage_is_no_more_than_a_line_a_second(
    start_worker: Start, wait_until: Wait
) -> None:
    """All processes of a worker together, while everything they do fails."""
    with migrated_server() as server:
        url = server.url
        worker = start_worker("--processes", "2", url=url)
        with psycopg.connect(url, autocommit=True) as look:
            wait_until(
                lambda: look.execute(
                    "select 1 from pgflow.workers where idle having count(*) = 2"
                ).fetchone(),
                "both processes have nothing to do",
            )
        server.kill()

        def told() -> list[str]:
            failed = r"^(\S+Z) .*  event=(?:\w+_failed|\w+_unavailable) "
            return re.findall(failed, worker.log, re.MULTILINE)

        wait_until(lambda: len(told()) >= 6, "it goes on", seconds=60)
        times = [datetime.fromisoformat(time) for time in told()]
        lasted = (times[-1] - times[0]).total_seconds()
        assert len(times) <= lasted + 3, worker.log
